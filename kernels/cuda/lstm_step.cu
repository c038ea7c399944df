/* A whole LSTM step of few rows in one kernel: z + h * recurrent, or x * kernel + h * recurrent, then the cell.
 *
 *     z' = z or x kernel;  z'' = z' + h recurrent;  c, h from z'' + bias as in lstm_cell.cu, by the same code (cell.cuh)
 *
 * Layout: both weight matrices are [k][unit][4], so that a thread reads the four gates of a unit with one load, and the
 * eight units of a block for one k are 128 contiguous bytes (64 in bf16 and f16, whole sectors either way).
 *
 *     block    8 units * 32 slices of k = 256 threads, up to four rows in registers     (slices.cuh)
 *     then     one thread a row and unit adds the slices' sums, x's before h's, and does the cell
 *
 * Order, and so bits: those of cy_cuda_product (x), cy_cuda_product (h, accumulating), cy_cuda_lstm_cell.
 *
 * Rows: one that rests is neither staged nor multiplied; it costs a zero in h and in y. Four that rest end the block
 * before a weight is read.
 *
 * Why this shape: with few rows a step is the reading of its weights, once a group of four rows: 4 * units *
 * (units + features) numbers through L2. Separate kernels would read and write z twice and pay three launches.
 * With fewer than 1024 units blocks take four units, so that there are as many blocks as SMs longer.
 * Predicted on an H200, not measured, recurrent part of one row, beside 1.3 us of a graph's node: units 512 float
 * 0.43 us, bf16 0.22 us; units 1024 float 1.7 us, bf16 0.9 us at L2's 9.7 TB/s; units 2048 float, 67 MB, 17 us at
 * HBM's 4.0 TB/s. From about 8 rows on the second reading of the weights and 128 multiply-adds a load
 * cost more than cuBLAS and a cell kernel.
 *
 * Launch: ceil(units / 8) x ceil(rows / 4) blocks of 256 threads (or / 4, 128 threads); 35 KB of shared memory.
 * Limits: rows * units, units * units, features * units below 2^29; rows to 262140.
 * Called by: src/cuda. Test: tests/emu/test_step.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/cell.cuh"
#include "kernels/cuda/operands.cuh"
#include "kernels/cuda/slices.cuh"

namespace
{

enum { THREADS = 256 };

template <class H, cy::gates GATES>
__global__ void __launch_bounds__(THREADS, 1) lstm_step(cy_cuda_lstm_step s)
{
    DEV_SHARED_ALIGNED(16, float, staged, [cy::STAGED_FLOATS]);
    DEV_SHARED_ALIGNED(16, float, partial, [THREADS * cy::SLICE_ROWS * 4]);
    const cy_cuda_lstm_cell &cell = s.cell;
    unsigned first_row = blockIdx.y * cy::SLICE_ROWS, active = 0;
    cy::operand x[cy::SLICE_ROWS], h[cy::SLICE_ROWS];
#pragma unroll
    for (unsigned r = 0; r < cy::SLICE_ROWS; r++) {
        x[r] = h[r] = {nullptr, CY_CUDA_F32};
        if (first_row + r >= cell.row_count) continue;
        const cy_cuda_row row = cell.rows[first_row + r];
        if (cell.step >= row.steps) continue;
        active |= 1u << r;
        if (!cell.z) x[r] = cy::input_of<H>(s, row, first_row + r);
        h[r] = cy::h_of<H>(s, row, first_row + r);
    }
    /* What this thread finishes, if anything: row r of the block's four. */
    unsigned groups = blockDim.x / cy::SLICES, group = threadIdx.x % groups;
    unsigned unit = blockIdx.x * groups + group, r = threadIdx.x / groups;
    bool finishes =
        r < cy::SLICE_ROWS && first_row + r < cell.row_count && unit < cell.units;
    size_t at = (size_t)(first_row + r) * cell.units + unit;
    if (finishes && !(active >> r & 1)) {
        cy::put(static_cast<H *>(cell.h) + at, 0);
        cy::put_y<H>(s, cell.rows[first_row + r], unit, 0);
        finishes = false;
    }
    if (!active) return;

    float z[4] = {};
    if (cell.z) {
        if (finishes) {
            float4 four = reinterpret_cast<const float4 *>(cell.z)[at];
            z[0] = four.x, z[1] = four.y, z[2] = four.z, z[3] = four.w;
        }
    } else {
        cy::sum_slices<H, 4>(x, active, s.features, static_cast<const H *>(s.kernel),
                             4 * cell.units, 4 * unit, staged, partial);
        if (finishes) cy::add_slices(partial, s.features, r, group, z);
        /* partial is written again only after the barrier behind the staging of h. */
    }
    cy::sum_slices<H, 4>(h, active, cell.units, static_cast<const H *>(s.recurrent),
                         4 * cell.units, 4 * unit, staged, partial);
    if (!finishes) return;
    cy::add_slices(partial, cell.units, r, group, z);
    const cy_cuda_row row = cell.rows[first_row + r];
    cy::put_y<H>(s, row, unit,
                 cy::advance<H, GATES>(cell, row, at, unit, {z[0], z[1], z[2], z[3]}));
}

template <class H>
cudaError_t launch_step(const cy_cuda_lstm_step &s, cudaStream_t cuda_stream)
{
    unsigned groups = s.cell.units >= 1024 ? 8 : 4;
    dim3 grid((s.cell.units + groups - 1) / groups,
              (s.cell.row_count + cy::SLICE_ROWS - 1) / cy::SLICE_ROWS);
    return dev::launch(cy::usual(s.cell) ? lstm_step<H, cy::GATES_USUAL>
                                         : lstm_step<H, cy::GATES_ANY>,
                       {grid, dim3(groups * cy::SLICES), 0, 0, 0}, cuda_stream, s);
}

} // namespace

extern "C" cudaError_t cy_cuda_lstm_step_launch(const cy_cuda_lstm_step *s,
                                                cudaStream_t cuda_stream)
{
    if (!cy::step_possible(*s) || s->cell.row_count > 65535u * cy::SLICE_ROWS)
        return cudaErrorInvalidValue;
    switch (s->cell.h_type) {
    case CY_CUDA_F32:
        return launch_step<float>(*s, cuda_stream);
    case CY_CUDA_BF16:
        return launch_step<__nv_bfloat16>(*s, cuda_stream);
    case CY_CUDA_F16:
        return launch_step<__half>(*s, cuda_stream);
    }
    return cudaErrorInvalidValue;
}
