/* The only malloc of the library. Tests count these calls and fail the n-th (linker --wrap). */
#ifndef CY_BASE_MEM_H
#define CY_BASE_MEM_H

#include <stddef.h>

/* Alignment of every block and of every array carved from one: a cache line, a 512-bit vector. */
#define CY_ALIGN 64

/* `bytes` zeroed bytes at a multiple of CY_ALIGN; NULL when there is no memory. 0 bytes give a block. */
void *cy_alloc(size_t bytes);

void cy_free(void *block);

/* bytes rounded up to CY_ALIGN; SIZE_MAX when that overflows (no block is that large). */
size_t cy_round_up(size_t bytes);

#endif
