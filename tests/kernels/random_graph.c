#include "random_graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_NODES   8
#define MOST_OUTPUTS 8

uint64_t rng_next(rng *r) /* splitmix64 */
{
    uint64_t z = r->word += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double rng_uniform(rng *r, double low, double high)
{
    return low + (high - low) * (double)(rng_next(r) >> 11) * 0x1p-53;
}

double rng_normal(rng *r)
{
    double u = rng_uniform(r, 1e-12, 1), v = rng_uniform(r, 0, 6.283185307179586);
    return sqrt(-2 * log(u)) * cos(v);
}

static void *take(builder *b, size_t bytes)
{
    void *memory = cy_arena_alloc(&b->graph->arena, bytes);
    if (!memory) abort();
    return memory;
}

builder graph_begin(uint64_t seed, uint64_t width)
{
    builder b = {.rng = {seed}};
    if (cy_graph_open(&b.graph) != CARRY_OK) abort();
    b.graph->source = "keras";
    b.graph->name = "random";
    b.graph->input.name = "input";
    b.graph->input.ids = width == 0;
    b.graph->input.width = width ? width : 1;
    b.graph->nodes = take(&b, MOST_NODES * sizeof(cy_node));
    b.graph->outputs = take(&b, MOST_OUTPUTS * sizeof(cy_value));
    return b;
}

cy_node *graph_node(builder *b, cy_value value)
{
    return &b->graph->nodes[value.node];
}

static uint64_t width_of(builder *b, cy_value value)
{
    if (value.node < 0) return b->graph->input.width;
    const cy_node *node = graph_node(b, value);
    return node->units ? node->units : width_of(b, node->input);
}

static cy_value append(builder *b, cy_op op, const char *class_name, cy_value input)
{
    if (b->graph->node_count == MOST_NODES) abort();
    cy_value value = {(int32_t)b->graph->node_count++, CY_PORT_Y};
    cy_node *node = graph_node(b, value);
    char *name = take(b, 32);
    snprintf(name, 32, "node_%d", value.node);
    *node = (cy_node){.op = op, .name = name, .class_name = class_name, .input = input};
    return value;
}

static float *add_weight(builder *b, cy_node *node, const char *name, uint64_t rows,
                         uint64_t columns)
{
    uint64_t count = (rows ? rows : 1) * columns;
    float *data = take(b, count * sizeof(float));
    cy_tensor tensor = {.name = name, .data = data};
    if (rows) tensor.rank = 2, tensor.shape[0] = rows, tensor.shape[1] = columns;
    else tensor.rank = 1, tensor.shape[0] = columns;
    node->weights[node->weight_count++] = tensor;
    return data;
}

static void fill_glorot(builder *b, float *w, uint64_t rows, uint64_t columns)
{
    double limit = sqrt(6.0 / (double)(rows + columns));
    for (uint64_t i = 0; i < rows * columns; i++)
        w[i] = (float)rng_uniform(&b->rng, -limit, limit);
}

/* Rows made orthonormal one after the other (rows <= columns). */
static void fill_orthogonal(builder *b, float *w, uint64_t rows, uint64_t columns)
{
    double *q = malloc(rows * columns * sizeof *q);
    if (!q) abort();
    for (uint64_t i = 0; i < rows; i++) {
        double *row = q + i * columns, norm = 0;
        for (uint64_t k = 0; k < columns; k++)
            row[k] = rng_normal(&b->rng);
        for (uint64_t j = 0; j < i; j++) {
            double dot = 0;
            for (uint64_t k = 0; k < columns; k++)
                dot += row[k] * q[j * columns + k];
            for (uint64_t k = 0; k < columns; k++)
                row[k] -= dot * q[j * columns + k];
        }
        for (uint64_t k = 0; k < columns; k++)
            norm += row[k] * row[k];
        for (uint64_t k = 0; k < columns; k++)
            w[i * columns + k] = (float)(row[k] /= sqrt(norm));
    }
    free(q);
}

static void fill_bias(builder *b, float *bias, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        bias[i] = (float)(0.1 * rng_normal(&b->rng));
}

cy_value graph_lstm(builder *b, cy_value input, uint64_t units)
{
    uint64_t width = width_of(b, input);
    cy_value value = append(b, CY_OP_LSTM, "LSTM", input);
    cy_node *node = graph_node(b, value);
    node->units = units;
    node->activation = CY_ACT_TANH;
    node->recurrent_activation = CY_ACT_SIGMOID;
    node->use_bias = true;
    node->return_sequences = true;
    fill_glorot(b, add_weight(b, node, "kernel", width, 4 * units), width, 4 * units);
    fill_orthogonal(b, add_weight(b, node, "recurrent_kernel", units, 4 * units), units,
                    4 * units);
    float *bias = add_weight(b, node, "bias", 0, 4 * units);
    fill_bias(b, bias, 4 * units);
    for (uint64_t j = units; j < 2 * units; j++)
        bias[j] += 1;
    return value;
}

cy_value graph_dense(builder *b, cy_value input, uint64_t width, cy_activation activation)
{
    uint64_t in = width_of(b, input);
    cy_value value = append(b, CY_OP_DENSE, "Dense", input);
    cy_node *node = graph_node(b, value);
    node->units = width;
    node->activation = activation;
    node->use_bias = true;
    fill_glorot(b, add_weight(b, node, "kernel", in, width), in, width);
    fill_bias(b, add_weight(b, node, "bias", 0, width), width);
    return value;
}

cy_value graph_embedding(builder *b, uint64_t ids, uint64_t width)
{
    cy_value value = append(b, CY_OP_EMBEDDING, "Embedding", (cy_value){CY_INPUT, 0});
    cy_node *node = graph_node(b, value);
    node->units = width;
    float *table = add_weight(b, node, "embeddings", ids, width);
    for (uint64_t i = 0; i < ids * width; i++)
        table[i] = (float)rng_uniform(&b->rng, -0.05, 0.05);
    return value;
}

cy_value graph_activation(builder *b, cy_value input, cy_activation activation)
{
    cy_value value = append(b, CY_OP_ACTIVATION, "Activation", input);
    graph_node(b, value)->activation = activation;
    return value;
}

cy_value graph_identity(builder *b, cy_value input)
{
    return append(b, CY_OP_IDENTITY, "Dropout", input);
}

cy_graph *graph_end(builder *b, const cy_value *outputs, uint32_t count)
{
    if (count > MOST_OUTPUTS) abort();
    for (uint32_t i = 0; i < count; i++)
        b->graph->outputs[i] = outputs[i];
    b->graph->output_count = count;
    if (cy_graph_finish(b->graph) != CARRY_OK) {
        fprintf(stderr, "random graph: %s\n", cy_error());
        abort();
    }
    return b->graph;
}
