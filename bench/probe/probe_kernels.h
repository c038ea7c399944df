/* Small kernels that do one thing many times, so that a launch's time by the number of rounds is that thing's cost.
 * Each also computes something that a wrong exchange would spoil. */
#ifndef BENCH_PROBE_KERNELS_H
#define BENCH_PROBE_KERNELS_H

#include "kernels/cuda/device.cuh"

__global__ void probe_nothing(unsigned *out);

/* Cooperative. Each round every block writes what it read of its neighbour plus 1, then all meet: cells [2][blocks]
 * start with the first half given; `arrivals` starts at 0. */
__global__ void probe_grid_barrier(unsigned *arrivals, unsigned *cells, unsigned rounds);

/* A cluster. Each round all meet: out [blocks] = rounds. */
__global__ void probe_cluster_barrier(unsigned *out, unsigned rounds);

/* A cluster of C blocks; each round every block pushes PROBE_WORDS * 16 bytes to every block, itself included, by
 * store_async, and waits for those of all. Each starts with its rank; a round's new value is 3 * the old one + the sum
 * of all that came: out [blocks] the last. Dynamic shared memory: 2 * C * words * 16 bytes. */
__global__ void probe_exchange(unsigned *out, unsigned words, unsigned rounds);

/* Reads count vectors of 16 bytes, `rounds` times, and leaves their xor in out [blocks * threads]. */
__global__ void probe_read(const uint4 *in, unsigned *out, size_t count, unsigned rounds);

#endif
