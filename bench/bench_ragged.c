/* What a batch of rows of unequal length costs: packed, padded, and computed in full, beside a rectangular one.
 *
 *     bench_ragged [--device WORD] [--threads N] [--rounds N] [--rows B] [--units H] [--seed S] [--clock wall|cpu]
 *                  [--json FILE]
 *
 * One LSTM, features = units = H, through the public API, all outputs written, states carried from call to call. The
 * lengths of B rows are drawn once for each distribution; then every way of giving them is timed once a round, so that
 * what disturbs the machine disturbs all of them:
 *
 *     rectangle   B rows, all of the mean length: as many steps in all, none of them uneven
 *     packed      row_offsets, rows in the order they were drawn in
 *     sorted      packed, the longest row first
 *     padded      [B, T, .] with T the longest row, and `steps`
 *     full        [B, T, .] without `steps`: what a runtime does that knows rectangles only
 *
 * A time is divided by the steps that were wanted, the sum over the rows; a ratio is of two times of one round. The
 * clock `cpu` counts what the calling thread computes and not what it waits, for one thread on a machine that others
 * use. */
#define _POSIX_C_SOURCE 200809L
#include "bench_clock.h"
#include "random_lstm.h"

#include <carry/carry.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum way { RECTANGLE, PACKED, SORTED, PADDED, FULL, WAYS } way;

static const char *const way_names[WAYS] = {"rectangle", "packed", "sorted", "padded",
                                            "full"};

typedef struct settings {
    const char *device, *json;
    uint32_t threads, rows, units;
    const char *clock;
    int rounds;
    unsigned seed;
} settings;

enum { MOST_ROUNDS = 1000 };

static void must(carry_status status)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "bench_ragged: %s\n", carry_error());
    exit(1);
}

static double now_us(const settings *set)
{
    if (strcmp(set->clock, "cpu") != 0) return bench_now_us();
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static void *block(size_t count, size_t bytes)
{
    void *memory = calloc(count ? count : 1, bytes);
    if (!memory) {
        fprintf(stderr, "bench_ragged: out of memory: %zu of %zu bytes\n", count, bytes);
        exit(1);
    }
    return memory;
}

/* ---- lengths -------------------------------------------------------------------------------- */

static double uniform(void)
{
    return ((double)rand() + 0.5) / ((double)RAND_MAX + 1);
}

/* Steps of a row, 1 .. most. */
static double draw_equal(double mean)
{
    return mean;
}

static double draw_uniform(double mean)
{
    return 1 + uniform() * (2 * mean - 1);
}

static double draw_geometric(double mean)
{
    return 1 + floor(log(uniform()) / log(1 - 1 / mean));
}

/* Pareto with exponent 1.5, whose mean is three times its least value: few rows have most of the steps. */
static double draw_heavy(double mean)
{
    return mean / 3 * pow(uniform(), -1 / 1.5);
}

typedef struct distribution {
    const char *name;
    double (*draw)(double mean);
    double mean;
    uint32_t most; /* longer ones are cut: a call's arrays have to fit into memory */
} distribution;

static const distribution distributions[] = {
    {"equal", draw_equal, 16, 16},
    {"uniform", draw_uniform, 16, 32},
    {"geometric, mean 4", draw_geometric, 4, 1000},
    {"geometric, mean 16", draw_geometric, 16, 1000},
    {"geometric, mean 64", draw_geometric, 64, 1000},
    {"heavy tail, mean 16", draw_heavy, 16, 1000},
};
#define DISTRIBUTIONS (sizeof distributions / sizeof *distributions)

static int by_falling_steps(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x < y) - (x > y);
}

/* ---- one distribution ----------------------------------------------------------------------- */

typedef struct bench {
    const settings *set;
    carry_session *session;
    carry_state *states;
    uint32_t *steps, *sorted;
    uint64_t *offsets, *sorted_offsets;
    uint64_t sum;
    uint32_t longest, mean;
    float *x,
        *y; /* of the largest call; what is in them is the same to a rectangle of numbers */
    double us[WAYS][MOST_ROUNDS];
} bench;

static void draw_rows(bench *b, const distribution *d)
{
    uint32_t rows = b->set->rows;
    b->sum = b->longest = 0;
    srand(b->set->seed);
    for (uint32_t row = 0; row < rows; row++) {
        double drawn = d->draw(d->mean);
        uint32_t steps = drawn >= d->most ? d->most : (uint32_t)drawn;
        b->steps[row] = b->sorted[row] = steps;
        b->sum += steps;
        if (steps > b->longest) b->longest = steps;
    }
    qsort(b->sorted, rows, sizeof *b->sorted, by_falling_steps);
    for (uint32_t row = 0; row < rows; row++) {
        b->offsets[row + 1] = b->offsets[row] + b->steps[row];
        b->sorted_offsets[row + 1] = b->sorted_offsets[row] + b->sorted[row];
    }
    b->mean = (uint32_t)((b->sum + rows / 2) / rows);
}

/* Microseconds for each step that was wanted. */
static double time_way(bench *b, way w)
{
    size_t rows = b->set->rows, width = b->set->units;
    size_t time = w == RECTANGLE ? b->mean : b->longest;
    size_t steps = w == PACKED || w == SORTED ? b->sum : rows * time;
    carry_array in = {
        .size = sizeof in, .data = b->x, .bytes = steps * width * sizeof(float)};
    carry_array out = {
        .size = sizeof out, .data = b->y, .bytes = steps * width * sizeof(float)};
    carry_batch batch = {.size = sizeof batch,
                         .rows = rows,
                         .states = b->states,
                         .max_steps = time,
                         .steps = w == PADDED ? b->steps : NULL,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1,
                         .row_offsets = w == PACKED   ? b->offsets
                                        : w == SORTED ? b->sorted_offsets
                                                      : NULL};
    double start = now_us(b->set);
    must(carry_run(b->session, &batch));
    double us = now_us(b->set) - start;
    return us / (double)(w == RECTANGLE ? rows * time : b->sum);
}

static void run_rounds(bench *b)
{
    for (int round = -1; round < b->set->rounds; round++) /* one to warm up */
        for (way w = 0; w < WAYS; w++) {
            double us = time_way(b, w);
            if (round >= 0) b->us[w][round] = us;
        }
}

/* Median, 10th and 90th percentile of a way's times, or of its ratios to a rectangle's of the same round. */
typedef struct spread {
    double median, low, high;
} spread;

static spread spread_of(const bench *b, way w, const double *over)
{
    static double values[MOST_ROUNDS];
    size_t count = (size_t)b->set->rounds;
    for (size_t i = 0; i < count; i++)
        values[i] = b->us[w][i] / (over ? over[i] : 1);
    bench_sort(values, count);
    return (spread){bench_percentile(values, count, 50),
                    bench_percentile(values, count, 10),
                    bench_percentile(values, count, 90)};
}

static void report(const bench *b, const distribution *d, FILE *json)
{
    printf("\n%s: %u rows, %llu steps, the longest %u, full %.1f times as many\n",
           d->name, b->set->rows, (unsigned long long)b->sum, b->longest,
           (double)b->longest * b->set->rows / (double)b->sum);
    for (way w = 0; w < WAYS; w++) {
        spread us = spread_of(b, w, NULL), ratio = spread_of(b, w, b->us[RECTANGLE]);
        printf(
            "    %-10s %9.3f us a step (%.3f to %.3f), %6.2f of the rectangle's (%.2f to "
            "%.2f)\n",
            way_names[w], us.median, us.low, us.high, ratio.median, ratio.low,
            ratio.high);
        if (json)
            fprintf(json,
                    "%s\n  {\"lengths\": \"%s\", \"rows\": %u, \"units\": %u, \"steps\": "
                    "%llu, \"longest\": %u, \"way\": \"%s\", \"us_per_step_median\": "
                    "%.4f, \"us_per_step_p10\": %.4f, \"us_per_step_p90\": %.4f, "
                    "\"over_rectangle_median\": %.4f, \"over_rectangle_p10\": %.4f, "
                    "\"over_rectangle_p90\": %.4f}",
                    d == distributions && w == 0 ? "" : ",", d->name, b->set->rows,
                    b->set->units, (unsigned long long)b->sum, b->longest, way_names[w],
                    us.median, us.low, us.high, ratio.median, ratio.low, ratio.high);
    }
    fflush(stdout);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static void measure(bench *b, FILE *json)
{
    for (size_t i = 0; i < DISTRIBUTIONS; i++) {
        draw_rows(b, &distributions[i]);
        size_t largest = (size_t)b->set->rows * b->longest * b->set->units;
        b->x = block(largest, sizeof *b->x);
        b->y = block(largest, sizeof *b->y);
        for (size_t n = 0; n < largest; n++)
            b->x[n] = (float)uniform() - 0.5f;
        run_rounds(b);
        report(b, &distributions[i], json);
        free(b->x);
        free(b->y);
    }
}

static void usage(void)
{
    fprintf(stderr,
            "usage: bench_ragged [--device WORD] [--threads N] [--rounds N] "
            "[--rows B] [--units H] [--seed S] [--clock wall|cpu] [--json FILE]\n");
    exit(2);
}

static settings read_settings(int argc, char **argv)
{
    settings set = {.device = "cpu",
                    .clock = "wall",
                    .threads = 1,
                    .rows = 256,
                    .units = 128,
                    .rounds = 15,
                    .seed = 1};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) usage();
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--device") == 0) set.device = value;
        else if (strcmp(argv[i], "--json") == 0) set.json = value;
        else if (strcmp(argv[i], "--clock") == 0) set.clock = value;
        else if (strcmp(argv[i], "--threads") == 0) set.threads = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--rows") == 0) set.rows = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--units") == 0) set.units = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--rounds") == 0) set.rounds = atoi(value);
        else if (strcmp(argv[i], "--seed") == 0) set.seed = (unsigned)atoi(value);
        else usage();
    }
    bool cpu = strcmp(set.clock, "cpu") == 0;
    if ((!cpu && strcmp(set.clock, "wall") != 0) || (cpu && set.threads != 1)) usage();
    if (set.rounds < 1 || set.rounds > MOST_ROUNDS || set.rows < 1 || set.units < 1)
        usage();
    return set;
}

int main(int argc, char **argv)
{
    settings set = read_settings(argc, argv);
    size_t bytes;
    void *file = bench_random_lstm(1, set.units, set.units, &bytes);
    carry_model *model;
    carry_model_options on = {.size = sizeof on, .device = set.device};
    must(carry_model_open_bytes(&model, file, bytes, &on));
    free(file);
    bench *b = block(1, sizeof *b);
    b->set = &set;
    carry_session_options options = {.size = sizeof options, .threads = set.threads};
    must(carry_session_open(&b->session, model, &options));
    b->states = block(set.rows, sizeof *b->states);
    b->steps = block(set.rows, sizeof *b->steps);
    b->sorted = block(set.rows, sizeof *b->sorted);
    b->offsets = block(set.rows + 1, sizeof *b->offsets);
    b->sorted_offsets = block(set.rows + 1, sizeof *b->sorted_offsets);
    for (uint32_t row = 0; row < set.rows; row++)
        must(carry_state_open(b->session, &b->states[row]));
    FILE *json = set.json ? fopen(set.json, "w") : NULL;
    if (set.json && !json) {
        fprintf(stderr, "bench_ragged: %s cannot be written\n", set.json);
        return 1;
    }
    printf("carry %s, %s, %s, %u threads, %u units, %d rounds, %s clock\n",
           carry_version(), set.device, carry_cpu_isa(), set.threads, set.units,
           set.rounds, set.clock);
    if (json)
        fprintf(json,
                "{\"device\": \"%s\", \"isa\": \"%s\", \"clock\": \"%s\", \"threads\": "
                "%u, \"rounds\": %d, "
                "\"seed\": %u, \"results\": [",
                set.device, carry_cpu_isa(), set.clock, set.threads, set.rounds,
                set.seed);
    measure(b, json);
    if (json) {
        fprintf(json, "\n]}\n");
        if (fclose(json) != 0) {
            fprintf(stderr, "bench_ragged: %s cannot be written\n", set.json);
            return 1;
        }
    }
    carry_session_close(&b->session);
    carry_model_close(&model);
    free(b->states);
    free(b->steps);
    free(b->sorted);
    free(b->offsets);
    free(b->sorted_offsets);
    free(b);
    return 0;
}
