/* The CPU as a backend: memory is the host's, a session is a workspace and its threads. */
#include "cpu/cpu.h"

#include "base/mem.h"
#include "cpu/cpu_control.h"
#include "cpu/cpu_dispatch.h"
#include "cpu/cpu_model.h"
#include "cpu/cpu_run.h"
#include "cpu/cpu_threads.h"

#include <string.h>

/* Row-steps of a causal model's chunk. The weights pass once over each chunk, so more of them cost
 * less traffic; their products take 16 x units bytes each, which should stay in a cache. */
#define CHUNK_ROW_STEPS 192

typedef struct cpu_session {
    const cy_cpu_model *model;
    cy_limits limits;
    cy_cpu_space space;
} cpu_session;

static carry_status cpu_model_open(const cy_graph *graph, void **model)
{
    cy_cpu_model *opened;
    carry_status status = cy_cpu_model_open(graph, cy_cpu_kernels_chosen(), &opened);
    *model = opened;
    return status;
}

static void cpu_model_close(void *model)
{
    cy_cpu_model_close(model);
}

static void lay_out(cpu_session *session, cy_carver *carver)
{
    const cy_limits *limits = &session->limits;
    size_t row_steps, steps;
    if (session->model->graph->whole_sequence) {
        steps = limits->max_steps;
        row_steps = steps * limits->max_rows;
    } else {
        row_steps =
            limits->max_rows > CHUNK_ROW_STEPS ? limits->max_rows : CHUNK_ROW_STEPS;
        steps = row_steps;
    }
    cy_carve(carver, 1, sizeof *session); /* the session itself comes first */
    cy_cpu_space_carve(&session->space, session->model, limits->max_rows, row_steps,
                       steps, carver);
}

static carry_status cpu_session_open(void *model, const cy_limits *limits, void **session,
                                     size_t *bytes)
{
    *session = NULL;
    cpu_session measured = {.model = model, .limits = *limits};
    cy_carver carver = {0};
    lay_out(&measured, &carver);
    cpu_session *opened = carver.bytes == SIZE_MAX ? NULL : cy_alloc(carver.bytes);
    CY_CHECK(opened, CARRY_E_MEMORY, "out of memory: the workspace takes %zu bytes",
             carver.bytes);
    *bytes = carver.bytes;
    *opened = (cpu_session){.model = model, .limits = *limits};
    carver = (cy_carver){.base = (unsigned char *)opened};
    lay_out(opened, &carver);
    *session = opened;
    return CARRY_OK;
}

static void cpu_session_close(void *session)
{
    cy_free(session);
}

static carry_status cpu_memory_open(void *session, size_t bytes, float **memory)
{
    (void)session;
    *memory = cy_alloc(bytes);
    CY_CHECK(*memory, CARRY_E_MEMORY, "out of memory: states take %zu bytes more", bytes);
    return CARRY_OK;
}

static void cpu_memory_close(void *session, float *memory)
{
    (void)session;
    cy_free(memory);
}

static carry_status cpu_memory_copy(void *session, float *to, const float *from,
                                    size_t count)
{
    (void)session;
    memcpy(to, from, count * sizeof *to);
    return CARRY_OK;
}

static carry_status cpu_run(void *opaque, const cy_run *run)
{
    cpu_session *session = opaque;
    uint64_t control = cy_cpu_control_set();
    cy_cpu_job job = {.model = session->model,
                      .run = run,
                      .rows = run->rows,
                      .row_count = run->row_count,
                      .space = &session->space,
                      .threads = 1};
    cy_cpu_job_prepare(&job);
    cy_cpu_job_run(&job, 0);
    cy_cpu_control_restore(control);
    return CARRY_OK;
}

const cy_backend cy_backend_cpu = {
    .name = "cpu",
    .model_open = cpu_model_open,
    .model_close = cpu_model_close,
    .session_open = cpu_session_open,
    .session_close = cpu_session_close,
    .memory_open = cpu_memory_open,
    .memory_close = cpu_memory_close,
    .memory_read = cpu_memory_copy,
    .memory_write = cpu_memory_copy,
    .memory_copy = cpu_memory_copy,
    .run = cpu_run,
};
