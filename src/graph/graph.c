#include "graph/graph.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STATE_PAD_FLOATS (CY_ALIGN / sizeof(float))

static const char *const activation_names[CY_ACT_COUNT] = {
#define NAME(id, name) [CY_ACT_##id] = name,
    CY_ACTIVATION_LIST(NAME)
#undef NAME
};

static const char *const op_names[] = {[CY_OP_IDENTITY] = "identity",
                                       [CY_OP_LSTM] = "LSTM",
                                       [CY_OP_DENSE] = "Dense",
                                       [CY_OP_EMBEDDING] = "Embedding",
                                       [CY_OP_ACTIVATION] = "activation"};

const char *cy_activation_name(cy_activation activation)
{
    return (unsigned)activation < CY_ACT_COUNT ? activation_names[activation] : "unknown";
}

bool cy_activation_find(const char *name, cy_activation *activation)
{
    for (int i = 0; i < CY_ACT_COUNT; i++)
        if (strcmp(name, activation_names[i]) == 0) {
            *activation = (cy_activation)i;
            return true;
        }
    return false;
}

uint64_t cy_hash64(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *byte = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

carry_status cy_graph_open(cy_graph **graph)
{
    *graph = cy_alloc(sizeof **graph);
    CY_CHECK(*graph, CARRY_E_MEMORY, "out of memory: %zu bytes for a graph",
             sizeof **graph);
    return CARRY_OK;
}

void cy_graph_close(cy_graph **graph)
{
    if (!*graph) return;
    cy_arena_free(&(*graph)->arena);
    cy_free(*graph);
    *graph = NULL;
}

uint64_t cy_graph_width(const cy_graph *graph, cy_value value)
{
    if (value.node == CY_INPUT) return graph->input.width;
    const cy_node *node = &graph->nodes[value.node];
    return value.port == CY_PORT_Y ? node->out_width : node->units;
}

bool cy_graph_has_time(const cy_graph *graph, cy_value value)
{
    if (value.node == CY_INPUT) return true;
    return value.port == CY_PORT_Y && graph->nodes[value.node].out_time;
}

/* ---- checks --------------------------------------------------------------------------------- */

static carry_status check_name(const char *what, const char *name)
{
    CY_CHECK(name && *name, CARRY_E_FORMAT, "%s has no name", what);
    CY_CHECK(strlen(name) <= CY_MAX_NAME, CARRY_E_FORMAT,
             "%s has a name of %zu bytes; %d are the most", what, strlen(name),
             CY_MAX_NAME);
    return CARRY_OK;
}

static carry_status check_width(const char *layer, const char *what, uint64_t width)
{
    CY_CHECK(width >= 1 && width <= CY_MAX_WIDTH, CARRY_E_FORMAT,
             "layer '%s': %s is %llu, expected 1 to %llu", layer, what,
             (unsigned long long)width, (unsigned long long)CY_MAX_WIDTH);
    return CARRY_OK;
}

/* A value that a node before `before` gives. */
static carry_status check_value(const cy_graph *graph, const char *user, cy_value value,
                                uint32_t before)
{
    if (value.node == CY_INPUT && value.port == CY_PORT_Y) return CARRY_OK;
    CY_CHECK(value.node >= 0 && (uint32_t)value.node < before, CARRY_E_FORMAT,
             "%s takes its input from node %d, which is not before it", user, value.node);
    const cy_node *node = &graph->nodes[value.node];
    bool is_state = value.port == CY_PORT_H || value.port == CY_PORT_C;
    CY_CHECK(value.port == CY_PORT_Y || (is_state && node->op == CY_OP_LSTM),
             CARRY_E_FORMAT, "%s takes output %d of layer '%s', which has none such",
             user, value.port, node->name);
    return CARRY_OK;
}

static void shape_text(char *text, size_t bytes, uint32_t rank, const uint64_t *shape)
{
    if (rank == 1) snprintf(text, bytes, "[%llu]", (unsigned long long)shape[0]);
    else
        snprintf(text, bytes, "[%llu, %llu]", (unsigned long long)shape[0],
                 (unsigned long long)shape[1]);
}

static carry_status check_weight(const cy_node *node, uint32_t index, const char *name,
                                 uint32_t rank, uint64_t rows, uint64_t columns)
{
    CY_CHECK(index < node->weight_count, CARRY_E_FORMAT, "layer '%s' has no %s",
             node->name, name);
    const cy_tensor *tensor = &node->weights[index];
    CY_CHECK(tensor->name && strcmp(tensor->name, name) == 0, CARRY_E_FORMAT,
             "layer '%s': weight %u is '%s', expected '%s'", node->name, index,
             tensor->name ? tensor->name : "", name);
    uint64_t expected[2] = {rows, columns};
    if (rank == 1) expected[0] = columns;
    bool same = tensor->rank == rank && tensor->shape[0] == expected[0] &&
                (rank == 1 || tensor->shape[1] == expected[1]);
    if (!same) {
        char got[64], wanted[64];
        CY_CHECK(tensor->rank == 1 || tensor->rank == 2, CARRY_E_FORMAT,
                 "%s/%s has %u axes, expected %u", node->name, name, tensor->rank, rank);
        shape_text(got, sizeof got, tensor->rank, tensor->shape);
        shape_text(wanted, sizeof wanted, rank, expected);
        return cy_fail(CARRY_E_FORMAT, "%s/%s is %s, expected %s", node->name, name, got,
                       wanted);
    }
    CY_CHECK(tensor->data, CARRY_E_FORMAT, "%s/%s has no data", node->name, name);
    return CARRY_OK;
}

static carry_status check_weight_count(const cy_node *node, uint32_t expected)
{
    CY_CHECK(node->weight_count == expected, CARRY_E_FORMAT,
             "layer '%s' (%s) has %u weights, expected %u", node->name, node->class_name,
             node->weight_count, expected);
    return CARRY_OK;
}

static carry_status finish_lstm(cy_node *node)
{
    CY_CHECK(node->in_time, CARRY_E_UNSUPPORTED,
             "layer '%s' (LSTM) needs an input with a time axis, and the layer before it "
             "gives "
             "one value per sequence: set return_sequences=True there",
             node->name);
    CY_TRY(check_width(node->name, "units", node->units));
    CY_CHECK((unsigned)node->recurrent_activation < CY_ACT_COUNT, CARRY_E_FORMAT,
             "layer '%s' has an unknown recurrent_activation", node->name);
    uint64_t units = node->units;
    CY_TRY(check_weight_count(node, node->use_bias ? 3 : 2));
    CY_TRY(check_weight(node, 0, "kernel", 2, node->in_width, 4 * units));
    CY_TRY(check_weight(node, 1, "recurrent_kernel", 2, units, 4 * units));
    if (node->use_bias) CY_TRY(check_weight(node, 2, "bias", 1, 0, 4 * units));
    node->out_width = units;
    node->out_time = node->return_sequences;
    return CARRY_OK;
}

static carry_status finish_dense(cy_node *node)
{
    CY_TRY(check_width(node->name, "units", node->units));
    CY_TRY(check_weight_count(node, node->use_bias ? 2 : 1));
    CY_TRY(check_weight(node, 0, "kernel", 2, node->in_width, node->units));
    if (node->use_bias) CY_TRY(check_weight(node, 1, "bias", 1, 0, node->units));
    node->out_width = node->units;
    node->out_time = node->in_time;
    return CARRY_OK;
}

static carry_status finish_embedding(cy_graph *graph, cy_node *node)
{
    CY_CHECK(node->input.node == CY_INPUT && graph->input.ids, CARRY_E_UNSUPPORTED,
             "layer '%s' (Embedding) must be the first layer: it takes ids, not numbers",
             node->name);
    CY_TRY(check_width(node->name, "output_dim", node->units));
    CY_TRY(check_weight_count(node, 1));
    uint64_t ids = node->weights[0].rank == 2 ? node->weights[0].shape[0] : 0;
    CY_CHECK(ids >= 1 && ids < CY_MAX_IDS, CARRY_E_FORMAT,
             "layer '%s': input_dim is %llu, expected 1 to %llu", node->name,
             (unsigned long long)ids, (unsigned long long)CY_MAX_IDS - 1);
    CY_TRY(check_weight(node, 0, "embeddings", 2, ids, node->units));
    node->in_width = ids;
    node->out_width = node->units;
    node->out_time = true;
    if (!graph->ids || ids < graph->ids) graph->ids = ids;
    return CARRY_OK;
}

static carry_status finish_node(cy_graph *graph, uint32_t index)
{
    cy_node *node = &graph->nodes[index];
    char user[64];
    snprintf(user, sizeof user, "node %u", index);
    CY_TRY(check_name(user, node->name));
    CY_TRY(check_name("the class of a layer", node->class_name));
    for (uint32_t i = 0; i < index; i++)
        CY_CHECK(strcmp(graph->nodes[i].name, node->name) != 0, CARRY_E_FORMAT,
                 "two layers are named '%s'", node->name);
    CY_TRY(check_value(graph, user, node->input, index));
    CY_CHECK((unsigned)node->activation < CY_ACT_COUNT, CARRY_E_FORMAT,
             "layer '%s' has an unknown activation", node->name);
    CY_CHECK(node->weight_count <= 3, CARRY_E_FORMAT, "layer '%s' has %u weights",
             node->name, node->weight_count);
    node->in_width = cy_graph_width(graph, node->input);
    node->in_time = cy_graph_has_time(graph, node->input);
    node->first_state = -1;
    CY_CHECK(node->op == CY_OP_EMBEDDING || node->input.node != CY_INPUT ||
                 !graph->input.ids,
             CARRY_E_UNSUPPORTED, "layer '%s' (%s) cannot take ids; an Embedding can",
             node->name, node->class_name);
    switch (node->op) {
    case CY_OP_LSTM:
        return finish_lstm(node);
    case CY_OP_DENSE:
        return finish_dense(node);
    case CY_OP_EMBEDDING:
        return finish_embedding(graph, node);
    case CY_OP_IDENTITY:
    case CY_OP_ACTIVATION:
        CY_TRY(check_weight_count(node, 0));
        node->units = node->out_width = node->in_width;
        node->out_time = node->in_time;
        return CARRY_OK;
    }
    return cy_fail(CARRY_E_FORMAT, "layer '%s' has an unknown operation", node->name);
}

static carry_status finish_input(const cy_graph *graph)
{
    CY_TRY(check_name("the model's input", graph->input.name));
    CY_TRY(check_width(graph->input.name, "features", graph->input.width));
    CY_CHECK(!graph->input.ids || graph->input.width == 1, CARRY_E_FORMAT,
             "input '%s' is of ids and %llu wide, expected 1", graph->input.name,
             (unsigned long long)graph->input.width);
    CY_CHECK(graph->input.batch <= UINT32_MAX && graph->input.steps <= UINT32_MAX,
             CARRY_E_FORMAT, "input '%s' states a batch or time axis over %u",
             graph->input.name, UINT32_MAX);
    return CARRY_OK;
}

/* ---- what is derived ------------------------------------------------------------------------ */

static carry_status list_states(cy_graph *graph)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->node_count; i++)
        if (graph->nodes[i].op == CY_OP_LSTM) count += 2;
    graph->states = cy_arena_alloc(&graph->arena, count * sizeof *graph->states);
    CY_CHECK(graph->states, CARRY_E_MEMORY, "out of memory listing %u state tensors",
             count);
    graph->state_count = 0;
    graph->state_floats = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        cy_node *node = &graph->nodes[i];
        if (node->op != CY_OP_LSTM) continue;
        node->first_state = (int32_t)graph->state_count;
        for (int tensor = 0; tensor < 2; tensor++) {
            graph->states[graph->state_count++] =
                (cy_state_tensor){.node = (int32_t)i,
                                  .name = tensor ? "c" : "h",
                                  .width = node->units,
                                  .offset = graph->state_floats};
            graph->state_floats += (node->units + STATE_PAD_FLOATS - 1) /
                                   STATE_PAD_FLOATS * STATE_PAD_FLOATS;
        }
    }
    return CARRY_OK;
}

typedef struct text {
    char *data;
    size_t used, capacity;
} text;

__attribute__((format(printf, 2, 3))) static void append(text *out, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(out->data ? out->data + out->used : NULL,
                      out->data ? out->capacity - out->used : 0, format, arguments);
    va_end(arguments);
    if (n > 0) out->used += (size_t)n;
}

static void describe(const cy_graph *graph, text *out)
{
    append(out, "input %s %llu\n", graph->input.ids ? "ids" : "features",
           (unsigned long long)(graph->input.ids ? graph->ids : graph->input.width));
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const cy_node *node = &graph->nodes[i];
        append(out, "%s: %s %llu -> %llu of %d.%d, %s", node->name, op_names[node->op],
               (unsigned long long)node->in_width, (unsigned long long)node->out_width,
               node->input.node, node->input.port, cy_activation_name(node->activation));
        if (node->op == CY_OP_LSTM)
            append(out, " %s%s%s", cy_activation_name(node->recurrent_activation),
                   node->return_sequences ? " return_sequences" : "",
                   node->go_backwards ? " go_backwards" : "");
        append(out, "\n");
    }
}

static carry_status fingerprint(cy_graph *graph)
{
    text measure = {0};
    describe(graph, &measure);
    text out = {.capacity = measure.used + 1};
    out.data = cy_arena_alloc(&graph->arena, out.capacity);
    CY_CHECK(out.data, CARRY_E_MEMORY, "out of memory describing %u layers",
             graph->node_count);
    describe(graph, &out);
    graph->layers = out.data;
    snprintf(graph->fingerprint, sizeof graph->fingerprint, "%016llx",
             (unsigned long long)cy_hash64(CY_HASH_START, out.data, out.used));
    return CARRY_OK;
}

carry_status cy_graph_finish(cy_graph *graph)
{
    CY_TRY(finish_input(graph));
    CY_CHECK(graph->node_count >= 1 && graph->node_count <= CY_MAX_NODES,
             CARRY_E_UNSUPPORTED, "the model has %u layers, expected 1 to %d",
             graph->node_count, CY_MAX_NODES);
    graph->ids = 0;
    graph->parameters = 0;
    graph->whole_sequence = false;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        CY_TRY(finish_node(graph, i));
        const cy_node *node = &graph->nodes[i];
        graph->whole_sequence |= node->op == CY_OP_LSTM && node->go_backwards;
        for (uint32_t w = 0; w < node->weight_count; w++)
            graph->parameters += cy_tensor_count(&node->weights[w]);
    }
    CY_CHECK(graph->output_count >= 1 && graph->output_count <= CY_MAX_NODES,
             CARRY_E_UNSUPPORTED, "the model has %u outputs, expected 1 to %d",
             graph->output_count, CY_MAX_NODES);
    for (uint32_t i = 0; i < graph->output_count; i++) {
        char user[64];
        snprintf(user, sizeof user, "output %u", i);
        CY_CHECK(graph->outputs[i].node != CY_INPUT, CARRY_E_UNSUPPORTED,
                 "output %u is the model's input itself", i);
        CY_TRY(check_value(graph, user, graph->outputs[i], graph->node_count));
    }
    CY_TRY(list_states(graph));
    return fingerprint(graph);
}
