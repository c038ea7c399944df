/* One call of a worker: the inputs of its rows packed into one array, the outputs copied back to their requests. */
#include "base/arena.h"
#include "base/mem.h"
#include "batcher/batcher.h"

#include <stdio.h>
#include <string.h>

static void lay_out(cy_worker *worker, cy_carver *carver)
{
    const carry_batcher *batcher = worker->batcher;
    size_t rows = batcher->options.batch_rows, outputs = batcher->output_count;
    size_t steps = rows * batcher->options.batch_steps;
    worker->rows = cy_carve(carver, rows, sizeof(cy_entry *));
    worker->states_of_rows = cy_carve(carver, rows, sizeof *worker->states_of_rows);
    worker->offsets = cy_carve(carver, rows + 1, sizeof *worker->offsets);
    worker->reset = cy_carve(carver, rows, sizeof *worker->reset);
    worker->row_status = cy_carve(carver, rows, sizeof *worker->row_status);
    worker->input = cy_carve(carver, steps, batcher->in_width * sizeof(float));
    worker->outputs = cy_carve(carver, outputs, sizeof *worker->outputs);
    worker->packed = cy_carve(carver, outputs, sizeof(float *));
    for (size_t o = 0; o < outputs; o++) {
        const cy_port *port = &batcher->ports[o];
        float *packed =
            cy_carve(carver, port->has_time ? steps : rows, port->width * sizeof(float));
        if (carver->base) worker->packed[o] = packed;
    }
}

carry_status cy_worker_arrays_open(cy_worker *worker)
{
    cy_carver carver = {0};
    lay_out(worker, &carver);
    worker->arrays = cy_alloc(carver.bytes);
    CY_CHECK(worker->arrays, CARRY_E_MEMORY,
             "out of memory: %zu bytes for calls of %u rows of %u steps", carver.bytes,
             worker->batcher->options.batch_rows, worker->batcher->options.batch_steps);
    carver = (cy_carver){.base = worker->arrays};
    lay_out(worker, &carver);
    return CARRY_OK;
}

void cy_worker_arrays_close(cy_worker *worker)
{
    cy_free(worker->arrays);
}

/* ---- in ------------------------------------------------------------------------------------- */

static void pack_row(cy_worker *worker, uint32_t i)
{
    const cy_entry *entry = worker->rows[i];
    size_t width = worker->batcher->in_width; /* ids: 1, and as wide as a float */
    uint64_t first = worker->offsets[i];
    worker->offsets[i + 1] = first + entry->call_steps;
    worker->states_of_rows[i] = entry->member->state;
    worker->reset[i] = entry->request.reset && entry->done_steps == 0;
    memcpy(worker->input + first * width,
           (const float *)entry->request.input.data + entry->done_steps * width,
           entry->call_steps * width * sizeof(float));
}

/* Only if every row wants no more than its last step is so little computed and moved. */
static carry_mode common_mode(const cy_worker *worker, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (worker->rows[i]->request.mode != CARRY_STEPS_LAST)
            return CARRY_STEPS_AS_MODEL;
    return CARRY_STEPS_LAST;
}

static void want_outputs(cy_worker *worker, uint32_t count, carry_mode mode)
{
    const carry_batcher *batcher = worker->batcher;
    for (size_t o = 0; o < batcher->output_count; o++) {
        const cy_port *port = &batcher->ports[o];
        bool every_step = port->has_time && mode != CARRY_STEPS_LAST;
        size_t items = every_step ? worker->offsets[count] : count;
        worker->outputs[o] = (carry_array){.size = sizeof(carry_array)};
        for (uint32_t i = 0; i < count && !worker->outputs[o].data; i++)
            if (worker->rows[i]->request.outputs[o].data)
                worker->outputs[o].data = worker->packed[o];
        worker->outputs[o].bytes = items * port->width * sizeof(float);
    }
}

/* ---- out ------------------------------------------------------------------------------------ */

static void unpack_row(const cy_worker *worker, uint32_t i, carry_mode mode)
{
    const carry_batcher *batcher = worker->batcher;
    const cy_entry *entry = worker->rows[i];
    const carry_request *request = &entry->request;
    for (size_t o = 0; o < batcher->output_count; o++) {
        size_t width = batcher->ports[o].width, steps = 1, from = i, at = 0;
        if (!request->outputs[o].data) continue;
        if (batcher->ports[o].has_time && mode != CARRY_STEPS_LAST) {
            steps = entry->call_steps;
            from = worker->offsets[i];
            at = entry->done_steps;
        }
        if (steps > 1 && request->mode == CARRY_STEPS_LAST) {
            from += steps - 1;
            steps = 1;
        }
        if (request->mode == CARRY_STEPS_LAST) at = 0;
        memcpy((float *)request->outputs[o].data + at * width,
               worker->packed[o] + from * width, steps * width * sizeof(float));
    }
}

void cy_worker_call(cy_worker *worker, uint32_t count)
{
    const carry_batcher *batcher = worker->batcher;
    carry_mode mode = common_mode(worker, count);
    worker->offsets[0] = 0;
    for (uint32_t i = 0; i < count; i++)
        pack_row(worker, i);
    want_outputs(worker, count, mode);
    carry_array input = {.size = sizeof input,
                         .data = worker->input,
                         .dtype = batcher->ids ? CARRY_I32 : CARRY_F32,
                         .bytes =
                             worker->offsets[count] * batcher->in_width * sizeof(float)};
    carry_batch batch = {.size = sizeof batch,
                         .rows = count,
                         .states = worker->states_of_rows,
                         .reset = worker->reset,
                         .row_offsets = worker->offsets,
                         .inputs = &input,
                         .input_count = 1,
                         .outputs = worker->outputs,
                         .output_count = batcher->output_count,
                         .mode = mode,
                         .row_status = worker->row_status};
    worker->status = carry_run(worker->session, &batch);
    if (worker->status != CARRY_OK) {
        snprintf(worker->sentence, sizeof worker->sentence, "%s", carry_error());
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (worker->row_status[i] == CARRY_OK) unpack_row(worker, i, mode);
}
