/* Activations on the device: the formulas of kernels/cpu/cell_ref.c, element by element, and softmax and
 * log_softmax over a row by a whole block. A test holds both to the same bits on the CPU. */
#ifndef CY_KERNELS_CUDA_ACTIVATE_CUH
#define CY_KERNELS_CUDA_ACTIVATE_CUH

#include "kernels/activation.h"
#include "kernels/cuda/device.cuh"

#include <math.h>

namespace cy
{

/* 1 / (1 + exp(-x)) alone would be 0 where the true result is a denormal. */
__device__ __forceinline__ float sigmoid(float x)
{
    float e = expf(-fabsf(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* By way of double, as in cell_ref.c: gates without a bound make the 2 ulp of tanhf grow from step to step. The usual
 * LSTM, tanh and sigmoid, has tanhf. */
__device__ __forceinline__ float tanh_of(float x)
{
    return (float)tanh((double)x);
}

__device__ __forceinline__ float clip(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

__device__ __forceinline__ float softplus(float x)
{
    return log1pf(expf(-fabsf(x))) + (x < 0 ? 0 : x);
}

/* Comparisons are turned so that NaN falls through to x. */
__device__ inline float activate(cy_activation activation, float x)
{
    switch (activation) {
    case CY_ACT_TANH:
        return tanh_of(x);
    case CY_ACT_SIGMOID:
        return sigmoid(x);
    case CY_ACT_HARD_SIGMOID_02:
        return clip(0.2f * x + 0.5f, 0, 1);
    case CY_ACT_HARD_SIGMOID_6TH:
        return clip(x / 6 + 0.5f, 0, 1);
    case CY_ACT_RELU:
        return x < 0 ? 0 : x;
    case CY_ACT_RELU6:
        return clip(x, 0, 6);
    case CY_ACT_LEAKY_RELU_02:
        return x < 0 ? 0.2f * x : x;
    case CY_ACT_ELU:
    case CY_ACT_CELU:
        return x < 0 ? expm1f(x) : x;
    case CY_ACT_SELU:
        return 1.05070098735548049342f *
               (x < 0 ? 1.67326324235437728482f * expm1f(x) : x);
    case CY_ACT_SOFTPLUS:
        return softplus(x);
    case CY_ACT_SOFTSIGN:
        return x / (1 + fabsf(x));
    case CY_ACT_EXPONENTIAL:
        return expf(x);
    case CY_ACT_SILU:
        return x * sigmoid(x);
    case CY_ACT_HARD_SILU:
        return x * clip(x + 3, 0, 6) / 6;
    case CY_ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678118654752440f));
    case CY_ACT_MISH:
        return x * tanh_of(softplus(x));
    case CY_ACT_LOG_SIGMOID:
        return -softplus(-x);
    case CY_ACT_HARD_TANH:
        return clip(x, -1, 1);
    case CY_ACT_TANH_SHRINK:
        return (float)(x - tanh((double)x)); /* in float32 the difference cancels */
    case CY_ACT_LINEAR:
    case CY_ACT_SOFTMAX: /* over a row, below */
    case CY_ACT_LOG_SOFTMAX:
    case CY_ACT_COUNT:
        break;
    }
    return x;
}

__host__ __device__ inline bool spans_row(cy_activation activation)
{
    return activation == CY_ACT_SOFTMAX || activation == CY_ACT_LOG_SOFTMAX;
}

enum reduction { REDUCE_SUM, REDUCE_MAX };

/* Over all threads of a block of whole warps; everybody gets the result. The order depends on the
 * number of threads alone. */
__device__ inline float block_reduce(reduction how, float value)
{
    DEV_SHARED(float, partial, [32]);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = how == REDUCE_SUM ? dev::warp_sum(value) : dev::warp_max(value);
    if (lane == 0) partial[warp] = value;
    dev::sync_block();
    float mine = how == REDUCE_SUM ? 0 : -INFINITY;
    if (lane < blockDim.x / 32) mine = partial[lane];
    dev::sync_block(); /* before the next reduction writes partial */
    return how == REDUCE_SUM ? dev::warp_sum(mine) : dev::warp_max(mine);
}

/* put(i, activation(get(i))) over i < n, by a whole block; thread t keeps to i = t, t + blockDim, ... so that
 * callers which do the same need no barrier around it. get is asked up to three times, each time before put. */
template <class Get, class Put>
__device__ __forceinline__ void activate_row(cy_activation activation, unsigned n,
                                             Get get, Put put)
{
    if (!spans_row(activation)) {
        for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
            put(i, activate(activation, get(i)));
        return;
    }
    float most = -INFINITY;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        float value = get(i);
        most = value > most ? value : most;
    }
    most = block_reduce(REDUCE_MAX, most);
    float sum = 0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
        sum += expf(get(i) - most);
    sum = block_reduce(REDUCE_SUM, sum);
    float log_sum = logf(sum);
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        float shifted = get(i) - most;
        put(i, activation == CY_ACT_SOFTMAX ? expf(shifted) / sum : shifted - log_sum);
    }
}

} // namespace cy

#endif
