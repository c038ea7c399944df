/* What an importer is, inside the library: a reader that fills a graph. import.c alone names them. */
#ifndef CY_IMPORT_IMPORT_H
#define CY_IMPORT_IMPORT_H

#include "graph/graph.h"

/* A reader fills `graph` (input, nodes, weights, outputs; everything in its arena), reads nothing but the
 * `bytes` bytes at `data`, and leaves cy_graph_finish to the caller. */
typedef carry_status cy_import_read(cy_graph *graph, const void *data, size_t bytes);

cy_import_read cy_keras_archive_read; /* .keras */
cy_import_read cy_keras_h5_read;      /* whole-model .h5 */

#endif
