/* Products of few rows, in the order of cy_cuda_product: the depth is cut into at most 32 slices, a thread sums one
 * slice for a group of WIDTH columns and up to four rows, and the slices' sums are added first to last.
 *
 *     block      groups * 32 threads: thread t has group t % groups and slice t / groups
 *     b          [depth][columns]: the groups of one k are contiguous, and each number is read once a block
 *     staged     [row][slice][36] floats: the rows' operands, 32 numbers of every slice at a time; the 4 beyond
 *                put neighbouring slices four banks apart
 *     partial    [slice][row][group][WIDTH] floats
 *
 * b is what such a product costs, and it does not wait for the rows: a thread asks for its next eight groups of
 * columns before it multiplies the last eight, and for the first eight before the rows are staged, so a block of 256
 * threads has up to 64 KB under way, which is what an SM of an H200 needs at 700 ns and 73 bytes a ns (its share of
 * L2; predicted, not measured). A row's bits come from its own numbers alone: rows that rest are left out, not
 * multiplied by zero. */
#ifndef CY_KERNELS_CUDA_SLICES_CUH
#define CY_KERNELS_CUDA_SLICES_CUH

#include "kernels/cuda/operands.cuh"

namespace cy
{

enum { SLICES = 32, SLICE_ROWS = 4, STAGED = 32, STAGED_PITCH = STAGED + 4, AHEAD = 8 };
enum { STAGED_FLOATS = SLICE_ROWS * SLICES * STAGED_PITCH };

/* WIDTH neighbouring numbers as they lie, read with one load: aligned to all of them. */
template <class H, unsigned WIDTH> struct neighbours {
    H raw;

    __device__ __forceinline__ void load(const H *from)
    {
        raw = dev::load_read_only(from);
    }
    __device__ __forceinline__ void unpack(float (&values)[1]) const
    {
        values[0] = to_float(raw);
    }
};

template <> struct neighbours<float, 4> {
    float4 raw;

    __device__ __forceinline__ void load(const float *from)
    {
        raw = dev::load_read_only(reinterpret_cast<const float4 *>(from));
    }
    __device__ __forceinline__ void unpack(float (&values)[4]) const
    {
        values[0] = raw.x, values[1] = raw.y, values[2] = raw.z, values[3] = raw.w;
    }
};

__device__ __forceinline__ float2 to_floats(const __nv_bfloat162 &pair)
{
    return __bfloat1622float2(pair);
}

__device__ __forceinline__ float2 to_floats(const __half2 &pair)
{
    return __half22float2(pair);
}

template <class H, class PAIR> struct four_halves {
    uint2 raw;

    __device__ __forceinline__ void load(const H *from)
    {
        raw = dev::load_read_only(reinterpret_cast<const uint2 *>(from));
    }
    __device__ __forceinline__ void unpack(float (&values)[4]) const
    {
        float2 low = to_floats(reinterpret_cast<const PAIR &>(raw.x));
        float2 high = to_floats(reinterpret_cast<const PAIR &>(raw.y));
        values[0] = low.x, values[1] = low.y, values[2] = high.x, values[3] = high.y;
    }
};

template <>
struct neighbours<__nv_bfloat16, 4> : four_halves<__nv_bfloat16, __nv_bfloat162> {
};

template <> struct neighbours<__half, 4> : four_halves<__half, __half2> {
};

template <class H>
__device__ __forceinline__ float operand_at(const operand &row, unsigned k)
{
    H rounded;
    put(&rounded, row.data ? load(row.type, row.data, k) : 0);
    return to_float(rounded);
}

/* The rows' numbers [begin, begin + STAGED) of every slice. */
template <class H>
__device__ __forceinline__ void stage(const operand (&rows)[SLICE_ROWS], unsigned active,
                                      unsigned depth, unsigned begin, float *staged)
{
    unsigned length = cy_cuda_slice(depth);
    for (unsigned e = threadIdx.x; e < SLICES * STAGED; e += blockDim.x) {
        unsigned slice = e / STAGED, i = e % STAGED;
        unsigned k = slice * length + begin + i;
        if (begin + i >= length || k >= depth) continue;
#pragma unroll
        for (unsigned r = 0; r < SLICE_ROWS; r++)
            if (active >> r & 1)
                staged[(r * SLICES + slice) * STAGED_PITCH + i] =
                    operand_at<H>(rows[r], k);
    }
}

/* Sums of this thread's slice, of the active rows, to partial; by the whole block, with a barrier before
 * anybody may add them up. columns is a multiple of WIDTH; column, this thread's first, may lie beyond. */
template <class H, unsigned WIDTH>
__device__ __forceinline__ void
sum_slices(const operand (&rows)[SLICE_ROWS], unsigned active, unsigned depth, const H *b,
           unsigned columns, unsigned column, float *staged, float *partial)
{
    unsigned groups = blockDim.x / SLICES, group = threadIdx.x % groups;
    unsigned slice = threadIdx.x / groups, length = cy_cuda_slice(depth);
    unsigned first = slice * length, count = 0; /* of this thread's numbers */
    if (column < columns && first < depth)
        count = depth - first < length ? depth - first : length;
    const H *from = b + (size_t)first * columns + column;
    float sum[SLICE_ROWS][WIDTH] = {};
    neighbours<H, WIDTH> ahead[AHEAD] = {};
#pragma unroll
    for (unsigned j = 0; j < AHEAD; j++)
        if (j < count) ahead[j].load(from + (size_t)j * columns);
    for (unsigned begin = 0; begin < length; begin += STAGED) {
        if (begin > 0) dev::sync_block(); /* everybody is through with what is staged */
        stage<H>(rows, active, depth, begin, staged);
        dev::sync_block();
        for (unsigned i = begin; i < begin + STAGED && i < length; i += AHEAD) {
            float values[AHEAD][WIDTH];
#pragma unroll
            for (unsigned j = 0; j < AHEAD; j++) {
                ahead[j].unpack(values[j]);
                if (i + AHEAD + j < count)
                    ahead[j].load(from + (size_t)(i + AHEAD + j) * columns);
            }
#pragma unroll
            for (unsigned r = 0; r < SLICE_ROWS; r++) {
                if (!(active >> r & 1)) continue;
                const float4 *four = reinterpret_cast<const float4 *>(
                    staged + (r * SLICES + slice) * STAGED_PITCH + i - begin);
                float4 low = four[0], high = four[1];
                const float a[AHEAD] = {low.x,  low.y,  low.z,  low.w,
                                        high.x, high.y, high.z, high.w};
#pragma unroll
                for (unsigned j = 0; j < AHEAD; j++) {
                    if (i + j >= count) continue;
#pragma unroll
                    for (unsigned n = 0; n < WIDTH; n++)
                        sum[r][n] = fmaf(a[j], values[j][n], sum[r][n]);
                }
            }
        }
    }
#pragma unroll
    for (unsigned r = 0; r < SLICE_ROWS; r++)
#pragma unroll
        for (unsigned n = 0; n < WIDTH; n++)
            if (active >> r & 1)
                partial[((slice * SLICE_ROWS + r) * groups + group) * WIDTH + n] =
                    sum[r][n];
    dev::sync_block();
}

/* sum += the slices of row r and a group, first to last. */
template <unsigned WIDTH>
__device__ __forceinline__ void add_slices(const float *partial, unsigned depth,
                                           unsigned r, unsigned group,
                                           float (&sum)[WIDTH])
{
    unsigned groups = blockDim.x / SLICES, length = cy_cuda_slice(depth);
    for (unsigned slice = 0; slice * length < depth; slice++)
#pragma unroll
        for (unsigned n = 0; n < WIDTH; n++)
            sum[n] += partial[((slice * SLICE_ROWS + r) * groups + group) * WIDTH + n];
}

} // namespace cy

#endif
