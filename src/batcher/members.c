/* The batcher's states: found by their handles, opened in the session with the fewest, closed when nothing of theirs
 * is on its way. */
#include "base/mem.h"
#include "base/sized.h"
#include "batcher/batcher.h"

#include <string.h>

/* ---- the table ------------------------------------------------------------------------------ */

static size_t home_of(const cy_member_table *table, carry_state state)
{
    return (size_t)(state.id * 0x9e3779b97f4a7c15u >> 32) & (table->room - 1);
}

/* Where the state stands, or the free place where it would. */
static size_t place_of(const cy_member_table *table, carry_state state)
{
    size_t place = home_of(table, state);
    while (table->places[place] && table->places[place]->state.id != state.id)
        place = (place + 1) & (table->room - 1);
    return place;
}

static cy_member *look_up(const cy_member_table *table, carry_state state)
{
    return table->room ? table->places[place_of(table, state)] : NULL;
}

static carry_status grow_table(cy_member_table *table)
{
    if (2 * (table->count + 1) <= table->room) return CARRY_OK;
    cy_member_table larger = {.room = table->room ? 2 * table->room : 64,
                              .count = table->count};
    larger.places = cy_alloc(larger.room * sizeof(cy_member *));
    CY_CHECK(larger.places, CARRY_E_MEMORY, "out of memory: a table of %zu states",
             larger.room);
    for (size_t i = 0; i < table->room; i++) {
        cy_member *member = table->places[i];
        if (member) larger.places[place_of(&larger, member->state)] = member;
    }
    cy_free(table->places);
    *table = larger;
    return CARRY_OK;
}

/* Those behind a freed place move up, so that no search ends too early. */
static void forget(cy_member_table *table, const cy_member *member)
{
    size_t mask = table->room - 1, hole = place_of(table, member->state);
    table->places[hole] = NULL;
    table->count--;
    for (size_t at = (hole + 1) & mask; table->places[at]; at = (at + 1) & mask) {
        size_t home = home_of(table, table->places[at]->state);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        table->places[hole] = table->places[at];
        table->places[at] = NULL;
        hole = at;
    }
}

void cy_members_close(carry_batcher *batcher)
{
    for (size_t i = 0; i < batcher->members.room; i++)
        cy_free(batcher->members.places[i]);
    cy_free(batcher->members.places);
}

carry_status cy_member_find(const carry_batcher *batcher, carry_state state,
                            cy_member **member)
{
    CY_CHECK(state.id != 0, CARRY_E_ARGUMENT, "the state is {0}, which is no state");
    *member = look_up(&batcher->members, state);
    CY_CHECK(*member && !(*member)->closing, CARRY_E_STALE,
             "state %016llx is not, or no longer, one of this batcher's",
             (unsigned long long)state.id);
    return CARRY_OK;
}

/* ---- opening -------------------------------------------------------------------------------- */

static carry_status grow_heap(cy_worker *worker)
{
    if (worker->states <= worker->heap_room) return CARRY_OK;
    uint32_t room = worker->heap_room ? 2 * worker->heap_room : 64;
    while (room < worker->states) /* others are being opened too */
        room *= 2;
    cy_member **heap = cy_alloc(room * sizeof(cy_member *));
    CY_CHECK(heap, CARRY_E_MEMORY, "out of memory: a queue of %u states", room);
    if (worker->heap) memcpy(heap, worker->heap, worker->ready * sizeof *heap);
    cy_free(worker->heap);
    worker->heap = heap;
    worker->heap_room = room;
    return CARRY_OK;
}

/* Under the lock. Takes the member over if it succeeds. */
static carry_status enroll(cy_worker *worker, cy_member *member, carry_state state)
{
    carry_batcher *batcher = worker->batcher;
    CY_CHECK(!look_up(&batcher->members, state), CARRY_E_ARGUMENT,
             "state %016llx is the batcher's already", (unsigned long long)state.id);
    CY_TRY(grow_table(&batcher->members));
    CY_TRY(grow_heap(worker));
    *member = (cy_member){.state = state, .worker = worker};
    batcher->members.places[place_of(&batcher->members, state)] = member;
    batcher->members.count++;
    return CARRY_OK;
}

/* A state counts from the moment its worker is chosen, so that many that are opened at once spread out. */
static void count_states(cy_worker *worker, int change)
{
    pthread_mutex_lock(&worker->batcher->lock);
    worker->states += (uint64_t)(int64_t)change;
    pthread_mutex_unlock(&worker->batcher->lock);
}

static carry_status add(cy_worker *worker, carry_state state)
{
    cy_member *member = cy_alloc(sizeof *member);
    CY_CHECK(member, CARRY_E_MEMORY, "out of memory: a state of the batcher");
    pthread_mutex_lock(&worker->batcher->lock);
    carry_status status = enroll(worker, member, state);
    pthread_mutex_unlock(&worker->batcher->lock);
    if (status != CARRY_OK) cy_free(member);
    return status;
}

/* The one with the fewest states of those that have not refused; the new one is counted. */
static cy_worker *choose_worker(carry_batcher *batcher, const bool *refused)
{
    cy_worker *best = NULL;
    pthread_mutex_lock(&batcher->lock);
    for (uint32_t i = 0; i < batcher->options.workers; i++)
        if (!refused[i] && (!best || batcher->workers[i].states < best->states))
            best = &batcher->workers[i];
    if (best) best->states++;
    pthread_mutex_unlock(&batcher->lock);
    return best;
}

static carry_status open_in(cy_worker *worker, carry_state *state)
{
    cy_worker_enter(worker);
    carry_status status = carry_state_open(worker->session, state);
    if (status == CARRY_OK) {
        status = add(worker, *state);
        if (status != CARRY_OK) carry_state_close(worker->session, state);
    }
    cy_worker_leave(worker);
    if (status != CARRY_OK) count_states(worker, -1);
    return status;
}

#define MOST_WORKERS 256

carry_status carry_batcher_state_open(carry_batcher *batcher, carry_state *state)
{
    bool refused[MOST_WORKERS] = {false};
    carry_status status = CARRY_E_FULL;
    CY_CHECK(state, CARRY_E_ARGUMENT, "carry_batcher_state_open: state is NULL");
    state->id = 0;
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_state_open: batcher is NULL");
    CY_TRY(cy_inside_refuse(batcher, "carry_batcher_state_open"));
    while (status == CARRY_E_FULL || status == CARRY_E_DEVICE) { /* full, or dead */
        cy_worker *worker = choose_worker(batcher, refused);
        if (!worker) break; /* the sentence is the last session's */
        refused[worker - batcher->workers] = true;
        status = open_in(worker, state);
    }
    return status;
}

carry_status carry_batcher_state_add(carry_batcher *batcher, size_t worker,
                                     carry_state state)
{
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_state_add: batcher is NULL");
    CY_CHECK(worker < batcher->options.workers, CARRY_E_ARGUMENT,
             "carry_batcher_state_add: worker %zu of %u", worker,
             batcher->options.workers);
    cy_worker *visited = &batcher->workers[worker];
    CY_CHECK(cy_inside_visit(visited), CARRY_E_ARGUMENT,
             "carry_batcher_state_add: not within a visit of worker %zu", worker);
    /* from itself: nothing moves, and the session says whether it has the state */
    CY_TRY(carry_states_reorder(visited->session, &state, &state, 1));
    count_states(visited, 1);
    carry_status status = add(visited, state);
    if (status != CARRY_OK) count_states(visited, -1);
    return status;
}

carry_status carry_batcher_state_worker(carry_batcher *batcher, carry_state state,
                                        size_t *worker)
{
    cy_member *member = NULL;
    CY_CHECK(batcher && worker, CARRY_E_ARGUMENT,
             "carry_batcher_state_worker: %s is NULL", batcher ? "worker" : "batcher");
    pthread_mutex_lock(&batcher->lock);
    carry_status status = cy_member_find(batcher, state, &member);
    if (status == CARRY_OK) *worker = (size_t)(member->worker - batcher->workers);
    pthread_mutex_unlock(&batcher->lock);
    return status;
}

/* ---- closing -------------------------------------------------------------------------------- */

/* Under the lock: the member is gone from every table, and freed. */
static void dismiss(cy_member *member)
{
    carry_batcher *batcher = member->worker->batcher;
    forget(&batcher->members, member);
    member->worker->states--;
    cy_free(member);
}

/* Waits, under the lock, until nothing of the member's is on its way. */
static void wait_for_quiet(const cy_member *member)
{
    carry_batcher *batcher = member->worker->batcher;
    batcher->quiet_waiters++;
    while (member->entries > 0)
        pthread_cond_wait(&batcher->quiet, &batcher->lock);
    batcher->quiet_waiters--;
}

static carry_status close_state(carry_batcher *batcher, carry_state *state)
{
    cy_member *member = NULL;
    size_t count;
    pthread_mutex_lock(&batcher->lock);
    carry_status status = cy_member_find(batcher, *state, &member);
    if (status != CARRY_OK) {
        pthread_mutex_unlock(&batcher->lock);
        return status;
    }
    member->closing = true;
    cy_worker *worker = member->worker;
    cy_entry *list = cy_queue_cancel(member, &count);
    cy_room_offer(batcher); /* those who wait for room for it wait in vain */
    pthread_mutex_unlock(&batcher->lock);
    cy_entries_finish(batcher, list, NULL);

    pthread_mutex_lock(&batcher->lock);
    wait_for_quiet(member);
    pthread_mutex_unlock(&batcher->lock);

    cy_worker_enter(worker);
    status = carry_state_close(worker->session, state);
    cy_worker_leave(worker);

    pthread_mutex_lock(&batcher->lock);
    dismiss(member); /* last: a sweep that comes between takes it for one in use */
    pthread_mutex_unlock(&batcher->lock);
    state->id = 0; /* a dead session does not close it, and it is lost all the same */
    return status;
}

carry_status carry_batcher_state_close(carry_batcher *batcher, carry_state *state)
{
    CY_CHECK(batcher && state, CARRY_E_ARGUMENT, "carry_batcher_state_close: %s is NULL",
             batcher ? "state" : "batcher");
    CY_TRY(cy_inside_refuse(batcher, "carry_batcher_state_close"));
    return state->id ? close_state(batcher, state) : CARRY_OK;
}

/* ---- visit and sweep ------------------------------------------------------------------------ */

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

/* A state with requests on their way, or waiting for room, stays, and so does one that a visitor has opened and not given to the batcher; the
 * last look comes after the caller's, which may have submitted. */
static int keep_busy(void *user, carry_session *session, carry_state state)
{
    sweeping *s = user;
    carry_batcher *batcher = s->worker->batcher;
    for (int look = 0; look < 2; look++) {
        if (look == 1 && s->options->on_idle &&
            s->options->on_idle(s->options->user, session, state))
            return 1;
        pthread_mutex_lock(&batcher->lock);
        cy_member *member = look_up(&batcher->members, state);
        bool idle = member && member->entries == 0 && !member->closing &&
                    !cy_room_is_awaited(batcher, state);
        if (look == 1 && idle) dismiss(member);
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
    for (uint32_t i = 0; i < batcher->options.workers && status == CARRY_OK; i++) {
        size_t count;
        carry_sweep_options rest = known;
        if (known.most && all >= known.most) break;
        if (known.most) rest.most = known.most - all;
        status = sweep_worker(&batcher->workers[i], &rest, &count);
        all += count;
    }
    if (swept) *swept = all;
    return status;
}
