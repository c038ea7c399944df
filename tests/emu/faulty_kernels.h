/* Kernels with one mistake each, all of kinds that a GPU lets pass, now and then or always. */
#ifndef CY_TESTS_EMU_FAULTY_KERNELS_H
#define CY_TESTS_EMU_FAULTY_KERNELS_H

#include "kernels/cuda/device.cuh"

__global__ void faulty_divergent_block(int *out);
__global__ void faulty_exit_before_barrier(int *out, unsigned stay);
__global__ void faulty_half_warp_shuffle(int *out);
__global__ void faulty_shuffle_outside_mask(int *out);
__global__ void faulty_partial_mma(float *out);
__global__ void faulty_grid_barrier(unsigned *arrivals);
__global__ void faulty_homemade_barrier(unsigned *arrivals);
__global__ void faulty_copy_misaligned(const float *in);
__global__ void faulty_copy_unaligned_array(const float *in);
__global__ void faulty_copy_never_waited(const float *in, float *out);
__global__ void faulty_copy_wrong_group(const float *in, float *out);
__global__ void faulty_copy_from_shared(float *out);
__global__ void faulty_uninitialised(float *out);
__global__ void faulty_large_array(float *out);
__global__ void faulty_missing_sync_warp(int *out);
__global__ void faulty_shared_overflow(float *out, int past);
__global__ void faulty_dynamic_overflow(float *out, int past);
__global__ void faulty_global_overflow(float *out, int past);

/* A cluster of two blocks of 32; each kind is one mistake with an mbarrier. */
enum FaultyMbarrier {
    NEVER_INITIALISED,
    INITIALISED_TWICE,
    TOO_MANY_ARRIVALS,
    TOO_MANY_BYTES_EXPECTED,
    STORE_NOBODY_AWAITS,
    STORE_AND_BARRIER_APART,
    STORE_MISALIGNED,
    RANK_OUTSIDE,
    NO_BARRIER_AFTER_INIT,
    WAIT_ON_GLOBAL,
    NOBODY_ARRIVES,
    RELIES_ON_STORE_ORDER
};
__global__ void faulty_mbarrier(int mistake, uint64_t *global, uint32_t *out);

#endif
