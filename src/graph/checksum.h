/* A 64-bit hash of a stream of bytes, taken in pieces of any size.
 *
 *   CY_CHECKSUM_XXH3   XXH3, 64 bits, seed 0, of the library xxHash: what is written, "xxh3-64:" and 16 hex digits
 *   CY_CHECKSUM_FNV    FNV-1a, a byte at a time, so a tenth as fast: files from before, 16 hex digits alone */
#ifndef CY_GRAPH_CHECKSUM_H
#define CY_GRAPH_CHECKSUM_H

#include "base/mem.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum cy_checksum_kind { CY_CHECKSUM_FNV, CY_CHECKSUM_XXH3 } cy_checksum_kind;

typedef struct cy_checksum {
    alignas(CY_ALIGN) unsigned char state[576]; /* XXH3_state_t */
    uint64_t fnv;
    cy_checksum_kind kind;
} cy_checksum;

void cy_checksum_begin(cy_checksum *sum, cy_checksum_kind kind);
void cy_checksum_add(cy_checksum *sum, const void *data, size_t bytes);
/* Of what was added so far. */
uint64_t cy_checksum_value(const cy_checksum *sum);

#define CY_CHECKSUM_TEXT_BYTES 25 /* its end included */
void cy_checksum_print(cy_checksum_kind kind, uint64_t value,
                       char text[CY_CHECKSUM_TEXT_BYTES]);
/* The kind of a text that could have been printed; false: of none. */
bool cy_checksum_find_kind(const char *text, cy_checksum_kind *kind);

#endif
