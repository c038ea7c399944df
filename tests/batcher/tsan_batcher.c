/* Every public function of the batcher from many threads at once, in legal use: producers, threads that cancel, open and
 * close states, visit, sweep, drain and ask, all on the same few states. Every request that was taken must be answered
 * once, with a code that it can have; then the batcher is closed over a full queue. So for a batcher after the other: with
 * much room, with places that nearly everybody waits for, with a single one. A plain program, so that it runs under TSan.
 *
 *     tsan_batcher     CARRY_STRESS_SECONDS: how long in all, default 2 */
#define _DEFAULT_SOURCE /* usleep, clock_gettime */
#include "device.h"
#include "model_builder.h"

#include <carry/carry_batcher.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PRODUCERS = 3, HANDLES = 24, RING = 40, MOST_STEPS = 6, UNITS = 4 };

static const model_spec spec = {.features = 2, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};

static const struct kind {
    uint32_t workers, batch_rows, batch_steps, max_delay_us, queue_limit, state_limit;
} kinds[] = {{2, 0, 3, 100, 2 * RING, 6}, {2, 8, 2, 20000, 5, 0}, {3, 1, 1, 0, 1, 0}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static carry_batcher *batcher;
static atomic_bool stop;
static atomic_ullong states[HANDLES], tickets[HANDLES]; /* known to all; some are old */
static atomic_ullong taken, answered, refused, cancelled, swept, forked;
static _Atomic(const char *) failure;

static void fail(const char *what)
{
    const char *none = NULL;
    if (atomic_compare_exchange_strong(&failure, &none, what))
        fprintf(stderr, "%s: %s\n", what, carry_error());
    atomic_store(&stop, true);
}

/* The call gave one of these two. */
static void expect(carry_status got, carry_status one, carry_status other,
                   const char *what)
{
    if (got != one && got != other) fail(what);
}

/* ---- producers ------------------------------------------------------------------------------ */

typedef struct request {
    carry_request given;
    carry_array in, out;
    carry_result result;
    carry_ticket ticket;
    atomic_int answers;
    int again; /* times that its callback submits it once more */
    float x[MOST_STEPS * 2], y[MOST_STEPS * UNITS];
} request;

static void on_done(void *user, const carry_result *result)
{
    request *r = user;
    if (result->status != CARRY_OK && result->status != CARRY_E_CANCELLED)
        fail("a request ended with a code of nobody's making");
    if ((result->status == CARRY_OK) != (result->steps == r->given.steps))
        fail("status and steps do not agree");
    atomic_fetch_add(&answered, 1);
    if (r->again > 0 && result->status == CARRY_OK) {
        r->again--;
        carry_status status = carry_batcher_submit(batcher, &r->given, 0, NULL);
        if (status == CARRY_OK) {
            atomic_fetch_add(&taken, 1);
            return; /* told again */
        }
        if (status != CARRY_E_FULL && status != CARRY_E_STALE &&
            status != CARRY_E_CANCELLED)
            fail("submitting from a callback");
    }
    atomic_fetch_add(&r->answers, 1);
}

static void submit(request *r, uint64_t random)
{
    size_t which = random % HANDLES;
    carry_array out = {.size = sizeof out, .data = r->y, .bytes = sizeof r->y};
    r->out = out;
    r->result.size = sizeof r->result;
    r->again = (random >> 8) % 4 == 0;
    r->given = (carry_request){
        .size = sizeof r->given,
        .state = {atomic_load(&states[which])},
        .steps = 1 + (uint32_t)(random >> 16) % MOST_STEPS,
        .reset = (random >> 24) % 16 == 0,
        .input = {.size = sizeof(carry_array), .data = r->x, .bytes = sizeof r->x},
        .outputs = &r->out,
        .output_count = 1,
        .mode = (random >> 32) % 2 ? CARRY_STEPS_LAST : CARRY_STEPS_ALL,
        .result = &r->result,
        .on_done = on_done,
        .user = r};
    atomic_store(&r->answers, 0);
    uint32_t flags = (random >> 40) % 2 ? CARRY_WAIT_FOR_ROOM : 0;
    carry_status status = carry_batcher_submit(batcher, &r->given, flags, &r->ticket);
    if (status == CARRY_OK) {
        atomic_fetch_add(&taken, 1);
        atomic_store(&tickets[which], r->ticket.id);
        return;
    }
    if (status != CARRY_E_FULL && status != CARRY_E_STALE) fail("submitting");
    atomic_fetch_add(&refused, 1);
    atomic_store(&r->answers, 1); /* free again */
}

static void *produce(void *argument)
{
    uint64_t seed = (uint64_t)(size_t)argument + 1;
    request *ring = calloc(RING, sizeof *ring);
    for (size_t i = 0; i < RING; i++) {
        atomic_store(&ring[i].answers, 1);
        for (size_t k = 0; k < MOST_STEPS * 2; k++)
            ring[i].x[k] = random_float(&seed);
    }
    while (!atomic_load(&stop)) {
        request *r = &ring[random_u64(&seed) % RING];
        if (atomic_load(&r->answers) == 1) submit(r, random_u64(&seed));
        else usleep(50);
        if (random_u64(&seed) % 64 == 0 && r->ticket.id &&
            carry_batcher_wait(batcher, r->ticket) != CARRY_OK)
            fail("waiting");
    }
    if (carry_batcher_drain(batcher) != CARRY_OK) fail("draining");
    for (size_t i = 0; i < RING; i++) /* a callback may have submitted behind the drain */
        while (atomic_load(&ring[i].answers) == 0)
            usleep(100);
    for (size_t i = 0; i < RING; i++)
        if (atomic_load(&ring[i].answers) != 1) fail("a request was answered twice");
    free(ring);
    return NULL;
}

/* ---- the others ----------------------------------------------------------------------------- */

static void *cancel(void *argument)
{
    uint64_t seed = 77;
    (void)argument;
    while (!atomic_load(&stop)) {
        size_t which = random_u64(&seed) % HANDLES;
        carry_ticket ticket = {atomic_load(&tickets[which])};
        carry_state state = {atomic_load(&states[which])};
        if (ticket.id)
            expect(carry_batcher_cancel(batcher, ticket), CARRY_OK, CARRY_E_STALE,
                   "cancelling");
        if (random_u64(&seed) % 8 == 0) {
            size_t count;
            expect(carry_batcher_cancel_state(batcher, state, &count), CARRY_OK,
                   CARRY_E_STALE, "cancelling all of a state");
            atomic_fetch_add(&cancelled, count);
        }
        usleep(200);
    }
    return NULL;
}

/* Two of these: they close each other's states, too, and one of them is then told. */
static void *open_and_close(void *argument)
{
    uint64_t seed = (uint64_t)(size_t)argument + 5;
    while (!atomic_load(&stop)) {
        size_t which = random_u64(&seed) % HANDLES, worker;
        carry_state state = {atomic_load(&states[which])}, fresh;
        expect(carry_batcher_state_close(batcher, &state), CARRY_OK, CARRY_E_STALE,
               "closing a state");
        if (carry_batcher_state_open(batcher, &fresh) != CARRY_OK) {
            fail("opening a state");
            break;
        }
        uint64_t old = atomic_exchange(&states[which], fresh.id);
        state.id = old; /* somebody may have put another one there meanwhile */
        expect(carry_batcher_state_close(batcher, &state), CARRY_OK, CARRY_E_STALE,
               "closing the one before");
        expect(carry_batcher_state_worker(batcher, fresh, &worker), CARRY_OK,
               CARRY_E_STALE, "asking for the worker");
        usleep(1000);
    }
    return NULL;
}

typedef struct visit {
    size_t worker;
    carry_state source, copy;
} visit;

static carry_status fork_inside(void *user, carry_session *session)
{
    visit *v = user;
    char bytes[8192];
    size_t length;
    carry_status status = carry_state_fork(session, v->source, &v->copy, 1);
    if (status != CARRY_OK) return status;
    status = carry_states_save(session, &v->copy, 1, NULL, bytes, sizeof bytes, &length);
    if (status == CARRY_OK)
        status = carry_states_restore(session, &v->copy, 1, NULL, bytes, length);
    if (status == CARRY_OK) status = carry_batcher_state_add(batcher, v->worker, v->copy);
    if (status != CARRY_OK) fail("forking inside a visit");
    return status;
}

static void *look(void *argument)
{
    uint64_t seed = 99;
    (void)argument;
    while (!atomic_load(&stop)) {
        size_t which = random_u64(&seed) % HANDLES;
        visit v = {.source = {atomic_load(&states[which])}};
        carry_status status = carry_batcher_state_worker(batcher, v.source, &v.worker);
        expect(status, CARRY_OK, CARRY_E_STALE, "asking for the worker");
        if (status == CARRY_OK &&
            carry_batcher_visit(batcher, v.worker, fork_inside, &v) == CARRY_OK) {
            carry_state old = {atomic_exchange(&states[which], v.copy.id)};
            expect(carry_batcher_state_close(batcher, &old), CARRY_OK, CARRY_E_STALE,
                   "closing the source");
            atomic_fetch_add(&forked, 1);
        }
        carry_batcher_info info = {.size = sizeof info};
        if (carry_batcher_get_info(batcher, &info) != CARRY_OK) fail("asking");
        if (info.done > info.submitted || info.cancelled + info.failed > info.done ||
            info.submitted - info.done < info.queued + info.in_flight)
            fail("the statistics do not agree with each other");
        usleep(500);
    }
    return NULL;
}

static int keep_some(void *user, carry_session *session, carry_state state)
{
    float c[UNITS];
    if (carry_state_read(session, state, 1, c, UNITS) != CARRY_OK)
        fail("reading an idle state");
    return random_u64(user) % 2 == 0;
}

static void *sweep(void *argument)
{
    uint64_t seed = 123;
    (void)argument;
    carry_sweep_options options = {.size = sizeof options,
                                   .idle_calls = 2,
                                   .most = 2,
                                   .on_idle = keep_some,
                                   .user = &seed};
    while (!atomic_load(&stop)) {
        size_t count;
        if (carry_batcher_sweep(batcher, &options, &count) != CARRY_OK) fail("sweeping");
        atomic_fetch_add(&swept, count);
        usleep(2000);
    }
    return NULL;
}

static void *drain(void *argument)
{
    (void)argument;
    while (!atomic_load(&stop)) {
        if (carry_batcher_drain(batcher) != CARRY_OK) fail("draining");
        usleep(3000);
    }
    return NULL;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* What waits when the batcher is closed is cancelled, and told so. */
static void close_over_work(int least)
{
    static request last[RING];
    int sent = 0;
    for (int i = 0; i < RING; i++) {
        submit(&last[i], 0x0000000500040000u + (uint64_t)i);
        sent += atomic_load(&last[i].answers) == 0;
    }
    carry_batcher_close(&batcher);
    for (int i = 0; i < RING; i++)
        if (atomic_load(&last[i].answers) != 1) fail("not answered once at the end");
    if (sent < least) fail("nothing was queued at the end");
}

static int open_batcher(const struct kind *kind)
{
    carry_model *model = build_model(&spec);
    carry_session_options session = session_options(
        &(carry_session_options){.size = sizeof session, .threads = 1, .max_rows = 8});
    carry_batcher_options options = {.size = sizeof options,
                                     .workers = kind->workers,
                                     .batch_rows = kind->batch_rows,
                                     .batch_steps = kind->batch_steps,
                                     .max_delay_us = kind->max_delay_us,
                                     .queue_limit = kind->queue_limit,
                                     .state_limit = kind->state_limit,
                                     .session = &session};
    carry_status status = carry_batcher_open(&batcher, model, &options);
    carry_model_close(&model); /* the batcher holds it */
    for (int i = 0; i < HANDLES && status == CARRY_OK; i++) {
        carry_state state;
        status = carry_batcher_state_open(batcher, &state);
        atomic_store(&states[i], state.id);
        atomic_store(&tickets[i], 0);
    }
    if (status != CARRY_OK) fprintf(stderr, "%s\n", carry_error());
    return status == CARRY_OK;
}

static carry_batcher_info statistics(void)
{
    carry_batcher_info info = {.size = sizeof info};
    if (carry_batcher_get_info(batcher, &info) != CARRY_OK) fail("asking");
    return info;
}

static bool all_happened(void)
{
    carry_batcher_info info = statistics();
    return info.calls && info.cancelled && atomic_load(&swept) && atomic_load(&forked);
}

static void check_statistics(void)
{
    carry_batcher_info info = statistics();
    printf("%llu requests, %llu refused, %llu cancelled by state, %llu cancelled, %llu "
           "calls, %llu swept, %llu forked, %llu states\n",
           atomic_load(&taken), atomic_load(&refused), atomic_load(&cancelled),
           (unsigned long long)info.cancelled, (unsigned long long)info.calls,
           atomic_load(&swept), atomic_load(&forked), (unsigned long long)info.states);
    if (atomic_load(&taken) != atomic_load(&answered))
        fail("requests taken and answered differ in number");
    if (info.submitted != atomic_load(&taken) || info.done != info.submitted ||
        info.failed || info.queued || info.in_flight || info.waiting)
        fail("the statistics do not add up");
    if (!all_happened()) fail("something that should be tested never happened");
}

static void use_batcher(double seconds)
{
    static void *(*const jobs[])(void *) = {
        produce,        produce, produce, cancel, open_and_close,
        open_and_close, look,    sweep,   drain,  drain};
    enum { THREADS = sizeof jobs / sizeof *jobs };
    pthread_t threads[THREADS];
    atomic_store(&stop, false);
    atomic_ullong *const counts[] = {&taken,     &answered, &refused,
                                     &cancelled, &swept,    &forked};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        atomic_store(counts[i], 0);
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, jobs[i], (void *)i)) abort();
    /* longer where a sanitizer or an emulated device takes its time; in the end all must have happened */
    for (int tick = 0; tick < 6000 && !atomic_load(&stop); tick++) {
        if (tick >= seconds * 100 && all_happened()) break;
        usleep(10000);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check_statistics();
}

int main(void)
{
    const char *stated = getenv("CARRY_STRESS_SECONDS");
    double duration = stated ? atof(stated) : 2;
    for (int k = 0; k < KINDS && !atomic_load(&failure); k++) {
        if (!open_batcher(&kinds[k])) return 1;
        use_batcher(duration / KINDS);
        close_over_work(k == 0); /* in a queue of few places it may be done by then */
    }
    return atomic_load(&failure) != NULL;
}
