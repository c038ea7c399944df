/* Random models of any size, made in memory: what the golden files are too few and too small for. */
#ifndef TESTS_API_MODEL_BUILDER_H
#define TESTS_API_MODEL_BUILDER_H

#include "graph/graph.h"

enum {
    SEQUENCES = 1, /* return_sequences */
    STATES = 2,    /* return_state */
    BACKWARDS = 4, /* go_backwards */
    STATEFUL = 8,  /* declared stateful */
    NO_BIAS = 16
};

typedef struct layer_spec {
    cy_op op;
    uint32_t units; /* 0 ends the list, except for activations and identities */
    unsigned flags;
    cy_activation activation, recurrent_activation;
    bool present;
} layer_spec;

#define LSTM_LAYER(units, flags)                                        \
    {                                                                   \
        CY_OP_LSTM, (units), (flags), CY_ACT_TANH, CY_ACT_SIGMOID, true \
    }
#define LSTM_ACT(units, flags, act, rec)                 \
    {                                                    \
        CY_OP_LSTM, (units), (flags), (act), (rec), true \
    }
#define DENSE_LAYER(units, act)                             \
    {                                                       \
        CY_OP_DENSE, (units), 0, (act), CY_ACT_LINEAR, true \
    }
#define EMBEDDING_LAYER(units)                                          \
    {                                                                   \
        CY_OP_EMBEDDING, (units), 0, CY_ACT_LINEAR, CY_ACT_LINEAR, true \
    }
#define ACTIVATION_LAYER(act)                              \
    {                                                      \
        CY_OP_ACTIVATION, 0, 0, (act), CY_ACT_LINEAR, true \
    }
#define DROPOUT_LAYER                                            \
    {                                                            \
        CY_OP_IDENTITY, 0, 0, CY_ACT_LINEAR, CY_ACT_LINEAR, true \
    }

/* A chain. */
typedef struct model_spec {
    uint64_t features; /* of the input, 1 for ids */
    uint64_t ids;      /* size of the vocabulary; 0: the input is numbers */
    uint64_t steps;    /* fixed time axis, 0: free */
    layer_spec layers[8];
    const char *names[8]; /* NULL: "layer0", "layer1" ... */
    cy_value outputs[8];  /* used if output_count > 0; otherwise the last layer's Y */
    uint32_t output_count;
    uint64_t seed;
    float scale; /* times Keras' default scale; 0 means 1 */
} model_spec;

/* A finished graph with random weights at Keras' default scale, biases random too. Asserts on failure. */
cy_graph *build_graph(const model_spec *spec);

/* The graph as carry's own file; cy_free the result. */
void *build_bytes(const model_spec *spec, size_t *bytes);

carry_model *build_model(const model_spec *spec);

/* splitmix64, and a number in [-1, 1). */
uint64_t random_u64(uint64_t *seed);
float random_float(uint64_t *seed);

#endif
