/* See arithmetic_kernels.h. */
#include "arithmetic_kernels.h"

#include "kernels/cuda/activate.cuh"
#include "probe_ptx.cuh"

__global__ void probe_ffma(const float *operands, float *out, unsigned rounds)
{
    size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const float *mine = operands + thread * (1 + PROBE_CHAINS);
    float a = mine[0], b[PROBE_CHAINS], sums[PROBE_CHAINS];
#pragma unroll
    for (int i = 0; i < PROBE_CHAINS; i++)
        sums[i] = b[i] = mine[1 + i];
#pragma unroll 16
    for (unsigned round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < PROBE_CHAINS; i++)
            sums[i] = fmaf(a, sums[i], b[i]);
#pragma unroll
    for (int i = 0; i < PROBE_CHAINS; i++)
        out[thread * PROBE_CHAINS + i] = sums[i];
}

namespace
{

struct bf16 {
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
    {
        dev::mma_bf16(d, a, b, d);
    }
};
struct f16 {
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
    {
        dev::mma_f16(d, a, b, d);
    }
};
struct tf32 {
    static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
    {
        dev::mma_tf32(d, a, b, d);
    }
};

template <class T>
__device__ __forceinline__ void multiply_often(const uint32_t *operands, float *out,
                                               unsigned rounds)
{
    unsigned lane = threadIdx.x % 32;
    size_t warp = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    const uint32_t *mine = operands + warp * (4 + 2 * PROBE_TILES) * 32 + lane;
    uint32_t a[4], b[PROBE_TILES][2];
    float d[PROBE_TILES][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = mine[i * 32];
#pragma unroll
    for (int i = 0; i < 2 * PROBE_TILES; i++)
        b[i / 2][i % 2] = mine[(4 + i) * 32];
#pragma unroll 2
    for (unsigned round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < PROBE_TILES; i++)
            T::mma(d[i], a, b[i]);
#pragma unroll
    for (int i = 0; i < PROBE_TILES; i++)
#pragma unroll
        for (int r = 0; r < 4; r++)
            out[((warp * PROBE_TILES + i) * 32 + lane) * 4 + r] = d[i][r];
}

__device__ __forceinline__ float value_of(probe_function function, float x)
{
    switch (function) {
    case PROBE_EX2_APPROX:
        return probe::ex2_approx(x);
    case PROBE_TANH_APPROX:
        return probe::tanh_approx(x);
    case PROBE_SIGMOID_FAST:
        return probe::sigmoid_fast(x);
    case PROBE_TANH_FAST:
        return probe::tanh_fast(x);
    case PROBE_EXP:
        return expf(x);
    case PROBE_TANH:
        return tanhf(x);
    case PROBE_SIGMOID:
        return cy_sigmoid(x);
    }
    return x;
}

/* Eight independent chains: the value of one round is part of the next one's argument, x + y / 2^20. */
template <class F>
__device__ __forceinline__ void often(const float *x, float *y, unsigned rounds, F f)
{
    size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    float start[PROBE_CHAINS], values[PROBE_CHAINS];
#pragma unroll
    for (int i = 0; i < PROBE_CHAINS; i++) {
        start[i] = x[thread * PROBE_CHAINS + i];
        values[i] = 0;
    }
    for (unsigned round = 0; round < rounds; round++)
#pragma unroll
        for (int i = 0; i < PROBE_CHAINS; i++)
            values[i] = f(fmaf(values[i], 0x1p-20f, start[i]));
#pragma unroll
    for (int i = 0; i < PROBE_CHAINS; i++)
        y[thread * PROBE_CHAINS + i] = values[i];
}

/* A function known to the compiler: no choice inside the loop. */
template <probe_function FUNCTION> struct function_of {
    __device__ __forceinline__ float operator()(float x) const
    {
        return value_of(FUNCTION, x);
    }
};

} // namespace

__global__ void probe_mma_bf16(const uint32_t *operands, float *out, unsigned rounds)
{
    multiply_often<bf16>(operands, out, rounds);
}

__global__ void probe_mma_f16(const uint32_t *operands, float *out, unsigned rounds)
{
    multiply_often<f16>(operands, out, rounds);
}

__global__ void probe_mma_tf32(const uint32_t *operands, float *out, unsigned rounds)
{
    multiply_often<tf32>(operands, out, rounds);
}

__global__ void probe_values(probe_function function, const float *x, float *y,
                             unsigned count)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = value_of(function, x[i]);
}

__global__ void probe_rate(probe_function function, const float *x, float *y,
                           unsigned rounds)
{
    switch (function) {
    case PROBE_EX2_APPROX:
        return often(x, y, rounds, function_of<PROBE_EX2_APPROX>());
    case PROBE_TANH_APPROX:
        return often(x, y, rounds, function_of<PROBE_TANH_APPROX>());
    case PROBE_SIGMOID_FAST:
        return often(x, y, rounds, function_of<PROBE_SIGMOID_FAST>());
    case PROBE_TANH_FAST:
        return often(x, y, rounds, function_of<PROBE_TANH_FAST>());
    case PROBE_EXP:
        return often(x, y, rounds, function_of<PROBE_EXP>());
    case PROBE_TANH:
        return often(x, y, rounds, function_of<PROBE_TANH>());
    case PROBE_SIGMOID:
        return often(x, y, rounds, function_of<PROBE_SIGMOID>());
    }
}
