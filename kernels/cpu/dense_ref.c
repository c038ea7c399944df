/* dense, reference: kernels/dense.h in plain loops.
 *
 * Why this shape: it is the oracle the other variants are held against, bit for bit, and what runs
 * where there is no AVX2. Read it, do not speed it up. Lanes: 1, so a panel is 4 columns.
 * Called by: src/cpu/cpu_run.c through the table. Test: tests/kernels/check_kernels.c. */
#include "kernels/cpu/ref.h"

#include <math.h>

void cy_dense_f32_ref(const cy_dense *d)
{
    for (size_t p = d->first_panel; p < d->end_panel; p++) {
        const float *kernel = d->kernel + p * d->features * 4; /* [features][4] */
        for (size_t r = 0; r < d->rows; r++) {
            float *out = d->out + r * d->row_stride + p * d->panel_stride; /* [4] */
            for (size_t j = 0; j < 4; j++) {
                float sum = 0;
                for (size_t k = 0; k < d->features; k++)
                    sum = fmaf(d->x[r][k], kernel[k * 4 + j], sum);
                out[j] = sum + d->bias[p * 4 + j];
            }
        }
    }
}
