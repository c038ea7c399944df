#define _POSIX_C_SOURCE 200809L
#include "bench_clock.h"

#include <stdlib.h>
#include <time.h>

double bench_now_us(void)
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

void bench_sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
}

double bench_percentile(const double *sorted, size_t count, double percent)
{
    size_t rank = (size_t)(percent / 100 * (double)(count - 1) + 0.5);
    return sorted[rank];
}
