/* Kernels beyond the dialect; see probe_raw.h. No emulator has run them: a check on the host follows each. */
#include "probe_raw.h"

#include <cooperative_groups.h>

namespace probe
{

namespace
{

__global__ void dependent(unsigned *counter)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    if (threadIdx.x == 0) *counter += 1;
}

__device__ __forceinline__ unsigned load_system(const unsigned *p)
{
    unsigned value;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];"
                 : "=r"(value)
                 : "l"(__cvta_generic_to_global(p))
                 : "memory");
    return value;
}

__device__ __forceinline__ void store_system(unsigned *p, unsigned value)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)),
                 "r"(value)
                 : "memory");
}

__device__ __forceinline__ unsigned long long nanoseconds()
{
    unsigned long long ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

__global__ void doorbell(const unsigned *bell, unsigned *answer)
{
    const unsigned long long end = nanoseconds() + 10000000000ull;
    unsigned heard = 0;
    while (nanoseconds() < end) {
        unsigned now = load_system(bell);
        if (now == heard) continue;
        if (now == UINT32_MAX) return;
        heard = now;
        store_system(answer, now + 1);
    }
}

__global__ void grid_sync(unsigned *cells, unsigned rounds)
{
    cooperative_groups::grid_group grid = cooperative_groups::this_grid();
    unsigned blocks = gridDim.x, block = blockIdx.x;
    for (unsigned round = 0; round < rounds; round++) {
        if (threadIdx.x == 0)
            cells[(round + 1) % 2 * blocks + block] =
                cells[round % 2 * blocks + (block + 1) % blocks] + 1;
        grid.sync();
    }
}

} // namespace

cudaError_t raw_dependent(cudaStream_t cuda_stream, unsigned *counter)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3(1);
    config.blockDim = dim3(32);
    config.stream = cuda_stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, dependent, counter);
}

cudaError_t raw_doorbell(cudaStream_t cuda_stream, const unsigned *bell, unsigned *answer)
{
    return dev::launch(doorbell, {dim3(1), dim3(1), 0, 0, 0}, cuda_stream, bell, answer);
}

cudaError_t raw_grid_sync(cudaStream_t cuda_stream, unsigned blocks, unsigned *cells,
                          unsigned rounds)
{
    return dev::launch(grid_sync,
                       {dim3(blocks), dim3(256), 0, 0, dev::LAUNCH_COOPERATIVE},
                       cuda_stream, cells, rounds);
}

} // namespace probe
