/* The reference kernels, declared for their table. */
#ifndef CY_KERNELS_CPU_REF_H
#define CY_KERNELS_CPU_REF_H

#include "kernels/cpu/cpu_kernels.h"

void cy_dense_f32_ref(const cy_dense *dense);
void cy_lstm_step_f32_ref(const cy_lstm_step *step);
void cy_lstm_accumulate_f32_ref(const cy_lstm_step *step);

#endif
