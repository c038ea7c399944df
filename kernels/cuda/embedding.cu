/* Embedding: out(step, row) = table[ids(step, row)].
 *
 * Layout: ids lie as the caller has them; out is [step][row][width], rounded to the operands' type, ready for a
 * product over all steps of a chunk.
 *
 * Why this shape: a warp takes one position, reads its id once (one transaction, broadcast) and copies the
 * vector in contiguous lanes. The id of a row that rests is not read. Ids from host memory were checked
 * there; those from device memory cannot be, so an id outside the table yields NaN, never a stray read,
 * and is counted.
 * Predicted on an H200, not measured: a table in L2 is read at up to 9.7 TB/s and out written at 4.0 TB/s, so
 * 64 rows * 16 steps * width 256 in float is under 1 us: launch alone.
 *
 * Launch: blocks of 128 threads, four positions each. No shared memory.
 * Limits: steps * rows * width < 2^31.
 * Called by: src/cuda. Test: tests/emu/test_ports.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/ports.cuh"

#include <math.h>

namespace
{

enum { THREADS = 128, WARPS = THREADS / 32 };

template <class X>
__global__ void __launch_bounds__(THREADS) embedding(cy_cuda_embedding e)
{
    unsigned position = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (position >= e.step_count * e.row_count) return;
    unsigned step = position / e.row_count, r = position - step * e.row_count;
    const cy_cuda_row row = e.rows[r];
    X *out = static_cast<X *>(e.out) + (size_t)position * e.width;
    float fill = 0;
    if (step < row.steps) {
        const cy_cuda_port port = *e.port;
        int id = static_cast<const int *>(port.data)[cy::in_port(port, row, step)];
        if (id >= 0 && (unsigned)id < e.id_count) {
            const float *vector = e.table + (size_t)id * e.width;
            for (unsigned i = lane; i < e.width; i += 32)
                cy::put(out + i, dev::load_read_only(vector + i));
            return;
        }
        fill = NAN;
        if (lane == 0 && e.bad_ids) dev::atomic_add(e.bad_ids, 1u);
    }
    for (unsigned i = lane; i < e.width; i += 32)
        cy::put(out + i, fill);
}

} // namespace

extern "C" cudaError_t cy_cuda_embedding_launch(const cy_cuda_embedding *e,
                                                cudaStream_t cuda_stream)
{
    if (!cy::flat_blocks(THREADS, e->step_count, e->row_count, e->width))
        return cudaErrorInvalidValue;
    dev::launch_shape shape = {dim3(cy::flat_blocks(WARPS, e->step_count, e->row_count)),
                               dim3(THREADS), 0, 0, 0};
    switch (e->out_type) {
    case CY_CUDA_F32:
        return dev::launch(embedding<float>, shape, cuda_stream, *e);
    case CY_CUDA_BF16:
        return dev::launch(embedding<__nv_bfloat16>, shape, cuda_stream, *e);
    case CY_CUDA_F16:
        return dev::launch(embedding<__half>, shape, cuda_stream, *e);
    }
    return cudaErrorInvalidValue;
}
