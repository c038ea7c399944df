#include "cuda/cuda_plan.h"

#include <stdio.h>

/* Rates of one multiprocessor of an H200, and what a kernel costs by itself in a graph. Expected, not measured:
 * they rank two algorithms of the same layer, so what they share cancels. */
#define KERNEL_US       1.3
#define L2_BYTES_PER_US 73e3 /* 9.7 TB/s over 132 */
#define HBM_BYTES_PER_US \
    30e3 /* 4.0 TB/s over 132, for weights that the L2 does not hold */
#define FP32_FLOPS_PER_US 416e3 /* 55 TFLOP/s over 132 */
#define HALF_FLOPS_PER_US 6e6   /* 790 TFLOP/s over 132, tensor cores */
#define STEP_ROWS         4 /* rows that share one pass of lstm_step over the weights */
#define TENSOR_LEAST_ROWS 8 /* cuBLAS pads fewer */
#define MOST_CHUNK_STEPS  256

static double greater(double a, double b)
{
    return a > b ? a : b;
}

static bool spans_row(cy_activation activation)
{
    return activation == CY_ACT_SOFTMAX || activation == CY_ACT_LOG_SOFTMAX;
}

cy_cuda_lstm_plan cy_cuda_plan_lstm(const cy_cuda_device *device,
                                    const cy_cuda_lstm_shape *shape)
{
    double units = shape->units, rows = shape->rows, sms = device->multiprocessors;
    double size = shape->type == CY_CUDA_F32 ? 4 : 2;
    double weights = 4 * units * units * size, flops = 8 * units * units * rows;
    double bandwidth = weights <= device->l2_bytes ? L2_BYTES_PER_US : HBM_BYTES_PER_US;
    bool tensor = shape->type != CY_CUDA_F32 && !shape->exact;
    double gemm_flops =
        tensor && rows < TENSOR_LEAST_ROWS ? flops / rows * TENSOR_LEAST_ROWS : flops;
    double passes = (shape->rows + STEP_ROWS - 1) / STEP_ROWS;

    cy_cuda_lstm_plan plan = {.algorithm = CY_CUDA_GEMM_CELL};
    plan.gemm_us =
        2 * KERNEL_US +
        greater(weights / (bandwidth * sms),
                gemm_flops / ((tensor ? HALF_FLOPS_PER_US : FP32_FLOPS_PER_US) * sms));
    if (spans_row(shape->activation) || spans_row(shape->recurrent_activation))
        return plan;
    plan.step_us = KERNEL_US + greater(passes * weights / (bandwidth * sms),
                                       flops / (FP32_FLOPS_PER_US * sms));
    if (plan.step_us < plan.gemm_us)
        plan.algorithm = shape->steps == 1 ? CY_CUDA_STEP_X : CY_CUDA_STEP;
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
    if (plan->step_us == 0) {
        snprintf(text, bytes,
                 "an activation over all units of a row needs the whole row before the "
                 "cell, so product "
                 "and cell are two kernels a step");
        return;
    }
    const char *product = shape->exact ? "exact" : "cuBLAS";
    snprintf(
        text, bytes,
        "%u row%s: one kernel a step is expected to take %.2f us, %s product and cell "
        "%.2f us "
        "(estimates)%s",
        shape->rows, shape->rows == 1 ? "" : "s", plan->step_us, product, plan->gemm_us,
        plan->algorithm == CY_CUDA_STEP_X ? "; one step, so the x product is in it too"
                                          : "");
}

unsigned cy_cuda_plan_steps(size_t row_steps, unsigned rows, size_t left)
{
    size_t steps = rows ? row_steps / rows : MOST_CHUNK_STEPS;
    if (steps > MOST_CHUNK_STEPS) steps = MOST_CHUNK_STEPS;
    if (steps > left) steps = left;
    return steps > 0 ? (unsigned)steps : 1;
}
