/* The way out: values of a chunk, of each row's last step, or a state, to the caller's rows.
 *
 *     EVERY_STEP   port(step, row) = in(step, row), zeros where the row rests
 *     LAST_STEP    port(0, row) = in(row.steps - 1, row) of rows that end in this chunk
 *     AFTER        port(0, row) = in(row) of rows that ran, else what the state holds, else zeros
 *
 * Layout: in is [step][row][width] or [row][width], as the kernels leave it, without the rows that rest from the
 * chunk's first step on; the port is the caller's array, any
 * strides, any type, rows in the caller's order, each with as much room as all or, packed, as it needs. What a mode does
 * not name stays untouched: a row that goes on after this chunk has its last step elsewhere.
 *
 * Why this shape: as in gather.cu, one thread an element; the two modes of one value a row run over rows only.
 * Predicted on an H200, not measured: 4 to 8 bytes an element at 4.0 TB/s, 2 us a million elements.
 *
 * Launch: blocks of 128 threads, ceil(steps * rows * width / 128) or ceil(rows * width / 128) of them. No shared
 * memory.
 * Limits: elements of in, and of the port that are written, < 2^31.
 * Called by: src/cuda. Test: tests/emu/test_ports.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/ports.cuh"

namespace
{

enum { THREADS = 128 };

__device__ __forceinline__ size_t in_chunk(const cy_cuda_scatter &scatter, unsigned step,
                                           unsigned r)
{
    return ((size_t)step * scatter.in_row_count + r) * scatter.width;
}

__device__ __forceinline__ float load(const cy_cuda_scatter &scatter, size_t i)
{
    return cy::load(scatter.in_type, scatter.in, i);
}

__global__ void __launch_bounds__(THREADS) scatter_steps(cy_cuda_scatter scatter)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned position = flat / scatter.width, column = flat - position * scatter.width;
    unsigned step = position / scatter.row_count, r = position - step * scatter.row_count;
    if (step >= scatter.step_count) return;
    const cy_cuda_row row = scatter.rows[r];
    const cy_cuda_port port = *scatter.port;
    if (!cy::has_place(port, row, step)) return;
    cy::store(port.type, port.data, cy::in_port(port, row, step) + column,
              step < row.steps ? load(scatter, in_chunk(scatter, step, r) + column) : 0);
}

__global__ void __launch_bounds__(THREADS) scatter_rows(cy_cuda_scatter scatter)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned r = flat / scatter.width, column = flat - r * scatter.width;
    if (r >= scatter.row_count) return;
    const cy_cuda_row row = scatter.rows[r];
    if (row.flags & CY_CUDA_ROW_ABSENT) return;
    bool continues = row.flags & CY_CUDA_ROW_CONTINUES;
    float value = 0;
    if (scatter.which == CY_CUDA_LAST_STEP) {
        if (row.steps > scatter.step_count || (row.steps == 0 && continues)) return;
        if (row.steps > 0)
            value = load(scatter, in_chunk(scatter, row.steps - 1, r) + column);
    } else if (continues || row.steps > 0) {
        value = load(scatter, flat);
    } else if (row.read && scatter.state_offset != CY_CUDA_NO_STATE) {
        value = row.read[scatter.state_offset + column];
    }
    const cy_cuda_port port = *scatter.port;
    cy::store(port.type, port.data, cy::in_port(port, row, 0) + column, value);
}

} // namespace

extern "C" cudaError_t cy_cuda_scatter_launch(const cy_cuda_scatter *scatter,
                                              cudaStream_t cuda_stream)
{
    bool every = scatter->which == CY_CUDA_EVERY_STEP;
    /* All of in is indexed, however few threads there are. */
    if (scatter->which == CY_CUDA_LAST_STEP && scatter->in_row_count > 0 &&
        !cy::flat_blocks(THREADS, scatter->step_count, scatter->in_row_count,
                         scatter->width))
        return cudaErrorInvalidValue;
    unsigned blocks = cy::flat_blocks(THREADS, every ? scatter->step_count : 1,
                                      scatter->row_count, scatter->width);
    if (blocks == 0) return cudaErrorInvalidValue;
    return dev::launch(every ? scatter_steps : scatter_rows,
                       {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream, *scatter);
}
