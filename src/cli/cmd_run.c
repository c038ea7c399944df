/* carry run: a model over an array, what Keras' predict returns; stateful or stateless. */
#include "commands.h"

#include "model_source.h"
#include "npy.h"
#include "options.h"
#include "out_file.h"
#include "progress.h"
#include "report.h"
#include "run_plan.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run_options {
    const char *model, *input, *output, *output_all, *steps, *state_in, *state_out;
    cy_device_options on;
    uint64_t batch_size, reset_every, chunk, threads; /* 0: not given */
    int stateful, stateless;
} run_options;

/* One output of the model on its way into files. */
typedef struct run_output {
    carry_port_info port;
    bool wanted;
    uint64_t width; /* numbers of a step or of a row */
    float *call;    /* what one call writes: [rows, steps, width] or [rows, width] */
    float *
        last; /* without a time axis: [rows, width], each row's value after its last step */
} run_output;

/* A file that takes an output; the first output may have two. */
typedef struct run_sink {
    size_t output;
    cy_out_file file;
    uint64_t data_at;
} run_sink;

typedef struct run_job {
    const run_options *options;
    carry_model *model;
    carry_model_info info;
    carry_port_info in_port;
    cy_npy input;
    cy_npy_view view;
    uint64_t *lengths; /* steps of each row, or NULL for all */

    bool stateful;
    uint64_t group_rows; /* S when stateful; all rows when not */
    uint8_t *carries;    /* per state tensor: its layer keeps it from group to group */
    bool all_carry;
    cy_run_block block;

    carry_session *session;
    carry_state *states;
    size_t state_count;
    bool
        states_last; /* one per row of a group, for the whole run; otherwise one per row of a call */

    void *in_call; /* float or int32 [rows, steps, width] */
    uint32_t *steps_call;
    carry_array *arrays;
    run_output *outputs;
    size_t output_count;
    run_sink *sinks;
    size_t sink_count;
} run_job;

static int out_of_memory(const char *what, uint64_t bytes)
{
    return cy_report(CY_EXIT_FAILED, "out of memory: %" PRIu64 " bytes for %s", bytes,
                     what);
}

static int model_failed(const run_job *job)
{
    return cy_report(CY_EXIT_FAILED, "%s: %s", job->options->model, carry_error());
}

/* ---- what is run ------------------------------------------------------------------------------ */

static int read_lengths(run_job *job)
{
    cy_npy npy;
    const char *path = job->options->steps;
    int code = cy_npy_open(&npy, path);
    if (code != CY_EXIT_OK) return code;
    uint64_t rows = job->view.rows;
    char shape[CY_SHAPE_TEXT], text[32];
    cy_npy_view view = {rows, 1, 1};
    if (npy.kind != 'i' && npy.kind != 'u')
        code = cy_report(CY_EXIT_FAILED,
                         "%s holds no integers; it gives steps, one per row", path);
    else if (npy.rank != 1 || npy.shape[0] != rows)
        code = cy_report(CY_EXIT_FAILED,
                         "%s is %s; %s has %" PRIu64 " rows, so it takes [%" PRIu64 "]",
                         path, cy_shape_text(shape, npy.shape, npy.rank),
                         job->options->input, rows, rows);
    else if ((job->lengths = calloc(rows, sizeof *job->lengths)) == NULL)
        code = out_of_memory("the steps of the rows", rows * sizeof *job->lengths);
    else code = cy_npy_read(&npy, &view, 0, rows, 0, 1);
    for (uint64_t row = 0; code == CY_EXIT_OK && row < rows; row++) {
        int64_t length;
        if (!cy_npy_to_whole(&npy, row, &length) || length < 0 ||
            (uint64_t)length > job->view.steps)
            code =
                cy_report(CY_EXIT_FAILED,
                          "%s gives %s steps for row %" PRIu64 "; %s has 0 to %" PRIu64,
                          path, cy_npy_to_text(&npy, row, text, sizeof text), row,
                          job->options->input, job->view.steps);
        else job->lengths[row] = (uint64_t)length;
    }
    cy_npy_close(&npy);
    return code;
}

static int open_input(run_job *job)
{
    char why[256];
    const char *path = job->options->input;
    int code = cy_npy_open(&job->input, path);
    if (code != CY_EXIT_OK) return code;
    bool ids = job->in_port.dtype == CARRY_I32;
    cy_run_input takes = {ids, ids ? 1 : (uint64_t)job->in_port.width};
    const char *wrong = cy_run_view(job->input.shape, job->input.rank, takes, &job->view,
                                    why, sizeof why);
    if (wrong != NULL) return cy_report(CY_EXIT_FAILED, "%s %s", path, wrong);
    return job->options->steps == NULL ? CY_EXIT_OK : read_lengths(job);
}

/* Which layers carry, and how many rows are one group of Keras' predict. */
static int choose_mode(run_job *job)
{
    const run_options *options = job->options;
    uint64_t rows = job->view.rows;
    job->stateful = options->stateful || (!options->stateless && job->info.stateful);
    if (options->reset_every != 0 && !job->stateful)
        return cy_report(
            CY_EXIT_FAILED,
            "--reset-every needs a stateful run, and no layer of %s is stateful; "
            "--stateful makes all of them carry",
            options->model);
    job->group_rows = rows;
    if (job->stateful) {
        int64_t fixed =
            job->in_port.shape.rank > 0 ? job->in_port.shape.dim[0] : CARRY_FREE;
        if (options->batch_size != 0) job->group_rows = options->batch_size;
        else if (fixed > 0) job->group_rows = (uint64_t)fixed;
        if (rows % job->group_rows != 0)
            return cy_report(
                CY_EXIT_FAILED,
                "%s has %" PRIu64 " %s, which is no multiple of the batch size %" PRIu64
                " of a stateful run%s",
                options->input, rows, rows == 1 ? "row" : "rows", job->group_rows,
                options->batch_size != 0 ? "" : "; --batch-size sets another");
    }

    size_t tensors = job->info.state_tensors;
    job->carries = calloc(tensors + 1, 1);
    if (job->carries == NULL) return out_of_memory("the state tensors", tensors + 1);
    job->all_carry = true;
    for (size_t i = 0; i < tensors; i++) {
        carry_state_info state = {.size = sizeof state};
        if (carry_model_get_state_tensor(job->model, i, &state) != CARRY_OK)
            return model_failed(job);
        job->carries[i] = !job->stateful || options->stateful || state.stateful;
        job->all_carry &= job->carries[i] != 0;
    }
    if (tensors == 0 && (options->state_in != NULL || options->state_out != NULL))
        return cy_report(
            CY_EXIT_FAILED, "%s has no recurrent layer, so it has no state for --%s",
            options->model, options->state_in != NULL ? "state-in" : "state-out");
    if (job->info.whole_sequence) {
        if (options->chunk != 0 && options->chunk < job->view.steps)
            return cy_report(
                CY_EXIT_FAILED,
                "--chunk %" PRIu64 " would cut the %" PRIu64 " steps of %s, but %s is a "
                "whole-sequence model, which needs all of them in one call",
                options->chunk, job->view.steps, options->input, options->model);
        if (job->view.steps > UINT32_MAX)
            return cy_report(CY_EXIT_FAILED,
                             "%s has %" PRIu64 " steps; a whole-sequence model "
                             "takes at most %u in one call",
                             options->input, job->view.steps, UINT32_MAX);
    }
    return CY_EXIT_OK;
}

/* ---- outputs ---------------------------------------------------------------------------------- */

static int choose_outputs(run_job *job)
{
    job->output_count = job->info.outputs;
    job->outputs = calloc(job->output_count + 1, sizeof *job->outputs);
    job->arrays = calloc(job->output_count + 1, sizeof *job->arrays);
    job->sinks = calloc(job->output_count + 1, sizeof *job->sinks);
    if (job->outputs == NULL || job->arrays == NULL || job->sinks == NULL)
        return out_of_memory("the outputs", job->output_count * sizeof *job->outputs);
    for (size_t i = 0; i < job->output_count; i++) {
        run_output *output = &job->outputs[i];
        output->port.size = sizeof output->port;
        if (carry_model_get_output(job->model, i, &output->port) != CARRY_OK)
            return model_failed(job);
        output->width = (uint64_t)output->port.width;
        output->wanted = job->options->output_all != NULL || i == 0;
        uint64_t bytes = 4;
        if (__builtin_mul_overflow(bytes, output->width, &bytes) ||
            __builtin_mul_overflow(bytes, job->view.rows, &bytes) ||
            (output->port.has_time &&
             __builtin_mul_overflow(bytes, job->view.steps, &bytes)) ||
            bytes > INT64_MAX - CY_NPY_HEADER)
            return cy_report(CY_EXIT_FAILED,
                             "output %zu would be beyond what a file can hold", i);
    }
    return CY_EXIT_OK;
}

static int open_sink(run_job *job, size_t index, const char *path)
{
    run_sink *sink = &job->sinks[job->sink_count];
    const run_output *output = &job->outputs[index];
    *sink = (run_sink){.output = index, .file = CY_OUT_CLOSED};
    int code = cy_out_open(&sink->file, path);
    if (code != CY_EXIT_OK) return code;
    job->sink_count++;

    char header[CY_NPY_HEADER];
    uint64_t shape[3] = {job->view.rows, output->width, output->width};
    if (output->port.has_time) shape[1] = job->view.steps;
    sink->data_at = cy_npy_header(header, shape, output->port.has_time ? 3 : 2);
    return cy_out_append(&sink->file, header, sink->data_at);
}

static int open_sinks(run_job *job)
{
    const run_options *options = job->options;
    int code = CY_EXIT_OK;
    if (options->output != NULL) code = open_sink(job, 0, options->output);
    if (code != CY_EXIT_OK || options->output_all == NULL) return code;
    code = cy_out_folder_open(options->output_all);
    for (size_t i = 0; code == CY_EXIT_OK && i < job->output_count; i++) {
        const char *layer = job->outputs[i].port.name;
        size_t bytes = strlen(options->output_all) + strlen(layer) + 32;
        char *path = malloc(bytes);
        if (path == NULL) return out_of_memory("the name of an output", bytes);
        int length = snprintf(path, bytes, "%s/%zu_", options->output_all, i);
        snprintf(path + length, bytes - (size_t)length, "%s.npy", layer);
        for (char *at = path + length; *at != 0; at++)
            if (*at == '/') *at = '_';
        code = open_sink(job, i, path);
        free(path);
    }
    return code;
}

/* ---- session, states, buffers ----------------------------------------------------------------- */

static int plan(run_job *job)
{
    cy_run_work work = {
        .rows = job->group_rows,
        .steps = job->view.steps,
        .chunk = UINT32_MAX,
        .step_bytes = job->view.width * (4 + job->input.bytes),
        /* two versions of every tensor, each padded to a cache line */
        .state_bytes = 2 * (job->info.state_bytes + 64 * job->info.state_tensors),
        .parameters = job->info.parameters,
        .whole_sequence = job->info.whole_sequence,
        .rows_first = cy_npy_rows_first(&job->input),
    };
    if (job->options->chunk != 0 && job->options->chunk < work.chunk)
        work.chunk = job->options->chunk;
    if (!job->stateful && job->options->batch_size != 0 &&
        job->options->batch_size < work.rows)
        work.rows = job->options->batch_size;
    for (size_t i = 0; i < job->output_count; i++)
        if (job->outputs[i].wanted && job->outputs[i].port.has_time)
            work.step_bytes += 4 * job->outputs[i].width;
    for (size_t i = 0; i < job->sink_count; i++)
        if (job->sinks[i].file.in_order &&
            job->outputs[job->sinks[i].output].port.has_time)
            work.in_order = 1;
    job->block = cy_run_plan(&work);

    size_t row_steps = job->block.rows * job->block.steps;
    job->in_call = calloc(row_steps, job->view.width * 4);
    job->steps_call = calloc(job->block.rows, sizeof *job->steps_call);
    if (job->in_call == NULL || job->steps_call == NULL)
        return out_of_memory("a piece of input", row_steps * job->view.width * 4);
    for (size_t i = 0; i < job->output_count; i++) {
        run_output *output = &job->outputs[i];
        job->arrays[i] = (carry_array){.size = sizeof(carry_array), .dtype = CARRY_F32};
        if (!output->wanted) continue;
        size_t numbers = output->port.has_time ? row_steps : job->block.rows;
        output->call = calloc(numbers, output->width * 4);
        if (!output->port.has_time) output->last = calloc(numbers, output->width * 4);
        if (output->call == NULL || (!output->port.has_time && output->last == NULL))
            return out_of_memory("a piece of output", numbers * output->width * 4);
        job->arrays[i].data = output->call;
        job->arrays[i].bytes = numbers * output->width * 4;
    }
    return CY_EXIT_OK;
}

static int open_session(run_job *job)
{
    const run_options *options = job->options;
    bool groups_follow = job->stateful && job->group_rows < job->view.rows;
    job->states_last =
        job->info.state_tensors > 0 &&
        (groups_follow || options->state_in != NULL || options->state_out != NULL);
    if (job->states_last) job->state_count = job->group_rows;
    else if (job->block.steps < job->view.steps) job->state_count = job->block.rows;

    /* No graphs: capturing one costs more than the few launches of a run. */
    carry_session_options wants = {.size = sizeof wants,
                                   .threads = (uint32_t)options->threads,
                                   .max_rows =
                                       cy_device_max_rows(&job->info, job->block.rows),
                                   .exact = (uint32_t)options->on.exact};
    if (job->info.whole_sequence) wants.max_steps = (uint32_t)job->view.steps;
    carry_status status = carry_session_open(&job->session, job->model, &wants);
    /* All steps of so many rows may be more than a device has memory for; fewer rows do as well. */
    while (status == CARRY_E_MEMORY && job->info.whole_sequence && wants.max_rows > 1) {
        wants.max_rows /= 2;
        status = carry_session_open(&job->session, job->model, &wants);
    }
    if (status != CARRY_OK) return model_failed(job);
    if (job->state_count == 0) return CY_EXIT_OK;
    job->states = calloc(job->state_count, sizeof *job->states);
    if (job->states == NULL)
        return out_of_memory("the states", job->state_count * sizeof *job->states);
    for (size_t i = 0; i < job->state_count; i++)
        if (carry_state_open(job->session, &job->states[i]) != CARRY_OK)
            return model_failed(job);
    return CY_EXIT_OK;
}

static int read_states(run_job *job)
{
    void *data;
    size_t bytes;
    int mapped;
    const char *path = job->options->state_in;
    if (path == NULL) return CY_EXIT_OK;
    int code = cy_file_read(path, &data, &bytes, &mapped);
    if (code == CY_EXIT_OK &&
        carry_states_restore(job->session, job->states, job->state_count,
                             job->all_carry ? NULL : job->carries, data,
                             bytes) != CARRY_OK)
        code = cy_report(CY_EXIT_FAILED, "%s: %s", path, carry_error());
    cy_file_release(data, bytes, mapped);
    return code;
}

static int write_states(run_job *job, cy_out_file *file)
{
    size_t bytes = 0;
    const uint8_t *chosen = job->all_carry ? NULL : job->carries;
    if (carry_states_save(job->session, job->states, job->state_count, chosen, NULL, 0,
                          &bytes) != CARRY_OK)
        return model_failed(job);
    void *data = malloc(bytes);
    if (data == NULL) return out_of_memory("the states to save", bytes);
    int code = CY_EXIT_OK;
    if (carry_states_save(job->session, job->states, job->state_count, chosen, data,
                          bytes, &bytes) != CARRY_OK)
        code = model_failed(job);
    else code = cy_out_append(file, data, bytes);
    free(data);
    return code;
}

/* ---- the run ---------------------------------------------------------------------------------- */

static uint64_t row_length(const run_job *job, uint64_t row)
{
    return job->lengths == NULL ? job->view.steps : job->lengths[row];
}

static int bad_id(const run_job *job, size_t index, uint64_t row, uint64_t step)
{
    char text[64];
    cy_npy_to_text(&job->input, index, text, sizeof text);
    return cy_report(CY_EXIT_FAILED,
                     "%s holds %s at row %" PRIu64 ", step %" PRIu64
                     "; the model takes whole ids "
                     "from 0 to %" PRId64,
                     job->options->input, text, row, step, job->in_port.ids - 1);
}

/* The piece of input as the model takes it. Steps a row does not have are not looked at. */
static int read_piece(run_job *job, uint64_t row, size_t rows, uint64_t step,
                      size_t steps)
{
    int code = cy_npy_read(&job->input, &job->view, row, rows, step, steps);
    if (code != CY_EXIT_OK) return code;
    if (job->in_port.dtype != CARRY_I32) {
        cy_npy_to_f32(&job->input, 0, rows * steps * job->view.width, job->in_call);
        return CY_EXIT_OK;
    }
    int32_t *ids = job->in_call;
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < steps; t++) {
            int64_t id = 0;
            size_t index = r * steps + t;
            if (t < job->steps_call[r] && (!cy_npy_to_whole(&job->input, index, &id) ||
                                           id < 0 || id >= job->in_port.ids))
                return bad_id(job, index, row + r, step + t);
            ids[index] = (int32_t)id;
        }
    }
    return CY_EXIT_OK;
}

/* Outputs without a time axis belong to a row's last step: a row that has ended keeps what it had. */
static void keep_last(run_job *job, size_t rows)
{
    for (size_t i = 0; i < job->output_count; i++) {
        run_output *output = &job->outputs[i];
        if (output->last == NULL) continue;
        for (size_t r = 0; r < rows; r++)
            if (job->steps_call[r] > 0 || output->port.tensor != 'y')
                memcpy(output->last + r * output->width, output->call + r * output->width,
                       output->width * 4);
    }
}

static int write_piece(run_job *job, uint64_t row, size_t rows, uint64_t step,
                       size_t steps)
{
    int code = CY_EXIT_OK;
    for (size_t i = 0; i < job->sink_count && code == CY_EXIT_OK; i++) {
        run_sink *sink = &job->sinks[i];
        const run_output *output = &job->outputs[sink->output];
        bool ended = step + steps == job->view.steps;
        const float *from = output->port.has_time ? output->call : output->last;
        uint64_t row_bytes =
            output->width * 4 * (output->port.has_time ? job->view.steps : 1);
        uint64_t at = sink->data_at + row * row_bytes;
        if (!output->port.has_time && !ended) continue;
        if (!output->port.has_time || steps == job->view.steps) {
            code = sink->file.in_order
                       ? cy_out_append(&sink->file, from, rows * row_bytes)
                       : cy_out_write_at(&sink->file, from, rows * row_bytes, at);
            continue;
        }
        uint64_t piece_bytes = steps * output->width * 4;
        at += step * output->width * 4;
        for (size_t r = 0; r < rows && code == CY_EXIT_OK; r++) {
            const float *piece = from + r * steps * output->width;
            code = sink->file.in_order ? cy_out_append(&sink->file, piece, piece_bytes)
                                       : cy_out_write_at(&sink->file, piece, piece_bytes,
                                                         at + r * row_bytes);
        }
    }
    return code;
}

/* All time steps of a few rows of one group. */
static int run_rows(run_job *job, uint64_t row, size_t rows, uint64_t group_start,
                    uint64_t *done)
{
    carry_array input = {
        .size = sizeof input, .dtype = job->in_port.dtype, .data = job->in_call};
    carry_batch batch = {.size = sizeof batch,
                         .rows = rows,
                         .steps = job->steps_call,
                         .inputs = &input,
                         .input_count = 1,
                         .outputs = job->arrays,
                         .output_count = job->output_count};
    if (job->states_last) batch.states = job->states + (row - group_start);
    else batch.states = job->states;
    for (size_t i = 0; !job->states_last && job->states != NULL && i < rows; i++)
        if (carry_state_reset(job->session, job->states[i]) != CARRY_OK)
            return model_failed(job);
    for (size_t i = 0; i < job->output_count; i++)
        if (job->outputs[i].last != NULL)
            memset(job->outputs[i].last, 0, rows * job->outputs[i].width * 4);

    size_t steps;
    for (uint64_t step = 0; step < job->view.steps; step += steps) {
        uint64_t left = job->view.steps - step;
        steps = left < job->block.steps ? (size_t)left : job->block.steps;
        for (size_t r = 0; r < rows; r++) {
            uint64_t length = row_length(job, row + r);
            uint64_t more = length > step ? length - step : 0;
            job->steps_call[r] = (uint32_t)(more < steps ? more : steps);
        }
        batch.max_steps = steps;
        input.bytes = rows * steps * job->view.width * 4;
        int code = read_piece(job, row, rows, step, steps);
        if (code != CY_EXIT_OK) return code;
        if (carry_run(job->session, &batch) != CARRY_OK) return model_failed(job);
        keep_last(job, rows);
        code = write_piece(job, row, rows, step, steps);
        if (code != CY_EXIT_OK) return code;
        *done += rows * steps;
        cy_progress_set(*done);
    }
    return CY_EXIT_OK;
}

/* Before every group but the first: what --reset-every and layers that do not carry ask for. */
static int between_groups(run_job *job, uint64_t group, const float *zeros)
{
    uint64_t every = job->options->reset_every;
    bool reset = every != 0 && group % every == 0;
    if (!job->states_last || (!reset && job->all_carry)) return CY_EXIT_OK;
    for (size_t i = 0; i < job->state_count; i++) {
        if (reset) {
            if (carry_state_reset(job->session, job->states[i]) != CARRY_OK)
                return model_failed(job);
            continue;
        }
        for (size_t k = 0; k < job->info.state_tensors; k++) {
            carry_state_info info = {.size = sizeof info};
            if (job->carries[k]) continue;
            if (carry_model_get_state_tensor(job->model, k, &info) != CARRY_OK ||
                carry_state_write(job->session, job->states[i], k, zeros,
                                  (size_t)info.width) != CARRY_OK)
                return model_failed(job);
        }
    }
    return CY_EXIT_OK;
}

static int run_groups(run_job *job)
{
    uint64_t rows = job->view.rows, done = 0;
    float *zeros = calloc(job->info.state_bytes / 4 + 1, sizeof *zeros);
    int code =
        zeros == NULL ? out_of_memory("the state", job->info.state_bytes) : CY_EXIT_OK;
    cy_progress_start(rows * job->view.steps, "steps");
    for (uint64_t start = 0; start < rows && code == CY_EXIT_OK;
         start += job->group_rows) {
        if (start > 0) code = between_groups(job, start / job->group_rows, zeros);
        for (uint64_t row = start; row < start + job->group_rows && code == CY_EXIT_OK;
             row += job->block.rows) {
            uint64_t left = start + job->group_rows - row;
            code = run_rows(job, row,
                            left < job->block.rows ? (size_t)left : job->block.rows,
                            start, &done);
        }
    }
    cy_progress_clear();
    free(zeros);
    return code;
}

static int run(run_job *job)
{
    cy_out_file state_file = CY_OUT_CLOSED;
    const run_options *options = job->options;
    int code = cy_model_load(options->model, &options->on, &job->model, NULL);
    if (code != CY_EXIT_OK) return code;
    job->info.size = sizeof job->info;
    job->in_port.size = sizeof job->in_port;
    if (carry_model_get_info(job->model, &job->info) != CARRY_OK ||
        carry_model_get_input(job->model, 0, &job->in_port) != CARRY_OK)
        return model_failed(job);
    if (code == CY_EXIT_OK) code = open_input(job);
    if (code == CY_EXIT_OK) code = choose_mode(job);
    if (code == CY_EXIT_OK) code = choose_outputs(job);
    if (code == CY_EXIT_OK) code = open_sinks(job);
    if (code == CY_EXIT_OK) code = plan(job);
    if (code == CY_EXIT_OK) code = open_session(job);
    if (code == CY_EXIT_OK) code = read_states(job);
    if (code == CY_EXIT_OK && options->state_out != NULL)
        code = cy_out_open(&state_file, options->state_out);
    if (code == CY_EXIT_OK) code = run_groups(job);
    if (code == CY_EXIT_OK && options->state_out != NULL)
        code = write_states(job, &state_file);
    for (size_t i = 0; i < job->sink_count && code == CY_EXIT_OK; i++)
        code = cy_out_commit(&job->sinks[i].file);
    if (code == CY_EXIT_OK && options->state_out != NULL)
        code = cy_out_commit(&state_file);
    cy_out_discard(&state_file);
    return code;
}

static void job_close(run_job *job)
{
    for (size_t i = 0; i < job->sink_count; i++)
        cy_out_discard(&job->sinks[i].file);
    cy_out_folder_close();
    carry_session_close(&job->session);
    carry_model_close(&job->model);
    for (size_t i = 0; job->outputs != NULL && i < job->output_count; i++) {
        free(job->outputs[i].call);
        free(job->outputs[i].last);
    }
    free(job->outputs);
    free(job->arrays);
    free(job->sinks);
    free(job->states);
    free(job->in_call);
    free(job->steps_call);
    free(job->carries);
    free(job->lengths);
    cy_npy_close(&job->input);
}

static const char notes[] =
    "X is [rows, steps, features]; [rows, steps] for ids or one feature; one row may "
    "come\n"
    "without its first axis. Y is float32, what model.predict(X) returns.\n"
    "\n"
    "stateful:  rows are taken S at a time (S: --batch-size, else the batch of the file, "
    "else\n"
    "           all), and row r of a group continues from row r of the group before.\n"
    "stateless: every row starts from zeros, or from --state-in.\n"
    "By default a run is stateful if a layer of the file is; the others start anew each "
    "group.\n"
    "States are safetensors files: LAYER/h and LAYER/c, [S, units] when stateful, for "
    "the layers\n"
    "that carry; [rows, units] when stateless, for every recurrent layer.";

int cy_cmd_run(int argc, char **argv)
{
    run_options given = {0};
    const cy_argument arguments[] = {{"MODEL", &given.model}};
    const cy_option options[] = {
        {"input", CY_OPTION_STRING, &given.input, "X.npy", "what is fed", 0, 0},
        {"output", CY_OPTION_STRING, &given.output, "Y.npy", "output 0", 0, 0},
        {"output-all", CY_OPTION_STRING, &given.output_all, "DIR",
         "every output, as DIR/<index>_<layer>.npy", 0, 0},
        {"stateful", CY_OPTION_FLAG, &given.stateful, NULL, "all recurrent layers carry",
         0, 0},
        {"stateless", CY_OPTION_FLAG, &given.stateless, NULL, "none does", 0, 0},
        {"batch-size", CY_OPTION_UINT, &given.batch_size, "S", "rows of a group", 1,
         UINT64_MAX},
        {"reset-every", CY_OPTION_UINT, &given.reset_every, "G",
         "zeros the state before group G, 2G, ..., counted from 0", 1, UINT64_MAX},
        {"chunk", CY_OPTION_UINT, &given.chunk, "N", "at most N steps in a call", 1,
         UINT64_MAX},
        {"steps", CY_OPTION_STRING, &given.steps, "L.npy",
         "steps of each row, [rows]; the rest of it is not read", 0, 0},
        {"state-in", CY_OPTION_STRING, &given.state_in, "FILE", "the state to start from",
         0, 0},
        {"state-out", CY_OPTION_STRING, &given.state_out, "FILE",
         "receives the state after the last group", 0, 0},
        CY_DEVICE_OPTION_ROWS(given.on),
        {"threads", CY_OPTION_UINT, &given.threads, "N",
         "of the CPU; default: as many as affinity and quota allow", 1, 1024},
    };
    const cy_command_line line = {
        .command = "run",
        .synopsis = "MODEL --input X.npy --output Y.npy [options]",
        .summary = "Runs a model over an array.",
        .arguments = arguments,
        .argument_count = 1,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .notes = notes,
    };
    int code = cy_command_line_read(&line, argc, argv);
    if (code < 0) code = cy_device_options_check(&given.on);
    if (code >= 0) return code;
    if (given.input == NULL)
        return cy_report(CY_EXIT_USAGE, "--input is missing; see carry run --help");
    if (given.output == NULL && given.output_all == NULL)
        return cy_report(CY_EXIT_USAGE,
                         "--output or --output-all is missing; see carry run --help");
    if (given.stateful && given.stateless)
        return cy_report(CY_EXIT_USAGE, "--stateful and --stateless exclude each other");
    if (given.reset_every != 0 && given.stateless)
        return cy_report(CY_EXIT_USAGE,
                         "--reset-every and --stateless exclude each other");

    run_job job = {.options = &given, .input = CY_NPY_CLOSED};
    code = run(&job);
    job_close(&job);
    return code;
}
