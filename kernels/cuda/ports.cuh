/* Numbers of a type that is known when the kernel runs (the caller's arrays) or when it is compiled (operands),
 * and where in the caller's array a step of a row lies. Everything is float in between; a conversion
 * rounds to nearest, ties to even. */
#ifndef CY_KERNELS_CUDA_PORTS_CUH
#define CY_KERNELS_CUDA_PORTS_CUH

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/device.cuh"

namespace cy
{

__device__ __forceinline__ float to_float(float value)
{
    return value;
}

__device__ __forceinline__ float to_float(__nv_bfloat16 value)
{
    return __bfloat162float(value);
}

__device__ __forceinline__ float to_float(__half value)
{
    return __half2float(value);
}

__device__ __forceinline__ void put(float *to, float value)
{
    *to = value;
}

__device__ __forceinline__ void put(__nv_bfloat16 *to, float value)
{
    *to = __float2bfloat16(value);
}

__device__ __forceinline__ void put(__half *to, float value)
{
    *to = __float2half(value);
}

__device__ __forceinline__ float load(cy_cuda_type type, const void *data, size_t i)
{
    if (type == CY_CUDA_BF16)
        return to_float(static_cast<const __nv_bfloat16 *>(data)[i]);
    if (type == CY_CUDA_F16) return to_float(static_cast<const __half *>(data)[i]);
    return static_cast<const float *>(data)[i];
}

__device__ __forceinline__ void store(cy_cuda_type type, void *data, size_t i,
                                      float value)
{
    if (type == CY_CUDA_BF16) put(static_cast<__nv_bfloat16 *>(data) + i, value);
    else if (type == CY_CUDA_F16) put(static_cast<__half *>(data) + i, value);
    else put(static_cast<float *>(data) + i, value);
}

/* The element of a port at which (step, row) begins. */
__device__ __forceinline__ size_t in_port(const cy_cuda_port &port,
                                          const cy_cuda_row &row, unsigned step)
{
    size_t begin = row.index;
    if (port.by == CY_CUDA_BY_FIRST) begin = row.first;
    else if (port.by == CY_CUDA_BY_STAGED_IN) begin = row.staged_in;
    else if (port.by == CY_CUDA_BY_STAGED_OUT) begin = row.staged_out;
    return begin * port.row_stride + step * port.step_stride;
}

/* Whether an output's port has a place for (step, row). */
__device__ __forceinline__ bool has_place(const cy_cuda_port &port,
                                          const cy_cuda_row &row, unsigned step)
{
    return !(row.flags & CY_CUDA_ROW_ABSENT) &&
           (port.by == CY_CUDA_BY_INDEX || step < row.room);
}

/* The step of the caller's that is a row's `step` in the order of computing. */
__device__ __forceinline__ unsigned turned(unsigned backwards, const cy_cuda_row &row,
                                           unsigned step)
{
    return backwards ? row.steps - 1 - step : step;
}

/* Blocks of `threads` for a * b * c threads; 0: none, or more than 2^31 - 1, which no kernel indexes. */
inline unsigned flat_blocks(unsigned threads, unsigned long long a, unsigned b,
                            unsigned c = 1)
{
    const unsigned long long most = 0x7fffffff;
    if (a > most || a * b > most || a * b * c > most) return 0;
    return (unsigned)((a * b * c + threads - 1) / threads);
}

} // namespace cy

#endif
