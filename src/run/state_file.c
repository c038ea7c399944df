/* Saved states: safetensors with format, version, the model's fingerprint and layers, and a checksum. */
#include "base/mem.h"
#include "graph/safetensors.h"
#include "run/session.h"

#include <string.h>

#define FILE_VERSION "1"
#define NAME_BYTES   (CY_MAX_NAME + 8)

typedef struct wanted {
    carry_session *session;
    const cy_graph *graph;
    const carry_state *states;
    size_t count;
    const uint8_t *tensors; /* NULL: all */
} wanted;

static bool is_wanted(const wanted *w, uint32_t tensor)
{
    return !w->tensors || w->tensors[tensor];
}

static void tensor_name(const wanted *w, uint32_t tensor, char *name)
{
    const cy_state_tensor *state = &w->graph->states[tensor];
    snprintf(name, NAME_BYTES, "%s/%s", w->graph->nodes[state->node].name, state->name);
}

/* ---- saving --------------------------------------------------------------------------------- */

static carry_status read_states(const wanted *w, const cy_st_tensor *list,
                                const uint32_t *indices, size_t listed)
{
    const cy_pool *pool = &w->session->pool;
    for (size_t row = 0; row < w->count; row++) {
        cy_slot *slot;
        CY_TRY(cy_pool_find(pool, w->states[row], &slot));
        const float *memory = cy_slot_read(slot);
        if (!memory) continue; /* the block is zeros already */
        for (size_t i = 0; i < listed; i++) {
            const cy_state_tensor *tensor = &w->graph->states[indices[i]];
            float *to = (float *)(void *)list[i].data + row * tensor->width;
            CY_TRY(w->session->backend->memory_read(
                w->session->device_session, to, memory + tensor->offset, tensor->width));
        }
    }
    return CARRY_OK;
}

static carry_status write_file(const wanted *w, cy_st_writer *writer)
{
    uint32_t most = w->graph->state_count;
    cy_st_tensor *list = cy_alloc(most * sizeof *list);
    uint32_t *indices = cy_alloc(most * sizeof *indices);
    char *names = cy_alloc((size_t)most * NAME_BYTES);
    json_t *metadata = json_pack("{s:s, s:s, s:s, s:s}", "carry.kind", "state",
                                 "carry.version", FILE_VERSION, "carry.fingerprint",
                                 w->graph->fingerprint, "carry.layers", w->graph->layers);
    carry_status status = CARRY_OK;
    if (!list || !indices || !names || !metadata)
        status = cy_fail(CARRY_E_MEMORY, "out of memory saving %u state tensors", most);
    size_t listed = 0;
    for (uint32_t i = 0; status == CARRY_OK && i < most; i++) {
        if (!is_wanted(w, i)) continue;
        char *name = names + listed * NAME_BYTES;
        tensor_name(w, i, name);
        list[listed] = (cy_st_tensor){
            .name = name, .rank = 2, .shape = {w->count, w->graph->states[i].width}};
        indices[listed++] = i;
    }
    if (status == CARRY_OK)
        status = cy_safetensors_layout(writer, metadata, list, listed);
    if (status == CARRY_OK) status = read_states(w, list, indices, listed);
    if (status == CARRY_OK) status = cy_safetensors_seal(writer);
    json_decref(metadata);
    cy_free(names);
    cy_free(indices);
    cy_free(list);
    return status;
}

static carry_status save_states(const wanted *w, void *buffer, size_t capacity,
                                size_t *bytes)
{
    cy_slot *slot;
    for (size_t i = 0; i < w->count;
         i++) /* refuse a bad handle before anything is written */
        CY_TRY(cy_pool_find(&w->session->pool, w->states[i], &slot));
    cy_st_writer writer = {0};
    carry_status status = write_file(w, &writer);
    if (status == CARRY_OK) {
        *bytes = writer.bytes;
        if (buffer && capacity < writer.bytes)
            status =
                cy_fail(CARRY_E_CAPACITY, "%zu states need %zu bytes, the buffer has %zu",
                        w->count, writer.bytes, capacity);
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
    wanted w = {session, session->model->graph, states, count, tensors};
    carry_status status = save_states(&w, buffer, capacity, bytes);
    cy_session_leave(session);
    return status;
}

/* ---- restoring ------------------------------------------------------------------------------ */

static size_t line_length(const char *text)
{
    return strcspn(text, "\n");
}

/* The first layer in which the two models differ. */
static carry_status name_difference(const char *saved, const char *own)
{
    for (int line = 0; *saved && *own; line++) {
        size_t a = line_length(saved), b = line_length(own);
        if (a != b || memcmp(saved, own, a) != 0)
            return cy_fail(
                CARRY_E_MISMATCH,
                "saved by another model: line %d of its layers is '%.*s', here it is "
                "'%.*s'",
                line, (int)(a < 200 ? a : 200), saved, (int)(b < 200 ? b : 200), own);
        saved += a + (saved[a] == '\n');
        own += b + (own[b] == '\n');
    }
    const char *more = *saved ? saved : own;
    return cy_fail(CARRY_E_MISMATCH, "saved by another model: '%.*s' is in %s only",
                   (int)line_length(more), more, *saved ? "the saved one" : "this one");
}

static carry_status check_metadata(const wanted *w, const cy_safetensors *file)
{
    const char *kind = cy_safetensors_metadata(file, "carry.kind");
    CY_CHECK(!kind || strcmp(kind, "state") == 0, CARRY_E_FORMAT,
             "this file holds a '%s', expected a state", kind);
    const char *version = cy_safetensors_metadata(file, "carry.version");
    CY_CHECK(!version || strcmp(version, FILE_VERSION) == 0, CARRY_E_UNSUPPORTED,
             "the saved state has version '%s', this carry reads version " FILE_VERSION,
             version);
    CY_CHECK(!kind || cy_safetensors_metadata(file, "carry.checksum"), CARRY_E_FORMAT,
             "the saved state has no carry.checksum, which every state that carry saves "
             "has: it is damaged");
    CY_TRY(cy_safetensors_verify(file));
    const char *fingerprint = cy_safetensors_metadata(file, "carry.fingerprint");
    if (!fingerprint || strcmp(fingerprint, w->graph->fingerprint) == 0) return CARRY_OK;
    const char *layers = cy_safetensors_metadata(file, "carry.layers");
    if (layers && strcmp(layers, w->graph->layers) != 0)
        return name_difference(layers, w->graph->layers);
    return cy_fail(CARRY_E_MISMATCH,
                   "saved by a model with fingerprint %s, this one has %s", fingerprint,
                   w->graph->fingerprint);
}

static carry_status check_tensor(const wanted *w, const cy_safetensors *file,
                                 uint32_t index)
{
    char name[NAME_BYTES];
    tensor_name(w, index, name);
    const cy_st_tensor *tensor = cy_safetensors_find(file, name);
    CY_CHECK(tensor, CARRY_E_MISMATCH, "tensor '%s' is missing from the saved state",
             name);
    uint64_t width = w->graph->states[index].width;
    CY_CHECK(strcmp(tensor->dtype, "F32") == 0, CARRY_E_MISMATCH,
             "tensor '%s' has dtype %s, expected F32", name, tensor->dtype);
    CY_CHECK(tensor->rank == 2, CARRY_E_MISMATCH, "tensor '%s' has %u axes, expected 2",
             name, tensor->rank);
    CY_CHECK(tensor->shape[0] == w->count && tensor->shape[1] == width, CARRY_E_MISMATCH,
             "tensor '%s' is [%llu, %llu], expected [%zu, %llu]: states, units", name,
             (unsigned long long)tensor->shape[0], (unsigned long long)tensor->shape[1],
             w->count, (unsigned long long)width);
    return CARRY_OK;
}

static carry_status check_extra(const wanted *w, const cy_safetensors *file)
{
    for (size_t i = 0; i < file->count; i++) {
        bool known = false;
        for (uint32_t k = 0; k < w->graph->state_count && !known; k++) {
            char name[NAME_BYTES];
            tensor_name(w, k, name);
            known = is_wanted(w, k) && strcmp(name, file->tensors[i].name) == 0;
        }
        CY_CHECK(known, CARRY_E_MISMATCH,
                 "tensor '%s' of the saved state has no place here",
                 file->tensors[i].name);
    }
    return CARRY_OK;
}

/* A row's tensor may lie unaligned in the file: it goes through `values`. */
static carry_status fill_slot(const wanted *w, const cy_safetensors *file, size_t row,
                              cy_slot *slot, float *values)
{
    float *next;
    CY_TRY(cy_slot_begin(w->session, slot, &next));
    for (uint32_t i = 0; i < w->graph->state_count; i++) {
        if (!is_wanted(w, i)) continue;
        char name[NAME_BYTES];
        tensor_name(w, i, name);
        const cy_state_tensor *tensor = &w->graph->states[i];
        const cy_st_tensor *saved = cy_safetensors_find(file, name);
        size_t bytes = tensor->width * sizeof(float);
        memcpy(values, saved->data + row * bytes, bytes);
        CY_TRY(w->session->backend->memory_write(
            w->session->device_session, next + tensor->offset, values, tensor->width));
    }
    return CARRY_OK;
}

static carry_status restore_states(const wanted *w, const cy_safetensors *file)
{
    CY_TRY(check_metadata(w, file));
    for (uint32_t i = 0; i < w->graph->state_count; i++)
        if (is_wanted(w, i)) CY_TRY(check_tensor(w, file, i));
    CY_TRY(check_extra(w, file));
    cy_slot *slot;
    w->session->pool.call++;
    for (size_t row = 0; row < w->count; row++)
        CY_TRY(cy_session_mark(w->session, w->states[row], &slot));

    uint64_t widest = 1;
    for (uint32_t i = 0; i < w->graph->state_count; i++)
        if (w->graph->states[i].width > widest) widest = w->graph->states[i].width;
    float *values = cy_alloc(widest * sizeof *values);
    CY_CHECK(values, CARRY_E_MEMORY, "out of memory restoring %zu states", w->count);
    carry_status status = CARRY_OK;
    for (size_t row = 0; status == CARRY_OK && row < w->count; row++) {
        cy_pool_find(&w->session->pool, w->states[row], &slot);
        status = fill_slot(w, file, row, slot, values);
    }
    cy_free(values);
    cy_pool_tick(&w->session->pool);
    for (size_t row = 0; status == CARRY_OK && row < w->count; row++) {
        cy_pool_find(&w->session->pool, w->states[row], &slot);
        cy_slot_commit(&w->session->pool, slot);
    }
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
    cy_safetensors file;
    carry_status status = cy_safetensors_open(&file, data, bytes);
    if (status == CARRY_OK) {
        wanted w = {session, session->model->graph, states, count, tensors};
        status = restore_states(&w, &file);
        cy_safetensors_close(&file);
    }
    cy_session_leave(session);
    return status;
}
