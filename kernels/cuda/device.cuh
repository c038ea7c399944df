/* The dialect: the one header that kernel files include. nvcc gets device_ptx.cuh; g++ and clang get the
 * emulator (tests/emu/device_emu.h), so that every kernel runs, is raced, and is tested on the CPU.
 *
 * Rules that make one source serve both, each a compile error in the emulated build or a test:
 *   launches     dev::launch(kernel, shape, cuda_stream, arguments...), never <<<>>>
 *   shared       DEV_SHARED(float, tile, [8][33])  DEV_SHARED_ALIGNED(16, ...)  DEV_SHARED_DYNAMIC(raw)
 *   threads      dev::sync_block, sync_warp, sync_named, shuffle*, ballot, never the __ built-ins
 *   memory       waiting is dev::load_acquire and store_release / add_release (gpu scope), or an
 *                mbarrier; never volatile
 *   PTX          in device_ptx.cuh only; an instruction that an architecture lacks traps there
 * Two synchronising calls do not stand on one source line: tests drop them one line at a time. */
#ifndef CY_KERNELS_CUDA_DEVICE_CUH
#define CY_KERNELS_CUDA_DEVICE_CUH

#include <stddef.h>
#include <stdint.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#ifdef __CUDACC__
#include "kernels/cuda/device_ptx.cuh"
#else
#include <device_emu.h>
#endif

namespace dev
{

/* How a kernel is launched. Clusters of more than 8 blocks and more than 48 KiB of shared memory must
 * be allowed first (allow_cluster_16, allow_shared), once per kernel and device. */
struct launch_shape {
    dim3 grid, block;
    size_t shared_bytes; /* dynamic */
    unsigned cluster;    /* blocks; 0 or 1: none */
    unsigned flags;      /* LAUNCH_COOPERATIVE */
};
enum { LAUNCH_COOPERATIVE = 1 };

template <class T> struct same_type {
    using type = T;
};

template <class... P>
inline cudaError_t launch(void (*kernel)(P...), const launch_shape &shape,
                          cudaStream_t cuda_stream,
                          typename same_type<P>::type... arguments)
{
    void *pointers[] = {(void *)&arguments..., nullptr};
    cudaLaunchAttribute attributes[2];
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = cuda_stream;
    config.attrs = attributes;
    if (shape.cluster > 1) {
        cudaLaunchAttribute &a = attributes[config.numAttrs++];
        a.id = cudaLaunchAttributeClusterDimension;
        a.val.clusterDim.x = shape.cluster;
        a.val.clusterDim.y = a.val.clusterDim.z = 1;
    }
    if (shape.flags & LAUNCH_COOPERATIVE) {
        cudaLaunchAttribute &a = attributes[config.numAttrs++];
        a.id = cudaLaunchAttributeCooperative;
        a.val.cooperative = 1;
    }
    register_kernel(kernel);
    return cudaLaunchKernelExC(&config, (const void *)kernel, pointers);
}

template <class... P> inline cudaError_t allow_shared(void (*kernel)(P...), int bytes)
{
    register_kernel(kernel);
    return cudaFuncSetAttribute((const void *)kernel,
                                cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

template <class... P> inline cudaError_t allow_cluster_16(void (*kernel)(P...))
{
    register_kernel(kernel);
    return cudaFuncSetAttribute((const void *)kernel,
                                cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

/* A barrier among all threads of a cooperative launch. `arrivals` counts up for ever; `target` is the
 * same in every thread and grows by the number of blocks with each barrier (it may wrap round). */
__device__ __forceinline__ void grid_barrier(unsigned *arrivals, unsigned target)
{
    expect_cooperative();
    sync_block(); /* everything this block wrote comes before thread 0's release */
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
        add_release(arrivals, 1);
        while ((int)(load_acquire(arrivals) - target) < 0) {
        }
    }
    sync_block(); /* thread 0's acquire comes before everything this block reads */
}

/* All lanes get the result, in an order that depends on nothing. */
__device__ __forceinline__ float warp_sum(float value)
{
#pragma unroll
    for (unsigned bits = 16; bits > 0; bits /= 2)
        value += shuffle_xor(value, bits);
    return value;
}

__device__ __forceinline__ float warp_max(float value)
{
#pragma unroll
    for (unsigned bits = 16; bits > 0; bits /= 2) {
        float other = shuffle_xor(value, bits);
        value = other > value ? other : value;
    }
    return value;
}

} // namespace dev

#endif
