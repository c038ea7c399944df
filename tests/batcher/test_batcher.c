/* The batcher: what a request gives, in which order, in which calls; who is told; refusals. */
#define _DEFAULT_SOURCE /* pthread_sigmask */
#include "twin.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const model_spec small = {
    .features = 3, .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(4, SEQUENCES)}};

/* Layer 1's output of every step, then its h, and layer 0's c and output. */
static const model_spec several = {
    .features = 2,
    .layers = {LSTM_LAYER(6, SEQUENCES), LSTM_LAYER(3, SEQUENCES | STATES)},
    .outputs = {{1, CY_PORT_Y}, {1, CY_PORT_H}, {0, CY_PORT_C}, {0, CY_PORT_Y}},
    .output_count = 4};

static const model_spec words = {.ids = 20,
                                 .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(5, SEQUENCES),
                                            DENSE_LAYER(7, CY_ACT_SOFTMAX)}};

static const model_spec last_only = {
    .features = 3, .layers = {LSTM_LAYER(5, 0), DENSE_LAYER(2, CY_ACT_TANH)}};

static const model_spec backwards = {
    .features = 3,
    .steps = 8,
    .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS), LSTM_LAYER(4, SEQUENCES)}};

/* ---- opening -------------------------------------------------------------------------------- */

Test(batcher, defaults_are_in_force)
{
    twin t = twin_open(&small, NULL);
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.workers, 1);
    cr_expect_eq(info.batch_rows, 64, "%u", info.batch_rows);
    cr_expect_eq(info.batch_steps, 64);
    cr_expect_eq(info.max_delay_us, 0);
    cr_expect_eq(info.queue_limit, 65536);
    cr_expect_eq(info.state_limit, 0);
    cr_expect_eq(info.states + info.queued + info.in_flight + info.submitted + info.done,
                 0);
    cr_expect_eq(info.wait_us_p50 + info.wait_us_p999 + info.run_us_p50, 0);
    twin_close(&t);
}

Test(batcher, options_are_in_force)
{
    carry_session_options session = {.size = sizeof session, .max_rows = 16};
    twin t = twin_open(&small, OPTIONS(.workers = 2, .batch_rows = 9, .batch_steps = 5,
                                       .max_delay_us = 7, .queue_limit = 11,
                                       .state_limit = 1000, .session = &session));
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.workers, 2);
    cr_expect_eq(info.batch_rows, 9);
    cr_expect_eq(info.batch_steps, 5);
    cr_expect_eq(info.max_delay_us, 7);
    cr_expect_eq(info.queue_limit, 11);
    cr_expect_eq(info.state_limit, 11, "no state can have more than all: %u",
                 info.state_limit);
    twin_close(&t);
}

Test(batcher, refuses_to_open)
{
    carry_model *model = build_model(&small);
    carry_batcher *batcher;
    carry_session_options session = {.size = sizeof session, .max_rows = 8};
#define REFUSED(code, words, ...)                                                      \
    do {                                                                               \
        batcher = (carry_batcher *)&session;                                           \
        FAILS(code, words, carry_batcher_open(&batcher, model, OPTIONS(__VA_ARGS__))); \
        cr_expect_null(batcher);                                                       \
    } while (0)
    REFUSED(CARRY_E_ARGUMENT, "workers is 257; 256 are the most", .workers = 257);
    REFUSED(CARRY_E_ARGUMENT, "queue_limit is 16777217; 16777216",
            .queue_limit = (1u << 24) + 1);
    REFUSED(CARRY_E_ARGUMENT, "batch_rows is 9, max_rows of the sessions 8",
            .batch_rows = 9, .session = &session);
    session.size = 0;
    REFUSED(CARRY_E_ARGUMENT, "carry_session_options.size is 0", .session = &session);
    session.size = sizeof session;
    session.cuda_stream = &session;
    REFUSED(CARRY_E_ARGUMENT, "one cuda_stream for 2 workers", .workers = 2,
            .session = &session);
    session.cuda_stream = NULL;
    batcher = (carry_batcher *)&session;
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_options.size is 0",
          carry_batcher_open(&batcher, model, &(carry_batcher_options){0}));
    cr_expect_null(batcher);
    FAILS(CARRY_E_ARGUMENT, "model is NULL", carry_batcher_open(&batcher, NULL, NULL));
    FAILS(CARRY_E_ARGUMENT, "batcher is NULL", carry_batcher_open(NULL, model, NULL));
    carry_batcher_close(NULL);
    carry_batcher_close(&batcher);
    carry_model_close(&model);
}

Test(batcher, holds_the_model)
{
    twin t = twin_open(&small, NULL);
    carry_model_close(
        &t.plain.model); /* the plain session's hold and the batcher's are left */
    cr_expect_null(t.plain.model);
    carry_session_close(&t.plain.session);
    carry_state state;
    OK(carry_batcher_state_open(t.batcher, &state));
    float x[3] = {1, 2, 3}, y[4];
    carry_array out = {.size = sizeof out, .data = y, .bytes = sizeof y};
    carry_result result = {.size = sizeof result, .status = CARRY_E_FILE};
    carry_request request = {
        .size = sizeof request,
        .state = state,
        .steps = 1,
        .input = {.size = sizeof(carry_array), .data = x, .bytes = sizeof x},
        .outputs = &out,
        .output_count = 1,
        .result = &result};
    OK(carry_batcher_submit(t.batcher, &request, 0, NULL)); /* the ticket is not wanted */
    OK(carry_batcher_drain(t.batcher));
    cr_expect_eq(result.status, CARRY_OK);
    carry_batcher_close(&t.batcher);
}

/* ---- what a request gives ------------------------------------------------------------------- */

Test(batcher, requests_of_a_state_are_done_in_their_order)
{
    enum { STATES = 3, EACH = 8 };
    twin t = twin_open(&small, OPTIONS(.batch_steps = 4));
    sequence s[STATES];
    job jobs[STATES * EACH];
    gate g;
    for (int i = 0; i < STATES; i++)
        s[i] = sequence_open(&t);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < STATES * EACH; i++) {
        job_make(&jobs[i], &t, &s[i % STATES], 1 + (uint32_t)i % 7, (uint64_t)i);
        job_send(&jobs[i]);
    }
    cr_expect_eq(batcher_info(&t).queued, STATES * EACH);
    gate_open(&g);
    for (int i = 0; i < STATES * EACH; i++) {
        job_check(&jobs[i]);
        if (i >= STATES)
            cr_expect_lt(atomic_load(&jobs[i - STATES].turn), atomic_load(&jobs[i].turn));
    }
    for (int i = 0; i < STATES * EACH; i++)
        job_free(&jobs[i]);
    for (int i = 0; i < STATES; i++)
        sequence_close(&t, &s[i]);
    cr_expect_eq(batcher_info(&t).states, 0);
    twin_close(&t);
}

Test(batcher, states_with_work_share_a_call)
{
    enum { STATES = 11 };
    twin t = twin_open(&small, OPTIONS(.batch_rows = 8));
    sequence s[STATES];
    job jobs[STATES];
    gate g;
    for (int i = 0; i < STATES; i++)
        s[i] = sequence_open(&t);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < STATES; i++) {
        job_make(&jobs[i], &t, &s[i], 2, (uint64_t)i);
        job_send(&jobs[i]);
    }
    gate_open(&g);
    for (int i = 0; i < STATES; i++)
        job_check(&jobs[i]);
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.calls, 2, "%llu", (unsigned long long)info.calls);
    cr_expect_eq(info.rows, STATES);
    cr_expect_eq(info.steps, 2 * STATES);
    cr_expect_eq(info.calls_of_rows[3], 1, "8 rows");
    cr_expect_eq(info.calls_of_rows[1], 1, "3 rows");
    cr_expect_eq(atomic_load(&jobs[7].calls), 1, "the oldest eight came first");
    cr_expect_eq(atomic_load(&jobs[8].calls), 2);
    for (int i = 0; i < STATES; i++)
        job_free(&jobs[i]);
    twin_close(&t);
}

static void cut(const model_spec *spec, carry_mode mode, uint32_t steps, uint32_t reset)
{
    twin t = twin_open(spec, OPTIONS(.batch_steps = 3));
    sequence s = sequence_open(&t);
    job before, j;
    job_make(&before, &t, &s, 2, 5); /* so that a reset matters */
    job_make(&j, &t, &s, steps, 6);
    j.mode = mode;
    j.reset = reset;
    job_send(&before);
    job_send(&j);
    job_check(&before);
    job_check(&j);
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.calls, 1 + (steps + 2) / 3);
    cr_expect_eq(info.steps, 2 + steps);
    job_free(&before);
    job_free(&j);
    twin_close(&t);
}

Test(batcher, long_requests_are_cut)
{
    for (uint32_t reset = 0; reset < 2; reset++) {
        cut(&small, CARRY_STEPS_AS_MODEL, 20, reset);
        cut(&small, CARRY_STEPS_ALL, 3, reset);
        cut(&small, CARRY_STEPS_LAST, 19, reset);
        cut(&several, CARRY_STEPS_AS_MODEL, 10, reset);
        cut(&several, CARRY_STEPS_LAST, 10, reset);
        cut(&last_only, CARRY_STEPS_AS_MODEL, 10, reset);
        cut(&words, CARRY_STEPS_AS_MODEL, 8, reset);
    }
}

/* All modes, all subsets of outputs and all lengths meet in one call. */
Test(batcher, requests_of_all_kinds_meet_in_a_call)
{
    enum { STATES = 48 };
    twin t = twin_open(&several, OPTIONS(.batch_steps = 4));
    sequence s[STATES];
    job jobs[STATES];
    gate g;
    for (int i = 0; i < STATES; i++)
        s[i] = sequence_open(&t);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < STATES; i++) {
        job_make(&jobs[i], &t, &s[i], 1 + (uint32_t)i % 7, (uint64_t)i);
        jobs[i].unwanted = (unsigned)i % 16;
        if (i % 5 == 4) jobs[i].given = (size_t)i % 4; /* fewer than the model has */
        if (i % 3 == 1) jobs[i].mode = CARRY_STEPS_LAST;
        if (i % 3 == 2) {
            jobs[i].mode = CARRY_STEPS_ALL;
            jobs[i].unwanted |= 2 | 4; /* without a time axis */
        }
        jobs[i].reset = (uint32_t)i % 2;
        job_send(&jobs[i]);
    }
    gate_open(&g);
    for (int i = 0; i < STATES; i++)
        job_check(&jobs[i]);
    cr_expect_eq(batcher_info(&t).calls, 2);
    for (int i = 0; i < STATES; i++)
        job_free(&jobs[i]);
    twin_close(&t);
}

Test(batcher, only_last_steps_wanted)
{
    enum { STATES = 5 };
    twin t = twin_open(&several, OPTIONS(.batch_steps = 4));
    sequence s[STATES];
    job jobs[STATES];
    gate g;
    for (int i = 0; i < STATES; i++)
        s[i] = sequence_open(&t);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < STATES; i++) {
        job_make(&jobs[i], &t, &s[i], 3 + (uint32_t)i, (uint64_t)i);
        jobs[i].mode = CARRY_STEPS_LAST;
        job_send(&jobs[i]);
    }
    gate_open(&g);
    for (int i = 0; i < STATES; i++) {
        job_check(&jobs[i]);
        job_free(&jobs[i]);
    }
    twin_close(&t);
}

Test(batcher, whole_sequence_models_are_not_cut)
{
    enum { STATES = 6 };
    twin t = twin_open(&backwards, OPTIONS(.batch_steps = 2)); /* not in force: */
    cr_expect_eq(batcher_info(&t).batch_steps, 8);
    sequence s[STATES];
    job jobs[STATES], tooth;
    gate g;
    for (int i = 0; i < STATES; i++)
        s[i] = sequence_open(&t);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < STATES; i++) {
        job_make(&jobs[i], &t, &s[i], 3 + (uint32_t)i, (uint64_t)i);
        job_send(&jobs[i]);
    }
    job_make(&tooth, &t, &s[0], 9, 1);
    FAILS(CARRY_E_UNSUPPORTED, "9 steps, but this whole-sequence model",
          job_submit(&tooth, 0));
    gate_open(&g);
    for (int i = 0; i < STATES; i++) {
        job_check(&jobs[i]);
        job_free(&jobs[i]);
    }
    cr_expect_eq(batcher_info(&t).calls, 1);
    job_free(&tooth);
    twin_close(&t);
}

/* ---- who is told ---------------------------------------------------------------------------- */

Test(batcher, an_eventfd_counts_the_done)
{
    enum { JOBS = 5 };
    twin t = twin_open(&small, NULL);
    sequence s = sequence_open(&t);
    job jobs[JOBS];
    int fd = eventfd(0, 0);
    for (int i = 0; i < JOBS; i++) {
        carry_array outputs[MOST_OUTPUTS];
        job_make(&jobs[i], &t, &s, 2, (uint64_t)i);
        carry_request request = job_request(&jobs[i], outputs);
        request.event_fd = fd;
        OK(carry_batcher_submit(t.batcher, &request, 0, &jobs[i].ticket));
    }
    uint64_t seen = 0, more;
    while (seen < JOBS) {
        cr_assert_eq(read(fd, &more, sizeof more), sizeof more);
        seen += more;
    }
    cr_expect_eq(seen, JOBS);
    for (int i = 0; i < JOBS; i++) { /* told after on_done */
        cr_expect_eq(atomic_load(&jobs[i].answers), 1);
        job_check(&jobs[i]);
        job_free(&jobs[i]);
    }
    close(fd);
    twin_close(&t);
}

static void keep_result(void *user, const carry_result *result)
{
    *(carry_result *)user = *result;
}

Test(batcher, results_may_be_unwanted_or_of_an_older_program)
{
    twin t = twin_open(&small, NULL);
    sequence s = sequence_open(&t);
    carry_array outputs[MOST_OUTPUTS];
    carry_result kept = {0};
    carry_ticket ticket;
    job j;
    job_make(&j, &t, &s, 2, 1);
    carry_request request = job_request(&j, outputs);
    request.result = NULL;
    request.on_done = keep_result;
    request.user = &kept;
    OK(carry_batcher_submit(t.batcher, &request, 0, &ticket));
    OK(carry_batcher_wait(t.batcher, ticket));
    cr_expect_eq(kept.size, sizeof kept);
    cr_expect_eq(kept.steps, 2);
    /* one whose struct ended behind `steps` */
    carry_result old;
    memset(&old, 0x55, sizeof old);
    old.size = offsetof(carry_result, wait_us);
    request = job_request(&j, outputs);
    request.on_done = NULL;
    request.outputs = NULL;
    request.output_count = 0;
    request.result = &old;
    OK(carry_batcher_submit(t.batcher, &request, 0, &ticket));
    OK(carry_batcher_wait(t.batcher, ticket));
    cr_expect_eq(old.size, offsetof(carry_result, wait_us));
    cr_expect_eq(old.status, CARRY_OK);
    cr_expect_eq(old.steps, 2);
    cr_expect_eq(old.wait_us, 0x5555555555555555u, "written beyond its size");
    cr_expect_eq(old.sentence[0], 0x55);
    job_free(&j);
    twin_close(&t);
}

static void look_at_the_mask(void *user, const carry_result *result)
{
    (void)result;
    pthread_sigmask(SIG_SETMASK, NULL, user);
}

Test(batcher, the_callers_signals_are_not_for_the_workers)
{
    twin t = twin_open(&small, NULL);
    sequence s = sequence_open(&t);
    sigset_t of_worker, of_caller;
    carry_array outputs[MOST_OUTPUTS];
    job j;
    job_make(&j, &t, &s, 1, 1);
    carry_request request = job_request(&j, outputs);
    request.on_done = look_at_the_mask;
    request.user = &of_worker;
    sigemptyset(&of_worker);
    OK(carry_batcher_submit(t.batcher, &request, 0, &j.ticket));
    OK(carry_batcher_wait(t.batcher, j.ticket));
    pthread_sigmask(SIG_SETMASK, NULL, &of_caller);
    cr_expect(sigismember(&of_worker, SIGINT) && sigismember(&of_worker, SIGUSR1));
    cr_expect(!sigismember(&of_caller, SIGINT), "the caller's own mask has changed");
    job_free(&j);
    twin_close(&t);
}

/* A sequence that lives on its callbacks alone: each submits the next. */
typedef struct chain {
    job jobs[20];
    atomic_int next;
    carry_status status;
} chain;
static chain links;

static void submit_next(job *j)
{
    (void)j;
    int i = atomic_fetch_add(&links.next, 1);
    if (i < 20) links.status = job_submit(&links.jobs[i], 0);
}

Test(batcher, callbacks_submit_again)
{
    twin t = twin_open(&small, NULL);
    sequence s = sequence_open(&t);
    for (int i = 0; i < 20; i++) {
        job_make(&links.jobs[i], &t, &s, 3, (uint64_t)i);
        links.jobs[i].again = submit_next;
    }
    submit_next(NULL);
    while (atomic_load(&links.next) <= 20) /* the last one finds no next */
        OK(carry_batcher_drain(t.batcher));
    cr_expect_eq(links.status, CARRY_OK);
    for (int i = 0; i < 20; i++) {
        job_check(&links.jobs[i]);
        job_free(&links.jobs[i]);
    }
    twin_close(&t);
}

/* ---- refused requests ----------------------------------------------------------------------- */

Test(batcher, refuses_what_is_no_request)
{
    twin t = twin_open(&several, NULL), ids = twin_open(&words, NULL);
    sequence s = sequence_open(&t), w = sequence_open(&ids);
    job j, of_ids;
    job_make(&j, &t, &s, 4, 1);
    job_make(&of_ids, &ids, &w, 4, 1);
    carry_array outputs[MOST_OUTPUTS];
    carry_request request;
    carry_ticket ticket;
#define REFUSED_IF(of, code, words, change)                                              \
    do {                                                                                 \
        ticket.id = 77;                                                                  \
        request = job_request(&(of), outputs);                                           \
        change;                                                                          \
        FAILS(code, words, carry_batcher_submit((of).t->batcher, &request, 0, &ticket)); \
        cr_expect_eq(ticket.id, 0);                                                      \
    } while (0)
    REFUSED_IF(j, CARRY_E_ARGUMENT, "carry_request.size is 0", request.size = 0);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "the state is {0}", request.state.id = 0);
    REFUSED_IF(j, CARRY_E_STALE, "not, or no longer, one of this batcher's",
               request.state = s.shadow);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "steps is 0", request.steps = 0);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "mode 3 is not known", request.mode = (carry_mode)3);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "STEPS_ALL, but output 1 has no time axis",
               request.mode = CARRY_STEPS_ALL);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "carry_array.size is 0", request.input.size = 0);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "the input is NULL", request.input.data = NULL);
    REFUSED_IF(j, CARRY_E_CAPACITY, "input 0 has 31 bytes, 4 steps of 2 numbers need 32",
               request.input.bytes = 31);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "input 0 has dtype 1, expected CARRY_F32",
               request.input.dtype = CARRY_I32);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "input 0: the batcher takes host memory only",
               request.input.place = CARRY_DEVICE);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "input 0 is not aligned to 4 bytes",
               request.input.data = (char *)j.x + 1);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "5 outputs given, the model has 4",
               request.output_count = 5);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "outputs is NULL", request.outputs = NULL);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "carry_array.size is 1", outputs[0].size = 1);
    REFUSED_IF(j, CARRY_E_CAPACITY, "output 0 has 47 bytes, 4 steps of 3 numbers need 48",
               outputs[0].bytes = 47);
    REFUSED_IF(j, CARRY_E_CAPACITY, "output 2 has 0 bytes, 1 rows of 6 numbers need 24",
               outputs[2].bytes = 0);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "output 3 has dtype 2", outputs[3].dtype = CARRY_F16);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "output 3: the batcher takes host",
               outputs[3].place = (carry_place)9);
    REFUSED_IF(j, CARRY_E_ARGUMENT, "carry_result.size is 0", j.result.size = 0);
    j.result.size = sizeof j.result;
    REFUSED_IF(of_ids, CARRY_E_ARGUMENT, "input 0 has dtype 0, expected CARRY_I32",
               request.input.dtype = CARRY_F32);
    ((int32_t *)of_ids.x)[2] = 20;
    REFUSED_IF(of_ids, CARRY_E_INPUT, "step 2: id 20 is not in 0 .. 19", (void)0);
    ((int32_t *)of_ids.x)[1] = -1;
    REFUSED_IF(of_ids, CARRY_E_INPUT, "step 1: id -1 is not in 0 .. 19", (void)0);
    FAILS(CARRY_E_ARGUMENT, "flags is 0x2", job_submit(&j, 2));
    FAILS(CARRY_E_ARGUMENT, "request is NULL",
          carry_batcher_submit(t.batcher, NULL, 0, NULL));
    request = job_request(&j, outputs);
    FAILS(CARRY_E_ARGUMENT, "batcher is NULL",
          carry_batcher_submit(NULL, &request, 0, NULL));
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.submitted + info.rejected + info.queued, 0);
    cr_expect_eq(atomic_load(&j.answers), 0);
    job_send(&j); /* and as it was meant, it is fine */
    job_check(&j);
    job_free(&j);
    job_free(&of_ids);
    twin_close(&t);
    twin_close(&ids);
}

Test(batcher, refuses_unknown_tickets_and_batchers)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 4));
    sequence s = sequence_open(&t);
    job j;
    job_make(&j, &t, &s, 1, 1);
    job_send(&j);
    job_check(&j);
    carry_ticket next = {j.ticket.id + (1u << 24)}, beyond = {j.ticket.id + 3},
                 past = {(j.ticket.id & ~7ull) + 4}, none = {0};
    carry_ticket unknown[] = {next, beyond, past, none, {UINT64_MAX}};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        FAILS(CARRY_E_ARGUMENT, "never given out",
              carry_batcher_wait(t.batcher, unknown[i]));
        FAILS(CARRY_E_ARGUMENT, "never given out",
              carry_batcher_cancel(t.batcher, unknown[i]));
    }
    OK(carry_batcher_wait(t.batcher, j.ticket));
    FAILS(CARRY_E_STALE, "is done", carry_batcher_cancel(t.batcher, j.ticket));
    size_t count = 9;
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_wait: batcher",
          carry_batcher_wait(NULL, j.ticket));
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_cancel: batcher",
          carry_batcher_cancel(NULL, j.ticket));
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_cancel_state: batcher",
          carry_batcher_cancel_state(NULL, s.state, &count));
    cr_expect_eq(count, 0);
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_drain: batcher", carry_batcher_drain(NULL));
    carry_batcher_info info = {.size = 0};
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_get_info: batcher",
          carry_batcher_get_info(NULL, &info));
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_info.size is 0",
          carry_batcher_get_info(t.batcher, &info));
    FAILS(CARRY_E_ARGUMENT, "carry_batcher_info is NULL",
          carry_batcher_get_info(t.batcher, NULL));
    job_free(&j);
    twin_close(&t);
}

/* ---- a row that fails, a session that is dead ------------------------------------------------ */

Test(batcher, a_bad_row_spoils_no_other)
{
    twin t = twin_open(&words, NULL);
    sequence s[3] = {sequence_open(&t), sequence_open(&t), sequence_open(&t)};
    job jobs[3], after;
    gate g;
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < 3; i++) {
        job_make(&jobs[i], &t, &s[i], 4, (uint64_t)i);
        job_send(&jobs[i]);
    }
    ((int32_t *)jobs[1].x)[3] = 20; /* too late to be refused: its producer's mistake */
    gate_open(&g);
    job_check(&jobs[0]);
    job_check_failed(&jobs[1], CARRY_E_INPUT, "out of its range");
    job_check(&jobs[2]);
    cr_expect_eq(jobs[1].result.steps, 0);
    cr_expect(isnan(jobs[1].y[0][0]), "no step was done, but an output is written");
    job_make(&after, &t, &s[1], 4, 9); /* its state has not moved */
    job_send(&after);
    job_check(&after);
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.failed, 1);
    cr_expect_eq(info.done, 4);
    for (int i = 0; i < 3; i++)
        job_free(&jobs[i]);
    job_free(&after);
    twin_close(&t);
}

Test(batcher, numbers_that_are_none_stay_in_their_row)
{
    twin t = twin_open(&small, NULL);
    sequence s[2] = {sequence_open(&t), sequence_open(&t)};
    job jobs[2];
    gate g;
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < 2; i++)
        job_make(&jobs[i], &t, &s[i], 4, (uint64_t)i);
    ((float *)jobs[0].x)[5] = 0.0f / 0.0f;
    for (int i = 0; i < 2; i++)
        job_send(&jobs[i]);
    gate_open(&g);
    for (int i = 0; i < 2; i++) {
        job_check(&jobs[i]);
        job_free(&jobs[i]);
    }
    twin_close(&t);
}
