/* The batcher under load and at its end: company, cancelling, draining, closing, fairness, failing calls. Linked
 * with --wrap for carry_run, so that a test acts in the midst of a call of the batcher, or makes it fail, and for
 * carry_session_sweep. */
#define _DEFAULT_SOURCE /* usleep */
#include "base/status.h"
#include "twin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const model_spec small = {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES)}};

#define HOUR_US 3600000000u

/* What happens before a call of a session: only in those of `in` (NULL: all with packed rows, so the batcher's). */
static struct {
    carry_status (*act)(void); /* CARRY_OK: the call goes on */
    carry_session *in;
    atomic_int calls;
} hook;

carry_status __real_carry_run(carry_session *session, const carry_batch *batch);
carry_status __wrap_carry_run(carry_session *session, const carry_batch *batch);
carry_status __wrap_carry_run(carry_session *session, const carry_batch *batch)
{
    if (batch->row_offsets && hook.act && (!hook.in || hook.in == session)) {
        atomic_fetch_add(&hook.calls, 1);
        carry_status status = hook.act();
        if (status != CARRY_OK) return status;
    }
    return __real_carry_run(session, batch);
}

carry_status __real_carry_session_sweep(carry_session *session,
                                        const carry_sweep_options *options,
                                        size_t *swept);
carry_status __wrap_carry_session_sweep(carry_session *session,
                                        const carry_sweep_options *options,
                                        size_t *swept);
carry_status __wrap_carry_session_sweep(carry_session *session,
                                        const carry_sweep_options *options, size_t *swept)
{
    *swept = 0;
    return hook.act && hook.in == session
               ? hook.act()
               : __real_carry_session_sweep(session, options, swept);
}

/* ---- company -------------------------------------------------------------------------------- */

Test(batcher_queue, waits_for_company_and_no_longer)
{
    twin t = twin_open(&small, OPTIONS(.batch_rows = 4, .max_delay_us = HOUR_US));
    sequence s[4];
    job jobs[4];
    sequences_open(&t, s, 4);
    jobs_make(jobs, &t, s, 4, 2);
    for (int i = 0; i < 3; i++)
        job_send(&jobs[i]);
    usleep(20000);
    cr_expect_eq(batcher_info(&t).calls, 0);
    cr_expect_eq(batcher_info(&t).queued, 3);
    job_send(&jobs[3]);
    for (int i = 0; i < 4; i++)
        job_check(&jobs[i]);
    cr_expect_eq(batcher_info(&t).calls, 1);
    cr_expect_eq(batcher_info(&t).calls_of_rows[2], 1);
    jobs_free(jobs, 4);
    twin_close(&t);
}

Test(batcher_queue, waits_for_no_company_when_the_queue_is_full)
{
    twin t = twin_open(
        &small, OPTIONS(.batch_rows = 3, .queue_limit = 2, .max_delay_us = HOUR_US));
    sequence s[2];
    job jobs[2];
    sequences_open(&t, s, 2);
    jobs_make(jobs, &t, s, 2, 2);
    job_send(&jobs[0]);
    usleep(20000);
    cr_expect_eq(batcher_info(&t).calls, 0);
    job_send(&jobs[1]);
    for (int i = 0; i < 2; i++)
        job_check(&jobs[i]);
    cr_expect_eq(batcher_info(&t).calls, 1);
    jobs_free(jobs, 2);
    twin_close(&t);
}

Test(batcher_queue, goes_alone_after_the_delay)
{
    twin t = twin_open(&small, OPTIONS(.max_delay_us = 3000, .batch_steps = 2));
    sequence s = sequence_open(&t);
    job j;
    job_make(&j, &t, &s, 5, 1);
    job_send(&j);
    job_check(&j);
    cr_expect_geq(j.result.wait_us, 3000, "%llu",
                  (unsigned long long)j.result.wait_us); /* at least: no upper bound */
    cr_expect_eq(batcher_info(&t).calls, 3);
    job_free(&j);
    twin_close(&t);
}

Test(batcher_queue, the_rest_of_a_cut_request_does_not_wait_again)
{
    twin t = twin_open(
        &small, OPTIONS(.batch_rows = 3, .batch_steps = 2, .max_delay_us = HOUR_US));
    sequence s[3];
    job jobs[3];
    sequences_open(&t, s, 3);
    jobs_make(jobs, &t, s, 2, 2);
    job_make(&jobs[2], &t, &s[2], 7, 1);
    for (int i = 0; i < 3; i++)
        job_send(&jobs[i]);
    for (int i = 0; i < 3; i++)
        job_check(&jobs[i]);
    cr_expect_eq(batcher_info(&t).calls, 4);
    jobs_free(jobs, 3);
    twin_close(&t);
}

/* ---- cancel --------------------------------------------------------------------------------- */

Test(batcher_queue, cancels_one_that_waits)
{
    enum { JOBS = 5 };
    twin t = twin_open(&small, NULL);
    sequence s[2];
    job jobs[JOBS];
    gate g;
    sequences_open(&t, s, 2);
    for (int i = 0; i < JOBS; i++)
        job_make(&jobs[i], &t, &s[i == 4], 4, (uint64_t)i);
    for (int gone = 0; gone < 4; gone++) { /* first, in the middle, last of its state */
        gate_shut(&g, t.batcher, 0);
        for (int i = 0; i < JOBS; i++)
            job_send(&jobs[i]);
        OK(carry_batcher_cancel(t.batcher, jobs[gone].ticket));
        job_check_failed(&jobs[gone], CARRY_E_CANCELLED, "cancelled after 0 of 4 steps");
        cr_expect_eq(jobs[gone].result.steps, 0);
        FAILS(CARRY_E_STALE, "is done",
              carry_batcher_cancel(t.batcher, jobs[gone].ticket));
        gate_open(&g);
        for (int i = 0; i < JOBS; i++) {
            if (i != gone) job_check(&jobs[i]);
            atomic_store(&jobs[i].answers, 0);
        }
    }
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.cancelled, 4);
    cr_expect_eq(info.failed, 0);
    cr_expect_eq(info.done, 4 * JOBS);
    jobs_free(jobs, JOBS);
    twin_close(&t);
}

Test(batcher_queue, cancels_all_of_a_state)
{
    enum { JOBS = 6 };
    twin t = twin_open(&small, NULL);
    sequence s[2];
    job jobs[JOBS];
    gate g;
    size_t count = 9;
    sequences_open(&t, s, 2);
    for (int i = 0; i < JOBS; i++)
        job_make(&jobs[i], &t, &s[i % 2], 4, (uint64_t)i);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < JOBS; i++)
        job_send(&jobs[i]);
    OK(carry_batcher_cancel_state(t.batcher, s[1].state, &count));
    cr_expect_eq(count, 3);
    OK(carry_batcher_cancel_state(t.batcher, s[1].state, &count));
    cr_expect_eq(count, 0);
    OK(carry_batcher_cancel_state(t.batcher, s[1].state, NULL));
    gate_open(&g);
    for (int i = 0; i < JOBS; i++) {
        if (i % 2) job_check_failed(&jobs[i], CARRY_E_CANCELLED, "cancelled after 0");
        else job_check(&jobs[i]);
        atomic_store(&jobs[i].answers, 0);
    }
    job_send(&jobs[1]); /* the state itself lives on */
    job_check(&jobs[1]);
    jobs_free(jobs, JOBS);
    twin_close(&t);
}

/* The order of the rest stays, whoever leaves. */
Test(batcher_queue, cancels_many_in_no_order)
{
    enum { STATES_OPEN = 200 };
    for (uint64_t seed = 1; seed <= 15; seed++) {
        twin t = twin_open(&small, OPTIONS(.batch_rows = 1));
        sequence s[STATES_OPEN];
        static job jobs[STATES_OPEN];
        bool gone[STATES_OPEN] = {false};
        gate g;
        uint64_t random = seed;
        sequences_open(&t, s, STATES_OPEN);
        jobs_make(jobs, &t, s, STATES_OPEN, 1);
        gate_shut(&g, t.batcher, 0);
        for (int i = 0; i < STATES_OPEN; i++)
            job_send(&jobs[i]);
        for (int left = STATES_OPEN; left > 60;) {
            int i = (int)(random_u64(&random) % STATES_OPEN);
            if (gone[i]) continue;
            OK(carry_batcher_cancel(t.batcher, jobs[i].ticket));
            gone[i] = true;
            left--;
        }
        gate_open(&g);
        int last = 0;
        for (int i = 0; i < STATES_OPEN; i++) {
            if (gone[i]) continue;
            job_check(&jobs[i]);
            cr_expect_gt(atomic_load(&jobs[i].turn), last, "job %d came too early", i);
            last = atomic_load(&jobs[i].turn);
        }
        jobs_free(jobs, STATES_OPEN);
        twin_close(&t);
    }
}

/* What the hook does in the midst of a call, and to whom. */
static const twin *acted;
static job *victim;
static size_t victims;

static carry_status cancel_the_victim(void)
{
    if (atomic_load(&hook.calls) == 2)
        OK(carry_batcher_cancel(acted->batcher, victim->ticket));
    return CARRY_OK;
}

static carry_status cancel_its_state(void)
{
    if (atomic_load(&hook.calls) == 2)
        OK(carry_batcher_cancel_state(acted->batcher, victim->of->state, &victims));
    return CARRY_OK;
}

/* In its second call of three steps: six are done; the rest, if there is one, is dropped. */
static void cancel_in_flight(carry_status (*act)(void), uint32_t steps)
{
    twin t = twin_open(&small, OPTIONS(.batch_steps = 3));
    sequence s = sequence_open(&t);
    job jobs[2];
    gate g;
    job_make(&jobs[0], &t, &s, steps, 1);
    job_make(&jobs[1], &t, &s, 4, 2);
    acted = &t;
    victim = &jobs[0];
    hook.calls = 0;
    hook.act = act;
    gate_shut(&g, t.batcher, 0);
    job_send(&jobs[0]);
    if (act == cancel_the_victim) job_send(&jobs[1]);
    gate_open(&g);
    if (steps > 6) job_check_failed(&jobs[0], CARRY_E_CANCELLED, "cancelled after 6 of ");
    else job_check(&jobs[0]);
    if (act != cancel_the_victim) job_send(&jobs[1]);
    job_check(&jobs[1]); /* goes on from the sixth step */
    cr_expect_eq(batcher_info(&t).cancelled, steps > 6);
    hook.act = NULL;
    jobs_free(jobs, 2);
    twin_close(&t);
}

Test(batcher_queue, cancels_the_rest_of_one_in_a_call)
{
    cancel_in_flight(cancel_the_victim, 20);
    cancel_in_flight(cancel_the_victim, 6);
    cancel_in_flight(cancel_its_state, 20);
    cr_expect_eq(victims, 1);
    cancel_in_flight(cancel_its_state, 5);
}

static carry_batcher_info inside;

/* Cancelling from a callback: the next of its own state. */
static void cancel_next(job *j)
{
    inside = batcher_info(j->t);
    OK(carry_batcher_cancel(j->t->batcher, j[1].ticket));
}

Test(batcher_queue, callbacks_cancel)
{
    twin t = twin_open(&small, NULL);
    sequence s = sequence_open(&t);
    job jobs[3];
    gate g;
    for (int i = 0; i < 3; i++)
        job_make(&jobs[i], &t, &s, 2, (uint64_t)i);
    jobs[0].again = cancel_next;
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < 3; i++)
        job_send(&jobs[i]);
    gate_open(&g);
    job_check(&jobs[0]);
    job_check_failed(&jobs[1], CARRY_E_CANCELLED, "cancelled after 0 of 2");
    job_check(&jobs[2]);
    cr_expect_eq(inside.queued, 2, "%llu", (unsigned long long)inside.queued);
    cr_expect_eq(inside.in_flight, 0);
    cr_expect_eq(inside.done, 0, "its own request is not done before it has returned");
    jobs_free(jobs, 3);
    twin_close(&t);
}

/* ---- closing a state ------------------------------------------------------------------------ */

static pthread_t closer;
static carry_state closed;
static carry_status close_status;

static void *close_the_state(void *argument)
{
    const twin *t = argument;
    close_status = carry_batcher_state_close(t->batcher, &closed);
    return NULL;
}

/* From another thread, since closing waits for the call; returns when the requests of the state are gone. */
static carry_status close_its_state(void)
{
    if (atomic_load(&hook.calls) != 1) return CARRY_OK;
    closed = victim->of->state;
    cr_assert_eq(pthread_create(&closer, NULL, close_the_state, (void *)acted), 0);
    OK(carry_batcher_wait(acted->batcher, victim[1].ticket));
    FAILS(CARRY_E_STALE, "no longer", job_submit(victim, 0));
    usleep(10000); /* so that it does wait */
    return CARRY_OK;
}

Test(batcher_queue, closing_a_state_waits_for_its_call)
{
    twin t = twin_open(&small, OPTIONS(.batch_steps = 3));
    sequence s[2];
    job jobs[3];
    gate g;
    sequences_open(&t, s, 2);
    job_make(&jobs[0], &t, &s[0], 3, 1);
    job_make(&jobs[1], &t, &s[0], 3, 2);
    job_make(&jobs[2], &t, &s[1], 9, 3);
    acted = &t;
    victim = &jobs[0];
    hook.act = close_its_state;
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < 3; i++)
        job_send(&jobs[i]);
    gate_open(&g);
    OK(carry_batcher_drain(t.batcher));
    pthread_join(closer, NULL);
    hook.act = NULL;
    cr_expect_eq(close_status, CARRY_OK);
    cr_expect_eq(closed.id, 0);
    cr_expect_eq(atomic_load(&jobs[0].answers), 1);
    cr_expect_eq(jobs[0].result.status, CARRY_OK);
    cr_expect_eq(jobs[1].result.status, CARRY_E_CANCELLED);
    cr_expect_eq(atomic_load(&jobs[1].answers), 1);
    job_check(&jobs[2]);
    cr_expect_eq(batcher_info(&t).states, 1);
    jobs_free(jobs, 3);
    twin_close(&t);
}

/* ---- drain and close ------------------------------------------------------------------------ */

static atomic_int rounds;
static atomic_bool enough;

static void go_round(job *j)
{
    atomic_fetch_add(&rounds, 1);
    if (!atomic_load(&enough) && job_submit(j, 0) != CARRY_OK) atomic_store(&rounds, -1);
}

Test(batcher_queue, drain_returns_though_work_keeps_coming)
{
    enum { JOBS = 20 };
    twin t = twin_open(&small, OPTIONS(.batch_rows = 3));
    sequence s[JOBS], endless = sequence_open(&t);
    job jobs[JOBS], wheel;
    sequences_open(&t, s, JOBS);
    jobs_make(jobs, &t, s, JOBS, 3);
    job_make(&wheel, &t, &endless, 1, 3);
    wheel.again = go_round;
    job_send(&wheel);
    for (int i = 0; i < JOBS; i++)
        job_send(&jobs[i]);
    OK(carry_batcher_drain(t.batcher));
    for (int i = 0; i < JOBS; i++)
        cr_expect_eq(atomic_load(&jobs[i].answers), 1);
    atomic_store(&enough, true);
    OK(carry_batcher_drain(t.batcher)); /* its callback may just have submitted ... */
    OK(carry_batcher_drain(t.batcher)); /* ... and that was the last time */
    cr_expect_gt(atomic_load(&rounds), 0);
    cr_expect_eq(batcher_info(&t).done, JOBS + (uint64_t)atomic_load(&rounds));
    cr_expect_eq(batcher_info(&t).queued, 0);
    for (int i = 0; i < JOBS; i++)
        job_check(&jobs[i]);
    jobs_free(jobs, JOBS);
    job_free(&wheel);
    twin_close(&t);
}

static carry_status status_at_the_end[3];

static void try_again(job *j)
{
    static int which;
    status_at_the_end[which++] = job_submit(j, 0);
}

Test(batcher_queue, close_cancels_what_waits)
{
    twin t = twin_open(&small, OPTIONS(.max_delay_us = HOUR_US));
    sequence s[2];
    job jobs[3];
    sequences_open(&t, s, 2);
    for (int i = 0; i < 3; i++) {
        job_make(&jobs[i], &t, &s[i % 2], 2, (uint64_t)i);
        jobs[i].again = try_again; /* would go on for ever if it were let */
        job_send(&jobs[i]);
    }
    carry_batcher_close(&t.batcher);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(atomic_load(&jobs[i].answers), 1);
        cr_expect_eq(jobs[i].result.status, CARRY_E_CANCELLED);
        cr_expect_eq(status_at_the_end[i], CARRY_E_CANCELLED);
    }
    jobs_free(jobs, 3);
    twin_close(&t);
}

/* A call that lasts until close has cancelled the other request. */
static carry_status wait_for_close(void)
{
    while (atomic_load(&hook.calls) == 1 && atomic_load(&victim->answers) == 0)
        usleep(1000);
    return CARRY_OK;
}

Test(batcher_queue, close_finishes_the_call_in_flight)
{
    for (uint32_t batch_steps = 3; batch_steps <= 8; batch_steps += 5) {
        twin t = twin_open(&small, OPTIONS(.batch_steps = batch_steps));
        sequence s = sequence_open(&t);
        job jobs[2];
        job_make(&jobs[0], &t, &s, 8, 1);
        job_make(&jobs[1], &t, &s, 8, 2);
        victim = &jobs[1];
        hook.calls = 0;
        hook.act = wait_for_close;
        job_send(&jobs[0]);
        while (atomic_load(&hook.calls) == 0)
            usleep(1000);
        job_send(&jobs[1]);
        carry_batcher_close(&t.batcher);
        hook.act = NULL;
        cr_expect_eq(atomic_load(&jobs[0].answers), 1);
        cr_expect_eq(jobs[0].result.status,
                     batch_steps == 8 ? CARRY_OK : CARRY_E_CANCELLED);
        cr_expect_eq(jobs[0].result.steps, batch_steps);
        cr_expect_eq(jobs[1].result.status, CARRY_E_CANCELLED);
        cr_expect_eq(atomic_load(&jobs[1].answers), 1);
        jobs_free(jobs, 2);
        twin_close(&t);
    }
}

/* ---- fairness ------------------------------------------------------------------------------- */

/* Greedy states with very many requests queued before anyone else's: of each call they get a row, no more. */
Test(batcher_queue, a_flood_of_one_state_starves_no_other)
{
    enum { FLOOD = 200, OTHERS = 10 };
    twin t = twin_open(&small, OPTIONS(.batch_rows = 2));
    sequence greedy = sequence_open(&t), s[OTHERS];
    static job flood[FLOOD];
    job jobs[OTHERS];
    gate g;
    sequences_open(&t, s, OTHERS);
    jobs_make(jobs, &t, s, OTHERS, 3);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < FLOOD; i++) {
        job_make(&flood[i], &t, &greedy, 3, (uint64_t)i);
        job_send(&flood[i]);
    }
    for (int i = 0; i < OTHERS; i++)
        job_send(&jobs[i]);
    gate_open(&g);
    for (int i = 0; i < OTHERS; i++) {
        job_check(&jobs[i]);
        cr_expect_eq(atomic_load(&jobs[i].calls), (uint64_t)i + 1, "call %llu",
                     (unsigned long long)atomic_load(&jobs[i].calls));
    }
    for (int i = 0; i < FLOOD; i++)
        job_check(&flood[i]);
    cr_expect_eq(batcher_info(&t).calls, FLOOD);
    jobs_free(flood, FLOOD);
    jobs_free(jobs, OTHERS);
    twin_close(&t);
}

/* Long requests of as many states as a call has rows: a short one that comes later waits for one turn of each. */
Test(batcher_queue, long_requests_starve_no_short_one)
{
    enum { LONG = 4, SHORT = 6, STEPS = 400 };
    twin t = twin_open(&small, OPTIONS(.batch_rows = 2, .batch_steps = 2));
    sequence s[LONG + SHORT];
    job jobs[LONG + SHORT];
    gate g;
    sequences_open(&t, s, LONG + SHORT);
    jobs_make(jobs, &t, s, LONG, STEPS);
    for (int i = LONG; i < LONG + SHORT; i++)
        job_make(&jobs[i], &t, &s[i], 2, (uint64_t)i);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < LONG + SHORT; i++)
        job_send(&jobs[i]);
    gate_open(&g);
    for (int i = 0; i < LONG + SHORT; i++) {
        job_check(&jobs[i]);
        uint64_t in = atomic_load(&jobs[i].calls);
        if (i >= LONG)
            cr_expect_eq(in, (uint64_t)i / 2 + 1, "call %llu", (unsigned long long)in);
    }
    cr_expect_eq(batcher_info(&t).calls, LONG * STEPS / 2 / 2 + SHORT / 2);
    jobs_free(jobs, LONG + SHORT);
    twin_close(&t);
}

/* ---- calls that fail ------------------------------------------------------------------------- */

static carry_status no_memory_once(void)
{
    return atomic_load(&hook.calls) == 2
               ? cy_fail(CARRY_E_MEMORY, "out of memory: 17 bytes of a test")
               : CARRY_OK;
}

Test(batcher_queue, a_failed_call_fails_its_requests_and_moves_no_state)
{
    twin t = twin_open(&small, OPTIONS(.batch_steps = 3));
    sequence s[2];
    job jobs[4];
    gate g;
    sequences_open(&t, s, 2);
    jobs_make(jobs, &t, s, 2, 9);     /* cut in three: the second call fails */
    jobs_make(jobs + 2, &t, s, 2, 4); /* queued behind */
    hook.act = no_memory_once;
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < 4; i++)
        job_send(&jobs[i]);
    gate_open(&g);
    for (int i = 0; i < 2; i++) {
        job_check_failed(&jobs[i], CARRY_E_MEMORY, "17 bytes of a test");
        cr_expect_eq(jobs[i].result.steps, 3);
    }
    for (int i = 2; i < 4; i++)
        job_check(&jobs[i]);
    cr_expect_eq(batcher_info(&t).failed, 2);
    hook.act = NULL;
    jobs_free(jobs, 4);
    twin_close(&t);
}

static carry_status device_gone(void)
{
    return cy_fail(CARRY_E_DEVICE, "the device failed: it fell into the sea");
}

static carry_status find_session(void *user, carry_session *session)
{
    *(carry_session **)user = session;
    return CARRY_OK;
}

Test(batcher_queue, a_dead_session_fails_its_own_requests_and_no_others)
{
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    sequence s[2];
    job jobs[2];
    size_t worker;
    sequences_open(&t, s, 2);
    jobs_make(jobs, &t, s, 2, 3);
    OK(carry_batcher_state_worker(t.batcher, s[0].state, &worker));
    OK(carry_batcher_visit(t.batcher, worker, find_session, &hook.in));
    hook.act = device_gone;
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 2; i++) {
            job_send(&jobs[i]);
            if (i == 0) job_check_failed(&jobs[0], CARRY_E_DEVICE, "fell into the sea");
            else job_check(&jobs[1]);
            atomic_store(&jobs[i].answers, 0);
        }
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.failed, 5);
    cr_expect_eq(info.done, 10);
    size_t swept; /* the other session's state, though this one's come first */
    cr_assert_eq(worker, 0);
    carry_sweep_options options = {.size = sizeof options, .idle_ms = 1};
    usleep(20000);
    FAILS(CARRY_E_DEVICE, "fell into the sea",
          carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 1);
    hook.act = NULL;
    jobs_free(jobs, 2);
    twin_close(&t);
}
