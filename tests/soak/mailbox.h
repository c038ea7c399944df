/* Saved states on their way from one thread to another. */
#ifndef TESTS_SOAK_MAILBOX_H
#define TESTS_SOAK_MAILBOX_H

#include <stddef.h>

typedef struct parcel {
    void *data; /* [bytes], of carry_states_save */
    size_t bytes;
    float *values; /* what the states in it hold */
} parcel;

typedef struct mailbox mailbox;

mailbox *mailbox_open(void);
void mailbox_close(mailbox *box);

parcel *parcel_open(size_t bytes, size_t floats);
void parcel_close(parcel *p);

void mailbox_put(mailbox *box, parcel *p); /* at most a few are kept: the oldest goes */
parcel *mailbox_take(mailbox *box);        /* NULL: empty */

#endif
