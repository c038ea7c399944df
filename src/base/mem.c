#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

size_t cy_round_up(size_t bytes)
{
    if (bytes > SIZE_MAX - CY_ALIGN) return SIZE_MAX;
    return (bytes + CY_ALIGN - 1) / CY_ALIGN * CY_ALIGN;
}

void *cy_alloc(size_t bytes)
{
    size_t rounded = cy_round_up(bytes ? bytes : 1);
    if (rounded == SIZE_MAX) return NULL;
    void *block = aligned_alloc(CY_ALIGN, rounded);
    if (block) memset(block, 0, rounded);
    return block;
}

void cy_free(void *block)
{
    free(block);
}
