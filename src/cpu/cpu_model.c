#include "cpu/cpu_model.h"

#include "base/mem.h"
#include "kernels/cell.h"
#include "kernels/pack.h"

#include <string.h>

static size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Identity is no work: whoever reads it reads what it reads. */
static cy_value resolve(const cy_graph *graph, cy_value value)
{
    while (value.node >= 0 && graph->nodes[value.node].op == CY_OP_IDENTITY)
        value = graph->nodes[value.node].input;
    return value;
}

static const float *bias_of(const cy_node *node)
{
    return node->use_bias ? node->weights[node->op == CY_OP_LSTM ? 2 : 1].data : NULL;
}

static void lay_out_layer(cy_cpu_layer *layer, const cy_node *node, size_t lanes,
                          cy_carver *carver)
{
    size_t width = node->out_width, in = node->in_width;
    layer->node = node;
    layer->stride = round_up(width, CY_MAX_LANES);
    float *kernel = NULL, *recurrent = NULL, *bias = NULL;
    if (node->op == CY_OP_LSTM) {
        size_t units = node->units, panel = 4 * lanes;
        layer->panels = cy_pack_panels(units, lanes);
        kernel = cy_carve(carver, layer->panels * in, panel * sizeof(float));
        recurrent = cy_carve(carver, layer->panels * units, panel * sizeof(float));
        bias = cy_carve(carver, layer->panels, panel * sizeof(float));
        if (bias) {
            cy_pack_gates_f32(node->weights[0].data, kernel, in, units, lanes);
            cy_pack_gates_f32(node->weights[1].data, recurrent, units, units, lanes);
            if (bias_of(node)) cy_pack_gates_f32(bias_of(node), bias, 1, units, lanes);
        }
    } else if (node->op == CY_OP_DENSE) {
        size_t panel = 4 * lanes;
        layer->panels = cy_pack_panels(width, panel);
        layer->stride = round_up(layer->panels * panel, CY_MAX_LANES);
        kernel = cy_carve(carver, layer->panels * in, panel * sizeof(float));
        bias = cy_carve(carver, layer->panels, panel * sizeof(float));
        if (bias) {
            cy_pack_columns_f32(node->weights[0].data, kernel, in, width, lanes);
            if (bias_of(node)) cy_pack_columns_f32(bias_of(node), bias, 1, width, lanes);
        }
    } else if (node->op == CY_OP_EMBEDDING) {
        float *table = cy_carve(carver, in, width * sizeof(float));
        if (table) memcpy(table, node->weights[0].data, in * width * sizeof(float));
        kernel = table;
    }
    layer->kernel = kernel;
    layer->recurrent = recurrent;
    layer->bias = bias;
}

static cy_cpu_cost cost_of(const cy_cpu_layer *layers, size_t count, size_t lanes)
{
    cy_cpu_cost cost = {.panels = UINT64_MAX};
    for (size_t i = 0; i < count; i++) {
        const cy_node *node = layers[i].node;
        uint64_t weights = 0;
        if (node->op == CY_OP_LSTM) {
            weights = layers[i].panels * 4 * lanes * (node->in_width + node->units);
            cost.recurrences++;
            if (layers[i].panels < cost.panels) cost.panels = layers[i].panels;
        } else if (node->op == CY_OP_DENSE) {
            weights = layers[i].panels * 4 * lanes * node->in_width;
        }
        cost.flops += 2 * weights;
        if (!node->in_time) cost.flops_untimed += 2 * weights;
        cost.weight_bytes += weights * sizeof(float);
    }
    return cost;
}

/* h of an LSTM after a row's last step. */
static bool is_last_h(const cy_graph *graph, cy_value value)
{
    if (value.node < 0 || graph->nodes[value.node].op != CY_OP_LSTM) return false;
    return value.port == CY_PORT_H ||
           (value.port == CY_PORT_Y && !graph->nodes[value.node].out_time);
}

static void lay_out(cy_cpu_model *model, const cy_graph *graph,
                    const cy_cpu_kernels *kernels, cy_carver *carver)
{
    cy_cpu_layer scratch;
    cy_carve(carver, 1, sizeof(cy_cpu_model)); /* the model itself comes first */
    cy_cpu_layer *layers = cy_carve(carver, graph->node_count, sizeof *layers);
    cy_value *outputs = cy_carve(carver, graph->output_count, sizeof *outputs);
    for (uint32_t i = 0; i < graph->node_count; i++) {
        cy_cpu_layer *layer = model ? &layers[i] : &scratch;
        *layer = (cy_cpu_layer){.source = resolve(graph, graph->nodes[i].input)};
        lay_out_layer(layer, &graph->nodes[i], kernels->lanes, carver);
    }
    if (!model) return;
    for (uint32_t i = 0; i < graph->output_count; i++)
        outputs[i] = resolve(graph, graph->outputs[i]);
    *model = (cy_cpu_model){.graph = graph,
                            .kernels = kernels,
                            .layer_count = graph->node_count,
                            .layers = layers,
                            .outputs = outputs,
                            .cost = cost_of(layers, graph->node_count, kernels->lanes)};
    for (uint32_t i = 0; i < graph->output_count; i++)
        if (is_last_h(graph, outputs[i])) model->reads_last_h = true;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const cy_node *node = &graph->nodes[i];
        if (is_last_h(graph, layers[i].source)) model->reads_last_h = true;
        if (!node->in_time && node->op != CY_OP_IDENTITY) model->has_untimed = true;
        if (node->op == CY_OP_LSTM &&
            (cy_activation_spans_row(node->activation) ||
             cy_activation_spans_row(node->recurrent_activation)))
            model->has_row_gates = true;
    }
}

carry_status cy_cpu_model_open(const cy_graph *graph, const cy_cpu_kernels *kernels,
                               cy_cpu_model **model)
{
    *model = NULL;
    cy_carver carver = {0};
    lay_out(NULL, graph, kernels, &carver);
    void *block = carver.bytes == SIZE_MAX ? NULL : cy_alloc(carver.bytes);
    CY_CHECK(block, CARRY_E_MEMORY, "out of memory: the packed weights take %zu bytes",
             carver.bytes);
    size_t bytes = carver.bytes;
    carver = (cy_carver){.base = block};
    *model = block;
    lay_out(*model, graph, kernels, &carver);
    (*model)->bytes = bytes;
    return CARRY_OK;
}

void cy_cpu_model_close(cy_cpu_model *model)
{
    cy_free(model);
}

void cy_cpu_space_carve(cy_cpu_space *space, const cy_cpu_model *model, size_t rows,
                        size_t row_steps, size_t steps, cy_carver *carver)
{
    space->rows = rows;
    space->row_steps = row_steps;
    space->steps = steps;
    space->row_copies = cy_carve(carver, rows, sizeof *space->row_copies);
    for (int i = 0; i < 2; i++)
        space->chunk[i].offset = cy_carve(carver, steps + 1, sizeof(size_t));
    size_t widest = 0;
    for (size_t i = 0; i < model->layer_count; i++) {
        const cy_cpu_layer *layer = &model->layers[i];
        if (layer->node->op == CY_OP_LSTM && layer->panels > widest)
            widest = layer->panels;
    }
    space->z =
        cy_carve(carver, row_steps, widest * 4 * model->kernels->lanes * sizeof(float));
    for (size_t i = 0; i < model->layer_count; i++) {
        const cy_cpu_layer *layer = &model->layers[i];
        size_t row_bytes = layer->stride * sizeof(float);
        cy_cpu_buffers buffers = {0};
        if (layer->node->op == CY_OP_LSTM) {
            buffers.y = cy_carve(carver, row_steps, row_bytes);
            buffers.h = cy_carve(carver, rows, row_bytes);
            buffers.c = cy_carve(carver, rows, row_bytes);
        } else if (layer->node->op == CY_OP_DENSE ||
                   layer->node->op == CY_OP_ACTIVATION) {
            buffers.y =
                cy_carve(carver, layer->node->in_time ? row_steps : rows, row_bytes);
        }
        if (space->buffers) space->buffers[i] = buffers;
    }
}
