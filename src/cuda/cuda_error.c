#include "cuda/cuda_error.h"

/* Out of memory: what there is belongs into the sentence; what was wanted only CUDA knows. */
static carry_status out_of_memory(const char *what, const char *why)
{
    size_t free_bytes = 0, total = 0;
    cy_cuda_ignore(cudaMemGetInfo(&free_bytes, &total));
    return cy_fail(CARRY_E_MEMORY, "%s: %s; %zu of %zu bytes of device memory are free",
                   what, why, free_bytes, total);
}

carry_status cy_cuda_failed(cudaError_t error, const char *what)
{
    cudaGetLastError();
    if (error == cudaErrorMemoryAllocation)
        return out_of_memory(what, "out of memory (cudaErrorMemoryAllocation)");
    return cy_fail(CARRY_E_DEVICE, "%s: %s (%s)", what, cudaGetErrorString(error),
                   cudaGetErrorName(error));
}

carry_status cy_cublas_failed(cublasStatus_t error, const char *what)
{
    cudaGetLastError();
    if (error == CUBLAS_STATUS_ALLOC_FAILED)
        return out_of_memory(what, "cuBLAS is out of memory");
    return cy_fail(CARRY_E_DEVICE, "%s: cuBLAS: %s", what, cublasGetStatusString(error));
}

void cy_cuda_ignore(cudaError_t error)
{
    if (error != cudaSuccess) cudaGetLastError();
}

carry_status cy_cuda_alloc(void **memory, size_t bytes, const char *what)
{
    *memory = NULL;
    if (bytes == SIZE_MAX)
        return cy_fail(CARRY_E_MEMORY, "out of memory: %s is larger than any memory",
                       what);
    cudaError_t error = cudaMalloc(memory, bytes ? bytes : 1);
    if (error == cudaSuccess) return CARRY_OK;
    *memory = NULL;
    if (error != cudaErrorMemoryAllocation) return cy_cuda_failed(error, what);
    cudaGetLastError();
    size_t free_bytes = 0, total = 0;
    cy_cuda_ignore(cudaMemGetInfo(&free_bytes, &total));
    return cy_fail(CARRY_E_MEMORY,
                   "out of device memory: %s takes %zu bytes, %zu of %zu are free", what,
                   bytes, free_bytes, total);
}

carry_status cy_cuda_alloc_pinned(void **memory, size_t bytes, const char *what)
{
    *memory = NULL;
    cudaError_t error = bytes == SIZE_MAX ? cudaErrorMemoryAllocation
                                          : cudaHostAlloc(memory, bytes ? bytes : 1,
                                                          cudaHostAllocDefault);
    if (error == cudaSuccess) return CARRY_OK;
    *memory = NULL;
    if (error != cudaErrorMemoryAllocation) return cy_cuda_failed(error, what);
    cudaGetLastError();
    return cy_fail(CARRY_E_MEMORY, "out of pinned host memory: %s takes %zu bytes", what,
                   bytes);
}
