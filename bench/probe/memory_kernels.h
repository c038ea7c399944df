/* Kernels that read: so that all of memory's bandwidth, or one read's latency, is a launch's time. Each leaves something
 * that a read of other words would spoil. */
#ifndef BENCH_MEMORY_KERNELS_H
#define BENCH_MEMORY_KERNELS_H

#include "kernels/cuda/device.cuh"

/* Reads count vectors of 16 bytes past L1, `rounds` times, and leaves a mixture in out [blocks * threads]: a thread takes
 * vectors at a distance of the whole grid, mixed = mixed * 5 + (x ^ y ^ z ^ w). */
__global__ void probe_read(const uint4 *in, unsigned *out, size_t count, unsigned rounds);

/* The same of `count` vectors in each block's dynamic shared memory, which it first fills from `in`; a thread's place
 * moves on by 32 vectors from round to round. */
__global__ void probe_read_shared(const uint4 *in, unsigned *out, unsigned count,
                                  unsigned rounds);

/* One thread follows a chain: place = next[place], `steps` times past L1; *out is where it ends. */
__global__ void probe_chase(const unsigned *next, unsigned *out, unsigned steps);

/* The same in shared memory, with count links (dynamic shared memory: 4 * count bytes). */
__global__ void probe_chase_shared(const unsigned *next, unsigned *out, unsigned count,
                                   unsigned steps);

#endif
