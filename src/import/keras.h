/* What the Keras importers share: a model's config turned into nodes, and the layers those came from, so
 * that each format can find their weights.
 *
 * The config first (keras_config.c: the wiring; keras_layers.c: one layer at a time; keras_activation.c),
 * which also says what shape every weight must have; then the weights (keras_archive.c, keras_h5.c). */
#ifndef CY_IMPORT_KERAS_H
#define CY_IMPORT_KERAS_H

#include "graph/graph.h"
#include "import/hdf5_reader.h"

#include <jansson.h>

typedef struct cy_keras_layer {
    const char *name;
    const char *class_name;
    const json_t *entry;  /* the layer's object in the config */
    const json_t *config; /* its "config" */
    char label[96];       /* "layer 'lstm_1' (LSTM)", for sentences */
    int32_t node;         /* CY_INPUT for an InputLayer */
} cy_keras_layer;

typedef struct cy_keras_model {
    cy_graph *graph;
    const json_t *root;
    int generation; /* of the Keras that wrote the file: 2 or 3; 0 unknown */
    uint32_t layer_count;
    cy_keras_layer
        *layers; /* in the file's order, InputLayers included; in the graph's arena */
} cy_keras_model;

/* The generation out of "3.15.1", "2.2.4-tf"; NULL gives 0. Keras 1 is refused. */
carry_status cy_keras_generation(const char *version, int *generation);

/* Fills model->layers and the graph's input, nodes and outputs, from model->root. Weights have names and
 * shapes but no data yet. Errors: CARRY_E_FORMAT, CARRY_E_UNSUPPORTED, CARRY_E_MEMORY. */
carry_status cy_keras_config_read(cy_keras_model *model);

/* One layer: its op, arguments and weight shapes. node->input is set, and all nodes before it are read. */
carry_status cy_keras_layer_read(const cy_keras_model *model, const cy_keras_layer *layer,
                                 cy_node *node);

/* Refuses a class that no node can be made of, and one that is not Keras' own. */
carry_status cy_keras_layer_check(const cy_keras_layer *layer);

/* An activation in any of its serialised forms; `key` is its name in the sentence. */
carry_status cy_keras_activation(const json_t *value, int generation, const char *owner,
                                 const char *key, cy_activation *activation);

/* Reads the weights of a node from the datasets `paths`, one for each, shapes as the config says. */
carry_status cy_keras_weights_read(cy_graph *graph, cy_node *node, cy_hdf5 *file,
                                   char *const *paths);

/* Allocation in the graph's arena, and formatted text there. */
carry_status cy_keras_alloc(cy_graph *graph, size_t count, size_t bytes, void *memory);
carry_status cy_keras_text(cy_graph *graph, char **text, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
