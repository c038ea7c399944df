/* What is refused, and with which sentence: ids outside the vocabulary, also where only the device can look at them; shapes
 * that cannot be captured; arrays and flags that do not go together. */
#include "cuda_support.h"

#include <math.h>
#include <stdlib.h>

/* ---- ids ------------------------------------------------------------------------------------ */

static const model_spec words = {
    .ids = 7, .layers = {EMBEDDING_LAYER(3), LSTM_LAYER(4, SEQUENCES)}};

Test(cuda_refusals, a_bad_id_in_device_memory_fails_the_call)
{
    enum { ROWS = 3, STEPS = 4 };
    static const int32_t bad[] = {7, -1, INT32_MAX, INT32_MIN};
    static const carry_graph_shape shape = {2, 2};
    for (int i = 0; i < 8; i++) {
        carry_session_options options = {.size = sizeof options,
                                         .max_rows = 2,
                                         .graphs = &shape,
                                         .graph_count = i & 1};
        rig r = rig_on("cuda", &words, &options);
        carry_state states[ROWS];
        open_states(&r, states, ROWS);
        int32_t ids[ROWS * STEPS] = {1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
        buffer x = buffer_open(CARRY_DEVICE, CARRY_I32, ROWS * STEPS);
        buffer y = buffer_open(CARRY_DEVICE, CARRY_F32, ROWS * STEPS * 4);
        wide_call call = {.rows = ROWS,
                          .max_steps = STEPS,
                          .states = states,
                          .x = &x,
                          .y = &y,
                          .outputs = 1};
        buffer_write(&x, ids);
        OK(run_wide(r.session, &call));
        size_t count;
        float *before[ROWS];
        for (int row = 0; row < ROWS; row++)
            before[row] = read_state(&r, states[row], &count);
        int32_t kept = ids[9];
        ids[9] = bad[i / 2]; /* of the last row, in the second group */
        buffer_write(&x, ids);
        FAILS(CARRY_E_INPUT, "1 ids in device memory are not in 0 .. 6",
              run_wide(r.session, &call));
        for (int row = 0; row < ROWS; row++) {
            float *after = read_state(&r, states[row], &count);
            SAME_BITS(after, before[row], count);
            free(after);
            free(before[row]);
        }
        cr_assert_eq(info_of(r.session).dead, 0);
        uint32_t steps[ROWS] = {4, 4, 1}; /* behind a row's steps it is not read */
        call.steps = steps;
        OK(run_wide(r.session, &call));
        call.steps = NULL;
        ids[9] = kept;
        buffer_write(&x, ids);
        OK(run_wide(r.session, &call)); /* the count starts again */
        buffer_close(&x);
        buffer_close(&y);
        no_misuse();
        rig_close(&r);
    }
}

Test(cuda_refusals, a_bad_id_of_an_asynchronous_call_gives_its_row_nan)
{
    enum { ROWS = 3, STEPS = 4, UNITS = 4 };
    rig r = rig_on("cuda", &words, NULL), cpu = rig_on("cpu", &words, NULL);
    int32_t ids[ROWS * STEPS] = {1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
    float expected[ROWS * STEPS * UNITS];
    OK(run_call(&cpu,
                &(call_spec){.rows = ROWS, .max_steps = STEPS, .x = ids, .y = expected}));
    ids[6] = 99; /* row 1, step 2 */
    buffer x = buffer_open(CARRY_DEVICE, CARRY_I32, ROWS * STEPS);
    buffer y = buffer_open(CARRY_PINNED, CARRY_F32, ROWS * STEPS * UNITS);
    buffer_write(&x, ids);
    OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                        .max_steps = STEPS,
                                        .x = &x,
                                        .y = &y,
                                        .outputs = 1,
                                        .flags = CARRY_ASYNC}));
    OK(carry_session_wait(r.session));
    const float *got = y.data;
    for (size_t i = 0; i < ROWS * STEPS * UNITS; i++) {
        size_t row = i / UNITS / STEPS, step = i / UNITS % STEPS;
        if (row == 1 && step >= 2) cr_assert(isnan(got[i]), "%zu: %g", i, (double)got[i]);
        else cr_assert_float_eq(got[i], expected[i], 1e-5, "%zu", i);
    }
    buffer_close(&x);
    buffer_close(&y);
    rig_close(&r);
    rig_close(&cpu);
}

/* ---- shapes, arrays, flags ------------------------------------------------------------------ */

Test(cuda_refusals, graphs_that_cannot_be_are_refused_with_a_sentence)
{
    static const carry_graph_shape shapes[] = {{2, 3}, {64, 64}, {64, 65}};
    const model_spec backwards = {.features = 3, .layers = {LSTM_LAYER(3, BACKWARDS)}},
                     forwards = {.features = 3, .layers = {LSTM_LAYER(3, 0)}};
    carry_session_options options = {
        .size = sizeof options, .max_rows = 64, .graphs = shapes, .graph_count = 1};
    carry_model *model = model_on("cuda", &backwards, CARRY_COMPUTE_FP32);
    carry_session *session;
    FAILS(CARRY_E_UNSUPPORTED, "graphs are of causal models",
          carry_session_open(&session, model, &options));
    cr_assert_null(session);
    rig r = rig_of(model, NULL);
    FAILS(CARRY_E_UNSUPPORTED, "graphs are of causal models",
          carry_session_warm(r.session, shapes, 1));
    OK(carry_session_warm(r.session, shapes, 0));
    rig_close(&r);

    r = rig_on("cuda", &forwards, &options);
    FAILS(CARRY_E_ARGUMENT, "64 rows of 65 steps are 4160 row-steps",
          carry_session_warm(r.session, shapes, 3));
    cr_assert_eq(info_of(r.session).graphs, 2); /* those before it stay */
    cr_assert_eq(info_of(r.session).dead, 0);
    rig_close(&r);
    options.graph_count = 3; /* but at open there is room for what is asked for */
    r = rig_on("cuda", &forwards, &options);
    cr_assert_eq(info_of(r.session).graphs, 3);
    rig_close(&r);
    no_misuse();
    cr_assert_eq(fake_open_handles(), 0);
}

Test(cuda_refusals, what_cannot_be_is_refused_with_a_sentence)
{
    enum { COUNT = 12 };
    const model_spec spec = {.features = 3, .layers = {LSTM_LAYER(3, SEQUENCES)}};
    rig r = rig_on("cuda", &spec, NULL), cpu = rig_on("cpu", &spec, NULL);
    buffer host = buffer_open(CARRY_HOST, CARRY_F32, COUNT);
    buffer pinned = buffer_open(CARRY_PINNED, CARRY_F32, COUNT);
    buffer device = buffer_open(CARRY_DEVICE, CARRY_F32, COUNT), wrong;
    float zeros[COUNT] = {0};
    buffer_write(&host, zeros);
    buffer_write(&pinned, zeros);
    buffer_write(&device, zeros);
    wide_call call = {.rows = 2,
                      .max_steps = 2,
                      .x = &host,
                      .y = &device,
                      .outputs = 1,
                      .flags = CARRY_ASYNC};
    size_t first = fake_seen_now().calls;
    FAILS(CARRY_E_ARGUMENT,
          "input 0 is in ordinary host memory; CARRY_ASYNC takes pinned",
          run_wide(r.session, &call));
    call.x = &pinned;
    call.y = &host;
    FAILS(CARRY_E_ARGUMENT, "output 0 is in ordinary host memory; CARRY_ASYNC",
          run_wide(r.session, &call));
    call.flags = 0;
    for (int half = CARRY_F16; half <= CARRY_BF16; half++) {
        const char *name = half == CARRY_F16 ? "CARRY_F16" : "CARRY_BF16";
        for (int place = CARRY_HOST; place <= CARRY_PINNED; place++) {
            wrong = place == CARRY_HOST ? host : pinned;
            wrong.dtype = (carry_dtype)half;
            call.x = &wrong;
            call.y = &device;
            FAILS(CARRY_E_ARGUMENT, name, run_wide(r.session, &call));
            cr_expect(
                strstr(carry_error(), "in host memory; only device memory takes it"));
            call.x = &device;
            call.y = &wrong;
            FAILS(CARRY_E_ARGUMENT, name, run_wide(r.session, &call));
        }
    }
    wrong = device;
    wrong.dtype = CARRY_I32;
    call.x = &wrong;
    FAILS(CARRY_E_ARGUMENT, "input 0 has dtype 1, expected CARRY_F32",
          run_wide(r.session, &call));
    call.x = &host;
    call.y = &wrong;
    FAILS(CARRY_E_ARGUMENT, "output 0 has dtype 1", run_wide(r.session, &call));
    wrong = device;
    wrong.place = (carry_place)3;
    FAILS(CARRY_E_ARGUMENT, "output 0 has place 3", run_wide(r.session, &call));
    wrong = device;
    wrong.count--;
    FAILS(CARRY_E_CAPACITY, "output 0 has 44 bytes", run_wide(r.session, &call));
    call.y = &host;
    call.flags = 2;
    FAILS(CARRY_E_ARGUMENT, "flags", run_wide(r.session, &call));
    cr_assert_eq(fake_seen_now().calls, first, "a refused call reached the device");

    call.flags = 0;
    call.x = &device;
    FAILS(CARRY_E_ARGUMENT, "input 0 is in device memory, the model is on 'cpu'",
          run_wide(cpu.session, &call));
    call.x = &pinned;
    call.y = &device;
    FAILS(CARRY_E_ARGUMENT, "output 0 is in device memory, the model is on 'cpu'",
          run_wide(cpu.session, &call));
    call.y = &host;
    call.flags = CARRY_ASYNC; /* no effect */
    OK(run_wide(cpu.session, &call));
    buffer_close(&host);
    buffer_close(&pinned);
    buffer_close(&device);
    rig_close(&r);
    rig_close(&cpu);
}
