/* Whole graphs on the backend: against the oracle, and against themselves in every other arrangement
 * of rows, calls, chunks and threads. */
#include "check.h"
#include "oracle_f64.h"
#include "rig.h"

#include "base/mem.h"
#include "cpu/cpu_control.h"
#include "cpu/cpu_dispatch.h"
#include "cpu/cpu_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const cy_value model_input = {CY_INPUT, 0};

static cy_value port(cy_value value, int32_t number)
{
    return (cy_value){value.node, number};
}

/* ---- graphs --------------------------------------------------------------------------------- */

/* LSTM alone: y, h, c. */
static cy_graph *one_lstm(uint64_t seed, size_t width, size_t units)
{
    builder b = graph_begin(seed, width);
    cy_value y = graph_lstm(&b, model_input, units);
    return graph_end(&b, (cy_value[]){y, port(y, CY_PORT_H), port(y, CY_PORT_C)}, 3);
}

/* Two LSTM and a head: the usual model. */
static cy_graph *stack(uint64_t seed, size_t width, size_t units)
{
    builder b = graph_begin(seed, width);
    cy_value first = graph_lstm(&b, model_input, units);
    cy_value second = graph_lstm(&b, graph_identity(&b, first), units / 2 + 1);
    cy_value head = graph_dense(&b, second, 5, CY_ACT_SOFTMAX);
    return graph_end(&b, (cy_value[]){head, port(first, CY_PORT_C), second}, 3);
}

/* The last step only, then layers without a time axis. */
static cy_graph *last_only(uint64_t seed, size_t width, size_t units)
{
    builder b = graph_begin(seed, width);
    cy_value inner = graph_dense(&b, model_input, 9, CY_ACT_TANH);
    cy_value y = graph_lstm(&b, inner, units);
    graph_node(&b, y)->return_sequences = false;
    cy_value head = graph_dense(&b, y, 40, CY_ACT_RELU);
    cy_value probabilities = graph_activation(&b, head, CY_ACT_SOFTMAX);
    cy_value of_c = graph_dense(&b, port(y, CY_PORT_C), 3, CY_ACT_LINEAR);
    return graph_end(
        &b, (cy_value[]){probabilities, y, head, of_c, port(y, CY_PORT_H), inner}, 6);
}

/* Ids, and steps taken backwards in the middle and at the end. */
static cy_graph *backwards(uint64_t seed, size_t ids, size_t units)
{
    builder b = graph_begin(seed, 0);
    cy_value embedded = graph_embedding(&b, ids, 7);
    cy_value first = graph_lstm(&b, embedded, units);
    graph_node(&b, first)->go_backwards = true;
    cy_value middle = graph_lstm(&b, first, 5);
    cy_value last = graph_lstm(&b, middle, units);
    graph_node(&b, last)->go_backwards = true;
    graph_node(&b, last)->return_sequences = false;
    cy_value scaled = graph_activation(&b, embedded, CY_ACT_SIGMOID);
    return graph_end(
        &b, (cy_value[]){last, first, embedded, scaled, port(first, CY_PORT_H)}, 5);
}

/* No bias, and the input itself among the outputs. */
static cy_graph *bare(uint64_t seed, size_t width, size_t units)
{
    builder b = graph_begin(seed, width);
    cy_value x = graph_identity(&b, model_input);
    cy_value y = graph_lstm(&b, x, units);
    cy_value head = graph_dense(&b, y, 33, CY_ACT_LINEAR);
    for (int i = 0; i < 2; i++) {
        cy_node *node = graph_node(&b, i ? head : y);
        node->use_bias = false;
        node->weight_count--;
    }
    return graph_end(&b, (cy_value[]){x, head}, 2);
}

/* Gates that need all units of a row, so a cell is its row's and not its panel's. */
static cy_graph *row_gates(uint64_t seed, size_t width, size_t units)
{
    builder b = graph_begin(seed, width);
    cy_value first = graph_lstm(&b, model_input, units);
    cy_value second = graph_lstm(&b, first, units / 2 + 1);
    graph_node(&b, first)->recurrent_activation = CY_ACT_SOFTMAX;
    graph_node(&b, second)->activation = CY_ACT_SOFTMAX;
    return graph_end(&b, (cy_value[]){second, first, port(second, CY_PORT_H)}, 3);
}

static cy_graph *activated(uint64_t seed, cy_activation activation,
                           cy_activation recurrent)
{
    builder b = graph_begin(seed, 6);
    cy_value y = graph_lstm(&b, model_input, 19);
    graph_node(&b, y)->activation = activation;
    graph_node(&b, y)->recurrent_activation = recurrent;
    return graph_end(&b, (cy_value[]){y, port(y, CY_PORT_C)}, 2);
}

typedef struct kind {
    const char *name;
    cy_graph *(*make)(uint64_t seed, size_t width, size_t units);
} kind;

static const kind causal[] = {
    {"one lstm", one_lstm}, {"stack", stack}, {"last only", last_only}, {"bare", bare}};
static const kind all_kinds[] = {{"one lstm", one_lstm},   {"stack", stack},
                                 {"last only", last_only}, {"bare", bare},
                                 {"row gates", row_gates}, {"backwards", backwards}};

/* ---- against the oracle --------------------------------------------------------------------- */

void check_accuracy(const subject *s)
{
    static const size_t units[] = {1, 3, 17, 64, 200};
    static const size_t rows[] = {1, 2, 5, 13};
    static const size_t steps[] = {1, 10, 100};
    for (size_t u = 0; u < COUNT(units); u++)
        for (size_t n = 0; n < COUNT(rows); n++)
            for (size_t t = 0; t < COUNT(steps); t++) {
                cy_graph *graph =
                    one_lstm(100 + u, units[(u + n) % COUNT(units)], units[u]);
                rig r = rig_open(graph, s->kernels, 1, (uint32_t)rows[n], 0);
                batch b = batch_open(graph, t + 1, rows[n], steps[t], n > 1, true);
                if (n == 3) batch_start(&b, graph, 5);
                rig_run(&r, &b);
                char what[64];
                snprintf(what, sizeof what, "units %zu, rows %zu, steps %zu", units[u],
                         rows[n], steps[t]);
                expect_oracle(&b, graph, 1e-6, what);
                batch_close(&b);
                rig_close(&r);
                cy_graph_close(&graph);
            }
}

void check_operations(const subject *s)
{
    for (size_t k = 0; k < COUNT(all_kinds); k++)
        for (uint32_t threads = 1; threads <= 3; threads += 2)
            for (int all_steps = 0; all_steps < 2; all_steps++) {
                cy_graph *graph = all_kinds[k].make(k, 11, 17);
                rig r = rig_open(graph, s->kernels, threads, 9, 30);
                batch b = batch_open(graph, k, 9, 30, true, all_steps);
                b.steps[4] = 0;
                if (threads > 1) batch_start(&b, graph, 6);
                rig_run(&r, &b);
                expect_oracle(&b, graph, 2e-6, all_kinds[k].name);
                batch_close(&b);
                rig_close(&r);
                cy_graph_close(&graph);
            }
}

/* ---- every pair of activations -------------------------------------------------------------- */

#define PAIR_STEPS 20
#define PAIR_BOUND 1e-5

static bool is_unbounded(cy_activation activation)
{
    double big = 100, small = -100;
    cy_activation scalar = activation == CY_ACT_LOG_SOFTMAX ? CY_ACT_LINEAR : activation;
    oracle_activate(scalar, &big, &big, 1);
    oracle_activate(scalar, &small, &small, 1);
    return fabs(big) > 10 || fabs(small) > 10;
}

/* Gates without a bound feed on themselves: e^(e^x) leaves the range of a double in a few steps, and
 * others multiply any rounding error beyond all measure. So a row is compared after each step at which
 * it is finite, with PAIR_BOUND or, where that is more, five times what float32 alone moves the truth
 * by (oracle_condition moves inputs and states; here sums of 25 products and five activations round
 * too; 3.5 times is the most measured). Where that move is 1 nothing is left to compare. And a row must
 * leave the range of float32 where the truth does. */
static void expect_wild_row(const cy_graph *graph, const batch *b, size_t row,
                            const char *what)
{
    size_t width = cy_graph_width(graph, graph->outputs[0]);
    const float *x = (const float *)b->input + row * b->max_steps * graph->input.width;
    const float *y = b->outputs[0] + row * b->max_steps * width;
    double want[PAIR_STEPS * 32], got[PAIR_STEPS * 32], moved[PAIR_STEPS];
    double *outputs[8] = {want};
    oracle_run(graph, x, PAIR_STEPS, NULL, outputs);
    oracle_range range = oracle_float_range(graph, x, PAIR_STEPS);
    size_t lasted = PAIR_STEPS;
    for (size_t i = PAIR_STEPS * width; i-- > 0;) {
        got[i] = y[i];
        if (!isfinite(y[i])) lasted = i / width;
    }
    expect(range.states <= lasted && lasted <= range.output,
           "%s, row %zu: finite for %zu steps, expected %zu to %zu", what, row, lasted,
           range.states, range.output);
    oracle_condition(graph, x, PAIR_STEPS, want, moved);
    size_t compared = 0;
    for (; compared < lasted && moved[compared] < 1; compared++) {
        double bound = fmax(PAIR_BOUND, 5 * moved[compared]);
        double error = oracle_distance(got, want, (compared + 1) * width);
        if (moved[compared] > PAIR_BOUND)
            measured("error / move", error / moved[compared]);
        expect(
            error <= bound,
            "%s, row %zu: ||error||/||y|| is %.3g over %zu steps, expected %.3g at most",
            what, row, error, compared + 1, bound);
    }
    expect(compared > 0, "%s, row %zu: nothing to compare", what, row);
}

static void check_pair(const subject *s, cy_activation activation,
                       cy_activation recurrent)
{
    bool wild = activation == CY_ACT_EXPONENTIAL || activation == CY_ACT_LOG_SOFTMAX ||
                is_unbounded(recurrent);
    cy_graph *graph = activated(50, activation, recurrent);
    rig r = rig_open(graph, s->kernels, 1, 4, 0);
    batch b = batch_open(graph, 3, 4, PAIR_STEPS, !wild, true);
    rig_run(&r, &b);
    char what[64];
    snprintf(what, sizeof what, "%s and %s", cy_activation_name(activation),
             cy_activation_name(recurrent));
    if (!wild) expect_oracle(&b, graph, PAIR_BOUND, what);
    for (size_t row = 0; wild && row < b.rows; row++)
        expect_wild_row(graph, &b, row, what);
    batch_close(&b);
    rig_close(&r);
    cy_graph_close(&graph);
}

void check_pairs(const subject *s)
{
    for (int a = 0; a < CY_ACT_COUNT; a++)
        for (int c = 0; c < CY_ACT_COUNT; c++)
            check_pair(s, (cy_activation)a, (cy_activation)c);
}

/* ---- the same bits -------------------------------------------------------------------------- */

/* One row of `from` as a batch of its own. */
static batch row_of(const cy_graph *graph, const batch *from, size_t row)
{
    batch b = batch_open(graph, 1, 1, from->max_steps, false, from->all_steps);
    size_t in = from->max_steps * graph->input.width;
    b.steps[0] = from->steps[row];
    memcpy(b.input, (const float *)from->input + row * in, in * sizeof(float));
    if (from->read) {
        batch_start(&b, graph, 1);
        memcpy(b.read, from->read + row * graph->state_floats,
               graph->state_floats * sizeof(float));
    }
    return b;
}

static void expect_row(const cy_graph *graph, const batch *alone, const batch *together,
                       size_t row, const char *what)
{
    for (size_t o = 0; o < alone->output_count; o++)
        expect_bits(alone->outputs[o], together->outputs[o] + row * alone->counts[o],
                    alone->counts[o], what);
    expect_bits(alone->write, together->write + row * graph->state_floats,
                graph->state_floats, what);
}

void check_company(const subject *s)
{
    for (size_t k = 0; k < COUNT(all_kinds); k++)
        for (size_t rows = 1; rows <= 13; rows++) {
            cy_graph *graph = all_kinds[k].make(20, 13, 17);
            rig r = rig_open(graph, s->kernels, 1, 13, 23);
            batch b = batch_open(graph, rows, rows, 23, rows % 2, true);
            batch_start(&b, graph, rows);
            rig_run(&r, &b);
            for (size_t i = 0; i < rows; i++) {
                batch alone = row_of(graph, &b, i);
                rig_run(&r, &alone);
                expect_row(graph, &alone, &b, i, all_kinds[k].name);
                batch_close(&alone);
            }
            batch_close(&b);
            rig_close(&r);
            cy_graph_close(&graph);
        }
}

void check_cuts(const subject *s)
{
    enum { T = 41, ROWS = 5 };
    for (size_t k = 0; k < COUNT(causal); k++)
        for (size_t units = 1; units <= 65; units += 16) {
            cy_graph *graph = causal[k].make(30, 13, units);
            rig r = rig_open(graph, s->kernels, 1, ROWS, 0);
            batch whole = batch_open(graph, 4, ROWS, T, false, true);
            batch_start(&whole, graph, 9);
            rig_run(&r, &whole);
            for (size_t cut = 1; cut < T; cut = cut * 2 + 1) {
                float *state = malloc(ROWS * graph->state_floats * sizeof *state);
                if (!state) abort();
                memcpy(state, whole.read, ROWS * graph->state_floats * sizeof *state);
                batch last = {0};
                for (size_t first = 0; first < T; first += cut) {
                    size_t n = T - first < cut ? T - first : cut;
                    batch part = batch_open(graph, 1, ROWS, n, false, true);
                    size_t in = graph->input.width;
                    for (size_t i = 0; i < ROWS; i++)
                        memcpy((float *)part.input + i * n * in,
                               (float *)whole.input + (i * T + first) * in,
                               n * in * sizeof(float));
                    part.read = state;
                    rig_run(&r, &part);
                    memcpy(state, part.write, ROWS * graph->state_floats * sizeof *state);
                    part.read = NULL;
                    for (size_t o = 0; o < part.output_count; o++) {
                        size_t width = cy_graph_width(graph, graph->outputs[o]);
                        if (!cy_graph_has_time(graph, graph->outputs[o])) continue;
                        for (size_t i = 0; i < ROWS; i++)
                            expect_bits(part.outputs[o] + i * n * width,
                                        whole.outputs[o] + (i * T + first) * width,
                                        n * width, causal[k].name);
                    }
                    if (last.steps) batch_close(&last);
                    last = part;
                }
                for (size_t o = 0; o < last.output_count; o++)
                    if (!cy_graph_has_time(graph, graph->outputs[o]))
                        expect_bits(last.outputs[o], whole.outputs[o], last.counts[o],
                                    "after the last call");
                expect_bits(state, whole.write, ROWS * graph->state_floats,
                            "final state");
                batch_close(&last);
                free(state);
            }
            batch_close(&whole);
            rig_close(&r);
            cy_graph_close(&graph);
        }
}

/* A call on a space of `row_steps` row-steps by `threads` threads that divide the panels, whatever
 * the plan would choose. */
typedef struct forced {
    cy_cpu_job job;
} forced;

static void forced_work(void *argument, uint32_t id)
{
    cy_cpu_job_run(&((forced *)argument)->job, id);
}

static void run_forced(const rig *r, batch *b, size_t row_steps, size_t steps,
                       cy_cpu_pool *pool, uint32_t threads)
{
    cy_row *rows = calloc(b->rows, sizeof *rows);
    cy_cpu_buffers *buffers = calloc(r->model->layer_count, sizeof *buffers);
    if (!rows || !buffers) abort();
    cy_run_output outputs[8];
    cy_run run;
    batch_describe(b, r->graph, rows, outputs, &run);
    cy_carver carver = {0};
    cy_cpu_space space = {.buffers = buffers};
    cy_cpu_space_carve(&space, r->model, b->rows, row_steps, steps, &carver);
    carver = (cy_carver){.base = cy_alloc(carver.bytes)};
    unsigned char *block = carver.base;
    if (!block) abort();
    cy_cpu_space_carve(&space, r->model, b->rows, row_steps, steps, &carver);
    forced f = {{.model = r->model,
                 .run = &run,
                 .rows = rows,
                 .row_count = b->rows,
                 .space = &space,
                 .pool = pool,
                 .threads = threads}};
    cy_cpu_job_prepare(&f.job);
    cy_cpu_pool_run(pool, threads, forced_work, &f);
    cy_cpu_job_finish(&f.job);
    cy_free(block);
    free(rows), free(buffers);
}

void check_capacity(const subject *s)
{
    for (size_t k = 0; k < COUNT(causal); k++) {
        cy_graph *graph = causal[k].make(40, 13, 21);
        rig r = rig_open(graph, s->kernels, 1, 7, 0);
        batch b = batch_open(graph, 8, 7, 29, true, true);
        batch_start(&b, graph, 8);
        rig_run(&r, &b);
        for (size_t row_steps = 7; row_steps <= 7 * 29; row_steps += 1 + row_steps / 4) {
            batch again = batch_again(graph, &b);
            run_forced(&r, &again, row_steps, row_steps, NULL, 1);
            expect_same_batch(&again, &b, graph, causal[k].name);
            batch_close(&again);
        }
        batch_close(&b);
        rig_close(&r);
        cy_graph_close(&graph);
    }
}

void check_threads(const subject *s)
{
    for (size_t k = 0; k < COUNT(all_kinds); k++)
        for (size_t rows = 1; rows <= 14; rows += 6) {
            size_t units = rows == 7 ? 33 : 70, steps = 19;
            cy_graph *graph = all_kinds[k].make(60, 13, units);
            rig r = rig_open(graph, s->kernels, 1, (uint32_t)rows, (uint32_t)steps);
            batch b = batch_open(graph, 8, rows, steps, rows > 1, true);
            batch_start(&b, graph, 8);
            rig_run(&r, &b);
            for (uint32_t threads = 2; threads <= 4; threads++) {
                rig parallel =
                    rig_open(graph, s->kernels, threads, (uint32_t)rows, (uint32_t)steps);
                batch again = batch_again(graph, &b);
                rig_run(&parallel, &again); /* as the plan has it */
                expect_same_batch(&again, &b, graph, all_kinds[k].name);
                batch_close(&again);
                rig_close(&parallel);

                cy_cpu_pool *pool;
                if (cy_cpu_pool_open(&pool, threads) != CARRY_OK) abort();
                again = batch_again(graph, &b);
                run_forced(&r, &again, rows * steps, steps, pool, threads);
                expect_same_batch(&again, &b, graph, all_kinds[k].name);
                batch_close(&again);
                if (!graph->whole_sequence) {
                    again = batch_again(graph, &b);
                    run_forced(&r, &again, 2 * rows, 2 * rows, pool, threads);
                    expect_same_batch(&again, &b, graph, all_kinds[k].name);
                    batch_close(&again);
                }
                cy_cpu_pool_close(pool);
            }
            batch_close(&b);
            rig_close(&r);
            cy_graph_close(&graph);
        }
}

/* The scalar cell behind fused products: the same bits in every variant. tanh and sigmoid: the same
 * in all vector variants. */
void check_variants_agree(const subject *s)
{
    static const cy_activation pairs[][2] = {{CY_ACT_RELU6, CY_ACT_HARD_SIGMOID_02},
                                             {CY_ACT_SOFTSIGN, CY_ACT_SIGMOID},
                                             {CY_ACT_TANH, CY_ACT_SIGMOID}};
    for (size_t p = 0; p < COUNT(pairs); p++) {
        bool fused = p == 2;
        const cy_cpu_kernels *other = &cy_cpu_kernels_ref;
        if (fused && s->kernels->lanes > 1) other = cy_cpu_kernels_at(1);
        cy_graph *graph = activated(70, pairs[p][0], pairs[p][1]);
        rig a = rig_open(graph, s->kernels, 1, 6, 0), b = rig_open(graph, other, 1, 6, 0);
        batch mine = batch_open(graph, 2, 6, 50, true, true);
        batch theirs = batch_again(graph, &mine);
        rig_run(&a, &mine);
        rig_run(&b, &theirs);
        expect_same_batch(&mine, &theirs, graph, other->isa);
        batch_close(&mine), batch_close(&theirs);
        rig_close(&a), rig_close(&b);
        cy_graph_close(&graph);
    }
}

/* ---- strange numbers ------------------------------------------------------------------------ */

void check_nan(const subject *s)
{
    enum { ROWS = 7, T = 12, BAD = 3, STEP = 5 };
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (size_t k = 0; k < COUNT(causal); k++)
        for (size_t v = 0; v < COUNT(bad); v++)
            for (size_t units = 1; units <= 21; units += 4) {
                cy_graph *graph = causal[k].make(80, 3, units);
                rig r = rig_open(graph, s->kernels, 1, ROWS, 0);
                batch clean = batch_open(graph, 5, ROWS, T, false, true);
                batch_start(&clean, graph, 5);
                rig_run(&r, &clean);
                batch dirty = batch_again(graph, &clean);
                ((float *)dirty.input)[(BAD * T + STEP) * 3 + 1] = bad[v];
                rig_run(&r, &dirty);
                for (size_t o = 0; o < dirty.output_count; o++) {
                    size_t n = dirty.counts[o] / ROWS;
                    bool time = cy_graph_has_time(graph, graph->outputs[o]);
                    for (size_t i = 0; i < ROWS; i++) {
                        size_t same = i != BAD ? n : time ? n / T * STEP : 0;
                        expect_bits(dirty.outputs[o] + i * n, clean.outputs[o] + i * n,
                                    same, "beside or before a bad number");
                    }
                    /* where every column takes part: at the step itself, or after the last */
                    size_t at = BAD * n + (time ? n / T * (STEP + 1) : n) - 1;
                    if (isnan(bad[v]) && cy_graph_width(graph, graph->outputs[o]) > 3)
                        expect(isnan(dirty.outputs[o][at]), "%s: the NaN was lost",
                               causal[k].name);
                }
                for (size_t i = 0; i < ROWS; i++)
                    if (i != BAD)
                        expect_bits(dirty.write + i * graph->state_floats,
                                    clean.write + i * graph->state_floats,
                                    graph->state_floats, "states beside a bad number");
                batch_close(&clean), batch_close(&dirty);
                rig_close(&r);
                cy_graph_close(&graph);
            }
}

/* Weights and states so small that the sums are denormal. */
static cy_graph *tiny(void)
{
    builder b = graph_begin(90, 3);
    cy_value y = graph_lstm(&b, model_input, 18);
    cy_node *node = graph_node(&b, y);
    node->activation = CY_ACT_LINEAR;
    for (int w = 0; w < 3; w++) {
        float *data = (float *)node->weights[w].data;
        for (size_t i = 0; i < cy_tensor_count(&node->weights[w]); i++)
            data[i] *= 1e-39f;
    }
    return graph_end(&b, (cy_value[]){y}, 1);
}

void check_control_word(const subject *s)
{
    uint64_t ours = cy_cpu_control_set();
#if defined(__x86_64__)
    cy_graph *graph = tiny();
    for (uint32_t threads = 1; threads <= 2; threads++) {
        rig r = rig_open(graph, s->kernels, threads, 40, 0);
        batch plain = batch_open(graph, 3, 40, 20, false, true);
        rig_run(&r, &plain);
        size_t denormals = 0;
        for (size_t i = 0; i < plain.counts[0]; i++)
            denormals += fpclassify(plain.outputs[0][i]) == FP_SUBNORMAL;
        expect(denormals > 100, "the model makes %zu denormals: nothing is tested",
               denormals);
        static const unsigned words[] = {
            0x1f80 | 0x8040,  /* flush to zero, denormals are zero */
            0x1f80 | 0x4000,  /* round up */
            0x1f80 | 0x6000}; /* towards zero */
        for (size_t w = 0; w < COUNT(words); w++) {
            batch again = batch_again(graph, &plain);
            cy_cpu_control_restore(words[w]);
            rig_run(&r, &again);
            uint64_t after = cy_cpu_control_set();
            expect((after & 0xffc0) == (words[w] & 0xffc0),
                   "the caller's word is %#llx after the run, was %#x",
                   (unsigned long long)after, words[w]);
            expect_same_batch(&again, &plain, graph, "under the caller's control word");
            batch_close(&again);
        }
        batch_close(&plain);
        rig_close(&r);
    }
    cy_graph_close(&graph);
#else
    (void)tiny;
    expect(s != NULL, "this processor's control word is not tested");
#endif
    cy_cpu_control_restore(ours);
}
