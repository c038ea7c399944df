/* Two ways to own many small arrays by one handle.
 *
 * cy_arena   grows: for a graph, whose size is known only when the file has been read.
 * cy_carver  measures first, carves second: for a workspace, which is one block of known size.
 *            The same code runs twice, the first time with base == NULL:
 *
 *                cy_carver carver = {0};
 *                layout(&carver, ws);            // measures, pointers come out NULL
 *                block = cy_alloc(carver.bytes);
 *                carver = (cy_carver){.base = block};
 *                layout(&carver, ws);            // carves
 */
#ifndef CY_BASE_ARENA_H
#define CY_BASE_ARENA_H

#include <stddef.h>

typedef struct cy_arena {
    struct cy_arena_block *blocks;
} cy_arena;

/* Zeroed memory, aligned to CY_ALIGN, that lives until cy_arena_free; NULL when there is none. */
void *cy_arena_alloc(cy_arena *arena, size_t bytes);
char *cy_arena_strdup(cy_arena *arena, const char *text);
void cy_arena_free(cy_arena *arena);

typedef struct cy_carver {
    unsigned char *base;
    size_t bytes; /* SIZE_MAX once a size has overflowed */
} cy_carver;

void *cy_carve(cy_carver *carver, size_t count, size_t element_bytes);

#endif
