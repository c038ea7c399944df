/* Template: sigmoid and tanh on vectors. Included by kernels_<isa>.c after vec_<isa>.h.
 *
 * Formula. With a <= 0, n = round(a / ln 2), r = a - n ln 2 in two pieces, |r| <= ln 2 / 2:
 *     e^r - 1 = r + r^2 q(r)          q of degree 4, a minimax fit: off by 0.13 ulp at most
 *     sigmoid(x) = 1 / (1 + e^-|x|)   x >= 0;   e^-|x| / (1 + e^-|x|)   x < 0
 *     tanh(x)    = -t / (2 + t), t = e^(-2|x|) - 1, with the sign of x
 * Why this shape: the exponent is never positive, so nothing overflows, and both ends are exact:
 * sigmoid(-100) is the denormal it should be, tanh(x) is x for tiny x (no 1 - 1). One division each.
 * NaN comes out as NaN. Measured against float64: 2.5 ulp (sigmoid), 2.5 ulp (tanh) at most.
 * Both instruction sets do the same operations in the same order, so they give the same bits.
 * Called by: lstm_tmpl.h. Test: tests/kernels/check_kernels.c. */

/* 1.5 * 2^23: adding it leaves a float rounded to an integer in the low bits. */
#define ROUNDER 12582912.0f

/* n and e^r - 1 of a <= 0; *t holds ROUNDER + n. */
V_INLINE v_f32 reduced_expm1(v_f32 a, v_f32 *t)
{
    *t = v_fma(a, v_set(1.44269504f), v_set(ROUNDER));
    v_f32 n = v_sub(*t, v_set(ROUNDER));
    v_f32 r =
        v_fnma(n, v_set(0.693145752f), a); /* 15 bits of ln 2: n times it is exact */
    r = v_fnma(n, v_set(1.42860677e-6f), r);
    v_f32 q = v_set(0.0013946748f);
    q = v_fma(q, r, v_set(0.0083667533f));
    q = v_fma(q, r, v_set(0.041666277f));
    q = v_fma(q, r, v_set(0.16666542f));
    q = v_fma(q, r, v_set(0.5f));
    return v_fma(v_mul(r, r), q, r);
}

V_INLINE v_f32 v_sigmoid(v_f32 x)
{
    v_f32 a = v_max_keeping_nan(-110, v_negative_abs(x)), t; /* e^-110 is 0 in float */
    v_f32 m = v_add(v_set(1), reduced_expm1(a, &t));
    /* 2^n in two factors, because the product may be a denormal and 2^n alone would be 0 */
    v_i32 minus_n = v_sub_i32(v_bits(v_set(ROUNDER)), v_bits(t));
    v_i32 half = v_halve_u32(minus_n);
    v_f32 e =
        v_mul(v_mul(m, v_power_of_half(half)), v_power_of_half(v_sub_i32(minus_n, half)));
    return v_div(v_select_below_zero(x, e, v_set(1)), v_add(v_set(1), e));
}

V_INLINE v_f32 v_tanh(v_f32 x)
{
    v_f32 a = v_negative_abs(x), t;
    a = v_max_keeping_nan(-40, v_add(a, a)); /* e^-40 - 1 is -1 in float */
    v_f32 m = reduced_expm1(a, &t);
    v_f32 power = v_power_of_2(v_bits(t)); /* ROUNDER's own low bits are 0 */
    v_f32 minus_t = v_fnma(power, m, v_sub(v_set(1), power));
    return v_with_sign(v_div(minus_t, v_sub(v_set(2), minus_t)), x);
}
