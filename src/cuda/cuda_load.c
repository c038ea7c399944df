/* First use, while a session is opened. CUDA loads a kernel when it is first launched, and cuBLAS one of its own when it
 * first gets a product of a kind: that allocates, and may wait for the whole device. So whatever a call could need is
 * used here: chunks of rows that are all absent, once in each way that an LSTM layer can be computed, and the products
 * for numbers of rows that different kernels do; and what moves states to a file and back. No row reads or writes a state
 * or an array; the workspace is scratch. */
#include "base/mem.h"
#include "cuda/cuda_error.h"
#include "cuda/cuda_session.h"

/* cuBLAS chooses by the size, nobody says where: one product between two powers of two, the last of so many rows. */
#define MOST_ROWS 4096u

/* One of each kernel. lstm_step_mma has one for up to 8 rows, up to 16, and beyond. */
static const struct {
    cy_cuda_lstm_plan plan;
    unsigned rows;
} ways[] = {
    {{.algorithm = CY_CUDA_GEMM_CELL}, 1},
    {{.algorithm = CY_CUDA_STEP}, 1},
    {{.algorithm = CY_CUDA_STEP, .tensor_step = true}, 1},
    {{.algorithm = CY_CUDA_STEP, .tensor_step = true}, 9},
    {{.algorithm = CY_CUDA_STEP, .tensor_step = true}, 17},
};
enum { WAYS = sizeof ways / sizeof *ways, CHUNK_ROWS = 17 };

static carry_status absent_rows(cy_cuda_session *s)
{
    unsigned count = s->limits.max_rows < CHUNK_ROWS ? s->limits.max_rows : CHUNK_ROWS;
    cy_cuda_row *rows = (cy_cuda_row *)(void *)s->ring[0].pinned;
    for (unsigned r = 0; r < count; r++)
        rows[r] = (cy_cuda_row){.flags = CY_CUDA_ROW_ABSENT};
    CY_CUDA_TRY(cudaMemcpyAsync(s->rows, rows, count * sizeof *rows,
                                cudaMemcpyHostToDevice, s->cuda_stream),
                "copying absent rows to the device");
    return CARRY_OK;
}

static bool is_possible(const cy_cuda_session *s, const cy_cuda_lstm_plan *plan,
                        unsigned rows)
{
    bool possible = plan->algorithm == CY_CUDA_GEMM_CELL;
    for (unsigned i = 0; i < s->model->layer_count && !possible; i++) {
        const cy_cuda_layer *layer = &s->model->layers[i];
        if (layer->node->op != CY_OP_LSTM) continue;
        cy_cuda_lstm_shape shape;
        cy_cuda_session_lstm_plan(s, layer, rows, 1, &shape);
        possible = cy_cuda_plan_possible(&s->model->device, &shape, plan);
    }
    return possible && rows <= s->limits.max_rows;
}

static carry_status run_ways(cy_cuda_session *s)
{
    for (int way = 0; way < WAYS; way++) {
        unsigned rows = ways[way].rows;
        if (!is_possible(s, &ways[way].plan, rows)) continue;
        cy_cuda_chunk chunk = {.rows = rows,
                               .ran_rows = rows,
                               .room_rows = rows,
                               .all_rows = rows,
                               .steps = 1,
                               .part = CY_CUDA_PART_ONLY,
                               .forced = &ways[way].plan};
        CY_TRY(cy_cuda_compute(s, &chunk, s->declared));
        if (way == 0) CY_TRY(cy_cuda_compute(s, &chunk, s->last_steps));
    }
    return CARRY_OK;
}

/* For up to `most` rows. */
static carry_status run_product(const cy_cuda_session *s, cy_cuda_product p, size_t most)
{
    size_t rows = 1;
    if (s->cublas && most > MOST_ROWS) most = MOST_ROWS;
    while (rows > 0 && rows <= most) {
        p.rows = (unsigned)rows;
        CY_TRY(cy_cuda_session_product(s, &p));
        rows = s->cublas ? 2 * rows : cy_cuda_product_more_rows(p.rows, p.columns);
    }
    return CARRY_OK;
}

static carry_status run_products(const cy_cuda_session *s)
{
    for (unsigned i = 0; i < s->model->layer_count; i++) {
        const cy_cuda_layer *layer = &s->model->layers[i];
        size_t rows = s->limits.max_rows;
        if (layer->node->op != CY_OP_LSTM && layer->node->op != CY_OP_DENSE) continue;
        CY_TRY(run_product(s, cy_cuda_input_product(s, layer),
                           layer->node->in_time ? s->row_steps : rows));
        if (layer->node->op == CY_OP_LSTM)
            CY_TRY(run_product(s, cy_cuda_recurrent_product(s, layer), rows));
    }
    return CARRY_OK;
}

/* A state without memory. */
static carry_status move_no_state(const cy_cuda_session *s)
{
    const cy_cuda_states states = {.states = (float *const *)(void *)s->scratch,
                                   .packed = (float *)(void *)(s->scratch + CY_ALIGN),
                                   .count = 1,
                                   .width = (unsigned)s->model->graph->state_floats};
    if (states.width == 0) return CARRY_OK;
    CY_CUDA_TRY(cudaMemsetAsync(s->scratch, 0, sizeof(float *), s->cuda_stream),
                "clearing the address of a state");
    CY_CUDA_TRY(cy_cuda_states_gather_launch(&states, s->cuda_stream),
                "gathering states");
    CY_CUDA_TRY(cy_cuda_states_scatter_launch(&states, s->cuda_stream),
                "scattering states");
    return CARRY_OK;
}

carry_status cy_cuda_session_load(cy_cuda_session *s)
{
    CY_TRY(absent_rows(s));
    CY_TRY(run_ways(s));
    CY_TRY(move_no_state(s));
    return run_products(s);
}
