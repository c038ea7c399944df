/* Captured launches: for a shape, the kernels of a chunk as a graph, once for each part of a call. */
#include "base/mem.h"
#include "cuda/cuda_error.h"
#include "cuda/cuda_session.h"

static carry_status instantiate(cudaGraph_t captured, cudaStream_t cuda_stream,
                                cudaGraphExec_t *executable)
{
    cudaError_t error = cudaGraphInstantiate(executable, captured, 0);
    cudaError_t destroyed = cudaGraphDestroy(captured);
    if (error != cudaSuccess) *executable = NULL;
    CY_CUDA_TRY(error, "instantiating a graph");
    CY_CUDA_TRY(destroyed, "giving a captured graph back");
    /* Now, so that the first launch, in a call, has nothing left to take or to copy. */
    CY_CUDA_TRY(cudaGraphUpload(*executable, cuda_stream), "uploading a graph");
    return CARRY_OK;
}

/* A graph writes every output, as the model declares it. */
static carry_status capture_part(cy_cuda_session *s, const carry_graph_shape *shape,
                                 cy_cuda_part part, cudaGraphExec_t *executable)
{
    cy_cuda_chunk chunk = {.rows = shape->rows,
                           .ran_rows = shape->rows,
                           .room_rows = shape->rows,
                           .all_rows = shape->rows,
                           .steps = shape->steps,
                           .part = part};
    CY_CUDA_TRY(cudaStreamBeginCapture(s->cuda_stream, cudaStreamCaptureModeThreadLocal),
                "beginning a capture");
    carry_status status = cy_cuda_compute(s, &chunk, s->declared);
    cudaGraph_t captured = NULL;
    cudaError_t error = cudaStreamEndCapture(s->cuda_stream, &captured);
    if (status != CARRY_OK) {
        if (captured) cy_cuda_ignore(cudaGraphDestroy(captured));
        cy_cuda_ignore(error);
        return status;
    }
    CY_CUDA_TRY(error, "ending a capture");
    return instantiate(captured, s->cuda_stream, executable);
}

static void close_graph(cy_cuda_graph *graph)
{
    for (int part = 0; part < CY_CUDA_PART_COUNT; part++)
        if (graph->parts[part]) cy_cuda_ignore(cudaGraphExecDestroy(graph->parts[part]));
    cy_free(graph);
}

/* A whole-sequence model has no other part: a call is one chunk. */
static carry_status capture(cy_cuda_session *s, const carry_graph_shape *shape,
                            cy_cuda_graph **captured)
{
    cy_cuda_graph *fresh = cy_alloc(sizeof *fresh);
    CY_CHECK(fresh, CARRY_E_MEMORY, "out of memory: a graph's table");
    fresh->shape = *shape;
    for (int part = 0; part < CY_CUDA_PART_COUNT; part++) {
        carry_status status =
            capture_part(s, shape, (cy_cuda_part)part, &fresh->parts[part]);
        if (status != CARRY_OK) {
            close_graph(fresh);
            return status;
        }
    }
    *captured = fresh;
    return CARRY_OK;
}

static bool goes_before(const carry_graph_shape *a, const carry_graph_shape *b)
{
    return a->steps != b->steps ? a->steps > b->steps : a->rows < b->rows;
}

static bool is_there(const cy_cuda_session *s, const carry_graph_shape *shape)
{
    for (const cy_cuda_graph *g = s->graphs; g; g = g->next)
        if (g->shape.rows == shape->rows && g->shape.steps == shape->steps) return true;
    return false;
}

carry_status cy_cuda_graph_capture(cy_cuda_session *s, const carry_graph_shape *shapes,
                                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const carry_graph_shape *shape = &shapes[i];
        size_t needed = (size_t)shape->rows * shape->steps;
        CY_CHECK(!s->model->graph->whole_sequence, CARRY_E_UNSUPPORTED,
                 "graphs are of causal models; this one needs whole sequences");
        CY_CHECK(needed <= s->row_steps, CARRY_E_ARGUMENT,
                 "graph shape %zu: %u rows of %u steps are %zu row-steps, the session's "
                 "buffers hold %zu; name the shape when the session is opened",
                 i, shape->rows, shape->steps, needed, s->row_steps);
        if (is_there(s, shape)) continue;
        cy_cuda_graph *fresh = NULL;
        CY_TRY(capture(s, shape, &fresh));
        cy_cuda_graph **at = &s->graphs;
        while (*at && goes_before(&(*at)->shape, shape))
            at = &(*at)->next;
        fresh->next = *at;
        *at = fresh;
        s->graph_count++;
    }
    return CARRY_OK;
}

/* A graph computes all its rows. Where a small part of them has steps it is not worth while, unless they are few
 * anyway. */
/* The first that fits has the most steps, and of those the fewest rows. A longer call is not cut into graphs of one
 * step: each would cost a copy, and the x products would no longer be one. */
const cy_cuda_graph *cy_cuda_graph_find(const cy_cuda_session *s, unsigned rows,
                                        unsigned alive, size_t left)
{
    for (const cy_cuda_graph *g = s->graphs; g; g = g->next)
        if (g->shape.rows >= rows &&
            (g->shape.rows <= CY_CUDA_FEW_ROWS || g->shape.rows <= 4 * alive) &&
            g->shape.steps <= left && (g->shape.steps > 1 || left == 1))
            return g;
    return NULL;
}

void cy_cuda_graph_close(cy_cuda_session *s)
{
    while (s->graphs) {
        cy_cuda_graph *next = s->graphs->next;
        close_graph(s->graphs);
        s->graphs = next;
    }
}
