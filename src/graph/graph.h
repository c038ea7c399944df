/* The network, checked and canonical: what importers build, files hold and backends pack.
 *
 * Nodes stand in topological order; each has one input, a value some earlier node (or the model's
 * input) gives. A chain is the simple case; a tree costs nothing more.
 *
 * Canonical means: float32 weights that multiply on the right, row-major, gate blocks in the order
 * i f g o (Keras: i f c o, the same), one bias, activations resolved to a formula.
 *
 * Building: cy_graph_open, fill input, nodes and outputs (everything allocated from graph->arena),
 * then cy_graph_finish, which checks all of it and derives the rest. After that it is immutable. */
#ifndef CY_GRAPH_GRAPH_H
#define CY_GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/status.h"
#include "graph/tensor.h"
#include "kernels/activation.h"

#include <stdbool.h>

/* Bounds on what a file may state, so that no product of sizes below can overflow 64 bits. */
#define CY_MAX_NODES 4096
#define CY_MAX_WIDTH ((uint64_t)1 << 24) /* features, units */
#define CY_MAX_IDS   ((uint64_t)1 << 31)
#define CY_MAX_NAME  512

typedef enum cy_op {
    CY_OP_IDENTITY, /* Dropout: nothing happens at inference */
    CY_OP_LSTM, /* weights kernel [I,4H], recurrent_kernel [H,4H], bias [4H] if use_bias */
    CY_OP_DENSE,     /* kernel [I,W], bias [W] if use_bias; then activation */
    CY_OP_EMBEDDING, /* embeddings [ids,W]; its input must be the model's, of ids */
    CY_OP_ACTIVATION /* activation over the input's width */
} cy_op;

/* Ports of a node: what other nodes and outputs can refer to. */
enum { CY_PORT_Y = 0, CY_PORT_H = 1, CY_PORT_C = 2 };

#define CY_INPUT (-1) /* cy_value.node: the model's input */

typedef struct cy_value {
    int32_t node;
    int32_t
        port; /* CY_PORT_H and CY_PORT_C: LSTM only; the state after the last step, no time axis */
} cy_value;

typedef struct cy_node {
    cy_op op;
    const char *name; /* the layer's, unique in the graph */
    const char
        *class_name; /* as the source spells it: "TimeDistributed" around a Dense */
    cy_value input;
    uint64_t
        units; /* LSTM: H; Dense, Embedding: W. Identity and activation: 0 until finish */
    cy_activation activation;
    cy_activation recurrent_activation; /* LSTM */
    bool use_bias;
    bool return_sequences; /* LSTM: port Y keeps the time axis */
    bool
        return_state; /* LSTM: the source returns [y, h, c] (info only; ports exist anyway) */
    bool go_backwards; /* LSTM: steps L-1 .. 0, outputs in processing order */
    bool stateful;     /* LSTM: as declared in the source (info only) */
    uint32_t weight_count;
    cy_tensor weights[3];

    /* derived by cy_graph_finish */
    uint64_t in_width;  /* width of a step of the input; Embedding: number of ids */
    uint64_t out_width; /* of port Y */
    bool in_time;       /* the input has a time axis */
    bool out_time;      /* port Y has one */
    int32_t
        first_state; /* LSTM: index of its h in cy_graph.states, c follows; otherwise -1 */
} cy_node;

typedef struct cy_state_tensor {
    int32_t node;
    const char *name; /* "h", "c" */
    uint64_t width;
    uint64_t offset; /* in floats inside one version of a state, a multiple of 16 */
} cy_state_tensor;

typedef struct cy_graph {
    cy_arena arena;
    const char *source; /* "keras", "keras-h5": what it was imported from */
    const char *name;   /* the model's */

    struct {
        const char *name;
        bool ids;       /* int32 ids [B, T] instead of float32 [B, T, width] */
        uint64_t width; /* 1 for ids */
        uint64_t batch; /* fixed in the source, 0: free */
        uint64_t steps; /* fixed in the source, 0: free */
    } input;

    uint32_t node_count;
    cy_node *nodes;
    uint32_t output_count;
    cy_value *outputs;

    /* derived by cy_graph_finish */
    uint32_t state_count;
    cy_state_tensor *states;
    uint64_t state_floats; /* one version of a state, every tensor padded to 16 floats */
    uint64_t parameters;
    uint64_t ids; /* legal ids are 0 .. ids-1; 0 when the input is not ids */
    bool whole_sequence;
    const char *layers;   /* one line of text per layer: what the fingerprint covers */
    char fingerprint[17]; /* 16 hex digits of cy_hash64 over `layers` */

} cy_graph;

/* An empty graph; *graph is NULL on failure. */
carry_status cy_graph_open(cy_graph **graph);
void cy_graph_close(cy_graph **graph);

/* Checks names, edges, shapes and bounds, and fills the derived fields. Every sentence names the
 * layer. Errors: CARRY_E_FORMAT, CARRY_E_UNSUPPORTED, CARRY_E_MEMORY. */
carry_status cy_graph_finish(cy_graph *graph);

/* The name of an activation in carry's own file (never NULL), and the way back (false: no such name). */
const char *cy_activation_name(cy_activation activation);
bool cy_activation_find(const char *name, cy_activation *activation);

/* Width of what a value carries, and whether it has a time axis. */
uint64_t cy_graph_width(const cy_graph *graph, cy_value value);
bool cy_graph_has_time(const cy_graph *graph, cy_value value);

/* FNV-1a, 64 bits: finds damage and difference, not forgery. Start with CY_HASH_START. */
#define CY_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t cy_hash64(uint64_t hash, const void *data, size_t bytes);

#endif
