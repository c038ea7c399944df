/* A whole call: cuts it into chunks, and keeps copies and kernels of three of them going at once. */
#include "cuda/cuda_error.h"
#include "cuda/cuda_stage.h"

static unsigned rows_alive(const cy_run *run, unsigned most, size_t step)
{
    while (most > 0 && run->rows[most - 1].steps <= step)
        most--;
    return most;
}

/* Chunks go as far as the longest row. The zeros behind it are written at the end. */
static size_t steps_of(const cy_cuda_call *call)
{
    size_t longest = call->run->rows[0].steps;
    return longest > 0 ? longest : 1;
}

/* Graphs write every output as the model declares it. A call of one step is the same either way. */
static bool graphs_fit(const cy_cuda_call *call)
{
    const cy_graph *graph = call->session->model->graph;
    for (uint32_t o = 0; o < graph->output_count; o++) {
        const cy_run_output *output = &call->run->outputs[o];
        bool has_time = cy_graph_has_time(graph, graph->outputs[o]);
        if (output->data && has_time && !output->all_steps && call->run->max_steps > 1)
            return false;
    }
    return true;
}

/* Of rows in falling order of steps, not of room: the last with room beyond `step`, and all before it. */
static unsigned rows_with_room(const cy_run *run, unsigned alive, size_t step)
{
    unsigned most = run->row_count;
    while (most > alive && run->rows[most - 1].span <= step)
        most--;
    return most;
}

/* A row that ends inside a chunk is computed up to the chunk's end. Where many rows run, the chunk ends no later than half
 * of them do: at most as much again is computed in vain, for a few chunks more. */
static unsigned steps_worth_while(const cy_cuda_call *call, const cy_cuda_span *span)
{
    const cy_run *run = call->run;
    const cy_cuda_chunk *chunk = &span->chunk;
    size_t left = call->total_steps - span->first_step;
    unsigned steps = cy_cuda_plan_steps(call->session->row_steps, chunk->room_rows, left);
    if (chunk->rows <= CY_CUDA_FEW_ROWS) return steps;
    size_t half = run->rows[(chunk->rows - 1) / 2].steps - span->first_step;
    return half < steps ? (unsigned)half : steps;
}

static void plan_span(const cy_cuda_call *call, cy_cuda_span *span,
                      const cy_cuda_graph **graph)
{
    const cy_cuda_session *s = call->session;
    size_t left = call->total_steps - span->first_step;
    cy_cuda_chunk *chunk = &span->chunk;
    chunk->all_rows = call->run->row_count;
    chunk->ran_rows = call->ran_rows;
    chunk->rows = rows_alive(call->run, call->ran_rows, span->first_step);
    chunk->room_rows = rows_with_room(call->run, chunk->rows, span->first_step);
    *graph = chunk->rows > 0 && graphs_fit(call)
                 ? cy_cuda_graph_find(s, chunk->all_rows, chunk->rows, left)
                 : NULL;
    if (*graph) chunk->steps = (*graph)->shape.steps;
    else if (s->model->graph->whole_sequence && chunk->rows > 0)
        chunk->steps = call->run->rows[0].steps;
    else chunk->steps = steps_worth_while(call, span);
    span->block_rows = *graph ? (*graph)->shape.rows : chunk->all_rows;
    cy_cuda_stage_measure(call, span);
    bool first = span->first_step == 0, last = chunk->steps >= left;
    chunk->part = !last   ? CY_CUDA_PART_MIDDLE
                  : first ? CY_CUDA_PART_ONLY
                          : CY_CUDA_PART_LAST;
}

static carry_status run_span(const cy_cuda_call *call, const cy_cuda_span *span,
                             const cy_cuda_graph *graph)
{
    cy_cuda_session *s = call->session;
    CY_TRY(cy_cuda_stage_in(call, span));
    if (graph) {
        CY_CUDA_TRY(cudaGraphLaunch(graph->parts[span->chunk.part], s->cuda_stream),
                    "launching a graph");
        s->graph_chunks++;
    } else {
        CY_TRY(cy_cuda_compute(s, &span->chunk, call->run->outputs));
        s->plain_chunks++;
    }
    return cy_cuda_stage_out(call, span);
}

/* copy_in comes after what was enqueued before the call (copy_out does anyway, behind the kernels), and copy_out
 * before what follows it. */
static carry_status fork_copies(const cy_cuda_call *call)
{
    cy_cuda_session *s = call->session;
    if (call->one_chunk) return CARRY_OK;
    CY_CUDA_TRY(cudaEventRecord(s->began, s->cuda_stream), "marking the call's begin");
    CY_CUDA_TRY(cudaStreamWaitEvent(s->copy_in, s->began, 0), "forking copy_in");
    return CARRY_OK;
}

static carry_status join_copies(const cy_cuda_call *call)
{
    cy_cuda_session *s = call->session;
    for (int i = 0; i < 2 && !call->one_chunk; i++)
        CY_CUDA_TRY(cudaStreamWaitEvent(s->cuda_stream, s->out[i].copied, 0),
                    "joining copy_out");
    return CARRY_OK;
}

static bool ids_on_device(const cy_cuda_call *call)
{
    return call->session->model->graph->input.ids &&
           call->run->input_place == CARRY_DEVICE && !call->run->asynchronous;
}

static carry_status run_chunks(const cy_cuda_call *call)
{
    cy_cuda_session *s = call->session;
    cy_cuda_span span = {0}, before = {0};
    for (;; span.number++) {
        const cy_cuda_graph *graph;
        plan_span(call, &span, &graph);
        CY_TRY(run_span(call, &span, graph));
        if (span.number > 0) CY_TRY(cy_cuda_stage_finish(call, &before));
        before = span;
        span.first_step += span.chunk.steps;
        if (span.first_step >= call->total_steps) break;
    }
    CY_TRY(join_copies(call));
    CY_TRY(cy_cuda_stage_end(call));
    if (ids_on_device(call))
        CY_CUDA_TRY(cudaMemcpyAsync(s->bad_ids_pinned, s->bad_ids, sizeof *s->bad_ids,
                                    cudaMemcpyDeviceToHost, s->cuda_stream),
                    "copying the count of bad ids");
    if (call->run->asynchronous) {
        s->pending = true;
        return CARRY_OK;
    }
    CY_TRY(cy_cuda_session_sync(s, "waiting for the call"));
    CY_TRY(cy_cuda_stage_finish(call, &before));
    cy_cuda_stage_finish_end(call);
    return CARRY_OK;
}

carry_status cy_cuda_run(cy_cuda_session *session, const cy_run *run)
{
    cy_cuda_call call = {.session = session, .run = run};
    for (uint32_t r = 0; r < run->row_count; r++)
        session->caller_order[run->rows[r].index - run->first_row] = r;
    call.ran_rows = rows_alive(run, run->row_count, 0);
    call.total_steps = steps_of(&call);
    cy_cuda_span span = {0};
    const cy_cuda_graph *graph;
    plan_span(&call, &span, &graph);
    call.one_chunk = span.chunk.steps >= call.total_steps;
    call.in = call.one_chunk ? session->cuda_stream : session->copy_in;
    call.out = call.one_chunk ? session->cuda_stream : session->copy_out;
    if (ids_on_device(&call))
        CY_CUDA_TRY(cudaMemsetAsync(session->bad_ids, 0, sizeof *session->bad_ids,
                                    session->cuda_stream),
                    "clearing the count of bad ids");
    CY_TRY(fork_copies(&call));
    CY_TRY(run_chunks(&call));
    CY_CHECK(!ids_on_device(&call) || *session->bad_ids_pinned == 0, CARRY_E_INPUT,
             "%u ids in device memory are not in 0 .. %llu", *session->bad_ids_pinned,
             (unsigned long long)session->model->graph->ids - 1);
    return CARRY_OK;
}
