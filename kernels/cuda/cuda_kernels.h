/* The CUDA kernels' launchers: what src/cuda calls. Plain C.
 *
 *     cy_cuda_lstm_gather   h of every row, from where its state lies: operand of the first product
 *     cy_cuda_lstm_cell     all of an LSTM step behind the products
 *     cy_cuda_dense_output  bias, activation, and the way to the caller's rows
 *     cy_cuda_embedding     ids to vectors
 *
 * All pointers are device memory unless a comment says otherwise; the structs themselves are copied at
 * the call. A launcher only enqueues; it returns cudaErrorInvalidValue for sizes that it cannot index
 * (more than 2^31 - 1 elements) or combinations it does not have, and otherwise what the launch returned.
 *
 * rows: a call is cut into chunks of steps. The host rewrites this array before each chunk and nothing
 * else, so that a captured graph can run every chunk of every call:
 *
 *     steps      steps the row still has, counted from the chunk's first; 0: it rests, and nothing of it
 *                is read or written
 *     read       the version of its state to start from, NULL: zeros (a new or a reset sequence)
 *     CONTINUES  set from its second chunk on: the state is in the workspace, read is not looked at
 *     write      the other version, where its last step leaves the state; NULL: not kept
 *     index      its place in the caller's arrays
 */
#ifndef CY_KERNELS_CUDA_CUDA_KERNELS_H
#define CY_KERNELS_CUDA_CUDA_KERNELS_H

#include "kernels/activation.h"

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CY_CUDA_ROW_CONTINUES = 1 };

typedef struct cy_cuda_row {
    const float *read;
    float *write;
    unsigned steps;
    unsigned index;
    unsigned flags;
    unsigned unused; /* so that the size is a multiple of 8 by itself */
} cy_cuda_row;

/* What products are made of; sums, states and gates are float always. */
typedef enum cy_cuda_type { CY_CUDA_F32, CY_CUDA_BF16, CY_CUDA_F16 } cy_cuda_type;

typedef struct cy_cuda_lstm_cell {
    const cy_cuda_row *rows; /* [row_count] */
    float *z; /* [row_count][units][4], rows z_stride apart, a multiple of 4, aligned
                              to 16 bytes: x and h products without bias; scratch afterwards */
    const float *bias; /* [units][4], aligned to 16 bytes; NULL: none */
    float *c;          /* [row_count][units]: c between the steps */
    void *h;           /* [row_count][units] of h_type: operand of the next product */
    float *
        y; /* [row_count][units], rows y_stride apart: h, zeros for rows that rest at this
                    step; NULL: not wanted */
    float *
        last; /* [row_count][units]: h of each row's last step, untouched until then; NULL */
    size_t z_stride, y_stride; /* in floats */
    size_t h_offset, c_offset; /* of this layer's h and c in a state, in floats */
    unsigned row_count, units;
    unsigned step; /* of the chunk, from 0 */
    cy_cuda_type h_type;
    cy_activation activation, recurrent_activation;
} cy_cuda_lstm_cell;

cudaError_t cy_cuda_lstm_cell_launch(const cy_cuda_lstm_cell *cell,
                                     cudaStream_t cuda_stream);

/* h[row] = the state's h, or zeros, for rows that begin in this chunk; others are untouched. */
typedef struct cy_cuda_lstm_gather {
    const cy_cuda_row *rows; /* [row_count] */
    void *h;                 /* [row_count][units] of h_type */
    size_t h_offset;
    unsigned row_count, units;
    cy_cuda_type h_type;
} cy_cuda_lstm_gather;

cudaError_t cy_cuda_lstm_gather_launch(const cy_cuda_lstm_gather *gather,
                                       cudaStream_t cuda_stream);

/* out(step, row) = activation(z + bias), zeros where the row rests. */
typedef struct cy_cuda_dense_output {
    const cy_cuda_row
        *rows;         /* [row_count]; NULL: no row rests, and each is its own index */
    const float *z;    /* [step_count][row_count][width] */
    const float *bias; /* [width]; NULL: none */
    float *out;        /* (step, row) at out + index * row_stride + step * step_stride;
                                may be z where that is the same place */
    size_t row_stride, step_stride; /* in floats */
    unsigned step_count, row_count, width;
    cy_activation activation;
} cy_cuda_dense_output;

cudaError_t cy_cuda_dense_output_launch(const cy_cuda_dense_output *dense,
                                        cudaStream_t cuda_stream);

/* out(step, row) = table[id], zeros where the row rests (its id is not read), NaN where the id is outside
 * the table, which is also counted in *bad_ids. */
typedef struct cy_cuda_embedding {
    const cy_cuda_row *rows; /* [row_count] */
    const int *ids;          /* (step, row) at ids + index * ids_stride + step */
    const float *table;      /* [id_count][width] */
    float *out;              /* [step_count][row_count][width] */
    unsigned *bad_ids;       /* NULL: not counted */
    size_t ids_stride;
    unsigned id_count, width, step_count, row_count;
} cy_cuda_embedding;

cudaError_t cy_cuda_embedding_launch(const cy_cuda_embedding *embedding,
                                     cudaStream_t cuda_stream);

#ifdef __cplusplus
}
#endif

#endif
