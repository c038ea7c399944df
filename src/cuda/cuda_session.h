/* A session on the device: streams, workspace, staging, captured graphs. One thread at a time.
 *
 * A call is cut into chunks of steps, and each chunk goes three ways at once:
 *
 *     copy_in      caller's input -> staging buffer on the device         chunk c + 1
 *     cuda_stream  block (ports, rows) -> device, then all kernels        chunk c
 *     copy_out     staging buffer of the outputs -> caller                chunk c - 1
 *
 * so there are two of each staging buffer, and events between the streams. A call of one chunk stays on
 * cuda_stream alone. What is in the device's memory already is read and written where it lies.
 *
 * Only two things differ from chunk to chunk, and both lie in the block: ports (where inputs and outputs are) and
 * rows (which state, how many steps). So a graph captured once runs every later chunk of its shape. */
#ifndef CY_CUDA_CUDA_SESSION_H
#define CY_CUDA_CUDA_SESSION_H

#include "backend.h"
#include "cuda/cuda_model.h"
#include "cuda/cuda_plan.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#define CY_CUDA_RING \
    8 /* blocks in flight: so many chunks may wait before the host does */

#define CY_CUDA_FEW_ROWS \
    32 /* so many take little more than one: a step of them is bound by reading the weights */

/* Values of one layer. */
typedef struct cy_cuda_values {
    void *
        y; /* [steps][rows][width] of type, or [rows][width] without a time axis; NULL: none */
    cy_cuda_type type;
    void *h_before;  /* LSTM [rows][units] of the model's type: h before the chunk */
    float *c, *last; /* LSTM [rows][units] */
} cy_cuda_values;

/* Host memory that a chunk passes through, and its twin on the device. */
typedef struct cy_cuda_staging {
    unsigned char *device, *pinned;
    cudaEvent_t copied; /* the last copy between the two is done */
    cudaEvent_t free;   /* kernels are done with the device's part */
} cy_cuda_staging;

/* The block of one chunk: [room for a small input][ports][rows], copied in one piece. */
typedef struct cy_cuda_block {
    unsigned char *pinned;
    cudaEvent_t copied;
} cy_cuda_block;

/* What part of a call a chunk is; each has other kernels at its ends. */
typedef enum cy_cuda_part {
    CY_CUDA_PART_MIDDLE, /* not the last */
    CY_CUDA_PART_LAST,   /* values without a time axis follow */
    CY_CUDA_PART_ONLY,   /* first and last: no row continues */
    CY_CUDA_PART_COUNT
} cy_cuda_part;

/* What to enqueue. */
typedef struct cy_cuda_chunk {
    unsigned rows;      /* that have steps in this chunk: a prefix of ran_rows */
    unsigned ran_rows;  /* that have steps in this call: a prefix of all_rows */
    unsigned room_rows; /* that outputs of every step have a place for in this chunk, and
                           those before them: all of a padded call, of a packed one few more than rows */
    unsigned all_rows;  /* in the block */
    unsigned steps;
    cy_cuda_part part;
    const cy_cuda_lstm_plan
        *forced; /* for LSTM layers that can be computed so; NULL: the plan chooses */
} cy_cuda_chunk;

typedef struct cy_cuda_graph {
    carry_graph_shape shape;
    cudaGraphExec_t parts[CY_CUDA_PART_COUNT];
    struct cy_cuda_graph *next; /* in falling order of steps, then rising of rows */
} cy_cuda_graph;

typedef struct cy_cuda_session {
    const cy_cuda_model *model;
    cy_limits limits;
    size_t row_steps; /* of a chunk: capacity of every buffer with a time axis */
    cudaStream_t cuda_stream, copy_in, copy_out;
    bool own_stream;
    cublasHandle_t cublas; /* NULL: exact */

    /* one block of device memory, one of pinned memory */
    void *memory, *pinned;
    size_t workspace_bytes;
    void *cublas_memory;
    size_t cublas_bytes;
    unsigned char *block;     /* the device's, laid out like a cy_cuda_block */
    size_t inline_bytes;      /* room for a small input before the ports */
    cy_cuda_port *ports;      /* the device's: [0] input, [1 + o] output o */
    cy_cuda_row *rows;        /* the device's, [max_rows] */
    unsigned *bad_ids;        /* the device's counter ... */
    unsigned *bad_ids_pinned; /* ... and where it is read */
    unsigned char
        *scratch; /* the values, operand and z: nothing is kept there between calls */
    size_t
        scratch_bytes; /* of each LSTM more than its state and 128: c, last, h_before, y */
    void *operand;     /* [row_steps][widest input] of the model's type */
    float *z;          /* [row_steps][4 * most units] */
    cy_cuda_values *values; /* [layer_count], host */
    cy_cuda_staging in[2];
    cy_cuda_staging out[2]; /* outputs with every step, side by side */
    cy_cuda_staging at_end; /* the others: [rows][width] each */
    size_t *out_offset;     /* [output_count], host: of this call's staged outputs */
    uint32_t *
        caller_order; /* [max_rows], host: which of this call's rows the caller's i-th is */
    /* [output_count], host: every output is wanted, as the model declares it, or its last step alone. No arrays. */
    cy_run_output *declared, *last_steps;
    cy_cuda_block ring[CY_CUDA_RING];
    unsigned ring_turn;
    cudaEvent_t
        began; /* a call's work on cuda_stream may begin: what was enqueued before it */

    cy_cuda_graph *graphs;
    uint32_t graph_count;
    uint64_t graph_chunks, plain_chunks;
    bool pending; /* an asynchronous call may still be going on */
    bool dead;
    char why_dead[256];
} cy_cuda_session;

carry_status cy_cuda_session_open(cy_cuda_model *model, const cy_limits *limits,
                                  cy_cuda_session **session);
void cy_cuda_session_close(cy_cuda_session *session);

/* Every call on a session is between these two. enter makes its device current, and finds out whether an earlier
 * asynchronous call has failed; run/ asks before whether the session is alive. */
carry_status cy_cuda_session_enter(cy_cuda_session *session, cy_cuda_scope *scope);
/* Passes `status` on. After a failure nothing is left running, and the session is dead if the device is. */
carry_status cy_cuda_session_leave(cy_cuda_session *session, const cy_cuda_scope *scope,
                                   carry_status status);

/* Waits for all that was enqueued. Where an asynchronous call was among it, a failure has cost the states. */
carry_status cy_cuda_session_sync(cy_cuda_session *session, const char *what);

/* The device is gone, and the states with it; the thread's sentence says why. */
void cy_cuda_session_die(cy_cuda_session *session);

/* Kernels of one chunk, on cuda_stream (cuda_compute.c). Of outputs it reads which are wanted, and all_steps. */
carry_status cy_cuda_compute(cy_cuda_session *session, const cy_cuda_chunk *chunk,
                             const cy_run_output *outputs);
/* out = a * b, or += : cuBLAS, or with `exact` the kernel that p describes. */
carry_status cy_cuda_session_product(const cy_cuda_session *session,
                                     const cy_cuda_product *p);
/* The products of a layer, but for how many rows: of its input (LSTM, Dense), from operand, and of h before a chunk. */
cy_cuda_product cy_cuda_input_product(const cy_cuda_session *session,
                                      const cy_cuda_layer *layer);
cy_cuda_product cy_cuda_recurrent_product(const cy_cuda_session *session,
                                          const cy_cuda_layer *layer);
/* How an LSTM layer would be computed. */
cy_cuda_lstm_plan cy_cuda_session_lstm_plan(const cy_cuda_session *session,
                                            const cy_cuda_layer *layer, unsigned rows,
                                            unsigned steps, cy_cuda_lstm_shape *shape);

/* A whole call (cuda_run.c). */
carry_status cy_cuda_run(cy_cuda_session *session, const cy_run *run);

/* Uses once whatever a call may use, while the session is opened (cuda_load.c). */
carry_status cy_cuda_session_load(cy_cuda_session *session);

/* Captured launches (cuda_graph.c). */
carry_status cy_cuda_graph_capture(cy_cuda_session *session,
                                   const carry_graph_shape *shapes, size_t count);
/* The graph that runs the next chunk: `rows` rows of which `alive` have steps in it, at most `left` steps; NULL: none
 * was captured. */
const cy_cuda_graph *cy_cuda_graph_find(const cy_cuda_session *session, unsigned rows,
                                        unsigned alive, size_t left);
void cy_cuda_graph_close(cy_cuda_session *session);

#endif
