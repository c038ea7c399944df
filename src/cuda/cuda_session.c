#include "cuda/cuda_session.h"

#include "base/mem.h"
#include "cuda/cuda_error.h"

#include <stdio.h>

/* Row-steps of a causal model's chunk: enough for large products, and few enough that the values of a chunk stay
 * in the L2 cache of a large device; fewer where a layer is so wide that they would take more than these bytes. */
#define CHUNK_ROW_STEPS 4096
#define CHUNK_BYTES     ((size_t)64 << 20)
/* An input of one chunk up to this size travels with the block, in one copy. */
#define INLINE_BYTES ((size_t)64 << 10)
#define CUBLAS_BYTES ((size_t)8 << 20)
#define CUBLAS_BYTES_9 \
    ((size_t)32 << 20) /* what cuBLAS asks for on compute capability 9.0 */

/* ---- layout: of the device's block, and of the pinned one ----------------------------------- */

/* Bytes of a step of all outputs that have a time axis, and of a row of all others. */
static void output_bytes(const cy_graph *graph, size_t *each_step, size_t *each_row)
{
    *each_step = *each_row = 0;
    for (uint32_t o = 0; o < graph->output_count; o++) {
        size_t bytes =
            cy_round_up(cy_graph_width(graph, graph->outputs[o]) * sizeof(float));
        if (cy_graph_has_time(graph, graph->outputs[o])) *each_step += bytes;
        *each_row += bytes; /* with CARRY_STEPS_LAST those with a time axis too */
    }
}

static size_t block_bytes(const cy_cuda_session *s)
{
    return s->inline_bytes +
           cy_round_up((1 + s->model->graph->output_count) * sizeof(cy_cuda_port)) +
           s->limits.max_rows * sizeof(cy_cuda_row);
}

static void lay_out_values(cy_cuda_session *s, cy_carver *device)
{
    const cy_cuda_model *model = s->model;
    size_t rows = s->limits.max_rows, size = cy_cuda_type_bytes(model->type);
    size_t widest_operand = 0, most_gates = 0, before = device->bytes;
    s->scratch = cy_carve(device, 0, 0);
    for (unsigned i = 0; i < model->layer_count; i++) {
        const cy_cuda_layer *layer = &model->layers[i];
        const cy_node *node = layer->node;
        cy_cuda_values values = {.type = CY_CUDA_F32};
        size_t items = node->in_time ? s->row_steps : rows, width = layer->width;
        if (node->op == CY_OP_LSTM) {
            values.type = model->type;
            values.y = cy_carve(device, items, width * size);
            values.h_before = cy_carve(device, rows, width * size);
            values.c = cy_carve(device, rows, width * sizeof(float));
            values.last = cy_carve(device, rows, width * sizeof(float));
            if (4 * width > most_gates) most_gates = 4 * width;
        } else if (node->op == CY_OP_EMBEDDING) {
            values.type = model->type;
            values.y = cy_carve(device, items, width * size);
        } else if (node->op != CY_OP_IDENTITY || layer->source.node < 0) {
            values.y = cy_carve(device, items, width * sizeof(float));
        }
        if (node->op != CY_OP_EMBEDDING && layer->in > widest_operand)
            widest_operand = layer->in;
        if (s->values) s->values[i] = values;
    }
    s->operand = cy_carve(device, s->row_steps > rows ? s->row_steps : rows,
                          widest_operand * size);
    s->z = cy_carve(device, s->row_steps, most_gates * sizeof(float));
    s->scratch_bytes = device->bytes - before;
}

static void lay_out(cy_cuda_session *s, cy_carver *device, cy_carver *pinned)
{
    const cy_graph *graph = s->model->graph;
    size_t each_step, each_row, rows = s->limits.max_rows;
    size_t input_bytes = graph->input.width * sizeof(float);
    output_bytes(graph, &each_step, &each_row);
    s->inline_bytes = INLINE_BYTES;
    if (s->row_steps < INLINE_BYTES / input_bytes)
        s->inline_bytes = cy_round_up(s->row_steps * input_bytes);

    s->block = cy_carve(device, 1, block_bytes(s));
    if (s->block) {
        s->ports = (cy_cuda_port *)(void *)(s->block + s->inline_bytes);
        s->rows = (cy_cuda_row *)(void *)(s->block + block_bytes(s) -
                                          rows * sizeof(cy_cuda_row));
    }
    s->bad_ids = cy_carve(device, 1, sizeof *s->bad_ids);
    s->bad_ids_pinned = cy_carve(pinned, 1, sizeof *s->bad_ids_pinned);
    for (int i = 0; i < CY_CUDA_RING; i++)
        s->ring[i].pinned = cy_carve(pinned, 1, block_bytes(s));
    for (int i = 0; i < 2; i++) {
        s->in[i].device = cy_carve(device, s->row_steps, input_bytes);
        s->in[i].pinned = cy_carve(pinned, s->row_steps, input_bytes);
        s->out[i].device = cy_carve(device, s->row_steps, each_step);
        s->out[i].pinned = cy_carve(pinned, s->row_steps, each_step);
    }
    s->at_end.device = cy_carve(device, rows, each_row);
    s->at_end.pinned = cy_carve(pinned, rows, each_row);
    lay_out_values(s, device);
}

/* Floats of a row and step in the widest buffer. */
static size_t widest_values(const cy_cuda_model *model)
{
    size_t widest = model->graph->input.width;
    for (unsigned i = 0; i < model->layer_count; i++) {
        const cy_cuda_layer *layer = &model->layers[i];
        size_t width =
            layer->node->op == CY_OP_LSTM ? 4 * (size_t)layer->width : layer->width;
        if (layer->node->in_time && width > widest) widest = width;
    }
    return widest;
}

/* Capacity of a chunk: what the graphs need and what is worth while, or all steps of a whole sequence. */
static size_t choose_row_steps(const cy_cuda_model *model, const cy_limits *limits)
{
    size_t row_steps = limits->max_rows;
    if (model->graph->whole_sequence) return row_steps * limits->max_steps;
    size_t wanted = CHUNK_BYTES / (widest_values(model) * sizeof(float));
    if (wanted > CHUNK_ROW_STEPS) wanted = CHUNK_ROW_STEPS;
    if (row_steps < wanted) row_steps = wanted;
    for (size_t i = 0; i < limits->graph_count; i++) {
        size_t needed = (size_t)limits->graphs[i].rows * limits->graphs[i].steps;
        if (needed > row_steps) row_steps = needed;
    }
    return row_steps;
}

/* ---- open ----------------------------------------------------------------------------------- */

static carry_status open_memory(cy_cuda_session *s)
{
    cy_carver device = {0}, pinned = {0};
    lay_out(s, &device, &pinned);
    CY_TRY(cy_cuda_alloc(&s->memory, device.bytes, "the session's workspace"));
    CY_TRY(cy_cuda_alloc_pinned(&s->pinned, pinned.bytes, "the session's staging"));
    s->workspace_bytes += device.bytes + pinned.bytes;
    size_t bytes = device.bytes;
    device = (cy_carver){.base = s->memory};
    pinned = (cy_carver){.base = s->pinned};
    lay_out(s, &device, &pinned);
    CY_CUDA_TRY(cudaMemsetAsync(s->memory, 0, bytes, s->cuda_stream),
                "clearing the workspace");
    return CARRY_OK;
}

static carry_status open_event(cudaEvent_t *event)
{
    CY_CUDA_TRY(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                "creating an event");
    return CARRY_OK;
}

static carry_status open_staging(cy_cuda_staging *staging)
{
    CY_TRY(open_event(&staging->copied));
    return open_event(&staging->free);
}

static carry_status open_streams(cy_cuda_session *s)
{
    s->own_stream = !s->limits.cuda_stream;
    if (!s->own_stream) s->cuda_stream = s->limits.cuda_stream;
    else
        CY_CUDA_TRY(cudaStreamCreateWithFlags(&s->cuda_stream, cudaStreamNonBlocking),
                    "creating a cuda_stream");
    CY_CUDA_TRY(cudaStreamCreateWithFlags(&s->copy_in, cudaStreamNonBlocking),
                "creating a cuda_stream for inputs");
    CY_CUDA_TRY(cudaStreamCreateWithFlags(&s->copy_out, cudaStreamNonBlocking),
                "creating a cuda_stream for outputs");
    for (int i = 0; i < 2; i++) {
        CY_TRY(open_staging(&s->in[i]));
        CY_TRY(open_staging(&s->out[i]));
    }
    for (int i = 0; i < CY_CUDA_RING; i++)
        CY_TRY(open_event(&s->ring[i].copied));
    CY_TRY(open_event(&s->began));
    return CARRY_OK;
}

/* cuBLAS with a workspace of the session's: what it would allocate by itself it may allocate in a call, and not
 * in a capture. */
static carry_status open_cublas(cy_cuda_session *s)
{
    s->cublas_bytes = s->model->device.major >= 9 ? CUBLAS_BYTES_9 : CUBLAS_BYTES;
    CY_TRY(cy_cuda_alloc(&s->cublas_memory, s->cublas_bytes, "cuBLAS's workspace"));
    s->workspace_bytes += s->cublas_bytes;
    CY_CUBLAS_TRY(cublasCreate(&s->cublas), "starting cuBLAS");
    CY_CUBLAS_TRY(cublasSetStream(s->cublas, s->cuda_stream), "giving cuBLAS a stream");
    CY_CUBLAS_TRY(cublasSetWorkspace(s->cublas, s->cublas_memory, s->cublas_bytes),
                  "giving cuBLAS its workspace");
    return CARRY_OK;
}

static carry_status open_on_device(cy_cuda_session *s)
{
    CY_TRY(open_streams(s));
    CY_TRY(open_memory(s));
    if (!s->limits.exact) CY_TRY(open_cublas(s));
    CY_TRY(cy_cuda_session_load(s));
    CY_TRY(cy_cuda_graph_capture(s, s->limits.graphs, s->limits.graph_count));
    CY_CUDA_TRY(cudaStreamSynchronize(s->cuda_stream), "opening a session");
    return CARRY_OK;
}

/* Only whether data is NULL is looked at. */
static void want_outputs(cy_cuda_session *s)
{
    static char wanted;
    const cy_graph *graph = s->model->graph;
    for (uint32_t o = 0; o < graph->output_count; o++) {
        s->declared[o] = s->last_steps[o] = (cy_run_output){.data = &wanted};
        s->declared[o].all_steps = cy_graph_has_time(graph, graph->outputs[o]);
    }
}

/* The session and its host tables are one block. */
static carry_status open_host(const cy_cuda_model *model, size_t max_rows,
                              cy_cuda_session **opened)
{
    cy_carver carver = {0};
    for (int pass = 0; pass < 2; pass++) {
        cy_cuda_session *s = cy_carve(&carver, 1, sizeof *s);
        cy_cuda_values *values = cy_carve(&carver, model->layer_count, sizeof *values);
        size_t outputs = model->graph->output_count;
        size_t *offsets = cy_carve(&carver, outputs, sizeof *offsets);
        uint32_t *order = cy_carve(&carver, max_rows, sizeof *order);
        cy_run_output *declared = cy_carve(&carver, outputs, sizeof *declared);
        cy_run_output *last_steps = cy_carve(&carver, outputs, sizeof *last_steps);
        if (pass == 1) {
            s->model = model;
            s->values = values;
            s->out_offset = offsets;
            s->caller_order = order;
            s->declared = declared;
            s->last_steps = last_steps;
            want_outputs(s);
            s->workspace_bytes = carver.bytes;
            *opened = s;
            break;
        }
        void *block = cy_alloc(carver.bytes);
        CY_CHECK(block, CARRY_E_MEMORY, "out of memory: %zu bytes for a session",
                 carver.bytes);
        carver = (cy_carver){.base = block};
    }
    return CARRY_OK;
}

/* A kernel finds its element by a number of 32 bits. */
static carry_status check_indices(const cy_cuda_session *s)
{
    size_t most = 0x7fffffff / widest_values(s->model);
    CY_CHECK(s->row_steps <= most, CARRY_E_ARGUMENT,
             "%u rows of %zu steps in one chunk are %zu row-steps, with this model's "
             "widest layer "
             "%zu are the most: open the session with fewer max_rows or max_steps",
             s->limits.max_rows, s->row_steps / s->limits.max_rows, s->row_steps, most);
    return CARRY_OK;
}

carry_status cy_cuda_session_open(cy_cuda_model *model, const cy_limits *limits,
                                  cy_cuda_session **session)
{
    *session = NULL;
    CY_CHECK(
        !limits->exact || model->precision != CARRY_COMPUTE_TF32, CARRY_E_UNSUPPORTED,
        "exact and tf32 exclude each other: TF32 products are cuBLAS's, whose order is "
        "not fixed; use fp32, bf16 or fp16");
    cy_cuda_session *s = NULL;
    CY_TRY(open_host(model, limits->max_rows, &s));
    s->limits = *limits;
    s->row_steps = choose_row_steps(model, limits);
    cy_cuda_scope scope;
    carry_status status = check_indices(s);
    if (status == CARRY_OK) status = cy_cuda_device_enter(&scope, model->device.index);
    if (status == CARRY_OK) status = cy_cuda_device_leave(&scope, open_on_device(s));
    s->limits.graphs = NULL; /* the caller's */
    if (status != CARRY_OK) {
        cy_cuda_session_close(s);
        return status;
    }
    *session = s;
    return CARRY_OK;
}

/* ---- close ---------------------------------------------------------------------------------- */

static void close_event(cudaEvent_t event)
{
    if (event) cy_cuda_ignore(cudaEventDestroy(event));
}

/* What runs is waited for first: it uses what is closed next. */
static void close_on_device(cy_cuda_session *s)
{
    if (s->copy_in) cy_cuda_ignore(cudaStreamSynchronize(s->copy_in));
    if (s->cuda_stream) cy_cuda_ignore(cudaStreamSynchronize(s->cuda_stream));
    if (s->copy_out) cy_cuda_ignore(cudaStreamSynchronize(s->copy_out));
    cy_cuda_graph_close(s);
    if (s->cublas) cublasDestroy(s->cublas);
    for (int i = 0; i < 2; i++) {
        close_event(s->in[i].copied);
        close_event(s->in[i].free);
        close_event(s->out[i].copied);
        close_event(s->out[i].free);
    }
    for (int i = 0; i < CY_CUDA_RING; i++)
        close_event(s->ring[i].copied);
    close_event(s->began);
    if (s->cublas_memory) cy_cuda_ignore(cudaFree(s->cublas_memory));
    if (s->memory) cy_cuda_ignore(cudaFree(s->memory));
    if (s->pinned) cy_cuda_ignore(cudaFreeHost(s->pinned));
    if (s->copy_in) cy_cuda_ignore(cudaStreamDestroy(s->copy_in));
    if (s->copy_out) cy_cuda_ignore(cudaStreamDestroy(s->copy_out));
    if (s->own_stream && s->cuda_stream)
        cy_cuda_ignore(cudaStreamDestroy(s->cuda_stream));
}

void cy_cuda_session_close(cy_cuda_session *s)
{
    if (!s) return;
    cy_cuda_scope scope;
    cy_cuda_device_enter_to_close(&scope, s->model->device.index);
    close_on_device(s);
    cy_cuda_device_leave_closed(&scope);
    cy_free(s);
}

/* ---- every call ----------------------------------------------------------------------------- */

void cy_cuda_session_die(cy_cuda_session *s)
{
    s->dead = true;
    snprintf(s->why_dead, sizeof s->why_dead, "%s", cy_error());
}

carry_status cy_cuda_session_sync(cy_cuda_session *s, const char *what)
{
    cudaError_t error = cudaStreamSynchronize(s->cuda_stream);
    carry_status status = error == cudaSuccess ? CARRY_OK : cy_cuda_failed(error, what);
    if (status != CARRY_OK && s->pending) cy_cuda_session_die(s);
    s->pending = false;
    return status;
}

/* After a failure: waits for what was begun. Whether the device still works, the next call would find out too late:
 * its states would have been taken for good. The thread's sentence stays, it says what went wrong. */
static void settle(cy_cuda_session *s)
{
    cudaError_t in = cudaStreamSynchronize(s->copy_in);
    cudaError_t compute = cudaStreamSynchronize(s->cuda_stream);
    cudaError_t out = cudaStreamSynchronize(s->copy_out);
    if (in != cudaSuccess || compute != cudaSuccess || out != cudaSuccess) {
        cudaGetLastError();
        cy_cuda_session_die(s);
    }
    s->pending = false;
}

carry_status cy_cuda_session_enter(cy_cuda_session *s, cy_cuda_scope *scope)
{
    carry_status status = cy_cuda_device_enter(scope, s->model->device.index);
    if (status != CARRY_OK) {
        settle(s); /* a device that is lost refuses this already */
        return status;
    }
    if (!s->pending) return CARRY_OK;
    cudaError_t error = cudaStreamQuery(s->cuda_stream);
    if (error == cudaSuccess || error == cudaErrorNotReady) {
        if (error == cudaErrorNotReady) cudaGetLastError();
        return CARRY_OK;
    }
    status = cy_cuda_failed(error, "an earlier asynchronous call");
    cy_cuda_session_die(s);
    return cy_cuda_device_leave(scope, status);
}

carry_status cy_cuda_session_leave(cy_cuda_session *s, const cy_cuda_scope *scope,
                                   carry_status status)
{
    if (status != CARRY_OK) settle(s);
    carry_status left = cy_cuda_device_leave(scope, status);
    if (status == CARRY_OK && left != CARRY_OK) settle(s);
    return left;
}
