/* The fake runtime's devices: how many, what they can do, and the names of errors. */
#include "emu.h"
#include "fake_state.h"

#include <stdio.h>
#include <string.h>

using namespace fake;

namespace
{

bool known(int device)
{
    return device >= 0 && device < state()->device.count;
}

} // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    ENTER(cudaErrorInitializationError);
    *count = state()->device.count;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    ENTER_RELEASING(cudaErrorInvalidValue);
    *version = state()->device.driver_version;
    bool injected = ENTERED == cudaErrorInvalidValue;
    return injected ? ENTERED : cudaSuccess; /* also without a device */
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    ENTER_RELEASING(cudaErrorInvalidValue);
    *version = CUDART_VERSION;
    bool injected = ENTERED == cudaErrorInvalidValue;
    return injected ? ENTERED : cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    ENTER(cudaErrorDevicesUnavailable);
    if (!known(device)) return keep(cudaErrorInvalidDevice);
    current_device_set(device);
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    ENTER_THREAD(cudaErrorDevicesUnavailable);
    *device = current_device();
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    ENTER(cudaErrorUnknown);
    const fake_device &d = state()->device;
    if (!known(device)) return keep(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = d.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = d.minor;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = d.multiprocessors;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)emu::options.shared_limit_bytes;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = 48 << 10;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)emu::options.shared_limit_bytes + 1024;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = 1024;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = 2048;
        return cudaSuccess;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        *value = 65536;
        return cudaSuccess;
    case cudaDevAttrMaxGridDimX:
        *value = 0x7fffffff;
        return cudaSuccess;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
        *value = 65535;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = 32;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = 4 << 20;
        return cudaSuccess;
    case cudaDevAttrMaxPersistingL2CacheSize:
        *value = d.major >= 8 ? 2 << 20 : 0;
        return cudaSuccess;
    case cudaDevAttrAsyncEngineCount:
        *value = 2;
        return cudaSuccess;
    case cudaDevAttrComputeMode:
        *value = cudaComputeModeDefault;
        return cudaSuccess;
    case cudaDevAttrIntegrated:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrUnifiedAddressing:
        *value = 1;
        return cudaSuccess;
    case cudaDevAttrClusterLaunch:
        *value = d.major >= 9;
        return cudaSuccess;
    default:
        return misuse(cudaErrorInvalidValue, "attribute %d, which the fake does not know",
                      (int)attribute);
    }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    ENTER(cudaErrorUnknown);
    const fake_device &d = state()->device;
    if (!known(device)) return keep(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->major = d.major;
    properties->minor = d.minor;
    properties->totalGlobalMem = d.memory_bytes;
    properties->multiProcessorCount = d.multiprocessors;
    properties->sharedMemPerBlock = 48 << 10;
    properties->sharedMemPerBlockOptin = emu::options.shared_limit_bytes;
    properties->sharedMemPerMultiprocessor = emu::options.shared_limit_bytes + 1024;
    properties->reservedSharedMemPerBlock = 1024;
    properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->maxBlocksPerMultiProcessor = (int)emu::options.blocks_per_multiprocessor;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->l2CacheSize = 4 << 20;
    properties->persistingL2CacheMaxSize = d.major >= 8 ? 2 << 20 : 0;
    properties->memoryBusWidth = 64;
    properties->asyncEngineCount = 2;
    properties->concurrentKernels = properties->cooperativeLaunch = 1;
    properties->unifiedAddressing = 1;
    properties->clusterLaunch = d.major >= 9;
    properties->pciBusID = 1 + device;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    ENTER(cudaErrorUnknown);
    *total_bytes = state()->device.memory_bytes;
    *free_bytes = *total_bytes - state()->device_bytes[current_device()];
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    ENTER(cudaErrorUnknown);
    NOT_CAPTURED();
    state()->seen.synchronisations++;
    run_until([] {
        for (cudaStream_t stream : state()->queues)
            if (stream->device == current_device() && !stream->queue.empty())
                return false;
        return true;
    });
    return keep(sticky());
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER(cudaErrorUnknown);
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

#define ERRORS(X)                                                           \
    X(cudaSuccess, "no error")                                              \
    X(cudaErrorInvalidValue, "invalid argument")                            \
    X(cudaErrorMemoryAllocation, "out of memory")                           \
    X(cudaErrorInitializationError, "initialization error")                 \
    X(cudaErrorInvalidConfiguration, "invalid configuration argument")      \
    X(cudaErrorInvalidPitchValue, "invalid pitch argument")                 \
    X(cudaErrorInvalidMemcpyDirection, "invalid copy direction")            \
    X(cudaErrorInsufficientDriver, "driver too old for the runtime")        \
    X(cudaErrorDevicesUnavailable, "devices busy or unavailable")           \
    X(cudaErrorInvalidDeviceFunction, "invalid device function")            \
    X(cudaErrorNoDevice, "no CUDA-capable device")                          \
    X(cudaErrorInvalidDevice, "invalid device ordinal")                     \
    X(cudaErrorNoKernelImageForDevice, "no kernel image for the device")    \
    X(cudaErrorHostMemoryAlreadyRegistered, "host memory registered twice") \
    X(cudaErrorHostMemoryNotRegistered, "host memory not registered")       \
    X(cudaErrorInvalidClusterSize, "invalid cluster size")                  \
    X(cudaErrorInvalidResourceHandle, "invalid resource handle")            \
    X(cudaErrorIllegalState, "illegal state")                               \
    X(cudaErrorNotReady, "not ready")                                       \
    X(cudaErrorIllegalAddress, "illegal address")                           \
    X(cudaErrorLaunchOutOfResources, "too many resources for a launch")     \
    X(cudaErrorLaunchTimeout, "launch timed out")                           \
    X(cudaErrorLaunchFailure, "launch failure")                             \
    X(cudaErrorCooperativeLaunchTooLarge, "cooperative launch too large")   \
    X(cudaErrorNotSupported, "not supported")                               \
    X(cudaErrorStreamCaptureUnsupported, "not permitted while capturing")   \
    X(cudaErrorStreamCaptureInvalidated, "capture invalidated")             \
    X(cudaErrorStreamCaptureMerge, "merge of two captures")                 \
    X(cudaErrorStreamCaptureUnmatched, "capture not begun in this stream")  \
    X(cudaErrorStreamCaptureUnjoined, "capture with unjoined work")         \
    X(cudaErrorStreamCaptureIsolation, "dependency across a capture")       \
    X(cudaErrorStreamCaptureImplicit, "implicit dependency in a capture")   \
    X(cudaErrorCapturedEvent, "event recorded in a capture")                \
    X(cudaErrorStreamCaptureWrongThread, "capture of another thread")       \
    X(cudaErrorGraphExecUpdateFailure, "graph update failed")               \
    X(cudaErrorUnknown, "unknown error")

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define ERROR_NAME(code, text) \
    case code:                 \
        return #code;
        ERRORS(ERROR_NAME)
#undef ERROR_NAME
    default:
        return "another CUDA error";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define ERROR_TEXT(code, text) \
    case code:                 \
        return text;
        ERRORS(ERROR_TEXT)
#undef ERROR_TEXT
    default:
        return "another CUDA error";
    }
}

} // extern "C"
