/* Small kernels, each of which uses a few functions of the dialect as the tests' host code can predict.
 * dialect_kernels.cu is compiled by nvcc too, so that every line of device_ptx.cuh is assembled, and so
 * that a machine with a GPU can run the same kernels and compare bits. */
#ifndef CY_TESTS_EMU_DIALECT_KERNELS_H
#define CY_TESTS_EMU_DIALECT_KERNELS_H

#include "kernels/cuda/device.cuh"

/* One warp. out[5][32]: shuffle, _xor, _up, _down of 10 * lane by `n`, ballot of lane & 1. */
__global__ void dialect_warp(int *out, unsigned n);

/* One warp; the lanes of `mask`, 0 among them, meet: out[32] = mask + 3 there, 7 elsewhere. */
__global__ void dialect_mask(unsigned *out, unsigned mask);

/* n <= 256 threads; out[i] = in[n - 1 - i], through shared memory; three times, to reuse it. */
__global__ void dialect_block(const float *in, float *out);

/* 128 threads in two halves, each with a named barrier: out[i] = in[i ^ 63] within a half. */
__global__ void dialect_named(const int *in, int *out);

/* Two warps fill, one reads. in: u16 [4][8][8]; out[14][32]: registers of load_matrix_x1, _x2, _x4, _x2_transposed,
 * _x4_transposed, and x1's turned by transpose_matrix. */
__global__ void dialect_matrix(const uint16_t *in, uint32_t *out);

/* One warp; fragments [registers][32]. */
__global__ void dialect_mma_bf16(const uint32_t *a, const uint32_t *b, const float *c,
                                 float *d);
__global__ void dialect_mma_f16(const uint32_t *a, const uint32_t *b, const float *c,
                                float *d);
__global__ void dialect_mma_f16_k8(const uint32_t *a, const uint32_t *b, const float *c,
                                   float *d);
__global__ void dialect_mma_tf32(const uint32_t *a, const uint32_t *b, const float *c,
                                 float *d);
__global__ void dialect_to_tf32(const float *in, uint32_t *out);

/* 64 threads; three tiles of 64 x 16 bytes in flight, the last one short: out[tile][64][4] =
 * in[tile][63 - i][.], of the last tile the first 12 bytes of each and a zero. */
__global__ void dialect_copy(const uint32_t *in, uint32_t *out);
__global__ void dialect_copy_narrow(const uint32_t *in,
                                    uint32_t *out); /* [32] and [32][2] */

/* Any number of blocks: *sum and *float_sum get one from each thread. */
__global__ void dialect_atomic(unsigned *sum, float *float_sum);

/* Two blocks: block 0 publishes data[n], block 1 copies it to out[n]; `flag` starts at 0. n threads */
__global__ void dialect_flag(unsigned *flag, unsigned *data, unsigned *out);

/* Cooperative, blocks x 32: `rounds` times cells[b] = cells[b - 1] + 1 (cyclic), two buffers [2][blocks];
 * `arrivals` starts at 0. */
__global__ void dialect_grid(unsigned *arrivals, unsigned *cells, int rounds);

/* A cluster of n blocks x 32: out[b][l] = 100 * ((b + 1) % n) + 31 - l, read from the next block. */
__global__ void dialect_cluster(uint32_t *out);

/* A cluster of n blocks x 32 that passes 512 bytes round the ring: out[b][l] = where lane l's words come
 * from, 1000 * s + l, how often they were passed on, l, and s, with s = b - rounds mod n. By store_async,
 * or by plain stores and remote arrivals. */
enum { RING_ASYNC, RING_PLAIN };
__global__ void dialect_ring_async(uint32_t *out, int rounds);
__global__ void dialect_ring_plain(uint32_t *out, int rounds);

/* 64 threads: warp 0 fills, warp 1 drains, a buffer of 32 words handed over by two local mbarriers. */
__global__ void dialect_mbarrier(uint32_t *out, int rounds);

/* Dynamic shared memory of blockDim * 4 bytes, turned round: out[i] = blockDim - 1 - i. */
__global__ void dialect_dynamic(unsigned *out);

/* An array that must live in local memory: for counting instructions (sass_expected.txt). in, out [32]: the
 * inverse of a permutation. */
__global__ void dialect_local(const int *in, int *out);

#endif
