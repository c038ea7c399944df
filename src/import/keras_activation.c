/* Keras' activation words, in every form they were ever serialised in, turned into formulas. */
#include "import/config_json.h"
#include "import/keras.h"

#include <stdio.h>
#include <string.h>

/* Names as Keras 2 and 3 write them; aliases stand after the name they mean. hard_sigmoid is chosen by
 * the generation of the file and therefore not here. */
static const struct {
    const char *name;
    cy_activation activation;
} names[] = {
    {"linear", CY_ACT_LINEAR},
    {"tanh", CY_ACT_TANH},
    {"sigmoid", CY_ACT_SIGMOID},
    {"relu", CY_ACT_RELU},
    {"relu6", CY_ACT_RELU6},
    {"leaky_relu", CY_ACT_LEAKY_RELU_02},
    {"elu", CY_ACT_ELU},
    {"selu", CY_ACT_SELU},
    {"celu", CY_ACT_CELU},
    {"softplus", CY_ACT_SOFTPLUS},
    {"softsign", CY_ACT_SOFTSIGN},
    {"exponential", CY_ACT_EXPONENTIAL},
    {"silu", CY_ACT_SILU},
    {"swish", CY_ACT_SILU},
    {"hard_silu", CY_ACT_HARD_SILU},
    {"hard_swish", CY_ACT_HARD_SILU},
    {"gelu", CY_ACT_GELU},
    {"mish", CY_ACT_MISH},
    {"log_sigmoid", CY_ACT_LOG_SIGMOID},
    {"hard_tanh", CY_ACT_HARD_TANH},
    {"tanh_shrink", CY_ACT_TANH_SHRINK},
    {"softmax", CY_ACT_SOFTMAX},
    {"softmax_v2", CY_ACT_SOFTMAX}, /* what TF 2 called it for a while */
    {"log_softmax", CY_ACT_LOG_SOFTMAX},
    {"log_softmax_v2", CY_ACT_LOG_SOFTMAX},
};
#define NAME_COUNT (sizeof names / sizeof *names)

static carry_status refuse(const char *owner, const char *key, const json_t *value)
{
    char supported[512] = "hard_sigmoid";
    size_t used = strlen(supported);
    for (size_t i = 0; i < NAME_COUNT && used < sizeof supported; i++)
        used += (size_t)snprintf(supported + used, sizeof supported - used, ", %s",
                                 names[i].name);
    return cy_fail(CARRY_E_UNSUPPORTED, "%s: %s is %s; supported are %s", owner, key,
                   cy_config_describe(value).text, supported);
}

/* hard_sigmoid means clip(0.2x + 0.5) to Keras 2 and clip(x/6 + 0.5) to Keras 3: the file's generation
 * decides, because its weights were trained with that formula. */
static carry_status hard_sigmoid(int generation, const char *owner, const char *key,
                                 cy_activation *activation)
{
    CY_CHECK(
        generation, CARRY_E_FORMAT,
        "%s: %s is hard_sigmoid, whose formula depends on the Keras version, and the "
        "file has no keras_version",
        owner, key);
    *activation = generation >= 3 ? CY_ACT_HARD_SIGMOID_6TH : CY_ACT_HARD_SIGMOID_02;
    return CARRY_OK;
}

static carry_status by_name(const char *name, int generation, const char *owner,
                            const char *key, const json_t *value,
                            cy_activation *activation)
{
    if (strcmp(name, "hard_sigmoid") == 0)
        return hard_sigmoid(generation, owner, key, activation);
    for (size_t i = 0; i < NAME_COUNT; i++)
        if (strcmp(name, names[i].name) == 0) {
            *activation = names[i].activation;
            return CARRY_OK;
        }
    return refuse(owner, key, value);
}

/* config[key] is the number `wanted`; a missing or null one is `missing`. */
static bool is_number(const json_t *config, const char *key, double missing,
                      double wanted)
{
    const json_t *value = json_object_get(config, key);
    if (!value || json_is_null(value)) return missing == wanted;
    return json_is_number(value) && json_number_value(value) == wanted;
}

static bool axis_is_last(const json_t *config)
{
    return is_number(config, "axis", -1, -1);
}

/* An activation given as a layer object, of Keras 2 or 3; false: none that is a formula of ours. */
static bool by_layer(const char *class_name, const json_t *config, int generation,
                     cy_activation *activation)
{
    if (strcmp(class_name, "ReLU") == 0) {
        if (!is_number(config, "negative_slope", 0, 0) ||
            !is_number(config, "threshold", 0, 0))
            return false;
        const json_t *most = json_object_get(config, "max_value");
        if (!most || json_is_null(most)) *activation = CY_ACT_RELU;
        else if (is_number(config, "max_value", 0, 6)) *activation = CY_ACT_RELU6;
        else return false;
        return true;
    }
    if (strcmp(class_name, "LeakyReLU") == 0) {
        const char *key = generation >= 3 ? "negative_slope" : "alpha";
        /* float32(0.2) is what Keras 2 writes for it. */
        if (!is_number(config, key, 0.3, 0.2) &&
            !is_number(config, key, 0.3, 0.20000000298023224))
            return false;
        *activation = CY_ACT_LEAKY_RELU_02;
        return true;
    }
    if (strcmp(class_name, "ELU") == 0) {
        *activation = CY_ACT_ELU;
        return is_number(config, "alpha", 1, 1);
    }
    if (strcmp(class_name, "Softmax") == 0) {
        *activation = CY_ACT_SOFTMAX;
        return axis_is_last(config);
    }
    return false;
}

carry_status cy_keras_activation(const json_t *value, int generation, const char *owner,
                                 const char *key, cy_activation *activation)
{
    *activation = CY_ACT_LINEAR;
    if (!value || json_is_null(value)) return CARRY_OK;
    if (json_is_string(value))
        return by_name(json_string_value(value), generation, owner, key, value,
                       activation);
    const char *class_name = json_string_value(json_object_get(value, "class_name"));
    const json_t *config = json_object_get(value, "config");
    if (!class_name || !config) return refuse(owner, key, value);
    if (strcmp(class_name, "function") == 0 && json_is_string(config))
        return by_name(json_string_value(config), generation, owner, key, config,
                       activation);
    if (strcmp(class_name, "Activation") == 0) {
        const json_t *inner = json_object_get(config, "activation");
        if (!json_is_string(inner)) return refuse(owner, key, inner);
        return by_name(json_string_value(inner), generation, owner, key, inner,
                       activation);
    }
    if (by_layer(class_name, config, generation, activation)) return CARRY_OK;
    if (strcmp(class_name, "LeakyReLU") == 0)
        return cy_fail(CARRY_E_UNSUPPORTED,
                       "%s: %s is a LeakyReLU; its slope must be 0.2 (leaky_relu)", owner,
                       key);
    return refuse(owner, key, json_object_get(value, "class_name"));
}
