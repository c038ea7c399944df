/* check_kernels --bench: the kernels of the list, one core, in GFLOP/s and microseconds a call. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "check.h"
#include "random_graph.h"

#include "kernels/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 15 };

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float *numbers(rng *r, size_t n)
{
    float *a = aligned_alloc(64, (n * sizeof *a + 63) / 64 * 64);
    if (!a) abort();
    for (size_t i = 0; i < n; i++)
        a[i] = (float)rng_uniform(r, -0.1, 0.1);
    return a;
}

typedef struct timing {
    double median_us, least_us;
} timing;

static timing time_calls(void (*call)(void *), void *argument)
{
    double us[ROUNDS];
    size_t calls = 1;
    for (;; calls *= 2) { /* a round of half a millisecond */
        double start = now_us();
        for (size_t i = 0; i < calls; i++)
            call(argument);
        if (now_us() - start > 500) break;
    }
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_us();
        for (size_t i = 0; i < calls; i++)
            call(argument);
        us[round] = (now_us() - start) / (double)calls;
    }
    qsort(us, ROUNDS, sizeof *us, by_value);
    return (timing){us[ROUNDS / 2], us[0]};
}

typedef struct work {
    const cy_cpu_kernels *kernels;
    cy_dense dense;
    cy_lstm_step step;
} work;

static void call_dense(void *w)
{
    ((work *)w)->kernels->dense(&((work *)w)->dense);
}

static void call_step(void *w)
{
    ((work *)w)->kernels->lstm_step(&((work *)w)->step);
}

static void call_accumulate(void *w)
{
    memset(((work *)w)->step.z, 0,
           sizeof(float)); /* z grows otherwise: kept small enough */
    ((work *)w)->kernels->lstm_accumulate(&((work *)w)->step);
}

static void line(const subject *s, const char *name, size_t units, size_t rows,
                 double flops, timing t)
{
    printf("%-16s %-16s units %5zu rows %3zu  median %9.2f us  least %9.2f us  %6.1f "
           "GFLOP/s\n",
           s->name, name, units, rows, t.median_us, t.least_us,
           flops / t.median_us * 1e-3);
    fflush(stdout);
}

void bench_kernels(const subject *s)
{
    static const size_t sizes[] = {64, 128, 256, 512};
    static const size_t row_counts[] = {1, 3, 6, 8, 48};
    size_t lanes = s->kernels->lanes;
    rng r = {1};
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++)
        for (size_t m = 0; m < sizeof row_counts / sizeof *row_counts; m++) {
            size_t units = sizes[n], rows = row_counts[m];
            size_t panels = cy_pack_panels(units, lanes);
            float *weights = numbers(&r, panels * units * 4 * lanes);
            float *bias = numbers(&r, panels * 4 * lanes);
            float *z = numbers(&r, panels * rows * 4 * lanes);
            float *x = numbers(&r, rows * units), *c = numbers(&r, rows * units),
                  *h = numbers(&r, rows * units);
            const float *at[64];
            for (size_t i = 0; i < rows; i++)
                at[i] = x + i * units;
            work w = {s->kernels,
                      {.x = at,
                       .kernel = weights,
                       .bias = bias,
                       .out = z,
                       .row_stride = 4 * lanes,
                       .panel_stride = rows * 4 * lanes,
                       .rows = rows,
                       .features = units,
                       .end_panel = panels},
                      {.z = z,
                       .z_rows = rows,
                       .h_prev = x,
                       .recurrent = weights,
                       .c = c,
                       .h = h,
                       .h_prev_stride = units,
                       .c_stride = units,
                       .h_stride = units,
                       .rows = rows,
                       .units = units,
                       .end_panel = panels}};
            double flops = 8.0 * (double)(rows * units * units);
            line(s, "dense", units, rows, flops, time_calls(call_dense, &w));
            line(s, "lstm_step", units, rows, flops, time_calls(call_step, &w));
            line(s, "lstm_accumulate", units, rows, flops,
                 time_calls(call_accumulate, &w));
            free(weights), free(bias), free(z), free(x), free(c), free(h);
        }
}
