/* Which algorithm for which layer: a pure function of the device, the layer and the call, so that it is tested
 * without a GPU.
 *
 * The times are a model, not a measurement: bytes over bandwidth, operations over rate, and a constant for each
 * kernel. docs/cuda.md has the formulas; constants are those of cuda_plan.c. */
#ifndef CY_CUDA_CUDA_PLAN_H
#define CY_CUDA_CUDA_PLAN_H

#include "cuda/cuda_device.h"
#include "kernels/cuda/cuda_kernels.h"

/* One LSTM layer in one chunk of a call. */
typedef struct cy_cuda_lstm_shape {
    unsigned features, units;
    unsigned rows, steps;
    cy_cuda_type type;
    cy_activation activation, recurrent_activation;
    bool exact; /* no cuBLAS */
    bool tf32;  /* cuBLAS may use tensor cores for float */
} cy_cuda_lstm_shape;

typedef enum cy_cuda_algorithm {
    CY_CUDA_GEMM_CELL, /* x products of all steps at once; then per step a product and the cell kernel */
    CY_CUDA_STEP,  /* x products of all steps at once; then one kernel a step */
    CY_CUDA_STEP_X /* one kernel for one step, the x product included */
} cy_cuda_algorithm;

typedef struct cy_cuda_lstm_plan {
    cy_cuda_algorithm algorithm;
    bool tensor_step; /* STEP and STEP_X: the kernel is the one on tensor cores */
    double gemm_us,
        step_us; /* expected, of one step's recurrence: GEMM_CELL and STEP; 0: cannot be */
} cy_cuda_lstm_plan;

cy_cuda_lstm_plan cy_cuda_plan_lstm(const cy_cuda_device *device,
                                    const cy_cuda_lstm_shape *shape);

/* Whether the kernels of a plan can do the layer, whether or not it would be chosen. */
bool cy_cuda_plan_possible(const cy_cuda_device *device, const cy_cuda_lstm_shape *shape,
                           const cy_cuda_lstm_plan *plan);

const char *cy_cuda_algorithm_name(cy_cuda_algorithm algorithm, bool exact);

/* One sentence: what was chosen and the numbers that decided. */
void cy_cuda_plan_explain(const cy_cuda_lstm_plan *plan, const cy_cuda_lstm_shape *shape,
                          char *text, size_t bytes);

/* Steps of the next chunk: `left` steps are to come, buffers hold row_steps of `rows` rows. */
unsigned cy_cuda_plan_steps(size_t row_steps, unsigned rows, size_t left);

#endif
