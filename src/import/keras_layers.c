/* One Keras layer at a time: its arguments, checked by name, and the shapes its weights must have. */
#include "import/config_json.h"
#include "import/keras.h"

#include <stdio.h>
#include <string.h>

#define SUPPORTED \
    "InputLayer, LSTM, Dense, TimeDistributed(Dense), Embedding, Activation, Dropout"

/* Keys that every layer may have and that change nothing at inference. */
static const char *const common_keys[] = {"name",
                                          "trainable",
                                          "dtype",
                                          "batch_input_shape",
                                          "batch_shape",
                                          "batch_size",
                                          "input_shape",
                                          "input_dtype",
                                          "build_config",
                                          "activity_regularizer",
                                          NULL};

static carry_status check_keys(const cy_keras_layer *layer, const json_t *config,
                               const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value)
    {
        bool found = json_is_null(value) || json_is_false(value);
        for (const char *const *k = common_keys; !found && *k; k++)
            found = strcmp(key, *k) == 0;
        for (const char *const *k = known; !found && *k; k++)
            found = strcmp(key, *k) == 0;
        CY_CHECK(found, CARRY_E_UNSUPPORTED,
                 "%s: carry does not know the argument '%s' (%s)", layer->label, key,
                 cy_config_describe(value).text);
    }
    return CARRY_OK;
}

/* A policy of floats, of which weights are taken as they lie and computed in float32. */
static carry_status check_policy(const cy_keras_layer *layer, const json_t *config)
{
    static const char *const floats[] = {"float32", "float16",       "bfloat16",
                                         "float64", "mixed_float16", "mixed_bfloat16"};
    const json_t *policy = json_object_get(config, "dtype");
    if (!policy || json_is_null(policy)) return CARRY_OK;
    const json_t *name = policy;
    if (json_is_object(policy)) {
        const char *class_name = json_string_value(json_object_get(policy, "class_name"));
        CY_CHECK(class_name && (strcmp(class_name, "DTypePolicy") == 0 ||
                                strncmp(class_name, "Policy", 6) == 0),
                 CARRY_E_UNSUPPORTED,
                 "%s: dtype is a %s; quantized layers are not supported, float ones are",
                 layer->label, class_name ? class_name : "policy without a class");
        name = json_object_get(json_object_get(policy, "config"), "name");
    }
    for (size_t i = 0; json_is_string(name) && i < sizeof floats / sizeof *floats; i++)
        if (strcmp(json_string_value(name), floats[i]) == 0) return CARRY_OK;
    return cy_fail(CARRY_E_UNSUPPORTED,
                   "%s: dtype is %s; supported are float32, float16, bfloat16, float64, "
                   "mixed_float16 and mixed_bfloat16",
                   layer->label, cy_config_describe(name).text);
}

static carry_status read_width(const cy_keras_layer *layer, const json_t *config,
                               const char *key, uint64_t *width)
{
    CY_TRY(cy_config_count(config, layer->label, key, 0, width));
    CY_CHECK(*width >= 1 && *width <= CY_MAX_WIDTH, CARRY_E_FORMAT,
             "%s: %s is %s, expected 1 to %llu", layer->label, key,
             cy_config_describe(json_object_get(config, key)).text,
             (unsigned long long)CY_MAX_WIDTH);
    return CARRY_OK;
}

static carry_status read_activation(const cy_keras_model *model,
                                    const cy_keras_layer *layer, const json_t *config,
                                    const char *key, cy_activation *activation)
{
    CY_CHECK(json_object_get(config, key), CARRY_E_FORMAT, "%s has no %s", layer->label,
             key);
    return cy_keras_activation(json_object_get(config, key), model->generation,
                               layer->label, key, activation);
}

static void add_weight(cy_node *node, const char *name, uint32_t rank, uint64_t rows,
                       uint64_t columns)
{
    node->weights[node->weight_count++] =
        (cy_tensor){.name = name,
                    .rank = rank,
                    .shape = {rank == 2 ? rows : columns, rank == 2 ? columns : 0}};
}

/* ---- the classes ------------------------------------------------------------------------------ */

static carry_status read_lstm(const cy_keras_model *model, const cy_keras_layer *layer,
                              const json_t *config, cy_node *node)
{
    static const char *const known[] = {"units",
                                        "activation",
                                        "recurrent_activation",
                                        "use_bias",
                                        "return_sequences",
                                        "return_state",
                                        "go_backwards",
                                        "stateful",
                                        "unroll",
                                        "time_major",
                                        "zero_output_for_mask",
                                        "unit_forget_bias",
                                        "kernel_initializer",
                                        "recurrent_initializer",
                                        "bias_initializer",
                                        "kernel_regularizer",
                                        "recurrent_regularizer",
                                        "bias_regularizer",
                                        "kernel_constraint",
                                        "recurrent_constraint",
                                        "bias_constraint",
                                        "dropout",
                                        "recurrent_dropout",
                                        "seed",
                                        "implementation",
                                        "use_cudnn",
                                        "enable_caching_device",
                                        "return_runtime",
                                        "input_dim",
                                        "input_length",
                                        NULL};
    const char *label = layer->label;
    bool time_major, ignored;
    CY_TRY(cy_config_flag(config, label, "time_major", false, &time_major));
    CY_CHECK(!time_major, CARRY_E_UNSUPPORTED,
             "%s: time_major=true is not supported; time_major=false is", label);
    CY_TRY(check_keys(layer, config, known));
    CY_TRY(read_width(layer, config, "units", &node->units));
    CY_TRY(read_activation(model, layer, config, "activation", &node->activation));
    CY_TRY(read_activation(model, layer, config, "recurrent_activation",
                           &node->recurrent_activation));
    CY_TRY(cy_config_flag(config, label, "use_bias", true, &node->use_bias));
    CY_TRY(cy_config_flag(config, label, "return_sequences", false,
                          &node->return_sequences));
    CY_TRY(cy_config_flag(config, label, "return_state", false, &node->return_state));
    CY_TRY(cy_config_flag(config, label, "go_backwards", false, &node->go_backwards));
    CY_TRY(cy_config_flag(config, label, "stateful", false, &node->stateful));
    CY_TRY(cy_config_flag(config, label, "unroll", false, &ignored));
    CY_TRY(cy_config_flag(config, label, "zero_output_for_mask", false, &ignored));
    CY_CHECK(node->in_time, CARRY_E_UNSUPPORTED,
             "%s needs an input with a time axis, and what comes before it gives one "
             "value per sequence (return_sequences=True there would give a sequence)",
             label);
    uint64_t gates = 4 * node->units;
    add_weight(node, "kernel", 2, node->in_width, gates);
    add_weight(node, "recurrent_kernel", 2, node->units, gates);
    if (node->use_bias) add_weight(node, "bias", 1, 0, gates);
    node->op = CY_OP_LSTM;
    node->out_width = node->units;
    node->out_time = node->return_sequences;
    return CARRY_OK;
}

static carry_status read_dense(const cy_keras_model *model, const cy_keras_layer *layer,
                               const json_t *config, cy_node *node)
{
    static const char *const known[] = {"units",
                                        "activation",
                                        "use_bias",
                                        "kernel_initializer",
                                        "bias_initializer",
                                        "kernel_regularizer",
                                        "bias_regularizer",
                                        "kernel_constraint",
                                        "bias_constraint",
                                        "input_dim",
                                        NULL};
    const char *const refused[] = {"lora_rank", "quantization_config",
                                   "quantization_mode"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *value = json_object_get(config, refused[i]);
        CY_CHECK(!value || json_is_null(value), CARRY_E_UNSUPPORTED,
                 "%s: %s is set (%s); only a plain Dense is supported", layer->label,
                 refused[i], cy_config_describe(value).text);
    }
    CY_TRY(check_keys(layer, config, known));
    CY_TRY(read_width(layer, config, "units", &node->units));
    CY_TRY(read_activation(model, layer, config, "activation", &node->activation));
    CY_TRY(cy_config_flag(config, layer->label, "use_bias", true, &node->use_bias));
    add_weight(node, "kernel", 2, node->in_width, node->units);
    if (node->use_bias) add_weight(node, "bias", 1, 0, node->units);
    node->op = CY_OP_DENSE;
    node->out_width = node->units;
    node->out_time = node->in_time;
    return CARRY_OK;
}

static carry_status read_time_distributed(const cy_keras_model *model,
                                          const cy_keras_layer *layer,
                                          const json_t *config, cy_node *node)
{
    static const char *const known[] = {"layer", NULL};
    CY_TRY(check_keys(layer, config, known));
    const json_t *inner = json_object_get(config, "layer");
    const char *class_name = json_string_value(json_object_get(inner, "class_name"));
    const json_t *inner_config = json_object_get(inner, "config");
    CY_CHECK(class_name && json_is_object(inner_config), CARRY_E_FORMAT,
             "%s: layer is %s, expected a layer", layer->label,
             cy_config_describe(inner).text);
    CY_CHECK(strcmp(class_name, "Dense") == 0, CARRY_E_UNSUPPORTED,
             "%s wraps %s; TimeDistributed(Dense) is supported", layer->label,
             class_name);
    CY_CHECK(node->in_time, CARRY_E_FORMAT, "%s needs an input with a time axis",
             layer->label);
    CY_TRY(check_policy(layer, inner_config));
    return read_dense(model, layer, inner_config, node);
}

static carry_status read_embedding(const cy_keras_model *model,
                                   const cy_keras_layer *layer, const json_t *config,
                                   cy_node *node)
{
    static const char *const known[] = {"input_dim",
                                        "output_dim",
                                        "embeddings_initializer",
                                        "embeddings_regularizer",
                                        "embeddings_constraint",
                                        "mask_zero",
                                        "input_length",
                                        NULL};
    const char *const refused[] = {"lora_rank", "quantization_config",
                                   "quantization_mode"};
    bool mask_zero;
    uint64_t ids;
    CY_TRY(cy_config_flag(config, layer->label, "mask_zero", false, &mask_zero));
    CY_CHECK(!mask_zero, CARRY_E_UNSUPPORTED,
             "%s: mask_zero=true is not supported (carry has no masks yet); "
             "mask_zero=false is",
             layer->label);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const json_t *value = json_object_get(config, refused[i]);
        CY_CHECK(!value || json_is_null(value), CARRY_E_UNSUPPORTED,
                 "%s: %s is set (%s); only a plain Embedding is supported", layer->label,
                 refused[i], cy_config_describe(value).text);
    }
    CY_TRY(check_keys(layer, config, known));
    CY_TRY(cy_config_count(config, layer->label, "input_dim", 0, &ids));
    CY_CHECK(ids >= 1 && ids < CY_MAX_IDS, CARRY_E_FORMAT,
             "%s: input_dim is %s, expected 1 to %llu", layer->label,
             cy_config_describe(json_object_get(config, "input_dim")).text,
             (unsigned long long)CY_MAX_IDS - 1);
    CY_TRY(read_width(layer, config, "output_dim", &node->units));
    CY_CHECK(node->input.node == CY_INPUT && model->graph->input.ids, CARRY_E_UNSUPPORTED,
             "%s must be the first layer: it takes ids, and what comes before it gives "
             "numbers",
             layer->label);
    add_weight(node, "embeddings", 2, ids, node->units);
    node->op = CY_OP_EMBEDDING;
    node->out_width = node->units;
    node->out_time = true;
    return CARRY_OK;
}

static carry_status read_activation_layer(const cy_keras_model *model,
                                          const cy_keras_layer *layer,
                                          const json_t *config, cy_node *node)
{
    static const char *const known[] = {"activation", NULL};
    CY_TRY(check_keys(layer, config, known));
    CY_TRY(read_activation(model, layer, config, "activation", &node->activation));
    node->op = CY_OP_ACTIVATION;
    node->out_width = node->in_width;
    node->out_time = node->in_time;
    return CARRY_OK;
}

static carry_status read_dropout(const cy_keras_model *model, const cy_keras_layer *layer,
                                 const json_t *config, cy_node *node)
{
    static const char *const known[] = {"rate", "noise_shape", "seed", NULL};
    (void)model;
    CY_TRY(check_keys(layer, config, known));
    node->op = CY_OP_IDENTITY;
    node->out_width = node->in_width;
    node->out_time = node->in_time;
    return CARRY_OK;
}

typedef carry_status read_class(const cy_keras_model *model, const cy_keras_layer *layer,
                                const json_t *config, cy_node *node);

static const struct {
    const char *name;
    read_class *read;
} classes[] = {
    {"LSTM", read_lstm},
    {"Dense", read_dense},
    {"TimeDistributed", read_time_distributed},
    {"Embedding", read_embedding},
    {"Activation", read_activation_layer},
    {"Dropout", read_dropout},
};
#define CLASS_COUNT (sizeof classes / sizeof *classes)

/* Keras' own modules; a class of the same name from elsewhere may compute anything. */
static bool is_keras_module(const char *module)
{
    static const char *const roots[] = {"keras", "tf_keras", "tensorflow.python.keras",
                                        "tensorflow.keras"};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        size_t length = strlen(roots[i]);
        if (strncmp(module, roots[i], length) == 0 &&
            (module[length] == '\0' || module[length] == '.'))
            return true;
    }
    return false;
}

carry_status cy_keras_layer_check(const cy_keras_layer *layer)
{
    const json_t *registered = json_object_get(layer->entry, "registered_name");
    const json_t *module = json_object_get(layer->entry, "module");
    /* Built-in layers carry no registered name, or their own beside a module of Keras'; a class of the
     * user's that was never registered has its bare name and no module. */
    bool from_keras =
        json_is_string(module) && is_keras_module(json_string_value(module));
    bool named = json_is_string(registered) && from_keras &&
                 strcmp(json_string_value(registered), layer->class_name) == 0;
    bool own = named || ((!registered || json_is_null(registered)) &&
                         (!module || json_is_null(module) || from_keras));
    CY_CHECK(own, CARRY_E_UNSUPPORTED,
             "%s is a custom class (module %s, registered as %s); supported are Keras' "
             "own " SUPPORTED,
             layer->label, cy_config_describe(module).text,
             cy_config_describe(registered).text);
    if (strcmp(layer->class_name, "InputLayer") == 0) return CARRY_OK;
    for (size_t i = 0; i < CLASS_COUNT; i++)
        if (strcmp(layer->class_name, classes[i].name) == 0) return CARRY_OK;
    if (strcmp(layer->class_name, "Masking") == 0 ||
        strcmp(layer->class_name, "NotEqual") == 0)
        return cy_fail(CARRY_E_UNSUPPORTED,
                       "%s makes a mask, and carry has no masks yet; supported "
                       "are " SUPPORTED,
                       layer->label);
    return cy_fail(CARRY_E_UNSUPPORTED, "%s is not supported; supported are " SUPPORTED,
                   layer->label);
}

carry_status cy_keras_layer_read(const cy_keras_model *model, const cy_keras_layer *layer,
                                 cy_node *node)
{
    node->name = layer->name;
    node->class_name = layer->class_name;
    node->in_width = cy_graph_width(model->graph, node->input);
    node->in_time = cy_graph_has_time(model->graph, node->input);
    CY_TRY(check_policy(layer, layer->config));
    for (size_t i = 0; i < CLASS_COUNT; i++)
        if (strcmp(layer->class_name, classes[i].name) == 0)
            return classes[i].read(model, layer, layer->config, node);
    return cy_fail(CARRY_E_UNSUPPORTED, "%s cannot stand here", layer->label);
}
