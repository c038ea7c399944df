/* Graphs of random weights at Keras' default scale, and repeatable random numbers. */
#ifndef CY_TESTS_RANDOM_GRAPH_H
#define CY_TESTS_RANDOM_GRAPH_H

#include "graph/graph.h"

typedef struct rng {
    uint64_t word;
} rng;

uint64_t rng_next(rng *r);
double rng_uniform(rng *r, double low, double high);
double rng_normal(rng *r);

/* A graph being built; aborts when memory ends. */
typedef struct builder {
    cy_graph *graph;
    rng rng;
} builder;

/* width 0: the input is ids. */
builder graph_begin(uint64_t seed, uint64_t width);

/* Each appends a node that reads `input` and returns its port Y. Weights: kernel glorot uniform,
 * recurrent kernel orthogonal, embeddings uniform +-0.05 as Keras draws them; biases normal x 0.1, plus 1
 * for the forget gate. Fields of the node returned by graph_node may be changed until graph_end. */
cy_value graph_lstm(builder *b, cy_value input, uint64_t units);
cy_value graph_dense(builder *b, cy_value input, uint64_t width,
                     cy_activation activation);
cy_value graph_embedding(builder *b, uint64_t ids, uint64_t width);
cy_value graph_activation(builder *b, cy_value input, cy_activation activation);
cy_value graph_identity(builder *b, cy_value input);
cy_node *graph_node(builder *b, cy_value value);

/* Finishes with these outputs; aborts with the sentence if the graph is not sound. */
cy_graph *graph_end(builder *b, const cy_value *outputs, uint32_t count);

#endif
