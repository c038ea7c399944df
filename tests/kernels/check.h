/* check_kernels: the parts. A check compares and counts; it never stops the program. */
#ifndef CY_TESTS_CHECK_H
#define CY_TESTS_CHECK_H

#include "kernels/cpu/cpu_kernels.h"

#include <stdbool.h>
#include <stddef.h>

/* The variant under test, and the ones it is held against. */
typedef struct subject {
    const char *name; /* "avx2", "avx512 (emulated)" */
    const cy_cpu_kernels *kernels;
} subject;

/* Notes a comparison; when `good` is false prints `format` and the check fails. Returns good. */
bool expect(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A figure worth seeing on the check's line: the largest is kept. */
void measured(const char *what, double value);

/* The same bits, every NaN being equal to every other. Prints the first difference. */
bool expect_bits(const float *got, const float *expected, size_t count, const char *what);

/* check_products.c: one kernel at a time. */
void check_pack(const subject *s);
void check_dense(const subject *s);
void check_lstm_accumulate(const subject *s);
void check_lstm_step(const subject *s);
void check_gates(const subject *s);
void check_cell(const subject *s);
void check_activations(const subject *s);

/* check_graphs.c: the backend, whole graphs against the oracle and against themselves. */
void check_accuracy(const subject *s);
void check_operations(const subject *s);
void check_pairs(const subject *s);
void check_company(const subject *s);
void check_cuts(const subject *s);
void check_capacity(const subject *s);
void check_threads(const subject *s);
void check_nan(const subject *s);
void check_control_word(const subject *s);
void check_variants_agree(const subject *s);

/* check_bench.c: times the kernels of the list. */
void bench_kernels(const subject *s);

#endif
