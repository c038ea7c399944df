/* What follows a dense product: out(step, row) = activation(z + bias).
 *
 * Layout: z is [step][row][width], as the product leaves it; out is the caller's, row by row in the
 * caller's order with any strides, or z itself. A row that rests at a step gets zeros, whatever z holds.
 *
 * Why this shape: one thread an element, flat, is bound by memory at any width; an activation that spans
 * the row (softmax, log_softmax) takes a block of 128 threads a row, which keeps the row's two sums
 * in one block; its order of summation depends on nothing but the width.
 *
 * Launch: blocks of 128 threads, ceil(steps * rows * width / 128) of them, or one a row and step.
 * Limits: steps * rows * width < 2^31.
 * Called by: src/cuda. Test: tests/emu/test_kernels.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/activate.cuh"

namespace
{

enum { THREADS = 128 };

/* Where a row's output of this step goes, and whether it rests. */
struct place {
    float *out;
    bool rests;
};

__device__ __forceinline__ place find(const cy_cuda_dense_output &dense,
                                      unsigned position)
{
    unsigned step = position / dense.row_count, r = position - step * dense.row_count;
    unsigned index = dense.rows ? dense.rows[r].index : r;
    return {dense.out + index * dense.row_stride + step * dense.step_stride,
            dense.rows && step >= dense.rows[r].steps};
}

__global__ void __launch_bounds__(THREADS) dense_output(cy_cuda_dense_output dense)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned position = flat / dense.width, column = flat - position * dense.width;
    if (position >= dense.step_count * dense.row_count) return;
    place at = find(dense, position);
    float value = 0;
    if (!at.rests) {
        value = dense.z[flat];
        if (dense.bias) value += dense.bias[column];
        value = cy::activate(dense.activation, value);
    }
    at.out[column] = value;
}

__global__ void __launch_bounds__(THREADS) dense_output_rows(cy_cuda_dense_output dense)
{
    unsigned position = blockIdx.x;
    place at = find(dense, position);
    const float *z = dense.z + (size_t)position * dense.width;
    for (unsigned column = threadIdx.x; column < dense.width; column += THREADS)
        at.out[column] =
            at.rests ? 0 : z[column] + (dense.bias ? dense.bias[column] : 0.0f);
    if (!at.rests) cy::activate_row(dense.activation, at.out, 1, dense.width);
}

} // namespace

extern "C" cudaError_t cy_cuda_dense_output_launch(const cy_cuda_dense_output *dense,
                                                   cudaStream_t cuda_stream)
{
    unsigned long long positions =
        (unsigned long long)dense->step_count * dense->row_count;
    if (positions == 0 || dense->width == 0 || positions > 0x7fffffffu / dense->width)
        return cudaErrorInvalidValue;
    if (cy::spans_row(dense->activation))
        return dev::launch(dense_output_rows,
                           {dim3((unsigned)positions), dim3(THREADS), 0, 0, 0},
                           cuda_stream, *dense);
    unsigned blocks = (unsigned)((positions * dense->width + THREADS - 1) / THREADS);
    return dev::launch(dense_output, {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream,
                       *dense);
}
