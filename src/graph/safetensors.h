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

#include <jansson.h>

#define CY_ST_MAX_RANK 8

typedef struct cy_st_tensor {
    const char *name;
    const char *dtype; /* "F32" */
    uint32_t rank;
    uint64_t shape[CY_ST_MAX_RANK];
    const unsigned char *data; /* as aligned as the file happens to be */
    uint64_t bytes;
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

const cy_st_tensor *cy_safetensors_find(const cy_safetensors *file, const char *name);
/* NULL when there is no such key. */
const char *cy_safetensors_metadata(const cy_safetensors *file, const char *key);

/* Over metadata (all but "carry.checksum"), names, shapes and data, in an order that does not depend
 * on how the JSON is written. 16 hex digits. */
void cy_safetensors_checksum(const cy_safetensors *file, char checksum[17]);

/* Checks "carry.checksum" where it is present. */
carry_status cy_safetensors_verify(const cy_safetensors *file);

/* Lays out a file of float32 tensors: takes the header's JSON members in the order given, returns one
 * block (cy_alloc) with the header written and data[i] pointing where tensor i goes. The checksum is
 * entered by cy_safetensors_seal once the data is there. */
typedef struct cy_st_writer {
    unsigned char *block;
    size_t bytes;
} cy_st_writer;

/* `tensors`: name, rank and shape are read; `data` is set to the place in the block. `metadata`: a JSON
 * object of strings, borrowed. */
carry_status cy_safetensors_layout(cy_st_writer *writer, json_t *metadata,
                                   cy_st_tensor *tensors, size_t count);
carry_status cy_safetensors_seal(cy_st_writer *writer);

#endif
