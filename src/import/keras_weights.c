/* The weights of one node, whatever file their datasets stand in. */
#include "import/keras.h"

#include <stdio.h>

carry_status cy_keras_weights_read(cy_graph *graph, cy_node *node, cy_hdf5 *file,
                                   char *const *paths)
{
    for (uint32_t i = 0; i < node->weight_count; i++) {
        char label[CY_MAX_NAME + 32];
        snprintf(label, sizeof label, "%s/%s", node->name, node->weights[i].name);
        CY_TRY(cy_hdf5_floats(file, paths[i], label, &node->weights[i], &graph->arena));
    }
    return CARRY_OK;
}
