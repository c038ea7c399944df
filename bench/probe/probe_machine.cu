/* The first GPU, as the machine that the probe measures. */
#include "probe.h"

#include <stdio.h>

namespace probe
{

bool machine_open()
{
    cudaDeviceProp properties;
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (!error && count > 0) error = cudaGetDeviceProperties(&properties, 0);
    if (error || count == 0) {
        fprintf(stderr, "gpu_probe: there is no GPU here, nothing was measured: %s\n",
                error ? cudaGetErrorString(error) : "the driver knows none");
        return false;
    }
    machine.name = properties.name;
    machine.major = properties.major;
    machine.minor = properties.minor;
    machine.multiprocessors = (unsigned)properties.multiProcessorCount;
    machine.l2_bytes = (size_t)properties.l2CacheSize;
    machine.memory_bytes = properties.totalGlobalMem;
    machine.is_gpu = true;
    return true;
}

std::string reason_of(cudaError_t error)
{
    return cudaGetErrorString(error);
}

cudaError_t clusters_at_once(const void *kernel, const dev::launch_shape &shape,
                             int *clusters)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = shape.cluster > 1 ? shape.cluster : 1;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaOccupancyMaxActiveClusters(clusters, kernel, &config);
}

} // namespace probe
