/* Small kernels that do one thing many times, so that a launch's time by the number of rounds is that thing's cost.
 * Each also computes something that a wrong exchange would spoil. */
#ifndef BENCH_PROBE_KERNELS_H
#define BENCH_PROBE_KERNELS_H

#include "kernels/cuda/device.cuh"

/* One block. Adds 1 to *counter. */
__global__ void probe_count(unsigned *counter);

/* Cooperative. Each round every block writes what it read of its neighbour plus 1, then all meet: cells [2][blocks]
 * start with the first half given; `arrivals` starts at 0. */
__global__ void probe_grid_barrier(unsigned *arrivals, unsigned *cells, unsigned rounds);

/* Cooperative; 256 threads. Each round every block publishes `words` numbers, value, value + 1, ..., each in a word of 64
 * bits with the round's stamp beside it, and polls those of all blocks: the data are their own flags. A block's first
 * value is its index, the next 3 * the old one + the sum of all that came: out [blocks] the last. Stamps go from
 * first + 1 to first + rounds; `board` [2][blocks][words] may hold those of earlier launches. */
__global__ void probe_flags(unsigned *out, uint64_t *board, unsigned words,
                            unsigned first, unsigned rounds);

/* A cluster. Each round all meet: out [blocks] = rounds. */
__global__ void probe_cluster_barrier(unsigned *out, unsigned rounds);

/* A cluster of C blocks; each round every block pushes PROBE_WORDS * 16 bytes to every block, itself included, by
 * store_async, and waits for those of all. Each starts with its rank; a round's new value is 3 * the old one + the sum
 * of all that came: out [blocks] the last. Dynamic shared memory: 2 * C * words * 16 bytes. */
__global__ void probe_exchange(unsigned *out, unsigned words, unsigned rounds);

#endif
