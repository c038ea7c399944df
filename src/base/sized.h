/* Structs that cross the API state their size, so that old programs and new libraries understand each
 * other: what the caller's struct lacks is 0, what the library's lacks is left alone. */
#ifndef CY_BASE_SIZED_H
#define CY_BASE_SIZED_H

#include "base/status.h"

/* Copies a caller's struct into `known`; NULL gives zeros. `name` is for the sentence. */
carry_status cy_sized_read(void *known, size_t known_bytes, const void *given,
                           const char *name);

/* Copies `known` into the caller's struct, whose size stays as stated. */
carry_status cy_sized_write(void *given, const void *known, size_t known_bytes,
                            const char *name);

#endif
