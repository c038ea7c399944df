/* Precisions: 100 steps of networks at Keras' default scale, held to the CPU backend's float32. */
#include "cuda_support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, STEPS = 100 / FEWER, MANY_ROWS = 11 };

static const fake_device gpu = {1, 9, 0, 4, (size_t)1 << 30, 0};

static const model_spec specs[] = {
    {.features = 4,
     .layers = {LSTM_LAYER(16, SEQUENCES), LSTM_LAYER(12, SEQUENCES),
                DENSE_LAYER(6, CY_ACT_LINEAR)}},
    {.ids = 20,
     .layers = {EMBEDDING_LAYER(8), LSTM_LAYER(20, SEQUENCES),
                DENSE_LAYER(20, CY_ACT_SOFTMAX)}},
    /* products of every step, also where cuBLAS makes them */
    {.features = 5,
     .layers = {LSTM_ACT(16, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_SIGMOID),
                LSTM_LAYER(8, SEQUENCES)}},
};
enum { SPECS = sizeof specs / sizeof *specs };

/* Largest error over all outputs and the states of row 0 at the end. */
static double error_of(const model_spec *spec, carry_precision precision, uint32_t exact,
                       size_t rows)
{
    fake_reset(&gpu, 3);
    carry_session_options options = {
        .size = sizeof options, .threads = 1, .exact = exact};
    rig sides[2] = {rig_on("cpu", spec, &options),
                    rig_of(model_on("cuda", spec, precision), &options)};
    void *x = random_input(&sides[0], rows, STEPS, 8);
    size_t count = output_count(&sides[0], rows, STEPS, CARRY_STEPS_AS_MODEL), numbers;
    float *y[2], *state[2];
    for (int i = 0; i < 2; i++) {
        carry_state states[MANY_ROWS];
        open_states(&sides[i], states, rows);
        y[i] = malloc(count * sizeof(float));
        OK(run_call(
            &sides[i],
            &(call_spec){
                .rows = rows, .max_steps = STEPS, .states = states, .x = x, .y = y[i]}));
        state[i] = read_state(&sides[i], states[0], &numbers);
    }
    double error =
        fmax(worst_error(y[1], y[0], count), worst_error(state[1], state[0], numbers));
    for (int i = 0; i < 2; i++) {
        free(y[i]);
        free(state[i]);
        rig_close(&sides[i]);
    }
    free(x);
    no_misuse();
    return error;
}

static void check(carry_precision precision, const char *name, double least, double most)
{
    for (size_t i = 0; i < SPECS; i++)
        for (uint32_t exact = 0; exact <= (precision != CARRY_COMPUTE_TF32); exact++) {
            double error = error_of(&specs[i], precision, exact, ROWS);
            printf("%s, model %zu%s: largest error %.2g, allowed %.0e\n", name, i,
                   exact ? ", exact" : "", error, most);
            cr_expect_leq(error, most, "%s, model %zu: %g", name, i, error);
            cr_expect_geq(error, least, "%s, model %zu: %g: is it %s at all?", name, i,
                          error, name);
        }
    fflush(stdout);
}

Test(cuda_precision, fp32)
{
    check(CARRY_COMPUTE_FP32, "fp32", 0, 1e-5);
}

Test(cuda_precision, tf32)
{
    check(CARRY_COMPUTE_TF32, "tf32", 1e-5, 2e-2);
}

Test(cuda_precision, bf16)
{
    check(CARRY_COMPUTE_BF16, "bf16", 1e-4, 2e-2);
}

Test(cuda_precision, fp16)
{
    check(CARRY_COMPUTE_FP16, "fp16", 1e-5, 2e-2);
}

/* Steps on tensor cores: layers that the plan puts there, x products of one step too. */
Test(cuda_precision, tensor_cores)
{
    static const model_spec spec = {
        .features = 8, .layers = {LSTM_LAYER(80, SEQUENCES), LSTM_LAYER(80, SEQUENCES)}};
    static const carry_precision precisions[] = {CARRY_COMPUTE_BF16, CARRY_COMPUTE_FP16};
    for (int p = 0; p < 2; p++) {
        fake_reset(&gpu, 3);
        rig r = rig_of(model_on("cuda", &spec, precisions[p]),
                       &(carry_session_options){.size = sizeof(carry_session_options)});
        for (size_t steps = 1; steps <= STEPS; steps += STEPS - 1)
            cr_assert(
                strstr(plan_of(r.session, 1, MANY_ROWS, steps).reason, "tensor cores"),
                "%s", plan_of(r.session, 1, MANY_ROWS, steps).reason);
        rig_close(&r);
        double error = error_of(&spec, precisions[p], 0, MANY_ROWS);
        printf("tensor cores, precision %d: largest error %.2g\n", p, error);
        cr_expect(error >= 1e-5 && error <= 2e-2, "precision %d: %g", p, error);
    }
    fflush(stdout);
}
