/* CUDA devices: which there are, what they can do, and which one is current. */
#ifndef CY_CUDA_CUDA_DEVICE_H
#define CY_CUDA_CUDA_DEVICE_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

/* What plans depend on. */
typedef struct cy_cuda_device {
    int index;
    int major, minor; /* compute capability */
    int multiprocessors;
    int l2_bytes;
} cy_cuda_device;

/* The facts of a device that can be used. Errors: CARRY_E_DEVICE, with the reason. */
carry_status cy_cuda_device_read(uint32_t index, cy_cuda_device *device);

/* What carry_device_get_info says about device `index`; false past the last. */
bool cy_cuda_device_info(uint32_t index, carry_device_info *info);

/* Makes a device current for this thread; leave makes current what was before. Nests.
 *
 * In between, what this thread does is no concern of another thread's capture. By default CUDA takes an allocation or
 * a wait on any thread for a mistake, and spoils the capture, while somewhere in the process a stream is captured in
 * cudaStreamCaptureModeGlobal, as other libraries do. Our own captures are held to it all the same. */
typedef struct cy_cuda_scope {
    int before, device;
    enum cudaStreamCaptureMode capture_mode; /* the thread's before */
    bool mode_changed;
} cy_cuda_scope;
carry_status cy_cuda_device_enter(cy_cuda_scope *scope, int device);
/* Passes a failure on; after success, that the caller's device could not be made current again is one. */
carry_status cy_cuda_device_leave(const cy_cuda_scope *scope, carry_status status);
/* For closing, which goes on whatever fails. */
void cy_cuda_device_enter_to_close(cy_cuda_scope *scope, int device);
void cy_cuda_device_leave_closed(const cy_cuda_scope *scope);

#endif
