/* The CPU backend. Only src/backend.c names it; run/ asks it for the instruction set's name. */
#ifndef CY_CPU_CPU_H
#define CY_CPU_CPU_H

#include "backend.h"

extern const cy_backend cy_backend_cpu;

/* "reference", "avx2" or "avx512": the kernels in use, chosen at the first call. */
const char *cy_cpu_isa(void);

#endif
