/* A layer's input as the operand of a product over all steps of a chunk: out(step, row) = in(step, row).
 *
 * Layout: in is the caller's array (a port: any strides, float, bf16 or f16, rows in the caller's order) or the
 * layer below's h, [step][row][width]; out is [step][row][width], rounded to the operands' type. Of a row that
 * rests at a step nothing is read, and out holds zeros, so that no NaN of old gets into a product.
 * Backwards, a row's steps are taken from its last to its first: each row turns by its own number of steps.
 *
 * Why this shape: one thread an element, flat: neighbours of a row are neighbours in both arrays, so reads and
 * writes are contiguous for widths of 8 and more whatever the strides are, without asking for an alignment that
 * a caller's array need not have.
 * Predicted on an H200, not measured: 4 to 8 bytes an element at 4.0 TB/s, 2 us a million elements.
 *
 * Launch: blocks of 128 threads, ceil(steps * rows * width / 128) of them. No shared memory.
 * Limits: steps * rows * width < 2^31; backwards, a row has no more steps than the chunk.
 * Called by: src/cuda. Test: tests/emu/test_ports.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/ports.cuh"

namespace
{

enum { THREADS = 128 };

__global__ void __launch_bounds__(THREADS) gather_steps(cy_cuda_gather gather)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned position = flat / gather.width, column = flat - position * gather.width;
    unsigned step = position / gather.row_count, r = position - step * gather.row_count;
    if (step >= gather.step_count) return;
    cy_cuda_row row = {};
    if (gather.rows) row = gather.rows[r];
    float value = 0;
    if (!gather.rows || step < row.steps) {
        unsigned from = cy::turned(gather.backwards, row, step);
        if (gather.port) {
            const cy_cuda_port port = *gather.port;
            value = cy::load(port.type, port.data, cy::in_port(port, row, from) + column);
        } else {
            value =
                cy::load(gather.in_type, gather.in,
                         ((size_t)from * gather.row_count + r) * gather.width + column);
        }
    }
    cy::store(gather.out_type, gather.out, flat, value);
}

} // namespace

extern "C" cudaError_t cy_cuda_gather_launch(const cy_cuda_gather *gather,
                                             cudaStream_t cuda_stream)
{
    unsigned blocks =
        cy::flat_blocks(THREADS, gather->step_count, gather->row_count, gather->width);
    if (blocks == 0) return cudaErrorInvalidValue;
    return dev::launch(gather_steps, {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream,
                       *gather);
}
