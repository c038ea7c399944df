#include "model_builder.h"

#include "device.h"

#include "base/mem.h"
#include "graph/graph_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                    cy_error());                                               \
            abort();                                                           \
        }                                                                      \
    } while (0)

uint64_t random_u64(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

float random_float(uint64_t *seed)
{
    return (float)(int32_t)(random_u64(seed) >> 40) * 0x1p-23f - 1.0f;
}

typedef struct builder {
    cy_graph *graph;
    uint64_t seed;
    float scale;
} builder;

/* Uniform in +-limit. */
static void add_weight(builder *b, cy_node *node, const char *name, uint32_t rank,
                       uint64_t rows, uint64_t columns, float limit)
{
    cy_tensor *tensor = &node->weights[node->weight_count++];
    uint64_t count = rows * columns;
    float *data = cy_arena_alloc(&b->graph->arena, count * sizeof *data);
    MUST(data);
    for (uint64_t i = 0; i < count; i++)
        data[i] = random_float(&b->seed) * limit * b->scale;
    *tensor = (cy_tensor){.name = name,
                          .rank = rank,
                          .shape = {rows, rank == 2 ? columns : 0},
                          .data = data};
    if (rank == 1) tensor->shape[0] = columns;
}

static void add_lstm(builder *b, cy_node *node, uint64_t in)
{
    uint64_t h = node->units;
    add_weight(b, node, "kernel", 2, in, 4 * h, sqrtf(6.0f / (float)(in + 4 * h)));
    /* Keras: orthogonal, whose entries have variance 1/4H; a uniform has limit^2 / 3 */
    add_weight(b, node, "recurrent_kernel", 2, h, 4 * h, sqrtf(3.0f / (float)(4 * h)));
    if (!node->use_bias) return;
    add_weight(b, node, "bias", 1, 1, 4 * h, 0.1f);
    float *bias = (float *)node->weights[node->weight_count - 1].data;
    for (uint64_t i = h; i < 2 * h; i++)
        bias[i] += 1.0f; /* unit_forget_bias */
}

static void add_layer(builder *b, cy_node *node, const layer_spec *layer, int index,
                      uint64_t in, uint64_t ids)
{
    static const char *const classes[] = {"Dropout", "LSTM", "Dense", "Embedding",
                                          "Activation"};
    char name[32];
    snprintf(name, sizeof name, "layer%d", index);
    node->op = layer->op;
    node->name = cy_arena_strdup(&b->graph->arena, name);
    node->class_name = classes[layer->op];
    node->input = (cy_value){index - 1, CY_PORT_Y};
    node->activation = layer->activation;
    node->recurrent_activation = layer->recurrent_activation;
    node->units = layer->units;
    node->use_bias = (layer->op == CY_OP_LSTM || layer->op == CY_OP_DENSE) &&
                     !(layer->flags & NO_BIAS);
    node->return_sequences = layer->flags & SEQUENCES;
    node->return_state = layer->flags & STATES;
    node->go_backwards = layer->flags & BACKWARDS;
    node->stateful = layer->flags & STATEFUL;
    if (layer->op == CY_OP_LSTM) add_lstm(b, node, in);
    if (layer->op == CY_OP_DENSE) {
        add_weight(b, node, "kernel", 2, in, node->units,
                   sqrtf(6.0f / (float)(in + node->units)));
        if (node->use_bias) add_weight(b, node, "bias", 1, 1, node->units, 0.1f);
    }
    if (layer->op == CY_OP_EMBEDDING)
        add_weight(b, node, "embeddings", 2, ids, node->units, 0.5f);
}

cy_graph *build_graph(const model_spec *spec)
{
    builder b = {.seed = spec->seed + 1, .scale = spec->scale ? spec->scale : 1.0f};
    MUST(cy_graph_open(&b.graph) == CARRY_OK);
    cy_graph *graph = b.graph;
    graph->source = "keras";
    graph->name = "built";
    graph->input.name = "x";
    graph->input.ids = spec->ids > 0;
    graph->input.width = spec->ids ? 1 : spec->features;
    graph->input.steps = spec->steps;
    while (graph->node_count < 8 && spec->layers[graph->node_count].present)
        graph->node_count++;
    graph->nodes =
        cy_arena_alloc(&graph->arena, graph->node_count * sizeof *graph->nodes);
    MUST(graph->nodes);
    uint64_t width = graph->input.width;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        add_layer(&b, &graph->nodes[i], &spec->layers[i], (int)i, width, spec->ids);
        if (spec->names[i]) graph->nodes[i].name = spec->names[i];
        if (spec->layers[i].units) width = spec->layers[i].units;
    }
    graph->output_count = spec->output_count ? spec->output_count : 1;
    graph->outputs =
        cy_arena_alloc(&graph->arena, graph->output_count * sizeof *graph->outputs);
    MUST(graph->outputs);
    graph->outputs[0] = (cy_value){(int32_t)graph->node_count - 1, CY_PORT_Y};
    for (uint32_t i = 0; i < spec->output_count; i++)
        graph->outputs[i] = spec->outputs[i];
    MUST(cy_graph_finish(graph) == CARRY_OK);
    return graph;
}

void *build_bytes(const model_spec *spec, size_t *bytes)
{
    cy_graph *graph = build_graph(spec);
    void *data;
    MUST(cy_graph_write(graph, &data, bytes) == CARRY_OK);
    cy_graph_close(&graph);
    return data;
}

carry_model *build_model(const model_spec *spec)
{
    size_t bytes;
    void *data = build_bytes(spec, &bytes);
    carry_model *model;
    MUST(carry_model_open_bytes(&model, data, bytes, model_options()) == CARRY_OK);
    cy_free(data);
    return model;
}
