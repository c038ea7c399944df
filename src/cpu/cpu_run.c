/* The layer loop.
 *
 * Rows come with the longest first, so the rows alive at a step are a prefix, and a chunk of steps is
 * a packed list of row-steps (cpu_model.h). For each chunk, for each node: LSTM does the input
 * product of all row-steps at once, then recurs step by step; Dense and Activation take the row-steps
 * as they come; Embedding and Identity are only addresses. go_backwards is only another order of
 * addresses: step s of a row reads its step L-1-s (such a graph is one chunk).
 *
 * Sharing. Threads own panels in products and recurrence, rows elsewhere; they meet at a barrier
 * before anything is read that others may have written: before every step of an LSTM but its first, and
 * before every layer but the first. A call of one step of one layer so meets nowhere: its threads begin
 * and end together, and the caller finishes. No sum is ever split, so neither the sharing nor the
 * chunks show in the bits. */
#include "cpu/cpu_run.h"

#include "kernels/cell.h"
#include "kernels/pack.h"

#include <string.h>

/* Row-steps whose inputs stay in the L2 cache while all panels pass over them; whole tiles of
 * 3 (AVX2) and 6 (AVX-512) rows. */
#define ROW_BLOCK 48

typedef struct span {
    size_t first, end;
} span;

typedef struct worker {
    const cy_cpu_job *job;
    const cy_cpu_model *model;
    const cy_cpu_space *space;
    const cy_row *rows;
    uint32_t id, count;
    const cy_cpu_chunk *chunk;
    bool behind; /* something was written since all met; the same in every thread */
} worker;

/* Rounded so that a lone row is the caller's, whose cache holds its input, output and state. */
static span share(const worker *w, size_t n)
{
    size_t up = w->count - 1;
    return (span){(n * w->id + up) / w->count, (n * (w->id + 1) + up) / w->count};
}

/* After this, what any thread has written can be read by all. */
static void meet(worker *w)
{
    if (w->behind && w->count > 1) cy_cpu_pool_meet(w->job->pool);
    w->behind = false;
}

static size_t rows_at(const cy_cpu_chunk *chunk, size_t step)
{
    return chunk->offset[step + 1] - chunk->offset[step];
}

/* A small call's chunk is the one before, and what is not written stays in the other threads' caches. */
static void set(size_t *to, size_t value)
{
    if (*to != value) *to = value;
}

/* The steps from first_step on that fit the space; steps == 0 when no row reaches first_step. */
static void plan_chunk(const cy_cpu_job *job, size_t first_step, cy_cpu_chunk *chunk)
{
    size_t rows = job->row_count, total = 0, steps = 0;
    set(&chunk->first_step, first_step);
    set(&chunk->offset[0], 0);
    while (steps < job->space->steps) {
        while (rows > 0 && job->rows[rows - 1].steps <= first_step + steps)
            rows--;
        if (rows == 0 || total + rows > job->space->row_steps) break;
        total += rows;
        set(&chunk->offset[++steps], total);
    }
    set(&chunk->steps, steps);
}

/* Where `value` of row r lies; `step` counts in the chunk, for values with a time axis. */
static const float *value_of(const worker *w, cy_value value, size_t r, size_t step)
{
    const cy_run *run = w->job->run;
    const cy_graph *graph = w->model->graph;
    size_t at = w->rows[r].first + w->chunk->first_step + step;
    if (value.node < 0) return (const float *)run->input + at * graph->input.width;
    const cy_cpu_layer *layer = &w->model->layers[value.node];
    const cy_cpu_buffers *buffers = &w->space->buffers[value.node];
    const cy_node *node = layer->node;
    if (node->op == CY_OP_EMBEDDING)
        return layer->kernel +
               (size_t)((const int32_t *)run->input)[at] * node->out_width;
    if (value.port == CY_PORT_C) return buffers->c + r * layer->stride;
    if (value.port == CY_PORT_H || (node->op == CY_OP_LSTM && !node->out_time))
        return buffers->h + r * layer->stride;
    if (!node->out_time) return buffers->y + r * layer->stride;
    return buffers->y + (w->chunk->offset[step] + r) * layer->stride;
}

/* Of a layer's state, in floats. */
static size_t h_offset(const worker *w, const cy_node *node)
{
    return w->model->graph->states[node->first_state].offset;
}

static size_t c_offset(const worker *w, const cy_node *node)
{
    return w->model->graph->states[node->first_state + 1].offset;
}

/* The units of an LSTM that this thread computes. */
static span own_units(const worker *w, const cy_cpu_layer *layer)
{
    span panels = share(w, layer->panels);
    size_t lanes = w->model->kernels->lanes, units = layer->node->units;
    span own = {panels.first * lanes, panels.end * lanes};
    if (own.first > units) own.first = units;
    if (own.end > units) own.end = units;
    return own;
}

/* c never leaves the thread that computes it: from the state into the workspace here, and back in
 * leave_own. */
static void load_c(const worker *w)
{
    for (size_t i = 0; i < w->model->layer_count; i++) {
        const cy_cpu_layer *layer = &w->model->layers[i];
        if (layer->node->op != CY_OP_LSTM) continue;
        span own = own_units(w, layer);
        size_t offset = c_offset(w, layer->node) + own.first;
        for (size_t r = 0; r < w->job->row_count; r++) {
            float *c = w->space->buffers[i].c + r * layer->stride + own.first;
            const float *from = w->rows[r].read;
            size_t bytes = (own.end - own.first) * sizeof *c;
            if (from) memcpy(c, from + offset, bytes);
            else memset(c, 0, bytes);
        }
    }
}

/* How many inputs a layer takes: one for each row-step of the chunk, or for each live row. */
static size_t items_of(const worker *w, const cy_node *node)
{
    return node->in_time ? w->chunk->offset[w->chunk->steps] : w->job->live;
}

/* x[n] = addresses of a layer's inputs first .. first + n - 1. */
static void gather(const worker *w, const cy_cpu_layer *layer, size_t first, size_t n,
                   const float **x)
{
    const cy_node *node = layer->node;
    if (!node->in_time) {
        for (size_t i = 0; i < n; i++)
            x[i] = value_of(w, layer->source, first + i, 0);
        return;
    }
    const size_t *offset = w->chunk->offset;
    size_t step = 0;
    if (w->chunk->steps > 1) { /* last step whose offset is <= first */
        size_t end = w->chunk->steps;
        while (end - step > 1) {
            size_t middle = step + (end - step) / 2;
            if (offset[middle] <= first) step = middle;
            else end = middle;
        }
    }
    for (size_t i = 0; i < n; i++) {
        while (first + i >= offset[step + 1])
            step++;
        size_t r = first + i - offset[step];
        size_t from = node->go_backwards ? w->rows[r].steps - 1 - step : step;
        x[i] = value_of(w, layer->source, r, from);
    }
}

/* kernel * x + bias for items and panels given; item i, panel p go to
 * out + i * row_stride + p * panel_stride. */
static void product(const worker *w, const cy_cpu_layer *layer, span items, span panels,
                    float *out, size_t row_stride, size_t panel_stride)
{
    const float *x[ROW_BLOCK];
    for (size_t first = items.first; first < items.end; first += ROW_BLOCK) {
        size_t n = items.end - first < ROW_BLOCK ? items.end - first : ROW_BLOCK;
        gather(w, layer, first, n, x);
        cy_dense dense = {.x = x,
                          .kernel = layer->kernel,
                          .bias = layer->bias,
                          .out = out + first * row_stride,
                          .row_stride = row_stride,
                          .panel_stride = panel_stride,
                          .rows = n,
                          .features = layer->node->in_width,
                          .first_panel = panels.first,
                          .end_panel = panels.end};
        w->model->kernels->dense(&dense);
    }
}

static void run_lstm_step(worker *w, const cy_node *node, const cy_lstm_step *step)
{
    const cy_cpu_kernels *kernels = w->model->kernels;
    cy_activation activation = node->activation, recurrent = node->recurrent_activation;
    if (activation == CY_ACT_TANH && recurrent == CY_ACT_SIGMOID) {
        kernels->lstm_step(step);
        return;
    }
    kernels->lstm_accumulate(step);
    if (!cy_activation_spans_row(activation) && !cy_activation_spans_row(recurrent)) {
        cy_lstm_cell_f32_ref(step, kernels->lanes, activation, recurrent);
        return;
    }
    w->behind = true;
    meet(w);
    span rows = share(w, step->rows);
    cy_lstm_step mine = *step;
    mine.z += rows.first * 4 * kernels->lanes;
    mine.c += rows.first * step->c_stride;
    mine.h += rows.first * step->h_stride;
    mine.rows = rows.end - rows.first;
    mine.first_panel = 0;
    mine.end_panel = cy_pack_panels(node->units, kernels->lanes);
    cy_lstm_cell_f32_ref(&mine, kernels->lanes, activation, recurrent);
}

/* h before the chunk's first step. That of a lone row is read where it lies, which spares its threads
 * a copy written by one and read by the others. */
static bool reads_state(const cy_cpu_job *job)
{
    return job->row_count == 1 && job->rows[0].read && job->rows[0].steps > 0;
}

static const float *first_h(const worker *w, size_t index)
{
    if (w->chunk->first_step == 0 && reads_state(w->job))
        return w->rows[0].read + h_offset(w, w->model->layers[index].node);
    return w->space->buffers[index].h;
}

static void run_lstm(worker *w, size_t index)
{
    const cy_cpu_layer *layer = &w->model->layers[index];
    const cy_cpu_buffers *buffers = &w->space->buffers[index];
    const cy_cpu_chunk *chunk = w->chunk;
    size_t items = items_of(w, layer->node);
    size_t z_row = 4 * w->model->kernels->lanes; /* floats of a row in a panel of z */
    span panels = share(w, layer->panels);
    meet(w);
    product(w, layer, (span){0, items}, panels, w->space->z, z_row, items * z_row);
    for (size_t s = 0; s < chunk->steps; s++) {
        cy_lstm_step step = {
            .z = w->space->z + chunk->offset[s] * z_row,
            .z_rows = items,
            .h_prev = s == 0 ? first_h(w, index)
                             : buffers->y + chunk->offset[s - 1] * layer->stride,
            .recurrent = layer->recurrent,
            .c = buffers->c,
            .h = buffers->y + chunk->offset[s] * layer->stride,
            .h_prev_stride = layer->stride,
            .c_stride = layer->stride,
            .h_stride = layer->stride,
            .rows = rows_at(chunk, s),
            .units = layer->node->units,
            .first_panel = panels.first,
            .end_panel = panels.end,
        };
        if (s > 0) meet(w);
        run_lstm_step(w, layer->node, &step);
        w->behind = true;
    }
}

static void activate(const worker *w, const cy_cpu_layer *layer, float *y, span items,
                     span columns)
{
    if (layer->node->activation == CY_ACT_LINEAR || columns.first >= columns.end) return;
    for (size_t i = items.first; i < items.end; i++) {
        float *row = y + i * layer->stride + columns.first;
        cy_activate_f32_ref(layer->node->activation, row, row,
                            columns.end - columns.first);
    }
    (void)w;
}

static void run_dense(worker *w, size_t index)
{
    const cy_cpu_layer *layer = &w->model->layers[index];
    float *y = w->space->buffers[index].y;
    size_t items = items_of(w, layer->node), width = layer->node->out_width;
    size_t panel = 4 * w->model->kernels->lanes;
    meet(w);
    if (items >= (size_t)w->count * 6) { /* enough for a full tile each: by rows */
        span mine = share(w, items);
        product(w, layer, mine, (span){0, layer->panels}, y, layer->stride, panel);
        activate(w, layer, y, mine, (span){0, width});
    } else {
        span panels = share(w, layer->panels);
        product(w, layer, (span){0, items}, panels, y, layer->stride, panel);
        if (cy_activation_spans_row(layer->node->activation)) {
            w->behind = true;
            meet(w);
            activate(w, layer, y, share(w, items), (span){0, width});
        } else {
            size_t end = panels.end * panel < width ? panels.end * panel : width;
            activate(w, layer, y, (span){0, items}, (span){panels.first * panel, end});
        }
    }
    w->behind = true;
}

static void run_activation(worker *w, size_t index)
{
    const cy_cpu_layer *layer = &w->model->layers[index];
    float *y = w->space->buffers[index].y;
    span mine = share(w, items_of(w, layer->node));
    meet(w);
    for (size_t i = mine.first; i < mine.end; i++) {
        const float *x;
        gather(w, layer, i, 1, &x);
        cy_activate_f32_ref(layer->node->activation, x, y + i * layer->stride,
                            layer->node->out_width);
    }
    w->behind = true;
}

static void run_layers(worker *w, bool in_time)
{
    for (size_t i = 0; i < w->model->layer_count; i++) {
        const cy_node *node = w->model->layers[i].node;
        if (node->in_time != in_time) continue;
        switch (node->op) {
        case CY_OP_LSTM:
            run_lstm(w, i);
            break;
        case CY_OP_DENSE:
            run_dense(w, i);
            break;
        case CY_OP_ACTIVATION:
            run_activation(w, i);
            break;
        case CY_OP_IDENTITY:
        case CY_OP_EMBEDDING:
            break; /* addresses only: value_of */
        }
    }
}

/* Steps of row r in the chunk; is_end: the last of them is the row's last in the run. */
static size_t steps_here(const worker *w, size_t r, bool *is_end)
{
    size_t left = w->rows[r].steps - w->chunk->first_step;
    *is_end = left <= w->chunk->steps;
    return *is_end ? left : w->chunk->steps;
}

/* Of row r in the chunk: some columns of an output with a time axis. */
static void copy_output(const worker *w, uint32_t index, size_t r, span columns)
{
    const cy_run_output *output = &w->job->run->outputs[index];
    cy_value value = w->model->outputs[index];
    size_t width = cy_graph_width(w->model->graph, value);
    size_t bytes = (columns.end - columns.first) * sizeof(float);
    bool is_end;
    size_t steps = steps_here(w, r, &is_end);
    float *to = (float *)output->data + columns.first;
    if (output->all_steps) {
        to += (w->rows[r].first + w->chunk->first_step) * width;
        for (size_t s = 0; s < steps; s++)
            memcpy(to + s * width, value_of(w, value, r, s) + columns.first, bytes);
    } else if (is_end) {
        memcpy(to + w->rows[r].index * width,
               value_of(w, value, r, steps - 1) + columns.first, bytes);
    }
}

/* The steps of an LSTM, which lie in its threads' columns. */
static bool is_own(const worker *w, cy_value value)
{
    return value.node >= 0 && value.port == CY_PORT_Y &&
           w->model->layers[value.node].node->op == CY_OP_LSTM;
}

/* What this thread leaves of its own columns, without looking at any other's: the states of rows that
 * end in the chunk, and outputs that are the steps of an LSTM. */
static void leave_own(const worker *w)
{
    const cy_graph *graph = w->model->graph;
    size_t rows = rows_at(w->chunk, 0);
    for (size_t i = 0; i < w->model->layer_count; i++) {
        const cy_cpu_layer *layer = &w->model->layers[i];
        const cy_cpu_buffers *buffers = &w->space->buffers[i];
        if (layer->node->op != CY_OP_LSTM) continue;
        span own = own_units(w, layer);
        size_t bytes = (own.end - own.first) * sizeof(float);
        for (size_t r = 0; r < rows; r++) {
            bool is_end;
            size_t step = steps_here(w, r, &is_end) - 1;
            float *to = w->rows[r].write;
            if (!is_end || !to) continue;
            to += own.first;
            memcpy(to + h_offset(w, layer->node),
                   buffers->y + (w->chunk->offset[step] + r) * layer->stride + own.first,
                   bytes);
            memcpy(to + c_offset(w, layer->node),
                   buffers->c + r * layer->stride + own.first, bytes);
        }
    }
    for (uint32_t o = 0; o < graph->output_count; o++) {
        cy_value value = w->model->outputs[o];
        if (!w->job->run->outputs[o].data || !cy_graph_has_time(graph, value) ||
            !is_own(w, value))
            continue;
        span own = own_units(w, &w->model->layers[value.node]);
        for (size_t r = 0; r < rows; r++)
            copy_output(w, o, r, own);
    }
}

/* Of one row, when its chunk is computed: the other outputs with a time axis. */
static void leave_chunk(const worker *w, size_t r)
{
    const cy_graph *graph = w->model->graph;
    for (uint32_t o = 0; o < graph->output_count; o++) {
        cy_value value = w->model->outputs[o];
        if (w->job->run->outputs[o].data && cy_graph_has_time(graph, value) &&
            !is_own(w, value))
            copy_output(w, o, r, (span){0, cy_graph_width(graph, value)});
    }
}

/* Of one row, when its chunk is computed: h for the next, or for who reads the last. */
static void keep_h(const worker *w, size_t r)
{
    bool is_end;
    size_t step = steps_here(w, r, &is_end) - 1;
    for (size_t i = 0; i < w->model->layer_count; i++) {
        const cy_cpu_layer *layer = &w->model->layers[i];
        const cy_cpu_buffers *buffers = &w->space->buffers[i];
        if (layer->node->op == CY_OP_LSTM)
            memcpy(buffers->h + r * layer->stride,
                   buffers->y + (w->chunk->offset[step] + r) * layer->stride,
                   layer->node->units * sizeof(float));
    }
}

/* Of one row, when all is computed: the rest of the outputs. */
static void leave_run(const worker *w, size_t r)
{
    const cy_graph *graph = w->model->graph;
    const cy_run *run = w->job->run;
    const cy_row *row = &w->rows[r];
    for (uint32_t o = 0; o < graph->output_count; o++) {
        const cy_run_output *output = &run->outputs[o];
        cy_value value = w->model->outputs[o];
        if (!output->data) continue;
        size_t width = cy_graph_width(graph, value);
        float *to = (float *)output->data + row->index * width;
        if (!cy_graph_has_time(graph, value)) {
            if (row->steps > 0 || value.port != CY_PORT_Y)
                memcpy(to, value_of(w, value, r, 0), width * sizeof(float));
            else memset(to, 0, width * sizeof(float));
        } else if (output->all_steps) {
            to = (float *)output->data + (row->first + row->steps) * width;
            memset(to, 0, (row->span - row->steps) * width * sizeof(float));
        } else if (row->steps == 0) {
            memset(to, 0, width * sizeof(float));
        }
    }
}

static bool is_last(const worker *w)
{
    return w->rows[0].steps <= w->chunk->first_step + w->chunk->steps;
}

/* All behind the last step: the layers that have no time axis, the outputs, the states. A row is left by
 * the same thread both times, so without such layers nobody waits in between. */
static void finish(worker *w)
{
    size_t here = w->chunk->steps > 0 ? rows_at(w->chunk, 0) : 0;
    span rows = share(w, w->job->row_count);
    w->behind = true; /* c, if nothing else */
    meet(w);
    for (size_t r = rows.first; r < rows.end && r < here; r++) {
        if (w->model->reads_last_h) keep_h(w, r);
        leave_chunk(w, r);
    }
    if (w->model->has_untimed) {
        w->behind = true;
        run_layers(w, false);
        meet(w);
    }
    for (size_t r = rows.first; r < rows.end; r++)
        leave_run(w, r);
}

/* Bytes that finish() copies, about. */
static uint64_t bytes_to_leave(const cy_cpu_job *job)
{
    const worker w = {.model = job->model};
    uint64_t floats = 0;
    for (uint32_t o = 0; o < job->model->graph->output_count; o++) {
        const cy_run_output *output = &job->run->outputs[o];
        cy_value value = job->model->outputs[o];
        if (!output->data || is_own(&w, value)) continue;
        uint64_t width = cy_graph_width(job->model->graph, value);
        floats += output->all_steps ? width * job->run->max_steps : width;
    }
    return floats * sizeof(float) * job->row_count;
}

void cy_cpu_job_prepare(cy_cpu_job *job)
{
    for (size_t i = 0; i < job->model->layer_count && !reads_state(job); i++) {
        const cy_cpu_layer *layer = &job->model->layers[i];
        if (layer->node->op != CY_OP_LSTM) continue;
        size_t offset = job->model->graph->states[layer->node->first_state].offset;
        size_t bytes = layer->node->units * sizeof(float);
        for (size_t r = 0; r < job->row_count; r++) {
            float *to = job->space->buffers[i].h + r * layer->stride;
            if (job->rows[r].read) memcpy(to, job->rows[r].read + offset, bytes);
            else memset(to, 0, bytes);
        }
    }
    cy_cpu_chunk *first = &job->space->chunk[0];
    plan_chunk(job, 0, first);
    job->live = first->steps > 0 ? rows_at(first, 0) : 0;
    job->finishing = cy_cpu_plan_finish(&job->model->cost, job->threads, job->row_count,
                                        bytes_to_leave(job));
}

static worker worker_of(const cy_cpu_job *job, uint32_t id, uint32_t count)
{
    return (worker){.job = job,
                    .model = job->model,
                    .space = job->space,
                    .rows = job->rows,
                    .id = id,
                    .count = count,
                    .chunk = &job->space->chunk[0]};
}

void cy_cpu_job_run(const cy_cpu_job *job, uint32_t id)
{
    worker w = worker_of(job, id, job->threads);
    size_t turn = 0;
    load_c(&w);
    while (w.chunk->steps > 0) {
        run_layers(&w, true);
        if (is_last(&w)) {
            if (w.model->has_row_gates) meet(&w); /* there h and c are by rows */
            leave_own(&w);
            break;
        }
        meet(&w);
        turn = 1 - turn;
        if (id == 0)
            plan_chunk(job, w.chunk->first_step + w.chunk->steps,
                       &job->space->chunk[turn]);
        span rows = share(&w, rows_at(w.chunk, 0));
        leave_own(&w);
        for (size_t r = rows.first; r < rows.end; r++) {
            keep_h(&w, r);
            leave_chunk(&w, r);
        }
        w.behind = true;
        meet(&w);
        w.chunk = &job->space->chunk[turn];
    }
    if (id == 0 && job->space->last != w.chunk) job->space->last = w.chunk;
    if (job->finishing == CY_CPU_BY_ALL) finish(&w);
}

void cy_cpu_job_finish(const cy_cpu_job *job)
{
    if (job->finishing == CY_CPU_BY_ALL) return;
    worker w = worker_of(job, 0, 1);
    w.chunk = job->space->last;
    finish(&w);
}
