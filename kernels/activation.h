/* The activations: the one list of ids and names. graph/ resolves a file's words to these ids, kernels
 * compute them. An enum and nothing else, so that graph/ may include it without leaning on a kernel. */
#ifndef CY_KERNELS_ACTIVATION_H
#define CY_KERNELS_ACTIVATION_H

/* X(id, name): name is what carry's own file holds. hard_sigmoid has two formulas under one Keras
 * name: Keras 1 and 2 clip(0.2x + 0.5), Keras 3 clip(x/6 + 0.5); the importer chooses. */
#define CY_ACTIVATION_LIST(X)               \
    X(LINEAR, "linear")                     \
    X(TANH, "tanh")                         \
    X(SIGMOID, "sigmoid")                   \
    X(HARD_SIGMOID_02, "hard_sigmoid_0.2")  \
    X(HARD_SIGMOID_6TH, "hard_sigmoid_1/6") \
    X(RELU, "relu")                         \
    X(RELU6, "relu6")                       \
    X(LEAKY_RELU_02, "leaky_relu_0.2")      \
    X(ELU, "elu")                           \
    X(SELU, "selu")                         \
    X(CELU, "celu")                         \
    X(SOFTPLUS, "softplus")                 \
    X(SOFTSIGN, "softsign")                 \
    X(EXPONENTIAL, "exponential")           \
    X(SILU, "silu")                         \
    X(HARD_SILU, "hard_silu")               \
    X(GELU, "gelu")                         \
    X(MISH, "mish")                         \
    X(LOG_SIGMOID, "log_sigmoid")           \
    X(HARD_TANH, "hard_tanh")               \
    X(TANH_SHRINK, "tanh_shrink")           \
    X(SOFTMAX, "softmax")                   \
    X(LOG_SOFTMAX, "log_softmax")

typedef enum cy_activation {
#define CY_ACTIVATION_ENUM(id, name) CY_ACT_##id,
    CY_ACTIVATION_LIST(CY_ACTIVATION_ENUM)
#undef CY_ACTIVATION_ENUM
        CY_ACT_COUNT
} cy_activation;

#endif
