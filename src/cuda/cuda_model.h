/* A graph packed for one CUDA device: weights in one block of its memory, gates interleaved. */
#ifndef CY_CUDA_CUDA_MODEL_H
#define CY_CUDA_CUDA_MODEL_H

#include "backend.h"
#include "cuda/cuda_device.h"
#include "kernels/cuda/cuda_kernels.h"

/* One node of the graph; sizes fit 32 bits, pointers are the device's. */
typedef struct cy_cuda_layer {
    const cy_node *node;
    cy_value source; /* its input, past every Identity but one on the model's input */
    unsigned in, width;
    const void
        *kernel; /* LSTM [in][units][4], Dense [in][width], of the model's type; Embedding
                              [ids][width] float */
    const void *recurrent; /* LSTM [units][units][4] of the model's type */
    const float *bias;     /* LSTM [units][4], Dense [width]; NULL: none */
} cy_cuda_layer;

typedef struct cy_cuda_model {
    const cy_graph *graph;
    cy_cuda_device device;
    carry_precision precision;
    cy_cuda_type type; /* of weights and operands: float for fp32 and tf32 */
    void *memory;      /* the device's block */
    size_t memory_bytes;
    unsigned layer_count;
    cy_cuda_layer *layers; /* [layer_count] */
    cy_value *outputs;     /* [graph->output_count], past Identities like source */
} cy_cuda_model;

carry_status cy_cuda_model_open(const cy_graph *graph, uint32_t device,
                                carry_precision precision, cy_cuda_model **model);
void cy_cuda_model_close(cy_cuda_model *model);

static inline size_t cy_cuda_type_bytes(cy_cuda_type type)
{
    return type == CY_CUDA_F32 ? 4 : 2;
}

/* A float in 16 bits, rounded to nearest even, as the device's own conversion does it. */
uint16_t cy_cuda_to_bf16(float value);
uint16_t cy_cuda_to_f16(float value);

#endif
