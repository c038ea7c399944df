#include "graph/graph_file.h"

#include "base/mem.h"
#include "graph/json.h"
#include "graph/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_VERSION      "2"
#define OLD_VERSION       "1" /* the same but for its checksum: FNV-1a */
#define TENSOR_NAME_BYTES (CY_MAX_NAME + 32)

static const char *const op_words[] = {[CY_OP_IDENTITY] = "identity",
                                       [CY_OP_LSTM] = "lstm",
                                       [CY_OP_DENSE] = "dense",
                                       [CY_OP_EMBEDDING] = "embedding",
                                       [CY_OP_ACTIVATION] = "activation"};
#define OP_COUNT (sizeof op_words / sizeof *op_words)

/* What may be named as a weight; also the order inside a node. */
static const char *const weight_words[OP_COUNT][3] = {
    [CY_OP_LSTM] = {"kernel", "recurrent_kernel", "bias"},
    [CY_OP_DENSE] = {"kernel", "bias"},
    [CY_OP_EMBEDDING] = {"embeddings"}};

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *value_json(cy_value value)
{
    return json_pack("[i, i]", value.node, value.port);
}

static json_t *node_json(const cy_node *node)
{
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:o, s:s}", "op", op_words[node->op], "name",
                  node->name, "class", node->class_name, "input", value_json(node->input),
                  "activation", cy_activation_name(node->activation));
    if (!json) return NULL;
    int failed = 0;
    if (node->op == CY_OP_LSTM || node->op == CY_OP_DENSE || node->op == CY_OP_EMBEDDING)
        failed |=
            json_object_set_new(json, "units", json_integer((json_int_t)node->units));
    if (node->op == CY_OP_LSTM || node->op == CY_OP_DENSE)
        failed |= json_object_set_new(json, "use_bias", json_boolean(node->use_bias));
    if (node->op == CY_OP_LSTM) {
        json_t *lstm =
            json_pack("{s:s, s:b, s:b, s:b, s:b}", "recurrent_activation",
                      cy_activation_name(node->recurrent_activation), "return_sequences",
                      node->return_sequences, "return_state", node->return_state,
                      "go_backwards", node->go_backwards, "stateful", node->stateful);
        failed |= !lstm || json_object_update(json, lstm);
        json_decref(lstm);
    }
    if (!failed) return json;
    json_decref(json);
    return NULL;
}

static char *graph_json(const cy_graph *graph)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:{s:s, s:b, s:I, s:I, s:I}}", "source", graph->source, "name",
        graph->name, "input", "name", graph->input.name, "ids", graph->input.ids, "width",
        (json_int_t)graph->input.width, "batch", (json_int_t)graph->input.batch, "steps",
        (json_int_t)graph->input.steps);
    json_t *nodes = json_array(), *outputs = json_array();
    int failed = !root || !nodes || !outputs;
    for (uint32_t i = 0; !failed && i < graph->node_count; i++)
        failed |= json_array_append_new(nodes, node_json(&graph->nodes[i]));
    for (uint32_t i = 0; !failed && i < graph->output_count; i++)
        failed |= json_array_append_new(outputs, value_json(graph->outputs[i]));
    char *text = NULL;
    if (!failed) failed |= json_object_set(root, "nodes", nodes);
    if (!failed) failed |= json_object_set(root, "outputs", outputs);
    if (!failed) text = json_dumps(root, JSON_COMPACT);
    json_decref(nodes);
    json_decref(outputs);
    json_decref(root);
    return text;
}

static carry_status list_tensors(const cy_graph *graph, cy_st_tensor *tensors,
                                 char *names)
{
    size_t count = 0;
    for (uint32_t i = 0; i < graph->node_count; i++)
        for (uint32_t w = 0; w < graph->nodes[i].weight_count; w++) {
            const cy_tensor *weight = &graph->nodes[i].weights[w];
            CY_CHECK(weight->data, CARRY_E_ARGUMENT, "%s/%s has no data to write",
                     graph->nodes[i].name, weight->name);
            char *name = names + count * TENSOR_NAME_BYTES;
            snprintf(name, TENSOR_NAME_BYTES, "%s/%s", graph->nodes[i].name,
                     weight->name);
            tensors[count] =
                (cy_st_tensor){.name = name, .dtype = "F32", .rank = weight->rank};
            memcpy(tensors[count].shape, weight->shape, sizeof weight->shape);
            count++;
        }
    return CARRY_OK;
}

static void copy_weights(const cy_graph *graph, const cy_st_tensor *tensors)
{
    size_t count = 0;
    for (uint32_t i = 0; i < graph->node_count; i++)
        for (uint32_t w = 0; w < graph->nodes[i].weight_count; w++) {
            memcpy((void *)tensors[count].data, graph->nodes[i].weights[w].data,
                   tensors[count].bytes);
            count++;
        }
}

carry_status cy_graph_write(const cy_graph *graph, void **data, size_t *bytes)
{
    *data = NULL;
    *bytes = 0;
    size_t count = 0;
    for (uint32_t i = 0; i < graph->node_count; i++)
        count += graph->nodes[i].weight_count;
    cy_st_tensor *tensors = cy_alloc(count * sizeof *tensors);
    char *names = cy_alloc(count * TENSOR_NAME_BYTES);
    char *text = graph_json(graph);
    json_t *metadata = text
                           ? json_pack("{s:s, s:s, s:s}", "carry.kind", "model",
                                       "carry.version", FILE_VERSION, "carry.graph", text)
                           : NULL;
    cy_st_writer writer = {0};
    carry_status status = CARRY_OK;
    if (!tensors || !names)
        status = cy_fail(CARRY_E_MEMORY, "out of memory listing %zu weights", count);
    else if (!metadata)
        status = cy_fail(CARRY_E_FORMAT, "model '%s' has a name that is not valid UTF-8",
                         graph->name);
    if (status == CARRY_OK) status = list_tensors(graph, tensors, names);
    if (status == CARRY_OK)
        status = cy_safetensors_layout(&writer, metadata, tensors, count);
    if (status == CARRY_OK) {
        copy_weights(graph, tensors);
        status = cy_safetensors_seal(&writer);
    }
    json_decref(metadata);
    free(text);
    cy_free(names);
    cy_free(tensors);
    if (status != CARRY_OK) {
        cy_free(writer.block);
        return status;
    }
    *data = writer.block;
    *bytes = writer.bytes;
    return CARRY_OK;
}

/* ---- reading -------------------------------------------------------------------------------- */

typedef struct reader {
    const cy_safetensors *file;
    cy_graph *graph;
} reader;

static carry_status get_text(reader *r, const json_t *object, const char *key,
                             const char **text)
{
    const char *value = json_string_value(json_object_get(object, key));
    CY_CHECK(value, CARRY_E_FORMAT, "carry.graph: '%s' is missing or not a string", key);
    *text = cy_arena_strdup(&r->graph->arena, value);
    CY_CHECK(*text, CARRY_E_MEMORY, "out of memory reading '%s'", key);
    return CARRY_OK;
}

static carry_status get_number(const json_t *object, const char *key, uint64_t *number)
{
    const json_t *value = json_object_get(object, key);
    CY_CHECK(json_is_integer(value) && json_integer_value(value) >= 0, CARRY_E_FORMAT,
             "carry.graph: '%s' is missing or not a whole number", key);
    *number = (uint64_t)json_integer_value(value);
    return CARRY_OK;
}

static carry_status get_flag(const json_t *object, const char *key, bool *flag)
{
    const json_t *value = json_object_get(object, key);
    CY_CHECK(json_is_boolean(value), CARRY_E_FORMAT,
             "carry.graph: '%s' is missing or not true or false", key);
    *flag = json_is_true(value);
    return CARRY_OK;
}

static carry_status get_activation(const json_t *object, const char *key,
                                   cy_activation *activation)
{
    const char *word = json_string_value(json_object_get(object, key));
    CY_CHECK(word && cy_activation_find(word, activation), CARRY_E_UNSUPPORTED,
             "carry.graph: '%s' is '%s', which this version of carry does not know", key,
             word ? word : "(none)");
    return CARRY_OK;
}

static carry_status get_value(const json_t *pair, cy_value *value)
{
    const json_t *node = json_array_get(pair, 0), *port = json_array_get(pair, 1);
    CY_CHECK(json_array_size(pair) == 2 && json_is_integer(node) &&
                 json_is_integer(port) && json_integer_value(node) >= CY_INPUT &&
                 json_integer_value(node) < CY_MAX_NODES &&
                 json_integer_value(port) >= 0 && json_integer_value(port) <= CY_PORT_C,
             CARRY_E_FORMAT, "carry.graph: an edge is not [node, output]");
    *value =
        (cy_value){(int32_t)json_integer_value(node), (int32_t)json_integer_value(port)};
    return CARRY_OK;
}

static carry_status get_op(const json_t *object, cy_op *op)
{
    const char *word = json_string_value(json_object_get(object, "op"));
    for (size_t i = 0; word && i < OP_COUNT; i++)
        if (strcmp(word, op_words[i]) == 0) {
            *op = (cy_op)i;
            return CARRY_OK;
        }
    return cy_fail(CARRY_E_UNSUPPORTED,
                   "carry.graph: operation '%s' is not known to this version of carry",
                   word ? word : "(none)");
}

static carry_status get_weight(reader *r, const cy_node *node, const char *word,
                               cy_tensor *weight)
{
    char name[TENSOR_NAME_BYTES];
    snprintf(name, sizeof name, "%s/%s", node->name, word);
    const cy_st_tensor *tensor = cy_safetensors_find(r->file, name);
    CY_CHECK(tensor, CARRY_E_FORMAT, "tensor '%s' is missing", name);
    CY_CHECK(strcmp(tensor->dtype, "F32") == 0, CARRY_E_FORMAT,
             "tensor '%s' has dtype %s, expected F32", name, tensor->dtype);
    CY_CHECK(tensor->rank == 1 || tensor->rank == 2, CARRY_E_FORMAT,
             "tensor '%s' has %u axes, expected 1 or 2", name, tensor->rank);
    weight->name = word;
    weight->rank = tensor->rank;
    memcpy(weight->shape, tensor->shape, sizeof weight->shape);
    if ((uintptr_t)tensor->data % sizeof(float) == 0) {
        weight->data = (const float *)(const void *)tensor->data;
        return CARRY_OK;
    }
    float *copy = cy_arena_alloc(&r->graph->arena, tensor->bytes);
    CY_CHECK(copy, CARRY_E_MEMORY, "out of memory: %llu bytes for '%s'",
             (unsigned long long)tensor->bytes, name);
    memcpy(copy, tensor->data, tensor->bytes);
    weight->data = copy;
    return CARRY_OK;
}

static carry_status read_node(reader *r, const json_t *object, cy_node *node)
{
    CY_CHECK(json_is_object(object), CARRY_E_FORMAT,
             "carry.graph: a node is not an object");
    CY_TRY(get_op(object, &node->op));
    CY_TRY(get_text(r, object, "name", &node->name));
    CY_TRY(get_text(r, object, "class", &node->class_name));
    CY_CHECK(strlen(node->name) <= CY_MAX_NAME, CARRY_E_FORMAT,
             "carry.graph: a layer's name has %zu bytes; %d are the most",
             strlen(node->name), CY_MAX_NAME);
    CY_TRY(get_value(json_object_get(object, "input"), &node->input));
    CY_TRY(get_activation(object, "activation", &node->activation));
    bool has_units =
        node->op == CY_OP_LSTM || node->op == CY_OP_DENSE || node->op == CY_OP_EMBEDDING;
    if (has_units) CY_TRY(get_number(object, "units", &node->units));
    if (node->op == CY_OP_LSTM || node->op == CY_OP_DENSE)
        CY_TRY(get_flag(object, "use_bias", &node->use_bias));
    if (node->op == CY_OP_LSTM) {
        CY_TRY(
            get_activation(object, "recurrent_activation", &node->recurrent_activation));
        CY_TRY(get_flag(object, "return_sequences", &node->return_sequences));
        CY_TRY(get_flag(object, "return_state", &node->return_state));
        CY_TRY(get_flag(object, "go_backwards", &node->go_backwards));
        CY_TRY(get_flag(object, "stateful", &node->stateful));
    }
    for (int w = 0; w < 3 && weight_words[node->op][w]; w++) {
        const char *word = weight_words[node->op][w];
        if (strcmp(word, "bias") == 0 && !node->use_bias) continue;
        CY_TRY(get_weight(r, node, word, &node->weights[node->weight_count]));
        node->weight_count++;
    }
    return CARRY_OK;
}

static carry_status read_graph(reader *r, const json_t *root)
{
    cy_graph *graph = r->graph;
    CY_TRY(get_text(r, root, "source", &graph->source));
    CY_TRY(get_text(r, root, "name", &graph->name));
    const json_t *input = json_object_get(root, "input");
    CY_TRY(get_text(r, input, "name", &graph->input.name));
    CY_TRY(get_flag(input, "ids", &graph->input.ids));
    CY_TRY(get_number(input, "width", &graph->input.width));
    CY_TRY(get_number(input, "batch", &graph->input.batch));
    CY_TRY(get_number(input, "steps", &graph->input.steps));

    const json_t *nodes = json_object_get(root, "nodes");
    const json_t *outputs = json_object_get(root, "outputs");
    CY_CHECK(json_is_array(nodes) && json_is_array(outputs), CARRY_E_FORMAT,
             "carry.graph: 'nodes' or 'outputs' is missing or not a list");
    CY_CHECK(json_array_size(nodes) <= CY_MAX_NODES &&
                 json_array_size(outputs) <= CY_MAX_NODES,
             CARRY_E_UNSUPPORTED,
             "the model has %zu layers and %zu outputs; %d are the most",
             json_array_size(nodes), json_array_size(outputs), CY_MAX_NODES);
    graph->node_count = (uint32_t)json_array_size(nodes);
    graph->output_count = (uint32_t)json_array_size(outputs);
    graph->nodes =
        cy_arena_alloc(&graph->arena, graph->node_count * sizeof *graph->nodes);
    graph->outputs =
        cy_arena_alloc(&graph->arena, graph->output_count * sizeof *graph->outputs);
    CY_CHECK(graph->nodes && graph->outputs, CARRY_E_MEMORY,
             "out of memory for %u layers", graph->node_count);
    for (uint32_t i = 0; i < graph->node_count; i++)
        CY_TRY(read_node(r, json_array_get(nodes, i), &graph->nodes[i]));
    for (uint32_t i = 0; i < graph->output_count; i++)
        CY_TRY(get_value(json_array_get(outputs, i), &graph->outputs[i]));
    return cy_graph_finish(graph);
}

static carry_status check_kind(const cy_safetensors *file)
{
    const char *kind = cy_safetensors_metadata(file, "carry.kind");
    CY_CHECK(kind, CARRY_E_UNSUPPORTED,
             "a safetensors file, but not one of carry's models (metadata carry.kind is "
             "missing)");
    CY_CHECK(strcmp(kind, "model") == 0, CARRY_E_FORMAT,
             "this file holds a '%s', expected a model", kind);
    const char *version = cy_safetensors_metadata(file, "carry.version");
    CY_CHECK(version && (strcmp(version, FILE_VERSION) == 0 ||
                         strcmp(version, OLD_VERSION) == 0),
             CARRY_E_UNSUPPORTED,
             "the model file has version '%s', this carry reads versions " OLD_VERSION
             " and " FILE_VERSION,
             version ? version : "(none)");
    return CARRY_OK;
}

static carry_status read_file(reader *r)
{
    CY_TRY(check_kind(r->file));
    CY_TRY(cy_safetensors_verify(r->file));
    const char *text = cy_safetensors_metadata(r->file, "carry.graph");
    CY_CHECK(text, CARRY_E_FORMAT, "metadata carry.graph is missing");
    json_t *root;
    CY_TRY(cy_json_load(&root, text, strlen(text), "carry.graph"));
    carry_status status = read_graph(r, root);
    json_decref(root);
    return status;
}

carry_status cy_graph_read(cy_graph **graph, const void *data, size_t bytes)
{
    *graph = NULL;
    cy_safetensors file;
    CY_TRY(cy_safetensors_open(&file, data, bytes));
    carry_status status = cy_graph_open(graph);
    if (status == CARRY_OK) {
        reader r = {.file = &file, .graph = *graph};
        status = read_file(&r);
        if (status != CARRY_OK) cy_graph_close(graph);
    }
    cy_safetensors_close(&file);
    return status;
}
