/* carry_run: what a call does to outputs and states, row by row. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const model_spec plain = {
    .features = 3,
    .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(4, 0), DENSE_LAYER(2, CY_ACT_TANH)}};
static const model_spec sequence = {
    .features = 3, .layers = {LSTM_LAYER(7, SEQUENCES), DENSE_LAYER(4, CY_ACT_LINEAR)}};
static const model_spec ids = {.ids = 6,
                               .layers = {EMBEDDING_LAYER(3), LSTM_LAYER(4, SEQUENCES)}};
static const model_spec three_outputs = {
    .features = 2,
    .layers = {LSTM_LAYER(4, SEQUENCES | STATES), DENSE_LAYER(3, CY_ACT_LINEAR)},
    .outputs = {{1, CY_PORT_Y}, {0, CY_PORT_H}, {0, CY_PORT_C}, {0, CY_PORT_Y}},
    .output_count = 4};
static const model_spec backwards = {
    .features = 2, .steps = 6, .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS)}};

Test(run, a_state_makes_the_second_call_a_continuation)
{
    rig r = rig_open(&plain, NULL);
    float *x = random_input(&r, 1, 8, 1);
    float whole[2], parts[2], again[2];
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 8, .x = x, .y = whole}));
    carry_state state;
    open_states(&r, &state, 1);
    OK(run_call(
        &r,
        &(call_spec){.rows = 1, .max_steps = 5, .states = &state, .x = x, .y = parts}));
    OK(run_call(
        &r, &(call_spec){
                .rows = 1, .max_steps = 3, .states = &state, .x = x + 15, .y = parts}));
    SAME_BITS(whole, parts, 2);
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 3, .x = x + 15, .y = again}));
    cr_assert_neq(first_difference(whole, again, 2), 2, "no memory at all was at work");
    free(x);
    rig_close(&r);
}

Test(run, without_states_every_call_starts_from_zeros)
{
    rig r = rig_open(&plain, NULL);
    float *x = random_input(&r, 3, 4, 1);
    float first[6], second[6];
    OK(run_call(&r, &(call_spec){.rows = 3, .max_steps = 4, .x = x, .y = first}));
    OK(run_call(&r, &(call_spec){.rows = 3, .max_steps = 4, .x = x, .y = second}));
    SAME_BITS(first, second, 6);
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(r.session, &info));
    cr_assert_eq(info.states, 0);
    free(x);
    rig_close(&r);
}

Test(run, the_zero_state_in_a_batch_is_not_kept)
{
    rig r = rig_open(&plain, NULL);
    float *x = random_input(&r, 2, 4, 1), kept[4], loose[4];
    carry_state states[2] = {{0}, {0}};
    open_states(&r, &states[1], 1);
    call_spec call = {.rows = 2, .max_steps = 4, .states = states, .x = x, .y = kept};
    OK(run_call(&r, &call));
    call.y = loose;
    OK(run_call(&r, &call));
    SAME_BITS(kept, loose, 2);
    float *kept_row = kept + 2, *loose_row = loose + 2;
    cr_assert_neq(first_difference(kept_row, loose_row, 2), 2);
    cr_assert_eq(states[0].id, 0);
    free(x);
    rig_close(&r);
}

Test(run, reset_starts_a_row_from_zeros)
{
    rig r = rig_open(&sequence, NULL);
    enum { ROWS = 3, STEPS = 4, COUNT = ROWS * STEPS * 4 };
    float *x = random_input(&r, ROWS, STEPS, 1), fresh[COUNT], y[COUNT], on[COUNT];
    carry_state states[ROWS];
    open_states(&r, states, ROWS);
    call_spec call = {
        .rows = ROWS, .max_steps = STEPS, .states = states, .x = x, .y = fresh};
    OK(run_call(&r, &call));
    carry_state copies[ROWS];
    for (int i = 0; i < ROWS; i++)
        OK(carry_state_copy(r.session, states[i], &copies[i]));
    call.y = on;
    OK(run_call(&r, &call));
    const uint8_t reset[ROWS] = {0, 1, 255};
    call.states = copies;
    call.reset = reset;
    call.y = y;
    OK(run_call(&r, &call));
    enum { ROW = STEPS * 4 };
    SAME_BITS(y, on, ROW);
    const float *y_reset = y + ROW, *fresh_reset = fresh + ROW;
    SAME_BITS(y_reset, fresh_reset, 2 * ROW);
    free(x);
    rig_close(&r);
}

Test(run, a_row_of_no_steps_is_untouched)
{
    rig r = rig_open(&three_outputs, NULL);
    enum { ROWS = 2, STEPS = 3 };
    float *x = random_input(&r, ROWS, STEPS, 1);
    float y[ROWS * STEPS * 3], h[ROWS * 4], c[ROWS * 4], z[ROWS * STEPS * 4];
    carry_state states[ROWS];
    open_states(&r, states, ROWS);
    carry_array in = {
        .size = sizeof in, .data = x, .bytes = sizeof(float) * ROWS * STEPS * 2};
    carry_array out[4] = {{.size = sizeof *out, .data = y, .bytes = sizeof y},
                          {.size = sizeof *out, .data = h, .bytes = sizeof h},
                          {.size = sizeof *out, .data = c, .bytes = sizeof c},
                          {.size = sizeof *out, .data = z, .bytes = sizeof z}};
    carry_batch batch = {.size = sizeof batch,
                         .rows = ROWS,
                         .states = states,
                         .max_steps = STEPS,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = 4};
    OK(carry_run(r.session, &batch));
    float h_before[4], c_before[4];
    memcpy(h_before, h, sizeof h_before);
    memcpy(c_before, c, sizeof c_before);
    size_t bytes, bytes_after;
    void *before = save(&r, states, 1, &bytes);
    memset(y, 0x7f, sizeof y);
    memset(h, 0x7f, sizeof h);
    memset(c, 0x7f, sizeof c);
    memset(z, 0x7f, sizeof z);
    const uint32_t steps[ROWS] = {0, 2};
    const uint8_t reset[ROWS] = {1, 0}; /* says nothing about a row of no steps */
    batch.steps = steps;
    batch.reset = reset;
    OK(carry_run(r.session, &batch));
    void *after = save(&r, states, 1, &bytes_after);
    cr_assert(bytes == bytes_after && memcmp(before, after, bytes) == 0,
              "the state moved");
    SAME_BITS(h, h_before, 4);
    SAME_BITS(c, c_before, 4);
    static const float zeros[STEPS * 4];
    SAME_BITS(y, zeros, STEPS * 3);
    SAME_BITS(z, zeros, STEPS * 4);
    free(before);
    free(after);
    free(x);
    rig_close(&r);
}

Test(run, every_output_of_a_model_with_several)
{
    rig r = rig_open(&three_outputs, NULL);
    enum { ROWS = 3, STEPS = 5 };
    const uint32_t steps[ROWS] = {5, 2, 4};
    float *x = random_input(&r, ROWS, STEPS, 1);
    float y[ROWS * STEPS * 3], h[ROWS * 4], c[ROWS * 4], z[ROWS * STEPS * 4],
        only[ROWS * 4];
    carry_state states[ROWS];
    open_states(&r, states, ROWS);
    carry_array in = {
        .size = sizeof in, .data = x, .bytes = sizeof(float) * ROWS * STEPS * 2};
    carry_array out[4] = {{.size = sizeof *out, .data = y, .bytes = sizeof y},
                          {.size = sizeof *out, .data = h, .bytes = sizeof h},
                          {.size = sizeof *out, .data = c, .bytes = sizeof c},
                          {.size = sizeof *out, .data = z, .bytes = sizeof z}};
    carry_batch batch = {.size = sizeof batch,
                         .rows = ROWS,
                         .states = states,
                         .steps = steps,
                         .max_steps = STEPS,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = 4};
    OK(carry_run(r.session, &batch));
    for (int i = 0; i < ROWS; i++) {
        float got_h[4], got_c[4];
        OK(carry_state_read(r.session, states[i], 0, got_h, 4));
        OK(carry_state_read(r.session, states[i], 1, got_c, 4));
        const float *out_h = h + 4 * i, *out_c = c + 4 * i;
        SAME_BITS(got_h, out_h, 4);
        SAME_BITS(got_c, out_c, 4);
        const float *last = z + (i * STEPS + steps[i] - 1) * 4;
        SAME_BITS(last, out_h, 4); /* of an LSTM the last y is h */
    }
    /* the same without the others, and with fewer outputs than the model has */
    out[0].data = out[2].data = NULL;
    out[0].bytes = out[2].bytes = 0;
    out[1].data = only;
    batch.output_count = 2;
    batch.states = NULL;
    OK(carry_run(r.session, &batch));
    SAME_BITS(h, only, ROWS * 4);
    batch.outputs = NULL; /* none at all: only the states advance */
    batch.output_count = 0;
    batch.states = states;
    OK(carry_run(r.session, &batch));
    free(x);
    rig_close(&r);
}

Test(run, states_inside_the_model_do_not_need_an_output)
{
    /* h of an inner layer, whose own sequence goes on to a head */
    model_spec spec = three_outputs;
    spec.outputs[0] = (cy_value){0, CY_PORT_C};
    spec.output_count = 1;
    rig r = rig_open(&spec, NULL);
    float *x = random_input(&r, 1, 3, 1), c[4], read[4];
    carry_state state;
    open_states(&r, &state, 1);
    OK(run_call(
        &r, &(call_spec){.rows = 1, .max_steps = 3, .states = &state, .x = x, .y = c}));
    OK(carry_state_read(r.session, state, 1, read, 4));
    SAME_BITS(c, read, 4);
    free(x);
    rig_close(&r);
}

Test(run, no_rows_do_nothing)
{
    rig r = rig_open(&plain, NULL);
    carry_batch batch = {.size = sizeof batch, .rows = 0};
    OK(carry_run(r.session, &batch));
    rig_close(&r);
}

Test(run, nothing_behind_the_arrays_is_touched)
{
    rig r = rig_open(&sequence, NULL);
    enum { ROWS = 5, STEPS = 3, COUNT = ROWS * STEPS * 4 };
    float *x = random_input(&r, ROWS, STEPS, 1), y[COUNT + 32];
    for (int i = 0; i < COUNT + 32; i++)
        y[i] = 77;
    OK(run_call(&r, &(call_spec){.rows = ROWS, .max_steps = STEPS, .x = x, .y = y + 16}));
    for (int i = 0; i < 16; i++)
        cr_assert(y[i] == 77 && y[COUNT + 16 + i] == 77, "%d", i);
    for (int i = 16; i < COUNT + 16; i++)
        cr_assert_neq(y[i], 77);
    free(x);
    rig_close(&r);
}

/* ---- row_status ----------------------------------------------------------------------------- */

Test(run, a_bad_row_gets_its_code_and_the_others_run)
{
    rig r = rig_open(&ids, NULL);
    rig other = rig_open(&ids, NULL);
    enum { ROWS = 9, STEPS = 3, ROW = STEPS * 4 };
    carry_state states[ROWS] = {{0}};
    open_states(&r, states, ROWS - 1);
    float first[ROWS * ROW], y[ROWS * ROW], expected[ROWS * ROW];
    int32_t *x = random_input(&r, ROWS, STEPS, 3);
    call_spec call = {
        .rows = ROWS, .max_steps = STEPS, .states = states, .x = x, .y = first};
    OK(run_call(&r, &call)); /* so that the states are not zeros */

    carry_state copies[ROWS] = {{0}};
    for (int i = 0; i < ROWS - 1; i++)
        OK(carry_state_copy(r.session, states[i], &copies[i]));
    call.states = copies;
    call.y = expected;
    OK(run_call(&r, &call));

    carry_state mixed[ROWS], stale = states[1];
    memcpy(mixed, states, sizeof mixed);
    OK(carry_state_close(r.session, &states[1]));
    mixed[1] = stale;
    OK(carry_state_open(other.session, &mixed[2])); /* of another session */
    mixed[4] = mixed[3];                            /* given twice */
    uint32_t steps[ROWS] = {3, 3, 3, 3, 3, 4, 3, 3, 3};
    int32_t *bad = malloc(sizeof *bad * ROWS * STEPS);
    memcpy(bad, x, sizeof *bad * ROWS * STEPS);
    bad[6 * STEPS + 2] = 6;
    bad[7 * STEPS] = -1;
    size_t bytes[ROWS] = {0};
    void *before[ROWS] = {0};
    for (int i = 4; i < 8; i++)
        before[i] = save(&r, &states[i], 1, &bytes[i]);

    carry_status status[ROWS];
    memset(status, 0x55, sizeof status);
    call = (call_spec){.rows = ROWS,
                       .max_steps = STEPS,
                       .states = mixed,
                       .steps = steps,
                       .x = bad,
                       .y = y,
                       .row_status = status};
    memset(y, 0x7f, sizeof y);
    OK(run_call(&r, &call));
    static const carry_status wanted[ROWS] = {
        CARRY_OK,         CARRY_E_STALE, CARRY_E_FOREIGN, CARRY_OK, CARRY_E_DUPLICATE,
        CARRY_E_ARGUMENT, CARRY_E_INPUT, CARRY_E_INPUT,   CARRY_OK};
    static const float zeros[ROW];
    for (int i = 0; i < ROWS; i++) {
        cr_expect_eq(status[i], wanted[i], "row %d: %s, expected %s", i,
                     carry_status_name(status[i]), carry_status_name(wanted[i]));
        const float *got = y + i * ROW;
        const float *want = wanted[i] == CARRY_OK ? expected + i * ROW : zeros;
        SAME_BITS(got, want, ROW);
    }
    for (int i = 4; i < 8; i++) {
        size_t after_bytes;
        void *after = save(&r, &states[i], 1, &after_bytes);
        cr_assert(after_bytes == bytes[i] && memcmp(before[i], after, after_bytes) == 0,
                  "the state of row %d moved", i);
        free(after);
        free(before[i]);
    }
    free(bad);
    free(x);
    rig_close(&r);
    rig_close(&other);
}

Test(run, bad_values_behind_a_rows_steps_are_never_read)
{
    rig r = rig_open(&ids, NULL);
    int32_t x[4] = {1, 2, -5, 1000000};
    uint32_t steps = 2;
    float y[16], expected[8];
    OK(run_call(
        &r, &(call_spec){.rows = 1, .max_steps = 4, .steps = &steps, .x = x, .y = y}));
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 2, .x = x, .y = expected}));
    SAME_BITS(y, expected, 8);
    rig_close(&r);
}

/* ---- whole-sequence models ------------------------------------------------------------------ */

Test(run, backwards_is_the_forward_layer_on_the_reversed_sequence)
{
    rig back = rig_open(&backwards, NULL);
    model_spec forward_spec = backwards;
    forward_spec.layers[0].flags = SEQUENCES;
    rig forward = rig_open(&forward_spec, NULL);
    enum { STEPS = 6, LENGTH = 4 };
    float *x = random_input(&back, 1, STEPS, 1), turned[LENGTH * 2];
    for (int t = 0; t < LENGTH; t++)
        memcpy(turned + 2 * t, x + 2 * (LENGTH - 1 - t), 2 * sizeof *x);
    uint32_t steps = LENGTH;
    float y[STEPS * 5], expected[LENGTH * 5];
    OK(run_call(
        &back,
        &(call_spec){.rows = 1, .max_steps = STEPS, .steps = &steps, .x = x, .y = y}));
    OK(run_call(
        &forward,
        &(call_spec){.rows = 1, .max_steps = LENGTH, .x = turned, .y = expected}));
    SAME_BITS(y, expected, LENGTH * 5);
    free(x);
    rig_close(&back);
    rig_close(&forward);
}

Test(run, whole_sequence_models_keep_a_state_between_calls)
{
    rig r = rig_open(&backwards, NULL);
    float *x = random_input(&r, 1, 6, 1), first[30], second[30], zero[30];
    carry_state state;
    open_states(&r, &state, 1);
    call_spec call = {.rows = 1, .max_steps = 6, .states = &state, .x = x, .y = first};
    OK(run_call(&r, &call));
    call.y = second;
    OK(run_call(&r, &call));
    call.states = NULL;
    call.y = zero;
    OK(run_call(&r, &call));
    SAME_BITS(first, zero, 30);
    cr_assert_neq(first_difference(first, second, 30), 30);
    float h[5];
    OK(carry_state_read(r.session, state, 0, h, 5));
    const float *last = second + 25; /* processed last: the first step of the input */
    SAME_BITS(h, last, 5);
    free(x);
    rig_close(&r);
}

/* ---- long sequences ------------------------------------------------------------------------- */

Test(run, a_hundred_thousand_steps_stay_bounded)
{
    model_spec spec = {.features = 2, .layers = {LSTM_LAYER(17, SEQUENCES)}};
    carry_session_options one = {.size = sizeof one, .threads = 1};
    rig r = rig_open(&spec, &one);
    enum { STEPS = 1000, CALLS = 100 };
    float *x = random_input(&r, 1, STEPS, 1), *y = calloc(STEPS * 17, sizeof *y);
    carry_state state;
    open_states(&r, &state, 1);
    carry_session_info before = {.size = sizeof before}, after = {.size = sizeof after};
    OK(carry_session_get_info(r.session, &before));
    for (int call = 0; call < CALLS; call++) {
        OK(run_call(
            &r, &(call_spec){
                    .rows = 1, .max_steps = STEPS, .states = &state, .x = x, .y = y}));
        for (int i = 0; i < STEPS * 17; i++)
            cr_assert(fabsf(y[i]) <= 1, "call %d: h is %g", call, (double)y[i]);
    }
    OK(carry_session_get_info(r.session, &after));
    cr_assert_eq(before.workspace_bytes, after.workspace_bytes);
    cr_assert_eq(before.pool_bytes, after.pool_bytes);
    float c[17];
    OK(carry_state_read(r.session, state, 1, c, 17));
    for (int i = 0; i < 17; i++)
        cr_assert(isfinite(c[i]) && fabsf(c[i]) < 1000, "c is %g", (double)c[i]);
    free(x);
    free(y);
    rig_close(&r);
}

Test(run, memory_of_a_session_does_not_grow_with_the_steps_of_a_call)
{
    model_spec spec = {.features = 2,
                       .layers = {LSTM_LAYER(3, SEQUENCES), LSTM_LAYER(3, 0)}};
    rig r = rig_open(&spec, NULL);
    enum { STEPS = 100000 };
    float *x = random_input(&r, 1, STEPS, 1), y[3];
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = STEPS, .x = x, .y = y}));
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(r.session, &info));
    cr_assert_lt(info.workspace_bytes, (uint64_t)STEPS * 2 * 3 * sizeof(float) * 4);
    free(x);
    rig_close(&r);
}
