/* How `carry run` sees its input and cuts its work: pure arithmetic, no files. */
#ifndef CY_CLI_RUN_PLAN_H
#define CY_CLI_RUN_PLAN_H

#include "npy.h"

/* What the model takes: ids [rows, steps], or [rows, steps, width] numbers. */
typedef struct cy_run_input {
    int ids;
    uint64_t width; /* 1 for ids */
} cy_run_input;

/* The input as [rows, steps, width]. As Keras takes it: [N, T] for ids and for width 1, ids
 * [N, T, 1] lose the last axis; one row may come without its first axis. NULL, or what is wrong, in
 * `why`, to complete "X.npy ...". */
const char *cy_run_view(const uint64_t *shape, int rank, cy_run_input input,
                        cy_npy_view *view, char *why, size_t why_bytes);

/* What one call of carry_run gets: `rows` sequences, `steps` of their time steps. */
typedef struct cy_run_block {
    size_t rows, steps;
} cy_run_block;

typedef struct cy_run_work {
    uint64_t rows;        /* that may be taken together */
    uint64_t steps;       /* T */
    uint64_t chunk;       /* most steps in a call */
    uint64_t step_bytes;  /* memory of one step of one row, input and outputs */
    uint64_t state_bytes; /* memory of a row's state, needed when its steps are cut */
    uint64_t parameters;  /* of the model: what a step costs */
    int whole_sequence;   /* a call takes all steps of a row */
    int in_order;   /* outputs go into a pipe: a row's steps before the next row's */
    int rows_first; /* reading many rows of few steps is much faster (Fortran order) */
} cy_run_work;

cy_run_block cy_run_plan(const cy_run_work *work);

#endif
