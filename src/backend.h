/* What a device offers: the last place where CPU and GPU look alike.
 *
 * run/ owns states, handles and checks; a backend owns memory and arithmetic. The call goes down
 * once (`run`) and nothing calls up. */
#ifndef CY_BACKEND_H
#define CY_BACKEND_H

#include "graph/graph.h"

/* One sequence in one call. A version of a state is graph->state_floats floats of the backend's
 * memory, tensor k at graph->states[k].offset; only the backend may follow the pointers. */
typedef struct cy_row {
    const float *read; /* the version to start from; NULL: zeros */
    float *
        write; /* where to leave the state after the last step, never == read; NULL: not kept */
    uint32_t
        steps; /* 0: outputs are zeros, h and c outputs what `read` holds; nothing is written */
    uint32_t index; /* row of the caller's arrays without a time axis */
    uint32_t span;  /* steps that the row has room for in arrays with one, >= steps */
    uint64_t first; /* where they begin, in steps: index * T if padded */
} cy_row;

typedef struct cy_run_output {
    void *data;     /* [sum of spans, W] if all_steps, else [B, W]; NULL: not wanted */
    bool all_steps; /* only for values with a time axis */
    carry_dtype dtype;
    carry_place place;
} cy_run_output;

typedef struct cy_run {
    const cy_row *rows; /* most steps first, zeros last */
    uint32_t row_count; /* 1 .. limits.max_rows */
    uint32_t first_row; /* the rows' indices are first_row .. first_row + row_count - 1 */
    size_t max_steps;   /* the longest span of the batch; if not packed every row's */
    bool packed;        /* spans differ; row r + 1 begins where row r of the batch ends */
    const void
        *input; /* [sum of spans, I], or ids; ids in host memory are checked already */
    carry_dtype input_dtype;
    carry_place input_place;
    bool asynchronous; /* nothing may be waited for; places are not CARRY_HOST */
    const cy_run_output *outputs; /* [graph->output_count]; zeros from a row's steps on */
} cy_run;

typedef struct cy_limits {
    uint32_t threads; /* >= 1 */
    uint32_t max_rows;
    uint32_t max_steps; /* whole-sequence graphs only */
    bool exact;
    void *cuda_stream; /* the caller's, or NULL */
    const carry_graph_shape
        *graphs; /* [graph_count], to capture; valid during session_open */
    size_t graph_count;
} cy_limits;

/* What a session tells about itself. */
typedef struct cy_session_facts {
    size_t workspace_bytes; /* on the host and on the device */
    uint32_t graphs;
    uint64_t graph_chunks, plain_chunks;
    bool dead;
} cy_session_facts;

typedef struct cy_backend {
    const char *name;
    uint32_t default_max_rows;
    uint32_t
        default_row_steps; /* whole-sequence models: max_rows times max_steps, where max_rows is not
                              named, is at most this; 0: no bound */
    bool takes_device_memory; /* arrays of CARRY_DEVICE, and CARRY_ASYNC */
    bool always_exact;        /* the promise of `exact` costs nothing here */

    /* Facts of device `index`; false past the last. Strings live until the thread's next call. */
    bool (*device_info)(uint32_t index, carry_device_info *info);

    /* Packs the graph's weights for the device. The graph outlives the model; its weight data may
     * be gone once this returns. *bytes is what the packed weights take. */
    carry_status (*model_open)(const cy_graph *graph, uint32_t device,
                               carry_precision precision, void **model, uint64_t *bytes);
    void (*model_close)(void *model);

    /* Workspace and threads of one session. After this `run` allocates nothing. */
    carry_status (*session_open)(void *model, const cy_limits *limits, void **session);
    void (*session_close)(void *session);
    void (*session_facts)(void *session, cy_session_facts *facts);
    /* CARRY_E_DEVICE once the device has failed; no other function is called on such a session, but facts and
     * the closing ones. */
    carry_status (*session_alive)(void *session);
    carry_status (*session_warm)(void *session, const carry_graph_shape *shapes,
                                 size_t count);
    /* The shapes that are captured, [facts.graphs]. */
    void (*session_shapes)(void *session, carry_graph_shape *shapes);
    /* Waits for what was begun; the first failure since the last wait. */
    carry_status (*session_wait)(void *session);
    /* How node `node` would be computed: an algorithm's name, and the sentence why. */
    const char *(*session_plan)(void *session, uint32_t node, size_t rows, size_t steps,
                                char *reason, size_t reason_bytes);

    /* Memory of the pool: its address never moves, and it outlives the session that opened it: another session on
     * the same device may take over. */
    carry_status (*memory_open)(void *session, size_t bytes, float **memory);
    void (*memory_close)(void *session, float *memory);
    carry_status (*memory_read)(void *session, float *host, const float *memory,
                                size_t count);
    carry_status (*memory_write)(void *session, float *memory, const float *host,
                                 size_t count);
    carry_status (*memory_clear)(void *session, float *memory, size_t count);
    carry_status (*memory_copy)(void *session, float *to, const float *from,
                                size_t count);
    /* Whole versions, as many as wanted at once, between wherever they lie and the host, [count][state_floats]:
     * from[i] NULL reads as zeros; all of to[] differ. On failure what they point at is undefined. */
    carry_status (*memory_gather)(void *session, float *host, const float *const *from,
                                  size_t count);
    carry_status (*memory_scatter)(void *session, float *const *to, const float *host,
                                   size_t count);

    /* Advances the rows. On failure what `write` points at is undefined, `read` is untouched, and nothing of
     * the run is still going on. An asynchronous run may fail later: session_wait. */
    carry_status (*run)(void *session, const cy_run *run);
} cy_backend;

/* A device of one backend. */
typedef struct cy_device {
    const cy_backend *backend;
    uint32_t index;
    const char *
        note; /* "auto" passed a better device over: why, static or of this thread; else NULL */
} cy_device;

/* The device of a word: "cpu", "cuda", "cuda:1"; "auto" or NULL: the best one here. CARRY_E_DEVICE names what
 * there is. */
carry_status cy_device_find(const char *word, cy_device *device);

/* Facts of the index-th device of all backends. */
carry_status cy_device_at(size_t index, carry_device_info *info);

#endif
