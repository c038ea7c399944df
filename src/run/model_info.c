/* What a model is, by index: answers from the graph, for people and for programs. */
#include "base/sized.h"
#include "run/model.h"

#include <string.h>

static int64_t free_or(uint64_t fixed)
{
    return fixed ? (int64_t)fixed : CARRY_FREE;
}

/* [batch, time, width] or [batch, width], as the source's own summary shows it. */
static carry_shape shape_of(const cy_graph *graph, bool has_time, uint64_t width)
{
    carry_shape shape = {0};
    shape.dim[shape.rank++] = free_or(graph->input.batch);
    if (has_time) shape.dim[shape.rank++] = free_or(graph->input.steps);
    shape.dim[shape.rank++] = (int64_t)width;
    return shape;
}

carry_status carry_model_get_info(const carry_model *model, carry_model_info *info)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_get_info: model is NULL");
    const cy_graph *graph = model->graph;
    carry_model_info known = {.source = graph->source,
                              .name = graph->name,
                              .device = model->device,
                              .fingerprint = graph->fingerprint,
                              .whole_sequence = graph->whole_sequence,
                              .layers = graph->node_count,
                              .weights = model->weight_count,
                              .inputs = 1,
                              .outputs = graph->output_count,
                              .state_tensors = graph->state_count,
                              .parameters = graph->parameters,
                              .weight_bytes = graph->parameters * sizeof(float),
                              .precision = model->precision,
                              .device_note = model->note[0] ? model->note : NULL,
                              .device_bytes = model->device_bytes};
    for (uint32_t i = 0; i < graph->node_count; i++)
        known.stateful |= graph->nodes[i].stateful;
    for (uint32_t i = 0; i < graph->state_count; i++)
        known.state_bytes += graph->states[i].width * sizeof(float);
    return cy_sized_write(info, &known, sizeof known, "carry_model_info");
}

carry_status carry_model_get_layer(const carry_model *model, size_t index,
                                   carry_layer_info *info)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_get_layer: model is NULL");
    const cy_graph *graph = model->graph;
    CY_CHECK(index < graph->node_count, CARRY_E_ARGUMENT, "layer %zu of %u", index,
             graph->node_count);
    const cy_node *node = &graph->nodes[index];
    bool has_weights = node->weight_count > 0;
    carry_layer_info known = {.name = node->name,
                              .class_name = node->class_name,
                              .activation = cy_activation_name(node->activation),
                              .input_width = (int64_t)node->in_width,
                              .units = has_weights ? (int64_t)node->units : -1,
                              .weights = node->weight_count,
                              .output_count = 1,
                              .recurrent = node->op == CY_OP_LSTM,
                              .stateful = node->stateful,
                              .go_backwards = node->go_backwards,
                              .return_sequences = node->return_sequences};
    for (size_t i = 0; i < index; i++)
        known.first_weight += graph->nodes[i].weight_count;
    for (uint32_t w = 0; w < node->weight_count; w++)
        known.parameters += cy_tensor_count(&node->weights[w]);
    known.output_shapes[0] = shape_of(graph, node->out_time, node->out_width);
    if (node->op == CY_OP_LSTM) {
        known.recurrent_activation = cy_activation_name(node->recurrent_activation);
        if (node->return_state) {
            known.output_count = 3;
            known.output_shapes[1] = known.output_shapes[2] =
                shape_of(graph, false, node->units);
        }
    }
    return cy_sized_write(info, &known, sizeof known, "carry_layer_info");
}

carry_status carry_model_get_weight(const carry_model *model, size_t index,
                                    carry_weight_info *info)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_get_weight: model is NULL");
    const cy_graph *graph = model->graph;
    CY_CHECK(index < model->weight_count, CARRY_E_ARGUMENT, "weight %zu of %u", index,
             model->weight_count);
    uint32_t layer = 0;
    while (index >= graph->nodes[layer].weight_count)
        index -= graph->nodes[layer++].weight_count;
    const cy_tensor *tensor = &graph->nodes[layer].weights[index];
    carry_weight_info known = {
        .layer = layer, .name = tensor->name, .shape = {.rank = (int32_t)tensor->rank}};
    for (uint32_t i = 0; i < tensor->rank; i++)
        known.shape.dim[i] = (int64_t)tensor->shape[i];
    return cy_sized_write(info, &known, sizeof known, "carry_weight_info");
}

carry_status carry_model_get_input(const carry_model *model, size_t index,
                                   carry_port_info *info)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_get_input: model is NULL");
    CY_CHECK(index < 1, CARRY_E_ARGUMENT, "input %zu of 1", index);
    const cy_graph *graph = model->graph;
    carry_port_info known = {.name = graph->input.name,
                             .dtype = graph->input.ids ? CARRY_I32 : CARRY_F32,
                             .shape = shape_of(graph, true, graph->input.width),
                             .width = (int64_t)graph->input.width,
                             .ids = (int64_t)graph->ids,
                             .has_time = 1,
                             .tensor = 'x'};
    if (graph->input.ids) known.shape.rank = 2;
    return cy_sized_write(info, &known, sizeof known, "carry_port_info");
}

carry_status carry_model_get_output(const carry_model *model, size_t index,
                                    carry_port_info *info)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_get_output: model is NULL");
    const cy_graph *graph = model->graph;
    CY_CHECK(index < graph->output_count, CARRY_E_ARGUMENT, "output %zu of %u", index,
             graph->output_count);
    cy_value value = graph->outputs[index];
    bool has_time = cy_graph_has_time(graph, value);
    uint64_t width = cy_graph_width(graph, value);
    carry_port_info known = {.name = graph->nodes[value.node].name,
                             .dtype = CARRY_F32,
                             .shape = shape_of(graph, has_time, width),
                             .width = (int64_t)width,
                             .has_time = has_time,
                             .layer = (size_t)value.node,
                             .tensor = "yhc"[value.port]};
    return cy_sized_write(info, &known, sizeof known, "carry_port_info");
}

carry_status carry_model_get_state_tensor(const carry_model *model, size_t index,
                                          carry_state_info *info)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_get_state_tensor: model is NULL");
    const cy_graph *graph = model->graph;
    CY_CHECK(index < graph->state_count, CARRY_E_ARGUMENT, "state tensor %zu of %u",
             index, graph->state_count);
    const cy_state_tensor *tensor = &graph->states[index];
    const cy_node *node = &graph->nodes[tensor->node];
    carry_state_info known = {.layer = node->name,
                              .name = tensor->name,
                              .width = (int64_t)tensor->width,
                              .layer_index = (size_t)tensor->node,
                              .stateful = node->stateful};
    return cy_sized_write(info, &known, sizeof known, "carry_state_info");
}
