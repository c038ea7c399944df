/* The LSTM cell: everything of a step behind the products, in one kernel.
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
 * Rows: a row that rests at this step costs its threads two loads and writes nothing but a zero in y; a
 * row's first step reads c from the state where it lies, its last one writes h and c to the other
 * version: states are never moved to form a batch, and a call that fails has moved none (cuda_kernels.h).
 *
 * Why this shape: the kernel moves 16 bytes of z, 4 to 8 of c, 4 to 16 of h a unit and computes five
 * transcendental functions, so it is bound by memory for large batches and by launch for small ones. One
 * thread a unit with a flat index keeps all lanes busy for any number of units, and a division per
 * thread is hidden by the loads. An activation that spans the row (softmax) takes a block a row instead.
 *
 * Launch: blocks of 128 threads, ceil(rows * units / 128) of them, or one block of 128 a row. No shared
 * memory in the usual kernel, 128 bytes in the other.
 * Limits: rows * units < 2^31. Accuracy: that of expf and tanhf, about 2 ulp each.
 * Called by: src/cuda. Test: tests/emu/test_kernels.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/activate.cuh"

namespace
{

enum { THREADS = 128 };
enum gates { GATES_USUAL /* tanh and sigmoid */, GATES_ANY };

__device__ __forceinline__ void put(float *h, float value)
{
    *h = value;
}

__device__ __forceinline__ void put(__nv_bfloat16 *h, float value)
{
    *h = __float2bfloat16(value);
}

__device__ __forceinline__ void put(__half *h, float value)
{
    *h = __float2half(value);
}

/* A row's c before this step. */
__device__ __forceinline__ float c_before(const cy_cuda_lstm_cell &cell,
                                          const cy_cuda_row &row, size_t in_c,
                                          unsigned unit)
{
    if (cell.step > 0 || row.flags & CY_CUDA_ROW_CONTINUES) return cell.c[in_c];
    return row.read ? row.read[cell.c_offset + unit] : 0;
}

/* Where the new h and c go. */
template <class H>
__device__ __forceinline__ void leave(const cy_cuda_lstm_cell &cell,
                                      const cy_cuda_row &row, unsigned r, unsigned unit,
                                      float h, float c)
{
    size_t at = (size_t)r * cell.units + unit;
    cell.c[at] = c;
    put(static_cast<H *>(cell.h) + at, h);
    if (cell.y) cell.y[r * cell.y_stride + unit] = h;
    if (cell.step + 1 < row.steps) return;
    if (cell.last) cell.last[at] = h;
    if (row.write) {
        row.write[cell.h_offset + unit] = h;
        row.write[cell.c_offset + unit] = c;
    }
}

template <class H, gates GATES>
__global__ void __launch_bounds__(THREADS) lstm_cell(cy_cuda_lstm_cell cell)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned r = flat / cell.units, unit = flat - r * cell.units;
    if (r >= cell.row_count) return;
    const cy_cuda_row row = cell.rows[r];
    if (cell.step >= row.steps) {
        if (cell.y) cell.y[r * cell.y_stride + unit] = 0;
        return;
    }
    float4 z = reinterpret_cast<const float4 *>(cell.z + r * cell.z_stride)[unit];
    if (cell.bias) {
        float4 bias = reinterpret_cast<const float4 *>(cell.bias)[unit];
        z.x += bias.x;
        z.y += bias.y;
        z.z += bias.z;
        z.w += bias.w;
    }
    float c = c_before(cell, row, (size_t)r * cell.units + unit, unit), h;
    if (GATES == GATES_USUAL) {
        c = fmaf(cy::sigmoid(z.y), c, cy::sigmoid(z.x) * tanhf(z.z));
        h = cy::sigmoid(z.w) * tanhf(c);
    } else {
        c = fmaf(cy::activate(cell.recurrent_activation, z.y), c,
                 cy::activate(cell.recurrent_activation, z.x) *
                     cy::activate(cell.activation, z.z));
        h = cy::activate(cell.recurrent_activation, z.w) *
            cy::activate(cell.activation, c);
    }
    leave<H>(cell, row, r, unit, h, c);
}

/* One block a row, for activations that span it. z is scratch; the i gates' place takes activation(c). */
template <class H>
__global__ void __launch_bounds__(THREADS) lstm_cell_rows(cy_cuda_lstm_cell cell)
{
    unsigned r = blockIdx.x, units = cell.units;
    const cy_cuda_row row = cell.rows[r];
    if (cell.step >= row.steps) {
        if (cell.y)
            for (unsigned unit = threadIdx.x; unit < units; unit += THREADS)
                cell.y[r * cell.y_stride + unit] = 0;
        return;
    }
    float *z = cell.z + r * cell.z_stride; /* [units][4] */
    if (cell.bias)
        for (unsigned unit = threadIdx.x; unit < units; unit += THREADS)
            for (unsigned gate = 0; gate < 4; gate++)
                z[4 * unit + gate] += cell.bias[4 * unit + gate];
    for (unsigned gate = 0; gate < 4; gate++)
        cy::activate_row(gate == 2 ? cell.activation : cell.recurrent_activation,
                         z + gate, 4, units);
    size_t first = (size_t)r * units;
    for (unsigned unit = threadIdx.x; unit < units; unit += THREADS) {
        float *gate = z + 4 * unit;
        float c =
            fmaf(gate[1], c_before(cell, row, first + unit, unit), gate[0] * gate[2]);
        cell.c[first + unit] = c;
        gate[0] = c;
    }
    cy::activate_row(cell.activation, z, 4, units);
    for (unsigned unit = threadIdx.x; unit < units; unit += THREADS)
        leave<H>(cell, row, r, unit, z[4 * unit + 3] * z[4 * unit], cell.c[first + unit]);
}

template <class H>
__global__ void __launch_bounds__(THREADS) lstm_gather(cy_cuda_lstm_gather gather)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    unsigned r = flat / gather.units, unit = flat - r * gather.units;
    if (r >= gather.row_count) return;
    const cy_cuda_row row = gather.rows[r];
    if (row.steps == 0 || row.flags & CY_CUDA_ROW_CONTINUES) return;
    put(static_cast<H *>(gather.h) + (size_t)r * gather.units + unit,
        row.read ? row.read[gather.h_offset + unit] : 0);
}

/* Blocks of THREADS for rows * units threads; 0: more than the kernels can index. */
unsigned flat_blocks(unsigned rows, unsigned units)
{
    unsigned long long threads = (unsigned long long)rows * units;
    return threads > 0x7fffffffu ? 0 : (unsigned)((threads + THREADS - 1) / THREADS);
}

template <class H>
cudaError_t launch_cell(const cy_cuda_lstm_cell &cell, unsigned blocks,
                        cudaStream_t cuda_stream)
{
    if (cy::spans_row(cell.activation) || cy::spans_row(cell.recurrent_activation))
        return dev::launch(lstm_cell_rows<H>,
                           {dim3(cell.row_count), dim3(THREADS), 0, 0, 0}, cuda_stream,
                           cell);
    bool usual =
        cell.activation == CY_ACT_TANH && cell.recurrent_activation == CY_ACT_SIGMOID;
    return dev::launch(usual ? lstm_cell<H, GATES_USUAL> : lstm_cell<H, GATES_ANY>,
                       {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream, cell);
}

} // namespace

extern "C" cudaError_t cy_cuda_lstm_cell_launch(const cy_cuda_lstm_cell *cell,
                                                cudaStream_t cuda_stream)
{
    unsigned blocks = flat_blocks(cell->row_count, cell->units);
    if (blocks == 0 || cell->z_stride % 4) return cudaErrorInvalidValue;
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

extern "C" cudaError_t cy_cuda_lstm_gather_launch(const cy_cuda_lstm_gather *gather,
                                                  cudaStream_t cuda_stream)
{
    unsigned blocks = flat_blocks(gather->row_count, gather->units);
    if (blocks == 0) return cudaErrorInvalidValue;
    dev::launch_shape shape = {dim3(blocks), dim3(THREADS), 0, 0, 0};
    switch (gather->h_type) {
    case CY_CUDA_F32:
        return dev::launch(lstm_gather<float>, shape, cuda_stream, *gather);
    case CY_CUDA_BF16:
        return dev::launch(lstm_gather<__nv_bfloat16>, shape, cuda_stream, *gather);
    case CY_CUDA_F16:
        return dev::launch(lstm_gather<__half>, shape, cuda_stream, *gather);
    }
    return cudaErrorInvalidValue;
}
