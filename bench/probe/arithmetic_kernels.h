/* Kernels that compute: the same operands over and over, from registers, in chains enough to hide an instruction's
 * latency. Their results are compared with the host's; the operands are random, since zeros run faster. */
#ifndef BENCH_ARITHMETIC_KERNELS_H
#define BENCH_ARITHMETIC_KERNELS_H

#include "kernels/cuda/device.cuh"

enum { PROBE_CHAINS = 8, PROBE_TILES = 8 };

/* sums[chain] = fmaf(a, sums[chain], b[chain]), `rounds` times; operands [1 + 8] of each thread; out [threads][8]. */
__global__ void probe_ffma(const float *operands, float *out, unsigned rounds);

/* A warp multiplies its A by eight B, `rounds` times, and adds up: out [warps][8][32][4] in the layout of mma's
 * results. Operands [warps][4 + 8 * 2][32] words. */
__global__ void probe_mma_bf16(const uint32_t *operands, float *out, unsigned rounds);
__global__ void probe_mma_f16(const uint32_t *operands, float *out, unsigned rounds);
__global__ void probe_mma_tf32(const uint32_t *operands, float *out, unsigned rounds);

/* y = f(x), and for its rate, f of eight numbers near x again and again: x is moved by a little each round. */
enum probe_function {
    PROBE_EX2_APPROX,
    PROBE_TANH_APPROX,
    PROBE_SIGMOID_FAST, /* ex2 and rcp */
    PROBE_TANH_FAST,
    PROBE_EXP, /* what carry uses: expf, tanhf, and the sigmoid of activate.h */
    PROBE_TANH,
    PROBE_SIGMOID
};
__global__ void probe_values(probe_function function, const float *x, float *y,
                             unsigned count);
__global__ void probe_rate(probe_function function, const float *x, float *y,
                           unsigned rounds);

#endif
