#include "lstm_reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must_have(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "lstm_reference: out of memory\n");
    exit(1);
}

size_t lstm_number_bytes(carry_precision precision)
{
    return precision == CARRY_COMPUTE_BF16 || precision == CARRY_COMPUTE_FP16 ? 2 : 4;
}

/* Rounded to nearest; what fp16 has no normal number for becomes 0. */
uint32_t lstm_bits(carry_precision precision, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (precision == CARRY_COMPUTE_BF16) return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    if (precision != CARRY_COMPUTE_FP16) return bits;
    int exponent = (int)(bits >> 23 & 0xff) - 127 + 15;
    if (exponent <= 0) return bits >> 16 & 0x8000;
    uint32_t half = (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff);
    return (bits >> 16 & 0x8000) | (half + (bits >> 12 & 1));
}

float lstm_value(carry_precision precision, const void *number)
{
    uint32_t bits = 0;
    float value;
    memcpy(&bits, number, lstm_number_bytes(precision));
    if (precision == CARRY_COMPUTE_BF16) bits <<= 16;
    if (precision == CARRY_COMPUTE_FP16) {
        uint32_t exponent = bits >> 10 & 31;
        if (exponent == 0) { /* 0 or subnormal */
            value = ldexpf((float)(bits & 0x3ff), -24);
            return bits & 0x8000 ? -value : value;
        }
        exponent = exponent == 31 ? 255 : exponent + 127 - 15;
        bits = (bits & 0x8000) << 16 | exponent << 23 | (bits & 0x3ff) << 13;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

double lstm_tolerance(carry_precision precision)
{
    return precision == CARRY_COMPUTE_FP32   ? 1e-5
           : precision == CARRY_COMPUTE_BF16 ? 2e-2
                                             : 4e-3;
}

float *lstm_table(carry_precision precision, float scale, uint64_t seed)
{
    float *table = must_have(malloc(LSTM_TABLE * sizeof *table));
    for (size_t i = 0; i < LSTM_TABLE; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        float value = ((float)(seed >> 40) / (float)(1 << 23) - 1) * scale;
        uint32_t bits = lstm_bits(precision, value);
        table[i] = lstm_value(precision, &bits);
    }
    return table;
}

/* The sum of a row of weights by a vector. */
static double product(const float *weights, size_t first, const double *vector,
                      unsigned units)
{
    double sum = 0;
    for (unsigned k = 0; k < units; k++)
        sum += weights[(first + k) % LSTM_TABLE] * vector[k];
    return sum;
}

void lstm_reference(const lstm_layer *layers, unsigned layer_count, unsigned units,
                    unsigned steps, const float *weights, const float *x_table,
                    size_t x_first, size_t x_stride, double *y)
{
    double *h = must_have(calloc(3 * (size_t)units, sizeof *h));
    double *c = h + units, *next = c + units;
    for (unsigned t = 0; t < steps; t++)
        for (unsigned u = 0; u < units; u++)
            y[t * units + u] = x_table[(x_first + t * x_stride + u) % LSTM_TABLE];
    for (unsigned l = 0; l < layer_count; l++) {
        const lstm_layer *layer = &layers[l];
        memset(h, 0, 2 * units * sizeof *h);
        for (unsigned t = 0; t < steps; t++) {
            double *x = y + (size_t)t * units; /* of this layer, then its output */
            for (unsigned u = 0; u < units; u++) {
                double z[4];
                for (int g = 0; g < 4; g++) {
                    size_t row = (size_t)u * units;
                    z[g] = product(weights, layer->kernel[g] + row, x, units) +
                           product(weights, layer->recurrent[g] + row, h, units);
                    for (unsigned b = 0; b < layer->bias_count; b++)
                        z[g] += weights[(layer->bias[b][g] + u) % LSTM_TABLE];
                }
                c[u] = c[u] / (1 + exp(-z[1])) + tanh(z[2]) / (1 + exp(-z[0]));
                next[u] = tanh(c[u]) / (1 + exp(-z[3]));
            }
            memcpy(h, next, units * sizeof *h);
            memcpy(x, next, units * sizeof *h);
        }
    }
    free(h);
}

const char *lstm_wrong(const lstm_layer *layers, unsigned layer_count, unsigned units,
                       unsigned rows, unsigned steps, carry_precision precision,
                       const float *weights, const float *x_table, const void *y)
{
    static char text[128];
    const unsigned looked_at = steps < 2 ? steps : 2;
    const size_t bytes = lstm_number_bytes(precision);
    double *expected = must_have(malloc((size_t)looked_at * units * sizeof *expected));
    double difference = 0, norm = 0;
    for (unsigned i = 0; i < 2; i++) {
        size_t row = i ? rows - 1 : 0, step_size = (size_t)rows * units;
        lstm_reference(layers, layer_count, units, looked_at, weights, x_table,
                       row * units, step_size, expected);
        for (unsigned t = 0; t < looked_at; t++)
            for (unsigned u = 0; u < units; u++) {
                size_t at = t * step_size + row * units + u;
                double e = expected[t * units + u];
                double d = lstm_value(precision, (const char *)y + at * bytes) - e;
                difference += d * d;
                norm += e * e;
            }
    }
    free(expected);
    double distance = sqrt(difference / norm);
    if (distance <= lstm_tolerance(precision)) return NULL; /* NaN is not */
    snprintf(text, sizeof text,
             "WRONG: outputs are off by %.3g of the float64 reference, %.3g is allowed",
             distance, lstm_tolerance(precision));
    return text;
}
