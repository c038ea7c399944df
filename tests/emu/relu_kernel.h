/* A kernel that does no more than the tests of the fake runtime need. */
#ifndef CY_TESTS_EMU_RELU_KERNEL_H
#define CY_TESTS_EMU_RELU_KERNEL_H

#include "kernels/cuda/device.cuh"

/* values[i] = max(0, values[i]) for i < count, in one block of 32 threads. */
cudaError_t relu_launch(float *values, unsigned count, cudaStream_t cuda_stream);

#endif
