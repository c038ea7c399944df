/* See fake_product.h. The loops keep a tile of c, 4 columns of 256, in the first cache while a streams by;
 * what a compiler for plain x86-64 would call a function for, a fused multiply-add, is compiled for
 * processors that have it as well. Both give the same bits. */
#include "fake_product.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <vector>

namespace fake
{
namespace
{

enum { TILE_M = 256, TILE_N = 4 };

/* To 10 bits of mantissa, to nearest, ties to even. */
float to_tf32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7f800000u) == 0x7f800000u) return value;
    bits += 0xfffu + (bits >> 13 & 1);
    bits &= ~0x1fffu;
    memcpy(&value, &bits, 4);
    return value;
}

float load(const void *data, size_t index, Operand operand)
{
    switch (operand) {
    case Operand::BF16:
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[index]);
    case Operand::F16:
        return __half2float(static_cast<const __half *>(data)[index]);
    case Operand::TF32:
        return to_tf32(static_cast<const float *>(data)[index]);
    default:
        return static_cast<const float *>(data)[index];
    }
}

/* A matrix as float, [columns][rows]; the caller's own memory if it is that already. */
const float *as_float(const Matrix &matrix, Operand operand, unsigned rows,
                      unsigned columns, std::vector<float> *copy, size_t *stride)
{
    if (operand == Operand::F32 && matrix.layout == Layout::PLAIN) {
        *stride = matrix.stride;
        return static_cast<const float *>(matrix.data);
    }
    copy->resize((size_t)rows * columns);
    *stride = rows;
    bool plain = matrix.layout == Layout::PLAIN;
    for (unsigned outer = 0; outer < (plain ? columns : rows); outer++)
        for (unsigned inner = 0; inner < (plain ? rows : columns); inner++)
            (*copy)[plain ? (size_t)outer * rows + inner : (size_t)inner * rows + outer] =
                load(matrix.data, outer * matrix.stride + inner, operand);
    return copy->data();
}

struct Tile {
    const float *a, *b; /* at the tile's first row and first column */
    size_t a_stride, b_stride;
    unsigned rows, columns;
};

/* sum[column][row] over k from first to last. Copies and __restrict, because kernels are compiled without
 * strict aliasing and a store through `to` could else change the tile. */
template <bool FUSED>
inline __attribute__((always_inline)) void
add_up(const Tile t, unsigned first, unsigned last, float sum[TILE_N][TILE_M])
{
    for (unsigned column = 0; column < TILE_N; column++)
        for (unsigned row = 0; row < TILE_M; row++)
            sum[column][row] = 0;
    for (unsigned k = first; k < last; k++) {
        const float *__restrict a = t.a + k * t.a_stride;
        for (unsigned column = 0; column < t.columns; column++) {
            const float b = t.b[column * t.b_stride + k];
            float *__restrict to = sum[column];
            for (unsigned row = 0; row < t.rows; row++)
                to[row] =
                    FUSED ? __builtin_fmaf(a[row], b, to[row]) : a[row] * b + to[row];
        }
    }
}

void add_up_plain(const Tile &t, unsigned first, unsigned last, bool fused,
                  float sum[TILE_N][TILE_M])
{
    if (fused) add_up<true>(t, first, last, sum);
    else add_up<false>(t, first, last, sum);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) void add_up_avx2(const Tile &t, unsigned first,
                                                     unsigned last, bool fused,
                                                     float sum[TILE_N][TILE_M])
{
    if (fused) add_up<true>(t, first, last, sum);
    else add_up<false>(t, first, last, sum);
}
#endif

auto choose()
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return add_up_avx2;
#endif
    return add_up_plain;
}

} // namespace

size_t operand_bytes(Operand operand)
{
    return operand == Operand::BF16 || operand == Operand::F16 ? 2 : 4;
}

SumOrder sum_order(unsigned m, unsigned n, unsigned k, unsigned batch)
{
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (unsigned value : {m, n, k, batch}) {
        hash = (hash ^ value) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    SumOrder order;
    order.slices = std::min(1u << hash % 4, std::max(k, 1u));
    order.first = (unsigned)(hash >> 8) % order.slices;
    order.fused = hash >> 16 & 1;
    return order;
}

void product(const Product &p)
{
    static const auto add_up_here = choose();
    const SumOrder order = sum_order(p.m, p.n, p.k, p.batch);
    std::vector<float> a_copy, b_copy;
    Tile tile;
    const float *a = as_float(p.a, p.operand, p.m, p.k, &a_copy, &tile.a_stride);
    const float *b = as_float(p.b, p.operand, p.k, p.n, &b_copy, &tile.b_stride);
    float part[TILE_N][TILE_M], sum[TILE_N][TILE_M];
    for (unsigned row = 0; row < p.m; row += TILE_M)
        for (unsigned column = 0; column < p.n; column += TILE_N) {
            tile.a = a + row;
            tile.b = b + column * tile.b_stride;
            tile.rows = std::min(p.m - row, (unsigned)TILE_M);
            tile.columns = std::min(p.n - column, (unsigned)TILE_N);
            for (unsigned i = 0; i < order.slices; i++) {
                unsigned slice = (order.first + i) % order.slices;
                unsigned begin = (unsigned)((uint64_t)p.k * slice / order.slices);
                unsigned end = (unsigned)((uint64_t)p.k * (slice + 1) / order.slices);
                add_up_here(tile, begin, end, order.fused, i ? part : sum);
                for (unsigned c = 0; i && c < tile.columns; c++)
                    for (unsigned r = 0; r < tile.rows; r++)
                        sum[c][r] += part[c][r];
            }
            for (unsigned c = 0; c < tile.columns; c++) {
                float *to = p.c + (column + c) * p.c_stride + row;
                for (unsigned r = 0; r < tile.rows; r++) {
                    float value = p.alpha * sum[c][r];
                    to[r] = p.beta == 0 ? value : value + p.beta * to[r];
                }
            }
        }
}

} // namespace fake
