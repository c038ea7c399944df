/* The batcher's states: opened, spread over the sessions, closed; visits to a session; idle ones swept. */
#define _DEFAULT_SOURCE /* usleep */
#include "twin.h"

#include <pthread.h>
#include <unistd.h>

static const model_spec small = {
    .features = 3, .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(4, SEQUENCES)}};

/* ---- states --------------------------------------------------------------------------------- */

Test(batcher_states, states_are_spread_over_the_sessions)
{
    carry_session_options session = {
        .size = sizeof session, .max_rows = 8, .max_states = 3};
    twin t = twin_open(&small, OPTIONS(.workers = 3, .session = &session));
    carry_state states[9], more = {5};
    size_t of_worker[3] = {0}, worker;
    for (int i = 0; i < 9; i++) {
        OK(carry_batcher_state_open(t.batcher, &states[i]));
        OK(carry_batcher_state_worker(t.batcher, states[i], &worker));
        of_worker[worker]++;
        if (i % 3 == 2)
            for (int w = 0; w < 3; w++)
                cr_expect_eq(of_worker[w], (size_t)(i + 1) / 3);
    }
    FAILS(CARRY_E_FULL, "3 states", carry_batcher_state_open(t.batcher, &more));
    cr_expect_eq(more.id, 0);
    cr_expect_eq(batcher_info(&t).states, 9);
    carry_state old = states[4];
    OK(carry_batcher_state_worker(t.batcher, old, &of_worker[0]));
    OK(carry_batcher_state_close(t.batcher, &states[4]));
    cr_expect_eq(states[4].id, 0);
    OK(carry_batcher_state_open(t.batcher, &more));
    OK(carry_batcher_state_worker(t.batcher, more, &worker));
    cr_expect_eq(worker, of_worker[0], "where there is room");
    FAILS(CARRY_E_STALE, "no longer", carry_batcher_state_close(t.batcher, &old));
    FAILS(CARRY_E_STALE, "no longer",
          carry_batcher_state_worker(t.batcher, old, &worker));
    FAILS(CARRY_E_STALE, "no longer", carry_batcher_cancel_state(t.batcher, old, NULL));
    OK(carry_batcher_state_close(t.batcher, &states[4])); /* {0} */
    FAILS(CARRY_E_ARGUMENT, "state is NULL", carry_batcher_state_open(t.batcher, NULL));
    FAILS(CARRY_E_ARGUMENT, "batcher is NULL", carry_batcher_state_open(NULL, &more));
    FAILS(CARRY_E_ARGUMENT, "state is NULL", carry_batcher_state_close(t.batcher, NULL));
    FAILS(CARRY_E_ARGUMENT, "worker is NULL",
          carry_batcher_state_worker(t.batcher, states[0], NULL));
    FAILS(CARRY_E_ARGUMENT, "the state is {0}",
          carry_batcher_state_worker(t.batcher, (carry_state){0}, &worker));
    twin_close(&t);
}

enum { OPENERS = 8 };

typedef struct opener {
    pthread_t thread;
    carry_batcher *batcher;
    carry_state state;
    carry_status status;
} opener;

static void *open_one(void *argument)
{
    opener *o = argument;
    o->status = carry_batcher_state_open(o->batcher, &o->state);
    return NULL;
}

/* While worker 0's session is taken, so that who chooses it must wait. */
static carry_status start_openers(void *user, carry_session *session)
{
    opener *openers = user;
    (void)session;
    for (int i = 0; i < OPENERS; i++)
        cr_assert_eq(pthread_create(&openers[i].thread, NULL, open_one, &openers[i]), 0);
    usleep(50000);
    return CARRY_OK;
}

Test(batcher_states, states_opened_at_once_are_spread_too)
{
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    opener openers[OPENERS];
    size_t of_worker[2] = {0}, worker;
    for (int i = 0; i < OPENERS; i++)
        openers[i] = (opener){.batcher = t.batcher};
    OK(carry_batcher_visit(t.batcher, 0, start_openers, openers));
    for (int i = 0; i < OPENERS; i++) {
        pthread_join(openers[i].thread, NULL);
        cr_assert_eq(openers[i].status, CARRY_OK);
        OK(carry_batcher_state_worker(t.batcher, openers[i].state, &worker));
        of_worker[worker]++;
    }
    cr_expect_eq(of_worker[0], OPENERS / 2, "%zu and %zu", of_worker[0], of_worker[1]);
    twin_close(&t);
}

/* Very many come and go, in no order: the table finds each of them, and none of the others. */
Test(batcher_states, many_states_come_and_go)
{
    enum { STATES = 3000 };
    static carry_state states[STATES], gone[STATES];
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    uint64_t seed = 4, open = 0;
    for (int turn = 0; turn < 4 * STATES; turn++) {
        size_t i = random_u64(&seed) % STATES, worker;
        if (states[i].id) {
            gone[i] = states[i];
            OK(carry_batcher_state_close(t.batcher, &states[i]));
            open--;
        } else {
            OK(carry_batcher_state_open(t.batcher, &states[i]));
            open++;
        }
        i = random_u64(&seed) % STATES;
        if (states[i].id) OK(carry_batcher_state_worker(t.batcher, states[i], &worker));
        if (gone[i].id)
            cr_assert_eq(carry_batcher_state_worker(t.batcher, gone[i], &worker),
                         CARRY_E_STALE);
    }
    cr_expect_eq(batcher_info(&t).states, open);
    twin_close(&t);
}

/* ---- visits and sweeps ---------------------------------------------------------------------- */

typedef struct forked {
    const twin *t;
    size_t worker;
    carry_state source, copy;
} forked;

static carry_status fork_inside(void *user, carry_session *session)
{
    forked *f = user;
    OK(carry_state_fork(session, f->source, &f->copy, 1));
    sequence copy = {.state = f->copy};
    job early;
    job_make(&early, f->t, &copy, 1, 1);
    FAILS(CARRY_E_STALE, "one of this batcher's", job_submit(&early, 0));
    job_free(&early);
    OK(carry_batcher_state_add(f->t->batcher, f->worker, f->copy));
    FAILS(CARRY_E_ARGUMENT, "the batcher's already",
          carry_batcher_state_add(f->t->batcher, f->worker, f->copy));
    FAILS(CARRY_E_ARGUMENT, "worker 2 of 2",
          carry_batcher_state_add(f->t->batcher, 2, f->copy));
    FAILS(CARRY_E_ARGUMENT, "{0}",
          carry_batcher_state_add(f->t->batcher, f->worker, (carry_state){0}));
    return CARRY_OK;
}

static carry_status say_full(void *user, carry_session *session)
{
    return user && session ? CARRY_E_FULL : CARRY_OK;
}

Test(batcher_states, a_visit_forks_a_state)
{
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    sequence s = sequence_open(&t), branch;
    job jobs[3];
    size_t worker;
    job_make(&jobs[0], &t, &s, 5, 1);
    job_send(&jobs[0]);
    job_check(&jobs[0]);
    OK(carry_batcher_state_worker(t.batcher, s.state, &worker));
    forked f = {.t = &t, .worker = worker, .source = s.state};
    OK(carry_batcher_visit(t.batcher, worker, fork_inside, &f));
    OK(carry_state_fork(t.plain.session, s.shadow, &branch.shadow, 1));
    branch.state = f.copy;
    job_make(&jobs[1], &t, &branch, 3, 2);
    FAILS(CARRY_E_ARGUMENT, "batcher is NULL", carry_batcher_state_add(NULL, 0, f.copy));
    job_make(&jobs[2], &t, &s, 3, 3);
    job_send(&jobs[1]);
    job_send(&jobs[2]);
    job_check(&jobs[1]);
    job_check(&jobs[2]);
    sequence_close(&t, &branch);
    cr_expect_eq(batcher_info(&t).states, 1);
    cr_expect_eq(carry_batcher_visit(t.batcher, 1, say_full, &f), CARRY_E_FULL);
    FAILS(CARRY_E_ARGUMENT, "worker 2 of 2",
          carry_batcher_visit(t.batcher, 2, say_full, NULL));
    FAILS(CARRY_E_ARGUMENT, "visit is NULL",
          carry_batcher_visit(t.batcher, 0, NULL, NULL));
    FAILS(CARRY_E_ARGUMENT, "batcher is NULL",
          carry_batcher_visit(NULL, 0, say_full, NULL));
    for (int i = 0; i < 3; i++)
        job_free(&jobs[i]);
    twin_close(&t);
}

typedef struct watch {
    carry_state keep, seen[8];
    job *send;
    int count;
} watch;

static int on_idle(void *user, carry_session *session, carry_state state)
{
    watch *w = user;
    float h[5];
    OK(carry_state_read(session, state, 0, h, 5)); /* as in a visit */
    w->seen[w->count++] = state;
    if (w->send && w->send->of->state.id == state.id) job_send(w->send);
    return state.id == w->keep.id;
}

Test(batcher_states, idle_states_are_swept)
{
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    sequence s[6];
    job active[2], late;
    size_t swept = 9, worker;
    for (int i = 0; i < 6; i++)
        s[i] = sequence_open(&t);
    for (int i = 0; i < 2; i++) { /* one of each worker's is advanced, 4 calls each */
        job_make(&active[i], &t, &s[i], 4 * 64, (uint64_t)i);
        job_send(&active[i]);
        job_check(&active[i]);
    }
    job_make(&late, &t, &s[3], 2, 7); /* submitted by the very callback that was asked */
    watch w = {.keep = s[2].state, .send = &late};
    carry_sweep_options options = {
        .size = sizeof options, .idle_calls = 4, .on_idle = on_idle, .user = &w};
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 2, "%zu swept", swept);
    cr_expect_eq(w.count, 4, "%d shown", w.count);
    cr_expect_eq(batcher_info(&t).states, 4);
    for (int i = 4; i < 6; i++)
        FAILS(CARRY_E_STALE, "no longer",
              carry_batcher_state_worker(t.batcher, s[i].state, &worker));
    for (int i = 0; i < 4; i++)
        OK(carry_batcher_state_worker(t.batcher, s[i].state, &worker));
    job_check(&late);
    /* at most one of all, over both sessions; longest idle first */
    for (int i = 0; i < 2; i++) {
        job_free(&active[i]);
        job_make(&active[i], &t, &s[i], 4 * 64, (uint64_t)i);
        job_send(&active[i]);
        job_check(&active[i]);
    }
    options.on_idle = NULL;
    options.most = 1;
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 1);
    OK(carry_batcher_sweep(t.batcher, &options, NULL));
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 0);
    cr_expect_eq(batcher_info(&t).states, 2);
    options.idle_calls = 0;
    swept = 9;
    FAILS(CARRY_E_ARGUMENT, "both 0", carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 0);
    options.size = 0;
    FAILS(CARRY_E_ARGUMENT, "carry_sweep_options.size is 0",
          carry_batcher_sweep(t.batcher, &options, NULL));
    FAILS(CARRY_E_ARGUMENT, "options is NULL",
          carry_batcher_sweep(t.batcher, NULL, NULL));
    FAILS(CARRY_E_ARGUMENT, "batcher is NULL", carry_batcher_sweep(NULL, &options, NULL));
    for (int i = 0; i < 2; i++)
        job_free(&active[i]);
    job_free(&late);
    twin_close(&t);
}

Test(batcher_states, a_sweep_of_at_most_so_many_counts_over_all_sessions)
{
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    for (int i = 0; i < 6; i++) {
        carry_state state;
        OK(carry_batcher_state_open(t.batcher, &state));
    }
    usleep(5000);
    size_t swept;
    carry_sweep_options options = {.size = sizeof options, .idle_ms = 1, .most = 4};
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 4, "%zu swept", swept);
    cr_expect_eq(batcher_info(&t).states, 2);
    twin_close(&t);
}

Test(batcher_states, a_state_with_work_is_not_swept)
{
    twin t = twin_open(&small, OPTIONS(.batch_rows = 2, .max_delay_us = 3600000000u));
    sequence s[3] = {sequence_open(&t), sequence_open(&t), sequence_open(&t)};
    job first[2], waiting, last;
    size_t swept;
    for (int i = 0; i < 2; i++) {
        job_make(&first[i], &t, &s[i], 1, (uint64_t)i);
        job_send(&first[i]);
    }
    for (int i = 0; i < 2; i++)
        job_check(&first[i]);
    job_make(&waiting, &t, &s[2], 1, 3); /* for company, an hour long */
    job_send(&waiting);
    carry_sweep_options options = {.size = sizeof options, .idle_calls = 1};
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 0);
    job_make(&last, &t, &s[0], 1, 4);
    job_send(&last);
    job_check(&waiting);
    job_check(&last);
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 1); /* s[1]: not in the last call */
    for (int i = 0; i < 2; i++)
        job_free(&first[i]);
    job_free(&waiting);
    job_free(&last);
    twin_close(&t);
}
