/* A named view of an array that it does not own. */
#ifndef CY_GRAPH_TENSOR_H
#define CY_GRAPH_TENSOR_H

#include <stddef.h>
#include <stdint.h>

typedef struct cy_tensor {
    const char *name; /* "kernel", "recurrent_kernel", "bias", "embeddings" */
    uint32_t rank;    /* 1 or 2 */
    uint64_t shape[2];
    const float *data; /* row-major */
} cy_tensor;

static inline uint64_t cy_tensor_count(const cy_tensor *tensor)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->rank; i++)
        count *= tensor->shape[i];
    return count;
}

#endif
