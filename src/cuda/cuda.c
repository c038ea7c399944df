/* The CUDA backend: its devices. */
#include "cuda/cuda.h"

#include <cuda_runtime_api.h>

int cy_cuda_device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}
