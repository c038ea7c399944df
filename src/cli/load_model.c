/* What every way of serving needs: the model, its sessions' options, inputs. */
#include "load.h"

#include "model_source.h"
#include "report.h"
#include "sampler.h"

#include <stdlib.h>
#include <string.h>

#define POOL_STEPS 4096 /* more than fits the caches of first level, as new input does */

int cy_load_memory(void)
{
    return cy_report(CY_EXIT_FAILED, "out of memory for the bench");
}

int cy_load_failed(const cy_load *load)
{
    return cy_report(CY_EXIT_FAILED, "%s: %s", load->options->model, carry_error());
}

/* Numbers between -1 and 1, or any id: the time of a step does not depend on them. */
static int make_pool(cy_load *load)
{
    cy_random random;
    size_t numbers;
    load->pool_steps = POOL_STEPS + load->most_steps;
    load->pool = calloc(load->pool_steps, load->step_bytes);
    if (load->pool == NULL) return cy_load_memory();
    numbers = load->pool_steps * (load->step_bytes / 4);
    cy_random_seed(&random, load->options->seed);
    for (size_t i = 0; i < numbers; i++) {
        double unit = cy_random_unit(&random);
        if (load->input.dtype == CARRY_I32)
            ((int32_t *)(void *)load->pool)[i] =
                (int32_t)(unit * (double)load->input.ids);
        else ((float *)(void *)load->pool)[i] = (float)(2 * unit - 1);
    }
    return CY_EXIT_OK;
}

int cy_load_prepare(cy_load *load)
{
    const cy_load_options *options = load->options;
    int code = cy_model_load(options->model, &options->on, &load->model, NULL);
    if (code != CY_EXIT_OK) return code;
    load->info.size = sizeof load->info;
    load->input.size = sizeof load->input;
    if (carry_model_get_info(load->model, &load->info) != CARRY_OK ||
        carry_model_get_input(load->model, 0, &load->input) != CARRY_OK)
        return cy_load_failed(load);
    if (load->info.whole_sequence)
        return cy_report(CY_EXIT_FAILED,
                         "%s needs whole sequences: nothing stays from call to call, so "
                         "--states and --trace have nothing to measure",
                         options->model);
    load->outputs = calloc(load->info.outputs + 1, sizeof *load->outputs);
    if (load->outputs == NULL) return cy_load_memory();
    for (size_t i = 0; i < load->info.outputs; i++) {
        load->outputs[i].size = sizeof load->outputs[i];
        if (carry_model_get_output(load->model, i, &load->outputs[i]) != CARRY_OK)
            return cy_load_failed(load);
    }
    int64_t fixed = load->input.shape.rank > 1 ? load->input.shape.dim[1] : CARRY_FREE;
    load->window = options->window != 0 ? options->window
                   : fixed > 0          ? (uint64_t)fixed
                                        : 64;
    load->max_rows = cy_device_max_rows(&load->info, load->states);
    load->step_bytes = (size_t)load->input.width * 4;
    return make_pool(load);
}

void cy_load_release(cy_load *load)
{
    free(load->outputs);
    free(load->pool);
    load->outputs = NULL, load->pool = NULL;
    carry_model_close(&load->model);
}

const void *cy_load_input(const cy_load *load, size_t index, uint32_t steps)
{
    size_t step = index * 61 % (load->pool_steps - steps + 1);
    return load->pool + step * load->step_bytes;
}

/* CUDA: one step of so many rows by graph, whatever number a batch has. */
carry_session_options cy_load_session(const cy_load *load, carry_graph_shape graphs[8])
{
    carry_session_options wants = {.size = sizeof wants,
                                   .threads = (uint32_t)load->options->threads,
                                   .max_rows = load->max_rows,
                                   .exact = (uint32_t)load->options->on.exact,
                                   .graphs = graphs};
    for (uint32_t rows = load->max_rows; rows > 0 && wants.graph_count < 8; rows /= 4)
        graphs[wants.graph_count++] = (carry_graph_shape){.rows = rows, .steps = 1};
    if (strncmp(load->info.device, "cuda", 4) != 0) wants.graph_count = 0;
    return wants;
}
