/* States saved to memory, and restored from it: the file is as in state_format.h. */
#include "base/mem.h"
#include "run/state_format.h"

#include <string.h>

/* ---- saving --------------------------------------------------------------------------------- */

static carry_status measure(cy_state_table *table, json_t *metadata, size_t *bytes)
{
    unsigned char *header;
    CY_TRY(cy_safetensors_header(metadata, table->list, table->listed, &header, bytes));
    cy_free(header);
    for (size_t i = 0; i < table->listed; i++)
        *bytes += table->list[i].bytes;
    return CARRY_OK;
}

/* Into a block of its own: where saving fails, the caller's buffer is as it was. */
static carry_status write_file(cy_state_table *table, json_t *metadata,
                               const carry_state *states, void *buffer)
{
    cy_st_writer writer;
    CY_TRY(cy_safetensors_layout(&writer, metadata, table->list, table->listed));
    carry_status status = cy_state_rows_read(table, states, table->count);
    if (status == CARRY_OK) status = cy_safetensors_seal(&writer);
    if (status == CARRY_OK) memcpy(buffer, writer.block, writer.bytes);
    cy_free(writer.block);
    return status;
}

static carry_status save_table(cy_state_table *table, const carry_state *states,
                               void *buffer, size_t capacity, size_t *bytes)
{
    json_t *metadata = cy_state_metadata(table->session->model->graph);
    CY_CHECK(metadata, CARRY_E_MEMORY, "out of memory saving %llu states",
             (unsigned long long)table->count);
    carry_status status = measure(table, metadata, bytes);
    if (status == CARRY_OK && buffer)
        status = *bytes <= capacity
                     ? write_file(table, metadata, states, buffer)
                     : cy_fail(CARRY_E_CAPACITY,
                               "%llu states need %zu bytes, the buffer has %zu",
                               (unsigned long long)table->count, *bytes, capacity);
    if (status != CARRY_OK && status != CARRY_E_CAPACITY) *bytes = 0;
    json_decref(metadata);
    return status;
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
    carry_status status = save_table(&table, states, buffer, capacity, bytes);
    cy_state_table_close(&table);
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
