/* The kernels of one chunk, layer by layer. It only enqueues, reads nothing of the call but its shape and which
 * outputs are wanted, and so can be captured. */
#include "cuda/cuda_error.h"
#include "cuda/cuda_plan.h"
#include "cuda/cuda_session.h"

/* One chunk being enqueued. */
typedef struct work {
    cy_cuda_session *session;
    const cy_cuda_model *model;
    cy_cuda_chunk chunk;
    const cy_run_output *outputs;
    cy_cuda_type type;
} work;

static const cy_cuda_port *input_port(const work *w)
{
    return &w->session->ports[0];
}

static cy_cuda_values *values_of(const work *w, const cy_cuda_layer *layer)
{
    return &w->session->values[layer - w->model->layers];
}

/* Rows of a layer's values: behind the last chunk those of all rows that ran. */
static unsigned rows_of(const work *w, const cy_cuda_layer *layer)
{
    return layer->node->in_time ? w->chunk.rows : w->chunk.ran_rows;
}

static void *at_step(void *values, cy_cuda_type type, size_t step, size_t rows,
                     size_t width)
{
    return (unsigned char *)values + step * rows * width * cy_cuda_type_bytes(type);
}

/* ---- products ------------------------------------------------------------------------------- */

/* cuBLAS counts columns first, so it is given the transposed problem, which is the same memory. */
carry_status cy_cuda_session_product(const cy_cuda_session *s, const cy_cuda_product *p)
{
    if (!s->cublas) {
        CY_CUDA_TRY(cy_cuda_product_launch(p, s->cuda_stream), "launching a product");
        return CARRY_OK;
    }
    static const cudaDataType types[] = {CUDA_R_32F, CUDA_R_16BF, CUDA_R_16F};
    const float one = 1, beta = p->accumulate ? 1 : 0;
    const int rows = (int)p->rows, columns = (int)p->columns, depth = (int)p->depth;
    cublasComputeType_t compute = s->model->precision == CARRY_COMPUTE_TF32
                                      ? CUBLAS_COMPUTE_32F_FAST_TF32
                                      : CUBLAS_COMPUTE_32F;
    CY_CUBLAS_TRY(cublasGemmEx(s->cublas, CUBLAS_OP_N, CUBLAS_OP_N, columns, rows, depth,
                               &one, p->b, types[p->type], columns, p->a, types[p->type],
                               depth, &beta, p->out, CUDA_R_32F, columns, compute,
                               CUBLAS_GEMM_DEFAULT),
                  "a product");
    return CARRY_OK;
}

cy_cuda_product cy_cuda_input_product(const cy_cuda_session *s,
                                      const cy_cuda_layer *layer)
{
    bool gates = layer->node->op == CY_OP_LSTM;
    return (cy_cuda_product){.a = s->operand,
                             .b = layer->kernel,
                             .out = gates ? s->z : s->values[layer - s->model->layers].y,
                             .columns = gates ? 4 * layer->width : layer->width,
                             .depth = layer->in,
                             .type = s->model->type};
}

cy_cuda_product cy_cuda_recurrent_product(const cy_cuda_session *s,
                                          const cy_cuda_layer *layer)
{
    return (cy_cuda_product){.a = s->values[layer - s->model->layers].h_before,
                             .b = layer->recurrent,
                             .out = s->z,
                             .columns = 4 * layer->width,
                             .depth = layer->width,
                             .accumulate = 1,
                             .type = s->model->type};
}

/* ---- values --------------------------------------------------------------------------------- */

/* Where a value of the chunk lies and what it is made of; NULL: it is the model's input. */
static const void *value_of(const work *w, cy_value value, cy_cuda_type *type)
{
    if (value.node < 0) return NULL;
    const cy_cuda_layer *layer = &w->model->layers[value.node];
    const cy_cuda_values *values = values_of(w, layer);
    *type = CY_CUDA_F32;
    if (value.port == CY_PORT_C) return values->c;
    if (value.port == CY_PORT_H ||
        (layer->node->op == CY_OP_LSTM && !layer->node->out_time))
        return values->last;
    *type = values->type;
    return values->y;
}

/* out = the layer's input as `type`, packed, in the order the layer takes it. */
static carry_status gather(const work *w, const cy_cuda_layer *layer, void *out,
                           cy_cuda_type type)
{
    cy_cuda_gather g = {.rows = layer->node->in_time ? w->session->rows : NULL,
                        .out = out,
                        .step_count = layer->node->in_time ? w->chunk.steps : 1,
                        .row_count = rows_of(w, layer),
                        .width = layer->in,
                        .backwards = layer->node->go_backwards,
                        .out_type = type};
    g.in = value_of(w, layer->source, &g.in_type);
    if (!g.in) g.port = input_port(w);
    CY_CUDA_TRY(cy_cuda_gather_launch(&g, w->session->cuda_stream), "launching a gather");
    return CARRY_OK;
}

/* The layer's input as an operand: where it lies if it can be used as it is, else gathered. */
static carry_status operand(const work *w, const cy_cuda_layer *layer,
                            const void **operand)
{
    cy_cuda_type type;
    *operand = value_of(w, layer->source, &type);
    if (*operand && type == w->type && !layer->node->go_backwards) return CARRY_OK;
    *operand = w->session->operand;
    return gather(w, layer, w->session->operand, w->type);
}

/* ---- LSTM ----------------------------------------------------------------------------------- */

cy_cuda_lstm_plan cy_cuda_session_lstm_plan(const cy_cuda_session *session,
                                            const cy_cuda_layer *layer, unsigned rows,
                                            unsigned steps, cy_cuda_lstm_shape *shape)
{
    *shape =
        (cy_cuda_lstm_shape){.features = layer->in,
                             .units = layer->width,
                             .rows = rows,
                             .steps = steps,
                             .type = session->model->type,
                             .activation = layer->node->activation,
                             .recurrent_activation = layer->node->recurrent_activation,
                             .exact = session->cublas == NULL,
                             .tf32 = session->model->precision == CARRY_COMPUTE_TF32};
    return cy_cuda_plan_lstm(&session->model->device, shape);
}

/* The output that a call of one step can get from the step kernel itself; -1: none. */
static int direct_output(const work *w, const cy_cuda_layer *layer)
{
    if (w->chunk.part != CY_CUDA_PART_ONLY || w->chunk.steps != 1 ||
        w->chunk.rows != w->chunk.all_rows)
        return -1;
    for (uint32_t o = 0; o < w->model->graph->output_count; o++) {
        cy_value value = w->model->outputs[o];
        if (value.node == (int32_t)(layer - w->model->layers) &&
            value.port == CY_PORT_Y && w->outputs[o].data)
            return (int)o;
    }
    return -1;
}

static bool is_step(cy_cuda_algorithm algorithm)
{
    return algorithm != CY_CUDA_GEMM_CELL;
}

static cy_cuda_lstm_plan plan_of(const work *w, const cy_cuda_layer *layer)
{
    cy_cuda_lstm_shape shape;
    cy_cuda_lstm_plan plan = cy_cuda_session_lstm_plan(w->session, layer, w->chunk.rows,
                                                       w->chunk.steps, &shape);
    const cy_cuda_lstm_plan *forced = w->chunk.forced;
    return forced && cy_cuda_plan_possible(&w->model->device, &shape, forced) ? *forced
                                                                              : plan;
}

static carry_status launch_step(const work *w, const cy_cuda_lstm_step *step, bool tensor)
{
    CY_CUDA_TRY(tensor ? cy_cuda_lstm_step_mma_launch(step, w->session->cuda_stream)
                       : cy_cuda_lstm_step_launch(step, w->session->cuda_stream),
                "launching an LSTM step");
    return CARRY_OK;
}

static carry_status lstm_begin(const work *w, const cy_cuda_layer *layer)
{
    const cy_cuda_values *values = values_of(w, layer);
    cy_cuda_lstm_begin begin = {
        .rows = w->session->rows,
        .h = values->h_before,
        .last = values->last,
        .h_offset = w->model->graph->states[layer->node->first_state].offset,
        .row_count = w->chunk.rows,
        .units = layer->width,
        .h_type = w->type};
    CY_CUDA_TRY(cy_cuda_lstm_begin_launch(&begin, w->session->cuda_stream),
                "launching the beginning of an LSTM");
    return CARRY_OK;
}

static carry_status lstm(const work *w, const cy_cuda_layer *layer)
{
    const cy_cuda_values *values = values_of(w, layer);
    const cy_state_tensor *states = &w->model->graph->states[layer->node->first_state];
    const unsigned rows = w->chunk.rows, steps = w->chunk.steps, units = layer->width;
    cy_cuda_lstm_plan plan = plan_of(w, layer);
    cy_cuda_algorithm algorithm = plan.algorithm;

    cy_cuda_lstm_step step = {
        .cell = {.rows = w->session->rows,
                 .bias = layer->bias,
                 .c = values->c,
                 .last = values->last,
                 .h_offset = states[0].offset,
                 .c_offset = states[1].offset,
                 .row_count = rows,
                 .units = units,
                 .step_count = steps,
                 .h_type = w->type,
                 .activation = layer->node->activation,
                 .recurrent_activation = layer->node->recurrent_activation},
        .recurrent = layer->recurrent};
    const void *x = NULL;
    if (algorithm == CY_CUDA_STEP_X) {
        step.kernel = layer->kernel;
        step.features = layer->in;
        int output = direct_output(w, layer);
        if (output >= 0) step.y_port = &w->session->ports[1 + output];
        step.y_rounded = layer->node->out_time; /* as scatter finds it in values.y */
        if (layer->source.node < 0) step.x_port = input_port(w);
        else CY_TRY(operand(w, layer, &step.x));
    } else {
        CY_TRY(operand(w, layer, &x));
        cy_cuda_product inputs = cy_cuda_input_product(w->session, layer);
        inputs.a = x;
        inputs.rows = steps * rows;
        CY_TRY(cy_cuda_session_product(w->session, &inputs));
    }
    /* At the first step of a call the step kernel reads the states itself. */
    bool begins_itself = is_step(algorithm) && w->chunk.part == CY_CUDA_PART_ONLY;
    if (!begins_itself) CY_TRY(lstm_begin(w, layer));

    cy_cuda_product recurrent = cy_cuda_recurrent_product(w->session, layer);
    recurrent.rows = rows;
    const void *h = begins_itself ? NULL : values->h_before;
    for (unsigned s = 0; s < steps; s++) {
        step.cell.step = s;
        step.cell.z = algorithm == CY_CUDA_STEP_X ? NULL
                                                  : at_step(w->session->z, CY_CUDA_F32, s,
                                                            rows, 4 * (size_t)units);
        step.cell.h = at_step(values->y, w->type, s, rows, units);
        step.h_prev = h;
        if (is_step(algorithm)) {
            CY_TRY(launch_step(w, &step, plan.tensor_step));
        } else {
            recurrent.a = h;
            recurrent.out = step.cell.z;
            CY_TRY(cy_cuda_session_product(w->session, &recurrent));
            CY_CUDA_TRY(cy_cuda_lstm_cell_launch(&step.cell, w->session->cuda_stream),
                        "launching an LSTM cell");
        }
        h = step.cell.h;
    }
    return CARRY_OK;
}

/* ---- the other layers ----------------------------------------------------------------------- */

static carry_status embedding(const work *w, const cy_cuda_layer *layer)
{
    const cy_cuda_values *values = values_of(w, layer);
    cy_cuda_embedding e = {.rows = w->session->rows,
                           .port = input_port(w),
                           .table = layer->kernel,
                           .out = values->y,
                           .bad_ids = w->session->bad_ids,
                           .id_count = layer->in,
                           .width = layer->width,
                           .step_count = w->chunk.steps,
                           .row_count = w->chunk.rows,
                           .out_type = values->type};
    CY_CUDA_TRY(cy_cuda_embedding_launch(&e, w->session->cuda_stream),
                "launching an embedding");
    return CARRY_OK;
}

/* Bias and activation, in place. After the last chunk no row rests: those that never ran are left out when the
 * outputs are scattered. */
static carry_status finish_dense(const work *w, const cy_cuda_layer *layer)
{
    const cy_cuda_values *values = values_of(w, layer);
    bool in_time = layer->node->in_time;
    cy_cuda_dense_output d = {.rows = in_time ? w->session->rows : NULL,
                              .z = values->y,
                              .bias = layer->bias,
                              .step_count = in_time ? w->chunk.steps : 1,
                              .row_count = rows_of(w, layer),
                              .width = layer->width,
                              .activation = layer->node->activation};
    CY_CUDA_TRY(cy_cuda_dense_output_launch(&d, w->session->cuda_stream),
                "launching a dense output");
    return CARRY_OK;
}

static carry_status dense(const work *w, const cy_cuda_layer *layer)
{
    cy_cuda_product p = cy_cuda_input_product(w->session, layer);
    CY_TRY(operand(w, layer, &p.a));
    p.rows = (layer->node->in_time ? w->chunk.steps : 1) * rows_of(w, layer);
    CY_TRY(cy_cuda_session_product(w->session, &p));
    return finish_dense(w, layer);
}

static carry_status activation(const work *w, const cy_cuda_layer *layer)
{
    CY_TRY(gather(w, layer, values_of(w, layer)->y, CY_CUDA_F32));
    return layer->node->op == CY_OP_ACTIVATION ? finish_dense(w, layer) : CARRY_OK;
}

/* Layers with a time axis on their input, or those behind them without. */
static carry_status run_layers(const work *w, bool in_time)
{
    for (unsigned i = 0; i < w->model->layer_count; i++) {
        const cy_cuda_layer *layer = &w->model->layers[i];
        if (layer->node->in_time != in_time) continue;
        switch (layer->node->op) {
        case CY_OP_LSTM:
            CY_TRY(lstm(w, layer));
            break;
        case CY_OP_DENSE:
            CY_TRY(dense(w, layer));
            break;
        case CY_OP_EMBEDDING:
            CY_TRY(embedding(w, layer));
            break;
        case CY_OP_IDENTITY: /* elsewhere it is only a name */
            if (layer->source.node >= 0) break;
            CY_TRY(activation(w, layer));
            break;
        case CY_OP_ACTIVATION:
            CY_TRY(activation(w, layer));
            break;
        }
    }
    return CARRY_OK;
}

/* ---- outputs -------------------------------------------------------------------------------- */

static bool was_direct(const work *w, uint32_t output)
{
    cy_value value = w->model->outputs[output];
    const cy_cuda_layer *layer = &w->model->layers[value.node];
    return layer->node->op == CY_OP_LSTM && w->chunk.rows > 0 &&
           direct_output(w, layer) == (int)output &&
           plan_of(w, layer).algorithm == CY_CUDA_STEP_X;
}

/* h and c of a row that had no steps are those of its state. */
static size_t state_offset(const work *w, cy_value value)
{
    if (value.port == CY_PORT_Y) return CY_CUDA_NO_STATE;
    const cy_node *node = w->model->layers[value.node].node;
    return w->model->graph->states[node->first_state + (value.port == CY_PORT_C)].offset;
}

static carry_status scatter(const work *w)
{
    const cy_graph *graph = w->model->graph;
    for (uint32_t o = 0; o < graph->output_count; o++) {
        cy_value value = w->model->outputs[o];
        bool has_time = cy_graph_has_time(graph, value);
        if (!w->outputs[o].data || was_direct(w, o)) continue;
        if (!has_time && w->chunk.part == CY_CUDA_PART_MIDDLE) continue;
        bool every_step = has_time && w->outputs[o].all_steps;
        if (every_step && w->chunk.room_rows == 0) continue;
        cy_cuda_scatter s = {.rows = w->session->rows,
                             .port = &w->session->ports[1 + o],
                             .state_offset = state_offset(w, value),
                             .step_count = has_time ? w->chunk.steps : 1,
                             .row_count =
                                 every_step ? w->chunk.room_rows : w->chunk.all_rows,
                             .in_row_count = w->chunk.rows,
                             .width = (unsigned)cy_graph_width(graph, value),
                             .which = !has_time    ? CY_CUDA_AFTER
                                      : every_step ? CY_CUDA_EVERY_STEP
                                                   : CY_CUDA_LAST_STEP};
        s.in = value_of(w, value, &s.in_type);
        CY_CUDA_TRY(cy_cuda_scatter_launch(&s, w->session->cuda_stream),
                    "launching a scatter");
    }
    return CARRY_OK;
}

carry_status cy_cuda_compute(cy_cuda_session *session, const cy_cuda_chunk *chunk,
                             const cy_run_output *outputs)
{
    work w = {.session = session,
              .model = session->model,
              .chunk = *chunk,
              .outputs = outputs,
              .type = session->model->type};
    if (chunk->rows > 0) CY_TRY(run_layers(&w, true));
    if (chunk->ran_rows > 0 && chunk->part != CY_CUDA_PART_MIDDLE)
        CY_TRY(run_layers(&w, false));
    return scatter(&w);
}
