/* A file replaced at once or not at all: written beside it, synchronised, renamed over it. Whenever the process dies,
 * or the machine, the old file or the new one is there, whole; what is left beside it then has no meaning.
 *
 *     PATH.tmp-XXXXXX   beside the file itself, where PATH is a symbolic link
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

/* Ends it either way; on failure the old file is still there, but for one sentence that says otherwise. */
carry_status cy_replace_commit(cy_replacement *r);
void cy_replace_discard(cy_replacement *r);

#endif
