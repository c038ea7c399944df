/* Open, close, drain, statistics. */
#define _POSIX_C_SOURCE 200809L /* pthread_condattr_setclock */
#include "batcher/batcher.h"
#include "base/cpu_limit.h"
#include "base/mem.h"
#include "base/sized.h"

#include <time.h>

#define MOST_WORKERS        256u
#define MOST_QUEUE          (1u << 24)
#define DEFAULT_QUEUE       65536u
#define DEFAULT_BATCH_STEPS 64u

/* ---- what is fixed at open ------------------------------------------------------------------ */

static carry_status read_ports(carry_batcher *batcher)
{
    carry_model_info model = {.size = sizeof model};
    carry_port_info port = {.size = sizeof port};
    CY_TRY(carry_model_get_info(batcher->model, &model));
    CY_TRY(carry_model_get_input(batcher->model, 0, &port));
    batcher->whole_sequence = model.whole_sequence;
    batcher->in_width = (size_t)port.width;
    batcher->ids = port.dtype == CARRY_I32 ? (size_t)port.ids : 0;
    batcher->output_count = model.outputs;
    batcher->ports = cy_alloc(model.outputs * sizeof *batcher->ports);
    CY_CHECK(batcher->ports, CARRY_E_MEMORY, "out of memory: a batcher's outputs");
    for (size_t o = 0; o < model.outputs; o++) {
        CY_TRY(carry_model_get_output(batcher->model, o, &port));
        batcher->ports[o] = (cy_port){(size_t)port.width, port.has_time};
    }
    return CARRY_OK;
}

static carry_status check_options(const carry_batcher_options *options)
{
    CY_CHECK(options->workers <= MOST_WORKERS, CARRY_E_ARGUMENT,
             "workers is %u; %u are the most", options->workers, MOST_WORKERS);
    CY_CHECK(options->queue_limit <= MOST_QUEUE, CARRY_E_ARGUMENT,
             "queue_limit is %u; %u are the most", options->queue_limit, MOST_QUEUE);
    return CARRY_OK;
}

static carry_status open_sessions(carry_batcher *batcher,
                                  const carry_session_options *given)
{
    carry_session_options options;
    CY_TRY(cy_sized_read(&options, sizeof options, given, "carry_session_options"));
    options.size = sizeof options;
    uint32_t workers = batcher->options.workers;
    CY_CHECK(workers == 1 || !options.cuda_stream, CARRY_E_ARGUMENT,
             "one cuda_stream for %u workers; each needs its own: leave it NULL",
             workers);
    if (options.threads == 0) {
        options.threads = cy_cpu_limit() / workers;
        if (options.threads == 0) options.threads = 1;
    }
    for (uint32_t i = 0; i < workers; i++)
        CY_TRY(
            carry_session_open(&batcher->workers[i].session, batcher->model, &options));
    return CARRY_OK;
}

/* What the sessions have in force bounds a call. */
static carry_status choose_bounds(carry_batcher *batcher)
{
    carry_session_info info = {.size = sizeof info};
    carry_batcher_options *options = &batcher->options;
    CY_TRY(carry_session_get_info(batcher->workers[0].session, &info));
    CY_CHECK(options->batch_rows <= info.max_rows, CARRY_E_ARGUMENT,
             "batch_rows is %u, max_rows of the sessions %u", options->batch_rows,
             info.max_rows);
    if (options->batch_rows == 0) options->batch_rows = info.max_rows;
    if (batcher->whole_sequence) options->batch_steps = info.max_steps;
    else if (options->batch_steps == 0) options->batch_steps = DEFAULT_BATCH_STEPS;
    if (options->queue_limit == 0) options->queue_limit = DEFAULT_QUEUE;
    if (options->state_limit > options->queue_limit)
        options->state_limit = options->queue_limit;
    return CARRY_OK;
}

static carry_status open_queue(carry_batcher *batcher)
{
    size_t limit = batcher->options.queue_limit;
    batcher->entries = cy_alloc(limit * sizeof *batcher->entries);
    batcher->arrays = cy_alloc(limit * batcher->output_count * sizeof *batcher->arrays);
    CY_CHECK(batcher->entries && batcher->arrays, CARRY_E_MEMORY,
             "out of memory: a queue of %zu requests", limit);
    batcher->free_entries = (uint32_t)limit;
    for (size_t i = limit; i-- > 0;) {
        batcher->entries[i].serial = 1;
        batcher->entries[i].after = batcher->free_entry;
        batcher->free_entry = &batcher->entries[i];
    }
    return CARRY_OK;
}

static void open_locks(carry_batcher *batcher)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&batcher->lock, NULL);
    pthread_cond_init(&batcher->quiet, NULL);
    for (int i = 0; i < CY_WAIT_BUCKETS; i++)
        pthread_cond_init(&batcher->bucket[i].done, NULL);
    for (uint32_t i = 0; i < batcher->options.workers; i++) {
        pthread_cond_init(&batcher->workers[i].work, &monotonic);
        pthread_cond_init(&batcher->workers[i].session_free, NULL);
    }
    pthread_condattr_destroy(&monotonic);
}

static void close_locks(carry_batcher *batcher)
{
    for (uint32_t i = 0; i < batcher->options.workers; i++) {
        pthread_cond_destroy(&batcher->workers[i].session_free);
        pthread_cond_destroy(&batcher->workers[i].work);
    }
    for (int i = 0; i < CY_WAIT_BUCKETS; i++)
        pthread_cond_destroy(&batcher->bucket[i].done);
    pthread_cond_destroy(&batcher->quiet);
    pthread_mutex_destroy(&batcher->lock);
}

/* ---- open and close ------------------------------------------------------------------------- */

static carry_status fill(carry_batcher *batcher, const carry_session_options *session)
{
    CY_TRY(read_ports(batcher));
    CY_TRY(open_sessions(batcher, session));
    CY_TRY(choose_bounds(batcher));
    CY_TRY(open_queue(batcher));
    for (uint32_t i = 0; i < batcher->options.workers; i++)
        CY_TRY(cy_worker_arrays_open(&batcher->workers[i]));
    for (uint32_t i = 0; i < batcher->options.workers; i++)
        CY_TRY(cy_worker_start(&batcher->workers[i]));
    return CARRY_OK;
}

carry_status carry_batcher_open(carry_batcher **batcher, carry_model *model,
                                const carry_batcher_options *options)
{
    carry_batcher_options known;
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_open: batcher is NULL");
    *batcher = NULL;
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_batcher_open: model is NULL");
    CY_TRY(cy_sized_read(&known, sizeof known, options, "carry_batcher_options"));
    CY_TRY(check_options(&known));
    if (known.workers == 0) known.workers = 1;
    carry_batcher *fresh = cy_alloc(sizeof *fresh);
    cy_worker *workers = cy_alloc(known.workers * sizeof *workers);
    if (!fresh || !workers) {
        cy_free(fresh);
        cy_free(workers);
        return cy_fail(CARRY_E_MEMORY, "out of memory: a batcher of %u workers",
                       known.workers);
    }
    const carry_session_options *session = known.session;
    fresh->model = model; /* the sessions hold it */
    fresh->workers = workers;
    fresh->options = known;
    fresh->options.session = NULL;
    for (uint32_t i = 0; i < known.workers; i++)
        workers[i].batcher = fresh;
    open_locks(fresh);
    *batcher = fresh;
    carry_status status = fill(fresh, session);
    if (status != CARRY_OK) carry_batcher_close(batcher);
    return status;
}

/* Under the lock: everything that no call has taken. */
static cy_entry *cancel_all(carry_batcher *batcher)
{
    cy_entry *list = NULL;
    for (size_t i = 0; i < batcher->members.room; i++) {
        size_t count;
        cy_member *member = batcher->members.places[i];
        cy_entry *own = member ? cy_queue_cancel(member, &count) : NULL;
        while (own) {
            cy_entry *after = own->after;
            own->after = list;
            list = own;
            own = after;
        }
    }
    return list;
}

static void stop_workers(carry_batcher *batcher)
{
    pthread_mutex_lock(&batcher->lock);
    batcher->closing = true;
    cy_entry *list = cancel_all(batcher);
    for (uint32_t i = 0; i < batcher->options.workers; i++)
        pthread_cond_signal(&batcher->workers[i].work);
    pthread_mutex_unlock(&batcher->lock);
    cy_entries_finish(batcher, list, NULL);
    for (uint32_t i = 0; i < batcher->options.workers; i++)
        cy_worker_join(&batcher->workers[i]);
}

void carry_batcher_close(carry_batcher **batcher)
{
    if (!batcher || !*batcher) return;
    carry_batcher *old = *batcher;
    if (cy_inside_refuse(old, "carry_batcher_close") != CARRY_OK) return;
    stop_workers(old);
    for (uint32_t i = 0; i < old->options.workers; i++) {
        carry_session_close(&old->workers[i].session);
        cy_worker_arrays_close(&old->workers[i]);
        cy_free(old->workers[i].heap);
    }
    close_locks(old);
    cy_members_free(&old->members);
    cy_free(old->workers);
    cy_free(old->arrays);
    cy_free(old->entries);
    cy_free(old->ports);
    cy_free(old);
    *batcher = NULL;
}

/* ---- drain and statistics ------------------------------------------------------------------- */

/* What is submitted from now on counts in the other epoch, so that this one comes to an end. */
carry_status carry_batcher_drain(carry_batcher *batcher)
{
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_drain: batcher is NULL");
    CY_TRY(cy_inside_refuse(batcher, "carry_batcher_drain"));
    pthread_mutex_lock(&batcher->lock);
    batcher->quiet_waiters++;
    while (batcher->draining)
        pthread_cond_wait(&batcher->quiet, &batcher->lock);
    batcher->draining = true;
    uint8_t epoch = batcher->epoch;
    batcher->epoch = !epoch;
    while (batcher->outstanding[epoch] > 0)
        pthread_cond_wait(&batcher->quiet, &batcher->lock);
    batcher->draining = false;
    batcher->quiet_waiters--;
    pthread_cond_broadcast(&batcher->quiet);
    pthread_mutex_unlock(&batcher->lock);
    return CARRY_OK;
}

static carry_batcher_info take_info(carry_batcher *batcher)
{
    const carry_batcher_options *options = &batcher->options;
    pthread_mutex_lock(&batcher->lock);
    uint64_t on_their_way = batcher->outstanding[0] + batcher->outstanding[1];
    carry_batcher_info info = {
        .workers = options->workers,
        .batch_rows = options->batch_rows,
        .batch_steps = options->batch_steps,
        .max_delay_us = options->max_delay_us,
        .queue_limit = options->queue_limit,
        .state_limit = options->state_limit,
        .states = batcher->members.count,
        .queued = on_their_way - batcher->in_flight - batcher->told,
        .in_flight = batcher->in_flight,
        .waiting = batcher->waiting,
        .submitted = batcher->submitted,
        .done = batcher->done,
        .failed = batcher->failed,
        .cancelled = batcher->cancelled,
        .rejected = batcher->rejected,
        .calls = batcher->calls,
        .rows = batcher->rows,
        .steps = batcher->steps,
        .wait_us_p50 = cy_histogram_quantile(&batcher->wait_us, 0.5),
        .wait_us_p99 = cy_histogram_quantile(&batcher->wait_us, 0.99),
        .wait_us_p999 = cy_histogram_quantile(&batcher->wait_us, 0.999),
        .run_us_p50 = cy_histogram_quantile(&batcher->run_us, 0.5),
        .run_us_p99 = cy_histogram_quantile(&batcher->run_us, 0.99),
        .run_us_p999 = cy_histogram_quantile(&batcher->run_us, 0.999)};
    for (int i = 0; i < CARRY_BATCH_BUCKETS; i++)
        info.calls_of_rows[i] = batcher->calls_of_rows[i];
    pthread_mutex_unlock(&batcher->lock);
    return info;
}

carry_status carry_batcher_get_info(carry_batcher *batcher, carry_batcher_info *info)
{
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_get_info: batcher is NULL");
    carry_batcher_info known = take_info(batcher);
    return cy_sized_write(info, &known, sizeof known, "carry_batcher_info");
}
