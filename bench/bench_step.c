/* Microseconds per time step of one LSTM through the public API, state carried from call to call.
 *
 *     bench_step [--threads N] [--rounds N] [--shape T,B,H]...    prints a table: median, least, p90
 *
 * A call is T steps of B rows, features = units = H, all outputs written. Inputs are random and differ
 * from call to call. The shapes without --shape are those of bench/README.md. */
#include "bench_clock.h"
#include "random_lstm.h"

#include <carry/carry.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    size_t steps, rows, units;
} shape;

#define MOST_ROUNDS 10000
enum {
    INPUTS = 4
}; /* rotated, so that a call does not find its input where the last left it */

static void must(carry_status status)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "bench_step: %s\n", carry_error());
    exit(1);
}

static float *numbers(size_t count)
{
    float *values = malloc(count * sizeof *values);
    if (!values) {
        fprintf(stderr, "bench_step: out of memory: %zu numbers\n", count);
        exit(1);
    }
    for (size_t i = 0; i < count; i++)
        values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return values;
}

static void measure(shape s, uint32_t threads, int rounds)
{
    size_t bytes, count = s.steps * s.rows * s.units;
    void *file = bench_random_lstm(1, s.units, s.units, &bytes);
    carry_model *model;
    carry_session *session;
    carry_session_options options = {
        .size = sizeof options, .threads = threads, .max_rows = (uint32_t)s.rows};
    must(carry_model_open_bytes(&model, file, bytes, NULL));
    free(file);
    must(carry_session_open(&session, model, &options));
    carry_state *states = malloc(s.rows * sizeof *states);
    for (size_t i = 0; states && i < s.rows; i++)
        must(carry_state_open(session, &states[i]));

    float *x[INPUTS], *y = numbers(count);
    for (int i = 0; i < INPUTS; i++)
        x[i] = numbers(count);
    carry_array in = {.size = sizeof in, .bytes = count * sizeof(float)};
    carry_array out = {.size = sizeof out, .data = y, .bytes = count * sizeof(float)};
    carry_batch batch = {.size = sizeof batch,
                         .rows = s.rows,
                         .states = states,
                         .max_steps = s.steps,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1};
    static double us[MOST_ROUNDS];
    for (int round = -2; round < rounds; round++) { /* two to warm up */
        in.data = x[(round + 2) % INPUTS];
        double start = bench_now_us();
        must(carry_run(session, &batch));
        if (round >= 0) us[round] = (bench_now_us() - start) / (double)s.steps;
    }
    bench_sort(us, (size_t)rounds);
    double flops = 2.0 * (double)s.rows * 8 * (double)s.units * (double)s.units;
    printf("%5zu %5zu %5zu %10.2f %10.2f %10.2f %8.1f\n", s.steps, s.rows, s.units,
           us[rounds / 2], us[0], us[rounds * 9 / 10], flops / us[0] * 1e-3);
    fflush(stdout);
    for (int i = 0; i < INPUTS; i++)
        free(x[i]);
    free(y);
    free(states);
    carry_session_close(&session);
    carry_model_close(&model);
}

static void usage(void)
{
    fprintf(stderr, "usage: bench_step [--threads N] [--rounds N] [--shape T,B,H]...\n");
    exit(2);
}

int main(int argc, char **argv)
{
    shape shapes[64] = {{100, 1, 128},  {100, 1, 256},  {100, 1, 512}, {50, 1, 1024},
                        {100, 8, 256},  {100, 32, 256}, {50, 64, 512}, {50, 128, 512},
                        {20, 64, 1024}, {1, 1, 256},    {1, 64, 512}};
    size_t shape_count = 11, given = 0;
    unsigned threads = 1;
    int rounds = 31;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) usage();
        shape s;
        if (strcmp(argv[i], "--threads") == 0) threads = (unsigned)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--rounds") == 0) rounds = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--shape") == 0 && given < 64 &&
                 sscanf(argv[i + 1], "%zu,%zu,%zu", &s.steps, &s.rows, &s.units) == 3)
            shapes[given++] = s;
        else usage();
    }
    if (rounds < 1 || rounds > MOST_ROUNDS || threads < 1) usage();
    if (given) shape_count = given;
    printf("carry %s, %s, %u threads, %d rounds; us per time step\n", carry_version(),
           carry_cpu_isa(), threads, rounds);
    printf("    T     B     H     median      least        p90  GFLOP/s\n");
    for (size_t i = 0; i < shape_count; i++)
        measure(shapes[i], threads, rounds);
    return 0;
}
