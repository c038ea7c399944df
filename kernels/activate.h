/* Every activation of kernels/activation.h but softmax and log_softmax, in scalar form, written once: for the reference
 * (cpu/cell_ref.c) and for CUDA (cuda/activate.cuh).
 *
 * Formulas are those of Keras 3. Each keeps NaN (comparisons are turned so that a NaN falls through
 * to x itself), takes infinities as IEEE arithmetic does, and avoids overflow where the true result
 * is finite.
 * Accuracy: that of the float functions of the C library or of CUDA, about 1 ulp each; tanh and sigmoid by way of
 * double half an ulp.
 * Test: tests/kernels/check_kernels.c, against formulas in double; tests/emu/test_kernels.cpp. */
#ifndef CY_KERNELS_ACTIVATE_H
#define CY_KERNELS_ACTIVATE_H

#include "kernels/activation.h"

#include <math.h>
#include <stdbool.h>

#ifdef __CUDACC__
#define CY_FORMULA __host__ __device__ inline
#else
#define CY_FORMULA static inline
#endif

/* True if a unit's result depends on the whole vector: such a step waits for all panels. */
CY_FORMULA bool cy_activation_spans_row(cy_activation activation)
{
    return activation == CY_ACT_SOFTMAX || activation == CY_ACT_LOG_SOFTMAX;
}

/* In float, for CUDA's usual LSTM, whose tanh and sigmoid are bounded on all sides. e / (1 + e) on the negative side:
 * 1 / (1 + exp(-x)) would overflow to 0 where the result is still a denormal. */
CY_FORMULA float cy_sigmoid(float x)
{
    float e = expf(-fabsf(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* By way of double: the C library's tanhf may be off by 2 ulp, cy_sigmoid by as much, and gates without a bound make
 * that grow from step to step past what Keras is off by. (On CUDA the usual LSTM has tanhf and cy_sigmoid.) */
CY_FORMULA float cy_tanh_of(float x)
{
    return (float)tanh((double)x);
}

CY_FORMULA float cy_sigmoid_of(float x)
{
    return (float)(1 / (1 + exp(-(double)x)));
}

CY_FORMULA float cy_clip(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

CY_FORMULA float cy_softplus(float x)
{
    return log1pf(expf(-fabsf(x))) + (x < 0 ? 0 : x);
}

CY_FORMULA float cy_activate(cy_activation activation, float x)
{
    switch (activation) {
    case CY_ACT_TANH:
        return cy_tanh_of(x);
    case CY_ACT_SIGMOID:
        return cy_sigmoid_of(x);
    case CY_ACT_HARD_SIGMOID_02:
        return cy_clip(0.2f * x + 0.5f, 0, 1);
    case CY_ACT_HARD_SIGMOID_6TH:
        return cy_clip(x / 6 + 0.5f, 0, 1);
    case CY_ACT_RELU:
        return x < 0 ? 0 : x;
    case CY_ACT_RELU6:
        return cy_clip(x, 0, 6);
    case CY_ACT_LEAKY_RELU_02:
        return x < 0 ? 0.2f * x : x;
    case CY_ACT_ELU:
    case CY_ACT_CELU: /* alpha is 1 in both: the same */
        return x < 0 ? expm1f(x) : x;
    case CY_ACT_SELU:
        return 1.05070098735548049342f *
               (x < 0 ? 1.67326324235437728482f * expm1f(x) : x);
    case CY_ACT_SOFTPLUS:
        return cy_softplus(x);
    case CY_ACT_SOFTSIGN:
        return x / (1 + fabsf(x));
    case CY_ACT_EXPONENTIAL:
        return expf(x);
    case CY_ACT_SILU:
        return x * cy_sigmoid_of(x);
    case CY_ACT_HARD_SILU:
        return x * cy_clip(x + 3, 0, 6) / 6;
    case CY_ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678118654752440f));
    case CY_ACT_MISH:
        return x * cy_tanh_of(cy_softplus(x));
    case CY_ACT_LOG_SIGMOID:
        return -cy_softplus(-x);
    case CY_ACT_HARD_TANH:
        return cy_clip(x, -1, 1);
    case CY_ACT_TANH_SHRINK:
        return (float)(x - tanh((double)x)); /* in float32 the difference cancels */
    case CY_ACT_LINEAR:
    case CY_ACT_SOFTMAX: /* over a vector: nothing of one number */
    case CY_ACT_LOG_SOFTMAX:
    case CY_ACT_COUNT:
        break;
    }
    return x;
}

#endif
