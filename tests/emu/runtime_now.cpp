/* The few functions of the CUDA runtime that launchers call, for kernel tests: every launch runs on the
 * emulator at once. Linked in place of the runtime. */
#include "calls.h"

#include <unordered_map>

namespace
{

struct Allowed {
    size_t shared_bytes = 48 << 10;
    bool cluster_16 = false;
};

Allowed &allowed(const void *kernel)
{
    static std::unordered_map<const void *, Allowed> *table;
    if (!table) table = new std::unordered_map<const void *, Allowed>;
    return (*table)[kernel];
}

cudaError_t last = cudaSuccess;

cudaError_t done(cudaError_t error)
{
    if (error) last = error;
    return error;
}

} // namespace

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute,
                                 int value)
{
    if (!emu::kernel_find(kernel)) return done(cudaErrorInvalidDeviceFunction);
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
        (size_t)value <= emu::options.shared_limit_bytes)
        allowed(kernel).shared_bytes = (size_t)value;
    else if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed)
        allowed(kernel).cluster_16 = value != 0;
    else return done(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel,
                                void **arguments)
{
    emu::Grid grid = {config->gridDim, config->blockDim, config->dynamicSmemBytes, 1, 0};
    if (allowed(kernel).cluster_16) grid.flags |= emu::GRID_CLUSTER_16;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const cudaLaunchAttribute &a = config->attrs[i];
        if (a.id == cudaLaunchAttributeClusterDimension)
            grid.cluster = a.val.clusterDim.x;
        else if (a.id == cudaLaunchAttributeCooperative && a.val.cooperative)
            grid.flags |= emu::GRID_COOPERATIVE;
        else return done(cudaErrorNotSupported);
    }
    if (config->dynamicSmemBytes > allowed(kernel).shared_bytes)
        return done(cudaErrorInvalidValue);
    return done(emu::run_grid(kernel, grid, arguments));
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last;
    last = cudaSuccess;
    return error;
}

} // extern "C"
