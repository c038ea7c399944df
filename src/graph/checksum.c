#include "graph/checksum.h"

#include "graph/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL /* the header alone: nothing to link */
#include <xxhash.h>

#define XXH3_PREFIX "xxh3-64:"
#define HEX_DIGITS  16

_Static_assert(sizeof(XXH3_state_t) <= sizeof((cy_checksum){0}.state),
               "a checksum has room for what xxHash keeps");

static XXH3_state_t *xxh3_of(const cy_checksum *sum)
{
    return (XXH3_state_t *)(void *)sum->state;
}

void cy_checksum_begin(cy_checksum *sum, cy_checksum_kind kind)
{
    sum->kind = kind;
    sum->fnv = CY_HASH_START;
    if (kind == CY_CHECKSUM_XXH3) XXH3_64bits_reset(xxh3_of(sum));
}

void cy_checksum_add(cy_checksum *sum, const void *data, size_t bytes)
{
    if (sum->kind == CY_CHECKSUM_XXH3) XXH3_64bits_update(xxh3_of(sum), data, bytes);
    else sum->fnv = cy_hash64(sum->fnv, data, bytes);
}

uint64_t cy_checksum_value(const cy_checksum *sum)
{
    return sum->kind == CY_CHECKSUM_XXH3 ? XXH3_64bits_digest(xxh3_of(sum)) : sum->fnv;
}

void cy_checksum_print(cy_checksum_kind kind, uint64_t value,
                       char text[CY_CHECKSUM_TEXT_BYTES])
{
    snprintf(text, CY_CHECKSUM_TEXT_BYTES, "%s%016" PRIx64,
             kind == CY_CHECKSUM_XXH3 ? XXH3_PREFIX : "", value);
}

bool cy_checksum_find_kind(const char *text, cy_checksum_kind *kind)
{
    size_t prefix_bytes = strlen(XXH3_PREFIX);
    *kind = strncmp(text, XXH3_PREFIX, prefix_bytes) == 0 ? CY_CHECKSUM_XXH3
                                                          : CY_CHECKSUM_FNV;
    if (*kind == CY_CHECKSUM_XXH3) text += prefix_bytes;
    return strlen(text) == HEX_DIGITS && strspn(text, "0123456789abcdef") == HEX_DIGITS;
}
