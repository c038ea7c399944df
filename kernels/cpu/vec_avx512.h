/* Vectors of 16 floats: AVX-512 F and DQ under the names that the templates (*_tmpl.h) use. */
#ifndef CY_KERNELS_CPU_VEC_AVX512_H
#define CY_KERNELS_CPU_VEC_AVX512_H

#include <immintrin.h>

#define V_LANES 16

/* Rows of a tile: 6 rows x 4 vectors are 24 of the 32 registers; 4 hold the weights. */
#define V_TILE_ROWS 6

typedef __m512 v_f32;
typedef __m512i v_i32;

#define V_INLINE static inline __attribute__((always_inline))

V_INLINE v_f32 v_load(const float *p) /* any alignment */
{
    return _mm512_loadu_ps(p);
}

V_INLINE void v_store(float *p, v_f32 a)
{
    _mm512_storeu_ps(p, a);
}

V_INLINE v_f32 v_set(float a)
{
    return _mm512_set1_ps(a);
}

V_INLINE v_f32 v_add(v_f32 a, v_f32 b)
{
    return _mm512_add_ps(a, b);
}

V_INLINE v_f32 v_sub(v_f32 a, v_f32 b)
{
    return _mm512_sub_ps(a, b);
}

V_INLINE v_f32 v_mul(v_f32 a, v_f32 b)
{
    return _mm512_mul_ps(a, b);
}

V_INLINE v_f32 v_div(v_f32 a, v_f32 b)
{
    return _mm512_div_ps(a, b);
}

V_INLINE v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c) /* a * b + c, rounded once */
{
    return _mm512_fmadd_ps(a, b, c);
}

V_INLINE v_f32 v_fnma(v_f32 a, v_f32 b, v_f32 c) /* c - a * b, rounded once */
{
    return _mm512_fnmadd_ps(a, b, c);
}

/* The larger of the two; a NaN in b comes through (the instruction returns its second operand). */
V_INLINE v_f32 v_max_keeping_nan(float a, v_f32 b)
{
    return _mm512_max_ps(_mm512_set1_ps(a), b);
}

V_INLINE v_f32 v_negative_abs(v_f32 a)
{
    return _mm512_or_ps(a, _mm512_set1_ps(-0.0f));
}

/* |a| with the sign of b; a is not negative. */
V_INLINE v_f32 v_with_sign(v_f32 a, v_f32 b)
{
    return _mm512_or_ps(a, _mm512_and_ps(b, _mm512_set1_ps(-0.0f)));
}

V_INLINE v_f32 v_select_below_zero(v_f32 x, v_f32 below, v_f32 otherwise)
{
    __mmask16 mask = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_blend_ps(mask, otherwise, below);
}

V_INLINE v_i32 v_bits(v_f32 a)
{
    return _mm512_castps_si512(a);
}

V_INLINE v_i32 v_sub_i32(v_i32 a, v_i32 b)
{
    return _mm512_sub_epi32(a, b);
}

V_INLINE v_i32 v_halve_u32(v_i32 a)
{
    return _mm512_srli_epi32(a, 1);
}

/* 2^n for the integers n in -126 .. 127; only the low 9 bits of n matter. */
V_INLINE v_f32 v_power_of_2(v_i32 n)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

/* 2^-n for the integers n in -127 .. 126. */
V_INLINE v_f32 v_power_of_half(v_i32 n)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(127), n), 23));
}

#endif
