/* Stateful against stateless windows and round trips, for as many sequences, without waiting: every call gives one new
 * step to each of as many sequences as the session computes together, and the next call takes the next ones.
 *
 *   stateful    the states stay in the session
 *   window      no states: each sequence's last `window` steps are fed again
 *   round_trip  the states lie at the caller's, as in a server that keeps them somewhere else, and go in and out */
#include "load.h"

#include "progress.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

const char *const cy_memory_way_names[CY_MEMORY_WAYS] = {"stateful", "window",
                                                         "round_trip"};

#define SLICES     5 /* the ways take turns, so that a disturbance falls on all */
#define CALLS_MOST 1000000
#define HISTORY_BYTES \
    ((size_t)64 << 20) /* more than the caches; more would tell no more */

typedef struct comparison {
    cy_load *load;
    carry_session *session;
    carry_state *states;    /* [load->states] */
    uint64_t rows, next;    /* of a call; the sequence the next call begins with */
    float *carried;         /* [states][state_bytes / 4]: at the caller's */
    size_t *widths;         /* of the state's tensors */
    unsigned char *history; /* [history_rows][window] steps */
    uint64_t history_rows;
    carry_array *out;
    double *call_us; /* of one slice, per step */
    double slice_us[CY_MEMORY_WAYS][SLICES];
} comparison;

static int open_history(comparison *c)
{
    const cy_load *load = c->load;
    size_t bytes = load->window * load->step_bytes;
    uint64_t rows = HISTORY_BYTES / bytes;
    if (rows > load->states) rows = load->states;
    c->history_rows = rows > c->rows ? rows : c->rows;
    c->history = malloc(c->history_rows * bytes);
    if (c->history == NULL) return cy_load_memory();
    for (size_t step = 0; step < c->history_rows * load->window; step++)
        memcpy(c->history + step * load->step_bytes, cy_load_input(load, step, 1),
               load->step_bytes);
    return CY_EXIT_OK;
}

static int open_arrays(comparison *c)
{
    const cy_load *load = c->load;
    c->widths = calloc(load->info.state_tensors + 1, sizeof *c->widths);
    c->carried = calloc(load->states, load->info.state_bytes + 4);
    c->out = calloc(load->info.outputs + 1, sizeof *c->out);
    c->call_us = calloc(CALLS_MOST, sizeof *c->call_us);
    if (c->widths == NULL || c->carried == NULL || c->out == NULL || c->call_us == NULL)
        return cy_load_memory();
    for (size_t k = 0; k < load->info.state_tensors; k++) {
        carry_state_info tensor = {.size = sizeof tensor};
        if (carry_model_get_state_tensor(load->model, k, &tensor) != CARRY_OK)
            return cy_load_failed(load);
        c->widths[k] = (size_t)tensor.width;
    }
    for (size_t o = 0; o < load->info.outputs; o++) {
        size_t bytes = c->rows * (size_t)load->outputs[o].width * sizeof(float);
        c->out[o] = (carry_array){
            .size = sizeof c->out[o], .data = malloc(bytes), .bytes = bytes};
        if (c->out[o].data == NULL) return cy_load_memory();
    }
    return open_history(c);
}

static int open_all(comparison *c)
{
    cy_load *load = c->load;
    carry_graph_shape graphs[2 * CY_DEVICE_GRAPHS];
    carry_session_info info = {.size = sizeof info};
    carry_session_options wants = {.size = sizeof wants,
                                   .threads = (uint32_t)load->options->threads,
                                   .max_rows = load->max_rows,
                                   .exact = (uint32_t)load->options->on.exact,
                                   .graphs = graphs};
    c->rows = load->max_rows;
    wants.graph_count = cy_device_graphs(&load->info, c->rows, 1, graphs);
    wants.graph_count +=
        cy_device_graphs(&load->info, c->rows, load->window, graphs + wants.graph_count);
    if (carry_session_open(&c->session, load->model, &wants) != CARRY_OK ||
        carry_session_get_info(c->session, &info) != CARRY_OK)
        return cy_load_failed(load);
    load->exact = (int)info.exact;
    c->states = calloc(load->states, sizeof *c->states);
    if (c->states == NULL) return cy_load_memory();
    for (uint64_t i = 0; i < load->states; i++)
        if (carry_state_open(c->session, &c->states[i]) != CARRY_OK)
            return cy_load_failed(load);
    return open_arrays(c);
}

static void close_all(comparison *c)
{
    carry_session_close(&c->session);
    for (size_t o = 0; c->out != NULL && o < c->load->info.outputs; o++)
        free(c->out[o].data);
    free(c->out);
    free(c->states);
    free(c->widths);
    free(c->carried);
    free(c->history);
    free(c->call_us);
}

/* The states of a round trip are the session's first ones, whatever sequences they are lent to. */
static carry_status move_states(comparison *c, uint64_t first, uint64_t rows, int back)
{
    size_t floats = c->load->info.state_bytes / 4;
    for (uint64_t r = 0; r < rows; r++) {
        float *at = c->carried + (first + r) * floats;
        for (size_t k = 0; k < c->load->info.state_tensors; k++) {
            carry_status status =
                back ? carry_state_read(c->session, c->states[r], k, at, c->widths[k])
                     : carry_state_write(c->session, c->states[r], k, at, c->widths[k]);
            if (status != CARRY_OK) return status;
            at += c->widths[k];
        }
    }
    return CARRY_OK;
}

static carry_status one_call(comparison *c, cy_memory_way way, uint64_t first,
                             uint64_t rows)
{
    const cy_load *load = c->load;
    uint64_t steps = way == CY_WINDOW ? load->window : 1;
    uint64_t at = first % (c->history_rows - rows + 1);
    carry_array in = {.size = sizeof in,
                      .data = c->history + at * load->window * load->step_bytes,
                      .dtype = load->input.dtype,
                      .bytes = rows * steps * load->step_bytes};
    carry_batch batch = {.size = sizeof batch,
                         .rows = rows,
                         .states = way == CY_WINDOW     ? NULL
                                   : way == CY_STATEFUL ? c->states + first
                                                        : c->states,
                         .max_steps = steps,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = c->out,
                         .output_count = load->info.outputs,
                         .mode = CARRY_STEPS_LAST};
    carry_status status = CARRY_OK;
    if (way == CY_ROUND_TRIP) status = move_states(c, first, rows, 0);
    if (status == CARRY_OK) status = carry_run(c->session, &batch);
    if (status == CARRY_OK && way == CY_ROUND_TRIP)
        status = move_states(c, first, rows, 1);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Calls for `seconds`, three at least, after two that warm up; the median. */
static int slice(comparison *c, cy_memory_way way, double seconds, double *us,
                 uint64_t *calls)
{
    size_t count = 0;
    double end_s = cy_clock_seconds() + seconds;
    for (int i = -2; count < CALLS_MOST && (i < 3 || cy_clock_seconds() < end_s); i++) {
        uint64_t rows = c->load->states - c->next;
        if (rows > c->rows) rows = c->rows;
        double start_s = cy_clock_seconds();
        if (one_call(c, way, c->next, rows) != CARRY_OK) return cy_load_failed(c->load);
        if (i >= 0)
            c->call_us[count++] = 1e6 * (cy_clock_seconds() - start_s) / (double)rows;
        c->next = (c->next + rows) % c->load->states;
    }
    qsort(c->call_us, count, sizeof *c->call_us, compare_doubles);
    *us = c->call_us[(count - 1) / 2];
    *calls += count;
    return CY_EXIT_OK;
}

static int measure(comparison *c, cy_comparison results[CY_MEMORY_WAYS])
{
    const cy_load *load = c->load;
    carry_pool_info pool = {.size = sizeof pool};
    double seconds = load->options->seconds / SLICES;
    for (int turn = 0; turn < SLICES; turn++)
        for (int way = 0; way < CY_MEMORY_WAYS; way++) {
            int code = slice(c, (cy_memory_way)way, seconds, &c->slice_us[way][turn],
                             &results[way].calls);
            if (code != CY_EXIT_OK) return code;
        }
    if (carry_session_get_pool(c->session, &pool) != CARRY_OK)
        return cy_load_failed(load);
    for (int way = 0; way < CY_MEMORY_WAYS; way++) {
        double *us = c->slice_us[way];
        qsort(us, SLICES, sizeof *us, compare_doubles);
        results[way].rows = c->rows;
        results[way].us_per_step = us[SLICES / 2];
        results[way].us_least = us[0];
        results[way].us_most = us[SLICES - 1];
        results[way].steps_per_s = 1e6 / (us[SLICES / 2] > 0 ? us[SLICES / 2] : 1e-3);
    }
    results[CY_STATEFUL].bytes_per_state =
        (double)pool.bytes / (double)(pool.open + pool.free);
    results[CY_WINDOW].bytes_per_state = (double)(load->window * load->step_bytes);
    results[CY_ROUND_TRIP].bytes_per_state = (double)load->info.state_bytes;
    return CY_EXIT_OK;
}

int cy_load_compare(cy_load *load, cy_comparison results[CY_MEMORY_WAYS])
{
    comparison c = {.load = load};
    memset(results, 0, CY_MEMORY_WAYS * sizeof *results);
    int code = open_all(&c);
    if (code == CY_EXIT_OK) code = measure(&c, results);
    close_all(&c);
    return code;
}
