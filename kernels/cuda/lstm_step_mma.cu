/* A whole LSTM step of some rows in one kernel on tensor cores: bf16 and f16 operands, sums and the cell in float.
 *
 *     z' = z or 0;  z'' = z' + [x; h] * [kernel; recurrent];  c, h from z'' + bias by the cell's code (cell.cuh)
 *
 * Layout: the weights are those of lstm_step, [k][unit][4]; nothing is packed again. A block takes 8 units, 32 columns
 * of 64 contiguous bytes, and all of k; the products are turned round, so that a warp's 16 x 16 matrix A is 16 columns
 * (4 units, 4 gates each) by 16 numbers of k, and B is those numbers of 8 rows:
 *
 *     D [16 columns][8 rows]  +=  A [16 columns][16 k]  *  B [16 k][8 rows]        mma.m16n8k16
 *
 *     A    copied 32 k at a time to shared memory, up to five such tiles a warp under way, and read by ldmatrix.trans.
 *          Piece p (8 columns, 16 bytes) of row k lies at p ^ (k / 8 % 4): the eight rows of a matrix lie in all banks.
 *     B    lane (row g, quarter q) copies k 8q .. 8q + 7 of its row along with the tile, for itself alone. Matrices
 *          take k in the order 8q .. 8q + 3 | 8q + 4 .. 8q + 7, the same for A, whose rows ldmatrix takes in any order.
 *
 * Rows: one that rests is zeros in B without being read, and costs a zero in h and in y. Eight, 16 or 32 rows a block;
 * if all of them rest, it ends before a weight is read. A row is a column of B and D, so that its sums have no part of
 * its neighbours. x and h of another type, or not aligned to 16 bytes, are loaded and rounded one by one.
 *
 * Why this shape: up to some 64 rows a step is the reading of its weights, and a separate cell kernel the writing and
 * reading of z and another launch. The four warps of a block split k (x, then h, in tiles), so that 40 KB of a block's
 * weights are under way at once, and nobody waits for another warp until the sums are added, warp 0 to 3.
 * Predicted on an H200, not measured, beside 1.3 us of a graph's node, z given, bf16: units 512, 8 rows 0.6 us; units
 * 1024, 8 rows 1.3 us, 32 rows 1.8 us, 64 rows (weights twice, h 128 times through L2) 3 us; units 2048, 8 rows 4.5 us.
 *
 * Launch: units / 8 x ceil(rows / 8, 16 or 32) blocks of 128 threads; 60, 72 or 96 KB of shared memory, which a
 * device must have been asked to allow (prepare).
 * Limits: sm_80 (it traps below: the plan must not choose it); bf16 or f16; tanh and sigmoid; units and features
 * multiples of 8; weights aligned as allocated.
 * rows * units * 4 and each weight matrix below 2^31.
 * Called by: src/cuda. Test: tests/emu/test_step_mma.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/cell.cuh"
#include "kernels/cuda/operands.cuh"

namespace
{

const unsigned THREADS = 128, WARPS = THREADS / 32;
const unsigned UNITS = 8, COLUMNS = 4 * UNITS; /* of a block */
const unsigned DEEP = 32, STAGES = 6; /* numbers of k in a tile, tiles of a warp */
const unsigned PITCH = COLUMNS + 4;   /* floats of a row of sums */

/* A piece of k of a warp: 32 x 32 weights, and every lane's own eight numbers of EIGHTS rows. */
template <unsigned EIGHTS> struct tile {
    uint4 weights[DEEP][COLUMNS / 8]; /* 8 columns each */
    uint4 rows[EIGHTS][32];
};

template <class H> struct kind;

template <> struct kind<__nv_bfloat16> {
    static const cy_cuda_type type = CY_CUDA_BF16;
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
    {
        dev::mma_bf16(d, a, b, d);
    }
};

template <> struct kind<__half> {
    static const cy_cuda_type type = CY_CUDA_F16;
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
    {
        dev::mma_f16(d, a, b, d);
    }
};

/* Where the `piece`-th 8 columns of row k lie in a tile. */
__device__ __forceinline__ unsigned turned_round(unsigned k, unsigned piece)
{
    return piece ^ (k / 8 % 4);
}

/* Numbers k .. k + 7 of a row, rounded; zeros from depth on, a multiple of 8. */
template <class H>
__device__ __forceinline__ uint4 eight_of(const cy::operand &row, unsigned k,
                                          unsigned depth)
{
    if (!row.data || k >= depth) return {0, 0, 0, 0};
    uint32_t words[4];
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
        alignas(4) H two[2];
        cy::put(&two[0], cy::load(row.type, row.data, k + 2 * i));
        cy::put(&two[1], cy::load(row.type, row.data, k + 2 * i + 1));
        words[i] = reinterpret_cast<const uint32_t &>(two);
    }
    return {words[0], words[1], words[2], words[3]};
}

/* The depth in tiles, those of x before those of h, and where a lane finds its part of each. */
template <class H, unsigned EIGHTS> struct depths {
    cy::operand x[EIGHTS], h[EIGHTS]; /* row lane / 4 of every eight; no data: it rests */
    const H *kernel, *recurrent;      /* at the block's first column */
    unsigned features, units, of_x;

    /* Asks for tile t: its weights, 16 of which a lane copies for all, and the lane's own numbers. */
    __device__ __forceinline__ void copy(unsigned t, tile<EIGHTS> &to) const
    {
        bool in_x = t < of_x;
        unsigned lane = threadIdx.x % 32, first_k = (in_x ? t : t - of_x) * DEEP;
        unsigned depth = in_x ? features : units;
        const H *from = in_x ? kernel : recurrent;
#pragma unroll
        for (unsigned i = 0; i < DEEP * COLUMNS / 8 / 32; i++) {
            unsigned k = lane / 4 + 8 * i, piece = lane % 4;
            bool inside = first_k + k < depth;
            dev::copy_async<16>(
                &to.weights[k][turned_round(k, piece)],
                from + (inside ? (size_t)(first_k + k) * 4 * units + 8 * piece : 0),
                inside ? 16 : 0);
        }
        unsigned k = first_k + lane % 4 * 8;
#pragma unroll
        for (unsigned n = 0; n < EIGHTS; n++) {
            const cy::operand row = {in_x ? x[n].data : h[n].data,
                                     in_x ? x[n].type : h[n].type};
            const H *eight = static_cast<const H *>(row.data) + k;
            if (row.data && k < depth && row.type == kind<H>::type &&
                reinterpret_cast<uintptr_t>(eight) % 16 == 0)
                dev::copy_async<16>(&to.rows[n][lane], eight);
            else to.rows[n][lane] = eight_of<H>(row, k, depth);
        }
        dev::copy_async_commit();
    }
};

/* d += one tile. */
template <class H, unsigned EIGHTS>
__device__ __forceinline__ void multiply(const tile<EIGHTS> &from,
                                         float (&d)[2][EIGHTS][4])
{
    unsigned lane = threadIdx.x % 32;
    uint4 rows[EIGHTS];
#pragma unroll
    for (unsigned n = 0; n < EIGHTS; n++)
        rows[n] = from.rows[n][lane];
#pragma unroll
    for (unsigned half = 0; half < 2; half++)
#pragma unroll
        for (unsigned m = 0; m < 2; m++) {
            /* Lane l gives row l % 8 of matrix l / 8: columns 0-7, then 8-15, of k 8q and 8q + 1, then of
             * 8q + 2 and 8q + 3; half 1: 4 further. */
            unsigned piece = 2 * m + lane / 8 % 2;
            unsigned k = lane % 8 / 2 * 8 + 4 * half + lane / 16 * 2 + lane % 2;
            uint32_t a[4];
            dev::load_matrix_x4_transposed(a, &from.weights[k][turned_round(k, piece)]);
#pragma unroll
            for (unsigned n = 0; n < EIGHTS; n++) {
                const uint32_t b[2] = {half ? rows[n].z : rows[n].x,
                                       half ? rows[n].w : rows[n].y};
                kind<H>::mma(d[m][n], a, b);
            }
        }
}

template <class H, unsigned EIGHTS>
__global__ void __launch_bounds__(THREADS, 1) lstm_step_mma(cy_cuda_lstm_step s)
{
    DEV_SHARED_DYNAMIC(shared);
    const cy_cuda_lstm_cell &cell = s.cell;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned first_row = blockIdx.y * 8 * EIGHTS, first_unit = blockIdx.x * UNITS;
    const size_t column = 4 * (size_t)first_unit;

    depths<H, EIGHTS> all = {};
    bool active = false;
#pragma unroll
    for (unsigned n = 0; n < EIGHTS; n++) {
        unsigned r = first_row + 8 * n + lane / 4;
        if (r >= cell.row_count) continue;
        const cy_cuda_row row = cell.rows[r];
        if (cell.step >= row.steps) continue;
        active = true;
        if (!cell.z) all.x[n] = cy::input_of<H>(s, row, r);
        all.h[n] = cy::h_of<H>(s, row, r);
    }
    /* What this thread finishes: a unit of one or two rows. */
    const unsigned items = (8 * EIGHTS * UNITS + THREADS - 1) / THREADS;
    const unsigned unit = first_unit + threadIdx.x % UNITS;
    float4 z[items] = {};
#pragma unroll
    for (unsigned i = 0; i < items; i++) {
        unsigned r = first_row + threadIdx.x / UNITS + i * THREADS / UNITS;
        if (r >= cell.row_count || r >= first_row + 8 * EIGHTS) continue;
        size_t at = (size_t)r * cell.units + unit;
        if (cell.step >= cell.rows[r].steps) {
            cy::put(static_cast<H *>(cell.h) + at, 0);
            cy::put_y<H>(s, cell.rows[r], unit, 0);
        } else if (cell.z) {
            z[i] = reinterpret_cast<const float4 *>(cell.z)[at];
        }
    }
    if (!dev::ballot(active)) return; /* all rows rest: the same in every warp */

    all.recurrent = static_cast<const H *>(s.recurrent) + column;
    all.units = cell.units;
    if (!cell.z) {
        all.kernel = static_cast<const H *>(s.kernel) + column;
        all.features = s.features;
        all.of_x = (s.features + DEEP - 1) / DEEP;
    }
    const unsigned count = all.of_x + (cell.units + DEEP - 1) / DEEP;
    const unsigned share = (count + WARPS - 1) / WARPS, begin = warp * share;
    const unsigned end = begin + share < count ? begin + share : count;
    tile<EIGHTS> *ring = reinterpret_cast<tile<EIGHTS> *>(shared) + warp * STAGES;
    for (unsigned i = 0; i < STAGES - 1; i++)
        if (begin + i < end) all.copy(begin + i, ring[i]);
        else dev::copy_async_commit();
    float d[2][EIGHTS][4] = {};
    unsigned stage = 0;
#pragma unroll 1
    for (unsigned t = begin; t < end; t++) {
        dev::copy_async_wait<STAGES - 2>();
        dev::sync_warp(); /* tile t is there, and all lanes are through with t - 1 */
        unsigned before = stage == 0 ? STAGES - 1 : stage - 1;
        if (t + STAGES - 1 < end) all.copy(t + STAGES - 1, ring[before]);
        else dev::copy_async_commit();
        multiply<H, EIGHTS>(ring[stage], d);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    /* The warps' sums, [warp][row][PITCH], where the tiles were. */
    dev::sync_block();
    float *sums = reinterpret_cast<float *>(shared);
#pragma unroll
    for (unsigned m = 0; m < 2; m++)
#pragma unroll
        for (unsigned n = 0; n < EIGHTS; n++)
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                unsigned row = 8 * n + lane % 4 * 2 + i % 2;
                unsigned of_m = lane / 4 + i / 2 * 8;
                sums[(warp * 8 * EIGHTS + row) * PITCH + 16 * m + of_m] = d[m][n][i];
            }
    dev::sync_block();
#pragma unroll
    for (unsigned i = 0; i < items; i++) {
        unsigned in_block = threadIdx.x / UNITS + i * THREADS / UNITS;
        unsigned r = first_row + in_block;
        if (r >= cell.row_count || in_block >= 8 * EIGHTS) continue;
        const cy_cuda_row row = cell.rows[r];
        if (cell.step >= row.steps) continue;
#pragma unroll
        for (unsigned w = 0; w < WARPS; w++) {
            float4 part = *reinterpret_cast<const float4 *>(
                &sums[(w * 8 * EIGHTS + in_block) * PITCH + threadIdx.x % UNITS * 4]);
            z[i].x += part.x;
            z[i].y += part.y;
            z[i].z += part.z;
            z[i].w += part.w;
        }
        cy::put_y<H>(s, row, unit,
                     cy::advance<H, cy::GATES_USUAL>(
                         cell, row, (size_t)r * cell.units + unit, unit, z[i]));
    }
}

template <unsigned EIGHTS> constexpr size_t shared_bytes()
{
    return WARPS * STAGES * sizeof(tile<EIGHTS>);
}

template <class H> cudaError_t prepare()
{
    cudaError_t error = dev::allow_shared(lstm_step_mma<H, 1>, (int)shared_bytes<1>());
    if (!error) error = dev::allow_shared(lstm_step_mma<H, 2>, (int)shared_bytes<2>());
    if (!error) error = dev::allow_shared(lstm_step_mma<H, 4>, (int)shared_bytes<4>());
    return error;
}

template <class H, unsigned EIGHTS>
cudaError_t launch_rows(const cy_cuda_lstm_step &s, cudaStream_t cuda_stream)
{
    dim3 grid(s.cell.units / UNITS, (s.cell.row_count + 8 * EIGHTS - 1) / (8 * EIGHTS));
    return dev::launch(lstm_step_mma<H, EIGHTS>,
                       {grid, dim3(THREADS), shared_bytes<EIGHTS>(), 0, 0}, cuda_stream,
                       s);
}

template <class H>
cudaError_t launch_step(const cy_cuda_lstm_step &s, cudaStream_t cuda_stream)
{
    unsigned rows = s.cell.row_count;
    return rows <= 8    ? launch_rows<H, 1>(s, cuda_stream)
           : rows <= 16 ? launch_rows<H, 2>(s, cuda_stream)
                        : launch_rows<H, 4>(s, cuda_stream);
}

} // namespace

extern "C" cudaError_t cy_cuda_lstm_step_mma_prepare(cy_cuda_type type)
{
    switch (type) {
    case CY_CUDA_BF16:
        return prepare<__nv_bfloat16>();
    case CY_CUDA_F16:
        return prepare<__half>();
    case CY_CUDA_F32:
        break;
    }
    return cudaErrorInvalidValue;
}

extern "C" cudaError_t cy_cuda_lstm_step_mma_launch(const cy_cuda_lstm_step *s,
                                                    cudaStream_t cuda_stream)
{
    if (!cy::step_possible(*s) || !cy::usual(s->cell) || s->cell.units % UNITS ||
        s->features % 8 || s->cell.row_count > 65535u * 32)
        return cudaErrorInvalidValue;
    switch (s->cell.h_type) {
    case CY_CUDA_BF16:
        return launch_step<__nv_bfloat16>(*s, cuda_stream);
    case CY_CUDA_F16:
        return launch_step<__half>(*s, cuda_stream);
    case CY_CUDA_F32:
        break;
    }
    return cudaErrorInvalidValue;
}
