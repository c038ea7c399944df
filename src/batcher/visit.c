/* The caller's functions between two calls of a worker: visits, and sweeps of idle states. */
#include "base/sized.h"
#include "batcher/batcher.h"

carry_status
carry_batcher_visit(carry_batcher *batcher, size_t worker,
                    carry_status (*visit)(void *user, carry_session *session), void *user)
{
    CY_CHECK(batcher && visit, CARRY_E_ARGUMENT, "carry_batcher_visit: %s is NULL",
             batcher ? "visit" : "batcher");
    CY_CHECK(worker < batcher->options.workers, CARRY_E_ARGUMENT,
             "carry_batcher_visit: worker %zu of %u", worker, batcher->options.workers);
    CY_TRY(cy_inside_refuse(batcher, "carry_batcher_visit"));
    cy_worker *visited = &batcher->workers[worker];
    cy_inside inside;
    cy_worker_enter(visited);
    cy_inside_enter(&inside, batcher, visited);
    carry_status status = visit(user, visited->session);
    cy_inside_leave(&inside);
    cy_worker_leave(visited);
    return status;
}

typedef struct sweeping {
    cy_worker *worker;
    const carry_sweep_options *options; /* the caller's */
} sweeping;

/* A state with requests on their way, or waiting for room, stays, and so does one that a visitor has opened and not given
 * to the batcher; the last look comes after the caller's, which may have submitted. */
static int keep_busy(void *user, carry_session *session, carry_state state)
{
    sweeping *s = user;
    carry_batcher *batcher = s->worker->batcher;
    for (int look = 0; look < 2; look++) {
        if (look == 1 && s->options->on_idle &&
            s->options->on_idle(s->options->user, session, state))
            return 1;
        pthread_mutex_lock(&batcher->lock);
        cy_member *member = cy_member_get(&batcher->members, state);
        bool idle = member && member->entries == 0 && !member->closing &&
                    !cy_room_is_awaited(batcher, state);
        if (look == 1 && idle) cy_member_dismiss(member);
        pthread_mutex_unlock(&batcher->lock);
        if (!idle) return 1;
    }
    return 0;
}

static carry_status sweep_worker(cy_worker *worker, const carry_sweep_options *options,
                                 size_t *swept)
{
    sweeping s = {worker, options};
    carry_sweep_options own = *options;
    own.on_idle = keep_busy;
    own.user = &s;
    cy_inside inside;
    cy_worker_enter(worker);
    cy_inside_enter(&inside, worker->batcher, worker);
    carry_status status = carry_session_sweep(worker->session, &own, swept);
    cy_inside_leave(&inside);
    cy_worker_leave(worker);
    return status;
}

carry_status carry_batcher_sweep(carry_batcher *batcher,
                                 const carry_sweep_options *options, size_t *swept)
{
    carry_sweep_options known;
    size_t all = 0;
    carry_status status = CARRY_OK;
    if (swept) *swept = 0;
    CY_CHECK(batcher && options, CARRY_E_ARGUMENT, "carry_batcher_sweep: %s is NULL",
             batcher ? "options" : "batcher");
    CY_TRY(cy_inside_refuse(batcher, "carry_batcher_sweep"));
    CY_TRY(cy_sized_read(&known, sizeof known, options, "carry_sweep_options"));
    known.size = sizeof known;
    for (uint32_t i = 0; i < batcher->options.workers; i++) {
        size_t count;
        carry_sweep_options rest = known;
        if (known.most && all >= known.most) break;
        if (known.most) rest.most = known.most - all;
        carry_status of_worker = sweep_worker(&batcher->workers[i], &rest, &count);
        all += count;
        if (of_worker != CARRY_OK) status = of_worker;
        if (of_worker != CARRY_OK && of_worker != CARRY_E_DEVICE) break;
    } /* past a dead session: states of the others are closed all the same */
    if (swept) *swept = all;
    return status;
}
