/* Output files that are either whole or not there.
 *
 * A file is written beside its final name and renamed by cy_out_commit; until then a failure, Ctrl-C
 * or a terminating signal removes it. Through a symbolic link the file behind it is replaced, and the
 * link stays. A pipe, a device or /dev/stdout is written directly, in order. */
#ifndef CY_CLI_OUT_FILE_H
#define CY_CLI_OUT_FILE_H

#include <stddef.h>
#include <stdint.h>

typedef struct cy_out_file {
    int fd;       /* -1: not open */
    int in_order; /* 1: a pipe or device, only cy_out_append works */
    char *path;   /* as the caller named it */
    char *target; /* what the temporary file becomes; NULL when written directly */
    char *beside; /* the temporary file; NULL when written directly */
    int signal_slot;
} cy_out_file;

#define CY_OUT_CLOSED \
    {                 \
        .fd = -1      \
    }

/* Handlers that remove the temporary files and then let the signal do what it always does. */
void cy_out_signals_install(void);

/* Each returns CY_EXIT_OK, or CY_EXIT_FAILED after a sentence naming the file. A file that is open
 * already, under whatever name, is not opened twice. */
int cy_out_open(cy_out_file *file, const char *path);
int cy_out_append(cy_out_file *file, const void *data, size_t bytes);
int cy_out_write_at(cy_out_file *file, const void *data, size_t bytes, uint64_t offset);

/* The last step of success: closes and renames. The file is closed in either case. */
int cy_out_commit(cy_out_file *file);

/* The last step of failure: removes what was written. Fine on a file that is closed already. */
void cy_out_discard(cy_out_file *file);

/* A folder for outputs, made with its parents where they are missing. Closing it, or a signal, takes
 * what was made away again if nothing has come to stay in it. One at a time. */
int cy_out_folder_open(const char *path);
void cy_out_folder_close(void);

#endif
