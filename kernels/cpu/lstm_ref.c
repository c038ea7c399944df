/* LSTM step, reference: kernels/lstm.h in plain loops.
 *
 * Why this shape: it is the oracle the other variants are held against, and what runs where there is
 * no AVX2. Read it, do not speed it up. Lanes: 1, so a panel is one unit and its four gates.
 * Called by: src/cpu/cpu_run.c through the table. Test: tests/kernels/check_kernels.c. */
#include "kernels/cell.h"
#include "kernels/cpu/ref.h"

#include <math.h>

void cy_lstm_accumulate_f32_ref(const cy_lstm_step *s)
{
    for (size_t p = s->first_panel; p < s->end_panel; p++) {
        const float *recurrent = s->recurrent + p * s->units * 4; /* [units][4] */
        for (size_t r = 0; r < s->rows; r++) {
            const float *h_prev = s->h_prev + r * s->h_prev_stride; /* [units] */
            float *z = s->z + (p * s->z_rows + r) * 4;              /* [4] */
            for (size_t g = 0; g < 4; g++) {
                float sum = 0;
                for (size_t k = 0; k < s->units; k++)
                    sum = fmaf(h_prev[k], recurrent[k * 4 + g], sum);
                z[g] += sum;
            }
        }
    }
}

void cy_lstm_step_f32_ref(const cy_lstm_step *s)
{
    cy_lstm_accumulate_f32_ref(s);
    cy_lstm_cell_f32_ref(s, 1, CY_ACT_TANH, CY_ACT_SIGMOID);
}

const cy_cpu_kernels cy_cpu_kernels_ref = {
    .isa = "reference",
    .lanes = 1,
    .dense = cy_dense_f32_ref,
    .lstm_step = cy_lstm_step_f32_ref,
    .lstm_accumulate = cy_lstm_accumulate_f32_ref,
};
