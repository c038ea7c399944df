/* One kernel at a time: products bit for bit against the reference and within rounding of double;
 * gates and activations in ulp against double. */
#include "check.h"
#include "oracle_f64.h"
#include "random_graph.h"

#include "kernels/cell.h"
#include "kernels/pack.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- arrays with a fence -------------------------------------------------------------------- */

#define FENCE       64 /* floats before and after */
#define FENCE_VALUE 12345.678f

static float *fenced(size_t count)
{
    float *block = malloc((count + 2 * FENCE) * sizeof *block);
    if (!block) abort();
    for (size_t i = 0; i < count + 2 * FENCE; i++)
        block[i] = FENCE_VALUE;
    return block + FENCE;
}

static float *fenced_random(rng *r, size_t count, double scale)
{
    float *a = fenced(count);
    for (size_t i = 0; i < count; i++)
        a[i] = (float)rng_uniform(r, -scale, scale);
    return a;
}

static void expect_fence(const float *a, size_t count, const char *what)
{
    bool whole = true;
    for (size_t i = 0; i < FENCE; i++)
        whole =
            whole && a[-1 - (ptrdiff_t)i] == FENCE_VALUE && a[count + i] == FENCE_VALUE;
    expect(whole, "%s wrote past its array of %zu", what, count);
}

static void drop(float *a)
{
    free(a - FENCE);
}

static double ulp_of(double y)
{
    if (fabs(y) < FLT_MIN) return 0x1p-149;
    int exponent;
    frexp(y, &exponent);
    return ldexp(1, exponent - 24);
}

/* Largest distance in ulp that got may have from y; NaN for NaN, infinity for infinity. */
static void expect_ulp(float got, double y, double most, const char *what, double x)
{
    if (isnan(y)) {
        expect(isnan(got), "%s(%g) is %g, expected NaN", what, x, got);
        return;
    }
    if (isinf(y) || fabs(y) > FLT_MAX) {
        expect(isinf(got) && (got > 0) == (y > 0), "%s(%g) is %g, expected %g", what, x,
               got, y);
        return;
    }
    double ulp = fabs(got - y) / ulp_of(y);
    measured("ulp", ulp);
    expect(ulp <= most, "%s(%.9g) is %.9g, expected %.9g: %.2f ulp off", what, x, got, y,
           ulp);
}

/* ---- pack ----------------------------------------------------------------------------------- */

void check_pack(const subject *s)
{
    size_t lanes = s->kernels->lanes, per = 4 * lanes;
    for (size_t units = 1; units <= 40; units += 3) {
        for (size_t k_count = 1; k_count <= 3; k_count++) {
            size_t columns = 4 * units, panels = cy_pack_panels(units, lanes);
            float *source = fenced(k_count * columns);
            for (size_t i = 0; i < k_count * columns; i++)
                source[i] = (float)(i + 1);
            float *packed = fenced(panels * k_count * per);
            cy_pack_gates_f32(source, packed, k_count, units, lanes);
            bool good = true;
            for (size_t p = 0; p < panels; p++)
                for (size_t k = 0; k < k_count; k++)
                    for (size_t g = 0; g < 4; g++)
                        for (size_t l = 0; l < lanes; l++) {
                            size_t unit = p * lanes + l;
                            float want =
                                unit < units ? source[k * columns + g * units + unit] : 0;
                            good =
                                good &&
                                packed[((p * k_count + k) * 4 + g) * lanes + l] == want;
                        }
            expect(good, "gates of %zu units, %zu k", units, k_count);
            expect_fence(packed, panels * k_count * per, "pack_gates");
            drop(packed);

            panels = cy_pack_panels(units, per);
            packed = fenced(panels * k_count * per);
            cy_pack_columns_f32(source, packed, k_count, units, lanes);
            good = true;
            for (size_t p = 0; p < panels; p++)
                for (size_t k = 0; k < k_count; k++)
                    for (size_t j = 0; j < per; j++) {
                        size_t column = p * per + j;
                        float want = column < units ? source[k * units + column] : 0;
                        good = good && packed[(p * k_count + k) * per + j] == want;
                    }
            expect(good, "columns %zu, %zu k", units, k_count);
            expect_fence(packed, panels * k_count * per, "pack_columns");
            drop(packed);
            drop(source);
        }
    }
}

/* ---- products ------------------------------------------------------------------------------- */

static const size_t widths[] = {1, 3, 17, 64, 200};
#define COUNT(a) (sizeof(a) / sizeof *(a))

void check_dense(const subject *s)
{
    size_t lanes = s->kernels->lanes, per = 4 * lanes;
    rng r = {7};
    for (size_t f = 0; f < COUNT(widths); f++)
        for (size_t w = 0; w < COUNT(widths); w++)
            for (size_t rows = 1; rows <= 13; rows++) {
                size_t features = widths[f], width = widths[w];
                size_t panels = cy_pack_panels(width, per), stride = panels * per + 5;
                float *x = fenced_random(&r, rows * features, 1);
                float *kernel = fenced_random(&r, features * width, 1);
                float *bias = fenced_random(&r, width, rows % 2 ? 1 : 1000);
                float *packed = fenced(panels * features * per);
                float *packed_bias = fenced(panels * per);
                cy_pack_columns_f32(kernel, packed, features, width, lanes);
                cy_pack_columns_f32(bias, packed_bias, 1, width, lanes);
                const float *at[13];
                for (size_t i = 0; i < rows; i++) /* any order of addresses */
                    at[i] = x + (rows - 1 - i) * features;
                size_t count = (rows - 1) * stride + panels * per;
                float *out = fenced(count);
                cy_dense d = {.x = at,
                              .kernel = packed,
                              .bias = packed_bias,
                              .out = out,
                              .row_stride = stride,
                              .panel_stride = per,
                              .rows = rows,
                              .features = features,
                              .first_panel = 0,
                              .end_panel = panels / 2};
                s->kernels->dense(&d); /* in two parts, as two threads would */
                d.first_panel = panels / 2;
                d.end_panel = panels;
                s->kernels->dense(&d);
                expect_fence(out, count, "dense");
                bool same = true, near = true, gap = true;
                for (size_t i = 0; i < rows; i++) {
                    for (size_t j = 0; j < width; j++) {
                        float sum = 0;
                        double exact = bias[j], size = 0;
                        for (size_t k = 0; k < features; k++) {
                            sum = fmaf(at[i][k], kernel[k * width + j], sum);
                            double term = (double)at[i][k] * kernel[k * width + j];
                            exact += term;
                            size += fabs(term);
                        }
                        sum += bias[j];
                        float got = out[i * stride + j];
                        same = same && memcmp(&got, &sum, sizeof got) == 0;
                        /* a large bias costs one rounding, not one for each k */
                        size = (double)features * size + 1.001 * fabs(exact);
                        near = near && fabs(got - exact) <= size * 0x1p-24;
                    }
                    for (size_t j = panels * per; i + 1 < rows && j < stride; j++)
                        gap = gap && out[i * stride + j] == FENCE_VALUE;
                }
                expect(same, "[%zu,%zu] x [%zu,%zu]: not the bits of the plain loop",
                       rows, features, features, width);
                expect(near, "[%zu,%zu] x [%zu,%zu]: far from double", rows, features,
                       features, width);
                expect(gap, "[%zu,%zu]: wrote between rows", rows, width);
                drop(x), drop(kernel), drop(bias), drop(packed), drop(packed_bias),
                    drop(out);
            }
}

/* One LSTM step on random numbers, canonical and packed. */
typedef struct step_case {
    size_t units, rows, panels, stride, z_rows;
    float *z;         /* [rows][4][units] */
    float *recurrent; /* [units][4][units] */
    float *h_prev;    /* [rows][units] */
    float *c;         /* [rows][units] */
    float *packed, *packed_z, *c_work, *h_work;
} step_case;

static step_case step_open(rng *r, size_t lanes, size_t units, size_t rows)
{
    step_case t = {.units = units, .rows = rows, .panels = cy_pack_panels(units, lanes)};
    t.stride = t.panels * lanes + 3;
    t.z_rows = rows + 2; /* the step is a part of a chunk */
    t.z = fenced_random(r, rows * 4 * units, 2);
    t.recurrent = fenced_random(r, 4 * units * units, 1 / sqrt((double)units));
    t.h_prev = fenced_random(r, rows * t.stride, 1);
    t.c = fenced_random(r, rows * t.stride, 2);
    t.packed = fenced(t.panels * units * 4 * lanes);
    cy_pack_gates_f32(t.recurrent, t.packed, units, units, lanes);
    t.packed_z = fenced(t.panels * t.z_rows * 4 * lanes);
    t.c_work = fenced(rows * t.stride);
    t.h_work = fenced(rows * t.stride);
    memcpy(t.c_work, t.c, rows * t.stride * sizeof(float));
    for (size_t p = 0; p < t.panels; p++)
        for (size_t i = 0; i < rows; i++)
            for (size_t g = 0; g < 4; g++)
                for (size_t l = 0; l < lanes; l++) {
                    size_t unit = p * lanes + l;
                    t.packed_z[((p * t.z_rows + i) * 4 + g) * lanes + l] =
                        unit < units ? t.z[(i * 4 + g) * units + unit] : NAN;
                }
    return t;
}

static void step_run(const step_case *t, void (*kernel)(const cy_lstm_step *))
{
    cy_lstm_step step = {.z = t->packed_z,
                         .z_rows = t->z_rows,
                         .h_prev = t->h_prev,
                         .recurrent = t->packed,
                         .c = t->c_work,
                         .h = t->h_work,
                         .h_prev_stride = t->stride,
                         .c_stride = t->stride,
                         .h_stride = t->stride,
                         .rows = t->rows,
                         .units = t->units,
                         .first_panel = 0,
                         .end_panel = (t->panels + 1) / 2};
    kernel(&step);
    step.first_panel = step.end_panel;
    step.end_panel = t->panels;
    kernel(&step);
}

static float step_sum(const step_case *t, size_t row, size_t gate, size_t unit,
                      double *exact)
{
    float z = t->z[(row * 4 + gate) * t->units + unit], sum = 0;
    *exact = z;
    for (size_t k = 0; k < t->units; k++) {
        float h = t->h_prev[row * t->stride + k];
        float u = t->recurrent[(k * 4 + gate) * t->units + unit];
        sum = fmaf(h, u, sum);
        *exact += (double)h * u;
    }
    return z + sum;
}

static void step_close(step_case *t, size_t lanes)
{
    expect_fence(t->packed_z, t->panels * t->z_rows * 4 * lanes, "z");
    expect_fence(t->c_work, t->rows * t->stride, "c");
    expect_fence(t->h_work, t->rows * t->stride, "h");
    drop(t->z), drop(t->recurrent), drop(t->h_prev), drop(t->c);
    drop(t->packed), drop(t->packed_z), drop(t->c_work), drop(t->h_work);
}

void check_lstm_accumulate(const subject *s)
{
    size_t lanes = s->kernels->lanes;
    rng r = {8};
    for (size_t w = 0; w < COUNT(widths); w++)
        for (size_t rows = 1; rows <= 13; rows++) {
            step_case t = step_open(&r, lanes, widths[w], rows);
            step_run(&t, s->kernels->lstm_accumulate);
            bool same = true, near = true;
            for (size_t i = 0; i < rows; i++)
                for (size_t g = 0; g < 4; g++)
                    for (size_t j = 0; j < t.units; j++) {
                        double exact;
                        float sum = step_sum(&t, i, g, j, &exact);
                        float got =
                            t.packed_z[((j / lanes * t.z_rows + i) * 4 + g) * lanes +
                                       j % lanes];
                        same = same && memcmp(&got, &sum, sizeof got) == 0;
                        near = near && fabs(got - exact) < 1e-5;
                    }
            expect(same, "units %zu, rows %zu: not the bits of the plain loop", t.units,
                   rows);
            expect(near, "units %zu, rows %zu: far from double", t.units, rows);
            step_close(&t, lanes);
        }
}

void check_lstm_step(const subject *s)
{
    size_t lanes = s->kernels->lanes;
    rng r = {9};
    for (size_t w = 0; w < COUNT(widths); w++)
        for (size_t rows = 1; rows <= 13; rows++) {
            step_case t = step_open(&r, lanes, widths[w], rows);
            step_run(&t, s->kernels->lstm_step);
            double worst = 0;
            bool gap = true;
            for (size_t i = 0; i < rows; i++) {
                for (size_t j = 0; j < t.units; j++) {
                    double a[4];
                    for (size_t g = 0; g < 4; g++) {
                        step_sum(&t, i, g, j, &a[g]);
                        oracle_activate(g == 2 ? CY_ACT_TANH : CY_ACT_SIGMOID, &a[g],
                                        &a[g], 1);
                    }
                    double c = a[1] * t.c[i * t.stride + j] + a[0] * a[2];
                    double h = a[3] * tanh(c);
                    worst = fmax(worst, fabs(c - t.c_work[i * t.stride + j]));
                    worst = fmax(worst, fabs(h - t.h_work[i * t.stride + j]));
                }
                for (size_t j = t.panels * lanes; j < t.stride; j++)
                    gap = gap && t.h_work[i * t.stride + j] == FENCE_VALUE;
            }
            measured("error", worst);
            expect(worst < 2e-6, "units %zu, rows %zu: off by %g", t.units, rows, worst);
            expect(gap, "units %zu, rows %zu: wrote between rows", t.units, rows);
            step_close(&t, lanes);
        }
}

/* ---- gates, cell, activations --------------------------------------------------------------- */

static float any_float(rng *r, size_t i)
{
    static const float special[] = {
        0,        -0.0f,     1e-45f,  -1e-45f,  1e-38f, -1e-38f, FLT_MIN, -FLT_MIN,
        88,       -88,       90,      -90,      103,    -103,    104,     -104,
        200,      -200,      FLT_MAX, -FLT_MAX, 0.5f,   -0.5f,   0.3466f, -0.3466f,
        INFINITY, -INFINITY, NAN,     1e-20f,   9.01f,  -9.02f};
    if (i < COUNT(special)) return special[i];
    switch (i % 4) {
    case 0:
        return (float)rng_uniform(r, -1, 1);
    case 1:
        return (float)rng_uniform(r, -12, 12);
    case 2:
        return (float)rng_uniform(r, -110, 110);
    default:
        return (float)(ldexp(rng_uniform(r, -1, 1), (int)(rng_next(r) % 40) - 36));
    }
}

/* Through the step with no products: i = 1, c = 0 makes c = tanh(z_g); g = 0, c = 1 makes
 * c = sigmoid(z_f). */
static void gate_values(const subject *s, const float *x, float *y, size_t n,
                        bool tanh_wanted)
{
    size_t lanes = s->kernels->lanes, panels = cy_pack_panels(n, lanes);
    float *z = fenced(panels * 4 * lanes), *c = fenced(panels * lanes),
          *h = fenced(panels * lanes), *u = fenced(1);
    for (size_t p = 0; p < panels; p++)
        for (size_t l = 0; l < lanes; l++) {
            float value = p * lanes + l < n ? x[p * lanes + l] : 0;
            float *gate = z + p * 4 * lanes + l;
            gate[0 * lanes] = tanh_wanted ? 200 : -INFINITY;
            gate[1 * lanes] = tanh_wanted ? -INFINITY : value;
            gate[2 * lanes] = tanh_wanted ? value : 0;
            gate[3 * lanes] = 200;
            c[p * lanes + l] = tanh_wanted ? 0 : 1;
        }
    cy_lstm_step step = {.z = z,
                         .z_rows = 1,
                         .h_prev = h,
                         .recurrent = u,
                         .c = c,
                         .h = h,
                         .rows = 1,
                         .units = 0,
                         .first_panel = 0,
                         .end_panel = panels};
    if (s->kernels->lanes == 1) { /* the reference looks at units */
        step.units = n;
        cy_lstm_cell_f32_ref(&step, 1, CY_ACT_TANH, CY_ACT_SIGMOID);
    } else {
        s->kernels->lstm_step(&step);
    }
    memcpy(y, c, n * sizeof *y);
    drop(z), drop(c), drop(h), drop(u);
}

void check_gates(const subject *s)
{
    enum { N = 200000 };
    float *x = fenced(N), *y = fenced(N);
    rng r = {10};
    for (size_t i = 0; i < N; i++)
        x[i] = any_float(&r, i);
    gate_values(s, x, y, N, true);
    for (size_t i = 0; i < N; i++)
        expect_ulp(y[i], tanh((double)x[i]), 2.5, "tanh", x[i]);
    gate_values(s, x, y, N, false);
    for (size_t i = 0; i < N; i++)
        expect_ulp(y[i], 1 / (1 + exp(-(double)x[i])), 2.5, "sigmoid", x[i]);
    drop(x), drop(y);
}

/* The scalar cell with every pair of activations, panels at once and one by one. */
void check_cell(const subject *s)
{
    size_t lanes = s->kernels->lanes, units = 21;
    rng r = {11};
    for (int a = 0; a < CY_ACT_COUNT; a++)
        for (int b = 0; b < CY_ACT_COUNT; b++) {
            size_t rows = 3;
            step_case t = step_open(&r, lanes, units, rows);
            cy_lstm_step step = {.z = t.packed_z,
                                 .z_rows = t.z_rows,
                                 .c = t.c_work,
                                 .h = t.h_work,
                                 .c_stride = t.stride,
                                 .h_stride = t.stride,
                                 .rows = rows,
                                 .units = units,
                                 .end_panel = t.panels};
            bool whole = cy_activation_spans_row((cy_activation)a) ||
                         cy_activation_spans_row((cy_activation)b);
            for (size_t p = 0; p < (whole ? 1 : t.panels); p++) {
                if (!whole) step.first_panel = p, step.end_panel = p + 1;
                cy_lstm_cell_f32_ref(&step, lanes, (cy_activation)a, (cy_activation)b);
            }
            double worst = 0;
            for (size_t i = 0; i < rows; i++) {
                double gate[4][32], c[32], h[32];
                for (size_t g = 0; g < 4; g++) {
                    for (size_t j = 0; j < units; j++)
                        gate[g][j] = t.z[(i * 4 + g) * units + j];
                    oracle_activate((cy_activation)(g == 2 ? a : b), gate[g], gate[g],
                                    units);
                }
                /* c is a sum of two products that may cancel: its rounding is that of the terms */
                double terms[32];
                for (size_t j = 0; j < units; j++) {
                    double kept = gate[1][j] * t.c[i * t.stride + j];
                    double added = gate[0][j] * gate[2][j];
                    c[j] = kept + added;
                    terms[j] = fmax(1, fabs(kept) + fabs(added));
                }
                oracle_activate((cy_activation)a, c, h, units);
                for (size_t j = 0; j < units; j++) {
                    double scale_c = terms[j];
                    double hj = gate[3][j] * h[j], scale_h = fmax(1, fabs(hj));
                    worst =
                        fmax(worst, fabs(c[j] - t.c_work[i * t.stride + j]) / scale_c);
                    /* h answers to c's rounding through e^c in the steepest activation */
                    worst = fmax(worst, fabs(hj - t.h_work[i * t.stride + j]) / scale_h /
                                            terms[j]);
                }
            }
            measured("error", worst);
            expect(worst < 2e-6, "activations %d and %d: off by %g", a, b, worst);
            step_close(&t, lanes);
        }
}

/* Of what is computed by way of double one rounding is left: half an ulp of |y| <= 1, or of y. */
void check_activations(const subject *s)
{
    (void)s;
    enum { N = 20000 };
    rng r = {12};
    for (int a = 0; a < CY_ACT_COUNT; a++) {
        cy_activation activation = (cy_activation)a;
        if (cy_activation_spans_row(activation)) continue;
        bool rounded_once = activation == CY_ACT_TANH || activation == CY_ACT_SIGMOID;
        double most = rounded_once ? 1.0001 * 0x1p-25 : 4e-7;
        for (size_t i = 0; i < N; i++) {
            float x = any_float(&r, i), got;
            double wide = x, y;
            cy_activate_f32_ref(activation, &x, &got, 1);
            oracle_activate(activation, &wide, &y, 1);
            if (isnan(y) || isinf(y) || fabs(y) > FLT_MAX || isinf(got) || isnan(got)) {
                bool nan_case =
                    isnan(x) || isinf(x); /* inf - inf, 0 * inf as IEEE has it */
                if (isnan(x)) expect(isnan(got), "activation %d of NaN is %g", a, got);
                else if (!nan_case)
                    expect(isinf(got) && fabs(y) > FLT_MAX / 2,
                           "activation %d of %g is %g", a, x, got);
                continue;
            }
            double error = fabs(got - y) / fmax(1, fabs(y));
            measured("error", error);
            expect(error < most, "activation %d of %.9g is %.9g, expected %.9g", a, x,
                   got, y);
        }
    }
    for (size_t n = 1; n <= 40; n += 13)
        for (int a = CY_ACT_SOFTMAX; a <= CY_ACT_LOG_SOFTMAX; a++) {
            double most = a == CY_ACT_LOG_SOFTMAX ? 1.0001 * 0x1p-24 : 4e-7;
            for (int scale = 1; scale <= 1000; scale *= 10) {
                float x[64], got[64];
                double wide[64], y[64];
                for (size_t i = 0; i < n; i++)
                    wide[i] = x[i] = (float)rng_uniform(&r, -scale, scale);
                cy_activate_f32_ref((cy_activation)a, x, got, n);
                oracle_activate((cy_activation)a, wide, y, n);
                for (size_t i = 0; i < n; i++)
                    expect(fabs(got[i] - y[i]) < most * fmax(1, fabs(y[i])),
                           "softmax over %zu: %g, expected %g", n, got[i], y[i]);
                x[n / 2] = NAN;
                cy_activate_f32_ref((cy_activation)a, x, x, n);
                for (size_t i = 0; i < n; i++)
                    expect(isnan(x[i]), "softmax over a NaN gives %g", x[i]);
            }
        }
}
