/* The CUDA backend. Only src/backend.c names it. */
#ifndef CY_CUDA_CUDA_H
#define CY_CUDA_CUDA_H

#include "backend.h"

extern const cy_backend cy_backend_cuda;

#endif
