#include "random_lstm.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char header_format[] =
    "{\"__metadata__\":{\"carry.kind\":\"model\",\"carry.version\":\"1\",\"carry.graph\":"
    "\"{\\\"source\\\":\\\"bench\\\",\\\"name\\\":\\\"lstm\\\",\\\"input\\\":{"
    "\\\"name\\\":\\\"x\\\","
    "\\\"ids\\\":false,\\\"width\\\":%zu,\\\"batch\\\":0,\\\"steps\\\":0},\\\"nodes\\\":["
    "{"
    "\\\"op\\\":\\\"lstm\\\",\\\"name\\\":\\\"lstm\\\",\\\"class\\\":\\\"LSTM\\\","
    "\\\"input\\\":[-1,0],"
    "\\\"activation\\\":\\\"tanh\\\",\\\"units\\\":%zu,\\\"use_bias\\\":true,"
    "\\\"recurrent_activation\\\":\\\"sigmoid\\\",\\\"return_sequences\\\":true,"
    "\\\"return_state\\\":false,\\\"go_backwards\\\":false,\\\"stateful\\\":true}],"
    "\\\"outputs\\\":[[0,0]]}\"},"
    "\"lstm/kernel\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]},"
    "\"lstm/"
    "recurrent_kernel\":{\"dtype\":\"F32\",\"shape\":[%zu,%zu],\"data_offsets\":[%zu,%zu]"
    "},"
    "\"lstm/bias\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}";

static float uniform(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) / (float)(1 << 23) - 1;
}

void *bench_random_lstm(size_t features, size_t units, size_t *bytes)
{
    size_t z = 4 * units, a = features * z, b = a + units * z, end = b + z;
    char header[2048];
    int length = snprintf(header, sizeof header, header_format, features, units, features,
                          z, 4 * a, units, z, 4 * a, 4 * b, z, 4 * b, 4 * end);
    size_t padded =
        ((size_t)length + 8 + 63) / 64 * 64 - 8; /* data aligned to 64 bytes */
    *bytes = 8 + padded + 4 * end;
    unsigned char *file = malloc(*bytes);
    if (!file) {
        fprintf(stderr, "out of memory: a model of %zu bytes\n", *bytes);
        exit(1);
    }
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    memset(file + 8, ' ', padded);
    memcpy(file + 8, header, (size_t)length);
    uint64_t seed = 1;
    for (size_t i = 0; i < end; i++) {
        float scale = i < a ? sqrtf(3 / (float)features) : sqrtf(3 / (float)units);
        float value = i < b ? uniform(&seed) * scale : 0.1f;
        memcpy(file + 8 + padded + 4 * i, &value, sizeof value);
    }
    return file;
}
