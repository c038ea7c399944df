/* carry's own file: a safetensors file whose metadata holds the graph.
 *
 * Metadata: "carry.kind" = "model", "carry.version" = "2", "carry.graph" = the graph as JSON,
 * "carry.checksum". Tensors: float32, "LAYER/WEIGHT". */
#ifndef CY_GRAPH_GRAPH_FILE_H
#define CY_GRAPH_GRAPH_FILE_H

#include "graph/graph.h"

/* The graph as bytes, allocated with cy_alloc; the caller frees. */
carry_status cy_graph_write(const cy_graph *graph, void **data, size_t *bytes);

/* A finished graph out of `bytes` bytes at `data`. Its weights point into `data`, which must outlive
 * the graph, except those that are not aligned there: they are copied. Believes nothing it has not
 * checked. Errors: CARRY_E_FORMAT, CARRY_E_UNSUPPORTED, CARRY_E_MEMORY. */
carry_status cy_graph_read(cy_graph **graph, const void *data, size_t bytes);

#endif
