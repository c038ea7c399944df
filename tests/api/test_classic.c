/* The classic questions about LSTM(N), answered by Keras in tests/golden/classic: the shapes of
 * sequences and states, a whole sequence against one step at a time, an LSTM(1) as the head, and small
 * trained models that answer 1 for [1,0,0,0], 2 for [1,0,0,1] and 3 for [0,0,0,1]. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "tests/golden/classic/"

typedef struct classic {
    rig r;
    npy x;
    size_t outputs;
    npy wanted[3];
    carry_port_info ports[3];
} classic;

static classic classic_open(const char *name)
{
    classic c = {0};
    char path[256];
    snprintf(path, sizeof path, FOLDER "%s.keras", name);
    c.r = rig_of(open_foreign(path), NULL);
    snprintf(path, sizeof path, FOLDER "%s-input.npy", name);
    c.x = npy_read(path);
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(c.r.model, &info));
    c.outputs = info.outputs;
    cr_assert_leq(c.outputs, 3);
    for (size_t i = 0; i < c.outputs; i++) {
        snprintf(path, sizeof path, FOLDER "%s-%zu.npy", name, i);
        c.wanted[i] = npy_read(path);
        c.ports[i].size = sizeof c.ports[i];
        OK(carry_model_get_output(c.r.model, i, &c.ports[i]));
    }
    return c;
}

static void classic_close(classic *c)
{
    for (size_t i = 0; i < c->outputs; i++)
        free(c->wanted[i].data);
    free(c->x.data);
    rig_close(&c->r);
}

/* Runs the whole input without states and holds every output to Keras' numbers. */
static void check_whole(classic *c, const char *name)
{
    size_t rows = c->x.shape[0], steps = c->x.shape[1];
    carry_array in = {
        .size = sizeof in, .data = c->x.data, .bytes = c->x.count * sizeof(float)};
    carry_array out[3];
    for (size_t i = 0; i < c->outputs; i++) {
        size_t bytes = c->wanted[i].count * sizeof(float);
        out[i] =
            (carry_array){.size = sizeof *out, .data = malloc(bytes), .bytes = bytes};
    }
    carry_batch batch = {.size = sizeof batch,
                         .rows = rows,
                         .max_steps = steps,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = c->outputs};
    OK(carry_run(c->r.session, &batch));
    for (size_t i = 0; i < c->outputs; i++) {
        double error = worst_error(out[i].data, c->wanted[i].data, c->wanted[i].count);
        cr_expect(error <= 1e-5, "%s: output %zu is wrong by %.3g", name, i, error);
        free(out[i].data);
    }
}

static void check_shape(const classic *c, size_t output, char tensor, size_t rank,
                        const int64_t *dims)
{
    const carry_port_info *port = &c->ports[output];
    cr_expect_eq(port->tensor, tensor);
    cr_expect_eq((size_t)port->shape.rank, rank);
    cr_expect_eq(c->wanted[output].rank, rank);
    for (size_t i = 1; i < rank; i++) { /* axis 0, the rows, is free in the model */
        cr_expect_eq(port->shape.dim[i], dims[i]);
        cr_expect_eq((int64_t)c->wanted[output].shape[i], dims[i]);
    }
    cr_expect_eq(port->shape.dim[0], CARRY_FREE);
    cr_expect_eq((int64_t)c->wanted[output].shape[0], dims[0]);
}

Test(classic, shapes_of_sequences_and_states)
{
    static const struct {
        const char *name;
        size_t outputs;
        const char *tensors;
        size_t ranks[3];
        int64_t dims[3][3];
    } cases[] = {
        {"lstm1", 1, "y", {2}, {{1, 1}}},
        {"lstm1-sequences", 1, "y", {3}, {{1, 1, 1}}},
        {"lstm1-state", 3, "yhc", {2, 2, 2}, {{1, 1}, {1, 1}, {1, 1}}},
        {"lstm1-sequences-state", 3, "yhc", {3, 2, 2}, {{1, 1, 1}, {1, 1}, {1, 1}}},
        {"lstm5-sequences-state", 3, "yhc", {3, 2, 2}, {{1, 2, 5}, {1, 5}, {1, 5}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        classic c = classic_open(cases[i].name);
        cr_assert_eq(c.outputs, cases[i].outputs, "%s", cases[i].name);
        for (size_t k = 0; k < c.outputs; k++)
            check_shape(&c, k, cases[i].tensors[k], cases[i].ranks[k], cases[i].dims[k]);
        check_whole(&c, cases[i].name);
        classic_close(&c);
    }
}

Test(classic, the_last_step_of_the_sequence_is_h_and_not_c)
{
    classic c = classic_open("lstm5-sequences-state");
    float y[10], h[5], cell[5];
    carry_array in = {
        .size = sizeof in, .data = c.x.data, .bytes = c.x.count * sizeof(float)};
    carry_array out[3] = {{.size = sizeof *out, .data = y, .bytes = sizeof y},
                          {.size = sizeof *out, .data = h, .bytes = sizeof h},
                          {.size = sizeof *out, .data = cell, .bytes = sizeof cell}};
    carry_batch batch = {.size = sizeof batch,
                         .rows = 1,
                         .max_steps = 2,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = 3};
    OK(carry_run(c.r.session, &batch));
    const float *last = y + 5;
    SAME_BITS(last, h, 5);
    cr_assert_neq(first_difference(h, cell, 5), 5);
    classic_close(&c);
}

Test(classic, a_whole_sequence_or_one_step_at_a_time)
{
    classic whole = classic_open("answers"), stepwise = classic_open("answers-stepwise");
    check_whole(&whole, "answers");
    float y[3], expected[3];
    OK(run_call(
        &whole.r,
        &(call_spec){.rows = 3, .max_steps = 4, .x = whole.x.data, .y = expected}));
    carry_state states[3];
    open_states(&stepwise.r, states, 3);
    for (size_t t = 0; t < 4; t++) {
        float x[3];
        for (size_t row = 0; row < 3; row++)
            x[row] = ((float *)whole.x.data)[4 * row + t];
        OK(run_call(
            &stepwise.r,
            &(call_spec){.rows = 3, .max_steps = 1, .states = states, .x = x, .y = y}));
        double error = worst_error(y, (float *)stepwise.wanted[0].data + 3 * t, 3);
        cr_expect(error <= 1e-5, "step %zu is wrong by %.3g", t, error);
    }
    SAME_BITS(y, expected, 3);
    classic_close(&whole);
    classic_close(&stepwise);
}

static void check_answer(float got, int row)
{
    cr_expect(fabsf(got - (float)(row + 1)) <= 0.05f, "sequence %d: %g, expected %d", row,
              (double)got, row + 1);
}

Test(classic, the_answers_are_1_2_and_3)
{
    static const float sequences[3][4] = {{1, 0, 0, 0}, {1, 0, 0, 1}, {0, 0, 0, 1}};
    classic whole = classic_open("answers"), one = classic_open("answers-one-by-one");
    float y[3];
    OK(run_call(&whole.r,
                &(call_spec){.rows = 3, .max_steps = 4, .x = sequences, .y = y}));
    carry_state state;
    open_states(&one.r, &state, 1);
    for (int row = 0; row < 3; row++) {
        check_answer(y[row], row);
        OK(carry_state_reset(one.r.session, state)); /* between the sequences */
        float answer = 0;
        for (int t = 0; t < 4; t++) {
            OK(run_call(&one.r, &(call_spec){.rows = 1,
                                             .max_steps = 1,
                                             .states = &state,
                                             .x = &sequences[row][t],
                                             .y = &answer}));
            float want = ((float *)one.wanted[0].data)[4 * row + t];
            cr_expect(worst_error(&answer, &want, 1) <= 1e-5, "row %d, step %d", row, t);
        }
        check_answer(answer, row);
    }
    classic_close(&whole);
    classic_close(&one);
}

Test(classic, without_memory_the_last_step_cannot_tell_2_from_3)
{
    classic one = classic_open("answers-one-by-one");
    const float last[2] = {1, 1};
    float y[2];
    OK(run_call(&one.r, &(call_spec){.rows = 2, .max_steps = 1, .x = last, .y = y}));
    cr_assert_eq(y[0], y[1]);
    classic_close(&one);
}

Test(classic, an_lstm_may_be_the_head)
{
    classic c = classic_open("lstm-head");
    check_whole(&c, "lstm-head");
    cr_assert_eq(c.ports[0].width, 1);
    cr_assert_eq(c.ports[0].has_time, 0);
    classic_close(&c);
}
