/* Closing the states that nobody has used for long, and the statistics of the pool. */
#include "base/sized.h"
#include "run/session.h"

/* When the sweep began: what the caller does with the session while it is asked makes nothing idle, so each state is
 * looked at once and the sweep ends. */
typedef struct moment {
    uint64_t runs, ms;
} moment;

static bool is_idle(const moment *begun, const cy_slot *slot,
                    const carry_sweep_options *options)
{
    return slot->used_run <= begun->runs && slot->used_ms <= begun->ms &&
           begun->runs - slot->used_run >= options->idle_calls &&
           begun->ms - slot->used_ms >= options->idle_ms;
}

/* The session is free while the caller looks at the state; on failure it was not entered again. */
static carry_status ask(carry_session *session, const carry_sweep_options *options,
                        carry_state state, bool *keep)
{
    cy_session_leave(session);
    *keep = options->on_idle(options->user, session, state) != 0;
    return cy_session_enter(session, "carry_session_sweep");
}

/* The open states are in the order of their last use, and those kept are used now: so the oldest decides. */
static carry_status sweep(carry_session *session, const carry_sweep_options *options,
                          size_t *swept)
{
    cy_pool *pool = &session->pool;
    size_t most = options->most ? options->most : SIZE_MAX;
    cy_pool_tick(pool);
    const moment begun = {pool->runs, pool->now_ms};
    while (*swept < most && pool->oldest && is_idle(&begun, pool->oldest, options)) {
        cy_slot *slot = pool->oldest;
        if (options->on_idle) {
            carry_state state = cy_pool_state(pool, slot);
            bool keep;
            CY_TRY(ask(session, options, state, &keep));
            if (cy_pool_find(pool, state, &slot) != CARRY_OK) continue;
            if (keep) {
                cy_slot_use(pool, slot);
                continue;
            }
        }
        cy_pool_give(pool, slot);
        pool->swept++;
        ++*swept;
    }
    return CARRY_OK;
}

carry_status carry_session_sweep(carry_session *session,
                                 const carry_sweep_options *options, size_t *swept)
{
    carry_sweep_options known;
    size_t count = 0;
    if (swept) *swept = 0;
    CY_CHECK(options, CARRY_E_ARGUMENT, "carry_session_sweep: options is NULL");
    CY_TRY(cy_sized_read(&known, sizeof known, options, "carry_sweep_options"));
    CY_CHECK(known.idle_calls || known.idle_ms, CARRY_E_ARGUMENT,
             "carry_session_sweep: idle_calls and idle_ms are both 0, which would close "
             "every state");
    CY_TRY(cy_session_enter(session, "carry_session_sweep"));
    carry_status status = sweep(session, &known, &count);
    if (status == CARRY_OK) cy_session_leave(session);
    if (swept) *swept = count;
    return status;
}

carry_status carry_session_get_pool(carry_session *session, carry_pool_info *info)
{
    CY_TRY(cy_session_take(session, "carry_session_get_pool"));
    const cy_pool *pool = &session->pool;
    carry_pool_info known = {.open = cy_pool_open_count(pool),
                             .free = cy_pool_ready_count(pool),
                             .max_states = pool->max_states,
                             .bytes = pool->bytes,
                             .opened = pool->opened,
                             .closed = pool->closed,
                             .swept = pool->swept,
                             .rejected = pool->rejected};
    cy_session_leave(session);
    return cy_sized_write(info, &known, sizeof known, "carry_pool_info");
}
