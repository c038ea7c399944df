/* The CUDA kernels' launchers: what src/cuda calls. Plain C.
 *
 *     cy_cuda_gather        a layer's input as the operand of a product
 *     cy_cuda_embedding     ids to vectors, likewise
 *     cy_cuda_product       out (+)= a * b, in an order of its own, for `exact`
 *     cy_cuda_lstm_begin    h of every row before a chunk, from where its state lies
 *     cy_cuda_lstm_cell     all of an LSTM step behind the products
 *     cy_cuda_lstm_step     a whole LSTM step of few rows, products included; _mma: on tensor cores
 *     cy_cuda_dense_output  bias and activation of a product
 *     cy_cuda_scatter       values of a chunk, or after the last one, to the caller's rows
 *     cy_cuda_states        whole states from the pool's memory side by side, and back, between calls
 *
 * All pointers are device memory unless a comment says otherwise; the structs themselves are copied at
 * the call. A launcher only enqueues; it returns cudaErrorInvalidValue for sizes that it cannot index
 * (more than 2^31 - 1 elements) or combinations it does not have, and otherwise what the launch returned.
 *
 * A call is cut into chunks of steps. What differs from chunk to chunk and from call to call lies in device
 * memory, rows and ports, and the host rewrites that before each chunk and nothing else, so that a captured
 * graph can run every chunk of every call.
 *
 * Values of a chunk lie packed as [step][row][width]; of those without a time axis as [row][width].
 */
#ifndef CY_KERNELS_CUDA_CUDA_KERNELS_H
#define CY_KERNELS_CUDA_CUDA_KERNELS_H

#include "kernels/activation.h"

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What values, weights and operands are made of; sums, states and gates are float always. */
typedef enum cy_cuda_type { CY_CUDA_F32, CY_CUDA_BF16, CY_CUDA_F16 } cy_cuda_type;

enum {
    CY_CUDA_ROW_CONTINUES =
        1, /* set from a row's second chunk on: its h and c are in the workspace (last and c),
                                  read is not looked at */
    CY_CUDA_ROW_ABSENT =
        2 /* no row: it rests, and no port has a place for it. Fills up a graph's rows */
};

/* One row of a call, for one chunk. */
typedef struct cy_cuda_row {
    const float *
        read; /* the version of its state to start from; NULL: zeros (a new or a reset sequence) */
    float *
        write; /* the other version, where its last step leaves the state; NULL: not kept */
    unsigned
        steps; /* it still has, counted from the chunk's first; 0: it rests in this chunk, and
                          nothing of it is read or written */
    unsigned
        index; /* its place in the caller's arrays, if they have a place for every row alike */
    unsigned flags;
    /* Packed arrays, where rows have as much room as they need: */
    unsigned
        room; /* steps that it has a place for in arrays of outputs, counted as steps is, >= steps */
    size_t first; /* where it begins, in steps: in the caller's arrays ... */
    unsigned staged_in,
        staged_out; /* ... in the staging buffers of the input, of outputs */
} cy_cuda_row;

/* Which of a row's numbers says where it begins in an array. */
typedef enum cy_cuda_by {
    CY_CUDA_BY_INDEX, /* every row has room for all steps; what follows is for packed arrays */
    CY_CUDA_BY_FIRST,
    CY_CUDA_BY_STAGED_IN,
    CY_CUDA_BY_STAGED_OUT
} cy_cuda_by;

/* One array of the caller's, or the staging buffer that stands for it, from the chunk's first step on:
 * (step, row) at element  begin * row_stride + step * step_stride  of data, with the begin that `by` names. Of a packed
 * array both strides are the width. Ids are int, whatever type says. */
typedef struct cy_cuda_port {
    void *data;
    size_t row_stride, step_stride; /* in elements */
    cy_cuda_type type;
    cy_cuda_by by;
} cy_cuda_port;

/* ---- inputs ---------------------------------------------------------------------------------- */

/* out(step, row) = in(step, row), or of the row's steps taken backwards: in(row.steps - 1 - step, row), which
 * asks for a chunk that holds all of the row's steps. Zeros where the row rests. */
typedef struct cy_cuda_gather {
    const cy_cuda_row *rows; /* [row_count] */
    const cy_cuda_port
        *port; /* the caller's array; NULL: in, of in_type, [step][row][width] */
    const void *in;
    void *out; /* [step_count][row_count][width] of out_type */
    unsigned step_count, row_count, width;
    unsigned backwards; /* 0 or 1 */
    cy_cuda_type in_type, out_type;
} cy_cuda_gather;

cudaError_t cy_cuda_gather_launch(const cy_cuda_gather *gather, cudaStream_t cuda_stream);

/* out(step, row) = table[id], zeros where the row rests (its id is not read), NaN where the id is outside
 * the table, which is also counted in *bad_ids. */
typedef struct cy_cuda_embedding {
    const cy_cuda_row *rows;  /* [row_count] */
    const cy_cuda_port *port; /* the ids, int */
    const float *table;       /* [id_count][width] */
    void *out;                /* [step_count][row_count][width] of out_type */
    unsigned *bad_ids;        /* NULL: not counted */
    unsigned id_count, width, step_count, row_count;
    cy_cuda_type out_type;
} cy_cuda_embedding;

cudaError_t cy_cuda_embedding_launch(const cy_cuda_embedding *embedding,
                                     cudaStream_t cuda_stream);

/* ---- products -------------------------------------------------------------------------------- */

/* out = a * b, or out += a * b. Order: k is cut into slices of cy_cuda_slice(depth) numbers; a slice is summed
 * from 0 by one fused multiply-add for each k, and the slices' sums are added to the element, first to last,
 * which starts at what out holds (accumulate) or at 0. So an element's bits depend on its row of a, its column
 * of b and depth alone, and lstm_step, which keeps the same order, leaves the same bits. */
typedef struct cy_cuda_product {
    const void *a; /* [rows][depth] of type */
    const void *b; /* [depth][columns] of type */
    float *out;    /* [rows][columns] */
    unsigned rows, columns, depth;
    unsigned accumulate; /* 0 or 1 */
    cy_cuda_type type;
} cy_cuda_product;

cudaError_t cy_cuda_product_launch(const cy_cuda_product *product,
                                   cudaStream_t cuda_stream);

/* The fewest rows, of more than `rows`, that another kernel does; 0: none. So 1 and what this returns, again and
 * again, are one number of rows for each kernel. */
unsigned cy_cuda_product_more_rows(unsigned rows, unsigned columns);

/* Numbers in a slice: a multiple of 4, so that there are 32 slices at most. */
#ifdef __CUDACC__
__host__ __device__
#endif
    static inline unsigned
    cy_cuda_slice(unsigned depth)
{
    return depth <= 128 ? 4 : (depth + 127) / 128 * 4;
}

/* ---- LSTM ------------------------------------------------------------------------------------ */

/* h[row] of rows that have steps in this chunk: last of a row that continues, else the state's h, or zeros. */
typedef struct cy_cuda_lstm_begin {
    const cy_cuda_row *rows; /* [row_count] */
    void *h;           /* [row_count][units] of h_type: operand of the first product */
    const float *last; /* [row_count][units] */
    size_t h_offset;   /* of this layer's h in a state, in floats */
    unsigned row_count, units;
    cy_cuda_type h_type;
} cy_cuda_lstm_begin;

cudaError_t cy_cuda_lstm_begin_launch(const cy_cuda_lstm_begin *begin,
                                      cudaStream_t cuda_stream);

typedef struct cy_cuda_lstm_cell {
    const cy_cuda_row *rows; /* [row_count] */
    float *
        z; /* [row_count][units][4], aligned to 16 bytes: x and h products without bias; scratch
                 afterwards */
    const float *bias; /* [units][4], aligned to 16 bytes; NULL: none */
    float *c; /* [row_count][units]: c between the steps, and after the row's last one */
    void *
        h; /* [row_count][units] of h_type: this step's h, operand of the next products; zeros for
                          rows that rest at this step */
    float *
        last; /* [row_count][units]: h of each row's last step in this chunk, or of the chunk's last */
    size_t h_offset, c_offset; /* of this layer's h and c in a state, in floats */
    unsigned row_count, units;
    unsigned step, step_count; /* of the chunk, from 0; steps in the chunk */
    cy_cuda_type h_type;
    cy_activation activation, recurrent_activation;
} cy_cuda_lstm_cell;

cudaError_t cy_cuda_lstm_cell_launch(const cy_cuda_lstm_cell *cell,
                                     cudaStream_t cuda_stream);

/* One step of one layer in one kernel. Where x is given, z is not, and the kernel does the input product too:
 * for calls of one step. h_prev may be missing at step 0 of a call's first chunk: then h is taken where
 * lstm_begin would (rounded to h_type like any operand), and nothing goes before the step; no row may CONTINUE,
 * since all blocks would read of last what others write. Not for activations that span the row. */
typedef struct cy_cuda_lstm_step {
    cy_cuda_lstm_cell
        cell; /* z: [row_count][units][4] the input products of this step, only read; NULL: x or
                               x_port. h_type is the type of all operands */
    const void *h_prev;    /* [row_count][units] of h_type, not cell.h; NULL: see above */
    const void *recurrent; /* [units][units][4] of h_type: k, unit, gate */
    const void *x;         /* [row_count][features] of h_type */
    const cy_cuda_port *x_port; /* the caller's array, rounded to h_type; goes before x */
    const void *kernel;         /* [features][units][4] of h_type */
    const cy_cuda_port *
        y_port; /* also leaves h there, at this step, as scatter's EVERY_STEP does; NULL: not */
    unsigned features; /* 0 with z */
    unsigned
        y_rounded; /* 1: y_port gets h as cell.h holds it; 0: as it was before it was rounded to h_type */
} cy_cuda_lstm_step;

cudaError_t cy_cuda_lstm_step_launch(const cy_cuda_lstm_step *step,
                                     cudaStream_t cuda_stream);

/* The same on tensor cores, for 8 to some 64 rows: sm_80 and later, bf16 or f16 operands, tanh and sigmoid,
 * units and features multiples of 8. The weights are packed alike. Its sums have an order of their own, not that of
 * cy_cuda_product; a row's do not depend on its neighbours. prepare, once for the type on the current device, goes before
 * the first launch there: it asks for more shared memory than a kernel has by itself. */
cudaError_t cy_cuda_lstm_step_mma_prepare(cy_cuda_type type);
cudaError_t cy_cuda_lstm_step_mma_launch(const cy_cuda_lstm_step *step,
                                         cudaStream_t cuda_stream);

/* ---- outputs --------------------------------------------------------------------------------- */

/* z(step, row) = activation(z + bias), zeros where the row rests. */
typedef struct cy_cuda_dense_output {
    const cy_cuda_row *rows; /* [row_count]; NULL: no row rests */
    float *z;                /* [step_count][row_count][width] */
    const float *bias;       /* [width]; NULL: none */
    unsigned step_count, row_count, width;
    cy_activation activation;
} cy_cuda_dense_output;

cudaError_t cy_cuda_dense_output_launch(const cy_cuda_dense_output *dense,
                                        cudaStream_t cuda_stream);

typedef enum cy_cuda_which {
    CY_CUDA_EVERY_STEP, /* port(step, row) = in(step, row), zeros where the row rests; nothing of a packed row
                           beyond its room */
    CY_CUDA_LAST_STEP, /* port(0, row) = in(row.steps - 1, row) of rows that end in this chunk; zeros for rows
                           that never had a step (steps 0 and not CONTINUES); other rows untouched */
    CY_CUDA_AFTER /* in is [row][width], after the last chunk: port(0, row) = in(row) of rows that ran (CONTINUES,
                     or steps in this chunk); of the others the state's tensor at state_offset of row.read, zeros
                     where read is NULL or state_offset is CY_CUDA_NO_STATE */
} cy_cuda_which;

#define CY_CUDA_NO_STATE ((size_t)-1)

typedef struct cy_cuda_scatter {
    const cy_cuda_row *rows; /* [row_count] */
    const void *in; /* of in_type, [step_count][row_count][width] or [row_count][width] */
    const cy_cuda_port *port; /* the caller's array */
    size_t state_offset;      /* CY_CUDA_AFTER */
    unsigned step_count, row_count, width;
    unsigned
        in_row_count; /* rows of a step of in: the first of the row_count; those behind rest */
    cy_cuda_type in_type;
    cy_cuda_which which;
} cy_cuda_scatter;

cudaError_t cy_cuda_scatter_launch(const cy_cuda_scatter *scatter,
                                   cudaStream_t cuda_stream);

/* ---- states ---------------------------------------------------------------------------------- */

/* gather: packed(i) = *states[i], zeros where states[i] is NULL. scatter: *states[i] = packed(i), nothing where it is NULL;
 * no state is named twice. Bits are moved, not numbers. */
typedef struct cy_cuda_states {
    float *const *states;  /* [count], each [width], aligned to 16 bytes */
    float *packed;         /* [count][width], likewise */
    unsigned count, width; /* width a multiple of 4 */
} cy_cuda_states;

cudaError_t cy_cuda_states_gather_launch(const cy_cuda_states *states,
                                         cudaStream_t cuda_stream);
cudaError_t cy_cuda_states_scatter_launch(const cy_cuda_states *states,
                                          cudaStream_t cuda_stream);

#ifdef __cplusplus
}
#endif

#endif
