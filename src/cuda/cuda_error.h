/* CUDA's and cuBLAS's errors as carry's: a code and a sentence that says what was being done. */
#ifndef CY_CUDA_CUDA_ERROR_H
#define CY_CUDA_CUDA_ERROR_H

#include "base/status.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

/* Also takes the error back from the runtime, so that a caller's next cudaGetLastError does not see it. */
carry_status cy_cuda_failed(cudaError_t error, const char *what);
carry_status cy_cublas_failed(cublasStatus_t error, const char *what);

/* For what must go on whatever fails: the error is taken back from the runtime, and forgotten. */
void cy_cuda_ignore(cudaError_t error);

/* `what` in the words of a user: "copying the input to the device". */
#define CY_CUDA_TRY(call, what)                                               \
    do {                                                                      \
        cudaError_t cy_error_ = (call);                                       \
        if (cy_error_ != cudaSuccess) return cy_cuda_failed(cy_error_, what); \
    } while (0)

#define CY_CUBLAS_TRY(call, what)                     \
    do {                                              \
        cublasStatus_t cy_error_ = (call);            \
        if (cy_error_ != CUBLAS_STATUS_SUCCESS)       \
            return cy_cublas_failed(cy_error_, what); \
    } while (0)

/* Memory of the current device, and pinned host memory. On failure the sentence has the bytes wanted and free,
 * and *memory is NULL. */
carry_status cy_cuda_alloc(void **memory, size_t bytes, const char *what);
carry_status cy_cuda_alloc_pinned(void **memory, size_t bytes, const char *what);

#endif
