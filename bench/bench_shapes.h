/* The scoreboard: which shapes are measured, the most telling first, so that a pass which runs out of time has
 * measured what matters. */
#ifndef BENCH_SHAPES_H
#define BENCH_SHAPES_H

#include <carry/carry.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bench_shape {
    unsigned units, rows, steps, layers;
    carry_precision precision;
} bench_shape;

const char *bench_precision_name(carry_precision precision);
/* 0 if it is none of fp32, tf32, bf16, fp16. */
int bench_precision_parse(const char *name, carry_precision *precision);

/* The whole scoreboard, or the lines "H B T LAYERS PRECISION" of a file in its order; *shapes is the caller's.
 * Exits with a sentence on a file that is none. */
size_t bench_shapes_all(bench_shape **shapes);
size_t bench_shapes_read(const char *path, bench_shape **shapes);
void bench_shapes_print(const bench_shape *shapes, size_t count);

#ifdef __cplusplus
}
#endif

#endif
