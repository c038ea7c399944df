/* The way of one chunk's data: inputs in, the block of ports and rows, outputs out. See cuda_session.h. */
#ifndef CY_CUDA_CUDA_STAGE_H
#define CY_CUDA_CUDA_STAGE_H

#include "cuda/cuda_session.h"

/* A call of cy_cuda_run. */
typedef struct cy_cuda_call {
    cy_cuda_session *session;
    const cy_run *run;
    cudaStream_t in, out; /* copy_in and copy_out; with one chunk, cuda_stream */
    bool one_chunk;
    unsigned ran_rows;
    size_t total_steps; /* over all chunks, those of the longest row */
} cy_cuda_call;

/* One of its chunks, all of it within the call's max_steps. */
typedef struct cy_cuda_span {
    size_t number; /* from 0 */
    size_t first_step;
    cy_cuda_chunk chunk;
    unsigned block_rows; /* rows the kernels see: all_rows, or those of a graph */
    size_t in_steps,
        out_steps; /* of all rows, in the staging buffers of the input, of outputs */
} cy_cuda_span;

/* Sets in_steps and out_steps. A staging buffer holds the chunk's rows in the caller's order: of a padded call every
 * row with all of the chunk's steps; of a packed one no padding either: the steps that a row has, of outputs those that
 * it has room for. */
void cy_cuda_stage_measure(const cy_cuda_call *call, cy_cuda_span *span);

/* Everything the kernels of the chunk need is on its way, in the order of cuda_stream. */
carry_status cy_cuda_stage_in(const cy_cuda_call *call, const cy_cuda_span *span);

/* Behind the kernels of the chunk: staged outputs start for the host. */
carry_status cy_cuda_stage_out(const cy_cuda_call *call, const cy_cuda_span *span);

/* Waits for a chunk's outputs and puts those for ordinary host memory in their place. */
carry_status cy_cuda_stage_finish(const cy_cuda_call *call, const cy_cuda_span *span);

/* The same for outputs of the whole call: stage_end after the last chunk, finish_end when cuda_stream was waited
 * for. Both write the zeros behind the last chunk: into arrays that the device reaches, and into the host's. */
carry_status cy_cuda_stage_end(const cy_cuda_call *call);
void cy_cuda_stage_finish_end(const cy_cuda_call *call);

#endif
