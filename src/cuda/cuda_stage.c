#include "cuda/cuda_stage.h"

#include "base/mem.h"
#include "cuda/cuda_error.h"

#include <string.h>

#define MOST_PITCH ((size_t)0x7fffffff) /* cudaDevAttrMaxPitch of every device */

static size_t dtype_bytes(carry_dtype dtype)
{
    return dtype == CARRY_F16 || dtype == CARRY_BF16 ? 2 : 4;
}

static cy_cuda_type type_of(carry_dtype dtype)
{
    return dtype == CARRY_F16    ? CY_CUDA_F16
           : dtype == CARRY_BF16 ? CY_CUDA_BF16
                                 : CY_CUDA_F32;
}

static size_t width_of(const cy_cuda_call *call, uint32_t output)
{
    const cy_graph *graph = call->session->model->graph;
    return cy_graph_width(graph, graph->outputs[output]);
}

static cy_cuda_staging *staging_of(cy_cuda_staging *pair, const cy_cuda_span *span)
{
    return &pair[span->number % 2];
}

/* The caller's memory is used as it lies when the device can reach it. */
static bool is_staged(carry_place place)
{
    return place != CARRY_DEVICE;
}

/* Rows of `bytes` between pinned memory and a staging buffer. One copy, unless rows lie further apart than the device's
 * copies can step. */
static cudaError_t copy_rows(void *to, size_t to_pitch, const void *from,
                             size_t from_pitch, size_t bytes, size_t rows,
                             enum cudaMemcpyKind kind, cudaStream_t stream)
{
    if (to_pitch <= MOST_PITCH && from_pitch <= MOST_PITCH)
        return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, bytes, rows, kind,
                                 stream);
    cudaError_t error = cudaSuccess;
    for (size_t row = 0; row < rows && error == cudaSuccess; row++)
        error = cudaMemcpyAsync((unsigned char *)to + row * to_pitch,
                                (const unsigned char *)from + row * from_pitch, bytes,
                                kind, stream);
    return error;
}

/* ---- rows in the caller's order ------------------------------------------------------------- */

static const cy_row *callers_row(const cy_cuda_call *call, size_t i)
{
    return &call->run->rows[call->session->caller_order[i]];
}

/* How many of the chunk's steps are among a row's first `steps`. */
static size_t in_chunk(const cy_cuda_span *span, size_t steps)
{
    size_t left = steps > span->first_step ? steps - span->first_step : 0;
    return left < span->chunk.steps ? left : span->chunk.steps;
}

/* Steps that a row takes up in the staging buffers. */
static size_t staged_in(const cy_cuda_call *call, const cy_cuda_span *span,
                        const cy_row *row)
{
    return call->run->packed ? in_chunk(span, row->steps) : span->chunk.steps;
}

static size_t staged_out(const cy_cuda_span *span, const cy_row *row)
{
    return in_chunk(span, row->span);
}

void cy_cuda_stage_measure(const cy_cuda_call *call, cy_cuda_span *span)
{
    span->in_steps = span->out_steps = (size_t)span->chunk.all_rows * span->chunk.steps;
    if (!call->run->packed) return;
    span->in_steps = span->out_steps = 0;
    for (unsigned r = 0; r < span->chunk.all_rows; r++) {
        span->in_steps += staged_in(call, span, &call->run->rows[r]);
        span->out_steps += staged_out(span, &call->run->rows[r]);
    }
}

/* A copy that waits for what may follow it: pieces that follow one another on both sides are one. */
typedef struct piece {
    unsigned char *to;
    const unsigned char *from;
    size_t bytes;
    enum cudaMemcpyKind kind;
    cudaStream_t stream;
} piece;

static cudaError_t copy_waiting(piece *waiting)
{
    size_t bytes = waiting->bytes;
    waiting->bytes = 0;
    if (bytes == 0) return cudaSuccess;
    return cudaMemcpyAsync(waiting->to, waiting->from, bytes, waiting->kind,
                           waiting->stream);
}

static cudaError_t copy_piece(piece *waiting, unsigned char *to,
                              const unsigned char *from, size_t bytes)
{
    if (bytes == 0) return cudaSuccess;
    if (waiting->bytes == 0 || to != waiting->to + waiting->bytes ||
        from != waiting->from + waiting->bytes) {
        cudaError_t error = copy_waiting(waiting);
        if (error != cudaSuccess) return error;
        waiting->to = to;
        waiting->from = from;
    }
    waiting->bytes += bytes;
    return cudaSuccess;
}

/* ---- input ---------------------------------------------------------------------------------- */

/* The rows' steps from the caller's array, into a staging buffer; steps that a row does not have are not read. */
static void fill_input(const cy_cuda_call *call, const cy_cuda_span *span, float *to)
{
    const cy_run *run = call->run;
    size_t width = call->session->model->graph->input.width;
    for (size_t i = 0; i < run->row_count; i++) {
        const cy_row *row = callers_row(call, i);
        size_t count = in_chunk(span, row->steps);
        if (count > 0)
            memcpy(to,
                   (const float *)run->input + (row->first + span->first_step) * width,
                   count * width * sizeof *to);
        to += staged_in(call, span, row) * width;
    }
}

/* Packed rows of pinned memory into a staging buffer. */
static cudaError_t copy_packed_input(const cy_cuda_call *call, const cy_cuda_span *span,
                                     unsigned char *to)
{
    const cy_run *run = call->run;
    size_t step_bytes = call->session->model->graph->input.width * sizeof(float);
    piece waiting = {.kind = cudaMemcpyHostToDevice, .stream = call->in};
    for (size_t i = 0; i < run->row_count; i++) {
        const cy_row *row = callers_row(call, i);
        size_t bytes = staged_in(call, span, row) * step_bytes;
        cudaError_t error = copy_piece(&waiting, to,
                                       (const unsigned char *)run->input +
                                           (row->first + span->first_step) * step_bytes,
                                       bytes);
        if (error != cudaSuccess) return error;
        to += bytes;
    }
    return copy_waiting(&waiting);
}

/* A large input: through a staging buffer, beside what the kernels are still doing. */
static carry_status copy_input(const cy_cuda_call *call, const cy_cuda_span *span,
                               size_t bytes)
{
    cy_cuda_session *s = call->session;
    const cy_run *run = call->run;
    cy_cuda_staging *staging = staging_of(s->in, span);
    size_t step_bytes = s->model->graph->input.width * sizeof(float);
    size_t pitch = span->chunk.steps * step_bytes;
    if (!call->one_chunk)
        CY_CUDA_TRY(cudaStreamWaitEvent(call->in, staging->free, 0),
                    "waiting for a staging buffer");
    if (run->input_place == CARRY_HOST) {
        CY_CUDA_TRY(cudaEventSynchronize(staging->copied),
                    "waiting for the copy of an earlier input");
        fill_input(call, span, (float *)(void *)staging->pinned);
        CY_CUDA_TRY(cudaMemcpyAsync(staging->device, staging->pinned, bytes,
                                    cudaMemcpyHostToDevice, call->in),
                    "copying the input to the device");
    } else if (run->packed) {
        CY_CUDA_TRY(copy_packed_input(call, span, staging->device),
                    "copying the input to the device");
    } else {
        const unsigned char *from =
            (const unsigned char *)run->input +
            (run->first_row * run->max_steps + span->first_step) * step_bytes;
        CY_CUDA_TRY(copy_rows(staging->device, pitch, from, run->max_steps * step_bytes,
                              pitch, span->chunk.all_rows, cudaMemcpyHostToDevice,
                              call->in),
                    "copying the input to the device");
    }
    CY_CUDA_TRY(cudaEventRecord(staging->copied, call->in), "marking a copy");
    if (!call->one_chunk)
        CY_CUDA_TRY(cudaStreamWaitEvent(s->cuda_stream, staging->copied, 0),
                    "waiting for the input");
    return CARRY_OK;
}

/* Of an array with a time axis: padded rows lie `steps` apart, packed ones begin where `packed_by` says. */
static cy_cuda_port time_port(const cy_cuda_call *call, size_t width, size_t steps,
                              cy_cuda_by packed_by)
{
    bool packed = call->run->packed;
    return (cy_cuda_port){.row_stride = packed ? width : steps * width,
                          .step_stride = width,
                          .by = packed ? packed_by : CY_CUDA_BY_INDEX};
}

/* The step of a caller's array that its port begins at: rows count from the first one of the call, or, packed, from the
 * array's beginning. */
static size_t first_of(const cy_cuda_call *call, const cy_cuda_span *span)
{
    const cy_run *run = call->run;
    return (run->packed ? 0 : run->first_row * run->max_steps) + span->first_step;
}

/* Where the kernels find the input; *inline_bytes of it travel in the block, before the ports. */
static carry_status stage_input(const cy_cuda_call *call, const cy_cuda_span *span,
                                unsigned char *pinned, cy_cuda_port *port,
                                size_t *inline_bytes)
{
    cy_cuda_session *s = call->session;
    const cy_run *run = call->run;
    size_t width = s->model->graph->input.width;
    *inline_bytes = 0;
    bool staged = is_staged(run->input_place);
    *port = time_port(call, width, staged ? span->chunk.steps : run->max_steps,
                      staged ? CY_CUDA_BY_STAGED_IN : CY_CUDA_BY_FIRST);
    port->type = type_of(run->input_dtype);
    if (!staged) {
        port->data = (unsigned char *)run->input +
                     first_of(call, span) * width * dtype_bytes(run->input_dtype);
        return CARRY_OK;
    }
    size_t bytes = span->in_steps * width * sizeof(float);
    if (run->input_place == CARRY_HOST && bytes <= s->inline_bytes) {
        size_t at = s->inline_bytes - cy_round_up(bytes);
        fill_input(call, span, (float *)(void *)(pinned + at));
        port->data = s->block + at;
        *inline_bytes = s->inline_bytes - at;
        return CARRY_OK;
    }
    port->data = staging_of(s->in, span)->device;
    return span->chunk.rows > 0 ? copy_input(call, span, bytes) : CARRY_OK;
}

/* ---- outputs -------------------------------------------------------------------------------- */

/* Bytes of an output in a staging buffer: of one chunk with every step, or of the call. */
static size_t staged_bytes(const cy_cuda_call *call, const cy_cuda_span *span, uint32_t o)
{
    size_t items =
        call->run->outputs[o].all_steps ? span->out_steps : call->run->row_count;
    return items * width_of(call, o) * sizeof(float);
}

/* Places the outputs in their staging buffers: first those that are copied to ordinary host memory, so that one
 * copy takes them all, then the rest; those that nobody wants are there too, since a graph writes them. Returns
 * how many bytes the first ones take. */
static size_t place_outputs(const cy_cuda_call *call, const cy_cuda_span *span,
                            bool every_step)
{
    size_t offset = 0, for_host = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t o = 0; o < call->session->model->graph->output_count; o++) {
            const cy_run_output *output = &call->run->outputs[o];
            bool first = output->data && output->place == CARRY_HOST;
            if (output->all_steps != every_step || first != (pass == 0)) continue;
            call->session->out_offset[o] = offset;
            offset += staged_bytes(call, span, o);
        }
        if (pass == 0) for_host = offset;
    }
    return for_host;
}

static void fill_output_port(const cy_cuda_call *call, const cy_cuda_span *span,
                             uint32_t o, cy_cuda_port *port)
{
    cy_cuda_session *s = call->session;
    const cy_run *run = call->run;
    const cy_run_output *output = &run->outputs[o];
    size_t width = width_of(call, o);
    bool staged = !output->data || is_staged(output->place);
    *port = output->all_steps
                ? time_port(call, width, staged ? span->chunk.steps : run->max_steps,
                            staged ? CY_CUDA_BY_STAGED_OUT : CY_CUDA_BY_FIRST)
                : (cy_cuda_port){.row_stride = width, .step_stride = width};
    if (staged) {
        cy_cuda_staging *staging =
            output->all_steps ? staging_of(s->out, span) : &s->at_end;
        port->data = staging->device + s->out_offset[o];
        return;
    }
    size_t first = output->all_steps ? first_of(call, span) : run->first_row;
    port->type = type_of(output->dtype);
    port->data =
        (unsigned char *)output->data + first * width * dtype_bytes(output->dtype);
}

/* ---- the block ------------------------------------------------------------------------------ */

static void fill_rows(const cy_cuda_call *call, const cy_cuda_span *span,
                      cy_cuda_row *rows)
{
    const cy_run *run = call->run;
    for (unsigned r = 0; r < span->block_rows; r++) {
        if (r >= run->row_count) {
            rows[r] = (cy_cuda_row){.flags = CY_CUDA_ROW_ABSENT};
            continue;
        }
        const cy_row *row = &run->rows[r];
        size_t first = span->first_step;
        rows[r] = (cy_cuda_row){
            .read = row->read,
            .write = row->write,
            .steps = row->steps > first ? (unsigned)(row->steps - first) : 0,
            .index = row->index - run->first_row,
            .flags = first > 0 && row->steps > 0 ? CY_CUDA_ROW_CONTINUES : 0,
            .room = row->span > first ? (unsigned)(row->span - first) : 0,
            .first = row->first};
    }
    if (!run->packed) return;
    size_t in = 0, out = 0;
    for (size_t i = 0; i < run->row_count; i++) {
        const cy_row *row = callers_row(call, i);
        cy_cuda_row *filled = &rows[call->session->caller_order[i]];
        filled->staged_in = (unsigned)in;
        filled->staged_out = (unsigned)out;
        in += staged_in(call, span, row);
        out += staged_out(span, row);
    }
}

carry_status cy_cuda_stage_in(const cy_cuda_call *call, const cy_cuda_span *span)
{
    cy_cuda_session *s = call->session;
    cy_cuda_block *slot = &s->ring[s->ring_turn++ % CY_CUDA_RING];
    CY_CUDA_TRY(cudaEventSynchronize(slot->copied), "waiting for an earlier block");
    size_t ports_at = s->inline_bytes;
    size_t rows_at = (size_t)((unsigned char *)s->rows - s->block), inline_bytes;
    cy_cuda_port *ports = (cy_cuda_port *)(void *)(slot->pinned + ports_at);
    place_outputs(call, span, true);
    if (span->number == 0) place_outputs(call, span, false);
    CY_TRY(stage_input(call, span, slot->pinned, &ports[0], &inline_bytes));
    for (uint32_t o = 0; o < s->model->graph->output_count; o++)
        fill_output_port(call, span, o, &ports[1 + o]);
    fill_rows(call, span, (cy_cuda_row *)(void *)(slot->pinned + rows_at));
    size_t begin = ports_at - inline_bytes;
    size_t end = rows_at + span->block_rows * sizeof(cy_cuda_row);
    CY_CUDA_TRY(cudaMemcpyAsync(s->block + begin, slot->pinned + begin, end - begin,
                                cudaMemcpyHostToDevice, s->cuda_stream),
                "copying a block to the device");
    CY_CUDA_TRY(cudaEventRecord(slot->copied, s->cuda_stream), "marking a block");
    if (!call->one_chunk)
        CY_CUDA_TRY(
            cudaStreamWaitEvent(s->cuda_stream, staging_of(s->out, span)->copied, 0),
            "waiting for the copy of earlier outputs");
    return CARRY_OK;
}

/* ---- the way back --------------------------------------------------------------------------- */

static cudaError_t copy_packed_output(const cy_cuda_call *call, const cy_cuda_span *span,
                                      uint32_t o, const unsigned char *from)
{
    const cy_run *run = call->run;
    size_t step_bytes = width_of(call, o) * sizeof(float);
    piece waiting = {.kind = cudaMemcpyDeviceToHost, .stream = call->out};
    for (size_t i = 0; i < run->row_count; i++) {
        const cy_row *row = callers_row(call, i);
        size_t bytes = staged_out(span, row) * step_bytes;
        cudaError_t error = copy_piece(&waiting,
                                       (unsigned char *)run->outputs[o].data +
                                           (row->first + span->first_step) * step_bytes,
                                       from, bytes);
        if (error != cudaSuccess) return error;
        from += bytes;
    }
    return copy_waiting(&waiting);
}

/* An output in pinned memory of the caller's: straight there. */
static carry_status copy_to_caller(const cy_cuda_call *call, const cy_cuda_span *span,
                                   uint32_t o)
{
    const cy_run *run = call->run;
    const cy_run_output *output = &run->outputs[o];
    size_t step_bytes = width_of(call, o) * sizeof(float);
    size_t steps = output->all_steps ? span->chunk.steps : 1;
    size_t pitch = (output->all_steps ? run->max_steps : 1) * step_bytes;
    size_t first = output->all_steps ? span->first_step : 0;
    cy_cuda_staging *staging =
        output->all_steps ? staging_of(call->session->out, span) : &call->session->at_end;
    cudaStream_t stream = output->all_steps ? call->out : call->session->cuda_stream;
    if (output->all_steps && run->packed) {
        CY_CUDA_TRY(copy_packed_output(call, span, o,
                                       staging->device + call->session->out_offset[o]),
                    "copying an output to the host");
        return CARRY_OK;
    }
    CY_CUDA_TRY(copy_rows((unsigned char *)output->data + run->first_row * pitch +
                              first * step_bytes,
                          pitch, staging->device + call->session->out_offset[o],
                          steps * step_bytes, steps * step_bytes, run->row_count,
                          cudaMemcpyDeviceToHost, stream),
                "copying an output to the host");
    return CARRY_OK;
}

static carry_status copy_outputs(const cy_cuda_call *call, const cy_cuda_span *span,
                                 bool every_step, cudaStream_t stream,
                                 cy_cuda_staging *staging)
{
    size_t for_host = place_outputs(call, span, every_step);
    if (for_host > 0)
        CY_CUDA_TRY(cudaMemcpyAsync(staging->pinned, staging->device, for_host,
                                    cudaMemcpyDeviceToHost, stream),
                    "copying the outputs to the host");
    for (uint32_t o = 0; o < call->session->model->graph->output_count; o++) {
        const cy_run_output *output = &call->run->outputs[o];
        if (output->data && output->place == CARRY_PINNED &&
            output->all_steps == every_step)
            CY_TRY(copy_to_caller(call, span, o));
    }
    return CARRY_OK;
}

carry_status cy_cuda_stage_out(const cy_cuda_call *call, const cy_cuda_span *span)
{
    cy_cuda_session *s = call->session;
    cy_cuda_staging *in = staging_of(s->in, span), *out = staging_of(s->out, span);
    if (!call->one_chunk) {
        CY_CUDA_TRY(cudaEventRecord(in->free, s->cuda_stream), "marking a chunk");
        CY_CUDA_TRY(cudaStreamWaitEvent(call->out, in->free, 0), "waiting for a chunk");
    }
    CY_TRY(copy_outputs(call, span, true, call->out, out));
    CY_CUDA_TRY(cudaEventRecord(out->copied, call->out), "marking a copy");
    return CARRY_OK;
}

carry_status cy_cuda_stage_finish(const cy_cuda_call *call, const cy_cuda_span *span)
{
    const cy_run *run = call->run;
    cy_cuda_staging *staging = staging_of(call->session->out, span);
    if (place_outputs(call, span, true) == 0)
        return CARRY_OK; /* nothing for host memory */
    CY_CUDA_TRY(cudaEventSynchronize(staging->copied), "waiting for the outputs");
    for (uint32_t o = 0; o < call->session->model->graph->output_count; o++) {
        const cy_run_output *output = &run->outputs[o];
        if (!output->data || output->place != CARRY_HOST || !output->all_steps) continue;
        size_t width = width_of(call, o);
        const float *from =
            (const float *)(const void *)(staging->pinned + call->session->out_offset[o]);
        for (size_t i = 0; i < run->row_count; i++) {
            const cy_row *row = callers_row(call, i);
            size_t count = staged_out(span, row) * width;
            if (count == 0) continue;
            memcpy((float *)output->data + (row->first + span->first_step) * width, from,
                   count * sizeof *from);
            from += count;
        }
    }
    return CARRY_OK;
}

/* Steps that a row has room for behind the last chunk. */
static size_t rest_of(const cy_cuda_call *call, const cy_row *row)
{
    return row->span > call->total_steps ? row->span - call->total_steps : 0;
}

/* Only of rows that were refused, or shortened by the caller. */
static carry_status clear_packed_rest(const cy_cuda_call *call, uint32_t o)
{
    const cy_run_output *output = &call->run->outputs[o];
    size_t step_bytes = width_of(call, o) * dtype_bytes(output->dtype);
    for (size_t r = 0; r < call->run->row_count; r++) {
        const cy_row *row = &call->run->rows[r];
        size_t rest = rest_of(call, row), at = row->first + call->total_steps;
        if (rest > 0)
            CY_CUDA_TRY(cudaMemsetAsync((unsigned char *)output->data + at * step_bytes,
                                        0, rest * step_bytes, call->session->cuda_stream),
                        "clearing the steps behind the last");
    }
    return CARRY_OK;
}

/* Zeros from the last chunk's end on, in an array that the device reaches; for all types they are zero bytes. */
static carry_status clear_rest(const cy_cuda_call *call, uint32_t o)
{
    const cy_run *run = call->run;
    const cy_run_output *output = &run->outputs[o];
    size_t step_bytes = width_of(call, o) * dtype_bytes(output->dtype);
    size_t pitch = run->max_steps * step_bytes;
    size_t rest = pitch - call->total_steps * step_bytes;
    unsigned char *to = (unsigned char *)output->data + run->first_row * pitch +
                        call->total_steps * step_bytes;
    size_t at_once = pitch <= MOST_PITCH ? run->row_count : 1;
    for (size_t row = 0; rest > 0 && row < run->row_count; row += at_once)
        CY_CUDA_TRY(cudaMemset2DAsync(to + row * pitch, at_once > 1 ? pitch : rest, 0,
                                      rest, at_once, call->session->cuda_stream),
                    "clearing the steps behind the last");
    return CARRY_OK;
}

carry_status cy_cuda_stage_end(const cy_cuda_call *call)
{
    static const cy_cuda_span none = {0};
    for (uint32_t o = 0; o < call->session->model->graph->output_count; o++) {
        const cy_run_output *output = &call->run->outputs[o];
        if (output->data && output->all_steps && output->place != CARRY_HOST)
            CY_TRY(call->run->packed ? clear_packed_rest(call, o) : clear_rest(call, o));
    }
    return copy_outputs(call, &none, false, call->session->cuda_stream,
                        &call->session->at_end);
}

void cy_cuda_stage_finish_end(const cy_cuda_call *call)
{
    static const cy_cuda_span none = {0};
    const cy_run *run = call->run;
    place_outputs(call, &none, false);
    for (uint32_t o = 0; o < call->session->model->graph->output_count; o++) {
        const cy_run_output *output = &run->outputs[o];
        size_t width = width_of(call, o);
        if (!output->data || output->place != CARRY_HOST) continue;
        float *to = output->data;
        if (!output->all_steps) {
            memcpy(to + run->first_row * width,
                   call->session->at_end.pinned + call->session->out_offset[o],
                   run->row_count * width * sizeof *to);
            continue;
        }
        for (size_t r = 0; r < run->row_count; r++) {
            const cy_row *row = &run->rows[r];
            size_t rest = rest_of(call, row);
            if (rest > 0)
                memset(to + (row->first + call->total_steps) * width, 0,
                       rest * width * sizeof *to);
        }
    }
}
