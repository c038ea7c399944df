/* The plan as a pure function, and the packing's conversions against the toolkit's. Nothing here touches a device. */
#include "cuda_support.h"

#include "cuda/cuda_model.h"
#include "cuda/cuda_plan.h"
#include "half_toolkit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const cy_cuda_device h200 = {0, 9, 0, 132, 50 << 20};
static const cy_cuda_device devices[] = {{0, 9, 0, 132, 50 << 20}, /* large */
                                         {0, 8, 6, 28, 3 << 20},   /* small */
                                         {0, 7, 5, 40, 4 << 20},   /* without bf16 */
                                         {0, 8, 0, 1, 1 << 20}};
enum { DEVICES = sizeof devices / sizeof *devices };

static cy_cuda_lstm_shape shape_of(unsigned units, unsigned rows, unsigned steps)
{
    return (cy_cuda_lstm_shape){.features = 32,
                                .units = units,
                                .rows = rows,
                                .steps = steps,
                                .activation = CY_ACT_TANH,
                                .recurrent_activation = CY_ACT_SIGMOID};
}

static cy_cuda_algorithm choose(const cy_cuda_device *device, cy_cuda_lstm_shape shape)
{
    return cy_cuda_plan_lstm(device, &shape).algorithm;
}

Test(cuda_plan, table)
{
    static const struct {
        const cy_cuda_device *device;
        unsigned units, rows, steps;
        cy_cuda_type type;
        bool exact;
        cy_cuda_algorithm algorithm;
    } table[] = {
        {&h200, 512, 1, 1, CY_CUDA_F32, false, CY_CUDA_STEP_X},
        {&h200, 512, 1, 100, CY_CUDA_F32, false, CY_CUDA_STEP},
        {&h200, 512, 8, 100, CY_CUDA_F32, false, CY_CUDA_STEP},
        {&h200, 512, 64, 100, CY_CUDA_F32, false, CY_CUDA_GEMM_CELL},
        {&h200, 512, 64, 1, CY_CUDA_F32, false, CY_CUDA_GEMM_CELL},
        {&h200, 512, 64, 100, CY_CUDA_BF16, false, CY_CUDA_STEP}, /* on tensor cores */
        {&h200, 1024, 32, 100, CY_CUDA_BF16, false, CY_CUDA_STEP},
        {&h200, 1024, 64, 100, CY_CUDA_BF16, false, CY_CUDA_GEMM_CELL},
        {&h200, 1020, 32, 100, CY_CUDA_F16, false, CY_CUDA_GEMM_CELL},
        {&h200, 512, 16, 1, CY_CUDA_F16, false, CY_CUDA_STEP_X},
        {&h200, 1024, 1, 1, CY_CUDA_BF16, false, CY_CUDA_STEP_X},
        {&h200, 1024, 8, 100, CY_CUDA_F32, false, CY_CUDA_GEMM_CELL},
        {&h200, 1024, 256, 100, CY_CUDA_F16, true, CY_CUDA_GEMM_CELL},
        {&h200, 2048, 1, 100, CY_CUDA_F32, true, CY_CUDA_STEP},
        {&h200, 64, 64, 100, CY_CUDA_F32, false, CY_CUDA_STEP},
        {&devices[1], 512, 8, 100, CY_CUDA_F32, false, CY_CUDA_GEMM_CELL},
        {&devices[3], 48, 1, 1, CY_CUDA_F32, true, CY_CUDA_STEP_X},
        {&devices[3], 48, 4, 2, CY_CUDA_F32, true, CY_CUDA_STEP},
        {&devices[3], 48, 12, 2, CY_CUDA_F32, true, CY_CUDA_GEMM_CELL},
        {&devices[3], 48, 16, 2, CY_CUDA_F32, true, CY_CUDA_GEMM_CELL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        cy_cuda_lstm_shape shape =
            shape_of(table[i].units, table[i].rows, table[i].steps);
        shape.type = table[i].type;
        shape.exact = table[i].exact;
        cy_cuda_lstm_plan plan = cy_cuda_plan_lstm(table[i].device, &shape);
        cr_expect_eq(plan.algorithm, table[i].algorithm, "case %zu: %s (%.2f, %.2f us)",
                     i, cy_cuda_algorithm_name(plan.algorithm, shape.exact), plan.step_us,
                     plan.gemm_us);
    }
}

/* Every device, type and number of units: one row is a fused step, one step takes x too. */
Test(cuda_plan, one_row_is_always_a_fused_step)
{
    for (size_t d = 0; d < DEVICES; d++)
        for (unsigned units = 1; units <= 8192; units += units < 64 ? 1 : units / 3)
            for (int kind = 0; kind < 6; kind++) {
                cy_cuda_lstm_shape shape = shape_of(units, 1, 1);
                shape.type = (cy_cuda_type)(kind / 2);
                shape.exact = kind % 2;
                cr_assert_eq(choose(&devices[d], shape), CY_CUDA_STEP_X);
                shape.steps = 2;
                cr_assert_eq(choose(&devices[d], shape), CY_CUDA_STEP);
            }
}

/* The fused step gives way once and for all; in the end it does for every layer. */
Test(cuda_plan, more_rows_never_come_back_to_the_fused_step)
{
    for (size_t d = 0; d < DEVICES; d++)
        for (unsigned units = 8; units <= 4096; units += units / 2)
            for (int kind = 0; kind < 6; kind++) {
                bool left = false;
                for (unsigned rows = 1; rows <= 1u << 20;
                     rows += rows < 2048 ? 1 : rows / 5) {
                    cy_cuda_lstm_shape shape = shape_of(units, rows, 10);
                    shape.type = (cy_cuda_type)(kind / 2);
                    shape.exact = kind % 2;
                    bool gemm = choose(&devices[d], shape) == CY_CUDA_GEMM_CELL;
                    cr_assert(gemm || !left, "%u units, %u rows, kind %d, device %zu",
                              units, rows, kind, d);
                    left = gemm;
                }
                cr_assert(left, "%u units, kind %d, device %zu: never", units, kind, d);
            }
}

/* All row counts that fill the same groups of four are computed alike, and expected to take as long. */
Test(cuda_plan, a_group_of_rows_has_one_plan)
{
    for (size_t d = 0; d < DEVICES; d++)
        for (unsigned units = 8; units <= 4096; units += units / 2)
            for (int kind = 0; kind < 6; kind++)
                for (unsigned rows = 1; rows <= 200; rows++) {
                    cy_cuda_lstm_shape shape = shape_of(units, rows, 10);
                    shape.type = (cy_cuda_type)(kind / 2);
                    shape.exact = kind % 2;
                    cy_cuda_lstm_plan some = cy_cuda_plan_lstm(&devices[d], &shape);
                    shape.rows = (rows + 3) / 4 * 4;
                    cy_cuda_lstm_plan full = cy_cuda_plan_lstm(&devices[d], &shape);
                    cr_assert(
                        some.algorithm == full.algorithm &&
                            some.tensor_step == full.tensor_step &&
                            some.step_us == full.step_us && some.gemm_us == full.gemm_us,
                        "%u units, %u rows, kind %d, device %zu", units, rows, kind, d);
                }
}

/* lstm_step has four rows a block in the grid's second axis, which ends at 65535. */
Test(cuda_plan, more_rows_than_the_step_kernel_takes_are_not_given_to_it)
{
    char text[240];
    for (size_t d = 0; d < DEVICES; d++)
        for (unsigned units = 1; units <= 8; units++)
            for (int kind = 0; kind < 6; kind++)
                for (unsigned rows = 262141; rows <= 1u << 20; rows += 104729) {
                    cy_cuda_lstm_shape shape = shape_of(units, rows, 1 + kind % 2);
                    shape.type = (cy_cuda_type)(kind / 2);
                    shape.exact = kind % 2;
                    cy_cuda_lstm_plan plan = cy_cuda_plan_lstm(&devices[d], &shape);
                    cr_assert_eq(plan.algorithm, CY_CUDA_GEMM_CELL,
                                 "%u units, %u rows, kind %d, device %zu", units, rows,
                                 kind, d);
                    cy_cuda_plan_explain(&plan, &shape, text, sizeof text);
                    cr_assert(strstr(text, "262140 at most") != NULL, "%s", text);
                }
}

Test(cuda_plan, activations_over_a_row_have_no_fused_step)
{
    for (int which = 0; which < 4; which++)
        for (unsigned steps = 1; steps <= 2; steps++) {
            cy_activation span = which & 1 ? CY_ACT_SOFTMAX : CY_ACT_LOG_SOFTMAX;
            cy_cuda_lstm_shape shape = shape_of(16, 1, steps);
            if (which & 2) shape.activation = span;
            else shape.recurrent_activation = span;
            cy_cuda_lstm_plan plan = cy_cuda_plan_lstm(&h200, &shape);
            cr_assert_eq(plan.algorithm, CY_CUDA_GEMM_CELL);
            cr_assert_eq(plan.step_us, 0);
            char text[240];
            cy_cuda_plan_explain(&plan, &shape, text, sizeof text);
            cr_assert(strstr(text, "whole row") != NULL, "%s", text);
        }
}

Test(cuda_plan, the_reason_has_the_numbers)
{
    for (unsigned rows = 1; rows <= 4096; rows *= 8)
        for (int exact = 0; exact <= 1; exact++) {
            cy_cuda_lstm_shape shape = shape_of(512, rows, 1);
            shape.exact = exact;
            cy_cuda_lstm_plan plan = cy_cuda_plan_lstm(&h200, &shape);
            char text[240], number[32];
            cy_cuda_plan_explain(&plan, &shape, text, sizeof text);
            cr_assert_lt(strlen(text), sizeof text - 1, "cut: %s", text);
            snprintf(number, sizeof number, "%u row%s:", rows, rows == 1 ? "" : "s");
            cr_expect(strstr(text, number) == text, "%s", text);
            snprintf(number, sizeof number, "%.2f us", plan.step_us);
            cr_expect(strstr(text, number) != NULL, "%s", text);
            snprintf(number, sizeof number, "%.2f us", plan.gemm_us);
            cr_expect(strstr(text, number) != NULL, "%s", text);
            cr_expect(strstr(text, "estimates") != NULL, "%s", text);
            cr_expect_eq(strstr(text, "exact") != NULL, exact, "%s", text);
            const char *name = cy_cuda_algorithm_name(plan.algorithm, exact);
            cr_expect_eq(plan.algorithm == CY_CUDA_STEP_X,
                         strcmp(name, "fused step with x") == 0);
            cr_expect_eq(exact && plan.algorithm != CY_CUDA_STEP_X,
                         strstr(name, "exact") != NULL, "%s", name);
        }
}

Test(cuda_plan, a_chunk_fits_the_buffers)
{
    for (size_t row_steps = 1; row_steps <= 1u << 20; row_steps = row_steps * 3 + 1)
        for (unsigned rows = 1; rows <= row_steps; rows = rows * 2 + 1)
            for (size_t left = 1; left <= 1u << 20; left = left * 5 + 2) {
                unsigned steps = cy_cuda_plan_steps(row_steps, rows, left);
                cr_assert_geq(steps, 1);
                cr_assert_leq(steps, left);
                cr_assert_leq((size_t)steps * rows, row_steps);
                cr_assert_leq(steps, 256);
                bool could_be_longer = steps < left && steps < 256 &&
                                       (size_t)(steps + 1) * rows <= row_steps;
                cr_assert(!could_be_longer, "%zu, %u, %zu: %u", row_steps, rows, left,
                          steps);
            }
    cr_assert_eq(cy_cuda_plan_steps(4096, 0, 10), 10);
}

/* ---- halves --------------------------------------------------------------------------------- */

static void check_both(float value)
{
    cr_assert_eq(cy_cuda_to_bf16(value), toolkit_to_bf16(value), "%a: %04x, %04x",
                 (double)value, cy_cuda_to_bf16(value), toolkit_to_bf16(value));
    cr_assert_eq(cy_cuda_to_f16(value), toolkit_to_f16(value), "%a: %04x, %04x",
                 (double)value, cy_cuda_to_f16(value), toolkit_to_f16(value));
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

Test(cuda_plan, every_half_there_and_back)
{
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i;
        float b = toolkit_from_bf16(half), h = toolkit_from_f16(half);
        cr_assert_eq(cy_cuda_to_bf16(b), isnan(b) ? 0x7fff : half, "bf16 %04x", half);
        cr_assert_eq(cy_cuda_to_f16(h), isnan(h) ? 0x7fff : half, "f16 %04x", half);
        /* the suites' own way back */
        cr_assert(isnan(b) ? isnan(from_bf16(half))
                           : bits_of(from_bf16(half)) == bits_of(b));
        cr_assert(isnan(h) ? isnan(from_f16(half))
                           : bits_of(from_f16(half)) == bits_of(h));
    }
}

/* Halfway between two neighbours, and next to it on either side. */
Test(cuda_plan, every_tie)
{
    for (uint32_t i = 0; i < 0x7f80; i++) {
        uint32_t tie = i << 16 | 0x8000; /* of bf16: the bits behind it */
        for (int near = -1; near <= 1; near++) {
            check_both(float_of(tie + (uint32_t)near));
            check_both(-float_of(tie + (uint32_t)near));
        }
    }
    for (uint32_t i = 0; i < 0x7c00; i++) {
        float low = toolkit_from_f16((uint16_t)i);
        float high = i == 0x7bff ? 65536.0f : toolkit_from_f16((uint16_t)(i + 1));
        uint32_t tie = bits_of(low + (high - low) / 2);
        for (int near = -1; near <= 1; near++) {
            check_both(float_of(tie + (uint32_t)near));
            check_both(-float_of(tie + (uint32_t)near));
        }
    }
}

Test(cuda_plan, any_float)
{
    uint64_t seed = 1;
    for (int i = 0; i < 2000000; i++)
        check_both(float_of((uint32_t)random_u64(&seed)));
    static const float special[] = {
        0.0f,      -0.0f,     65504,    65519.99f,  65520,    1e38f,
        3.4e38f,   0x1p-24f,  0x1p-25f, 0x1.8p-25f, 0x1p-26f, 0x1p-149f,
        0x1p-126f, 0x1p-133f, INFINITY, -INFINITY,  NAN};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        check_both(special[i]);
    check_both(float_of(0x7f800001)); /* a signalling NaN */
    check_both(float_of(0xff800001));
}

/* lstm_step_mma has its limits, and a session that is exact has no use for its order. */
Test(cuda_plan, tensor_steps_only_where_the_kernel_can)
{
    cy_cuda_lstm_shape shape = shape_of(512, 16, 100);
    shape.type = CY_CUDA_BF16;
    cr_assert(cy_cuda_plan_lstm(&h200, &shape).tensor_step);
    struct {
        const char *what;
        cy_cuda_device device;
        cy_cuda_lstm_shape shape;
    } refused[6];
    for (int i = 0; i < 6; i++)
        refused[i].device = h200, refused[i].shape = shape;
    refused[0].what = "float32", refused[0].shape.type = CY_CUDA_F32;
    refused[1].what = "exact", refused[1].shape.exact = true;
    refused[2].what = "508 units", refused[2].shape.units = 508;
    refused[3].what = "relu", refused[3].shape.activation = CY_ACT_RELU;
    refused[4].what = "hard_sigmoid",
    refused[4].shape.recurrent_activation = CY_ACT_HARD_SIGMOID_6TH;
    refused[5].what = "compute capability 7.5", refused[5].device = devices[2];
    for (int i = 0; i < 6; i++)
        cr_expect(!cy_cuda_plan_lstm(&refused[i].device, &refused[i].shape).tensor_step,
                  "%s", refused[i].what);

    shape.steps = 1;
    cr_expect_eq(cy_cuda_plan_lstm(&h200, &shape).algorithm, CY_CUDA_STEP_X);
    shape.features = 30; /* no multiple of 8: x goes through cuBLAS */
    cy_cuda_lstm_plan plan = cy_cuda_plan_lstm(&h200, &shape);
    cr_expect(plan.tensor_step && plan.algorithm == CY_CUDA_STEP);
}
