/* Who gets a place in the queue: limits, and those who wait for room. A shut gate keeps what is queued where it is, and
 * cancelling makes room, so nothing here depends on how fast anything is. */
#define _DEFAULT_SOURCE /* usleep */
#include "twin.h"

#include <unistd.h>

static const model_spec small = {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES)}};

#define HOUR_US 3600000000u

/* ---- limits --------------------------------------------------------------------------------- */

Test(batcher_room, a_full_queue_says_so_and_recovers)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 3));
    sequence s[4];
    job jobs[4];
    gate g;
    sequences_open(&t, s, 4);
    jobs_make(jobs, &t, s, 4, 2);
    for (int round = 1; round <= 3; round++) {
        gate_shut(&g, t.batcher, 0);
        for (int i = 0; i < 3; i++)
            job_send(&jobs[i]);
        FAILS(CARRY_E_FULL, "3 requests are on their way, which is queue_limit",
              job_submit(&jobs[3], 0));
        cr_expect_eq(jobs[3].ticket.id, 0);
        cr_expect_eq(batcher_info(&t).rejected, (uint64_t)round);
        gate_open(&g);
        for (int i = 0; i < 3; i++)
            job_check(&jobs[i]);
        job_send(&jobs[3]);
        job_check(&jobs[3]);
        for (int i = 0; i < 4; i++)
            atomic_store(&jobs[i].answers, 0);
    }
    cr_expect_eq(batcher_info(&t).done, 12);
    jobs_free(jobs, 4);
    twin_close(&t);
}

Test(batcher_room, a_state_has_a_limit_of_its_own)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 5, .state_limit = 2));
    sequence s[2];
    job jobs[4];
    gate g;
    sequences_open(&t, s, 2);
    for (int i = 0; i < 4; i++)
        job_make(&jobs[i], &t, &s[i == 3], 2, (uint64_t)i);
    gate_shut(&g, t.batcher, 0);
    job_send(&jobs[0]);
    job_send(&jobs[1]);
    FAILS(CARRY_E_FULL, "has 2 requests on their way, which is state_limit",
          job_submit(&jobs[2], 0));
    job_send(&jobs[3]);
    gate_open(&g);
    job_check(&jobs[0]);
    job_check(&jobs[1]);
    job_send(&jobs[2]);
    job_check(&jobs[2]);
    job_check(&jobs[3]);
    cr_expect_eq(batcher_info(&t).rejected, 1);
    jobs_free(jobs, 4);
    twin_close(&t);
}

/* Submits jobs of one sequence until one is refused; returns how many were accepted. */
static int flood(job *jobs, const twin *t, sequence *s, int most)
{
    int sent = 0;
    while (sent < most) {
        job_make(&jobs[sent], t, s, 1, (uint64_t)sent);
        if (job_submit(&jobs[sent], 0) == CARRY_E_FULL) {
            job_free(&jobs[sent]);
            break;
        }
        sent++;
    }
    return sent;
}

Test(batcher_room, a_flood_of_one_state_leaves_half_of_the_queue)
{
    enum { LIMIT = 8, OTHERS = 4 };
    twin t = twin_open(&small, OPTIONS(.queue_limit = LIMIT));
    sequence greedy = sequence_open(&t), s[OTHERS];
    job jobs[LIMIT + 1], of_others[OTHERS], late;
    gate g;
    sequences_open(&t, s, OTHERS);
    jobs_make(of_others, &t, s, OTHERS, 2);
    gate_shut(&g, t.batcher, 0);
    cr_expect_eq(flood(jobs, &t, &greedy, LIMIT + 1), LIMIT / 2);
    job_make(&late, &t, &greedy, 1, 9);
    FAILS(CARRY_E_FULL,
          "has 4 requests on their way, and of queue_limit 8 only 4 places are left",
          job_submit(&late, 0));
    for (int i = 0; i < OTHERS; i++) /* the last one takes the last place */
        job_send(&of_others[i]);
    FAILS(CARRY_E_FULL, "8 requests are on their way, which is queue_limit",
          job_submit(&late, 0));
    gate_open(&g);
    for (int i = 0; i < LIMIT / 2; i++)
        job_check(&jobs[i]);
    for (int i = 0; i < OTHERS; i++)
        job_check(&of_others[i]);
    job_send(&late);
    job_check(&late);
    jobs_free(jobs, LIMIT / 2);
    jobs_free(of_others, OTHERS);
    job_free(&late);
    twin_close(&t);
}

/* Three states that submit in turn as long as they may end with a quarter each; the last quarter is for others. */
Test(batcher_room, a_flood_of_many_states_leaves_a_share)
{
    enum { LIMIT = 12, STATES = 3 };
    twin t = twin_open(&small, OPTIONS(.queue_limit = LIMIT));
    sequence s[STATES + 1];
    job jobs[STATES][LIMIT], other;
    gate g;
    int sent[STATES] = {0}, refused = 0;
    sequences_open(&t, s, STATES + 1);
    gate_shut(&g, t.batcher, 0);
    for (int turn = 0; refused < STATES; turn++) {
        int i = turn % STATES, accepted = flood(&jobs[i][sent[i]], &t, &s[i], 1);
        refused = accepted ? 0 : refused + 1;
        sent[i] += accepted;
    }
    for (int i = 0; i < STATES; i++)
        cr_expect_eq(sent[i], LIMIT / (STATES + 1), "state %d: %d", i, sent[i]);
    job_make(&other, &t, &s[STATES], 2, 7);
    job_send(&other);
    gate_open(&g);
    for (int i = 0; i < STATES; i++)
        for (int k = 0; k < sent[i]; k++)
            job_check(&jobs[i][k]);
    job_check(&other);
    for (int i = 0; i < STATES; i++)
        jobs_free(jobs[i], sent[i]);
    job_free(&other);
    twin_close(&t);
}

Test(batcher_room, a_state_limit_lets_one_state_have_the_whole_queue)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 6, .state_limit = 6));
    sequence s = sequence_open(&t);
    job jobs[7];
    gate g;
    gate_shut(&g, t.batcher, 0);
    cr_expect_eq(flood(jobs, &t, &s, 7), 6);
    gate_open(&g);
    for (int i = 0; i < 6; i++)
        job_check(&jobs[i]);
    jobs_free(jobs, 6);
    twin_close(&t);
}

/* ---- waiting for room ----------------------------------------------------------------------- */

/* A thread that submits a job with CARRY_WAIT_FOR_ROOM. */
typedef struct patient {
    pthread_t thread;
    job *j;
    carry_status status;
} patient;

static void *submit_patiently(void *argument)
{
    patient *p = argument;
    p->status = job_submit(p->j, CARRY_WAIT_FOR_ROOM);
    return NULL;
}

/* Returns when it waits, behind all that began before. */
static void be_patient(patient *p, job *j)
{
    uint64_t before = batcher_info(j->t).waiting;
    p->j = j;
    cr_assert_eq(pthread_create(&p->thread, NULL, submit_patiently, p), 0);
    while (batcher_info(j->t).waiting == before)
        usleep(500);
}

static void join_patient(patient *p, carry_status expected)
{
    pthread_join(p->thread, NULL);
    cr_expect_eq(p->status, expected, "%s", carry_status_name(p->status));
}

Test(batcher_room, submit_waits_for_room_if_asked_to)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 2, .state_limit = 1));
    sequence s[3];
    job jobs[5];
    patient waiting[3];
    gate g;
    sequences_open(&t, s, 3);
    jobs_make(jobs, &t, s, 3, 2);
    job_make(&jobs[3], &t, &s[0], 2, 9);
    job_make(&jobs[4], &t, &s[1], 2, 9);
    gate_shut(&g, t.batcher, 0);
    job_send(&jobs[0]);
    job_send(&jobs[1]);
    for (int i = 0; i < 3; i++) /* two for their states' sake, one for the queue's */
        be_patient(&waiting[i], &jobs[i + 2]);
    cr_expect_eq(batcher_info(&t).submitted, 2);
    gate_open(&g);
    for (int i = 0; i < 3; i++)
        join_patient(&waiting[i], CARRY_OK);
    for (int i = 0; i < 5; i++)
        job_check(&jobs[i]);
    cr_expect_eq(batcher_info(&t).rejected, 0);
    jobs_free(jobs, 5);
    twin_close(&t);
}

Test(batcher_room, a_state_closed_meanwhile_ends_the_waiting_for_room)
{
    twin t = twin_open(
        &small, OPTIONS(.batch_rows = 2, .max_delay_us = HOUR_US, .state_limit = 1));
    sequence s = sequence_open(&t);
    job jobs[2];
    patient waiting;
    for (int i = 0; i < 2; i++)
        job_make(&jobs[i], &t, &s, 2, (uint64_t)i);
    job_send(&jobs[0]);
    be_patient(&waiting, &jobs[1]);
    carry_state state = s.state;
    OK(carry_batcher_state_close(t.batcher, &state));
    join_patient(&waiting, CARRY_E_STALE);
    job_check_failed(&jobs[0], CARRY_E_CANCELLED, "cancelled after 0 of 2 steps");
    cr_expect_eq(atomic_load(&jobs[1].answers), 0);
    jobs_free(jobs, 2);
    twin_close(&t);
}

/* One place at a time, made by cancelling: it goes to whoever has waited longest, and nobody can come between. */
Test(batcher_room, room_goes_to_those_who_wait_in_their_order)
{
    enum { LIMIT = 2, PATIENT = 4 };
    twin t = twin_open(&small, OPTIONS(.queue_limit = LIMIT, .batch_rows = 1));
    sequence s[LIMIT + PATIENT + 1];
    job jobs[LIMIT + PATIENT + 1], *hasty = &jobs[LIMIT + PATIENT];
    patient waiting[PATIENT];
    gate g;
    sequences_open(&t, s, LIMIT + PATIENT + 1);
    jobs_make(jobs, &t, s, LIMIT + PATIENT + 1, 2);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < LIMIT; i++)
        job_send(&jobs[i]);
    for (int i = 0; i < PATIENT; i++)
        be_patient(&waiting[i], &jobs[LIMIT + i]);
    FAILS(CARRY_E_FULL, "2 requests are on their way", job_submit(hasty, 0));
    for (int i = 0; i < PATIENT; i++) {
        OK(carry_batcher_cancel(t.batcher, jobs[i].ticket)); /* the oldest in the queue */
        cr_expect_eq(batcher_info(&t).waiting, (uint64_t)(PATIENT - 1 - i));
        FAILS(CARRY_E_FULL, "2 requests are on their way", job_submit(hasty, 0));
        join_patient(&waiting[i], CARRY_OK);
    }
    gate_open(&g);
    for (int i = 0; i < PATIENT; i++)
        job_check_failed(&jobs[i], CARRY_E_CANCELLED, "cancelled after 0 of 2 steps");
    for (int i = PATIENT; i < LIMIT + PATIENT; i++)
        job_check(&jobs[i]);
    job_send(hasty);
    job_check(hasty);
    cr_expect_eq(batcher_info(&t).rejected, PATIENT + 1);
    jobs_free(jobs, LIMIT + PATIENT + 1);
    twin_close(&t);
}

Test(batcher_room, a_state_that_has_all_it_may_is_passed_over)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 3, .state_limit = 1));
    sequence s[4];
    job jobs[4], second;
    patient blocked, next;
    gate g;
    sequences_open(&t, s, 4);
    jobs_make(jobs, &t, s, 4, 2);
    job_make(&second, &t, &s[0], 2, 9);
    gate_shut(&g, t.batcher, 0);
    for (int i = 0; i < 3; i++)
        job_send(&jobs[i]);
    be_patient(&blocked, &second);
    be_patient(&next, &jobs[3]);
    OK(carry_batcher_cancel(t.batcher, jobs[1].ticket));
    join_patient(&next, CARRY_OK); /* though `second` has waited longer */
    cr_expect_eq(batcher_info(&t).waiting, 1);
    OK(carry_batcher_cancel(t.batcher, jobs[2].ticket));
    cr_expect_eq(batcher_info(&t).waiting, 1, "a place for others, not for it");
    gate_open(&g);
    join_patient(&blocked, CARRY_OK);
    job_check(&jobs[0]);
    job_check(&second);
    job_check(&jobs[3]);
    jobs_free(jobs, 4);
    job_free(&second);
    twin_close(&t);
}

/* On another thread, since closing waits for the session. */
typedef struct closing {
    carry_batcher *batcher;
    carry_state *state;
} closing;

static void *close_a_state(void *argument)
{
    closing *c = argument;
    OK(carry_batcher_state_close(c->batcher, c->state));
    return NULL;
}

/* Not only when a place becomes free: the queue stays full of others. */
Test(batcher_room, a_state_closed_in_a_full_queue_ends_the_waiting_for_room)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 1));
    sequence s[2];
    job jobs[2];
    patient waiting;
    sequences_open(&t, s, 2);
    jobs_make(jobs, &t, s, 2, 2);
    gate g;
    gate_shut(&g, t.batcher, 0);
    job_send(&jobs[0]);
    be_patient(&waiting, &jobs[1]);
    carry_state state = s[1].state;
    pthread_t closer;
    closing what = {t.batcher, &state};
    cr_assert_eq(pthread_create(&closer, NULL, close_a_state, &what), 0);
    join_patient(&waiting, CARRY_E_STALE);
    cr_expect_eq(batcher_info(&t).submitted, 1);
    gate_open(&g);
    pthread_join(closer, NULL);
    job_check(&jobs[0]);
    jobs_free(jobs, 2);
    twin_close(&t);
}

/* ---- sweeping ------------------------------------------------------------------------------- */

static atomic_int may_return;

static void tell_slowly(job *j)
{
    (void)j;
    while (!atomic_load(&may_return))
        usleep(500);
}

/* The queue is full as long as its one request is being told, and the session is free. */
Test(batcher_room, no_sweep_closes_a_state_that_is_waited_for)
{
    twin t = twin_open(&small, OPTIONS(.queue_limit = 1));
    sequence s[3];
    job jobs[2];
    patient waiting;
    size_t swept;
    sequences_open(&t, s, 3);
    jobs_make(jobs, &t, s, 2, 2);
    jobs[0].again = tell_slowly;
    job_send(&jobs[0]);
    while (atomic_load(&jobs[0].answers) == 0)
        usleep(500);
    be_patient(&waiting, &jobs[1]);
    carry_sweep_options options = {.size = sizeof options, .idle_calls = 1};
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 1, "%zu: not the one that is told, nor the one waited for",
                 swept);
    atomic_store(&may_return, 1);
    join_patient(&waiting, CARRY_OK);
    job_check(&jobs[0]);
    job_check(&jobs[1]);
    cr_expect_eq(batcher_info(&t).states, 2);
    jobs_free(jobs, 2);
    twin_close(&t);
}
