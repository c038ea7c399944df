/* What every way of serving needs, and the record of a trial. */
#include "load.h"

#include "model_source.h"
#include "progress.h"
#include "report.h"
#include "sampler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

const char *const cy_way_names[CY_WAYS] = {"batcher", "one call each", "windows"};
const char *const cy_way_keys[CY_WAYS] = {"batcher", "each", "windows"};

#define POOL_STEPS 4096 /* more than fits the caches of first level, as new input does */

int cy_load_memory(void)
{
    return cy_report(CY_EXIT_FAILED, "out of memory for the bench");
}

int cy_load_failed(const cy_load *load)
{
    return cy_report(CY_EXIT_FAILED, "%s: %s", load->options->model, carry_error());
}

/* Numbers between -1 and 1, or any id: the time of a step does not depend on them. */
static int make_pool(cy_load *load)
{
    cy_random random;
    size_t numbers;
    load->pool_steps = POOL_STEPS + load->most_steps;
    load->pool = calloc(load->pool_steps, load->step_bytes);
    if (load->pool == NULL) return cy_load_memory();
    numbers = load->pool_steps * (load->step_bytes / 4);
    cy_random_seed(&random, load->options->seed);
    for (size_t i = 0; i < numbers; i++) {
        double unit = cy_random_unit(&random);
        if (load->input.dtype == CARRY_I32)
            ((int32_t *)(void *)load->pool)[i] =
                (int32_t)(unit * (double)load->input.ids);
        else ((float *)(void *)load->pool)[i] = (float)(2 * unit - 1);
    }
    return CY_EXIT_OK;
}

int cy_load_prepare(cy_load *load)
{
    const cy_load_options *options = load->options;
    int code = cy_model_load(options->model, &options->on, &load->model, NULL);
    if (code != CY_EXIT_OK) return code;
    load->info.size = sizeof load->info;
    load->input.size = sizeof load->input;
    if (carry_model_get_info(load->model, &load->info) != CARRY_OK ||
        carry_model_get_input(load->model, 0, &load->input) != CARRY_OK)
        return cy_load_failed(load);
    if (load->info.whole_sequence)
        return cy_report(CY_EXIT_FAILED,
                         "%s needs whole sequences: nothing stays from call to call, so "
                         "--states and --trace have nothing to measure",
                         options->model);
    load->outputs = calloc(load->info.outputs + 1, sizeof *load->outputs);
    if (load->outputs == NULL) return cy_load_memory();
    for (size_t i = 0; i < load->info.outputs; i++) {
        load->outputs[i].size = sizeof load->outputs[i];
        if (carry_model_get_output(load->model, i, &load->outputs[i]) != CARRY_OK)
            return cy_load_failed(load);
    }
    int64_t fixed = load->input.shape.rank > 1 ? load->input.shape.dim[1] : CARRY_FREE;
    load->window = options->window != 0 ? options->window
                   : fixed > 0          ? (uint64_t)fixed
                                        : 64;
    load->max_rows = cy_device_max_rows(&load->info, load->states);
    load->step_bytes = (size_t)load->input.width * 4;
    return make_pool(load);
}

void cy_load_release(cy_load *load)
{
    free(load->outputs);
    free(load->pool);
    load->outputs = NULL, load->pool = NULL;
    carry_model_close(&load->model);
}

const void *cy_load_input(const cy_load *load, size_t index, uint32_t steps)
{
    size_t step = index * 61 % (load->pool_steps - steps + 1);
    return load->pool + step * load->step_bytes;
}

/* CUDA: one step of so many rows by graph, whatever number a batch has. */
carry_session_options cy_load_session(const cy_load *load, carry_graph_shape graphs[8])
{
    carry_session_options wants = {.size = sizeof wants,
                                   .threads = (uint32_t)load->options->threads,
                                   .max_rows = load->max_rows,
                                   .exact = (uint32_t)load->options->on.exact,
                                   .graphs = graphs};
    for (uint32_t rows = load->max_rows; rows > 0 && wants.graph_count < 8; rows /= 4)
        graphs[wants.graph_count++] = (carry_graph_shape){.rows = rows, .steps = 1};
    if (strncmp(load->info.device, "cuda", 4) != 0) wants.graph_count = 0;
    return wants;
}

int cy_server_open(cy_server *server, cy_load *load, cy_way way)
{
    memset(server, 0, sizeof *server);
    server->load = load;
    server->way = way;
    server->states = calloc(load->states, sizeof *server->states);
    server->last = calloc(load->states, sizeof *server->last);
    if (server->states == NULL || server->last == NULL) return cy_load_memory();
    prctl(PR_SET_TIMERSLACK, 1000ul); /* sleeps end within a microsecond, not fifty */
    return way == CY_BATCHER ? cy_batcher_way_open(server) : cy_direct_open(server);
}

void cy_server_close(cy_server *server)
{
    if (server->way == CY_BATCHER) cy_batcher_way_close(server);
    else cy_direct_close(server);
    free(server->states);
    free(server->last);
    free(server->marks);
    memset(server, 0, sizeof *server);
}

void cy_sleep_until(double clock_s)
{
    struct timespec until = {.tv_sec = (time_t)clock_s};
    until.tv_nsec = (long)((clock_s - (double)until.tv_sec) * 1e9);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* May be called by any worker; those of one sequence come from one. */
void cy_server_answer(cy_server *server, size_t index, double now_s)
{
    const cy_arrival *arrival = &server->arrivals->items[index];
    cy_mark *mark = &server->marks[index];
    if (mark->answers++ > 0) atomic_fetch_add(&server->repeated, 1);
    mark->latency_s = (float)(now_s - server->start_s - arrival->at_s);
    if (index < server->last[arrival->sequence]) atomic_fetch_add(&server->disordered, 1);
    server->last[arrival->sequence] = (uint32_t)index + 1;
    if (mark->latency_s > server->deadline_s) atomic_fetch_add(&server->late, 1);
    atomic_fetch_add(&server->answered, 1);
}

int cy_server_ends(cy_server *server, double now_s)
{
    return now_s >= server->end_s || atomic_load(&server->late) > server->most_late ||
           atomic_load(&server->failed) > 0;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The nearest rank: so many of the arrivals took no longer. */
static double percentile(const float *sorted, uint64_t count, double part)
{
    uint64_t rank = (uint64_t)(part * (double)count);
    if ((double)rank < part * (double)count) rank++;
    return count == 0 ? 0 : sorted[rank > 0 ? rank - 1 : 0];
}

/* Counts what was due by the end, an answer that did not come with the age of its arrival. */
static int conclude(cy_server *server, double now_s, cy_trial *trial)
{
    const cy_arrivals *arrivals = server->arrivals;
    double elapsed = now_s - server->start_s, last_s = 0;
    float *latency = malloc((arrivals->count + 1) * sizeof *latency);
    if (latency == NULL) return cy_load_memory();
    for (size_t i = 0; i < arrivals->count; i++) {
        const cy_arrival *arrival = &arrivals->items[i];
        const cy_mark *mark = &server->marks[i];
        if (mark->answers == 0 && arrival->at_s > elapsed) break; /* never came */
        if (mark->answers > 0) {
            double done_s = arrival->at_s + mark->latency_s;
            if (done_s > last_s) last_s = done_s;
            trial->done++;
            trial->steps += arrival->steps;
            latency[trial->arrivals++] = mark->latency_s;
        } else {
            trial->undone++;
            latency[trial->arrivals++] = (float)(elapsed - arrival->at_s);
        }
    }
    qsort(latency, trial->arrivals, sizeof *latency, compare_floats);
    trial->p50 = percentile(latency, trial->arrivals, 0.5);
    trial->p99 = percentile(latency, trial->arrivals, 0.99);
    trial->p999 = percentile(latency, trial->arrivals, 0.999);
    free(latency);
    trial->seconds = last_s;
    trial->repeated = atomic_load(&server->repeated);
    trial->disordered = atomic_load(&server->disordered);
    trial->calls = server->calls;
    trial->met = trial->undone == 0 && trial->p99 <= server->deadline_s;
    return CY_EXIT_OK;
}

int cy_server_run(cy_server *server, const cy_arrivals *arrivals, double limit_s,
                  int stops, cy_trial *trial)
{
    if (server->room < arrivals->count) {
        free(server->marks);
        server->marks = malloc(arrivals->count * sizeof *server->marks);
        server->room = server->marks != NULL ? arrivals->count : 0;
        if (server->marks == NULL) return cy_load_memory();
    }
    for (size_t i = 0; i < arrivals->count; i++)
        server->marks[i] = (cy_mark){.server = server, .latency_s = -1};
    memset(server->last, 0, server->load->states * sizeof *server->last);
    server->arrivals = arrivals;
    server->deadline_s = server->load->options->deadline_s;
    server->most_late = stops == CY_TRIAL_STOPS ? arrivals->count / 100 : UINT64_MAX;
    server->calls = 0;
    atomic_store(&server->answered, 0);
    atomic_store(&server->late, 0);
    atomic_store(&server->repeated, 0);
    atomic_store(&server->disordered, 0);
    atomic_store(&server->failed, 0);
    server->start_s =
        cy_clock_seconds() + 1e-3; /* the first arrival is not late already */
    server->end_s = server->start_s + limit_s;

    int code = server->way == CY_BATCHER ? cy_batcher_way_serve(server)
                                         : cy_direct_serve(server);
    double now_s = cy_clock_seconds();
    *trial = (cy_trial){.way = server->way};
    if (code == CY_EXIT_OK && atomic_load(&server->failed) > 0)
        code = cy_report(CY_EXIT_FAILED, "%s: %s", server->load->options->model,
                         server->sentence);
    if (code == CY_EXIT_OK) code = conclude(server, now_s, trial);
    return code;
}
