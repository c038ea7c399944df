/* The layer loop.
 *
 * Rows come with the longest first, so the rows alive at a step are a prefix, and a chunk of steps is
 * a packed list of row-steps (cpu_model.h). For each chunk, for each node: LSTM does the input
 * product of all row-steps at once, then recurs step by step; Dense and Activation take the row-steps
 * as they come; Embedding and Identity are only addresses. go_backwards is only another order of
 * addresses: step s of a row reads its step L-1-s (such a graph is one chunk).
 *
 * Sharing. Threads own panels in products and recurrence, rows elsewhere; they meet at a barrier
 * after every step of an LSTM and after every layer. No sum is ever split, so neither the sharing nor
 * the chunks show in the bits. */
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
    size_t live; /* rows of at least one step: a prefix */
    uint32_t id, count;
    const cy_cpu_chunk *chunk;
} worker;

/* Rounded so that a lone row is the caller's, whose cache holds its input, output and state. */
static span share(const worker *w, size_t n)
{
    size_t up = w->count - 1;
    return (span){(n * w->id + up) / w->count, (n * (w->id + 1) + up) / w->count};
}

static void meet(const worker *w)
{
    if (w->count > 1) cy_cpu_pool_meet(w->job->pool);
}

static size_t rows_at(const cy_cpu_chunk *chunk, size_t step)
{
    return chunk->offset[step + 1] - chunk->offset[step];
}

/* The steps from first_step on that fit the space; steps == 0 when no row reaches first_step. */
static void plan_chunk(const cy_cpu_job *job, size_t first_step, cy_cpu_chunk *chunk)
{
    size_t rows = job->row_count, total = 0;
    chunk->first_step = first_step;
    chunk->steps = 0;
    chunk->offset[0] = 0;
    while (chunk->steps < job->space->steps) {
        while (rows > 0 && job->rows[rows - 1].steps <= first_step + chunk->steps)
            rows--;
        if (rows == 0 || total + rows > job->space->row_steps) break;
        total += rows;
        chunk->offset[++chunk->steps] = total;
    }
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

/* How many inputs a layer takes: one for each row-step of the chunk, or for each live row. */
static size_t items_of(const worker *w, const cy_node *node)
{
    return node->in_time ? w->chunk->offset[w->chunk->steps] : w->live;
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

static void run_lstm_step(const worker *w, const cy_node *node, const cy_lstm_step *step)
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

static void run_lstm(const worker *w, size_t index)
{
    const cy_cpu_layer *layer = &w->model->layers[index];
    const cy_cpu_buffers *buffers = &w->space->buffers[index];
    const cy_cpu_chunk *chunk = w->chunk;
    size_t items = items_of(w, layer->node);
    size_t z_row = 4 * w->model->kernels->lanes; /* floats of a row in a panel of z */
    span panels = share(w, layer->panels);
    product(w, layer, (span){0, items}, panels, w->space->z, z_row, items * z_row);
    for (size_t s = 0; s < chunk->steps; s++) {
        cy_lstm_step step = {
            .z = w->space->z + chunk->offset[s] * z_row,
            .z_rows = items,
            .h_prev =
                s == 0 ? buffers->h : buffers->y + chunk->offset[s - 1] * layer->stride,
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
        run_lstm_step(w, layer->node, &step);
        meet(w);
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

static void run_dense(const worker *w, size_t index)
{
    const cy_cpu_layer *layer = &w->model->layers[index];
    float *y = w->space->buffers[index].y;
    size_t items = items_of(w, layer->node), width = layer->node->out_width;
    size_t panel = 4 * w->model->kernels->lanes;
    if (items >= (size_t)w->count * 6) { /* enough for a full tile each: by rows */
        span mine = share(w, items);
        product(w, layer, mine, (span){0, layer->panels}, y, layer->stride, panel);
        activate(w, layer, y, mine, (span){0, width});
    } else {
        span panels = share(w, layer->panels);
        product(w, layer, (span){0, items}, panels, y, layer->stride, panel);
        if (cy_activation_spans_row(layer->node->activation)) {
            meet(w);
            activate(w, layer, y, share(w, items), (span){0, width});
        } else {
            size_t end = panels.end * panel < width ? panels.end * panel : width;
            activate(w, layer, y, (span){0, items}, (span){panels.first * panel, end});
        }
    }
    meet(w);
}

static void run_activation(const worker *w, size_t index)
{
    const cy_cpu_layer *layer = &w->model->layers[index];
    float *y = w->space->buffers[index].y;
    span mine = share(w, items_of(w, layer->node));
    for (size_t i = mine.first; i < mine.end; i++) {
        const float *x;
        gather(w, layer, i, 1, &x);
        cy_activate_f32_ref(layer->node->activation, x, y + i * layer->stride,
                            layer->node->out_width);
    }
    meet(w);
}

static void run_layers(const worker *w, bool in_time)
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

/* Of one row: h for the next chunk, and the outputs with a time axis. */
static void leave_chunk(const worker *w, size_t r)
{
    const cy_graph *graph = w->model->graph;
    const cy_run *run = w->job->run;
    const cy_cpu_chunk *chunk = w->chunk;
    const cy_row *row = &w->rows[r];
    size_t steps = row->steps - chunk->first_step; /* of this row here */
    bool last = steps <= chunk->steps;
    if (!last) steps = chunk->steps;
    for (size_t i = 0; i < w->model->layer_count; i++) {
        const cy_cpu_layer *layer = &w->model->layers[i];
        const cy_cpu_buffers *buffers = &w->space->buffers[i];
        if (layer->node->op != CY_OP_LSTM) continue;
        memcpy(buffers->h + r * layer->stride,
               buffers->y + (chunk->offset[steps - 1] + r) * layer->stride,
               layer->node->units * sizeof(float));
    }
    for (uint32_t o = 0; o < graph->output_count; o++) {
        const cy_run_output *output = &run->outputs[o];
        cy_value value = w->model->outputs[o];
        if (!output->data || !cy_graph_has_time(graph, value)) continue;
        size_t width = cy_graph_width(graph, value);
        float *to = output->data;
        if (output->all_steps) {
            to += (row->first + chunk->first_step) * width;
            for (size_t s = 0; s < steps; s++)
                memcpy(to + s * width, value_of(w, value, r, s), width * sizeof(float));
        } else if (last) {
            to += row->index * width;
            memcpy(to, value_of(w, value, r, steps - 1), width * sizeof(float));
        }
    }
}

/* Of one row, when all is computed: the rest of the outputs, and the state. */
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
    if (!row->write || row->steps == 0) return;
    for (uint32_t k = 0; k < graph->state_count; k++) {
        const cy_state_tensor *state = &graph->states[k];
        const cy_cpu_buffers *buffers = &w->space->buffers[state->node];
        bool is_h = k == (uint32_t)graph->nodes[state->node].first_state;
        memcpy(row->write + state->offset,
               (is_h ? buffers->h : buffers->c) +
                   r * w->model->layers[state->node].stride,
               state->width * sizeof(float));
    }
}

/* The chunk is the run's last, and what is left is each row's own: a call of one step is mostly
 * barriers, and this saves one. */
static bool is_last(const worker *w)
{
    size_t end = w->chunk->first_step + w->chunk->steps;
    return !w->model->has_untimed && rows_at(w->chunk, 0) == w->job->row_count &&
           w->rows[0].steps <= end;
}

static void leave_all(const worker *w)
{
    span rows = share(w, w->job->row_count);
    for (size_t r = rows.first; r < rows.end; r++) {
        leave_chunk(w, r);
        leave_run(w, r);
    }
}

void cy_cpu_job_prepare(const cy_cpu_job *job)
{
    const cy_graph *graph = job->model->graph;
    for (uint32_t k = 0; k < graph->state_count; k++) {
        const cy_state_tensor *state = &graph->states[k];
        const cy_cpu_buffers *buffers = &job->space->buffers[state->node];
        bool is_h = k == (uint32_t)graph->nodes[state->node].first_state;
        size_t stride = job->model->layers[state->node].stride;
        for (size_t r = 0; r < job->row_count; r++) {
            float *to = (is_h ? buffers->h : buffers->c) + r * stride;
            if (job->rows[r].read)
                memcpy(to, job->rows[r].read + state->offset, state->width * sizeof *to);
            else memset(to, 0, state->width * sizeof *to);
        }
    }
    plan_chunk(job, 0, &job->space->chunk[0]);
}

void cy_cpu_job_run(const cy_cpu_job *job, uint32_t id)
{
    worker w = {.job = job,
                .model = job->model,
                .space = job->space,
                .rows = job->rows,
                .live = job->space->chunk[0].steps > 0 ? rows_at(&job->space->chunk[0], 0)
                                                       : 0,
                .id = id,
                .count = job->threads};
    size_t turn = 0;
    for (;;) {
        w.chunk = &job->space->chunk[turn];
        if (w.chunk->steps == 0) break;
        run_layers(&w, true);
        if (is_last(&w)) {
            leave_all(&w);
            return;
        }
        turn = 1 - turn;
        if (id == 0)
            plan_chunk(job, w.chunk->first_step + w.chunk->steps,
                       &job->space->chunk[turn]);
        span rows = share(&w, rows_at(w.chunk, 0));
        for (size_t r = rows.first; r < rows.end; r++)
            leave_chunk(&w, r);
        meet(&w);
    }
    run_layers(&w, false);
    span rows = share(&w, job->row_count);
    for (size_t r = rows.first; r < rows.end; r++)
        leave_run(&w, r);
}
