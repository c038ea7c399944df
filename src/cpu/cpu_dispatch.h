/* Which kernels: the best instruction set of this processor, capped by CARRY_ISA. */
#ifndef CY_CPU_CPU_DISPATCH_H
#define CY_CPU_CPU_DISPATCH_H

#include "kernels/cpu/cpu_kernels.h"

#include <stddef.h>

/* The kernels in use. Chosen at the first call, the same ever after; safe from any thread. */
const cy_cpu_kernels *cy_cpu_kernels_chosen(void);

/* The variants that this build has and this machine runs, slowest first; NULL past the end. */
const cy_cpu_kernels *cy_cpu_kernels_at(size_t index);

#endif
