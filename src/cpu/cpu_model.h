/* A graph packed for the CPU, and the workspace of its sessions. */
#ifndef CY_CPU_CPU_MODEL_H
#define CY_CPU_CPU_MODEL_H

#include "backend.h"
#include "cpu/cpu_plan.h"
#include "kernels/cpu/cpu_kernels.h"

/* One node of the graph. */
typedef struct cy_cpu_layer {
    const cy_node *node;
    cy_value source;        /* its input, past every Identity */
    size_t panels;          /* LSTM and Dense */
    size_t stride;          /* floats between two rows of its values, padding included */
    const float *kernel;    /* LSTM [panels][in][4][lanes], Dense [panels][in][4 lanes],
                               Embedding [ids][W] */
    const float *recurrent; /* LSTM [panels][units][4][lanes] */
    const float
        *bias; /* LSTM [panels][4][lanes], Dense [panels][4 lanes]; zeros if none */
} cy_cpu_layer;

typedef struct cy_cpu_model {
    const cy_graph *graph;
    const cy_cpu_kernels *kernels;
    size_t bytes; /* the model itself and the packed weights */
    size_t layer_count;
    cy_cpu_layer *layers; /* [layer_count] */
    cy_value *outputs;    /* [graph->output_count], past every Identity */
    bool has_untimed;     /* something is computed behind the last step alone */
    bool reads_last_h;    /* by an output or a layer, as a value without a time axis */
    bool has_row_gates;   /* an LSTM has an activation over all units of a row */
    cy_cpu_cost cost;
} cy_cpu_model;

/* Packs for the kernels given (tests: any; the backend: those chosen). */
carry_status cy_cpu_model_open(const cy_graph *graph, const cy_cpu_kernels *kernels,
                               cy_cpu_model **model);
void cy_cpu_model_close(cy_cpu_model *model);

/* The values of one layer. A row-step is one step of one row. */
typedef struct cy_cpu_buffers {
    float *
        y; /* [row_steps][stride] of the present chunk; without a time axis [rows][stride];
                 NULL where nothing is computed (Identity, Embedding) */
    float *
        h; /* LSTM [rows][stride]: before the chunk's first step; after a run the last h */
    float *c; /* LSTM [rows][stride] */
} cy_cpu_buffers;

/* Steps first_step .. first_step + steps - 1 of all rows that reach them. The rows of a step are a
 * prefix, so a value's rows lie packed: row r of the chunk's step s is row-step offset[s] + r. */
typedef struct cy_cpu_chunk {
    size_t first_step;
    size_t steps;
    size_t *offset; /* [steps + 1] */
} cy_cpu_chunk;

typedef struct cy_cpu_space {
    size_t rows, row_steps, steps; /* capacities */
    cy_row *row_copies;            /* [rows] */
    cy_cpu_chunk chunk[2];         /* one in use, one being prepared */
    const cy_cpu_chunk *last;      /* of a run, when its chunks are done */
    float *z;                /* [panels][row_steps][4][lanes] of the layer in work */
    cy_cpu_buffers *buffers; /* [layer_count] */
} cy_cpu_space;

/* Lays out a space for rows and steps within it; with carver->base NULL it only measures. What it
 * carves holds nothing between runs, so spaces that are never in use together may share it; the
 * caller provides space->buffers, [layer_count], which may not be shared. */
void cy_cpu_space_carve(cy_cpu_space *space, const cy_cpu_model *model, size_t rows,
                        size_t row_steps, size_t steps, cy_carver *carver);

#endif
