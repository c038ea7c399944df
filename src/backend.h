/* What a device offers: the last place where CPU and GPU look alike.
 *
 * run/ owns states, handles and checks; a backend owns memory and arithmetic. The call goes down
 * once (`run`) and nothing calls up. */
#ifndef CY_BACKEND_H
#define CY_BACKEND_H

#include "graph/graph.h"

/* One sequence in one call. A version of a state is graph->state_floats floats of the backend's
 * memory, tensor k at graph->states[k].offset. */
typedef struct cy_row {
    const float *read; /* the version to start from; NULL: zeros */
    float *
        write; /* where to leave the state after the last step, never == read; NULL: not kept */
    uint32_t
        steps; /* 0: outputs are zeros, h and c outputs what `read` holds; nothing is written */
    uint32_t index; /* row of the caller's arrays */
} cy_row;

typedef struct cy_run_output {
    float *data;    /* [B, T, W] if all_steps, else [B, W]; NULL: not wanted */
    bool all_steps; /* only for values with a time axis */
} cy_run_output;

typedef struct cy_run {
    const cy_row *rows; /* most steps first, zeros last */
    uint32_t row_count; /* 1 .. limits.max_rows */
    size_t max_steps;   /* T of the caller's arrays */
    const void *input;  /* [B, T, I] float32 or [B, T] int32, ids checked already */
    const cy_run_output *outputs; /* [graph->output_count]; zeros from a row's steps on */
} cy_run;

typedef struct cy_limits {
    uint32_t threads; /* >= 1 */
    uint32_t max_rows;
    uint32_t max_steps; /* whole-sequence graphs only */
} cy_limits;

typedef struct cy_backend {
    const char *name;

    /* Packs the graph's weights for the device. The graph outlives the model; its weight data may
     * be gone once this returns. */
    carry_status (*model_open)(const cy_graph *graph, void **model);
    void (*model_close)(void *model);

    /* Workspace and threads of one session; *bytes is what it took. After this `run` allocates
     * nothing. */
    carry_status (*session_open)(void *model, const cy_limits *limits, void **session,
                                 size_t *bytes);
    void (*session_close)(void *session);

    /* Memory of the pool: zeroed; its address never moves. */
    carry_status (*memory_open)(void *session, size_t bytes, float **memory);
    void (*memory_close)(void *session, float *memory);
    carry_status (*memory_read)(void *session, float *host, const float *memory,
                                size_t count);
    carry_status (*memory_write)(void *session, float *memory, const float *host,
                                 size_t count);
    carry_status (*memory_clear)(void *session, float *memory, size_t count);
    carry_status (*memory_copy)(void *session, float *to, const float *from,
                                size_t count);

    /* Advances the rows. On failure what `write` points at is undefined, `read` is untouched. */
    carry_status (*run)(void *session, const cy_run *run);
} cy_backend;

/* The backend of a word: "cpu"; "auto" or NULL: the best one here. CARRY_E_DEVICE names what there is. */
carry_status cy_backend_find(const char *device, const cy_backend **backend);

#endif
