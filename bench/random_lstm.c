#include "random_lstm.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char graph_format[] =
    "{\"__metadata__\":{\"carry.kind\":\"model\",\"carry.version\":\"1\",\"carry.graph\":"
    "\"{\\\"source\\\":\\\"bench\\\",\\\"name\\\":\\\"lstm\\\",\\\"input\\\":{"
    "\\\"name\\\":\\\"x\\\","
    "\\\"ids\\\":false,\\\"width\\\":%zu,\\\"batch\\\":0,\\\"steps\\\":0},\\\"nodes\\\":"
    "[";
static const char node_format[] =
    "%s{\\\"op\\\":\\\"lstm\\\",\\\"name\\\":\\\"lstm%zu\\\",\\\"class\\\":\\\"LSTM\\\","
    "\\\"input\\\":[%d,0],"
    "\\\"activation\\\":\\\"tanh\\\",\\\"units\\\":%zu,\\\"use_bias\\\":true,"
    "\\\"recurrent_activation\\\":\\\"sigmoid\\\",\\\"return_sequences\\\":true,"
    "\\\"return_state\\\":false,\\\"go_backwards\\\":false,\\\"stateful\\\":true}";
static const char tensors_format[] =
    ",\"lstm%zu/"
    "kernel\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]},"
    "\"lstm%zu/"
    "recurrent_kernel\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]"
    "},"
    "\"lstm%zu/bias\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}";

static float uniform(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) / (float)(1 << 23) - 1;
}

typedef struct text {
    char at[8192];
    size_t length;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length =
        vsnprintf(t->at + t->length, sizeof t->at - t->length, format, arguments);
    va_end(arguments);
    t->length += (size_t)length;
    if (t->length >= sizeof t->at) {
        fprintf(stderr, "a model of too many layers for the bench\n");
        exit(1);
    }
}

void *bench_random_lstm(size_t layers, size_t features, size_t units, size_t *bytes)
{
    text header = {.length = 0};
    size_t z = 4 * units, end = 0;
    add(&header, graph_format, features);
    for (size_t l = 0; l < layers; l++)
        add(&header, node_format, l ? "," : "", l, (int)l - 1, units);
    add(&header, "],\\\"outputs\\\":[[%zu,0]]}\"}", layers - 1);
    for (size_t l = 0; l < layers; l++) {
        size_t width = l ? units : features;
        size_t a = end + width * z, b = a + units * z, c = b + z;
        add(&header, tensors_format, l, width, z, 4 * end, 4 * a, l, units, z, 4 * a,
            4 * b, l, z, 4 * b, 4 * c);
        end = c;
    }
    add(&header, "}");
    size_t padded = (header.length + 8 + 63) / 64 * 64 - 8; /* data aligned to 64 bytes */
    *bytes = 8 + padded + 4 * end;
    unsigned char *file = malloc(*bytes);
    if (!file) {
        fprintf(stderr, "out of memory: a model of %zu bytes\n", *bytes);
        exit(1);
    }
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    memset(file + 8, ' ', padded);
    memcpy(file + 8, header.at, header.length);
    uint64_t seed = 1;
    float *value = (float *)(void *)(file + 8 + padded);
    for (size_t l = 0; l < layers; l++) {
        size_t width = l ? units : features;
        for (size_t i = 0; i < width * z; i++)
            *value++ = uniform(&seed) * sqrtf(3 / (float)width);
        for (size_t i = 0; i < units * z; i++)
            *value++ = uniform(&seed) * sqrtf(3 / (float)units);
        for (size_t i = 0; i < z; i++)
            *value++ = 0.1f;
    }
    return file;
}
