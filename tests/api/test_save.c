/* Saving and restoring states: what comes back, in this process and in another, and what is refused. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const model_spec spec = {.features = 3,
                                .layers = {LSTM_LAYER(5, SEQUENCES),
                                           LSTM_LAYER(4, SEQUENCES),
                                           DENSE_LAYER(2, CY_ACT_LINEAR)}};

#define STEPS 3
#define ROWS  4
#define COUNT (ROWS * STEPS * 2)

static void advance(const rig *r, const carry_state *states, size_t rows, uint64_t seed,
                    float *y)
{
    float *x = random_input(r, rows, STEPS, seed);
    OK(run_call(r,
                &(call_spec){
                    .rows = rows, .max_steps = STEPS, .states = states, .x = x, .y = y}));
    free(x);
}

static void *saved_rows(const rig *r, carry_state *states, size_t *bytes)
{
    float y[COUNT];
    open_states(r, states, ROWS);
    advance(r, states, ROWS, 1, y);
    return save(r, states, ROWS, bytes);
}

Test(save, restore_continues_bit_for_bit)
{
    rig r = rig_open(&spec, NULL), other = rig_open(&spec, NULL);
    carry_state states[ROWS], restored[ROWS];
    size_t bytes;
    void *saved = saved_rows(&r, states, &bytes);
    open_states(&other, restored, ROWS);
    OK(carry_states_restore(other.session, restored, ROWS, NULL, saved, bytes));
    float expected[COUNT], got[COUNT];
    advance(&r, states, ROWS, 2, expected);
    advance(&other, restored, ROWS, 2, got);
    SAME_BITS(expected, got, COUNT);
    /* and over states that had gone elsewhere */
    OK(carry_states_restore(r.session, states, ROWS, NULL, saved, bytes));
    advance(&r, states, ROWS, 2, got);
    SAME_BITS(expected, got, COUNT);
    free(saved);
    rig_close(&r);
    rig_close(&other);
}

Test(save, restore_in_another_process_continues)
{
    rig r = rig_open(&spec, NULL);
    carry_state states[ROWS];
    size_t bytes;
    void *saved = saved_rows(&r, states, &bytes);
    float expected[COUNT], got[COUNT];
    advance(&r, states, ROWS, 2, expected);
    FILE *file = tmpfile(), *answer = tmpfile();
    cr_assert(file && answer);
    cr_assert_eq(fwrite(saved, 1, bytes, file), bytes);
    free(saved);
    rig_close(&r);
    fflush(file);

    pid_t child = fork();
    if (child == 0) { /* knows the file and the model, nothing else */
        rewind(file);
        void *data = malloc(bytes);
        rig fresh = rig_open(&spec, NULL);
        carry_state again[ROWS];
        open_states(&fresh, again, ROWS);
        if (fread(data, 1, bytes, file) != bytes ||
            carry_states_restore(fresh.session, again, ROWS, NULL, data, bytes) !=
                CARRY_OK)
            _exit(3);
        advance(&fresh, again, ROWS, 2, got);
        _exit(fwrite(got, sizeof *got, COUNT, answer) == COUNT && fflush(answer) == 0
                  ? 0
                  : 4);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process: %d",
              status);
    rewind(answer);
    cr_assert_eq(fread(got, sizeof *got, COUNT, answer), COUNT);
    SAME_BITS(expected, got, COUNT);
    fclose(file);
    fclose(answer);
}

Test(save, the_same_state_gives_the_same_bytes)
{
    rig r = rig_open(&spec, NULL);
    carry_state states[ROWS], copies[ROWS];
    size_t bytes, again_bytes;
    void *saved = saved_rows(&r, states, &bytes);
    for (int i = 0; i < ROWS; i++)
        OK(carry_state_copy(r.session, states[i], &copies[i]));
    void *again = save(&r, copies, ROWS, &again_bytes);
    cr_assert(bytes == again_bytes && memcmp(saved, again, bytes) == 0);
    free(saved);
    free(again);
    rig_close(&r);
}

Test(save, state_i_is_row_i)
{
    rig r = rig_open(&spec, NULL);
    carry_state states[ROWS], turned[ROWS];
    size_t bytes;
    void *saved = saved_rows(&r, states, &bytes);
    open_states(&r, turned, ROWS);
    OK(carry_states_restore(r.session, turned, ROWS, NULL, saved, bytes));
    for (int i = 0; i < ROWS; i++) {
        float a[5], b[5];
        OK(carry_state_read(r.session, states[i], 0, a, 5));
        OK(carry_state_read(r.session, turned[i], 0, b, 5));
        SAME_BITS(a, b, 5);
    }
    free(saved);
    rig_close(&r);
}

Test(save, some_tensors_only)
{
    rig r = rig_open(&spec, NULL);
    carry_state state, target;
    float y[COUNT], before[2][5], after[2][5], want[4];
    open_states(&r, &state, 1);
    open_states(&r, &target, 1);
    advance(&r, &state, 1, 1, y);
    advance(&r, &target, 1, 2, y);
    const uint8_t second[4] = {0, 0, 1, 1}, first[4] = {7, 1, 0, 0};
    size_t bytes, all_bytes;
    OK(carry_states_save(r.session, &state, 1, NULL, NULL, 0, &all_bytes));
    OK(carry_states_save(r.session, &state, 1, second, NULL, 0, &bytes));
    cr_assert_lt(bytes, all_bytes);
    void *saved = malloc(bytes);
    OK(carry_states_save(r.session, &state, 1, second, saved, bytes, &bytes));
    for (size_t k = 0; k < 2; k++)
        OK(carry_state_read(r.session, target, k, before[k], 5));
    FAILS(CARRY_E_MISMATCH, "layer0/h",
          carry_states_restore(r.session, &target, 1, NULL, saved, bytes));
    FAILS(CARRY_E_MISMATCH, "layer",
          carry_states_restore(r.session, &target, 1, first, saved, bytes));
    OK(carry_states_restore(r.session, &target, 1, second, saved, bytes));
    for (size_t k = 0; k < 2; k++) {
        OK(carry_state_read(r.session, target, k, after[k], 5));
        SAME_BITS(before[k], after[k], 5);
        float got[4];
        OK(carry_state_read(r.session, target, 2 + k, got, 4));
        OK(carry_state_read(r.session, state, 2 + k, want, 4));
        SAME_BITS(got, want, 4);
    }
    free(saved);
    rig_close(&r);
}

Test(save, a_small_buffer_says_what_is_needed)
{
    rig r = rig_open(&spec, NULL);
    carry_state state;
    open_states(&r, &state, 1);
    size_t needed, bytes = 0;
    OK(carry_states_save(r.session, &state, 1, NULL, NULL, 0, &needed));
    unsigned char *buffer = malloc(needed);
    memset(buffer, 0x55, needed);
    FAILS(CARRY_E_CAPACITY, "bytes",
          carry_states_save(r.session, &state, 1, NULL, buffer, needed - 1, &bytes));
    cr_assert_eq(bytes, needed);
    for (size_t i = 0; i < needed; i++)
        cr_assert_eq(buffer[i], 0x55);
    OK(carry_states_save(r.session, &state, 1, NULL, buffer, needed, &bytes));
    cr_assert_eq(bytes, needed);
    free(buffer);
    rig_close(&r);
}

Test(save, another_models_state_is_refused_and_the_difference_named)
{
    rig r = rig_open(&spec, NULL);
    carry_state states[ROWS], target[ROWS];
    size_t bytes;
    void *saved = saved_rows(&r, states, &bytes);

    model_spec wider = spec, other_activation = spec, shorter = spec;
    wider.layers[1].units = 6;
    other_activation.layers[0].activation = CY_ACT_RELU;
    shorter.layers[2].present = false;
    const struct {
        const model_spec *spec;
        const char *words;
    } others[] = {
        {&wider, "layer1"}, {&other_activation, "layer0"}, {&shorter, "layer2"}};
    for (size_t i = 0; i < 3; i++) {
        rig other = rig_open(others[i].spec, NULL);
        open_states(&other, target, ROWS);
        FAILS(CARRY_E_MISMATCH, others[i].words,
              carry_states_restore(other.session, target, ROWS, NULL, saved, bytes));
        rig_close(&other);
    }
    /* other weights are no difference: the state fits */
    model_spec retrained = spec;
    retrained.seed = 77;
    rig other = rig_open(&retrained, NULL);
    open_states(&other, target, ROWS);
    OK(carry_states_restore(other.session, target, ROWS, NULL, saved, bytes));
    rig_close(&other);

    FAILS(CARRY_E_MISMATCH, "layer0/h' is [4, 5]",
          carry_states_restore(r.session, states, ROWS - 1, NULL, saved, bytes));
    free(saved);
    rig_close(&r);
}

Test(save, restore_takes_all_states_or_none)
{
    rig r = rig_open(&spec, NULL), other = rig_open(&spec, NULL);
    carry_state states[ROWS], bad[ROWS], foreign, stale;
    size_t bytes, before_bytes, after_bytes;
    void *saved = saved_rows(&r, states, &bytes);
    float y[COUNT];
    advance(&r, states, ROWS, 2, y);
    void *before = save(&r, states, ROWS, &before_bytes);
    open_states(&other, &foreign, 1);
    open_states(&r, &stale, 1);
    carry_state copy = stale;
    OK(carry_state_close(r.session, &copy));

    memcpy(bad, states, sizeof bad);
    bad[3] = foreign;
    FAILS(CARRY_E_FOREIGN, "session",
          carry_states_restore(r.session, bad, ROWS, NULL, saved, bytes));
    bad[3] = stale;
    FAILS(CARRY_E_STALE, "closed",
          carry_states_restore(r.session, bad, ROWS, NULL, saved, bytes));
    bad[3] = bad[0];
    FAILS(CARRY_E_DUPLICATE, "twice",
          carry_states_restore(r.session, bad, ROWS, NULL, saved, bytes));
    bad[3] = (carry_state){0};
    FAILS(CARRY_E_ARGUMENT, "no state",
          carry_states_restore(r.session, bad, ROWS, NULL, saved, bytes));
    void *after = save(&r, states, ROWS, &after_bytes);
    cr_assert(before_bytes == after_bytes && memcmp(before, after, after_bytes) == 0,
              "a refused restore moved a state");
    free(saved);
    free(before);
    free(after);
    rig_close(&r);
    rig_close(&other);
}

Test(save, arguments_are_checked)
{
    rig r = rig_open(&spec, NULL);
    carry_state state;
    open_states(&r, &state, 1);
    size_t bytes = 7;
    FAILS(CARRY_E_ARGUMENT, "NULL",
          carry_states_save(r.session, &state, 1, NULL, NULL, 0, NULL));
    FAILS(CARRY_E_ARGUMENT, "0 states",
          carry_states_save(r.session, &state, 0, NULL, NULL, 0, &bytes));
    FAILS(CARRY_E_ARGUMENT, "states",
          carry_states_save(r.session, NULL, 1, NULL, NULL, 0, &bytes));
    FAILS(CARRY_E_ARGUMENT, "session",
          carry_states_save(NULL, &state, 1, NULL, NULL, 0, &bytes));
    FAILS(CARRY_E_ARGUMENT, "NULL",
          carry_states_restore(r.session, &state, 1, NULL, NULL, 9));
    FAILS(CARRY_E_ARGUMENT, "states",
          carry_states_restore(r.session, NULL, 1, NULL, "", 0));
    FAILS(CARRY_E_ARGUMENT, "session",
          carry_states_restore(NULL, &state, 1, NULL, "", 0));
    FAILS(CARRY_E_FORMAT, "safetensors",
          carry_states_restore(r.session, &state, 1, NULL, "", 0));
    rig_close(&r);
}

Test(save, one_state_may_fill_several_rows_of_a_file)
{
    rig r = rig_open(&spec, NULL);
    carry_state states[ROWS];
    float y[COUNT], got[5], want[5];
    open_states(&r, states, 2);
    advance(&r, states, 2, 1, y);
    const carry_state twice[2] = {states[1], states[1]};
    size_t bytes;
    void *saved = save(&r, twice, 2, &bytes);
    OK(carry_state_read(r.session, states[1], 0, want, 5));
    OK(carry_states_restore(r.session, states, 2, NULL, saved, bytes));
    for (int i = 0; i < 2; i++) {
        OK(carry_state_read(r.session, states[i], 0, got, 5));
        SAME_BITS(got, want, 5);
    }
    free(saved);
    rig_close(&r);
}

Test(save, layers_of_any_name)
{
    static const char *const names[] = {"a/b",
                                        "with space",
                                        "quote\"and\\backslash",
                                        "line\nbreak",
                                        "\xc3\xa9t\xc3\xa9",
                                        "__metadata__",
                                        "carry.checksum\":\"0000000000000000",
                                        "%s%n"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        model_spec named = spec;
        named.names[0] = names[i];
        rig r = rig_open(&named, NULL), other = rig_open(&named, NULL),
            unnamed = rig_open(&spec, NULL);
        carry_state states[ROWS], restored[ROWS], wrong[ROWS];
        size_t bytes;
        void *saved = saved_rows(&r, states, &bytes);
        open_states(&other, restored, ROWS);
        OK(carry_states_restore(other.session, restored, ROWS, NULL, saved, bytes));
        float a[5], b[5];
        OK(carry_state_read(r.session, states[2], 0, a, 5));
        OK(carry_state_read(other.session, restored[2], 0, b, 5));
        SAME_BITS(a, b, 5);
        open_states(&unnamed, wrong, ROWS);
        FAILS(CARRY_E_MISMATCH, "layer0",
              carry_states_restore(unnamed.session, wrong, ROWS, NULL, saved, bytes));
        free(saved);
        rig_close(&r);
        rig_close(&other);
        rig_close(&unnamed);
    }
}
