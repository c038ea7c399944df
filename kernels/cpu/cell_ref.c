/* Cell, scalar: kernels/cell.h, with the formulas of kernels/activate.h.
 *
 * Limits: none on n.
 * Called by: the reference step, src/cpu/cpu_run.c. Test: tests/kernels/check_kernels.c. */
#include "kernels/cell.h"

#include <math.h>

static void softmax(cy_activation activation, const float *x, float *y, size_t n)
{
    float max = x[0];
    for (size_t i = 1; i < n; i++)
        if (x[i] > max) max = x[i];
    if (activation == CY_ACT_LOG_SOFTMAX) {
        /* in float every unit would have the logarithm's error, in the same direction */
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += exp((double)x[i] - max);
        double log_sum = log(sum);
        for (size_t i = 0; i < n; i++)
            y[i] = (float)((double)x[i] - max - log_sum);
    } else {
        float sum = 0;
        for (size_t i = 0; i < n; i++) {
            y[i] = expf(x[i] - max);
            sum += y[i];
        }
        for (size_t i = 0; i < n; i++)
            y[i] /= sum;
    }
}

void cy_activate_f32_ref(cy_activation activation, const float *x, float *y, size_t n)
{
    if (cy_activation_spans_row(activation)) {
        if (n > 0) softmax(activation, x, y, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        y[i] = cy_activate(activation, x[i]);
}

void cy_lstm_cell_f32_ref(const cy_lstm_step *s, size_t lanes, cy_activation activation,
                          cy_activation recurrent_activation)
{
    size_t first = s->first_panel * lanes, end = s->end_panel * lanes;
    if (end > s->units) end = s->units;
    if (first >= end) return;
    size_t n = end - first;
    for (size_t r = 0; r < s->rows; r++) {
        float *c = s->c + r * s->c_stride + first; /* [n] */
        float *h = s->h + r * s->h_stride + first; /* [n], scratch until the end */

        /* z of unit j, gate g: z[(j / lanes) * panel + g * lanes + j % lanes] */
        float *z = s->z + (s->first_panel * s->z_rows + r) * 4 * lanes;
        size_t panel = s->z_rows * 4 * lanes;
        for (size_t g = 0; g < 4; g++) {
            for (size_t j = 0; j < n; j++)
                h[j] = z[j / lanes * panel + g * lanes + j % lanes];
            cy_activate_f32_ref(g == 2 ? activation : recurrent_activation, h, h, n);
            for (size_t j = 0; j < n; j++)
                z[j / lanes * panel + g * lanes + j % lanes] = h[j];
        }
        for (size_t j = 0; j < n; j++) {
            const float *gate = z + j / lanes * panel + j % lanes; /* [4], lanes apart */
            c[j] = fmaf(gate[lanes], c[j], gate[0] * gate[2 * lanes]);
        }
        cy_activate_f32_ref(activation, c, h, n);
        for (size_t j = 0; j < n; j++)
            h[j] *= z[j / lanes * panel + 3 * lanes + j % lanes];
    }
}
