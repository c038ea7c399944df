/* Cell, scalar: kernels/cell.h, every activation of kernels/activation.h written once.
 *
 * Formulas are those of Keras 3. Each keeps NaN (comparisons are turned so that a NaN falls through
 * to x itself), takes infinities as IEEE arithmetic does, and avoids overflow where the true result
 * is finite.
 * Limits: none on n. Accuracy: that of the C library's float functions, about 1 ulp each, and of its double tanh.
 * Called by: the reference step, src/cpu/cpu_run.c. Test: tests/kernels/check_kernels.c. */
#include "kernels/cell.h"

#include <math.h>

/* e / (1 + e) on the negative side: 1 / (1 + exp(-x)) would overflow to 0 where the result is still
 * a denormal. */
static float sigmoid(float x)
{
    if (x < 0) {
        float e = expf(x);
        return e / (1 + e);
    }
    return 1 / (1 + expf(-x));
}

/* By way of double: the C library's tanhf may be off by 2 ulp, and gates without a bound make that grow from step to
 * step past what Keras is off by. */
static float tanh_of(float x)
{
    return (float)tanh((double)x);
}

static float clip(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

static float softplus(float x)
{
    return log1pf(expf(-fabsf(x))) + (x < 0 ? 0 : x);
}

static float activate(cy_activation activation, float x)
{
    switch (activation) {
    case CY_ACT_TANH:
        return tanh_of(x);
    case CY_ACT_SIGMOID:
        return sigmoid(x);
    case CY_ACT_HARD_SIGMOID_02:
        return clip(0.2f * x + 0.5f, 0, 1);
    case CY_ACT_HARD_SIGMOID_6TH:
        return clip(x / 6 + 0.5f, 0, 1);
    case CY_ACT_RELU:
        return x < 0 ? 0 : x;
    case CY_ACT_RELU6:
        return clip(x, 0, 6);
    case CY_ACT_LEAKY_RELU_02:
        return x < 0 ? 0.2f * x : x;
    case CY_ACT_ELU:
    case CY_ACT_CELU: /* alpha is 1 in both: the same */
        return x < 0 ? expm1f(x) : x;
    case CY_ACT_SELU:
        return 1.05070098735548049342f *
               (x < 0 ? 1.67326324235437728482f * expm1f(x) : x);
    case CY_ACT_SOFTPLUS:
        return softplus(x);
    case CY_ACT_SOFTSIGN:
        return x / (1 + fabsf(x));
    case CY_ACT_EXPONENTIAL:
        return expf(x);
    case CY_ACT_SILU:
        return x * sigmoid(x);
    case CY_ACT_HARD_SILU:
        return x * clip(x + 3, 0, 6) / 6;
    case CY_ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678118654752440f));
    case CY_ACT_MISH:
        return x * tanh_of(softplus(x));
    case CY_ACT_LOG_SIGMOID:
        return -softplus(-x);
    case CY_ACT_HARD_TANH:
        return clip(x, -1, 1);
    case CY_ACT_TANH_SHRINK:
        return (float)(x - tanh((double)x)); /* in float32 the difference cancels */
    case CY_ACT_LINEAR:
    case CY_ACT_SOFTMAX: /* over a vector, below */
    case CY_ACT_LOG_SOFTMAX:
    case CY_ACT_COUNT:
        break;
    }
    return x;
}

static void softmax(cy_activation activation, const float *x, float *y, size_t n)
{
    float max = x[0];
    for (size_t i = 1; i < n; i++)
        if (x[i] > max) max = x[i];
    if (activation == CY_ACT_LOG_SOFTMAX) {
        float sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += expf(x[i] - max);
        float log_sum = logf(sum);
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] - max - log_sum;
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
        y[i] = activate(activation, x[i]);
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
