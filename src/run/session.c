#include "run/session.h"

#include "base/cpu_limit.h"
#include "base/mem.h"
#include "base/sized.h"

#include <string.h>

#define DEFAULT_MAX_STEPS 1024u
#define MOST_ROWS         (1u << 20)
#define MOST_STEPS        (1u << 24)
#define MOST_THREADS      1024u
#define MOST_GRAPHS       64u
#define MOST_GRAPH_STEPS  1024u

carry_status cy_session_take(carry_session *session, const char *function)
{
    CY_CHECK(session, CARRY_E_ARGUMENT, "%s: session is NULL", function);
    CY_CHECK(!atomic_flag_test_and_set_explicit(&session->busy, memory_order_acquire),
             CARRY_E_BUSY, "%s: the session is in use by another thread", function);
    return CARRY_OK;
}

carry_status cy_session_enter(carry_session *session, const char *function)
{
    CY_TRY(cy_session_take(session, function));
    carry_status status = session->backend->session_alive(session->device_session);
    if (status != CARRY_OK) cy_session_leave(session);
    return status;
}

void cy_session_leave(carry_session *session)
{
    atomic_flag_clear_explicit(&session->busy, memory_order_release);
}

carry_status cy_session_mark(carry_session *session, carry_state state, cy_slot **slot)
{
    CY_TRY(cy_pool_find(&session->pool, state, slot));
    CY_CHECK((*slot)->mark != session->pool.call, CARRY_E_DUPLICATE,
             "state %016llx is given twice", (unsigned long long)state.id);
    (*slot)->mark = session->pool.call;
    return CARRY_OK;
}

/* ---- open and close ------------------------------------------------------------------------- */

static carry_status check_shapes(const carry_graph_shape *shapes, size_t count,
                                 uint32_t max_rows)
{
    CY_CHECK(shapes || count == 0, CARRY_E_ARGUMENT, "graph shapes are NULL");
    CY_CHECK(count <= MOST_GRAPHS, CARRY_E_ARGUMENT,
             "%zu graph shapes; %u are the most at once", count, MOST_GRAPHS);
    for (size_t i = 0; i < count; i++)
        CY_CHECK(shapes[i].rows >= 1 && shapes[i].rows <= max_rows &&
                     shapes[i].steps >= 1 && shapes[i].steps <= MOST_GRAPH_STEPS,
                 CARRY_E_ARGUMENT,
                 "graph shape %zu: %u rows of %u steps; rows can be 1 to %u (max_rows), "
                 "steps 1 to %u",
                 i, shapes[i].rows, shapes[i].steps, max_rows, MOST_GRAPH_STEPS);
    return CARRY_OK;
}

static carry_status choose_steps(const cy_graph *graph,
                                 const carry_session_options *options,
                                 uint32_t *max_steps)
{
    *max_steps = 0;
    if (!graph->whole_sequence) return CARRY_OK;
    uint64_t steps = options->max_steps   ? options->max_steps
                     : graph->input.steps ? graph->input.steps
                                          : DEFAULT_MAX_STEPS;
    CY_CHECK(steps <= MOST_STEPS, CARRY_E_ARGUMENT, "max_steps is %llu; %u are the most",
             (unsigned long long)steps, MOST_STEPS);
    *max_steps = (uint32_t)steps;
    return CARRY_OK;
}

/* By default; of long whole sequences fewer, so that what a session takes is bounded. */
static uint32_t default_rows(const cy_backend *backend, uint32_t max_steps)
{
    uint32_t rows = backend->default_max_rows;
    if (max_steps == 0 || backend->default_row_steps == 0) return rows;
    uint32_t fit = backend->default_row_steps / max_steps;
    return fit == 0 ? 1 : fit < rows ? fit : rows;
}

static carry_status choose_limits(const carry_model *model,
                                  const carry_session_options *options, cy_limits *limits)
{
    CY_TRY(choose_steps(model->graph, options, &limits->max_steps));
    limits->threads = options->threads ? options->threads : cy_cpu_limit();
    limits->max_rows = options->max_rows
                           ? options->max_rows
                           : default_rows(model->backend, limits->max_steps);
    limits->exact = options->exact != 0 || model->backend->always_exact;
    limits->cuda_stream = options->cuda_stream;
    limits->graphs = options->graphs;
    limits->graph_count = options->graph_count;
    CY_CHECK(options->exact <= 1, CARRY_E_ARGUMENT, "exact is %u; it can be 0 or 1",
             options->exact);
    CY_CHECK(limits->threads <= MOST_THREADS, CARRY_E_ARGUMENT,
             "threads is %u; %u are the most", limits->threads, MOST_THREADS);
    if (model->backend->takes_device_memory)
        limits->threads = 1; /* the device does the work */
    CY_CHECK(limits->max_rows <= MOST_ROWS, CARRY_E_ARGUMENT,
             "max_rows is %u; %u are the most", limits->max_rows, MOST_ROWS);
    return check_shapes(limits->graphs, limits->graph_count, limits->max_rows);
}

static void carve(cy_carver *carver, carry_session *session)
{
    size_t rows = session->limits.max_rows;
    size_t outputs = session->model->graph->output_count;
    session->rows = cy_carve(carver, rows, sizeof *session->rows);
    session->order = cy_carve(carver, rows, sizeof *session->order);
    session->outputs = cy_carve(carver, outputs, sizeof *session->outputs);
}

/* The session and its arrays are one block; what fails here leaves the rest to close. */
static carry_status open_session(carry_session **session, carry_model *model,
                                 const carry_session_options *options)
{
    carry_session shape = {.model = model, .backend = model->backend};
    CY_TRY(choose_limits(model, options, &shape.limits));
    size_t header = cy_round_up(sizeof shape);
    cy_carver carver = {.bytes = header};
    carve(&carver, &shape);
    carry_session *fresh = cy_alloc(carver.bytes);
    CY_CHECK(fresh, CARRY_E_MEMORY, "out of memory: %zu bytes for a session",
             carver.bytes);
    fresh->limits = shape.limits;
    fresh->model = model;
    fresh->backend = model->backend;
    fresh->workspace_bytes = carver.bytes;
    atomic_flag_clear(&fresh->busy);
    carver = (cy_carver){.base = (unsigned char *)fresh, .bytes = header};
    carve(&carver, fresh);
    cy_model_hold(model);
    *session = fresh;

    CY_TRY(fresh->backend->session_open(model->device_model, &fresh->limits,
                                        &fresh->device_session));
    fresh->limits.graphs = NULL; /* the caller's */
    return cy_pool_open(&fresh->pool, fresh->backend, fresh->device_session,
                        model->graph->state_floats, options->max_states);
}

carry_status carry_session_open(carry_session **session, carry_model *model,
                                const carry_session_options *options)
{
    CY_CHECK(session, CARRY_E_ARGUMENT, "carry_session_open: session is NULL");
    *session = NULL;
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_session_open: model is NULL");
    carry_session_options known;
    CY_TRY(cy_sized_read(&known, sizeof known, options, "carry_session_options"));
    carry_status status = open_session(session, model, &known);
    if (status != CARRY_OK) carry_session_close(session);
    return status;
}

void carry_session_close(carry_session **session)
{
    if (!session || !*session) return;
    carry_session *old = *session;
    cy_pool_close(&old->pool);
    if (old->device_session) old->backend->session_close(old->device_session);
    cy_model_release(old->model);
    cy_free(old);
    *session = NULL;
}

carry_status carry_session_get_info(carry_session *session, carry_session_info *info)
{
    CY_TRY(cy_session_take(session, "carry_session_get_info"));
    cy_session_facts facts;
    session->backend->session_facts(session->device_session, &facts);
    carry_session_info known = {
        .threads = session->limits.threads,
        .max_rows = session->limits.max_rows,
        .max_steps = session->limits.max_steps,
        .states = cy_pool_open_count(&session->pool),
        .workspace_bytes = session->workspace_bytes + facts.workspace_bytes,
        .pool_bytes = session->pool.bytes,
        .exact = session->limits.exact,
        .graphs = facts.graphs,
        .graph_chunks = session->graph_chunks + facts.graph_chunks,
        .plain_chunks = session->plain_chunks + facts.plain_chunks,
        .dead = facts.dead};
    cy_session_leave(session);
    return cy_sized_write(info, &known, sizeof known, "carry_session_info");
}

carry_status carry_session_warm(carry_session *session, const carry_graph_shape *shapes,
                                size_t count)
{
    CY_TRY(cy_session_enter(session, "carry_session_warm"));
    carry_status status = check_shapes(shapes, count, session->limits.max_rows);
    if (status == CARRY_OK)
        status = session->backend->session_warm(session->device_session, shapes, count);
    cy_session_leave(session);
    return status;
}

carry_status carry_session_wait(carry_session *session)
{
    CY_TRY(cy_session_enter(session, "carry_session_wait"));
    carry_status status = session->backend->session_wait(session->device_session);
    cy_session_leave(session);
    return status;
}

static carry_status get_plan(carry_session *session, size_t layer, size_t rows,
                             size_t steps, carry_plan_info *info)
{
    const cy_graph *graph = session->model->graph;
    carry_plan_info known = {0};
    CY_CHECK(layer < graph->node_count, CARRY_E_ARGUMENT, "layer %zu of %u", layer,
             graph->node_count);
    CY_CHECK(rows >= 1 && steps >= 1, CARRY_E_ARGUMENT,
             "carry_session_get_plan: %zu rows of %zu steps; at least 1 of each", rows,
             steps);
    if (rows > session->limits.max_rows) rows = session->limits.max_rows;
    known.algorithm =
        session->backend->session_plan(session->device_session, (uint32_t)layer, rows,
                                       steps, known.reason, sizeof known.reason);
    return cy_sized_write(info, &known, sizeof known, "carry_plan_info");
}

carry_status carry_session_get_plan(carry_session *session, size_t layer, size_t rows,
                                    size_t steps, carry_plan_info *info)
{
    CY_TRY(cy_session_enter(session, "carry_session_get_plan"));
    carry_status status = get_plan(session, layer, rows, steps, info);
    cy_session_leave(session);
    return status;
}
