/* Stands for the emulator where the tests of tests/emu run on a GPU: the arena is pinned memory that the GPU reaches
 * under the same addresses, every launch is waited for (linked with --wrap=cudaLaunchKernelExC), and there are no
 * schedules to choose and no sites to drop. */
#include "arena.h"
#include "emu.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace
{

char sentence[256];

cudaError_t noted(cudaError_t error, const char *where)
{
    if (error)
        snprintf(sentence, sizeof sentence, "%s: %s: %s", where, cudaGetErrorName(error),
                 cudaGetErrorString(error));
    return error;
}

} // namespace

namespace arena
{

void *reserve(size_t bytes)
{
    void *block = nullptr;
    cudaError_t error = cudaHostAlloc(&block, bytes, cudaHostAllocMapped);
    if (!error) return block;
    fprintf(stderr, "no GPU, or no pinned memory of %zu MiB: %s\n", bytes >> 20,
            cudaGetErrorString(error));
    exit(1);
}

int before_main()
{
    cudaDeviceProp properties;
    if (noted(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties")) {
        fprintf(stderr, "%s\n", sentence);
        return 1;
    }
    printf("on %s, compute capability %d.%d\n", properties.name, properties.major,
           properties.minor);
    void *local = &properties, *there = nullptr;
    if (cudaHostGetDevicePointer(&there, local, 0) || there != local) {
        fprintf(stderr,
                "this GPU does not reach pinned memory under the host's address\n");
        return 1;
    }
    return 0;
}

} // namespace arena

namespace emu
{

Options options;
Counters counters;
const bool emulated = false;
const unsigned tsan_threads_max = 0;

const char *last_error()
{
    return sentence;
}

size_t sites_count()
{
    return 0;
}

Site site_at(size_t)
{
    return {nullptr, 0, NONE};
}

void sites_clear()
{
}

const char *kind_name(Kind)
{
    return "";
}

bool droppable(Kind)
{
    return false;
}

unsigned races()
{
    return 0;
}

} // namespace emu

extern "C" {

cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                       const void *kernel, void **arguments);

cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                       const void *kernel, void **arguments)
{
    sentence[0] = 0;
    cudaError_t error = __real_cudaLaunchKernelExC(config, kernel, arguments);
    if (noted(error, "cudaLaunchKernelExC")) return error;
    return noted(cudaDeviceSynchronize(), "the kernel");
}

} // extern "C"
