/* The CUDA backend. */
#ifndef CY_CUDA_H
#define CY_CUDA_H

/* Devices that can be used; 0 without a driver. */
int cy_cuda_device_count(void);

#endif
