#include "cuda/cuda_plan.h"

#include "kernels/activate.h"

#include <stdio.h>

/* Rates of one multiprocessor of an H200, and what a kernel costs by itself in a graph. Expected, not measured:
 * they rank two algorithms of the same layer, so what they share cancels. */
#define KERNEL_US       1.3
#define L2_BYTES_PER_US 73e3 /* 9.7 TB/s over 132 */
#define HBM_BYTES_PER_US \
    30e3 /* 4.0 TB/s over 132, for weights that the L2 does not hold */
#define FP32_FLOPS_PER_US 416e3 /* 55 TFLOP/s over 132 */
#define HALF_FLOPS_PER_US 6e6   /* 790 TFLOP/s over 132, tensor cores */
#define STEP_ROWS         4 /* rows that share one pass of lstm_step over the weights ... */
#define STEP_MOST_ROWS    (65535u * STEP_ROWS) /* its grid's second axis ends there */
#define TENSOR_STEP_ROWS  32                   /* ... and of lstm_step_mma, */
#define TENSOR_READING \
    1.5 /* whose pass takes so much longer: fewer bytes are under way */
#define TENSOR_MOST_ROWS  64  /* beyond, the weights come three times and more */
#define STEP_UNITS        4.0 /* of a block of lstm_step, */
#define STEP_BLOCKS       4.0 /* which a multiprocessor takes so many of at once, */
#define STEP_BLOCK_US     1.0 /* each for so long */
#define TENSOR_LEAST_ROWS 8   /* cuBLAS pads fewer */
#define MOST_CHUNK_STEPS  256

static double greater(double a, double b)
{
    return a > b ? a : b;
}

static double passes(unsigned rows, unsigned rows_of_a_pass)
{
    unsigned whole = (rows + rows_of_a_pass - 1) / rows_of_a_pass;
    return (double)whole;
}

static bool has_spanning(const cy_cuda_lstm_shape *shape)
{
    return cy_activation_spans_row(shape->activation) ||
           cy_activation_spans_row(shape->recurrent_activation);
}

/* What lstm_step_mma can do; and at B = 1 it would multiply seven rows of zeros. */
static bool can_tensor_step(const cy_cuda_device *device, const cy_cuda_lstm_shape *shape)
{
    return device->major >= 8 && shape->type != CY_CUDA_F32 && !shape->exact &&
           shape->units % 8 == 0 && shape->rows <= TENSOR_MOST_ROWS &&
           shape->activation == CY_ACT_TANH &&
           shape->recurrent_activation == CY_ACT_SIGMOID;
}

bool cy_cuda_plan_possible(const cy_cuda_device *device, const cy_cuda_lstm_shape *shape,
                           const cy_cuda_lstm_plan *plan)
{
    if (plan->algorithm == CY_CUDA_GEMM_CELL) return true;
    if (has_spanning(shape) || shape->rows > STEP_MOST_ROWS) return false;
    if (plan->tensor_step && !can_tensor_step(device, shape)) return false;
    return plan->algorithm == CY_CUDA_STEP ||
           (shape->steps == 1 && (!plan->tensor_step || shape->features % 8 == 0));
}

cy_cuda_lstm_plan cy_cuda_plan_lstm(const cy_cuda_device *device,
                                    const cy_cuda_lstm_shape *shape)
{
    /* Of whole groups: a group with a row missing reads the same weights, and would come back to the fused step behind
     * full ones that had left it. */
    double step_passes = passes(shape->rows, STEP_ROWS), rows = step_passes * STEP_ROWS;
    double units = shape->units, sms = device->multiprocessors;
    double weights = 4 * units * units * (shape->type == CY_CUDA_F32 ? 4 : 2);
    double flops = 8 * units * units * rows;
    double bandwidth = weights <= device->l2_bytes ? L2_BYTES_PER_US : HBM_BYTES_PER_US;
    double pass_us = weights / (bandwidth * sms);
    double fp32_us = flops / (FP32_FLOPS_PER_US * sms);
    double half_us = flops / (HALF_FLOPS_PER_US * sms);
    double padded_us =
        rows < TENSOR_LEAST_ROWS ? half_us / rows * TENSOR_LEAST_ROWS : half_us;

    double gemm_flops_us = shape->exact                 ? fp32_us
                           : shape->type != CY_CUDA_F32 ? padded_us
                           : shape->tf32                ? 2 * padded_us
                                                        : fp32_us;

    cy_cuda_lstm_plan plan = {.algorithm = CY_CUDA_STEP};
    bool can_step = cy_cuda_plan_possible(device, shape, &plan);
    plan.algorithm = CY_CUDA_GEMM_CELL;
    plan.gemm_us = 2 * KERNEL_US + greater(pass_us, gemm_flops_us);
    if (!can_step) return plan;
    /* Behind the first rows' blocks come those of the others, which find the device full. */
    double more_blocks = units / STEP_UNITS * (step_passes - 1);
    plan.step_us = KERNEL_US + greater(step_passes * pass_us, fp32_us) +
                   more_blocks / (STEP_BLOCKS * sms) * STEP_BLOCK_US;
    if (can_tensor_step(device, shape)) {
        double tensor_us = KERNEL_US + greater(passes(shape->rows, TENSOR_STEP_ROWS) *
                                                   TENSOR_READING * pass_us,
                                               padded_us);
        plan.tensor_step = tensor_us < plan.step_us;
        if (plan.tensor_step) plan.step_us = tensor_us;
    }
    if (plan.step_us >= plan.gemm_us) return plan;
    plan.algorithm = CY_CUDA_STEP_X;
    if (!cy_cuda_plan_possible(device, shape, &plan)) plan.algorithm = CY_CUDA_STEP;
    return plan;
}

const char *cy_cuda_algorithm_name(cy_cuda_algorithm algorithm, bool exact)
{
    switch (algorithm) {
    case CY_CUDA_GEMM_CELL:
        return exact ? "exact product + cell" : "gemm + cell";
    case CY_CUDA_STEP:
        return exact ? "exact product, fused step" : "gemm, fused step";
    case CY_CUDA_STEP_X:
        break;
    }
    return "fused step with x";
}

void cy_cuda_plan_explain(const cy_cuda_lstm_plan *plan, const cy_cuda_lstm_shape *shape,
                          char *text, size_t bytes)
{
    if (plan->step_us == 0 && !has_spanning(shape)) {
        snprintf(
            text, bytes,
            "%u rows: one kernel a step takes %u at most, so product and cell are two "
            "kernels a step",
            shape->rows, STEP_MOST_ROWS);
        return;
    }
    if (plan->step_us == 0) {
        snprintf(text, bytes,
                 "an activation over all units of a row needs the whole row before the "
                 "cell, so product "
                 "and cell are two kernels a step");
        return;
    }
    snprintf(text, bytes,
             "%u row%s: one kernel a step%s is expected to take %.2f us, %s product and "
             "cell %.2f us (estimates)%s",
             shape->rows, shape->rows == 1 ? "" : "s",
             plan->tensor_step ? " (on tensor cores)" : "", plan->step_us,
             shape->exact ? "exact" : "cuBLAS", plan->gemm_us,
             plan->algorithm == CY_CUDA_STEP_X
                 ? "; one step, so the x product is in it too"
                 : "");
}

unsigned cy_cuda_plan_steps(size_t row_steps, unsigned rows, size_t left)
{
    size_t steps = rows ? row_steps / rows : MOST_CHUNK_STEPS;
    if (steps > MOST_CHUNK_STEPS) steps = MOST_CHUNK_STEPS;
    if (steps > left) steps = left;
    return steps > 0 ? (unsigned)steps : 1;
}
