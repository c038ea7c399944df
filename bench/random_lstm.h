/* A model of LSTM layers with random weights, as a file of carry's own in memory. */
#ifndef BENCH_RANDOM_LSTM_H
#define BENCH_RANDOM_LSTM_H

#include <stddef.h>

/* Layers one behind the other: kernel [features or units, 4 units], recurrent_kernel [units, 4 units], uniform in
 * +-sqrt(3 / k), bias 0.1, return_sequences. The caller frees the result; exits when there is no memory. */
void *bench_random_lstm(size_t layers, size_t features, size_t units, size_t *bytes);

#endif
