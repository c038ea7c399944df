/* The fake runtime's kernels: what a launch is held to, and how it gets to the emulator. */
#include "emu.h"
#include "fake_state.h"

#include <algorithm>
#include <string.h>

using namespace fake;

namespace
{

/* A launch with its own copy of the arguments, as CUDA makes one: the caller's may change before it runs. */
struct KernelWork final : Work {
    const void *kernel;
    emu::Grid grid;
    std::vector<void *> arguments;
    std::unique_ptr<uint64_t[]> values;

    KernelWork(const void *k, const emu::Grid &g, const emu::Kernel &how, void **given)
        : kernel(k), grid(g), arguments(how.argument_count)
    {
        size_t words = 0;
        for (unsigned i = 0; i < how.argument_count; i++)
            words += words_of(how, i);
        values.reset(new uint64_t[words]());
        uint64_t *to = values.get();
        for (unsigned i = 0; i < how.argument_count; i++) {
            memcpy(to, given[i], how.argument_bytes[i]);
            arguments[i] = to;
            to += words_of(how, i);
        }
        word_count = words;
    }

    /* Two words at a time: arguments may be aligned to 16 bytes. */
    static size_t words_of(const emu::Kernel &how, unsigned i)
    {
        return (how.argument_bytes[i] + 15) / 16 * 2;
    }

    cudaError_t run() override
    {
        State *s = state();
        s->seen.launches++;
        emu::options.seed = s->random;
        draw(2);
        cudaError_t error = emu::run_grid(kernel, grid, arguments.data());
        if (error) s->kernel_error = emu::last_error();
        return error;
    }

    size_t word_count;
};

/* What looks like the address of another device's memory is one. */
cudaError_t foreign_argument(const KernelWork &launch, int device)
{
    if (state()->device.count < 2) return cudaSuccess;
    for (size_t i = 0; i < launch.word_count; i++) {
        const Allocation *a = find(reinterpret_cast<const void *>(launch.values[i]), 1);
        if (a && a->place == Place::DEVICE && a->device != device)
            return misuse(cudaErrorIllegalAddress,
                          "a kernel of device %d that is given memory of device %d",
                          device, a->device);
    }
    return cudaSuccess;
}

} // namespace

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute,
                                 int value)
{
    ENTER(cudaErrorInvalidValue);
    if (!emu::kernel_find(kernel)) return keep(cudaErrorInvalidDeviceFunction);
    KernelLimits &limits = state()->limits[current_device()][kernel];
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
        (size_t)value <= emu::options.shared_limit_bytes)
        limits.shared_bytes = (size_t)value;
    else if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed)
        limits.cluster_16 = value != 0;
    else return keep(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    ENTER(cudaErrorInvalidValue);
    if (!emu::kernel_find(kernel)) return keep(cudaErrorInvalidDeviceFunction);
    const fake_device &d = state()->device;
    memset(attributes, 0, sizeof *attributes);
    attributes->numRegs = 32;
    attributes->maxThreadsPerBlock = 1024;
    attributes->binaryVersion = attributes->ptxVersion = d.major * 10 + d.minor;
    attributes->maxDynamicSharedSizeBytes =
        (int)state()->limits[current_device()][kernel].shared_bytes;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel,
                                                          int threads,
                                                          size_t shared_bytes)
{
    *blocks = 0;
    ENTER(cudaErrorInvalidValue);
    if (!emu::kernel_find(kernel)) return keep(cudaErrorInvalidDeviceFunction);
    if (threads < 1 || threads > 1024) return keep(cudaErrorInvalidValue);
    if (shared_bytes > state()->limits[current_device()][kernel].shared_bytes)
        return cudaSuccess;
    size_t fit = std::min<size_t>(emu::options.blocks_per_multiprocessor,
                                  2048 / (((size_t)threads + 31) / 32 * 32));
    if (shared_bytes)
        fit = std::min(fit,
                       (emu::options.shared_limit_bytes + 1024) / (shared_bytes + 1024));
    *blocks = (int)fit;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel,
                                void **arguments)
{
    ENTER(cudaErrorLaunchOutOfResources);
    State *s = state();
    const emu::Kernel *how = emu::kernel_find(kernel);
    if (!how) return keep(cudaErrorInvalidDeviceFunction);
    const KernelLimits limits = s->limits[current_device()][kernel];
    emu::Grid grid = {config->gridDim, config->blockDim, config->dynamicSmemBytes, 1,
                      limits.cluster_16 ? (unsigned)emu::GRID_CLUSTER_16 : 0};
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const cudaLaunchAttribute &a = config->attrs[i];
        if (a.id == cudaLaunchAttributeClusterDimension)
            grid.cluster = a.val.clusterDim.x;
        else if (a.id == cudaLaunchAttributeCooperative && a.val.cooperative)
            grid.flags |= emu::GRID_COOPERATIVE;
        else return keep(cudaErrorNotSupported);
    }
    if (config->dynamicSmemBytes > limits.shared_bytes)
        return keep(cudaErrorInvalidValue);
    if (grid.cluster > 1 && s->device.major < 9) return keep(cudaErrorNotSupported);
    cudaError_t wrong = emu::check_grid(grid);
    if (wrong) return keep(wrong);
    auto launch = std::make_shared<KernelWork>(kernel, grid, *how, arguments);
    wrong = foreign_argument(*launch, current_device());
    if (wrong) return wrong;
    load_once(s->loaded[current_device()], kernel);
    return enqueue_work(config->stream, std::move(launch));
}

} // extern "C"
