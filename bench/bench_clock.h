/* The wall clock in microseconds, and percentiles. */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

double bench_now_us(void);
/* Sorts values[count]. */
void bench_sort(double *values, size_t count);
/* Of sorted values: the nearest-rank percentile, percent 0..100. */
double bench_percentile(const double *sorted, size_t count, double percent);

#ifdef __cplusplus
}
#endif

#endif
