/* The CPU as a backend: memory is the host's, a session is a workspace and its threads. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "cpu/cpu.h"

#include "base/mem.h"
#include "cpu/cpu_control.h"
#include "cpu/cpu_dispatch.h"
#include "cpu/cpu_model.h"
#include "cpu/cpu_plan.h"
#include "cpu/cpu_run.h"
#include "cpu/cpu_threads.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Row-steps of a causal model's chunk. The weights pass once over each chunk, so more of them cost
 * less traffic; their sums take 16 x units bytes each, which should stay in a cache. */
#define CHUNK_ROW_STEPS 192

/* A call of cpu_run, for all its threads. */
typedef struct call {
    struct cpu_session *session;
    cy_run run;
    cy_cpu_job job;
} call;

typedef struct cpu_session {
    const cy_cpu_model *model;
    cy_limits limits;
    cy_cpu_pool *pool; /* NULL with one thread */
    size_t workspace_bytes;
    cy_cpu_space whole;
    cy_cpu_space *
        slices; /* [threads], over the memory of `whole`; NULL if rows are never divided */

    /* what the other threads read of a call; see tell */
    call *call;
    cy_row *rows;           /* [limits.max_rows] */
    cy_run_output *outputs; /* [output_count of the graph] */

    uint32_t calls_alone; /* CY_CPU_ALONE_FOR_NOW, each soon after the one before */
    uint64_t alone_ended_ns;
} cpu_session;

static bool cpu_device_info(uint32_t index, carry_device_info *info)
{
    if (index > 0) return false;
    info->name = "cpu";
    info->description = cy_cpu_isa();
    info->memory_bytes = info->free_bytes = 0;
    info->usable = 1;
    info->trouble = NULL;
    return true;
}

static carry_status cpu_model_open(const cy_graph *graph, uint32_t device,
                                   carry_precision precision, void **model,
                                   uint64_t *bytes)
{
    (void)device; /* there is one */
    *model = NULL;
    CY_CHECK(precision == CARRY_COMPUTE_FP32, CARRY_E_UNSUPPORTED,
             "the CPU computes in fp32 only; tf32, bf16 and fp16 need a CUDA device");
    cy_cpu_model *opened;
    carry_status status = cy_cpu_model_open(graph, cy_cpu_kernels_chosen(), &opened);
    *model = opened;
    *bytes = opened ? opened->bytes : 0;
    return status;
}

static void cpu_model_close(void *model)
{
    cy_cpu_model_close(model);
}

static void carve_space(cy_cpu_space *space, const cpu_session *session, size_t rows,
                        cy_carver *carver)
{
    size_t row_steps = rows > CHUNK_ROW_STEPS ? rows : CHUNK_ROW_STEPS, steps = row_steps;
    if (session->model->graph->whole_sequence) {
        steps = session->limits.max_steps;
        row_steps = steps * rows;
    }
    cy_cpu_space_carve(space, session->model, rows, row_steps, steps, carver);
}

/* The session, then the workspace: either one space for all rows, or one for each thread's rows. */
static void lay_out(cpu_session *session, cy_carver *carver)
{
    uint32_t threads = session->limits.threads, max_rows = session->limits.max_rows;
    size_t layers = session->model->layer_count;
    int divided = threads > 1 && cy_cpu_plan_may_divide_rows(&session->model->cost);
    cy_carve(carver, 1, sizeof *session);
    session->call = cy_carve(carver, 1, sizeof *session->call);
    session->rows = cy_carve(carver, max_rows, sizeof *session->rows);
    session->outputs =
        cy_carve(carver, session->model->graph->output_count, sizeof *session->outputs);
    session->whole.buffers = cy_carve(carver, layers, sizeof(cy_cpu_buffers));
    session->slices = divided ? cy_carve(carver, threads, sizeof *session->slices) : NULL;
    cy_cpu_buffers *buffers =
        divided ? cy_carve(carver, threads * layers, sizeof *buffers) : NULL;

    cy_carver slices = *carver;
    carve_space(&session->whole, session, max_rows, carver);
    for (uint32_t i = 0; divided && i < threads; i++) {
        cy_cpu_space unused = {0};
        cy_cpu_space *slice = session->slices ? &session->slices[i] : &unused;
        slice->buffers = buffers ? buffers + i * layers : NULL;
        carve_space(slice, session, max_rows / threads + (max_rows % threads != 0),
                    &slices);
    }
    if (slices.bytes > carver->bytes) carver->bytes = slices.bytes;
}

static void cpu_session_close(void *opaque)
{
    cpu_session *session = opaque;
    if (!session) return;
    cy_cpu_pool_close(session->pool);
    cy_free(session);
}

static carry_status cpu_session_open(void *model, const cy_limits *limits, void **opened)
{
    *opened = NULL;
    cpu_session measured = {.model = model, .limits = *limits};
    cy_carver carver = {0};
    lay_out(&measured, &carver);
    cpu_session *session = carver.bytes == SIZE_MAX ? NULL : cy_alloc(carver.bytes);
    CY_CHECK(session, CARRY_E_MEMORY, "out of memory: the workspace takes %zu bytes",
             carver.bytes);
    *session =
        (cpu_session){.model = model, .limits = *limits, .workspace_bytes = carver.bytes};
    carver = (cy_carver){.base = (unsigned char *)session};
    lay_out(session, &carver);
    if (limits->threads > 1) {
        carry_status status = cy_cpu_pool_open(&session->pool, limits->threads);
        if (status != CARRY_OK) {
            cpu_session_close(session);
            return status;
        }
    }
    *opened = session;
    return CARRY_OK;
}

static void cpu_session_facts(void *session, cy_session_facts *facts)
{
    *facts =
        (cy_session_facts){.workspace_bytes = ((cpu_session *)session)->workspace_bytes};
}

static carry_status cpu_session_alive(void *session)
{
    (void)session;
    return CARRY_OK;
}

static carry_status cpu_session_warm(void *session, const carry_graph_shape *shapes,
                                     size_t count)
{
    (void)session, (void)shapes, (void)count; /* nothing to capture */
    return CARRY_OK;
}

static void cpu_session_shapes(void *session, carry_graph_shape *shapes)
{
    (void)session, (void)shapes; /* none was captured */
}

static carry_status cpu_session_wait(void *session)
{
    (void)session; /* run waits */
    return CARRY_OK;
}

static const char *cpu_session_plan(void *opaque, uint32_t node, size_t rows,
                                    size_t steps, char *reason, size_t reason_bytes)
{
    const cpu_session *session = opaque;
    const cy_node *layer = &session->model->graph->nodes[node];
    cy_cpu_plan p = cy_cpu_plan_make(&session->model->cost, session->limits.threads,
                                     CY_CPU_ASLEEP, rows, (uint64_t)rows * steps);
    snprintf(reason, reason_bytes,
             "%s kernels, %u of %u threads share the %s of %zu rows and %zu steps",
             cy_cpu_isa(), p.threads, session->limits.threads,
             p.sharing == CY_CPU_BY_ROWS ? "rows" : "columns", rows, steps);
    switch (layer->op) {
    case CY_OP_LSTM:
        return "product, fused steps";
    case CY_OP_DENSE:
        return "product";
    case CY_OP_EMBEDDING:
        return "lookup";
    case CY_OP_ACTIVATION:
        return "element by element";
    case CY_OP_IDENTITY:
        break;
    }
    return "nothing";
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

static carry_status cpu_memory_clear(void *session, float *memory, size_t count)
{
    (void)session;
    memset(memory, 0, count * sizeof *memory);
    return CARRY_OK;
}

static carry_status cpu_memory_copy(void *session, float *to, const float *from,
                                    size_t count)
{
    (void)session;
    memcpy(to, from, count * sizeof *to);
    return CARRY_OK;
}

static carry_status cpu_memory_gather(void *opaque, float *host, const float *const *from,
                                      size_t count)
{
    const cpu_session *session = opaque;
    size_t floats = session->model->graph->state_floats;
    for (size_t i = 0; i < count; i++, host += floats)
        if (from[i]) memcpy(host, from[i], floats * sizeof *host);
        else memset(host, 0, floats * sizeof *host);
    return CARRY_OK;
}

static carry_status cpu_memory_scatter(void *opaque, float *const *to, const float *host,
                                       size_t count)
{
    const cpu_session *session = opaque;
    size_t floats = session->model->graph->state_floats;
    for (size_t i = 0; i < count; i++, host += floats)
        memcpy(to[i], host, floats * sizeof *host);
    return CARRY_OK;
}

static void run_panels(void *argument, uint32_t id)
{
    const call *c = argument;
    cy_cpu_job_run(&c->job, id);
}

/* Thread id of n takes rows id, id + n, id + 2n, ...: as many and, the rows being sorted, about as
 * many steps as the others. */
static void run_rows(void *argument, uint32_t id)
{
    const call *c = argument;
    cy_cpu_space *space = &c->session->slices[id];
    size_t count = 0;
    for (size_t r = id; r < c->run.row_count; r += c->job.threads)
        space->row_copies[count++] = c->run.rows[r];
    if (count == 0) return;
    cy_cpu_job job = {.model = c->session->model,
                      .run = &c->run,
                      .rows = space->row_copies,
                      .row_count = count,
                      .space = space,
                      .threads = 1};
    cy_cpu_job_prepare(&job);
    cy_cpu_job_run(&job, 0);
    cy_cpu_job_finish(&job);
}

static cy_cpu_plan plan(const cpu_session *session, const cy_run *run)
{
    size_t live = 0;
    uint64_t row_steps = 0;
    while (live < run->row_count && run->rows[live].steps > 0)
        row_steps += run->rows[live++].steps;
    return cy_cpu_plan_make(
        &session->model->cost, session->limits.threads,
        cy_cpu_pool_awake(session->pool) ? CY_CPU_AWAKE : CY_CPU_ASLEEP, live, row_steps);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Threads that have fallen asleep, in a pause of the caller or because it had lost its core, would stay
 * so for as long as its calls are small. */
static void begin_alone(cpu_session *session)
{
    if (!cy_cpu_plan_is_soon(now_ns() - session->alone_ended_ns))
        session->calls_alone = 0;
    if (!cy_cpu_plan_wakes(++session->calls_alone)) return;
    session->calls_alone = 0;
    cy_cpu_pool_wake(session->pool);
}

static cy_cpu_job job_of(cpu_session *session, const cy_run *run, uint32_t threads)
{
    return (cy_cpu_job){.model = session->model,
                        .run = run,
                        .rows = run->rows,
                        .row_count = run->row_count,
                        .space = &session->whole,
                        .pool = session->pool,
                        .threads = threads};
}

static void run_alone(cpu_session *session, const cy_run *run)
{
    cy_cpu_job job = job_of(session, run, 1);
    cy_cpu_job_prepare(&job);
    cy_cpu_job_run(&job, 0);
    cy_cpu_job_finish(&job);
}

/* A line of memory that one core writes and another reads goes to and fro, 50 to 200 ns each time and
 * often one after the other, while a small call takes 3000. So the other threads read a call from
 * lines that are theirs, where only what differs from the call before is written. */
static void tell(void *others, const void *news, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += CY_ALIGN) {
        size_t n = bytes - at < CY_ALIGN ? bytes - at : CY_ALIGN;
        if (memcmp((char *)others + at, (const char *)news + at, n) != 0)
            memcpy((char *)others + at, (const char *)news + at, n);
    }
}

static void run_shared(cpu_session *session, const cy_run *run, cy_cpu_plan p)
{
    bool by_rows = p.sharing == CY_CPU_BY_ROWS;
    call *shared = session->call, now = {.session = session, .run = *run};
    now.run.rows = session->rows;
    now.run.outputs = session->outputs;
    tell(session->rows, run->rows, run->row_count * sizeof *run->rows);
    tell(session->outputs, run->outputs,
         session->model->graph->output_count * sizeof *run->outputs);
    now.job = job_of(session, &now.run, p.threads);
    if (!by_rows) cy_cpu_job_prepare(&now.job);
    now.job.run = &shared->run;
    tell(shared, &now, sizeof now);
    cy_cpu_pool_run(session->pool, p.threads, by_rows ? run_rows : run_panels, shared);
    if (!by_rows) cy_cpu_job_finish(&shared->job);
}

static carry_status cpu_run(void *opaque, const cy_run *run)
{
    cpu_session *session = opaque;
    uint64_t control = cy_cpu_control_set();
    cy_cpu_plan p = plan(session, run);
    if (p.sharing == CY_CPU_ALONE_FOR_NOW) begin_alone(session);
    if (p.threads == 1) run_alone(session, run);
    else run_shared(session, run, p);
    if (p.sharing == CY_CPU_ALONE_FOR_NOW) session->alone_ended_ns = now_ns();
    cy_cpu_control_restore(control);
    return CARRY_OK;
}

const cy_backend cy_backend_cpu = {
    .name = "cpu",
    .default_max_rows = 64,
    .always_exact = true,
    .device_info = cpu_device_info,
    .model_open = cpu_model_open,
    .model_close = cpu_model_close,
    .session_open = cpu_session_open,
    .session_close = cpu_session_close,
    .session_facts = cpu_session_facts,
    .session_alive = cpu_session_alive,
    .session_warm = cpu_session_warm,
    .session_shapes = cpu_session_shapes,
    .session_wait = cpu_session_wait,
    .session_plan = cpu_session_plan,
    .memory_open = cpu_memory_open,
    .memory_close = cpu_memory_close,
    .memory_read = cpu_memory_copy,
    .memory_write = cpu_memory_copy,
    .memory_clear = cpu_memory_clear,
    .memory_copy = cpu_memory_copy,
    .memory_gather = cpu_memory_gather,
    .memory_scatter = cpu_memory_scatter,
    .run = cpu_run,
};
