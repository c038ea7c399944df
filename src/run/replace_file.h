/* A file replaced at once or not at all: written beside it, synchronised, renamed over it. Whenever the process dies,
 * or the machine, the old file or the new one is there, whole; what is left beside it then has no meaning.
 *
 *     PATH.tmp-XXXXXX   beside the file itself, where PATH is a symbolic link: the link stays, and the file it names is
 *                       replaced, or made if it is not there yet
 *
 * The new file has the mode of the old one, or what open(2) gives. */
#ifndef CY_RUN_REPLACE_FILE_H
#define CY_RUN_REPLACE_FILE_H

#include "base/status.h"

typedef struct cy_replacement {
    const char *path; /* as the caller names it */
    char *target;     /* the file itself; from the C library */
    char *beside;
    int file, folder; /* -1: not open */
} cy_replacement;

/* Errors: CARRY_E_FILE, CARRY_E_MEMORY; nothing is left then. */
carry_status cy_replace_begin(cy_replacement *r, const char *path);

carry_status cy_replace_write(cy_replacement *r, const void *data, size_t bytes,
                              uint64_t offset);

/* Ends it either way. On failure the old file is still there; or the new one is in place, and what failed is the
 * folder's fsync, so that a crash of the machine may bring the old one back: the sentence says "was replaced". The status
 * is CARRY_E_FILE all the same, since what commit promises does not hold. */
carry_status cy_replace_commit(cy_replacement *r);
void cy_replace_discard(cy_replacement *r);

#endif
