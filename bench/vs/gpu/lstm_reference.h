/* What the peers in C compute on, and the same in float64 for a few rows: no peer is timed before it agrees, so that
 * all of them agree with each other.
 *
 * Every array is one table of 2^20 random numbers, over and over: element i is table[i % 2^20], so a reference needs no
 * copy of weights that fill a GPU. */
#ifndef BENCH_LSTM_REFERENCE_H
#define BENCH_LSTM_REFERENCE_H

#include <carry/carry.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LSTM_TABLE = 1 << 20 };

/* Numbers in +-scale, rounded to the type of the precision's operands (tf32: float). The caller frees them. */
float *lstm_table(carry_precision precision, float scale, uint64_t seed);
/* 4 or 2, and a number's bits in that many bytes. */
size_t lstm_number_bytes(carry_precision precision);
uint32_t lstm_bits(carry_precision precision, float value);
float lstm_value(carry_precision precision, const void *number);
/* What an output may be off: ||difference|| / ||reference||. */
double lstm_tolerance(carry_precision precision);

/* Where a layer's weights lie, as indices: gates i, f, g, o, each [units][units], k fastest, and [units]. */
typedef struct lstm_layer {
    size_t kernel[4], recurrent[4], bias[2][4];
    unsigned bias_count; /* 1 or 2 */
} lstm_layer;

/* y [steps][units] of one row from zeros; its x of step t begins at x_table[x_first + t * x_stride]. */
void lstm_reference(const lstm_layer *layers, unsigned layer_count, unsigned units,
                    unsigned steps, const float *weights, const float *x_table,
                    size_t x_first, size_t x_stride, double *y);

/* Compares outputs [T][rows][units] of a first call on x = x_table, of up to two steps of the first and the last row:
 * NULL, or what is wrong (static text). */
const char *lstm_wrong(const lstm_layer *layers, unsigned layer_count, unsigned units,
                       unsigned rows, unsigned steps, carry_precision precision,
                       const float *weights, const float *x_table, const void *y);

#ifdef __cplusplus
}
#endif

#endif
