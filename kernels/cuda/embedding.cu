/* Embedding: out(step, row) = table[ids(step, row)].
 *
 * Layout: ids lie as the caller has them, row by row; out is [step][row][width], ready for a product over
 * all steps of a chunk.
 *
 * Why this shape: a warp takes one position, reads its id once (one transaction, broadcast) and copies the
 * vector in contiguous lanes. The id of a row that rests is not read. Ids from host memory were checked
 * there; those from device memory cannot be, so an id outside the table yields NaN, never a stray read,
 * and is counted.
 *
 * Launch: blocks of 128 threads, four positions each. No shared memory.
 * Limits: steps * rows * width < 2^31.
 * Called by: src/cuda. Test: tests/emu/test_kernels.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/device.cuh"

#include <math.h>

namespace
{

enum { THREADS = 128, WARPS = THREADS / 32 };

__global__ void __launch_bounds__(THREADS) embedding(cy_cuda_embedding e)
{
    unsigned position = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (position >= e.step_count * e.row_count) return;
    unsigned step = position / e.row_count, r = position - step * e.row_count;
    const cy_cuda_row row = e.rows[r];
    float *out = e.out + (size_t)position * e.width;
    float fill = 0;
    if (step < row.steps) {
        int id = e.ids[row.index * e.ids_stride + step];
        if (id >= 0 && (unsigned)id < e.id_count) {
            const float *vector = e.table + (size_t)id * e.width;
            for (unsigned i = lane; i < e.width; i += 32)
                out[i] = dev::load_read_only(vector + i);
            return;
        }
        fill = NAN;
        if (lane == 0 && e.bad_ids) dev::atomic_add(e.bad_ids, 1u);
    }
    for (unsigned i = lane; i < e.width; i += 32)
        out[i] = fill;
}

} // namespace

extern "C" cudaError_t cy_cuda_embedding_launch(const cy_cuda_embedding *e,
                                                cudaStream_t cuda_stream)
{
    unsigned long long positions = (unsigned long long)e->step_count * e->row_count;
    if (positions == 0 || e->width == 0 || positions > 0x7fffffffu / e->width)
        return cudaErrorInvalidValue;
    unsigned blocks = (unsigned)((positions + WARPS - 1) / WARPS);
    return dev::launch(embedding, {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream,
                       *e);
}
