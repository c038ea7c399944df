/* Members of a zip archive in memory, read whole. The one place that names libzip.
 *
 * Refused: two members of the name asked for, encryption, methods but store and deflate, a wrong
 * checksum or length, and members that grow a hundredfold beyond 256 MiB. */
#ifndef CY_IMPORT_ZIP_READER_H
#define CY_IMPORT_ZIP_READER_H

#include "base/status.h"

typedef struct cy_zip cy_zip;

/* Opens `bytes` bytes at `data`, which must outlive the archive. *archive is NULL on failure.
 * Errors: CARRY_E_FORMAT, CARRY_E_MEMORY. */
carry_status cy_zip_open(cy_zip **archive, const void *data, size_t bytes);
void cy_zip_close(cy_zip **archive);

/* The member `name`, allocated with cy_alloc; the caller frees. NULL and 0: there is none. */
carry_status cy_zip_read(cy_zip *archive, const char *name, void **data, size_t *bytes);

#endif
