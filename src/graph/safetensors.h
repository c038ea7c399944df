/* safetensors: the one container for models and saved states.
 *
 *     u64 little-endian N | N bytes of JSON | data
 *     JSON: {"__metadata__": {string: string}, "NAME": {"dtype", "shape", "data_offsets": [a, b]}}
 *
 * The reader is strict: offsets without holes or overlap, sizes that match shapes, nothing behind
 * the data. It allocates in proportion to the header, never to a number the header states. */
#ifndef CY_GRAPH_SAFETENSORS_H
#define CY_GRAPH_SAFETENSORS_H

#include "base/status.h"
#include "graph/checksum.h"

#include <jansson.h>

#define CY_ST_MAX_RANK 8

typedef struct cy_st_tensor {
    const char *name;
    const char *dtype; /* "F32" */
    uint32_t rank;
    uint64_t shape[CY_ST_MAX_RANK];
    const unsigned char *data; /* as aligned as the file happens to be */
    uint64_t bytes;
    uint64_t offset; /* of its data, from the file's first byte */
} cy_st_tensor;

typedef struct cy_safetensors {
    json_t *root;
    json_t *metadata;      /* borrowed from root; NULL: none */
    cy_st_tensor *tensors; /* in the order of their data */
    const cy_st_tensor **by_name;
    size_t count;
} cy_safetensors;

/* Parses `bytes` bytes at `data`, which must outlive it. Errors: CARRY_E_FORMAT, CARRY_E_MEMORY. */
carry_status cy_safetensors_open(cy_safetensors *file, const void *data, size_t bytes);
void cy_safetensors_close(cy_safetensors *file);

/* A file that is not in memory: how many bytes come before its data, by its first 8; then the same from these bytes
 * alone. Tensors have an offset, and NULL for data. `file_bytes` is the length of it all. */
carry_status cy_safetensors_header_bytes(const void *first, uint64_t file_bytes,
                                         size_t *bytes);
carry_status cy_safetensors_open_header(cy_safetensors *file, const void *header,
                                        size_t bytes, uint64_t file_bytes);

const cy_st_tensor *cy_safetensors_find(const cy_safetensors *file, const char *name);
/* NULL when there is no such key. */
const char *cy_safetensors_metadata(const cy_safetensors *file, const char *key);

/* Over metadata (all but "carry.checksum"), names, dtypes, shapes and data, in an order that does not depend
 * on how the JSON is written: a sum of one hash for each entry of the metadata and one for each tensor. A tensor's begins
 * here and goes on with cy_checksum_add over its data. Files are written with CY_ST_KIND. */
#define CY_ST_KIND CY_CHECKSUM_XXH3
uint64_t cy_safetensors_hash_metadata(cy_checksum_kind kind, json_t *metadata);
void cy_safetensors_hash_begin(cy_checksum *sum, cy_checksum_kind kind,
                               const cy_st_tensor *tensor);

/* The kind of checksum that the file states, *stated false: it states none. */
#define CY_ST_CHECKSUM "carry.checksum"
carry_status cy_safetensors_stated(const cy_safetensors *file, bool *stated,
                                   cy_checksum_kind *kind);
/* Whether `value`, of that kind, is what it states. */
carry_status cy_safetensors_compare(const cy_safetensors *file, uint64_t value);

/* Checks the checksum of a file in memory where it states one. */
carry_status cy_safetensors_verify(const cy_safetensors *file);

/* The header of a file of these tensors, padded so that data begins aligned: a block (cy_alloc) with a blank
 * checksum of the final width, entered by cy_safetensors_enter once it is known.
 *   tensors   name, dtype, rank and shape are read; bytes and offset are set
 *   metadata  a JSON object of strings, borrowed; the checksum is added */
carry_status cy_safetensors_header(json_t *metadata, cy_st_tensor *tensors, size_t count,
                                   unsigned char **header, size_t *bytes);
carry_status cy_safetensors_enter(unsigned char *header, size_t bytes, uint64_t value);

/* A whole file in one block (cy_alloc): the header written and data[i] pointing where tensor i goes.
 * cy_safetensors_seal enters the checksum once the data is there. */
typedef struct cy_st_writer {
    unsigned char *block;
    size_t bytes;
} cy_st_writer;

carry_status cy_safetensors_layout(cy_st_writer *writer, json_t *metadata,
                                   cy_st_tensor *tensors, size_t count);
carry_status cy_safetensors_seal(cy_st_writer *writer);

#endif
