/* out = a * b, or out += a * b, in an order that depends on the depth alone: the products of `exact`, where a row's
 * bits must not change with its neighbours, and products too small for a call of cuBLAS.
 *
 *     slice s of an element    fmaf for k = s L, s L + 1, ... from 0         L = cy_cuda_slice(depth), a multiple of 4
 *     the element              (out or 0) + slice 0 + slice 1 + ...
 *
 * Layout: all row-major, as they lie: a [rows][depth], b [depth][columns], float, bf16 or f16, which are made float
 * when they are loaded; the product of two such numbers loses nothing in a fused multiply-add.
 *
 * Why this shape: slices let up to 32 threads share one element, which few rows need, and a single thread with two
 * accumulators keep the same order, which many rows want. Two kernels:
 *
 *     product_few     up to 8 rows: slices.cuh. Bound by b: depth * columns * size at L2's 9.7 TB/s or HBM's 4.0.
 *     product_tiled   64 x 64 of out a block, or 32 x 64 where there would be fewer blocks than SMs; a thread has
 *                     4 x 4 (2 x 4) elements, each a slice's sum and a total. 16 numbers deep tiles of a and b go
 *                     through shared memory, double: the next is loaded into registers while the last is multiplied.
 *
 *     a_tile [k][row]   o o o o . . . .        b_tile [k][column]   one k is two 16-byte loads a thread
 *
 * Predicted on an H200, not measured: tiled, 16 multiply-adds for two 16-byte loads of shared memory, plus 16 adds
 * a slice: 20 TFLOP/s, so 1024 x 4096 x 1024 in 0.43 ms; few, 1 x 4096 x 1024 float from L2 in 1.8 us.
 *
 * Launch: 256 threads, blocks as above; 19 KB (35 KB for few) of shared memory.
 * Limits: fewer than 2^31 elements in each of a, b, out; b and out aligned as allocated, a to its numbers.
 * Called by: src/cuda. Test: tests/emu/test_product.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/slices.cuh"

namespace
{

enum { THREADS = 256, FEW_ROWS = 8, MULTIPROCESSORS = 132 };

/* ---- few rows ---- */

template <class H, unsigned WIDTH>
__global__ void __launch_bounds__(THREADS, 1) product_few(cy_cuda_product p)
{
    DEV_SHARED_ALIGNED(16, float, staged, [cy::STAGED_FLOATS]);
    DEV_SHARED_ALIGNED(16, float, partial, [THREADS * cy::SLICE_ROWS * WIDTH]);
    unsigned groups = THREADS / cy::SLICES, first_row = blockIdx.y * cy::SLICE_ROWS;
    unsigned column = (blockIdx.x * groups + threadIdx.x % groups) * WIDTH;
    unsigned active = 0;
    cy::operand rows[cy::SLICE_ROWS];
#pragma unroll
    for (unsigned r = 0; r < cy::SLICE_ROWS; r++) {
        if (first_row + r < p.rows) active |= 1u << r;
        rows[r].data = static_cast<const H *>(p.a) + (size_t)(first_row + r) * p.depth;
        rows[r].type = p.type;
    }
    cy::sum_slices<H, WIDTH>(rows, active, p.depth, static_cast<const H *>(p.b),
                             p.columns, column, staged, partial);
    unsigned r = threadIdx.x / groups;
    if (r >= cy::SLICE_ROWS || first_row + r >= p.rows || column >= p.columns) return;
    float *out = p.out + (size_t)(first_row + r) * p.columns + column, sum[WIDTH];
#pragma unroll
    for (unsigned n = 0; n < WIDTH; n++)
        sum[n] = p.accumulate ? out[n] : 0;
    cy::add_slices(partial, p.depth, r, threadIdx.x % groups, sum);
#pragma unroll
    for (unsigned n = 0; n < WIDTH; n++)
        out[n] = sum[n];
}

/* ---- tiles ---- */

const unsigned DEEP = 16, TILE_COLUMNS = 64;

template <unsigned M> struct tile_of_a {
    static const unsigned ROWS = 16 * M, PITCH = ROWS + 4;
    float at[DEEP][PITCH];
};

struct tile_of_b {
    float at[DEEP][TILE_COLUMNS];
};

/* What a thread brings of the next tiles; zeros outside, which nobody multiplies. */
template <class H, unsigned M> struct brought {
    float a[M], b[4];

    __device__ __forceinline__ void fetch(const cy_cuda_product &p, unsigned first_row,
                                          unsigned first_column, unsigned first_k)
    {
#pragma unroll
        for (unsigned i = 0; i < M; i++) {
            unsigned e = threadIdx.x + i * THREADS;
            unsigned row = first_row + e / DEEP, k = first_k + e % DEEP;
            a[i] =
                row < p.rows && k < p.depth
                    ? cy::to_float(static_cast<const H *>(p.a)[(size_t)row * p.depth + k])
                    : 0;
        }
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            unsigned e = threadIdx.x + i * THREADS;
            unsigned k = first_k + e / TILE_COLUMNS;
            unsigned column = first_column + e % TILE_COLUMNS;
            b[i] = k < p.depth && column < p.columns
                       ? cy::to_float(
                             static_cast<const H *>(p.b)[(size_t)k * p.columns + column])
                       : 0;
        }
    }

    __device__ __forceinline__ void leave(tile_of_a<M> &a_tile, tile_of_b &b_tile) const
    {
#pragma unroll
        for (unsigned i = 0; i < M; i++) {
            unsigned e = threadIdx.x + i * THREADS;
            a_tile.at[e % DEEP][e / DEEP] = a[i];
        }
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            unsigned e = threadIdx.x + i * THREADS;
            b_tile.at[e / TILE_COLUMNS][e % TILE_COLUMNS] = b[i];
        }
    }
};

__device__ __forceinline__ void read_shared(const float *from, float (&to)[4])
{
    float4 four = *reinterpret_cast<const float4 *>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

__device__ __forceinline__ void read_shared(const float *from, float (&to)[2])
{
    float2 two = *reinterpret_cast<const float2 *>(from);
    to[0] = two.x, to[1] = two.y;
}

/* A thread's M x 4 elements: the slice under way and the sum of those before. */
template <unsigned M> struct elements {
    float total[M][4], slice[M][4];
    unsigned in_slice; /* numbers, a multiple of 4 until the depth's end */

    __device__ __forceinline__ void end_slice()
    {
#pragma unroll
        for (unsigned m = 0; m < M; m++)
#pragma unroll
            for (unsigned n = 0; n < 4; n++) {
                total[m][n] += slice[m][n];
                slice[m][n] = 0;
            }
        in_slice = 0;
    }

    __device__ __forceinline__ void add(const float *a_row, const float *b_row)
    {
        float a[M], b[4];
        read_shared(a_row, a);
        read_shared(b_row, b);
#pragma unroll
        for (unsigned m = 0; m < M; m++)
#pragma unroll
            for (unsigned n = 0; n < 4; n++)
                slice[m][n] = fmaf(a[m], b[n], slice[m][n]);
    }

    /* One tile, of which `count` numbers count. */
    __device__ __forceinline__ void add_tile(const tile_of_a<M> &a_tile,
                                             const tile_of_b &b_tile, unsigned count,
                                             unsigned slice_length)
    {
        const float *a = &a_tile.at[0][threadIdx.x / 16 * M];
        const float *b = &b_tile.at[0][threadIdx.x % 16 * 4];
        if (count == DEEP) {
#pragma unroll
            for (unsigned k = 0; k < DEEP; k++) {
                add(a + k * tile_of_a<M>::PITCH, b + k * TILE_COLUMNS);
                if (k % 4 == 3 && (in_slice += 4) == slice_length) end_slice();
            }
            return;
        }
#pragma unroll 1
        for (unsigned k = 0; k < count; k++) {
            add(a + k * tile_of_a<M>::PITCH, b + k * TILE_COLUMNS);
            if (++in_slice == slice_length) end_slice();
        }
    }
};

template <class H, unsigned M>
__global__ void __launch_bounds__(THREADS) product_tiled(cy_cuda_product p)
{
    DEV_SHARED_ALIGNED(16, tile_of_a<M>, a_tile, [2]);
    DEV_SHARED_ALIGNED(16, tile_of_b, b_tile, [2]);
    unsigned first_row = blockIdx.x * tile_of_a<M>::ROWS;
    unsigned first_column = blockIdx.y * TILE_COLUMNS;
    unsigned row = first_row + threadIdx.x / 16 * M;
    unsigned column = first_column + threadIdx.x % 16 * 4;
    unsigned slice_length = cy_cuda_slice(p.depth);
    elements<M> mine = {};
    if (p.accumulate) {
#pragma unroll
        for (unsigned m = 0; m < M; m++)
#pragma unroll
            for (unsigned n = 0; n < 4; n++)
                if (row + m < p.rows && column + n < p.columns)
                    mine.total[m][n] = p.out[(size_t)(row + m) * p.columns + column + n];
    }
    brought<H, M> next;
    next.fetch(p, first_row, first_column, 0);
    next.leave(a_tile[0], b_tile[0]);
    dev::sync_block();
    unsigned now = 0;
    for (unsigned k = 0; k < p.depth; k += DEEP, now ^= 1) {
        bool more = p.depth - k > DEEP;
        if (more) next.fetch(p, first_row, first_column, k + DEEP);
        mine.add_tile(a_tile[now], b_tile[now], more ? DEEP : p.depth - k, slice_length);
        if (!more) break;
        next.leave(a_tile[now ^ 1], b_tile[now ^ 1]);
        dev::sync_block(); /* and everybody is through with the other tiles */
    }
    if (mine.in_slice) mine.end_slice();
#pragma unroll
    for (unsigned m = 0; m < M; m++)
#pragma unroll
        for (unsigned n = 0; n < 4; n++)
            if (row + m < p.rows && column + n < p.columns)
                p.out[(size_t)(row + m) * p.columns + column + n] = mine.total[m][n];
}

unsigned over(unsigned n, unsigned by)
{
    return n / by + (n % by != 0);
}

/* Rows that fill the device with tiles of 64 rows, one of which may be of a single row. */
unsigned large_rows(unsigned columns)
{
    return (over(MULTIPROCESSORS, over(columns, TILE_COLUMNS)) - 1) * 64 + 1;
}

template <class H>
cudaError_t launch_product(const cy_cuda_product &p, cudaStream_t cuda_stream)
{
    const unsigned groups = THREADS / cy::SLICES;
    if (p.rows <= FEW_ROWS) {
        bool fours = p.columns % 4 == 0;
        dim3 grid(over(p.columns, fours ? 4 * groups : groups),
                  over(p.rows, cy::SLICE_ROWS));
        return dev::launch(fours ? product_few<H, 4> : product_few<H, 1>,
                           {grid, dim3(THREADS), 0, 0, 0}, cuda_stream, p);
    }
    unsigned across = over(p.columns, TILE_COLUMNS);
    if (across > 65535) return cudaErrorInvalidValue;
    bool large = p.rows >= large_rows(p.columns);
    return dev::launch(
        large ? product_tiled<H, 4> : product_tiled<H, 2>,
        {dim3(over(p.rows, large ? 64 : 32), across), dim3(THREADS), 0, 0, 0},
        cuda_stream, p);
}

} // namespace

extern "C" unsigned cy_cuda_product_more_rows(unsigned rows, unsigned columns)
{
    if (rows <= FEW_ROWS) return FEW_ROWS + 1;
    return rows < large_rows(columns) ? large_rows(columns) : 0;
}

extern "C" cudaError_t cy_cuda_product_launch(const cy_cuda_product *p,
                                              cudaStream_t cuda_stream)
{
    if (!cy::flat_blocks(THREADS, p->rows, p->columns) ||
        !cy::flat_blocks(THREADS, p->rows, p->depth) ||
        !cy::flat_blocks(THREADS, p->depth, p->columns))
        return cudaErrorInvalidValue;
    switch (p->type) {
    case CY_CUDA_F32:
        return launch_product<float>(*p, cuda_stream);
    case CY_CUDA_BF16:
        return launch_product<__nv_bfloat16>(*p, cuda_stream);
    case CY_CUDA_F16:
        return launch_product<__half>(*p, cuda_stream);
    }
    return cudaErrorInvalidValue;
}
