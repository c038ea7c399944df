/* A graph opened on the CPU backend with given kernels, run on ragged random batches. */
#ifndef CY_TESTS_RIG_H
#define CY_TESTS_RIG_H

#include "cpu/cpu_model.h"
#include "random_graph.h"

typedef struct rig {
    cy_graph *graph;
    cy_cpu_model *model;
    void *session;
    cy_limits limits;
} rig;

/* Aborts on failure. The graph stays the caller's. */
rig rig_open(cy_graph *graph, const cy_cpu_kernels *kernels, uint32_t threads,
             uint32_t max_rows, uint32_t max_steps);
void rig_close(rig *r);

/* A batch and what came of it. */
typedef struct batch {
    size_t rows, max_steps;
    uint32_t *steps;     /* [rows] */
    void *input;         /* [rows, max_steps, width] float32 or ids */
    float *read, *write; /* [rows][state_floats]; read NULL: zeros */
    bool all_steps;      /* of outputs with a time axis */
    size_t output_count;
    float *outputs[8];
    size_t counts[8]; /* floats in each */
} batch;

/* Random input and, with `ragged`, random steps 0 .. max_steps (else max_steps); input past a row's
 * steps is NaN or an id far outside. Outputs are poisoned. */
batch batch_open(const cy_graph *graph, uint64_t seed, size_t rows, size_t max_steps,
                 bool ragged, bool all_steps);
void batch_close(batch *b);

/* Gives the rows random states to start from. */
void batch_start(batch *b, const cy_graph *graph, uint64_t seed);

/* The same input, steps and start as `from`, outputs poisoned again. */
batch batch_again(const cy_graph *graph, const batch *from);

/* Fills `run` and `rows` ([b->rows], sorted, pointing into read and write) for a backend's run. */
void batch_describe(const batch *b, const cy_graph *graph, cy_row *rows,
                    cy_run_output *outputs, cy_run *run);

void rig_run(const rig *r, batch *b);

/* Bits of all outputs and final states. */
void expect_same_batch(const batch *got, const batch *expected, const cy_graph *graph,
                       const char *what);

/* Outputs and final states against the oracle: ||error|| / ||y|| of each within `relative`. Also zeros
 * past the steps. */
void expect_oracle(const batch *got, const cy_graph *graph, double relative,
                   const char *what);

#endif
