/* The table of CPU kernels: one per instruction set, chosen once by src/cpu/cpu_dispatch.c. */
#ifndef CY_KERNELS_CPU_KERNELS_H
#define CY_KERNELS_CPU_KERNELS_H

#include "kernels/dense.h"
#include "kernels/lstm.h"

typedef struct cy_cpu_kernels {
    const char *isa; /* "reference", "avx2", "avx512" */
    size_t lanes;    /* units in a panel */

    void (*dense)(const cy_dense *dense);
    void (*lstm_step)(const cy_lstm_step *step);       /* activations tanh and sigmoid */
    void (*lstm_accumulate)(const cy_lstm_step *step); /* products only: z += h_prev U */
} cy_cpu_kernels;

/* Most lanes of any variant: rows in a workspace are padded for it. */
#define CY_MAX_LANES 16

extern const cy_cpu_kernels cy_cpu_kernels_ref;
extern const cy_cpu_kernels cy_cpu_kernels_avx2;   /* where CMake builds it */
extern const cy_cpu_kernels cy_cpu_kernels_avx512; /* where CMake builds it */

#endif
