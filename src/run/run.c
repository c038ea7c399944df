/* carry_run: checks the batch, turns states into slots, calls the backend once per group of rows, and
 * commits by taking their new versions. Nothing moves before every group has succeeded. */
#include "base/sized.h"
#include "run/session.h"

#include <string.h>

typedef struct call {
    carry_session *session;
    const cy_graph *graph;
    carry_batch batch;  /* max_steps: the longest row's room, whatever the caller said */
    uint64_t all_steps; /* rooms of all rows: B * T, or row_offsets[B] */
    carry_array input;
} call;

/* ---- the arguments of the whole call -------------------------------------------------------- */

static size_t element_bytes(carry_dtype dtype)
{
    return dtype == CARRY_F16 || dtype == CARRY_BF16 ? 2 : 4;
}

/* items * width as bytes; false when that is more than memory can hold. */
static bool array_bytes(size_t items, uint64_t width, carry_dtype dtype, size_t *bytes)
{
    return !__builtin_mul_overflow(items, (size_t)width, bytes) &&
           !__builtin_mul_overflow(*bytes, element_bytes(dtype), bytes);
}

static carry_status check_place(const call *c, const carry_array *array, const char *what,
                                size_t index)
{
    CY_CHECK(array->place >= CARRY_HOST && array->place <= CARRY_DEVICE, CARRY_E_ARGUMENT,
             "%s %zu has place %d, which is not known", what, index, (int)array->place);
    CY_CHECK(array->place != CARRY_DEVICE || c->session->backend->takes_device_memory,
             CARRY_E_ARGUMENT, "%s %zu is in device memory, the model is on '%s'", what,
             index, c->session->model->device);
    CY_CHECK(
        !(c->batch.flags & CARRY_ASYNC) || array->place != CARRY_HOST ||
            !c->session->backend->takes_device_memory,
        CARRY_E_ARGUMENT,
        "%s %zu is in ordinary host memory; CARRY_ASYNC takes pinned or device memory",
        what, index);
    return CARRY_OK;
}

static carry_status check_array(const call *c, const carry_array *array, const char *what,
                                size_t index, carry_dtype dtype, size_t items,
                                const char *unit, uint64_t width)
{
    size_t needed;
    CY_TRY(check_place(c, array, what, index));
    bool is_half = array->dtype == CARRY_F16 || array->dtype == CARRY_BF16;
    CY_CHECK(array->dtype == dtype || (is_half && dtype == CARRY_F32), CARRY_E_ARGUMENT,
             "%s %zu has dtype %d, expected %s", what, index, (int)array->dtype,
             dtype == CARRY_I32 ? "CARRY_I32" : "CARRY_F32");
    CY_CHECK(!is_half || array->place == CARRY_DEVICE, CARRY_E_ARGUMENT,
             "%s %zu has dtype %s in host memory; only device memory takes it", what,
             index, array->dtype == CARRY_F16 ? "CARRY_F16" : "CARRY_BF16");
    CY_CHECK(array_bytes(items, width, array->dtype, &needed), CARRY_E_ARGUMENT,
             "%s %zu: %zu %s of %llu numbers are more than memory can hold", what, index,
             items, unit, (unsigned long long)width);
    CY_CHECK(array->bytes >= needed, CARRY_E_CAPACITY,
             "%s %zu has %zu bytes, %zu %s of %llu numbers need %zu", what, index,
             array->bytes, items, unit, (unsigned long long)width, needed);
    CY_CHECK((uintptr_t)array->data % element_bytes(array->dtype) == 0, CARRY_E_ARGUMENT,
             "%s %zu is not aligned to %zu bytes", what, index,
             element_bytes(array->dtype));
    return CARRY_OK;
}

/* Element `index` of an array of the caller's structs, whose stride is the size they state. */
static carry_status read_array(const carry_array *arrays, size_t index,
                               carry_array *array)
{
    const char *at = (const char *)arrays + index * arrays->size;
    return cy_sized_read(array, sizeof *array, at, "carry_array");
}

static carry_status check_input(call *c)
{
    const carry_batch *batch = &c->batch;
    CY_CHECK(batch->inputs && batch->input_count == 1, CARRY_E_ARGUMENT,
             "carry_run: %zu inputs given, the model has 1",
             batch->inputs ? batch->input_count : 0);
    CY_TRY(read_array(batch->inputs, 0, &c->input));
    CY_CHECK(c->input.data, CARRY_E_ARGUMENT, "carry_run: input 0 is NULL");
    return check_array(c, &c->input, "input", 0,
                       c->graph->input.ids ? CARRY_I32 : CARRY_F32, c->all_steps, "steps",
                       c->graph->input.width);
}

static carry_status check_outputs(call *c)
{
    const carry_batch *batch = &c->batch;
    const cy_graph *graph = c->graph;
    CY_CHECK(batch->output_count <= graph->output_count, CARRY_E_ARGUMENT,
             "carry_run: %zu outputs given, the model has %u", batch->output_count,
             graph->output_count);
    CY_CHECK(batch->outputs || batch->output_count == 0, CARRY_E_ARGUMENT,
             "carry_run: outputs is NULL");
    for (uint32_t i = 0; i < graph->output_count; i++) {
        cy_run_output *output = &c->session->outputs[i];
        bool has_time = cy_graph_has_time(graph, graph->outputs[i]);
        *output = (cy_run_output){.all_steps = has_time};
        if (i >= batch->output_count) continue;
        carry_array array;
        CY_TRY(read_array(batch->outputs, i, &array));
        if (!array.data) continue;
        CY_CHECK(has_time || batch->mode != CARRY_STEPS_ALL, CARRY_E_ARGUMENT,
                 "carry_run: CARRY_STEPS_ALL, but output %u ('%s') has no time axis", i,
                 graph->nodes[graph->outputs[i].node].name);
        output->data = array.data;
        output->dtype = array.dtype;
        output->place = array.place;
        output->all_steps = has_time && batch->mode != CARRY_STEPS_LAST;
        CY_TRY(check_array(c, &array, "output", i, CARRY_F32,
                           output->all_steps ? c->all_steps : batch->rows,
                           output->all_steps ? "steps" : "rows",
                           cy_graph_width(graph, graph->outputs[i])));
    }
    return CARRY_OK;
}

/* Packed rows: how long the longest is, and all together. */
static carry_status measure_packed(call *c)
{
    const uint64_t *offsets = c->batch.row_offsets;
    size_t stated = c->batch.max_steps;
    uint64_t longest = 0;
    for (size_t row = 0; row < c->batch.rows; row++) {
        CY_CHECK(offsets[row] <= offsets[row + 1], CARRY_E_ARGUMENT,
                 "carry_run: row_offsets falls from %llu to %llu behind row %zu",
                 (unsigned long long)offsets[row], (unsigned long long)offsets[row + 1],
                 row);
        uint64_t steps = offsets[row + 1] - offsets[row];
        if (steps > longest) longest = steps;
    }
    CY_CHECK(stated == 0 || longest <= stated, CARRY_E_ARGUMENT,
             "carry_run: row_offsets gives a row %llu steps, max_steps is %zu",
             (unsigned long long)longest, stated);
    CY_CHECK(longest <= UINT32_MAX, CARRY_E_ARGUMENT,
             "carry_run: row_offsets gives a row %llu steps; %u are the most",
             (unsigned long long)longest, UINT32_MAX);
    c->batch.max_steps = longest;
    c->all_steps = offsets[c->batch.rows];
    return CARRY_OK;
}

static carry_status measure_steps(call *c)
{
    const carry_batch *batch = &c->batch;
    CY_CHECK(batch->rows <= UINT32_MAX, CARRY_E_ARGUMENT,
             "carry_run: %zu rows; %u are the most", batch->rows, UINT32_MAX);
    if (batch->row_offsets) return measure_packed(c);
    CY_CHECK(batch->max_steps >= 1, CARRY_E_ARGUMENT,
             "carry_run: max_steps is 0; a call needs at least one time step");
    CY_CHECK(batch->max_steps <= UINT32_MAX, CARRY_E_ARGUMENT,
             "carry_run: rows of %zu steps; %u are the most", batch->max_steps,
             UINT32_MAX);
    c->all_steps = (uint64_t)batch->rows * batch->max_steps;
    return CARRY_OK;
}

static carry_status check_batch(call *c)
{
    const carry_batch *batch = &c->batch;
    CY_TRY(measure_steps(c));
    CY_CHECK(batch->mode == CARRY_STEPS_AS_MODEL || batch->mode == CARRY_STEPS_ALL ||
                 batch->mode == CARRY_STEPS_LAST,
             CARRY_E_ARGUMENT, "carry_run: mode %d is not known", (int)batch->mode);
    CY_CHECK(!(batch->flags & ~CARRY_ASYNC), CARRY_E_ARGUMENT,
             "carry_run: flags is %#x; CARRY_ASYNC (%#x) is the only one known",
             batch->flags, CARRY_ASYNC);
    uint32_t most = c->session->limits.max_steps;
    CY_CHECK(
        !c->graph->whole_sequence || batch->max_steps <= most, CARRY_E_ARGUMENT,
        "carry_run: %zu steps, but this whole-sequence model's session was opened for "
        "max_steps = %u",
        batch->max_steps, most);
    CY_TRY(check_input(c));
    return check_outputs(c);
}

/* ---- one row -------------------------------------------------------------------------------- */

static uint64_t row_first(const call *c, size_t row)
{
    return c->batch.row_offsets ? c->batch.row_offsets[row] : row * c->batch.max_steps;
}

static uint32_t row_span(const call *c, size_t row)
{
    const uint64_t *offsets = c->batch.row_offsets;
    return (uint32_t)(offsets ? offsets[row + 1] - offsets[row] : c->batch.max_steps);
}

static uint32_t row_steps(const call *c, size_t row)
{
    return c->batch.steps ? c->batch.steps[row] : row_span(c, row);
}

static bool row_has_state(const call *c, size_t row)
{
    return c->batch.states && c->batch.states[row].id != 0;
}

static carry_status check_ids(const call *c, size_t row, uint32_t steps)
{
    const int32_t *ids = (const int32_t *)c->input.data + row_first(c, row);
    for (uint32_t t = 0; t < steps; t++)
        CY_CHECK(ids[t] >= 0 && (uint64_t)ids[t] < c->graph->ids, CARRY_E_INPUT,
                 "row %zu, step %u: id %d is not in 0 .. %llu", row, t, ids[t],
                 (unsigned long long)c->graph->ids - 1);
    return CARRY_OK;
}

static carry_status check_row(const call *c, size_t row)
{
    uint32_t steps = row_steps(c, row);
    CY_CHECK(steps <= row_span(c, row), CARRY_E_ARGUMENT,
             "row %zu has %u steps, its place in the arrays %u", row, steps,
             row_span(c, row));
    if (row_has_state(c, row)) {
        cy_slot *slot;
        carry_status status = cy_session_mark(c->session, c->batch.states[row], &slot);
        if (status != CARRY_OK) return cy_fail(status, "row %zu: %s", row, cy_error());
    }
    bool readable = c->input.place != CARRY_DEVICE;
    return c->graph->input.ids && readable ? check_ids(c, row, steps) : CARRY_OK;
}

static carry_status check_rows(const call *c)
{
    c->session->pool.call++;
    for (size_t row = 0; row < c->batch.rows; row++) {
        carry_status status = check_row(c, row);
        if (c->batch.row_status) c->batch.row_status[row] = status;
        else if (status != CARRY_OK) return status;
    }
    return CARRY_OK;
}

/* A row that was refused runs as one of no steps, from zeros: its outputs are zeros. */
static cy_row make_row(const call *c, size_t row)
{
    cy_row made = {
        .index = (uint32_t)row, .span = row_span(c, row), .first = row_first(c, row)};
    if (c->batch.row_status && c->batch.row_status[row] != CARRY_OK) return made;
    made.steps = row_steps(c, row);
    if (!row_has_state(c, row)) return made;
    cy_pool *pool = &c->session->pool;
    cy_slot *slot;
    cy_pool_find(pool, c->batch.states[row], &slot); /* checked before */
    bool reset = made.steps > 0 && c->batch.reset && c->batch.reset[row];
    made.read = reset ? NULL : cy_slot_read(slot);
    if (made.steps > 0) made.write = cy_slot_write(pool, slot);
    return made;
}

/* ---- a group of rows ------------------------------------------------------------------------ */

static void sift_down(uint64_t *heap, size_t at, size_t count)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[at] <= heap[child]) return;
        uint64_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

/* Descending, in place: the C library's qsort may allocate. */
static void sort_descending(uint64_t *keys, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sift_down(keys, i, count);
    for (size_t end = count; end > 1; end--) {
        uint64_t least = keys[0];
        keys[0] = keys[end - 1];
        keys[end - 1] = least;
        sift_down(keys, 0, end - 1);
    }
}

/* Most steps first: at every time step the rows still running are then the first ones. */
static void order_rows(const call *c, size_t begin, size_t count)
{
    carry_session *session = c->session;
    bool sorted = true;
    for (size_t i = 0; i < count; i++) {
        cy_row row = make_row(c, begin + i);
        session->rows[i] = row;
        /* equal steps keep the caller's order: the smaller row has the larger key */
        session->order[i] = (uint64_t)row.steps << 32 | (UINT32_MAX - row.index);
        sorted = sorted && (i == 0 || session->order[i] <= session->order[i - 1]);
    }
    if (sorted) return;
    sort_descending(session->order, count);
    for (size_t i = 0; i < count; i++)
        session->rows[i] = make_row(c, UINT32_MAX - (uint32_t)session->order[i]);
}

static carry_status run_group(const call *c, size_t begin, size_t count)
{
    carry_session *session = c->session;
    order_rows(c, begin, count);
    cy_run run = {.rows = session->rows,
                  .row_count = (uint32_t)count,
                  .first_row = (uint32_t)begin,
                  .max_steps = c->batch.max_steps,
                  .packed = c->batch.row_offsets != NULL,
                  .input = c->input.data,
                  .input_dtype = c->input.dtype,
                  .input_place = c->input.place,
                  .asynchronous = (c->batch.flags & CARRY_ASYNC) != 0,
                  .outputs = session->outputs};
    return session->backend->run(session->device_session, &run);
}

static void commit(const call *c)
{
    cy_pool *pool = &c->session->pool;
    cy_pool_tick(pool);
    pool->runs++;
    for (size_t row = 0; row < c->batch.rows; row++) {
        if (!row_has_state(c, row) || row_steps(c, row) == 0) continue;
        if (c->batch.row_status && c->batch.row_status[row] != CARRY_OK) continue;
        cy_slot *slot;
        cy_pool_find(pool, c->batch.states[row], &slot);
        cy_slot_commit(pool, slot);
    }
}

static carry_status run_batch(carry_session *session, const carry_batch *batch)
{
    call c = {.session = session, .graph = session->model->graph};
    CY_CHECK(batch, CARRY_E_ARGUMENT, "carry_run: batch is NULL");
    CY_TRY(cy_sized_read(&c.batch, sizeof c.batch, batch, "carry_batch"));
    if (c.batch.rows == 0) return CARRY_OK;
    CY_TRY(check_batch(&c));
    CY_TRY(check_rows(&c));
    size_t most = session->limits.max_rows;
    for (size_t begin = 0; begin < c.batch.rows; begin += most) {
        size_t left = c.batch.rows - begin;
        CY_TRY(run_group(&c, begin, left < most ? left : most));
    }
    commit(&c);
    return CARRY_OK;
}

carry_status carry_run(carry_session *session, const carry_batch *batch)
{
    CY_TRY(cy_session_enter(session, "carry_run"));
    carry_status status = run_batch(session, batch);
    cy_session_leave(session);
    return status;
}
