/* A Keras model's config: which layers there are, what feeds what, what comes in and goes out. */
#include "import/config_json.h"
#include "import/keras.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

carry_status cy_keras_alloc(cy_graph *graph, size_t count, size_t bytes, void *memory)
{
    void *block = NULL;
    if (count <= SIZE_MAX / bytes) block = cy_arena_alloc(&graph->arena, count * bytes);
    CY_CHECK(block, CARRY_E_MEMORY, "out of memory: %zu times %zu bytes for the model",
             count, bytes);
    memcpy(memory, &block, sizeof block); /* a pointer of any type */
    return CARRY_OK;
}

carry_status cy_keras_text(cy_graph *graph, char **text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CY_TRY(cy_keras_alloc(graph, length < 0 ? 1 : (size_t)length + 1, 1, text));
    va_start(arguments, format);
    vsnprintf(*text, length < 0 ? 1 : (size_t)length + 1, format, arguments);
    va_end(arguments);
    return CARRY_OK;
}

/* At most `most` bytes of a text, never half a character. */
static int cut(const char *text, size_t most)
{
    size_t length = strlen(text);
    if (length <= most) return (int)length;
    while (most > 0 && ((unsigned char)text[most] & 0xc0) == 0x80)
        most--;
    return (int)most;
}

carry_status cy_keras_generation(const char *version, int *generation)
{
    *generation = 0;
    if (!version) return CARRY_OK;
    char *end;
    long major = strtol(version, &end, 10);
    CY_CHECK(end != version && (*end == '.' || !*end) && major >= 1 && major <= 99,
             CARRY_E_FORMAT, "keras_version is '%.40s', expected a version like 3.15.1",
             version);
    CY_CHECK(major >= 2, CARRY_E_UNSUPPORTED,
             "the file was written by Keras %.40s; supported are Keras 2 and 3 (load and "
             "save it with one of them)",
             version);
    *generation = major >= 3 ? 3 : 2;
    return CARRY_OK;
}

/* ---- references between layers ---------------------------------------------------------------- */

/* ["lstm", 0, 1]: output 1 of the first call of layer "lstm" */
typedef struct reference {
    const char *layer;
    uint64_t call, port;
} reference;

static bool read_reference(const json_t *json, reference *ref)
{
    ref->layer = json_string_value(json_array_get(json, 0));
    return ref->layer && json_array_size(json) >= 3 &&
           cy_config_whole(json_array_get(json, 1), &ref->call) &&
           cy_config_whole(json_array_get(json, 2), &ref->port);
}

static const cy_keras_layer *find_layer(const cy_keras_model *model, const char *name)
{
    for (uint32_t i = 0; i < model->layer_count; i++)
        if (strcmp(model->layers[i].name, name) == 0) return &model->layers[i];
    return NULL;
}

/* The layer a reference names, checked to be one that gives this output. */
static carry_status check_reference(const cy_keras_model *model, const char *user,
                                    const reference *ref, const cy_keras_layer **source)
{
    *source = find_layer(model, ref->layer);
    CY_CHECK(*source, CARRY_E_FORMAT, "%s refers to layer '%.100s', which does not exist",
             user, ref->layer);
    CY_CHECK(ref->call == 0, CARRY_E_UNSUPPORTED,
             "%s is called more than once; shared layers are not supported",
             (*source)->label);
    uint64_t ports = 1;
    bool return_state = false;
    if (strcmp((*source)->class_name, "LSTM") == 0) {
        CY_TRY(cy_config_flag((*source)->config, (*source)->label, "return_state", false,
                              &return_state));
        ports = return_state ? 3 : 1;
    }
    CY_CHECK(ref->port < ports, CARRY_E_FORMAT,
             "%s refers to output %llu of %s: it has %d", user,
             (unsigned long long)ref->port, (*source)->label, (int)ports);
    return CARRY_OK;
}

/* Keras 3: {"class_name": "__keras_tensor__", "config": {..., "keras_history": [layer, 0, 0]}} */
static bool read_keras_tensor(const json_t *json, reference *ref)
{
    const char *class_name = json_string_value(json_object_get(json, "class_name"));
    return class_name && strcmp(class_name, "__keras_tensor__") == 0 &&
           read_reference(
               json_object_get(json_object_get(json, "config"), "keras_history"), ref);
}

static carry_status refuse_inputs(const cy_keras_layer *layer, size_t count)
{
    if (strcmp(layer->class_name, "LSTM") == 0 && count > 1)
        return cy_fail(CARRY_E_UNSUPPORTED,
                       "%s takes initial_state from other layers; a state of carry's own "
                       "(zeros, or given at run time) is supported",
                       layer->label);
    return cy_fail(CARRY_E_UNSUPPORTED, "%s has %zu inputs; one is supported",
                   layer->label, count);
}

/* The keyword arguments of a call: nothing in them may change what is computed. */
static carry_status check_arguments(const cy_keras_layer *layer, const json_t *arguments)
{
    const char *key;
    json_t *value;
    CY_CHECK(!arguments || json_is_null(arguments) || json_is_object(arguments),
             CARRY_E_FORMAT, "%s: the arguments of its call are %s, expected an object",
             layer->label, cy_config_describe(arguments).text);
    json_object_foreach((json_t *)arguments, key, value)
    {
        if (json_is_null(value) || strcmp(key, "training") == 0 ||
            strcmp(key, "inputs") == 0 || strcmp(key, "sequences") == 0 ||
            strcmp(key, "name") == 0)
            continue;
        if (strcmp(key, "initial_state") == 0) return refuse_inputs(layer, 3);
        CY_CHECK(strcmp(key, "mask") != 0, CARRY_E_UNSUPPORTED,
                 "%s takes a mask, and carry has no masks yet", layer->label);
        return cy_fail(CARRY_E_UNSUPPORTED, "%s is called with '%.60s' (%s)",
                       layer->label, key, cy_config_describe(value).text);
    }
    return CARRY_OK;
}

/* Keras 3: {"args": [tensor], "kwargs": {...}}; the tensor may be a keyword argument too. */
static carry_status read_call(const cy_keras_layer *layer, const json_t *call,
                              reference *ref)
{
    const json_t *args = json_object_get(call, "args");
    const json_t *kwargs = json_object_get(call, "kwargs");
    const json_t *first = json_array_get(args, 0);
    if (!first) first = json_object_get(kwargs, "inputs");
    if (!first) first = json_object_get(kwargs, "sequences");
    for (size_t i = 1; i < json_array_size(args); i++)
        if (!json_is_null(json_array_get(args, i)))
            return refuse_inputs(layer, json_array_size(args));
    CY_TRY(check_arguments(layer, kwargs));
    if (json_is_array(first) && json_array_size(first) > 1)
        return refuse_inputs(layer, json_array_size(first));
    if (json_is_array(first)) first = json_array_get(first, 0);
    CY_CHECK(read_keras_tensor(first, ref), CARRY_E_FORMAT,
             "%s: its input is %s, expected a __keras_tensor__ with a keras_history",
             layer->label, cy_config_describe(first).text);
    return CARRY_OK;
}

/* Keras 2: [["lstm", 0, 0, {...}], ...], or the inner list alone. */
static carry_status read_legacy_call(const cy_keras_layer *layer, const json_t *call,
                                     reference *ref)
{
    const json_t *tensor = call;
    if (!json_is_string(json_array_get(call, 0))) {
        if (json_array_size(call) != 1)
            return refuse_inputs(layer, json_array_size(call));
        tensor = json_array_get(call, 0);
    }
    CY_CHECK(read_reference(tensor, ref), CARRY_E_FORMAT,
             "%s: its input is %s, expected [layer, call, output]", layer->label,
             cy_config_describe(tensor).text);
    return check_arguments(layer, json_array_get(tensor, 3));
}

static carry_status read_inbound(const cy_keras_layer *layer, reference *ref)
{
    const json_t *calls = json_object_get(layer->entry, "inbound_nodes");
    CY_CHECK(json_is_array(calls) && json_array_size(calls), CARRY_E_FORMAT,
             "%s: inbound_nodes is %s, expected a list of one call", layer->label,
             cy_config_describe(calls).text);
    CY_CHECK(json_array_size(calls) == 1, CARRY_E_UNSUPPORTED,
             "%s is called %zu times; shared layers are not supported", layer->label,
             json_array_size(calls));
    const json_t *call = json_array_get(calls, 0);
    if (json_is_object(call)) return read_call(layer, call, ref);
    return read_legacy_call(layer, call, ref);
}

/* ---- layers ------------------------------------------------------------------------------------- */

/* A masking Embedding also puts op layers into the list: name it first, it is the cause. */
static carry_status check_masks(const cy_keras_layer *layer)
{
    bool mask_zero;
    if (strcmp(layer->class_name, "Embedding") != 0) return CARRY_OK;
    CY_TRY(cy_config_flag(layer->config, layer->label, "mask_zero", false, &mask_zero));
    CY_CHECK(!mask_zero, CARRY_E_UNSUPPORTED,
             "%s: mask_zero=true is not supported (carry has no masks yet); "
             "mask_zero=false is",
             layer->label);
    return CARRY_OK;
}

static carry_status read_entry(cy_keras_model *model, const json_t *entry, uint32_t index)
{
    cy_keras_layer *layer = &model->layers[index];
    CY_CHECK(json_is_object(entry), CARRY_E_FORMAT, "layer %u is %s, expected an object",
             index, cy_config_describe(entry).text);
    const char *class_name = json_string_value(json_object_get(entry, "class_name"));
    CY_CHECK(class_name && *class_name, CARRY_E_FORMAT, "layer %u has no class_name",
             index);
    const json_t *config = json_object_get(entry, "config");
    CY_CHECK(json_is_object(config), CARRY_E_FORMAT,
             "layer %u (%.60s): config is %s, expected an object", index, class_name,
             cy_config_describe(config).text);
    const char *name = json_string_value(json_object_get(entry, "name"));
    if (!name) name = json_string_value(json_object_get(config, "name"));
    CY_CHECK(name && *name && strlen(name) <= CY_MAX_NAME, CARRY_E_FORMAT,
             "layer %u (%.60s) has %s, expected one of 1 to %d bytes", index, class_name,
             name ? "a name of another length" : "no name", CY_MAX_NAME);
    char *kept;
    CY_TRY(cy_keras_text(model->graph, &kept, "%s", name));
    layer->name = kept;
    CY_TRY(cy_keras_text(model->graph, &kept, "%.*s", cut(class_name, CY_MAX_NAME),
                         class_name));
    layer->class_name = kept;
    layer->entry = entry;
    layer->config = config;
    layer->node = CY_INPUT;
    snprintf(layer->label, sizeof layer->label, "layer '%.*s' (%.*s)", cut(name, 50),
             name, cut(class_name, 25), class_name);
    return CARRY_OK;
}

static carry_status list_layers(cy_keras_model *model, const json_t *list)
{
    CY_CHECK(json_is_array(list), CARRY_E_FORMAT,
             "the model's layers are %s, expected a "
             "list",
             cy_config_describe(list).text);
    size_t count = json_array_size(list);
    CY_CHECK(count >= 1 && count <= CY_MAX_NODES, CARRY_E_UNSUPPORTED,
             "the model has %zu layers, expected 1 to %d", count, CY_MAX_NODES);
    CY_TRY(cy_keras_alloc(model->graph, count, sizeof *model->layers, &model->layers));
    CY_TRY(cy_keras_alloc(model->graph, count, sizeof *model->graph->nodes,
                          &model->graph->nodes));
    for (uint32_t i = 0; i < count; i++) {
        CY_TRY(read_entry(model, json_array_get(list, i), i));
        CY_CHECK(!find_layer(model, model->layers[i].name), CARRY_E_FORMAT,
                 "two layers are named '%.100s'", model->layers[i].name);
        model->layer_count = i + 1;
    }
    for (uint32_t i = 0; i < count; i++)
        CY_TRY(check_masks(&model->layers[i]));
    for (uint32_t i = 0; i < count; i++)
        CY_TRY(cy_keras_layer_check(&model->layers[i]));
    return CARRY_OK;
}

static carry_status add_node(cy_keras_model *model, cy_keras_layer *layer, cy_value input)
{
    cy_graph *graph = model->graph;
    cy_node *node = &graph->nodes[graph->node_count];
    node->input = input;
    CY_TRY(cy_keras_layer_read(model, layer, node));
    layer->node = (int32_t)graph->node_count++;
    return CARRY_OK;
}

/* ---- the input ---------------------------------------------------------------------------------- */

/* A shape is a list; Keras 2 sometimes wraps it: {"class_name": "__tuple__", "items": [...]}. */
static const json_t *shape_items(const json_t *shape)
{
    if (json_is_object(shape)) shape = json_object_get(shape, "items");
    return json_is_array(shape) ? shape : NULL;
}

static carry_status read_axis(const char *label, const char *axis, const json_t *json,
                              uint64_t *length)
{
    *length = 0;
    if (json_is_null(json)) return CARRY_OK;
    CY_CHECK(cy_config_whole(json, length) && *length >= 1 && *length <= UINT32_MAX,
             CARRY_E_FORMAT, "%s: the %s axis of its input shape is %s", label, axis,
             cy_config_describe(json).text);
    return CARRY_OK;
}

static carry_status check_input_type(const char *label, const json_t *config, bool ids)
{
    const json_t *type = json_object_get(config, "dtype");
    const char *word = json_string_value(type);
    if (!word || strstr(word, "float")) return CARRY_OK;
    CY_CHECK(ids && (strncmp(word, "int", 3) == 0 || strncmp(word, "uint", 4) == 0),
             CARRY_E_UNSUPPORTED,
             "%s: dtype is %s; supported are float32, and integers where an Embedding "
             "takes ids",
             label, cy_config_describe(type).text);
    return CARRY_OK;
}

/* The model's input from its shape in the file, batch axis first. */
static carry_status read_input(cy_keras_model *model, const char *label, const char *name,
                               const json_t *shape, bool ids)
{
    cy_graph *graph = model->graph;
    const json_t *items = shape_items(shape);
    CY_CHECK(items, CARRY_E_FORMAT, "%s: its input shape is %s, expected a list", label,
             cy_config_describe(shape).text);
    size_t rank = json_array_size(items);
    if (ids)
        CY_CHECK(rank == 2, CARRY_E_UNSUPPORTED,
                 "%s: its input has %zu axes; an Embedding needs ids [batch, time]",
                 label, rank);
    CY_CHECK(
        ids || rank != 2, CARRY_E_UNSUPPORTED,
        "%s: its input [batch, features] has no time axis; carry needs [batch, time, "
        "features]",
        label);
    CY_CHECK(ids || rank == 3, CARRY_E_UNSUPPORTED,
             "%s: its input has %zu axes; carry needs three: [batch, time, features]",
             label, rank);
    graph->input.name = name;
    graph->input.ids = ids;
    graph->input.width = 1;
    CY_TRY(read_axis(label, "batch", json_array_get(items, 0), &graph->input.batch));
    CY_TRY(read_axis(label, "time", json_array_get(items, 1), &graph->input.steps));
    if (ids) return CARRY_OK;
    CY_TRY(read_axis(label, "feature", json_array_get(items, 2), &graph->input.width));
    CY_CHECK(graph->input.width >= 1 && graph->input.width <= CY_MAX_WIDTH,
             CARRY_E_UNSUPPORTED,
             "%s: the feature axis of its input shape is %s, expected 1 to %llu", label,
             cy_config_describe(json_array_get(items, 2)).text,
             (unsigned long long)CY_MAX_WIDTH);
    return CARRY_OK;
}

static carry_status read_input_layer(cy_keras_model *model, const cy_keras_layer *layer,
                                     bool ids)
{
    static const char *const unusual[] = {"sparse", "ragged"};
    for (size_t i = 0; i < sizeof unusual / sizeof *unusual; i++) {
        bool set;
        CY_TRY(cy_config_flag(layer->config, layer->label, unusual[i], false, &set));
        CY_CHECK(!set, CARRY_E_UNSUPPORTED, "%s: %s=true is not supported", layer->label,
                 unusual[i]);
    }
    CY_TRY(check_input_type(layer->label, layer->config, ids));
    const json_t *shape = json_object_get(layer->config, "batch_shape");
    if (!shape) shape = json_object_get(layer->config, "batch_input_shape");
    return read_input(model, layer->label, layer->name, shape, ids);
}

static bool is_class(const cy_keras_layer *layer, const char *name)
{
    return strcmp(layer->class_name, name) == 0;
}

/* ---- Sequential --------------------------------------------------------------------------------- */

/* Without an InputLayer: the first layer's own shape, or what the model was built with. */
static carry_status read_first_shape(cy_keras_model *model, const json_t *config,
                                     const cy_keras_layer *first)
{
    const json_t *shape = json_object_get(first->config, "batch_input_shape");
    if (!shape) shape = json_object_get(first->config, "batch_shape");
    if (!shape) shape = json_object_get(config, "build_input_shape");
    if (!shape)
        shape =
            json_object_get(json_object_get(first->entry, "build_config"), "input_shape");
    CY_CHECK(shape && !json_is_null(shape), CARRY_E_UNSUPPORTED,
             "%s: the file states no input shape; build the model, or call it once, "
             "before saving",
             first->label);
    char *name;
    CY_TRY(cy_keras_text(model->graph, &name, "%.*s_input",
                         cut(first->name, CY_MAX_NAME - 6), first->name));
    return read_input(model, first->label, name, shape, is_class(first, "Embedding"));
}

static carry_status read_sequential(cy_keras_model *model, const json_t *config)
{
    cy_graph *graph = model->graph;
    /* Old Keras 2 writes the bare list of layers. */
    CY_TRY(list_layers(model, json_is_array(config) ? config
                                                    : json_object_get(config, "layers")));
    uint32_t first = 0;
    cy_keras_layer *layers = model->layers;
    if (is_class(&layers[0], "InputLayer")) {
        CY_CHECK(model->layer_count > 1, CARRY_E_UNSUPPORTED,
                 "the model has no layer but its input");
        CY_TRY(read_input_layer(model, &layers[0], is_class(&layers[1], "Embedding")));
        first = 1;
    } else {
        CY_TRY(read_first_shape(model, config, &layers[0]));
    }
    cy_value value = {CY_INPUT, CY_PORT_Y};
    for (uint32_t i = first; i < model->layer_count; i++) {
        CY_CHECK(!is_class(&layers[i], "InputLayer"), CARRY_E_UNSUPPORTED,
                 "%s is not the first layer of a Sequential model", layers[i].label);
        if (i > first) {
            const cy_node *before = &graph->nodes[value.node];
            CY_CHECK(!before->return_state, CARRY_E_UNSUPPORTED,
                     "%s returns its state, which only the last layer of a Sequential "
                     "model may",
                     layers[i - 1].label);
        }
        CY_TRY(add_node(model, &layers[i], value));
        value.node = layers[i].node;
    }
    graph->output_count = graph->nodes[value.node].return_state ? 3 : 1;
    CY_TRY(cy_keras_alloc(graph, graph->output_count, sizeof *graph->outputs,
                          &graph->outputs));
    for (uint32_t port = 0; port < graph->output_count; port++)
        graph->outputs[port] = (cy_value){value.node, (int32_t)port};
    return CARRY_OK;
}

/* ---- Functional --------------------------------------------------------------------------------- */

typedef struct reference_list {
    reference *items;
    size_t count, capacity;
} reference_list;

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* input_layers and output_layers: one reference, or any nest of lists and objects of them, read in the
 * order in which Keras flattens it (the keys of an object sorted). */
static carry_status flatten(const json_t *json, const char *what, reference_list *list)
{
    if (json_is_array(json) && json_is_string(json_array_get(json, 0))) {
        CY_CHECK(list->count < list->capacity, CARRY_E_UNSUPPORTED,
                 "%s has more than %zu entries", what, list->capacity);
        CY_CHECK(read_reference(json, &list->items[list->count++]), CARRY_E_FORMAT,
                 "%s holds %s, expected [layer, call, output]", what,
                 cy_config_describe(json).text);
        return CARRY_OK;
    }
    if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json); i++)
            CY_TRY(flatten(json_array_get(json, i), what, list));
        return CARRY_OK;
    }
    CY_CHECK(json_is_object(json), CARRY_E_FORMAT,
             "%s holds %s, expected [layer, call, "
             "output]",
             what, cy_config_describe(json).text);
    const char *keys[64], *key;
    size_t count = 0;
    json_t *value;
    json_object_foreach((json_t *)json, key, value)
    {
        CY_CHECK(count < sizeof keys / sizeof *keys, CARRY_E_UNSUPPORTED,
                 "%s has more than %zu names", what, sizeof keys / sizeof *keys);
        keys[count++] = key;
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < count; i++)
        CY_TRY(flatten(json_object_get(json, keys[i]), what, list));
    return CARRY_OK;
}

static carry_status flatten_open(cy_keras_model *model, const json_t *config,
                                 const char *what, reference_list *list)
{
    const json_t *json = json_object_get(config, what);
    CY_CHECK(json, CARRY_E_FORMAT, "the model's config has no %s", what);
    list->capacity = CY_MAX_NODES;
    CY_TRY(
        cy_keras_alloc(model->graph, list->capacity, sizeof *list->items, &list->items));
    return flatten(json, what, list);
}

typedef struct edge {
    const cy_keras_layer *source;
    uint64_t port;
} edge;

static cy_value edge_value(const edge *from)
{
    return (cy_value){from->source->node, (int32_t)from->port};
}

/* Layers in an order in which each stands after what it takes; the file's own order where it can be. */
static carry_status add_nodes(cy_keras_model *model, const edge *edges,
                              const cy_keras_layer *input)
{
    uint32_t left = 0;
    bool *done = NULL;
    CY_TRY(cy_keras_alloc(model->graph, model->layer_count, sizeof *done, &done));
    for (uint32_t i = 0; i < model->layer_count; i++) {
        done[i] = &model->layers[i] == input;
        left += !done[i];
    }
    while (left) {
        uint32_t before = left;
        for (uint32_t i = 0; i < model->layer_count; i++) {
            if (done[i] || !done[edges[i].source - model->layers]) continue;
            CY_TRY(add_node(model, &model->layers[i], edge_value(&edges[i])));
            done[i] = true;
            left--;
        }
        CY_CHECK(left < before, CARRY_E_FORMAT,
                 "%u layers take their input from each other in a circle", left);
    }
    return CARRY_OK;
}

static carry_status find_input(cy_keras_model *model, const json_t *config,
                               const cy_keras_layer **input)
{
    reference_list list = {0};
    CY_TRY(flatten_open(model, config, "input_layers", &list));
    CY_CHECK(list.count == 1, CARRY_E_UNSUPPORTED,
             "the model has %zu inputs; one is supported", list.count);
    CY_TRY(check_reference(model, "input_layers", &list.items[0], input));
    CY_CHECK(is_class(*input, "InputLayer"), CARRY_E_FORMAT,
             "input_layers names %s, expected an InputLayer", (*input)->label);
    for (uint32_t i = 0; i < model->layer_count; i++)
        CY_CHECK(&model->layers[i] == *input ||
                     !is_class(&model->layers[i], "InputLayer"),
                 CARRY_E_UNSUPPORTED, "%s is a second input; one is supported",
                 model->layers[i].label);
    return CARRY_OK;
}

static carry_status read_functional(cy_keras_model *model, const json_t *config)
{
    cy_graph *graph = model->graph;
    const cy_keras_layer *input;
    CY_TRY(list_layers(model, json_object_get(config, "layers")));
    CY_TRY(find_input(model, config, &input));
    edge *edges = NULL;
    bool ids = false;
    CY_TRY(cy_keras_alloc(graph, model->layer_count, sizeof *edges, &edges));
    for (uint32_t i = 0; i < model->layer_count; i++) {
        reference ref;
        const cy_keras_layer *layer = &model->layers[i];
        if (layer == input) continue;
        CY_TRY(read_inbound(layer, &ref));
        CY_TRY(check_reference(model, layer->label, &ref, &edges[i].source));
        edges[i].port = ref.port;
        ids |= edges[i].source == input && is_class(layer, "Embedding");
    }
    CY_TRY(read_input_layer(model, input, ids));
    CY_TRY(add_nodes(model, edges, input));

    reference_list list = {0};
    CY_TRY(flatten_open(model, config, "output_layers", &list));
    CY_TRY(cy_keras_alloc(graph, list.count, sizeof *graph->outputs, &graph->outputs));
    for (size_t i = 0; i < list.count; i++) {
        edge from;
        CY_TRY(check_reference(model, "output_layers", &list.items[i], &from.source));
        from.port = list.items[i].port;
        graph->outputs[graph->output_count++] = edge_value(&from);
    }
    return CARRY_OK;
}

/* ---- the model ---------------------------------------------------------------------------------- */

carry_status cy_keras_config_read(cy_keras_model *model)
{
    const char *class_name =
        json_string_value(json_object_get(model->root, "class_name"));
    const json_t *config = json_object_get(model->root, "config");
    CY_CHECK(class_name, CARRY_E_FORMAT,
             "the model's config has no class_name, expected Sequential or Functional");
    bool sequential = strcmp(class_name, "Sequential") == 0;
    bool functional =
        strcmp(class_name, "Functional") == 0 || strcmp(class_name, "Model") == 0;
    CY_CHECK(sequential || functional, CARRY_E_UNSUPPORTED,
             "the model is a %.60s; supported are Sequential and Functional", class_name);
    const char *registered =
        json_string_value(json_object_get(model->root, "registered_name"));
    CY_CHECK(!registered || strcmp(registered, class_name) == 0, CARRY_E_UNSUPPORTED,
             "the model is a custom class registered as %.60s; supported are Keras' own "
             "Sequential and Functional",
             registered);
    CY_CHECK(json_is_object(config) || (sequential && json_is_array(config)),
             CARRY_E_FORMAT, "the model's config is %s, expected an object",
             cy_config_describe(config).text);
    const char *name = json_string_value(json_object_get(config, "name"));
    char *kept;
    CY_TRY(cy_keras_text(model->graph, &kept, "%.*s", CY_MAX_NAME,
                         name && *name ? name
                         : sequential  ? "sequential"
                                       : "model"));
    model->graph->name = kept;
    return sequential ? read_sequential(model, config) : read_functional(model, config);
}
