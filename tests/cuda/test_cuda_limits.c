/* What a session takes when its caller names no sizes. */
#include "cuda_support.h"

#include <stdlib.h>

static const fake_device gpu = {1, 8, 0, 4, (size_t)4 << 30, 0};

static void use_gpu(void)
{
    fake_reset(&gpu, 1);
}

TestSuite(cuda_limits, .init = use_gpu);

static carry_session_info open_and_ask(const model_spec *spec, uint32_t max_rows,
                                       uint32_t max_steps)
{
    carry_session_options options = {
        .size = sizeof options, .max_rows = max_rows, .max_steps = max_steps};
    carry_model *model = model_on("cuda", spec, CARRY_COMPUTE_FP32);
    carry_session *session;
    OK(carry_session_open(&session, model, &options));
    carry_session_info info = info_of(session);
    carry_session_close(&session);
    carry_model_close(&model);
    return info;
}

/* All steps of a whole sequence lie in the workspace: of long ones fewer rows are taken together. */
Test(cuda_limits, rows_of_whole_sequences)
{
    static const struct {
        uint32_t file_steps, max_rows, max_steps; /* 0: not stated */
        uint32_t rows, steps;                     /* in force */
    } cases[] = {
        {0, 0, 0, 64, 1024},     {0, 0, 10, 1024, 10},      {0, 0, 100, 655, 100},
        {300, 0, 0, 218, 300},   {0, 0, 70000, 1, 70000},   {0, 3, 0, 3, 1024},
        {0, 80, 1000, 80, 1000}, {0, 100, 1024, 100, 1024},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_spec spec = {.features = 1,
                           .steps = cases[i].file_steps,
                           .layers = {LSTM_LAYER(2, SEQUENCES | BACKWARDS)}};
        carry_session_info info =
            open_and_ask(&spec, cases[i].max_rows, cases[i].max_steps);
        cr_expect_eq(info.max_rows, cases[i].rows, "case %zu: %u rows", i, info.max_rows);
        cr_expect_eq(info.max_steps, cases[i].steps, "case %zu: %u steps", i,
                     info.max_steps);
    }
}

Test(cuda_limits, a_whole_sequence_takes_no_gigabytes_by_default)
{
    const model_spec whole = {.features = 16,
                              .layers = {LSTM_LAYER(64, SEQUENCES | BACKWARDS)}},
                     causal = {.features = 16, .layers = {LSTM_LAYER(64, SEQUENCES)}};
    carry_session_info info = open_and_ask(&whole, 0, 0);
    cr_expect_lt(info.workspace_bytes, 200 << 20, "%llu bytes",
                 (unsigned long long)info.workspace_bytes);
    info = open_and_ask(&causal, 0, 0);
    cr_expect_eq(info.max_rows, 1024);
    cr_expect_eq(info.max_steps, 0);
}

/* Even one by one they are all done, with the same results. */
Test(cuda_limits, one_row_at_a_time)
{
    enum { ROWS = 3, STEPS = 5, UNITS = 2 };
    model_spec spec = {.features = 1,
                       .layers = {LSTM_LAYER(UNITS, SEQUENCES | BACKWARDS)}};
    const carry_session_options by_itself = {.size = sizeof by_itself,
                                             .exact = 1,
                                             .max_steps = 40000},
                                together = {.size = sizeof together,
                                            .exact = 1,
                                            .max_rows = ROWS,
                                            .max_steps = STEPS};
    float results[2][ROWS * STEPS * UNITS];
    for (int i = 0; i < 2; i++) {
        rig r = rig_on("cuda", &spec, i ? &together : &by_itself);
        cr_assert_eq(info_of(r.session).max_rows, i ? ROWS : 1);
        float *x = random_input(&r, ROWS, STEPS, 1);
        call_spec call = {.rows = ROWS, .max_steps = STEPS, .x = x, .y = results[i]};
        OK(run_call(&r, &call));
        free(x);
        rig_close(&r);
    }
    SAME_BITS(results[0], results[1], ROWS * STEPS * UNITS);
    no_misuse();
}
