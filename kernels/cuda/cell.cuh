/* The LSTM cell's arithmetic and its traffic, for every kernel that ends in one: the bits of a step do not
 * depend on the kernel because this is the one place where they are made. */
#ifndef CY_KERNELS_CUDA_CELL_CUH
#define CY_KERNELS_CUDA_CELL_CUH

#include "kernels/cuda/activate.cuh"
#include "kernels/cuda/ports.cuh"

namespace cy
{

enum gates { GATES_USUAL /* tanh and sigmoid */, GATES_ANY };

inline bool usual(const cy_cuda_lstm_cell &cell)
{
    return cell.activation == CY_ACT_TANH && cell.recurrent_activation == CY_ACT_SIGMOID;
}

/* A row's c before this step; at = row * units + unit. */
__device__ __forceinline__ float
c_before(const cy_cuda_lstm_cell &cell, const cy_cuda_row &row, size_t at, unsigned unit)
{
    if (cell.step > 0 || row.flags & CY_CUDA_ROW_CONTINUES) return cell.c[at];
    return row.read ? row.read[cell.c_offset + unit] : 0;
}

/* Where the new h and c go. */
template <class H>
__device__ __forceinline__ void leave(const cy_cuda_lstm_cell &cell,
                                      const cy_cuda_row &row, size_t at, unsigned unit,
                                      float h, float c)
{
    cell.c[at] = c;
    put(static_cast<H *>(cell.h) + at, h);
    bool row_ends = cell.step + 1 == row.steps;
    if (row_ends || cell.step + 1 == cell.step_count) cell.last[at] = h;
    if (row_ends && row.write) {
        row.write[cell.h_offset + unit] = h;
        row.write[cell.c_offset + unit] = c;
    }
}

/* From a unit's finished products to its new c and h; returns h, which leave has put everywhere. */
template <class H, gates GATES>
__device__ __forceinline__ float advance(const cy_cuda_lstm_cell &cell,
                                         const cy_cuda_row &row, size_t at, unsigned unit,
                                         float4 z)
{
    if (cell.bias) {
        float4 bias = reinterpret_cast<const float4 *>(cell.bias)[unit];
        z.x += bias.x;
        z.y += bias.y;
        z.z += bias.z;
        z.w += bias.w;
    }
    float c = c_before(cell, row, at, unit), h;
    if (GATES == GATES_USUAL) {
        c = fmaf(cy_sigmoid(z.y), c, cy_sigmoid(z.x) * tanhf(z.z));
        h = cy_sigmoid(z.w) * tanhf(c);
    } else {
        c = fmaf(cy_activate(cell.recurrent_activation, z.y), c,
                 cy_activate(cell.recurrent_activation, z.x) *
                     cy_activate(cell.activation, z.z));
        h = cy_activate(cell.recurrent_activation, z.w) * cy_activate(cell.activation, c);
    }
    leave<H>(cell, row, at, unit, h, c);
    return h;
}

} // namespace cy

#endif
