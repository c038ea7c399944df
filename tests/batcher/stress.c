/* Producers of very many sequences against one batcher that is kept overloaded. Every request must be answered once, in
 * the order of its sequence, with the bits of a plain sequential run; the process must not grow; and when the load ends,
 * the batcher must take requests again. A plain program, so that it runs under TSan too.
 *
 *     stress     CARRY_STRESS_SECONDS: how long, default 10, under sanitizers 3
 *                CARRY_TEST_DEVICE: as for the suites; on CUDA sessions are opened with exact */
#define _DEFAULT_SOURCE /* usleep, clock_gettime */
#include "device.h"
#include "model_builder.h"

#include <carry/carry_batcher.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { PRODUCERS = 8, FEATURES = 2, UNITS = 5, MOST_STEPS = 7, RING = 96, WORKERS = 2 };

static const model_spec spec = {.features = FEATURES,
                                .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};

static carry_batcher *batcher;
static carry_model *model;
static atomic_bool stop;
static atomic_ullong finished, steps_done, full_answers;
static _Atomic(const char *) failure;

static void fail(const char *what)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&failure, &none, what);
    atomic_store(&stop, true);
}

/* One request of a producer, and where its answer goes. */
typedef struct request {
    int sequence; /* of the producer's; -1: not in use */
    uint32_t steps;
    carry_ticket ticket;
    carry_result result;
    atomic_int answers;
    float x[MOST_STEPS * FEATURES], y[MOST_STEPS * UNITS];
} request;

typedef struct producer {
    pthread_t thread;
    uint64_t seed;
    int sequences;
    carry_state *states;  /* in the batcher */
    carry_session *plain; /* the same sequences, one step after the other */
    carry_state *shadows;
    request ring[RING];
    unsigned head, tail;
} producer;

static void count_answer(void *user, const carry_result *result)
{
    (void)result;
    atomic_fetch_add(&((request *)user)->answers, 1);
}

/* The oldest request of the ring: its answer against the plain run. */
static void collect(producer *p)
{
    request *r = &p->ring[p->tail++ % RING];
    if (carry_batcher_wait(batcher, r->ticket) != CARRY_OK) fail("wait failed");
    if (atomic_load(&r->answers) != 1) fail("a request was not answered exactly once");
    if (r->result.status != CARRY_OK || r->result.steps != r->steps)
        fail("a request failed");
    float expected[MOST_STEPS * UNITS];
    carry_array in = {.size = sizeof in, .data = r->x, .bytes = sizeof r->x};
    carry_array out = {.size = sizeof out, .data = expected, .bytes = sizeof expected};
    carry_batch batch = {.size = sizeof batch,
                         .rows = 1,
                         .states = &p->shadows[r->sequence],
                         .max_steps = r->steps,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1};
    if (carry_run(p->plain, &batch) != CARRY_OK) fail("the plain run failed");
    if (memcmp(r->y, expected, r->steps * UNITS * sizeof(float)) != 0)
        fail("an answer differs from the plain run: lost, twice, out of order or wrong");
    atomic_fetch_add(&finished, 1);
    atomic_fetch_add(&steps_done, r->steps);
}

static void submit_one(producer *p)
{
    request *r = &p->ring[p->head % RING];
    r->sequence = (int)(random_u64(&p->seed) % (uint64_t)p->sequences);
    r->steps = 1 + (uint32_t)(random_u64(&p->seed) % MOST_STEPS);
    r->result.size = sizeof r->result;
    r->result.status = CARRY_E_ARGUMENT;
    atomic_store(&r->answers, 0);
    for (size_t i = 0; i < r->steps * FEATURES; i++)
        r->x[i] = random_float(&p->seed);
    carry_array out = {.size = sizeof out, .data = r->y, .bytes = sizeof r->y};
    carry_request given = {
        .size = sizeof given,
        .state = p->states[r->sequence],
        .steps = r->steps,
        .input = {.size = sizeof(carry_array), .data = r->x, .bytes = sizeof r->x},
        .outputs = &out,
        .output_count = 1,
        .result = &r->result,
        .on_done = count_answer,
        .user = r};
    carry_status status = carry_batcher_submit(batcher, &given, 0, &r->ticket);
    if (status == CARRY_E_FULL) {
        atomic_fetch_add(&full_answers, 1);
        if (p->head != p->tail) collect(p); /* makes room, and lets others run */
        else usleep(100);
        return;
    }
    if (status != CARRY_OK) fail("a submission was refused");
    else p->head++;
}

static void *produce(void *argument)
{
    producer *p = argument;
    while (!atomic_load(&stop)) {
        if (p->head - p->tail == RING) collect(p);
        submit_one(p);
    }
    while (p->tail != p->head && !atomic_load(&failure))
        collect(p);
    return NULL;
}

static void check(carry_status status, const char *what)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "%s: %s\n", what, carry_error());
    exit(1);
}

static void open_producer(producer *p, int index, int sequences)
{
    carry_session_options options = {
        .size = sizeof options, .threads = 1, .max_rows = 1, .exact = on_cuda()};
    *p = (producer){.seed = 1000 + (uint64_t)index, .sequences = sequences};
    p->states = calloc((size_t)sequences, sizeof *p->states);
    p->shadows = calloc((size_t)sequences, sizeof *p->shadows);
    check(carry_session_open(&p->plain, model, &options), "opening a plain session");
    for (int i = 0; i < sequences; i++) {
        check(carry_batcher_state_open(batcher, &p->states[i]), "opening a state");
        check(carry_state_open(p->plain, &p->shadows[i]), "opening a plain state");
    }
}

static void close_producer(producer *p)
{
    for (int i = 0; i < p->sequences; i++)
        check(carry_batcher_state_close(batcher, &p->states[i]), "closing a state");
    carry_session_close(&p->plain);
    free(p->states);
    free(p->shadows);
}

static long resident_kib(void)
{
    long pages = 0, unused;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &unused, &pages) != 2) pages = 0;
    if (file) fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(void)
{
    static producer producers[PRODUCERS];
    const char *stated = getenv("CARRY_STRESS_SECONDS");
    double duration = stated ? atof(stated) : SANITIZED ? 3 : 10;
    int sequences = on_cuda() ? 16 : SANITIZED ? 64 : 512; /* of a producer */
    model = build_model(&spec);
    carry_session_options session = {.size = sizeof session, .threads = 1};
    session.exact = on_cuda();
    session.max_rows = on_cuda() ? 32 : 64;
    /* the queue is smaller than what the producers want on their way, so it is full all the time */
    carry_batcher_options options = {.size = sizeof options,
                                     .workers = WORKERS,
                                     .batch_steps = 3,
                                     .max_delay_us = 200,
                                     .queue_limit = PRODUCERS * RING / 2,
                                     .session = &session};
    check(carry_batcher_open(&batcher, model, &options), "opening the batcher");
    for (int i = 0; i < PRODUCERS; i++)
        open_producer(&producers[i], i, sequences);
    double begun = seconds();
    for (int i = 0; i < PRODUCERS; i++)
        if (pthread_create(&producers[i].thread, NULL, produce, &producers[i])) abort();
    long early_kib = 0;
    while (!atomic_load(&stop) && seconds() - begun < duration) {
        usleep(20000);
        if (!early_kib && seconds() - begun > duration / 4) early_kib = resident_kib();
    }
    long late_kib = resident_kib();
    atomic_store(&stop, true);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i].thread, NULL);
    double took = seconds() - begun;

    check(carry_batcher_drain(batcher), "draining");
    carry_batcher_info info = {.size = sizeof info};
    check(carry_batcher_get_info(batcher, &info), "statistics");
    printf(
        "%d producers, %d states, %.1f s: %llu requests of %llu steps (%.0f steps/s), "
        "%llu "
        "answered FULL, %llu calls of %.1f rows, wait p50 %llu p99 %llu us, run p50 %llu "
        "us, %ld -> %ld KiB\n",
        PRODUCERS, PRODUCERS * sequences, took, atomic_load(&finished),
        atomic_load(&steps_done), (double)atomic_load(&steps_done) / took,
        atomic_load(&full_answers), (unsigned long long)info.calls,
        (double)info.rows / (double)info.calls, (unsigned long long)info.wait_us_p50,
        (unsigned long long)info.wait_us_p99, (unsigned long long)info.run_us_p50,
        early_kib, late_kib);
    if (info.submitted != atomic_load(&finished) || info.done != info.submitted ||
        info.failed || info.cancelled || info.queued || info.in_flight)
        fail("the statistics do not add up");
    if (info.rejected != atomic_load(&full_answers)) fail("FULL was miscounted");
    if (info.rejected == 0) fail("the batcher was never full: no overload was tested");
    if (!SANITIZED && !on_cuda() /* the emulator's own malloc is fragmented */ &&
        late_kib > early_kib + 8 * 1024)
        fail("memory grew");
    for (int i = 0; i < PRODUCERS && !atomic_load(&failure); i++) { /* after the storm */
        submit_one(&producers[i]);
        if (producers[i].head == producers[i].tail) fail("not taken though it is empty");
        else collect(&producers[i]);
    }
    for (int i = 0; i < PRODUCERS; i++)
        close_producer(&producers[i]);
    carry_batcher_close(&batcher);
    carry_model_close(&model);
    if (atomic_load(&failure)) fprintf(stderr, "stress: %s\n", atomic_load(&failure));
    return atomic_load(&failure) != NULL;
}
