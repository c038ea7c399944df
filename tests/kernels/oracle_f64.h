/* The oracle: a graph computed in double by plain loops, one sequence at a time.
 *
 * Written from the definitions, sharing no code with kernels/ or src/cpu/, so that a mistake would
 * have to be made twice. */
#ifndef CY_TESTS_ORACLE_F64_H
#define CY_TESTS_ORACLE_F64_H

#include "graph/graph.h"

/* One sequence of `steps` steps.
 *   input    [steps][width] float32, or [steps] int32 ids
 *   state    [graph->state_floats] to start from, NULL: zeros; receives the state after the steps
 *   outputs  [graph->output_count]: with a time axis [steps][W], else [W]; entries may be NULL */
void oracle_run(const cy_graph *graph, const void *input, size_t steps, double *state,
                double *const *outputs);

/* y[n] = activation(x[n]) */
void oracle_activate(cy_activation activation, const double *x, double *y, size_t n);

#endif
