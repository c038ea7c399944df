/* A folder for a test's files, of its own, gone when the test is. */
#ifndef TESTS_API_SCRATCH_FOLDER_H
#define TESTS_API_SCRATCH_FOLDER_H

#include <stddef.h>

/* Makes the folder of this process and writes FOLDER/name to `path`, of PATH_BYTES. Aborts where it cannot. */
#define PATH_BYTES 256
void folder_open(void);
void folder_path(char *path, const char *name);
/* Removes it with all files in it. */
void folder_close(void);

/* Files in it whose name begins so. */
size_t folder_count(const char *beginning);
/* Removes those. */
void folder_remove(const char *beginning);

/* A whole file; free it. NULL: it is not there. */
void *file_read(const char *path, size_t *bytes);
void file_write(const char *path, const void *data, size_t bytes);

#endif
