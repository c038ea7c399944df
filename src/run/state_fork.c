/* States that continue from others: copy, fork, reorder. Nothing is copied: they refer to the same block. */
#include "run/session.h"

static void close_forks(cy_pool *pool, carry_state *copies, size_t count)
{
    while (count-- > 0) {
        cy_slot *slot;
        cy_pool_find(pool, copies[count], &slot); /* just opened */
        cy_pool_untake(pool, slot);
        copies[count].id = 0;
    }
}

static carry_status fork_state(carry_session *session, carry_state source,
                               carry_state *copies, size_t count)
{
    cy_pool *pool = &session->pool;
    cy_slot *from, *to;
    CY_TRY(cy_pool_find(pool, source, &from));
    cy_pool_tick(pool);
    for (size_t i = 0; i < count; i++) {
        carry_status status = cy_pool_take(pool, &to);
        if (status != CARRY_OK) {
            close_forks(pool, copies, i);
            return status;
        }
        cy_slot_share(pool, to, from);
        cy_slot_commit(pool, to);
        copies[i] = cy_pool_state(pool, to);
    }
    return CARRY_OK;
}

static carry_status fork_named(const char *function, carry_session *session,
                               carry_state source, carry_state *copies, size_t count)
{
    CY_CHECK(copies || count == 0, CARRY_E_ARGUMENT, "%s: the copies are NULL", function);
    for (size_t i = 0; i < count; i++)
        copies[i].id = 0;
    CY_TRY(cy_session_enter(session, function));
    carry_status status = fork_state(session, source, copies, count);
    cy_session_leave(session);
    return status;
}

carry_status carry_state_copy(carry_session *session, carry_state source,
                              carry_state *copy)
{
    return fork_named("carry_state_copy", session, source, copy, 1);
}

carry_status carry_state_fork(carry_session *session, carry_state source,
                              carry_state *copies, size_t count)
{
    return fork_named("carry_state_fork", session, source, copies, count);
}

/* First every state takes its parent's version beside its own, then all commit: so the order of `states` does not
 * matter. */
static carry_status reorder_states(carry_session *session, const carry_state *states,
                                   const carry_state *parents, size_t count)
{
    cy_pool *pool = &session->pool;
    cy_slot *slot, *parent;
    pool->call++;
    for (size_t i = 0; i < count; i++) {
        CY_TRY(cy_session_mark(session, states[i], &slot));
        CY_TRY(cy_pool_find(pool, parents[i], &parent));
    }
    cy_pool_tick(pool);
    for (size_t i = 0; i < count; i++) {
        cy_pool_find(pool, states[i], &slot);
        cy_pool_find(pool, parents[i], &parent);
        cy_slot_share(pool, slot, parent);
    }
    for (size_t i = 0; i < count; i++) {
        cy_pool_find(pool, states[i], &slot);
        cy_slot_commit(pool, slot);
    }
    return CARRY_OK;
}

carry_status carry_states_reorder(carry_session *session, const carry_state *states,
                                  const carry_state *parents, size_t count)
{
    CY_CHECK((states && parents) || count == 0, CARRY_E_ARGUMENT,
             "carry_states_reorder: %s is NULL", states ? "parents" : "states");
    CY_TRY(cy_session_enter(session, "carry_states_reorder"));
    carry_status status = reorder_states(session, states, parents, count);
    cy_session_leave(session);
    return status;
}
