/* Vectors of 8 floats: AVX2 and FMA under the names that the templates (*_tmpl.h) use. */
#ifndef CY_KERNELS_CPU_VEC_AVX2_H
#define CY_KERNELS_CPU_VEC_AVX2_H

#include <immintrin.h>

#define V_LANES 8

/* Rows of a tile: 3 rows x 4 vectors are 12 of the 16 registers; 3 hold the rows' values, 1 the
 * weights. */
#define V_TILE_ROWS 3

typedef __m256 v_f32;
typedef __m256i v_i32;

#define V_INLINE static inline __attribute__((always_inline))

V_INLINE v_f32 v_load(const float *p) /* any alignment */
{
    return _mm256_loadu_ps(p);
}

V_INLINE void v_store(float *p, v_f32 a)
{
    _mm256_storeu_ps(p, a);
}

V_INLINE v_f32 v_set(float a)
{
    return _mm256_set1_ps(a);
}

V_INLINE v_f32 v_add(v_f32 a, v_f32 b)
{
    return _mm256_add_ps(a, b);
}

V_INLINE v_f32 v_sub(v_f32 a, v_f32 b)
{
    return _mm256_sub_ps(a, b);
}

V_INLINE v_f32 v_mul(v_f32 a, v_f32 b)
{
    return _mm256_mul_ps(a, b);
}

V_INLINE v_f32 v_div(v_f32 a, v_f32 b)
{
    return _mm256_div_ps(a, b);
}

V_INLINE v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c) /* a * b + c, rounded once */
{
    return _mm256_fmadd_ps(a, b, c);
}

V_INLINE v_f32 v_fnma(v_f32 a, v_f32 b, v_f32 c) /* c - a * b, rounded once */
{
    return _mm256_fnmadd_ps(a, b, c);
}

/* The larger of the two; a NaN in b comes through (the instruction returns its second operand). */
V_INLINE v_f32 v_max_keeping_nan(float a, v_f32 b)
{
    return _mm256_max_ps(_mm256_set1_ps(a), b);
}

V_INLINE v_f32 v_negative_abs(v_f32 a)
{
    return _mm256_or_ps(a, _mm256_set1_ps(-0.0f));
}

/* |a| with the sign of b; a is not negative. */
V_INLINE v_f32 v_with_sign(v_f32 a, v_f32 b)
{
    return _mm256_or_ps(a, _mm256_and_ps(b, _mm256_set1_ps(-0.0f)));
}

V_INLINE v_f32 v_select_below_zero(v_f32 x, v_f32 below, v_f32 otherwise)
{
    return _mm256_blendv_ps(otherwise, below,
                            _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}

V_INLINE v_i32 v_bits(v_f32 a)
{
    return _mm256_castps_si256(a);
}

V_INLINE v_i32 v_sub_i32(v_i32 a, v_i32 b)
{
    return _mm256_sub_epi32(a, b);
}

V_INLINE v_i32 v_halve_u32(v_i32 a)
{
    return _mm256_srli_epi32(a, 1);
}

/* 2^n for the integers n in -126 .. 127; only the low 9 bits of n matter. */
V_INLINE v_f32 v_power_of_2(v_i32 n)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* 2^-n for the integers n in -127 .. 126. */
V_INLINE v_f32 v_power_of_half(v_i32 n)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_sub_epi32(_mm256_set1_epi32(127), n), 23));
}

#endif
