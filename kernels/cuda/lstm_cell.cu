/* The LSTM cell: everything of a step behind the products, in one kernel; and what goes before a chunk's first
 * product, h of every row from where it lies.
 *
 *     z_i z_f z_g z_o = z + bias                      gates of a unit, in the order i f g o
 *     c' = recurrent(z_f) c + recurrent(z_i) activation(z_g)
 *     h' = recurrent(z_o) activation(c')
 *
 * Layout: z is gate-interleaved, [row][unit][4], and so are bias and the columns of both weight matrices:
 * the four gates of a unit are one aligned 16-byte load, and the 32 units of a warp are 512 contiguous
 * bytes.
 *
 *     z row      | i0 f0 g0 o0 | i1 f1 g1 o1 | ...      one thread takes one group of four
 *
 * Rows: a row that rests at this step costs its threads two loads and a zero in h; a row's first step reads c
 * from the state where it lies, its last one writes h and c to the other version: states are never moved
 * to form a batch, and a call that fails has moved none (cuda_kernels.h). h of all steps lies packed, each step
 * behind the other, as the next layer's product, a Dense head or the way out wants it.
 *
 * Why this shape: the kernel moves 16 bytes of z, 4 to 8 of c, 2 to 4 of h a unit and computes five
 * transcendental functions, so it is bound by memory for large batches and by launch for small ones. One
 * thread a unit with a flat index keeps all lanes busy for any number of units, and a division per
 * thread is hidden by the loads. An activation that spans the row (softmax) takes a block a row instead.
 * Predicted on an H200, not measured: units 1024, rows 1024, float h moves 28 MB through L2 at 9.7 TB/s: 3 us;
 * below 64 rows the launch (1.3 us as a node of a graph) is more than the work.
 *
 * Launch: blocks of 128 threads, ceil(rows * units / 128) of them, or one block of 128 a row. No shared
 * memory in the usual kernel, 128 bytes in the other.
 * Limits: rows * units < 2^31. Accuracy: that of expf and tanhf, about 2 ulp each.
 * Called by: src/cuda. Test: tests/emu/test_cell.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/cell.cuh"

namespace
{

enum { THREADS = 128 };

template <class H, cy::gates GATES>
__global__ void __launch_bounds__(THREADS) lstm_cell(cy_cuda_lstm_cell cell)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned r = flat / cell.units, unit = flat - r * cell.units;
    if (r >= cell.row_count) return;
    const cy_cuda_row row = cell.rows[r];
    if (cell.step >= row.steps) {
        cy::put(static_cast<H *>(cell.h) + flat, 0);
        return;
    }
    cy::advance<H, GATES>(cell, row, flat, unit,
                          reinterpret_cast<const float4 *>(cell.z)[flat]);
}

/* One block a row, for activations that span it. z is scratch; the i gates' place takes activation(c). */
template <class H>
__global__ void __launch_bounds__(THREADS) lstm_cell_rows(cy_cuda_lstm_cell cell)
{
    unsigned r = blockIdx.x, units = cell.units;
    size_t first = (size_t)r * units;
    const cy_cuda_row row = cell.rows[r];
    if (cell.step >= row.steps) {
        for (unsigned unit = threadIdx.x; unit < units; unit += THREADS)
            cy::put(static_cast<H *>(cell.h) + first + unit, 0);
        return;
    }
    float *z = cell.z + 4 * first; /* [units][4] */
    if (cell.bias)
        for (unsigned unit = threadIdx.x; unit < units; unit += THREADS)
            for (unsigned gate = 0; gate < 4; gate++)
                z[4 * unit + gate] += cell.bias[4 * unit + gate];
    for (unsigned gate = 0; gate < 4; gate++)
        cy::activate_row(
            gate == 2 ? cell.activation : cell.recurrent_activation, units,
            [=](unsigned unit) { return z[4 * unit + gate]; },
            [=](unsigned unit, float value) { z[4 * unit + gate] = value; });
    for (unsigned unit = threadIdx.x; unit < units; unit += THREADS) {
        float *gate = z + 4 * unit;
        float c = cy::c_before(cell, row, first + unit, unit);
        c = fmaf(gate[1], c, gate[0] * gate[2]);
        cell.c[first + unit] = c;
        gate[0] = c;
    }
    cy::activate_row(
        cell.activation, units, [=](unsigned unit) { return z[4 * unit]; },
        [=](unsigned unit, float value) { z[4 * unit] = value; });
    for (unsigned unit = threadIdx.x; unit < units; unit += THREADS)
        cy::leave<H>(cell, row, first + unit, unit, z[4 * unit + 3] * z[4 * unit],
                     cell.c[first + unit]);
}

template <class H>
__global__ void __launch_bounds__(THREADS) lstm_begin(cy_cuda_lstm_begin begin)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned r = flat / begin.units, unit = flat - r * begin.units;
    if (r >= begin.row_count) return;
    const cy_cuda_row row = begin.rows[r];
    if (row.steps == 0) return;
    float h = row.flags & CY_CUDA_ROW_CONTINUES ? begin.last[flat]
              : row.read                        ? row.read[begin.h_offset + unit]
                                                : 0;
    cy::put(static_cast<H *>(begin.h) + flat, h);
}

template <class H>
cudaError_t launch_cell(const cy_cuda_lstm_cell &cell, unsigned blocks,
                        cudaStream_t cuda_stream)
{
    if (cy_activation_spans_row(cell.activation) ||
        cy_activation_spans_row(cell.recurrent_activation))
        return dev::launch(lstm_cell_rows<H>,
                           {dim3(cell.row_count), dim3(THREADS), 0, 0, 0}, cuda_stream,
                           cell);
    return dev::launch(cy::usual(cell) ? lstm_cell<H, cy::GATES_USUAL>
                                       : lstm_cell<H, cy::GATES_ANY>,
                       {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream, cell);
}

} // namespace

extern "C" cudaError_t cy_cuda_lstm_cell_launch(const cy_cuda_lstm_cell *cell,
                                                cudaStream_t cuda_stream)
{
    unsigned blocks = cy::flat_blocks(THREADS, cell->row_count, cell->units);
    if (blocks == 0) return cudaErrorInvalidValue;
    switch (cell->h_type) {
    case CY_CUDA_F32:
        return launch_cell<float>(*cell, blocks, cuda_stream);
    case CY_CUDA_BF16:
        return launch_cell<__nv_bfloat16>(*cell, blocks, cuda_stream);
    case CY_CUDA_F16:
        return launch_cell<__half>(*cell, blocks, cuda_stream);
    }
    return cudaErrorInvalidValue;
}

extern "C" cudaError_t cy_cuda_lstm_begin_launch(const cy_cuda_lstm_begin *begin,
                                                 cudaStream_t cuda_stream)
{
    unsigned blocks = cy::flat_blocks(THREADS, begin->row_count, begin->units);
    if (blocks == 0) return cudaErrorInvalidValue;
    dev::launch_shape shape = {dim3(blocks), dim3(THREADS), 0, 0, 0};
    switch (begin->h_type) {
    case CY_CUDA_F32:
        return dev::launch(lstm_begin<float>, shape, cuda_stream, *begin);
    case CY_CUDA_BF16:
        return dev::launch(lstm_begin<__nv_bfloat16>, shape, cuda_stream, *begin);
    case CY_CUDA_F16:
        return dev::launch(lstm_begin<__half>, shape, cuda_stream, *begin);
    }
    return cudaErrorInvalidValue;
}
