#include "cuda/cuda_device.h"

#include "cuda/cuda_error.h"

#include <stdio.h>

/* The kernels are compiled for these and later ones. */
#define LEAST_MAJOR 7
#define LEAST_MINOR 5

/* How many devices the driver shows; or why it shows none. */
static carry_status count_devices(int *count)
{
    cudaError_t error = cudaGetDeviceCount(count);
    if (error == cudaSuccess && *count > 0) return CARRY_OK;
    cudaGetLastError();
    *count = 0;
    int driver = 0;
    cy_cuda_ignore(cudaDriverGetVersion(&driver));
    if (error == cudaErrorInsufficientDriver && driver > 0)
        return cy_fail(CARRY_E_DEVICE,
                       "the NVIDIA driver here is for CUDA %d.%d, carry was built with "
                       "CUDA %d.%d: update the driver",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    if (error == cudaErrorInsufficientDriver)
        return cy_fail(CARRY_E_DEVICE, "this machine has no NVIDIA driver");
    if (error == cudaSuccess || error == cudaErrorNoDevice)
        return cy_fail(CARRY_E_DEVICE, "the NVIDIA driver shows no CUDA device");
    return cy_cuda_failed(error, "looking for CUDA devices");
}

static carry_status read_attributes(cy_cuda_device *device)
{
    const struct {
        enum cudaDeviceAttr attribute;
        int *value;
    } wanted[] = {
        {cudaDevAttrComputeCapabilityMajor, &device->major},
        {cudaDevAttrComputeCapabilityMinor, &device->minor},
        {cudaDevAttrMultiProcessorCount, &device->multiprocessors},
        {cudaDevAttrL2CacheSize, &device->l2_bytes},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        CY_CUDA_TRY(
            cudaDeviceGetAttribute(wanted[i].value, wanted[i].attribute, device->index),
            "asking the device what it is");
    CY_CHECK(device->major > LEAST_MAJOR ||
                 (device->major == LEAST_MAJOR && device->minor >= LEAST_MINOR),
             CARRY_E_DEVICE,
             "its compute capability is %d.%d; carry's kernels need %d.%d or later",
             device->major, device->minor, LEAST_MAJOR, LEAST_MINOR);
    return CARRY_OK;
}

carry_status cy_cuda_device_read(uint32_t index, cy_cuda_device *device)
{
    int count;
    CY_TRY(count_devices(&count));
    CY_CHECK(index < (uint32_t)count, CARRY_E_DEVICE,
             "device 'cuda:%u': this machine has %d CUDA device%s", index, count,
             count == 1 ? "" : "s");
    *device = (cy_cuda_device){.index = (int)index};
    return read_attributes(device);
}

bool cy_cuda_device_info(uint32_t index, carry_device_info *info)
{
    static _Thread_local char name[16], description[300], trouble[CY_SENTENCE_BYTES];
    int count;
    *info =
        (carry_device_info){.size = info->size, .name = name, .description = description};
    snprintf(description, sizeof description, "not usable");
    if (count_devices(&count) != CARRY_OK) {
        if (index > 0) return false;
        snprintf(name, sizeof name, "cuda");
        snprintf(trouble, sizeof trouble, "%s", cy_error());
        info->trouble = trouble;
        return true;
    }
    if (index >= (uint32_t)count) return false;
    snprintf(name, sizeof name, "cuda:%u", index);
    cy_cuda_device device = {.index = (int)index};
    struct cudaDeviceProp properties;
    cy_cuda_scope scope;
    carry_status status = read_attributes(&device);
    if (cudaGetDeviceProperties(&properties, (int)index) == cudaSuccess)
        snprintf(description, sizeof description, "%s, compute capability %d.%d",
                 properties.name, device.major, device.minor);
    else cudaGetLastError();
    if (status == CARRY_OK) status = cy_cuda_device_enter(&scope, (int)index);
    if (status == CARRY_OK) {
        size_t free_bytes = 0, total = 0;
        cudaError_t error = cudaMemGetInfo(&free_bytes, &total);
        if (error != cudaSuccess)
            status = cy_cuda_failed(error, "asking for free memory");
        info->free_bytes = free_bytes;
        info->memory_bytes = total;
        status = cy_cuda_device_leave(&scope, status);
    }
    info->usable = status == CARRY_OK;
    if (status != CARRY_OK) {
        snprintf(trouble, sizeof trouble, "%s", cy_error());
        info->trouble = trouble;
    }
    return true;
}

static cudaError_t enter_capture_mode(cy_cuda_scope *scope)
{
    scope->capture_mode = cudaStreamCaptureModeThreadLocal;
    cudaError_t error = cudaThreadExchangeStreamCaptureMode(&scope->capture_mode);
    scope->mode_changed = error == cudaSuccess;
    return error;
}

/* Both are tried; the first failure. */
static cudaError_t leave_scope(const cy_cuda_scope *scope)
{
    cudaError_t device = cudaSuccess, mode = cudaSuccess;
    if (scope->before != scope->device) device = cudaSetDevice(scope->before);
    enum cudaStreamCaptureMode before = scope->capture_mode;
    if (scope->mode_changed) mode = cudaThreadExchangeStreamCaptureMode(&before);
    return device != cudaSuccess ? device : mode;
}

static carry_status enter_device(cy_cuda_scope *scope)
{
    CY_CUDA_TRY(cudaGetDevice(&scope->before), "asking which device is current");
    if (scope->before != scope->device)
        CY_CUDA_TRY(cudaSetDevice(scope->device), "making the model's device current");
    return CARRY_OK;
}

carry_status cy_cuda_device_enter(cy_cuda_scope *scope, int device)
{
    *scope = (cy_cuda_scope){.before = device, .device = device};
    CY_CUDA_TRY(enter_capture_mode(scope), "setting the thread's capture mode");
    carry_status status = enter_device(scope);
    if (status == CARRY_OK) return CARRY_OK;
    scope->before = scope->device; /* it is not current */
    cy_cuda_ignore(leave_scope(scope));
    return status;
}

carry_status cy_cuda_device_leave(const cy_cuda_scope *scope, carry_status status)
{
    cudaError_t error = leave_scope(scope);
    if (error == cudaSuccess) return status;
    if (status == CARRY_OK)
        return cy_cuda_failed(error, "making the caller's device current again");
    cy_cuda_ignore(error);
    return status;
}

void cy_cuda_device_enter_to_close(cy_cuda_scope *scope, int device)
{
    *scope = (cy_cuda_scope){.before = device, .device = device};
    cy_cuda_ignore(enter_capture_mode(scope));
    if (cudaGetDevice(&scope->before) != cudaSuccess) {
        cudaGetLastError();
        scope->before = device;
    }
    if (scope->before != device) cy_cuda_ignore(cudaSetDevice(device));
}

void cy_cuda_device_leave_closed(const cy_cuda_scope *scope)
{
    cy_cuda_ignore(leave_scope(scope));
}
