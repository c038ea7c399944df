/* States saved to memory, and restored from it: the file is as in state_format.h. */
#include "base/mem.h"
#include "run/state_format.h"

#include <string.h>

/* ---- saving --------------------------------------------------------------------------------- */

static carry_status write_file(cy_state_table *table, const carry_state *states,
                               cy_st_writer *writer)
{
    json_t *metadata = cy_state_metadata(table->session->model->graph);
    carry_status status =
        metadata ? cy_safetensors_layout(writer, metadata, table->list, table->listed)
                 : cy_fail(CARRY_E_MEMORY, "out of memory saving %llu states",
                           (unsigned long long)table->count);
    json_decref(metadata);
    CY_TRY(status);
    CY_TRY(cy_state_rows_read(table, states, table->count));
    return cy_safetensors_seal(writer);
}

static carry_status save_states(carry_session *session, const carry_state *states,
                                size_t count, const uint8_t *tensors, void *buffer,
                                size_t capacity, size_t *bytes)
{
    cy_slot *slot;
    for (size_t i = 0; i < count; i++) /* a bad handle first: nothing is written then */
        CY_TRY(cy_pool_find(&session->pool, states[i], &slot));
    cy_state_table table;
    CY_TRY(cy_state_table_open(&table, session, count, tensors));
    cy_st_writer writer = {0};
    carry_status status = write_file(&table, states, &writer);
    cy_state_table_close(&table);
    if (status == CARRY_OK) {
        *bytes = writer.bytes;
        if (buffer && capacity < writer.bytes)
            status =
                cy_fail(CARRY_E_CAPACITY, "%zu states need %zu bytes, the buffer has %zu",
                        count, writer.bytes, capacity);
        else if (buffer) memcpy(buffer, writer.block, writer.bytes);
    }
    cy_free(writer.block);
    return status;
}

carry_status carry_states_save(carry_session *session, const carry_state *states,
                               size_t count, const uint8_t *tensors, void *buffer,
                               size_t capacity, size_t *bytes)
{
    CY_CHECK(bytes, CARRY_E_ARGUMENT, "carry_states_save: bytes is NULL");
    *bytes = 0;
    CY_CHECK(states && count >= 1 && count <= CY_MAX_STATES, CARRY_E_ARGUMENT,
             "carry_states_save: %zu states, expected 1 to %u", states ? count : 0,
             CY_MAX_STATES);
    CY_TRY(cy_session_enter(session, "carry_states_save"));
    carry_status status =
        save_states(session, states, count, tensors, buffer, capacity, bytes);
    cy_session_leave(session);
    return status;
}

/* ---- restoring ------------------------------------------------------------------------------ */

static carry_status restore_states(cy_state_table *table, const carry_state *states,
                                   const cy_safetensors *file)
{
    cy_pool *pool = &table->session->pool;
    CY_TRY(cy_state_check_kind(file));
    CY_TRY(cy_safetensors_verify(file));
    CY_TRY(cy_state_check_model(file, table->session->model->graph));
    CY_TRY(cy_state_check_tensors(table, file));
    cy_slot *slot;
    pool->call++;
    for (size_t row = 0; row < table->count; row++)
        CY_TRY(cy_session_mark(table->session, states[row], &slot));
    CY_TRY(cy_state_rows_write(table, states, table->count));
    cy_pool_tick(pool);
    for (size_t row = 0; row < table->count; row++) {
        cy_pool_find(pool, states[row], &slot);
        cy_slot_commit(pool, slot);
    }
    return CARRY_OK;
}

static carry_status restore_file(carry_session *session, const carry_state *states,
                                 size_t count, const uint8_t *tensors, const void *data,
                                 size_t bytes)
{
    cy_safetensors file;
    cy_state_table table;
    CY_TRY(cy_safetensors_open(&file, data, bytes));
    carry_status status = cy_state_table_open(&table, session, count, tensors);
    if (status == CARRY_OK) {
        status = restore_states(&table, states, &file);
        cy_state_table_close(&table);
    }
    cy_safetensors_close(&file);
    return status;
}

carry_status carry_states_restore(carry_session *session, const carry_state *states,
                                  size_t count, const uint8_t *tensors, const void *data,
                                  size_t bytes)
{
    CY_CHECK(data, CARRY_E_ARGUMENT, "carry_states_restore: data is NULL");
    CY_CHECK(states && count >= 1 && count <= CY_MAX_STATES, CARRY_E_ARGUMENT,
             "carry_states_restore: %zu states, expected 1 to %u", states ? count : 0,
             CY_MAX_STATES);
    CY_TRY(cy_session_enter(session, "carry_states_restore"));
    carry_status status = restore_file(session, states, count, tensors, data, bytes);
    cy_session_leave(session);
    return status;
}
