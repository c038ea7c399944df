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

/* Where a causal graph, from zeros, leaves the range of float32: the steps before the first h or c
 * that a float cannot hold, and those before the first number of output 0. Between the two an
 * implementation may go either way. */
typedef struct oracle_range {
    size_t states, output;
} oracle_range;
oracle_range oracle_float_range(const cy_graph *graph, const float *input, size_t steps);

/* ||a - b|| / ||b|| over n numbers; ||a|| where b is 0. */
double oracle_distance(const double *a, const double *b, size_t n);

/* How far float32 alone moves the true result: the computation stays in double, but every input moves
 * by one float32 ulp, up or down, and h and c are rounded to float32 after each step, as any float32
 * implementation stores them. moved[s] is the largest distance in output 0 over steps 0 .. s, of 32
 * such runs. A recurrence that feeds on itself without bound multiplies a rounding error step by
 * step; this measures by how much, without asking the implementation under test.
 *   truth    [steps][W] output 0 of oracle_run on `input`, from zeros
 *   steps    of it to look at; the graph is causal, its input numbers */
void oracle_condition(const cy_graph *graph, const float *input, size_t steps,
                      const double *truth, double *moved);

#endif
