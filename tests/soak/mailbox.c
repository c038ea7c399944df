#include "mailbox.h"

#include <pthread.h>
#include <stdlib.h>

enum { ROOM = 8 };

struct mailbox {
    pthread_mutex_t lock;
    parcel *parcels[ROOM];
    size_t put, taken;
};

mailbox *mailbox_open(void)
{
    mailbox *box = calloc(1, sizeof *box);
    if (!box || pthread_mutex_init(&box->lock, NULL)) abort();
    return box;
}

parcel *parcel_open(size_t bytes, size_t floats)
{
    parcel *p = calloc(1, sizeof *p);
    if (!p) abort();
    p->data = malloc(bytes);
    p->bytes = bytes;
    p->values = malloc(floats * sizeof *p->values);
    if (!p->data || !p->values) abort();
    return p;
}

void parcel_close(parcel *p)
{
    if (!p) return;
    free(p->data);
    free(p->values);
    free(p);
}

void mailbox_put(mailbox *box, parcel *p)
{
    parcel *old = NULL;
    pthread_mutex_lock(&box->lock);
    if (box->put - box->taken == ROOM) old = box->parcels[box->taken++ % ROOM];
    box->parcels[box->put++ % ROOM] = p;
    pthread_mutex_unlock(&box->lock);
    parcel_close(old);
}

parcel *mailbox_take(mailbox *box)
{
    parcel *p = NULL;
    pthread_mutex_lock(&box->lock);
    if (box->put != box->taken) p = box->parcels[box->taken++ % ROOM];
    pthread_mutex_unlock(&box->lock);
    return p;
}

void mailbox_close(mailbox *box)
{
    parcel *p;
    while ((p = mailbox_take(box)) != NULL)
        parcel_close(p);
    pthread_mutex_destroy(&box->lock);
    free(box);
}
