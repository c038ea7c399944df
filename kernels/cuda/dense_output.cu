/* What follows a dense product, in place: z(step, row) = activation(z + bias).
 *
 * Layout: z is [step][row][width], as the product leaves it. A row that rests at a step gets zeros, whatever z
 * holds.
 *
 * Why this shape: one thread an element, flat, is bound by memory at any width; an activation that spans
 * the row (softmax, log_softmax) takes a block of 128 threads a row, which keeps the row's two sums
 * in one block; its order of summation depends on nothing but the width. It reads z three times rather than
 * keep anything, the second and third time from L1 or L2.
 * Predicted on an H200, not measured: 8 bytes an element at 4.0 TB/s, 2 us a million elements.
 *
 * Launch: blocks of 128 threads, ceil(steps * rows * width / 128) of them, or one a row and step.
 * Limits: steps * rows * width < 2^31.
 * Called by: src/cuda. Test: tests/emu/test_kernels.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/activate.cuh"
#include "kernels/cuda/ports.cuh"

namespace
{

enum { THREADS = 128 };

__device__ __forceinline__ bool rests(const cy_cuda_dense_output &dense,
                                      unsigned position)
{
    unsigned step = position / dense.row_count, r = position - step * dense.row_count;
    return dense.rows && step >= dense.rows[r].steps;
}

__global__ void __launch_bounds__(THREADS) dense_output(cy_cuda_dense_output dense)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned position = flat / dense.width, column = flat - position * dense.width;
    if (position >= dense.step_count * dense.row_count) return;
    float value = 0;
    if (!rests(dense, position)) {
        value = dense.z[flat];
        if (dense.bias) value += dense.bias[column];
        value = cy_activate(dense.activation, value);
    }
    dense.z[flat] = value;
}

__global__ void __launch_bounds__(THREADS) dense_output_rows(cy_cuda_dense_output dense)
{
    unsigned position = blockIdx.x;
    float *z = dense.z + (size_t)position * dense.width;
    const float *bias = dense.bias;
    if (rests(dense, position)) {
        for (unsigned column = threadIdx.x; column < dense.width; column += THREADS)
            z[column] = 0;
        return;
    }
    cy::activate_row(
        dense.activation, dense.width,
        [=](unsigned column) { return bias ? z[column] + bias[column] : z[column]; },
        [=](unsigned column, float value) { z[column] = value; });
}

} // namespace

extern "C" cudaError_t cy_cuda_dense_output_launch(const cy_cuda_dense_output *dense,
                                                   cudaStream_t cuda_stream)
{
    unsigned blocks =
        cy::flat_blocks(THREADS, dense->step_count, dense->row_count, dense->width);
    if (blocks == 0) return cudaErrorInvalidValue;
    if (cy_activation_spans_row(dense->activation))
        return dev::launch(
            dense_output_rows,
            {dim3(dense->step_count * dense->row_count), dim3(THREADS), 0, 0, 0},
            cuda_stream, *dense);
    return dev::launch(dense_output, {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream,
                       *dense);
}
