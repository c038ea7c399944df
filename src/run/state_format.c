#include "run/state_format.h"

#include "base/mem.h"

#include <string.h>

#define FILE_VERSION   "2"
#define OLD_VERSION    "1" /* the same but for its checksum: FNV-1a */
#define NAME_BYTES     (CY_MAX_NAME + 8)
#define VERSIONS_BYTES ((uint64_t)1 << 20)

/* ---- the table ------------------------------------------------------------------------------ */

static void list_tensors(cy_state_table *table, const cy_graph *graph,
                         const uint8_t *tensors)
{
    for (uint32_t i = 0; i < graph->state_count; i++) {
        if (tensors && !tensors[i]) continue;
        const cy_state_tensor *state = &graph->states[i];
        char *name = table->names + table->listed * NAME_BYTES;
        snprintf(name, NAME_BYTES, "%s/%s", graph->nodes[state->node].name, state->name);
        table->list[table->listed] =
            (cy_st_tensor){.name = name,
                           .dtype = "F32",
                           .rank = 2,
                           .shape = {table->count, state->width}};
        table->indices[table->listed++] = i;
    }
}

/* At least one; no more than there are. */
static size_t room_of(const cy_graph *graph, uint64_t count)
{
    uint64_t room = VERSIONS_BYTES / (graph->state_floats * sizeof(float) + 1);
    if (room > count) room = count;
    return room > 0 ? (size_t)room : 1;
}

carry_status cy_state_table_open(cy_state_table *table, carry_session *session,
                                 uint64_t count, const uint8_t *tensors)
{
    const cy_graph *graph = session->model->graph;
    size_t most = graph->state_count;
    *table = (cy_state_table){
        .session = session, .count = count, .room = room_of(graph, count)};
    table->list = cy_alloc((most + 1) * sizeof *table->list);
    table->indices = cy_alloc(most * sizeof *table->indices);
    table->names = cy_alloc(most * NAME_BYTES);
    table->versions =
        cy_alloc(table->room * graph->state_floats * sizeof *table->versions);
    table->places = cy_alloc(table->room * sizeof *table->places);
    if (table->list && table->indices && table->names && table->versions &&
        table->places) {
        list_tensors(table, graph, tensors);
        return CARRY_OK;
    }
    cy_state_table_close(table);
    return cy_fail(CARRY_E_MEMORY, "out of memory listing %zu state tensors", most);
}

void cy_state_table_close(cy_state_table *table)
{
    cy_free(table->places);
    cy_free(table->versions);
    cy_free(table->names);
    cy_free(table->indices);
    cy_free(table->list);
    *table = (cy_state_table){0};
}

uint64_t cy_state_row_bytes(const cy_state_table *table)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < table->listed; i++)
        bytes += table->list[i].shape[1] * sizeof(float);
    return bytes;
}

/* ---- metadata ------------------------------------------------------------------------------- */

json_t *cy_state_metadata(const cy_graph *graph)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "carry.kind", "state", "carry.version",
                     FILE_VERSION, "carry.fingerprint", graph->fingerprint,
                     "carry.layers", graph->layers);
}

carry_status cy_state_check_kind(const cy_safetensors *file)
{
    const char *kind = cy_safetensors_metadata(file, "carry.kind");
    CY_CHECK(!kind || strcmp(kind, "state") == 0, CARRY_E_FORMAT,
             "this file holds a '%s', expected a state", kind);
    const char *version = cy_safetensors_metadata(file, "carry.version");
    CY_CHECK(!version || strcmp(version, FILE_VERSION) == 0 ||
                 strcmp(version, OLD_VERSION) == 0,
             CARRY_E_UNSUPPORTED,
             "the saved state has version '%s', this carry reads versions " OLD_VERSION
             " and " FILE_VERSION,
             version);
    CY_CHECK(!kind || cy_safetensors_metadata(file, "carry.checksum"), CARRY_E_FORMAT,
             "the saved state has no carry.checksum, which every state that carry saves "
             "has: it is damaged");
    return CARRY_OK;
}

static size_t line_length(const char *text)
{
    return strcspn(text, "\n");
}

carry_status cy_state_difference(const char *what, const char *other, const char *own)
{
    for (int line = 0; *other && *own; line++) {
        size_t a = line_length(other), b = line_length(own);
        if (a != b || memcmp(other, own, a) != 0)
            return cy_fail(CARRY_E_MISMATCH,
                           "%s: line %d of its layers is '%.*s', here it is '%.*s'", what,
                           line, (int)(a < 200 ? a : 200), other,
                           (int)(b < 200 ? b : 200), own);
        other += a + (other[a] == '\n');
        own += b + (own[b] == '\n');
    }
    const char *more = *other ? other : own;
    return cy_fail(CARRY_E_MISMATCH, "%s: '%.*s' is %s", what, (int)line_length(more),
                   more, *other ? "there only" : "here only");
}

carry_status cy_state_check_model(const cy_safetensors *file, const cy_graph *graph)
{
    const char *fingerprint = cy_safetensors_metadata(file, "carry.fingerprint");
    if (!fingerprint || strcmp(fingerprint, graph->fingerprint) == 0) return CARRY_OK;
    const char *layers = cy_safetensors_metadata(file, "carry.layers");
    if (layers && strcmp(layers, graph->layers) != 0)
        return cy_state_difference("saved by another model", layers, graph->layers);
    return cy_fail(CARRY_E_MISMATCH,
                   "saved by a model with fingerprint %s, this one has %s", fingerprint,
                   graph->fingerprint);
}

/* ---- tensors of a file ---------------------------------------------------------------------- */

static carry_status check_tensor(const cy_state_table *table, cy_st_tensor *wanted,
                                 const cy_safetensors *file)
{
    const cy_st_tensor *tensor = cy_safetensors_find(file, wanted->name);
    unsigned long long width = wanted->shape[1];
    CY_CHECK(tensor, CARRY_E_MISMATCH, "tensor '%s' is missing from the saved state",
             wanted->name);
    CY_CHECK(strcmp(tensor->dtype, "F32") == 0, CARRY_E_MISMATCH,
             "tensor '%s' has dtype %s, expected F32", tensor->name, tensor->dtype);
    CY_CHECK(tensor->rank == 2, CARRY_E_MISMATCH, "tensor '%s' has %u axes, expected 2",
             tensor->name, tensor->rank);
    CY_CHECK(
        tensor->shape[0] == table->count && tensor->shape[1] == width, CARRY_E_MISMATCH,
        "tensor '%s' is [%llu, %llu], expected [%llu, %llu]: states, units", tensor->name,
        (unsigned long long)tensor->shape[0], (unsigned long long)tensor->shape[1],
        (unsigned long long)table->count, width);
    *wanted = *tensor;
    return CARRY_OK;
}

static carry_status check_keys(cy_state_table *table, const cy_st_tensor *keys)
{
    CY_CHECK(strcmp(keys->dtype, "I64") == 0 && keys->rank == 1 &&
                 keys->shape[0] == table->count,
             CARRY_E_MISMATCH,
             "tensor '%s' is %s of %u axes, %llu first; expected "
             "I64 [%llu]",
             keys->name, keys->dtype, keys->rank,
             keys->rank ? (unsigned long long)keys->shape[0] : 0,
             (unsigned long long)table->count);
    table->list[table->listed] = *keys;
    table->keys = &table->list[table->listed];
    return CARRY_OK;
}

carry_status cy_state_check_tensors(cy_state_table *table, const cy_safetensors *file)
{
    for (size_t i = 0; i < table->listed; i++)
        CY_TRY(check_tensor(table, &table->list[i], file));
    for (size_t i = 0; i < file->count; i++) {
        const char *name = file->tensors[i].name;
        bool known = strcmp(name, CY_STATE_KEYS) == 0;
        if (known) CY_TRY(check_keys(table, &file->tensors[i]));
        for (size_t k = 0; k < table->listed && !known; k++)
            known = strcmp(name, table->list[k].name) == 0;
        CY_CHECK(known, CARRY_E_MISMATCH,
                 "tensor '%s' of the saved state has no place here", name);
    }
    return CARRY_OK;
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Of `rows` rows from `first` on; what the versions have between and behind the listed tensors stays. */
static void rows_from_versions(const cy_state_table *table, size_t first, size_t rows)
{
    const cy_graph *graph = table->session->model->graph;
    for (size_t i = 0; i < table->listed; i++) {
        const float *from = table->versions + graph->states[table->indices[i]].offset;
        size_t bytes = table->list[i].shape[1] * sizeof(float);
        unsigned char *to = (unsigned char *)table->list[i].data + first * bytes;
        for (size_t row = 0; row < rows; row++)
            memcpy(to + row * bytes, from + row * graph->state_floats, bytes);
    }
}

/* Rows may lie unaligned: in a file in memory. */
static void rows_to_versions(const cy_state_table *table, size_t first, size_t rows)
{
    const cy_graph *graph = table->session->model->graph;
    for (size_t i = 0; i < table->listed; i++) {
        float *to = table->versions + graph->states[table->indices[i]].offset;
        size_t bytes = table->list[i].shape[1] * sizeof(float);
        const unsigned char *from = table->list[i].data + first * bytes;
        for (size_t row = 0; row < rows; row++)
            memcpy(to + row * graph->state_floats, from + row * bytes, bytes);
    }
}

/* Where the states stand now, to table->versions. */
static carry_status gather(const cy_state_table *table, const carry_state *states,
                           size_t rows)
{
    carry_session *session = table->session;
    for (size_t row = 0; row < rows; row++) {
        cy_slot *slot;
        CY_TRY(cy_pool_find(&session->pool, states[row], &slot));
        table->places[row] = (float *)cy_slot_read(slot);
    }
    return session->backend->memory_gather(session->device_session, table->versions,
                                           (const float *const *)table->places, rows);
}

carry_status cy_state_rows_read(const cy_state_table *table, const carry_state *states,
                                size_t count)
{
    for (size_t row = 0, rows; row < count && table->listed > 0; row += rows) {
        rows = count - row < table->room ? count - row : table->room;
        CY_TRY(gather(table, states + row, rows));
        rows_from_versions(table, row, rows);
    }
    return CARRY_OK;
}

/* Between the tensors a version has padding, which nobody looks at: here it is zeros, or as it was. */
carry_status cy_state_rows_write(const cy_state_table *table, const carry_state *states,
                                 size_t count)
{
    carry_session *session = table->session;
    const bool whole = table->listed == session->model->graph->state_count;
    for (size_t row = 0, rows; row < count; row += rows) {
        rows = count - row < table->room ? count - row : table->room;
        if (!whole) CY_TRY(gather(table, states + row, rows));
        rows_to_versions(table, row, rows);
        for (size_t i = 0; i < rows; i++) {
            cy_slot *slot;
            CY_TRY(cy_pool_find(&session->pool, states[row + i], &slot));
            table->places[i] = cy_slot_write(&session->pool, slot);
        }
        if (session->pool.state_floats > 0)
            CY_TRY(session->backend->memory_scatter(
                session->device_session, table->places, table->versions, rows));
    }
    return CARRY_OK;
}
