/* States: open, close, reset, copy, read, write, and handles that are no longer or never were. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

static const model_spec two_layers = {
    .features = 3, .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(17, SEQUENCES)}};

#define STEPS 4
#define COUNT (STEPS * 17)

static void step(const rig *r, carry_state state, const float *x, float *y)
{
    OK(run_call(r, &(call_spec){
                       .rows = 1, .max_steps = STEPS, .states = &state, .x = x, .y = y}));
}

static size_t open_count(const rig *r)
{
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(r->session, &info));
    return info.states;
}

Test(state, a_new_one_is_zeros)
{
    rig r = rig_open(&two_layers, NULL);
    carry_state state;
    OK(carry_state_open(r.session, &state));
    cr_assert_neq(state.id, 0);
    for (size_t k = 0; k < 4; k++) {
        float values[17];
        memset(values, 0x7f, sizeof values);
        OK(carry_state_read(r.session, state, k, values, r.state[k]));
        for (size_t i = 0; i < r.state[k]; i++)
            cr_assert(memcmp(&values[i], &(float){0}, 4) == 0);
    }
    float *x = random_input(&r, 1, STEPS, 1), with[COUNT], without[COUNT];
    step(&r, state, x, with);
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = STEPS, .x = x, .y = without}));
    SAME_BITS(with, without, COUNT);
    free(x);
    rig_close(&r);
}

Test(state, a_used_slot_opens_as_zeros_again)
{
    rig r = rig_open(
        &two_layers,
        &(carry_session_options){.size = sizeof(carry_session_options), .max_states = 1});
    float *x = random_input(&r, 1, STEPS, 1), first[COUNT], second[COUNT];
    carry_state state;
    for (int round = 0; round < 5; round++) {
        OK(carry_state_open(r.session, &state));
        step(&r, state, x, round ? second : first);
        if (round) SAME_BITS(first, second, COUNT);
        step(&r, state, x, second);
        OK(carry_state_close(r.session, &state));
        cr_assert_eq(state.id, 0);
    }
    free(x);
    rig_close(&r);
}

Test(state, reset_is_as_if_just_opened)
{
    rig r = rig_open(&two_layers, NULL);
    float *x = random_input(&r, 1, STEPS, 1), first[COUNT], again[COUNT];
    carry_state state, fresh;
    OK(carry_state_open(r.session, &state));
    OK(carry_state_open(r.session, &fresh));
    step(&r, state, x, first);
    for (int uses = 1; uses <= 2; uses++) { /* both versions of the slot */
        for (int i = 0; i < uses; i++)
            step(&r, state, x, again);
        OK(carry_state_reset(r.session, state));
        size_t bytes, fresh_bytes;
        void *saved = save(&r, &state, 1, &bytes),
             *zeros = save(&r, &fresh, 1, &fresh_bytes);
        cr_assert(bytes == fresh_bytes && memcmp(saved, zeros, bytes) == 0);
        free(saved);
        free(zeros);
        step(&r, state, x, again);
        SAME_BITS(first, again, COUNT);
    }
    free(x);
    rig_close(&r);
}

Test(state, a_copy_continues_then_goes_its_own_way)
{
    rig r = rig_open(&two_layers, NULL);
    float *x = random_input(&r, 3, STEPS, 1);
    float *one = x, *two = x + STEPS * 3, *three = x + 2 * STEPS * 3;
    float y[COUNT], original[COUNT], copied[COUNT], other[COUNT], expected[COUNT];
    carry_state state, copy, reference;
    open_states(&r, &state, 1);
    open_states(&r, &reference, 1);
    step(&r, state, one, y);
    step(&r, reference, one, y);
    OK(carry_state_copy(r.session, state, &copy));
    cr_assert(copy.id != 0 && copy.id != state.id);
    step(&r, copy, three, other); /* goes first: it must not disturb the original */
    step(&r, state, two, original);
    step(&r, reference, two, expected);
    SAME_BITS(original, expected, COUNT);
    cr_assert_neq(first_difference(original, other, COUNT), COUNT);
    OK(carry_state_copy(r.session, state, &copy));
    step(&r, state, three, original);
    step(&r, copy, three, copied);
    SAME_BITS(original, copied, COUNT);
    /* a copy of a state of zeros, and one that outlives its source */
    OK(carry_state_reset(r.session, state));
    OK(carry_state_copy(r.session, state, &copy));
    OK(carry_state_close(r.session, &state));
    step(&r, copy, one, copied);
    OK(run_call(&r,
                &(call_spec){.rows = 1, .max_steps = STEPS, .x = one, .y = expected}));
    SAME_BITS(copied, expected, COUNT);
    free(x);
    rig_close(&r);
}

Test(state, what_is_written_is_read_and_used)
{
    rig r = rig_open(&two_layers, NULL);
    float *x = random_input(&r, 2, STEPS, 1), y[COUNT], expected[COUNT], got[COUNT];
    carry_state source, target;
    open_states(&r, &source, 1);
    open_states(&r, &target, 1);
    step(&r, source, x, y);
    for (size_t k = 0; k < 4; k++) {
        float values[17], back[17];
        OK(carry_state_read(r.session, source, k, values, r.state[k]));
        OK(carry_state_write(r.session, target, k, values, r.state[k]));
        OK(carry_state_read(r.session, target, k, back, r.state[k]));
        SAME_BITS(values, back, r.state[k]);
    }
    step(&r, source, x + STEPS * 3, expected);
    step(&r, target, x + STEPS * 3, got);
    SAME_BITS(expected, got, COUNT);

    /* one tensor written leaves the others as they were; a reset one is zeros around it */
    float ones[17] = {1, 1, 1, 1, 1}, others[17], before[17];
    OK(carry_state_read(r.session, target, 3, before, 17));
    OK(carry_state_write(r.session, target, 0, ones, 5));
    OK(carry_state_read(r.session, target, 3, others, 17));
    SAME_BITS(before, others, 17);
    OK(carry_state_reset(r.session, target));
    OK(carry_state_write(r.session, target, 0, ones, 5));
    OK(carry_state_read(r.session, target, 3, others, 17));
    static const float zeros[17];
    SAME_BITS(zeros, others, 17);
    free(x);
    rig_close(&r);
}

Test(state, tensors_are_checked)
{
    rig r = rig_open(&two_layers, NULL);
    carry_state state;
    float values[64] = {0};
    open_states(&r, &state, 1);
    FAILS(CARRY_E_ARGUMENT, "4", carry_state_read(r.session, state, 4, values, 17));
    FAILS(CARRY_E_ARGUMENT, "4", carry_state_write(r.session, state, 4, values, 17));
    FAILS(CARRY_E_ARGUMENT, "layer0/h", carry_state_read(r.session, state, 0, values, 6));
    FAILS(CARRY_E_ARGUMENT, "layer1/c",
          carry_state_write(r.session, state, 3, values, 16));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_state_read(r.session, state, 0, NULL, 5));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_state_write(r.session, state, 0, NULL, 5));
    rig_close(&r);
}

/* ---- handles -------------------------------------------------------------------------------- */

/* Every function that takes a handle refuses this one with `code`. */
static void refused(const rig *r, carry_state handle, carry_status code,
                    const char *words)
{
    float values[17] = {0}, x[STEPS * 3] = {0}, y[COUNT];
    carry_state copy = {42}, gone = handle;
    size_t bytes = 0;
    FAILS(code, words, carry_state_reset(r->session, handle));
    FAILS(code, words, carry_state_copy(r->session, handle, &copy));
    cr_expect_eq(copy.id, 0);
    FAILS(code, words, carry_state_read(r->session, handle, 0, values, 5));
    FAILS(code, words, carry_state_write(r->session, handle, 0, values, 5));
    FAILS(code, words, carry_states_save(r->session, &handle, 1, NULL, NULL, 0, &bytes));
    if (handle.id == 0) return; /* in a batch and to close, {0} means something else */
    FAILS(code, words, carry_state_close(r->session, &gone));
    FAILS(code, words,
          run_call(
              r, &(call_spec){
                     .rows = 1, .max_steps = STEPS, .states = &handle, .x = x, .y = y}));
}

Test(state, a_stale_handle_is_recognised)
{
    rig r = rig_open(&two_layers, NULL);
    carry_state state, copy;
    open_states(&r, &state, 1);
    copy = state;
    OK(carry_state_close(r.session, &copy));
    refused(&r, state, CARRY_E_STALE, "closed");
    carry_state next; /* takes the slot: the old handle must not reach it */
    open_states(&r, &next, 1);
    cr_assert_neq(next.id, state.id);
    refused(&r, state, CARRY_E_STALE, "closed");
    cr_assert_eq(open_count(&r), 1);
    rig_close(&r);
}

Test(state, no_handle_comes_twice)
{
    rig r = rig_open(
        &two_layers,
        &(carry_session_options){.size = sizeof(carry_session_options), .max_states = 2});
    enum { OPENS = 200000 }; /* more than a slot has generations */
    carry_state first, state;
    open_states(&r, &first, 1);
    carry_state stale = first;
    OK(carry_state_close(r.session, &first));
    carry_status status = CARRY_OK;
    for (int i = 0; i < OPENS && status == CARRY_OK; i++) {
        status = carry_state_open(r.session, &state);
        if (status != CARRY_OK) break;
        cr_assert_neq(state.id, stale.id, "the handle of a closed state is alive again");
        OK(carry_state_close(r.session, &state));
    }
    /* A pool of two whose handles are used up may say so; it may not reuse one. */
    if (status != CARRY_OK) cr_assert_eq(status, CARRY_E_FULL, "%s", carry_error());
    rig_close(&r);
}

Test(state, a_handle_of_another_session_is_recognised)
{
    rig a = rig_open(&two_layers, NULL), b = rig_open(&two_layers, NULL);
    rig same = rig_of(build_model(&two_layers), NULL);
    carry_state state, own;
    open_states(&a, &state, 1);
    open_states(&b, &own, 1);
    refused(&b, state, CARRY_E_FOREIGN, "session");
    refused(&same, state, CARRY_E_FOREIGN, "session");
    rig_close(&a);
    refused(&b, state, CARRY_E_FOREIGN, "session"); /* even after that session is gone */
    rig_close(&b);
    rig_close(&same);
}

Test(state, two_sessions_of_one_model_do_not_mix)
{
    rig a = rig_open(&two_layers, NULL);
    carry_session *second = NULL;
    OK(carry_session_open(&second, a.model, NULL));
    rig b = a;
    b.session = second;
    carry_state state;
    open_states(&a, &state, 1);
    refused(&b, state, CARRY_E_FOREIGN, "session");
    carry_session_close(&second);
    rig_close(&a);
}

Test(state, made_up_handles_are_refused)
{
    rig r = rig_open(&two_layers, NULL);
    carry_state state;
    open_states(&r, &state, 1);
    uint64_t seed = 5;
    for (int i = 0; i < 20000; i++) {
        carry_state guess = {i < 64    ? state.id ^ (UINT64_C(1) << i)
                             : i < 128 ? UINT64_C(1) << (i - 64)
                                       : random_u64(&seed)};
        if (guess.id == state.id || guess.id == 0) continue;
        carry_status status = carry_state_reset(r.session, guess);
        cr_assert(status == CARRY_E_STALE || status == CARRY_E_FOREIGN, "%016llx: %s",
                  (unsigned long long)guess.id, carry_status_name(status));
    }
    refused(&r, (carry_state){0}, CARRY_E_ARGUMENT, "no state");
    rig_close(&r);
}

Test(state, close_takes_nothing_and_sets_nothing)
{
    rig r = rig_open(&two_layers, NULL);
    carry_state state = {0};
    OK(carry_state_close(r.session, &state));
    open_states(&r, &state, 1);
    cr_assert_eq(open_count(&r), 1);
    OK(carry_state_close(r.session, &state));
    cr_assert_eq(state.id, 0);
    cr_assert_eq(open_count(&r), 0);
    OK(carry_state_close(r.session, &state));
    rig_close(&r);
}

Test(state, the_pool_is_full_at_max_states)
{
    rig r = rig_open(
        &two_layers,
        &(carry_session_options){.size = sizeof(carry_session_options), .max_states = 3});
    carry_state states[3], more = {42};
    open_states(&r, states, 3);
    FAILS(CARRY_E_FULL, "3", carry_state_open(r.session, &more));
    cr_assert_eq(more.id, 0);
    more.id = 42;
    FAILS(CARRY_E_FULL, "3", carry_state_copy(r.session, states[0], &more));
    cr_assert_eq(more.id, 0);
    OK(carry_state_close(r.session, &states[1]));
    OK(carry_state_open(r.session, &more));
    FAILS(CARRY_E_FULL, "3", carry_state_open(r.session, &states[1]));
    rig_close(&r);
}

Test(state, many_of_them_keep_apart)
{
    /* more than one chunk of the pool; each is written its own number */
    model_spec spec = {.features = 1, .layers = {LSTM_LAYER(3, SEQUENCES)}};
    rig r = rig_open(&spec, NULL);
    enum { MANY = 20000 };
    carry_state *states = calloc(MANY, sizeof *states);
    open_states(&r, states, MANY);
    cr_assert_eq(open_count(&r), MANY);
    for (int i = 0; i < MANY; i++) {
        float h[3] = {(float)i, (float)-i, 1};
        OK(carry_state_write(r.session, states[i], 0, h, 3));
    }
    for (int i = 0; i < MANY; i++) {
        float h[3];
        OK(carry_state_read(r.session, states[i], 0, h, 3));
        cr_assert(h[0] == (float)i && h[1] == (float)-i && h[2] == 1);
    }
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(r.session, &info));
    cr_assert_geq(info.pool_bytes, MANY * 2 * 6 * sizeof(float));
    free(states);
    rig_close(&r);
}

Test(state, a_model_without_memory_has_states_too)
{
    model_spec spec = {.features = 2, .layers = {DENSE_LAYER(3, CY_ACT_RELU)}};
    rig r = rig_open(&spec, NULL);
    cr_assert_eq(r.state_tensors, 0);
    carry_state state, copy;
    open_states(&r, &state, 1);
    float *x = random_input(&r, 1, 4, 1), with[12], without[12];
    OK(run_call(&r, &(call_spec){
                        .rows = 1, .max_steps = 4, .states = &state, .x = x, .y = with}));
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 4, .x = x, .y = without}));
    SAME_BITS(with, without, 12);
    OK(carry_state_copy(r.session, state, &copy));
    OK(carry_state_reset(r.session, state));
    size_t bytes;
    void *saved = save(&r, &state, 1, &bytes);
    OK(carry_states_restore(r.session, &copy, 1, NULL, saved, bytes));
    free(saved);
    free(x);
    rig_close(&r);
}
