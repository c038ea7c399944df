#include "base/arena.h"

#include "base/mem.h"

#include <stdint.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 * 1024)

struct cy_arena_block {
    struct cy_arena_block *next;
    size_t used, capacity; /* of the bytes behind this header */
};

void *cy_arena_alloc(cy_arena *arena, size_t bytes)
{
    size_t header = cy_round_up(sizeof(struct cy_arena_block));
    size_t rounded = cy_round_up(bytes ? bytes : 1);
    if (rounded > SIZE_MAX - header) return NULL;
    struct cy_arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < rounded) {
        size_t capacity = rounded > BLOCK_BYTES ? rounded : BLOCK_BYTES;
        struct cy_arena_block *fresh = cy_alloc(header + capacity);
        if (!fresh) return NULL;
        fresh->capacity = capacity;
        fresh->next = block;
        arena->blocks = block = fresh;
    }
    void *memory = (unsigned char *)block + header + block->used;
    block->used += rounded;
    return memory;
}

char *cy_arena_strdup(cy_arena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = cy_arena_alloc(arena, bytes);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

void cy_arena_free(cy_arena *arena)
{
    struct cy_arena_block *block = arena->blocks;
    while (block) {
        struct cy_arena_block *next = block->next;
        cy_free(block);
        block = next;
    }
    arena->blocks = NULL;
}

void *cy_carve(cy_carver *carver, size_t count, size_t element_bytes)
{
    if (element_bytes && count > SIZE_MAX / element_bytes) carver->bytes = SIZE_MAX;
    if (carver->bytes == SIZE_MAX) return NULL;
    size_t rounded = cy_round_up(count * element_bytes);
    if (rounded > SIZE_MAX - carver->bytes) {
        carver->bytes = SIZE_MAX;
        return NULL;
    }
    void *memory = carver->base ? carver->base + carver->bytes : NULL;
    carver->bytes += rounded;
    return memory;
}
