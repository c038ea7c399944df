/* From within the functions that the batcher calls (on_done, visits, sweeps): what works there, and that what would wait
 * for itself is refused by name and does nothing. Each of these calls would hang, or free memory in use, if it were let. */
#define _DEFAULT_SOURCE /* usleep */
#include "twin.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const model_spec small = {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES)}};

static carry_status do_nothing(void *user, carry_session *session)
{
    return user && session ? CARRY_OK : CARRY_E_ARGUMENT;
}

/* Everything that would wait, with a job that is not submitted; `pending`: a request on its way. */
static void all_are_refused(const char *where, job *unsent, carry_ticket pending)
{
    carry_batcher *batcher = unsent->t->batcher, *same = batcher;
    carry_state state = unsent->of->state, fresh = {1};
    carry_sweep_options sweep = {.size = sizeof sweep, .idle_calls = 1};
    char words[128];
    snprintf(words, sizeof words, " from within %s of the same batcher would wait",
             where);
    FAILS(CARRY_E_BUSY, words, carry_batcher_wait(batcher, pending));
    FAILS(CARRY_E_BUSY, words, carry_batcher_drain(batcher));
    FAILS(CARRY_E_BUSY, words, carry_batcher_state_open(batcher, &fresh));
    FAILS(CARRY_E_BUSY, words, carry_batcher_state_close(batcher, &state));
    FAILS(CARRY_E_BUSY, words, carry_batcher_sweep(batcher, &sweep, NULL));
    FAILS(CARRY_E_BUSY, words, carry_batcher_visit(batcher, 0, do_nothing, batcher));
    FAILS(CARRY_E_BUSY, words, job_submit(unsent, CARRY_WAIT_FOR_ROOM));
    carry_batcher_close(&same);
    cr_expect_eq(same, batcher, "closed from within");
    cr_expect(strstr(carry_error(), "carry_batcher_close from within"), "%s",
              carry_error());
    cr_expect_eq(state.id, unsent->of->state.id);
    cr_expect_eq(fresh.id, 0);
}

/* ---- on_done -------------------------------------------------------------------------------- */

static job *next;

static void refuse_and_submit(job *j)
{
    size_t worker;
    j->again = NULL;
    all_are_refused("an on_done", next, j->ticket);
    OK(carry_batcher_state_worker(j->t->batcher, j->of->state, &worker));
    job_send(next);
}

Test(batcher_inside, on_done_cannot_wait_for_itself)
{
    twin t = twin_open(&small, NULL);
    sequence s[2];
    job jobs[2];
    sequences_open(&t, s, 2);
    jobs_make(jobs, &t, s, 2, 3);
    jobs[0].again = refuse_and_submit;
    next = &jobs[1];
    job_send(&jobs[0]);
    job_check(&jobs[0]);
    job_check(&jobs[1]);
    /* it was about the function, not about the thread */
    OK(carry_batcher_drain(t.batcher));
    jobs_free(jobs, 2);
    twin_close(&t);
}

static twin *other;

static void use_the_other(job *j)
{
    carry_state state;
    (void)j;
    job_send(next);
    OK(carry_batcher_wait(other->batcher, next->ticket));
    OK(carry_batcher_state_open(other->batcher, &state));
    OK(carry_batcher_visit(other->batcher, 0, do_nothing, other));
    OK(carry_batcher_state_close(other->batcher, &state));
    OK(carry_batcher_drain(other->batcher));
}

Test(batcher_inside, on_done_may_wait_for_another_batcher)
{
    twin t = twin_open(&small, NULL), second = twin_open(&small, NULL);
    sequence s = sequence_open(&t), far = sequence_open(&second);
    job jobs[2];
    job_make(&jobs[0], &t, &s, 2, 1);
    job_make(&jobs[1], &second, &far, 2, 2);
    jobs[0].again = use_the_other;
    other = &second;
    next = &jobs[1];
    job_send(&jobs[0]);
    job_check(&jobs[0]);
    job_check(&jobs[1]);
    jobs_free(jobs, 2);
    twin_close(&t);
    twin_close(&second);
}

/* ---- visits and sweeps ---------------------------------------------------------------------- */

/* On the thread that cancels: within the visit and an on_done, the inner of which the sentence names. */
static void told_in_a_visit(job *j)
{
    all_are_refused("an on_done", next, j->ticket);
}

static carry_status refuse_in_visit(void *user, carry_session *session)
{
    job *jobs = user;
    carry_state copy;
    all_are_refused("a visit or a sweep", &jobs[0], jobs[0].ticket);
    job_send(&jobs[0]);
    jobs[1].again = told_in_a_visit;
    job_send(&jobs[1]);
    OK(carry_batcher_cancel(jobs[1].t->batcher, jobs[1].ticket));
    cr_expect_eq(atomic_load(&jobs[1].answers), 1);
    OK(carry_state_copy(session, jobs[0].of->state, &copy));
    OK(carry_batcher_state_add(jobs[0].t->batcher, 0, copy));
    return CARRY_OK;
}

Test(batcher_inside, a_visit_cannot_wait_for_itself)
{
    twin t = twin_open(&small, NULL);
    sequence s[3];
    job jobs[3];
    sequences_open(&t, s, 3);
    jobs_make(jobs, &t, s, 3, 3);
    next = &jobs[2];
    OK(carry_batcher_visit(t.batcher, 0, refuse_in_visit, jobs));
    job_check(&jobs[0]);
    job_check_failed(&jobs[1], CARRY_E_CANCELLED, "after 0 of 3");
    cr_expect_eq(batcher_info(&t).states, 4);
    jobs_free(jobs, 3);
    twin_close(&t);
}

static int refuse_in_sweep(void *user, carry_session *session, carry_state state)
{
    job *j = user;
    float h[5];
    OK(carry_state_read(session, state, 0, h, 5));
    all_are_refused("a visit or a sweep", j, j->ticket);
    return 1;
}

Test(batcher_inside, a_sweep_cannot_wait_for_itself)
{
    twin t = twin_open(&small, NULL);
    sequence s[2];
    job jobs[2];
    size_t swept;
    sequences_open(&t, s, 2);
    jobs_make(jobs, &t, s, 2, 3);
    job_send(&jobs[0]);
    job_check(&jobs[0]);
    carry_sweep_options options = {.size = sizeof options,
                                   .idle_calls = 1,
                                   .on_idle = refuse_in_sweep,
                                   .user = &jobs[0]};
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 0);
    cr_expect_eq(batcher_info(&t).states, 2);
    jobs_free(jobs, 2);
    twin_close(&t);
}

/* ---- states opened in a visit --------------------------------------------------------------- */

typedef struct opened {
    carry_batcher *batcher;
    size_t worker;
    carry_state state, foreign;
} opened;

static carry_status open_here(void *user, carry_session *session)
{
    opened *o = user;
    carry_state closed;
    OK(carry_state_open(session, &o->state));
    OK(carry_state_open(session, &closed));
    carry_state gone = closed;
    OK(carry_state_close(session, &closed));
    FAILS(CARRY_E_STALE, "", carry_batcher_state_add(o->batcher, o->worker, gone));
    FAILS(CARRY_E_FOREIGN, "",
          carry_batcher_state_add(o->batcher, o->worker, o->foreign));
    FAILS(CARRY_E_ARGUMENT, "not within a visit of worker 1",
          carry_batcher_state_add(o->batcher, 1 - o->worker, o->state));
    return CARRY_OK;
}

static carry_status close_here(void *user, carry_session *session)
{
    opened *o = user;
    return carry_state_close(session, &o->state);
}

Test(batcher_inside, a_state_that_was_not_added_is_the_visitors)
{
    twin t = twin_open(&small, OPTIONS(.workers = 2));
    sequence s = sequence_open(&t);
    opened o = {.batcher = t.batcher, .foreign = s.shadow};
    size_t swept;
    job j;
    OK(carry_batcher_visit(t.batcher, 0, open_here, &o));
    FAILS(CARRY_E_ARGUMENT, "not within a visit of worker 0",
          carry_batcher_state_add(t.batcher, 0, o.state));
    job_make(&j, &t, &s, 2, 1); /* a call, in which the state was idle */
    job_send(&j);
    job_check(&j);
    carry_sweep_options options = {.size = sizeof options, .idle_ms = 1};
    usleep(5000);
    OK(carry_batcher_sweep(t.batcher, &options, &swept));
    cr_expect_eq(swept, 1, "the batcher's own, not the visitor's");
    OK(carry_batcher_visit(t.batcher, 0, close_here, &o));
    job_free(&j);
    twin_close(&t);
}
