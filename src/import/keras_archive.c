/* Keras archives (.keras): a zip of metadata.json, config.json and model.weights.h5.
 *
 * In the last, a layer's weights stand by its place in the model and never by its name: the second LSTM
 * of a model is layers/lstm_1, whatever it is called. */
#include "base/mem.h"
#include "import/config_json.h"
#include "import/import.h"
#include "import/keras.h"
#include "import/zip_reader.h"

#include <stdio.h>
#include <string.h>

#define WEIGHTS "model.weights.h5"

/* Keras 3 and tf-keras; Keras 2.12 to 2.15. */
static const char *const roots[] = {"layers", "_layer_checkpoint_dependencies"};

/* ---- places ------------------------------------------------------------------------------------- */

/* The group names of the classes that have weights, and where inside their weights lie. */
static const struct {
    const char *class_name, *group, *inside;
} places[] = {
    {"LSTM", "lstm", "cell/vars"},
    {"Dense", "dense", "vars"},
    {"Embedding", "embedding", "vars"},
    {"TimeDistributed", "time_distributed", "layer/vars"},
};
#define PLACE_COUNT (sizeof places / sizeof *places)

typedef struct weights_file {
    cy_keras_model *model;
    cy_hdf5 *hdf5;
    const char *root;
    bool gaps;                  /* the numbers of groups may leave some out */
    unsigned next[PLACE_COUNT]; /* number of the next group of each class */
} weights_file;

/* The first layer's group has no number: lstm, lstm_1, lstm_2. */
static carry_status group_text(const weights_file *file, size_t place, unsigned number,
                               char **group)
{
    cy_graph *graph = file->model->graph;
    if (number == 0)
        return cy_keras_text(graph, group, "%s/%s", file->root, places[place].group);
    return cy_keras_text(graph, group, "%s/%s_%u", file->root, places[place].group,
                         number);
}

/* Keras 2.12 and 2.13 count a layer twice where it stands in the list twice, and write it once: then the
 * numbers go 0, 2, 4. */
static carry_status find_group(weights_file *file, size_t place,
                               const cy_keras_layer *layer, char **group)
{
    unsigned first = file->next[place];
    unsigned last = file->gaps ? first + 2 : first;
    for (unsigned number = first; number <= last; number++) {
        cy_hdf5_kind kind;
        CY_TRY(group_text(file, place, number, group));
        CY_TRY(cy_hdf5_find(file->hdf5, *group, &kind));
        file->next[place] = number + 1;
        if (kind == CY_HDF5_GROUP) return CARRY_OK;
    }
    CY_TRY(group_text(file, place, first, group));
    return cy_fail(CARRY_E_FORMAT, "%s: " WEIGHTS " has no group '%s'", layer->label,
                   *group);
}

static carry_status read_layer(weights_file *file, const cy_keras_layer *layer)
{
    cy_graph *graph = file->model->graph;
    size_t place = 0;
    while (place < PLACE_COUNT &&
           strcmp(layer->class_name, places[place].class_name) != 0)
        place++;
    if (place == PLACE_COUNT || layer->node == CY_INPUT) return CARRY_OK;
    cy_node *node = &graph->nodes[layer->node];
    char *group, *paths[3];
    CY_TRY(find_group(file, place, layer, &group));
    for (uint32_t i = 0; i < node->weight_count; i++)
        CY_TRY(
            cy_keras_text(graph, &paths[i], "%s/%s/%u", group, places[place].inside, i));
    /* One more dataset than the config needs (a bias where use_bias is false) is a contradiction. */
    char *extra;
    cy_hdf5_kind kind;
    CY_TRY(cy_keras_text(graph, &extra, "%s/%s/%u", group, places[place].inside,
                         node->weight_count));
    CY_TRY(cy_hdf5_find(file->hdf5, extra, &kind));
    CY_CHECK(kind == CY_HDF5_NONE, CARRY_E_FORMAT,
             "%s has more than %u weights in the file", layer->label, node->weight_count);
    return cy_keras_weights_read(graph, node, file->hdf5, paths);
}

static carry_status read_weights(cy_keras_model *model, cy_hdf5 *hdf5)
{
    weights_file file = {.model = model, .hdf5 = hdf5};
    for (size_t i = 0; !file.root && i < sizeof roots / sizeof *roots; i++) {
        cy_hdf5_kind kind;
        CY_TRY(cy_hdf5_find(hdf5, roots[i], &kind));
        if (kind != CY_HDF5_GROUP) continue;
        file.root = roots[i];
        file.gaps = i > 0;
    }
    CY_CHECK(file.root, CARRY_E_FORMAT, WEIGHTS " has no group '%s'", roots[0]);
    for (uint32_t i = 0; i < model->layer_count; i++)
        CY_TRY(read_layer(&file, &model->layers[i]));
    return CARRY_OK;
}

/* ---- members ------------------------------------------------------------------------------------ */

typedef struct members {
    void *metadata, *config, *weights;
    size_t metadata_bytes, config_bytes, weights_bytes;
} members;

static carry_status refuse_weights(cy_zip *archive)
{
    static const struct {
        const char *name, *sentence;
    } others[] = {
        {"model.weights.npz",
         "the archive keeps its weights in model.weights.npz; carry reads " WEIGHTS
         " (save the model with h5py installed)"},
        {"model.weights.json",
         "the archive's weights are sharded (model.weights.json); carry reads "
         "one " WEIGHTS " (save without max_shard_size)"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        void *data;
        size_t bytes;
        CY_TRY(cy_zip_read(archive, others[i].name, &data, &bytes));
        cy_free(data);
        CY_CHECK(!data, CARRY_E_UNSUPPORTED, "%s", others[i].sentence);
    }
    return cy_fail(CARRY_E_FORMAT, "the archive has no member " WEIGHTS);
}

static carry_status read_members(members *parts, const void *data, size_t bytes)
{
    cy_zip *archive = NULL;
    CY_TRY(cy_zip_open(&archive, data, bytes));
    carry_status status =
        cy_zip_read(archive, "config.json", &parts->config, &parts->config_bytes);
    if (status == CARRY_OK && !parts->config)
        status = cy_fail(CARRY_E_FORMAT,
                         "the archive has no member config.json: it is no Keras model");
    if (status == CARRY_OK)
        status = cy_zip_read(archive, "metadata.json", &parts->metadata,
                             &parts->metadata_bytes);
    if (status == CARRY_OK)
        status = cy_zip_read(archive, WEIGHTS, &parts->weights, &parts->weights_bytes);
    if (status == CARRY_OK && !parts->weights) status = refuse_weights(archive);
    cy_zip_close(&archive);
    return status;
}

static carry_status read_generation(const members *parts, int *generation)
{
    json_t *metadata;
    *generation = 0;
    if (!parts->metadata) return CARRY_OK;
    CY_TRY(cy_config_load(&metadata, parts->metadata, parts->metadata_bytes,
                          "metadata.json"));
    const char *version = json_string_value(json_object_get(metadata, "keras_version"));
    carry_status status = cy_keras_generation(version, generation);
    json_decref(metadata);
    return status;
}

static carry_status read_model(cy_keras_model *model, const members *parts, json_t **root)
{
    CY_TRY(read_generation(parts, &model->generation));
    CY_TRY(cy_config_load(root, parts->config, parts->config_bytes, "config.json"));
    model->root = *root;
    CY_TRY(cy_keras_config_read(model));
    cy_hdf5 *hdf5 = NULL;
    CY_TRY(cy_hdf5_open(&hdf5, parts->weights, parts->weights_bytes, WEIGHTS));
    carry_status status = read_weights(model, hdf5);
    cy_hdf5_close(&hdf5);
    return status;
}

carry_status cy_keras_archive_read(cy_graph *graph, const void *data, size_t bytes)
{
    cy_keras_model model = {.graph = graph};
    members parts = {0};
    json_t *root = NULL;
    carry_status status = read_members(&parts, data, bytes);
    if (status == CARRY_OK) status = read_model(&model, &parts, &root);
    json_decref(root);
    cy_free(parts.metadata);
    cy_free(parts.config);
    cy_free(parts.weights);
    return status;
}
