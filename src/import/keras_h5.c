/* Whole-model HDF5 files of Keras 2 and 3: the config in the root's attribute model_config, the weights
 * in model_weights/LAYER, in the order of that group's attribute weight_names. Dataset names say nothing:
 * they differ from era to era. */
#include "import/config_json.h"
#include "import/import.h"
#include "import/keras.h"

#include <stdio.h>
#include <string.h>

#define WEIGHTS "model_weights"

/* A list of names; one beyond 64512 bytes is split into NAME0, NAME1, ... */
static carry_status read_names(cy_hdf5 *file, const char *path, const char *name,
                               cy_arena *arena, char ***names, size_t *count)
{
    char part[64];
    CY_TRY(cy_hdf5_texts(file, path, name, arena, names, count));
    if (*names) return CARRY_OK;
    for (unsigned i = 0;; i++) {
        char **more;
        size_t more_count;
        snprintf(part, sizeof part, "%s%u", name, i);
        CY_TRY(cy_hdf5_texts(file, path, part, arena, &more, &more_count));
        if (!more) return CARRY_OK;
        char **all = cy_arena_alloc(arena, (*count + more_count) * sizeof *all);
        CY_CHECK(all, CARRY_E_MEMORY, "out of memory reading the attribute '%s'", part);
        if (*count) memcpy(all, *names, *count * sizeof *all);
        if (more_count) memcpy(all + *count, more, more_count * sizeof *all);
        *names = all;
        *count += more_count;
    }
}

static carry_status read_weights(cy_keras_model *model, cy_hdf5 *file,
                                 const cy_keras_layer *layer)
{
    cy_graph *graph = model->graph;
    cy_node *node = &graph->nodes[layer->node];
    char *group, **names, *paths[3];
    size_t count;
    cy_hdf5_kind kind;
    if (node->weight_count == 0) return CARRY_OK;
    CY_TRY(cy_keras_text(graph, &group, WEIGHTS "/%s", layer->name));
    CY_TRY(cy_hdf5_find(file, group, &kind));
    CY_CHECK(kind == CY_HDF5_GROUP, CARRY_E_FORMAT, "%s: the file has no group '%s'",
             layer->label, group);
    CY_TRY(read_names(file, group, "weight_names", &graph->arena, &names, &count));
    CY_CHECK(names, CARRY_E_FORMAT, "%s: its group has no attribute weight_names",
             layer->label);
    CY_CHECK(count != 12 || node->op != CY_OP_LSTM, CARRY_E_UNSUPPORTED,
             "%s has the 12 arrays of Keras 1, expected 3; load and save the model with "
             "Keras 2",
             layer->label);
    CY_CHECK(count == node->weight_count, CARRY_E_FORMAT,
             "%s has %zu weights in the file, expected %u", layer->label, count,
             node->weight_count);
    for (size_t i = 0; i < count; i++)
        CY_TRY(cy_keras_text(graph, &paths[i], "%s/%s", group, names[i]));
    return cy_keras_weights_read(graph, node, file, paths);
}

static carry_status read_model(cy_keras_model *model, cy_hdf5 *file, json_t **root)
{
    cy_arena *arena = &model->graph->arena;
    char *config, *version;
    cy_hdf5_kind kind;
    CY_TRY(cy_hdf5_text(file, "", "model_config", arena, &config));
    CY_CHECK(config, CARRY_E_UNSUPPORTED,
             "the HDF5 file has no model_config: it holds weights alone, or is no Keras "
             "model; save the whole model (model.save)");
    CY_TRY(cy_hdf5_text(file, "", "keras_version", arena, &version));
    CY_TRY(cy_keras_generation(version, &model->generation));
    CY_TRY(cy_config_load(root, config, strlen(config), "model_config"));
    model->root = *root;
    CY_TRY(cy_keras_config_read(model));
    CY_TRY(cy_hdf5_find(file, WEIGHTS, &kind));
    CY_CHECK(kind == CY_HDF5_GROUP, CARRY_E_FORMAT, "the file has no group " WEIGHTS);
    for (uint32_t i = 0; i < model->layer_count; i++)
        if (model->layers[i].node != CY_INPUT)
            CY_TRY(read_weights(model, file, &model->layers[i]));
    return CARRY_OK;
}

carry_status cy_keras_h5_read(cy_graph *graph, const void *data, size_t bytes)
{
    cy_keras_model model = {.graph = graph};
    cy_hdf5 *file = NULL;
    json_t *root = NULL;
    CY_TRY(cy_hdf5_open(&file, data, bytes, "the HDF5 file"));
    carry_status status = read_model(&model, file, &root);
    json_decref(root);
    cy_hdf5_close(&file);
    return status;
}
