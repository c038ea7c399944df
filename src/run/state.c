/* States one by one: open, close, reset, read, write. */
#include "run/session.h"

#include <string.h>

static carry_status open_state(carry_session *session, carry_state *state)
{
    cy_slot *slot;
    cy_pool_tick(&session->pool);
    CY_TRY(cy_pool_take(&session->pool, &slot));
    *state = cy_pool_state(&session->pool, slot);
    return CARRY_OK;
}

carry_status carry_state_open(carry_session *session, carry_state *state)
{
    CY_CHECK(state, CARRY_E_ARGUMENT, "carry_state_open: state is NULL");
    state->id = 0;
    CY_TRY(cy_session_enter(session, "carry_state_open"));
    carry_status status = open_state(session, state);
    cy_session_leave(session);
    return status;
}

carry_status carry_state_close(carry_session *session, carry_state *state)
{
    CY_CHECK(state, CARRY_E_ARGUMENT, "carry_state_close: state is NULL");
    CY_TRY(cy_session_enter(session, "carry_state_close"));
    carry_status status = CARRY_OK;
    if (state->id != 0) {
        cy_slot *slot;
        status = cy_pool_find(&session->pool, *state, &slot);
        if (status == CARRY_OK) {
            cy_pool_give(&session->pool, slot);
            state->id = 0;
        }
    }
    cy_session_leave(session);
    return status;
}

carry_status carry_state_reset(carry_session *session, carry_state state)
{
    CY_TRY(cy_session_enter(session, "carry_state_reset"));
    cy_slot *slot;
    carry_status status = cy_pool_find(&session->pool, state, &slot);
    if (status == CARRY_OK) {
        cy_pool_tick(&session->pool);
        cy_slot_clear(&session->pool, slot);
    }
    cy_session_leave(session);
    return status;
}

static carry_status find_tensor(carry_session *session, size_t index, const void *values,
                                size_t count, const cy_state_tensor **tensor)
{
    const cy_graph *graph = session->model->graph;
    CY_CHECK(index < graph->state_count, CARRY_E_ARGUMENT, "state tensor %zu of %u",
             index, graph->state_count);
    *tensor = &graph->states[index];
    CY_CHECK(values, CARRY_E_ARGUMENT, "values is NULL");
    CY_CHECK(count == (*tensor)->width, CARRY_E_ARGUMENT,
             "%s/%s has %llu numbers, %zu were given", graph->nodes[(*tensor)->node].name,
             (*tensor)->name, (unsigned long long)(*tensor)->width, count);
    return CARRY_OK;
}

static carry_status read_tensor(carry_session *session, carry_state state, size_t index,
                                float *values, size_t count)
{
    const cy_state_tensor *tensor;
    cy_slot *slot;
    CY_TRY(cy_pool_find(&session->pool, state, &slot));
    CY_TRY(find_tensor(session, index, values, count, &tensor));
    const float *memory = cy_slot_read(slot);
    if (!memory) {
        memset(values, 0, count * sizeof *values);
        return CARRY_OK;
    }
    return session->backend->memory_read(session->device_session, values,
                                         memory + tensor->offset, count);
}

carry_status carry_state_read(carry_session *session, carry_state state, size_t tensor,
                              float *values, size_t count)
{
    CY_TRY(cy_session_enter(session, "carry_state_read"));
    carry_status status = read_tensor(session, state, tensor, values, count);
    cy_session_leave(session);
    return status;
}

carry_status cy_slot_begin(carry_session *session, cy_slot *slot, float **next)
{
    const float *values = cy_slot_read(slot);
    size_t count = session->pool.state_floats;
    *next = cy_slot_write(&session->pool, slot);
    return values ? session->backend->memory_copy(session->device_session, *next, values,
                                                  count)
                  : session->backend->memory_clear(session->device_session, *next, count);
}

static carry_status write_tensor(carry_session *session, carry_state state, size_t index,
                                 const float *values, size_t count)
{
    const cy_state_tensor *tensor;
    cy_slot *slot;
    float *next;
    CY_TRY(cy_pool_find(&session->pool, state, &slot));
    CY_TRY(find_tensor(session, index, values, count, &tensor));
    CY_TRY(cy_slot_begin(session, slot, &next));
    CY_TRY(session->backend->memory_write(session->device_session, next + tensor->offset,
                                          values, count));
    cy_pool_tick(&session->pool);
    cy_slot_commit(&session->pool, slot);
    return CARRY_OK;
}

carry_status carry_state_write(carry_session *session, carry_state state, size_t tensor,
                               const float *values, size_t count)
{
    CY_TRY(cy_session_enter(session, "carry_state_write"));
    carry_status status = write_tensor(session, state, tensor, values, count);
    cy_session_leave(session);
    return status;
}
