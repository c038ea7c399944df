/* CUDA as a backend: the table, and what touches the memory of states. */
#include "cuda/cuda.h"

#include "base/mem.h"
#include "cuda/cuda_error.h"
#include "cuda/cuda_session.h"

#include <stdio.h>

static carry_status model_open(const cy_graph *graph, uint32_t device,
                               carry_precision precision, void **model, uint64_t *bytes)
{
    cy_cuda_model *opened = NULL;
    carry_status status = cy_cuda_model_open(graph, device, precision, &opened);
    *model = opened;
    *bytes = opened ? opened->memory_bytes : 0;
    return status;
}

static void model_close(void *model)
{
    cy_cuda_model_close(model);
}

static carry_status session_open(void *model, const cy_limits *limits, void **session)
{
    cy_cuda_session *opened = NULL;
    carry_status status = cy_cuda_session_open(model, limits, &opened);
    *session = opened;
    return status;
}

static void session_close(void *session)
{
    cy_cuda_session_close(session);
}

static void session_facts(void *opaque, cy_session_facts *facts)
{
    const cy_cuda_session *s = opaque;
    *facts = (cy_session_facts){.workspace_bytes = s->workspace_bytes,
                                .graphs = s->graph_count,
                                .graph_chunks = s->graph_chunks,
                                .plain_chunks = s->plain_chunks,
                                .dead = s->dead};
}

static carry_status session_alive(void *opaque)
{
    const cy_cuda_session *s = opaque;
    CY_CHECK(!s->dead, CARRY_E_DEVICE,
             "the session is dead and its states are lost: the device failed: %s",
             s->why_dead);
    return CARRY_OK;
}

static carry_status session_warm(void *session, const carry_graph_shape *shapes,
                                 size_t count)
{
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    return cy_cuda_session_leave(session, &scope,
                                 cy_cuda_graph_capture(session, shapes, count));
}

static void session_shapes(void *opaque, carry_graph_shape *shapes)
{
    const cy_cuda_session *s = opaque;
    for (const cy_cuda_graph *g = s->graphs; g; g = g->next)
        *shapes++ = g->shape;
}

static carry_status session_wait(void *opaque)
{
    cy_cuda_session *s = opaque;
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(s, &scope));
    return cy_cuda_session_leave(s, &scope,
                                 cy_cuda_session_sync(s, "an asynchronous call"));
}

/* A head behind the last step has rows alone; of a long call, a chunk is one product. */
static const char *plan_dense(const cy_cuda_session *s, const cy_cuda_layer *layer,
                              size_t rows, unsigned chunk, char *reason,
                              size_t reason_bytes)
{
    size_t count = layer->node->in_time ? rows * chunk : rows;
    snprintf(reason, reason_bytes, "%zu %s in one product of %u by %u", count,
             layer->node->in_time ? "rows and steps"
             : count == 1         ? "row"
                                  : "rows",
             layer->in, layer->width);
    return s->cublas ? "gemm + output" : "exact product + output";
}

static const char *session_plan(void *opaque, uint32_t node, size_t rows, size_t steps,
                                char *reason, size_t reason_bytes)
{
    const cy_cuda_session *s = opaque;
    const cy_cuda_layer *layer = &s->model->layers[node];
    unsigned chunk = s->model->graph->whole_sequence
                         ? (unsigned)steps
                         : cy_cuda_plan_steps(s->row_steps, (unsigned)rows, steps);
    reason[0] = 0;
    switch (layer->node->op) {
    case CY_OP_LSTM:
        break;
    case CY_OP_DENSE:
        return plan_dense(s, layer, rows, chunk, reason, reason_bytes);
    case CY_OP_EMBEDDING:
        return "lookup";
    case CY_OP_ACTIVATION:
        return "element by element";
    case CY_OP_IDENTITY:
        return "nothing";
    }
    cy_cuda_lstm_shape shape;
    cy_cuda_lstm_plan plan =
        cy_cuda_session_lstm_plan(s, layer, (unsigned)rows, chunk, &shape);
    cy_cuda_plan_explain(&plan, &shape, reason, reason_bytes);
    return cy_cuda_algorithm_name(plan.algorithm, shape.exact);
}

/* ---- memory of states ----------------------------------------------------------------------- */

static void memory_close(void *opaque, float *memory)
{
    cy_cuda_session *s = opaque;
    cy_cuda_scope scope;
    cy_cuda_device_enter_to_close(&scope, s->model->device.index);
    cy_cuda_ignore(cudaStreamSynchronize(s->cuda_stream));
    cy_cuda_ignore(cudaFree(memory));
    cy_cuda_device_leave_closed(&scope);
}

static carry_status memory_open(void *session, size_t bytes, float **memory)
{
    cy_cuda_scope scope;
    *memory = NULL;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    void *opened;
    carry_status status = cy_cuda_alloc(&opened, bytes, "a chunk of states");
    status = cy_cuda_session_leave(session, &scope, status);
    if (status != CARRY_OK && opened) memory_close(session, opened);
    else *memory = opened;
    return status;
}

/* In the order of the session's calls; `copy` also waits, since the other side is host memory. */
static carry_status copy(cy_cuda_session *s, void *to, const void *from, size_t count,
                         enum cudaMemcpyKind kind)
{
    CY_CUDA_TRY(cudaMemcpyAsync(to, from, count * sizeof(float), kind, s->cuda_stream),
                "copying a state");
    return cy_cuda_session_sync(s, "waiting for the copy of a state");
}

static carry_status memory_read(void *session, float *host, const float *memory,
                                size_t count)
{
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    return cy_cuda_session_leave(
        session, &scope, copy(session, host, memory, count, cudaMemcpyDeviceToHost));
}

static carry_status memory_write(void *session, float *memory, const float *host,
                                 size_t count)
{
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    return cy_cuda_session_leave(
        session, &scope, copy(session, memory, host, count, cudaMemcpyHostToDevice));
}

static carry_status memory_clear(void *opaque, float *memory, size_t count)
{
    cy_cuda_session *s = opaque;
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(s, &scope));
    cudaError_t error =
        cudaMemsetAsync(memory, 0, count * sizeof *memory, s->cuda_stream);
    carry_status status =
        error == cudaSuccess ? CARRY_OK : cy_cuda_failed(error, "clearing a state");
    return cy_cuda_session_leave(s, &scope, status);
}

static carry_status memory_copy(void *opaque, float *to, const float *from, size_t count)
{
    cy_cuda_session *s = opaque;
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(s, &scope));
    cudaError_t error = cudaMemcpyAsync(to, from, count * sizeof *to,
                                        cudaMemcpyDeviceToDevice, s->cuda_stream);
    carry_status status =
        error == cudaSuccess ? CARRY_OK : cy_cuda_failed(error, "copying a state");
    s->pending = s->pending || status == CARRY_OK;
    return cy_cuda_session_leave(s, &scope, status);
}

/* Many states at once: their addresses go into the scratch, and the states lie side by side behind them, so that as many
 * as fit are one kernel and one copy between host and device. */
static size_t states_at_once(const cy_cuda_session *s)
{
    size_t bytes = s->model->graph->state_floats * sizeof(float);
    return (s->scratch_bytes - CY_ALIGN) / (bytes + sizeof(float *));
}

static carry_status enter_addresses(const cy_cuda_session *s, const void *addresses,
                                    size_t count, cy_cuda_states *states)
{
    size_t bytes = count * sizeof(float *);
    *states =
        (cy_cuda_states){.states = (float *const *)(void *)s->scratch,
                         .packed = (float *)(void *)(s->scratch + cy_round_up(bytes)),
                         .count = (unsigned)count,
                         .width = (unsigned)s->model->graph->state_floats};
    CY_CUDA_TRY(cudaMemcpyAsync(s->scratch, addresses, bytes, cudaMemcpyHostToDevice,
                                s->cuda_stream),
                "copying the addresses of states");
    return CARRY_OK;
}

static carry_status gather(cy_cuda_session *s, float *host, const float *const *from,
                           size_t count)
{
    cy_cuda_states states;
    for (size_t room = states_at_once(s), some; count > 0; count -= some) {
        some = count < room ? count : room;
        CY_TRY(enter_addresses(s, from, some, &states));
        CY_CUDA_TRY(cy_cuda_states_gather_launch(&states, s->cuda_stream),
                    "gathering states");
        CY_CUDA_TRY(cudaMemcpyAsync(host, states.packed,
                                    some * states.width * sizeof *host,
                                    cudaMemcpyDeviceToHost, s->cuda_stream),
                    "copying states");
        from += some;
        host += some * states.width;
    }
    return cy_cuda_session_sync(s, "waiting for the copy of states");
}

static carry_status scatter(cy_cuda_session *s, float *const *to, const float *host,
                            size_t count)
{
    cy_cuda_states states;
    for (size_t room = states_at_once(s), some; count > 0; count -= some) {
        some = count < room ? count : room;
        CY_TRY(enter_addresses(s, to, some, &states));
        CY_CUDA_TRY(cudaMemcpyAsync(states.packed, host,
                                    some * states.width * sizeof *host,
                                    cudaMemcpyHostToDevice, s->cuda_stream),
                    "copying states");
        CY_CUDA_TRY(cy_cuda_states_scatter_launch(&states, s->cuda_stream),
                    "scattering states");
        to += some;
        host += some * states.width;
    }
    return cy_cuda_session_sync(s, "waiting for the copy of states");
}

static carry_status memory_gather(void *session, float *host, const float *const *from,
                                  size_t count)
{
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    return cy_cuda_session_leave(session, &scope, gather(session, host, from, count));
}

static carry_status memory_scatter(void *session, float *const *to, const float *host,
                                   size_t count)
{
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    return cy_cuda_session_leave(session, &scope, scatter(session, to, host, count));
}

static carry_status run(void *session, const cy_run *run)
{
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_session_enter(session, &scope));
    return cy_cuda_session_leave(session, &scope, cy_cuda_run(session, run));
}

const cy_backend cy_backend_cuda = {
    .name = "cuda",
    .default_max_rows = 1024,
    .default_row_steps = 65536, /* all of a whole sequence lies in the workspace */
    .takes_device_memory = true,
    .device_info = cy_cuda_device_info,
    .model_open = model_open,
    .model_close = model_close,
    .session_open = session_open,
    .session_close = session_close,
    .session_facts = session_facts,
    .session_alive = session_alive,
    .session_warm = session_warm,
    .session_shapes = session_shapes,
    .session_wait = session_wait,
    .session_plan = session_plan,
    .memory_open = memory_open,
    .memory_close = memory_close,
    .memory_read = memory_read,
    .memory_write = memory_write,
    .memory_clear = memory_clear,
    .memory_copy = memory_copy,
    .memory_gather = memory_gather,
    .memory_scatter = memory_scatter,
    .run = run,
};
