#include "rig.h"

#include "check.h"
#include "cpu/cpu.h"
#include "oracle_f64.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POISON 777.0f

static void *room(size_t count, size_t bytes)
{
    void *block = calloc(count ? count : 1, bytes);
    if (!block) abort();
    return block;
}

static void must(carry_status status)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "rig: %s\n", cy_error());
    abort();
}

rig rig_open(cy_graph *graph, const cy_cpu_kernels *kernels, uint32_t threads,
             uint32_t max_rows, uint32_t max_steps)
{
    rig r = {
        .graph = graph,
        .limits = {.threads = threads, .max_rows = max_rows, .max_steps = max_steps}};
    must(cy_cpu_model_open(graph, kernels, &r.model));
    must(cy_backend_cpu.session_open(r.model, &r.limits, &r.session));
    return r;
}

void rig_close(rig *r)
{
    cy_backend_cpu.session_close(r->session);
    cy_backend_cpu.model_close(r->model);
}

batch batch_open(const cy_graph *graph, uint64_t seed, size_t rows, size_t max_steps,
                 bool ragged, bool all_steps)
{
    rng r = {seed};
    batch b = {.rows = rows,
               .max_steps = max_steps,
               .steps = room(rows, sizeof(uint32_t)),
               .input = room(rows * max_steps * graph->input.width, sizeof(float)),
               .write = room(rows * graph->state_floats, sizeof(float)),
               .all_steps = all_steps,
               .output_count = graph->output_count};
    size_t width = graph->input.width;
    for (size_t i = 0; i < rows; i++) {
        b.steps[i] = (uint32_t)(ragged ? rng_next(&r) % (max_steps + 1) : max_steps);
        for (size_t k = 0; k < max_steps * width; k++) {
            size_t at = i * max_steps * width + k;
            bool inside = k < b.steps[i] * width;
            if (graph->input.ids)
                ((int32_t *)b.input)[at] =
                    inside ? (int32_t)(rng_next(&r) % graph->ids) : INT32_MAX;
            else ((float *)b.input)[at] = inside ? (float)rng_normal(&r) : NAN;
        }
    }
    for (uint32_t o = 0; o < graph->output_count; o++) {
        bool time = all_steps && cy_graph_has_time(graph, graph->outputs[o]);
        b.counts[o] =
            rows * (time ? max_steps : 1) * cy_graph_width(graph, graph->outputs[o]);
        b.outputs[o] = room(b.counts[o], sizeof(float));
        for (size_t i = 0; i < b.counts[o]; i++)
            b.outputs[o][i] = POISON;
    }
    return b;
}

void batch_start(batch *b, const cy_graph *graph, uint64_t seed)
{
    rng r = {seed};
    if (!b->read) b->read = room(b->rows * graph->state_floats, sizeof(float));
    for (size_t i = 0; i < b->rows * graph->state_floats; i++)
        b->read[i] = (float)rng_uniform(&r, -1, 1);
}

batch batch_again(const cy_graph *graph, const batch *from)
{
    batch b = batch_open(graph, 1, from->rows, from->max_steps, false, from->all_steps);
    memcpy(b.steps, from->steps, from->rows * sizeof *b.steps);
    memcpy(b.input, from->input,
           from->rows * from->max_steps * graph->input.width * sizeof(float));
    if (from->read) {
        b.read = room(from->rows * graph->state_floats, sizeof(float));
        memcpy(b.read, from->read, from->rows * graph->state_floats * sizeof(float));
    }
    return b;
}

void batch_close(batch *b)
{
    free(b->steps), free(b->input), free(b->read), free(b->write);
    for (size_t o = 0; o < b->output_count; o++)
        free(b->outputs[o]);
}

void batch_describe(const batch *b, const cy_graph *graph, cy_row *rows,
                    cy_run_output *outputs, cy_run *run)
{
    size_t n = 0;
    for (size_t steps = b->max_steps + 1; steps-- > 0;)
        for (size_t i = 0; i < b->rows; i++)
            if (b->steps[i] == steps)
                rows[n++] =
                    (cy_row){.read = b->read ? b->read + i * graph->state_floats : NULL,
                             .write = b->write + i * graph->state_floats,
                             .steps = b->steps[i],
                             .index = (uint32_t)i,
                             .span = (uint32_t)b->max_steps,
                             .first = i * b->max_steps};
    for (size_t o = 0; o < b->output_count; o++)
        outputs[o] = (cy_run_output){
            .data = b->outputs[o],
            .all_steps = b->all_steps && cy_graph_has_time(graph, graph->outputs[o])};
    *run = (cy_run){.rows = rows,
                    .row_count = (uint32_t)b->rows,
                    .max_steps = b->max_steps,
                    .input = b->input,
                    .outputs = outputs};
}

void rig_run(const rig *r, batch *b)
{
    cy_row *rows = room(b->rows, sizeof *rows);
    cy_run_output outputs[8];
    cy_run run;
    batch_describe(b, r->graph, rows, outputs, &run);
    must(cy_backend_cpu.run(r->session, &run));
    free(rows);
}

void expect_same_batch(const batch *got, const batch *expected, const cy_graph *graph,
                       const char *what)
{
    char text[128];
    for (size_t o = 0; o < got->output_count; o++) {
        snprintf(text, sizeof text, "%s, output %zu", what, o);
        expect_bits(got->outputs[o], expected->outputs[o], got->counts[o], text);
    }
    snprintf(text, sizeof text, "%s, states", what);
    expect_bits(got->write, expected->write, got->rows * graph->state_floats, text);
}

/* Sums of squares of error and truth, over one output of all rows. */
typedef struct distance {
    double error, size;
} distance;

static void add_distance(distance *d, const float *got, const double *exact, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        d->error += (got[i] - exact[i]) * (got[i] - exact[i]);
        d->size += exact[i] * exact[i];
    }
}

static void expect_near(distance d, double relative, const char *what, size_t index)
{
    double ratio = d.size > 0 ? sqrt(d.error / d.size) : sqrt(d.error);
    measured("||error||/||y||", ratio);
    expect(ratio <= relative, "%s, %zu: ||error||/||y|| is %.3g, expected %.3g at most",
           what, index, ratio, relative);
}

void expect_oracle(const batch *got, const cy_graph *graph, double relative,
                   const char *what)
{
    distance outputs[8] = {{0}}, *states = room(graph->state_count, sizeof *states);
    double *state = room(graph->state_floats, sizeof *state);
    double *exact[8];
    bool zeros = true;
    for (size_t o = 0; o < got->output_count; o++)
        exact[o] = room(got->max_steps * cy_graph_width(graph, graph->outputs[o]),
                        sizeof(double));
    for (size_t i = 0; i < got->rows; i++) {
        size_t steps = got->steps[i], in = got->max_steps * graph->input.width;
        for (size_t k = 0; k < graph->state_floats; k++)
            state[k] = got->read ? got->read[i * graph->state_floats + k] : 0;
        for (size_t o = 0; o < got->output_count; o++)
            memset(exact[o], 0,
                   got->max_steps * cy_graph_width(graph, graph->outputs[o]) *
                       sizeof(double));
        oracle_run(graph, (const float *)got->input + i * in, steps, state, exact);
        for (size_t o = 0; o < got->output_count; o++) {
            cy_value value = graph->outputs[o];
            size_t width = cy_graph_width(graph, value);
            bool time = cy_graph_has_time(graph, value);
            if (time && got->all_steps) {
                const float *y = got->outputs[o] + i * got->max_steps * width;
                add_distance(&outputs[o], y, exact[o], steps * width);
                for (size_t k = steps * width; k < got->max_steps * width; k++)
                    zeros = zeros && y[k] == 0;
            } else {
                const float *y = got->outputs[o] + i * width;
                const double *last = exact[o];
                if (time && steps > 0) last += (steps - 1) * width;
                bool nothing = steps == 0 && value.port == CY_PORT_Y;
                for (size_t k = 0; nothing && k < width; k++)
                    zeros = zeros && y[k] == 0;
                if (!nothing) add_distance(&outputs[o], y, last, width);
            }
        }
        for (uint32_t k = 0; steps > 0 && k < graph->state_count; k++)
            add_distance(&states[k],
                         got->write + i * graph->state_floats + graph->states[k].offset,
                         state + graph->states[k].offset, graph->states[k].width);
        for (size_t k = 0; steps == 0 && k < graph->state_floats; k++)
            expect(got->write[i * graph->state_floats + k] == 0,
                   "%s: the state of a row of no steps was written", what);
    }
    expect(zeros, "%s: not zero past a row's steps", what);
    for (size_t o = 0; o < got->output_count; o++)
        expect_near(outputs[o], relative, what, o);
    for (uint32_t k = 0; k < graph->state_count; k++)
        expect_near(states[k], relative, what, 100 + k);
    for (size_t o = 0; o < got->output_count; o++)
        free(exact[o]);
    free(states), free(state);
}
