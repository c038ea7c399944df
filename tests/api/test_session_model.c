/* Another model under a session: the states go on, as in a session of the new model that was given them. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

static const model_spec old_spec = {.features = 3,
                                    .layers = {LSTM_LAYER(5, SEQUENCES),
                                               LSTM_LAYER(17, SEQUENCES),
                                               DENSE_LAYER(2, CY_ACT_LINEAR)},
                                    .seed = 1};

#define ROWS  4
#define STEPS 3
#define COUNT (ROWS * STEPS * 2)

static model_spec retrained(void)
{
    model_spec spec = old_spec;
    spec.seed = 77;
    return spec;
}

static void advance(const rig *r, const carry_state *states, size_t rows, uint64_t seed,
                    float *y)
{
    float *x = random_input(r, rows, STEPS, seed);
    OK(run_call(r,
                &(call_spec){
                    .rows = rows, .max_steps = STEPS, .states = states, .x = x, .y = y}));
    free(x);
}

/* What the new model says in a session of its own, given these states of the old session. */
static void expect(const rig *r, const carry_state *states, const model_spec *new_spec,
                   float *y)
{
    rig fresh = rig_open(new_spec, NULL);
    carry_state restored[ROWS];
    size_t bytes;
    void *saved = save(r, states, ROWS, &bytes);
    open_states(&fresh, restored, ROWS);
    OK(carry_states_restore(fresh.session, restored, ROWS, NULL, saved, bytes));
    advance(&fresh, restored, ROWS, 9, y);
    free(saved);
    rig_close(&fresh);
}

Test(session_model, states_go_on_under_the_new_weights)
{
    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        carry_session_options options = {.size = sizeof options, .threads = threads};
        model_spec spec = retrained();
        rig r = rig_open(&old_spec, &options);
        carry_state states[ROWS], more;
        float y[COUNT], under_old[COUNT], expected[COUNT], got[COUNT];
        open_states(&r, states, ROWS);
        advance(&r, states, ROWS - 1, 1, y); /* the last one stays zeros */
        OK(carry_state_fork(r.session, states[0], &more, 1));
        expect(&r, states, &spec, expected);
        expect(&r, states, &old_spec, under_old);
        cr_assert_neq(first_difference(expected, under_old, COUNT), COUNT,
                      "the two models say the same");

        carry_model *model = build_model(&spec);
        OK(carry_session_set_model(r.session, model));
        carry_model_close(&r.model); /* nobody needs the old one any more */
        r.model = model;
        advance(&r, states, ROWS, 9, got);
        SAME_BITS(expected, got, COUNT);
        float h[5], other[5];
        OK(carry_state_read(r.session, more, 0, h, 5)); /* a fork stays where it was */
        OK(carry_state_read(r.session, states[0], 0, other, 5));
        cr_assert_neq(first_difference(h, other, 5), 5);
        rig_close(&r);
    }
}

Test(session_model, options_handles_and_statistics_stay)
{
    model_spec spec = retrained();
    carry_session_options options = {
        .size = sizeof options, .threads = 1, .max_rows = 3, .max_states = ROWS + 1};
    rig r = rig_open(&old_spec, &options);
    carry_state states[ROWS], stale, one;
    float y[COUNT];
    open_states(&r, states, ROWS);
    open_states(&r, &one, 1);
    advance(&r, states, ROWS, 1, y);
    stale = one;
    OK(carry_state_close(r.session, &one));
    carry_session_info before = {.size = sizeof before}, after = {.size = sizeof after};
    carry_pool_info pool = {.size = sizeof pool}, pool_after = {.size = sizeof pool};
    OK(carry_session_get_info(r.session, &before));
    OK(carry_session_get_pool(r.session, &pool));
    carry_model *model = build_model(&spec);
    OK(carry_session_set_model(r.session, model));
    OK(carry_session_get_info(r.session, &after));
    OK(carry_session_get_pool(r.session, &pool_after));
    cr_assert_eq(memcmp(&before, &after, sizeof after), 0);
    cr_assert_eq(memcmp(&pool, &pool_after, sizeof pool), 0);
    FAILS(CARRY_E_STALE, "closed", carry_state_reset(r.session, stale));
    open_states(&r, &one, 1);
    FAILS(CARRY_E_FULL, "all 5", carry_state_open(r.session, &stale));
    /* again, and the same model twice: a hold for the session each time, given back each time */
    OK(carry_session_set_model(r.session, r.model));
    OK(carry_session_set_model(r.session, model));
    OK(carry_session_set_model(r.session, model));
    carry_model_close(&model);
    advance(&r, states, ROWS, 2, y);
    rig_close(&r);
}

/* Many swaps take no more memory than one. */
Test(session_model, back_and_forth)
{
    model_spec spec = retrained();
    rig r = rig_open(&old_spec, NULL);
    carry_state states[ROWS], twin[ROWS];
    float y[COUNT], got[COUNT], expected[COUNT];
    open_states(&r, states, ROWS);
    advance(&r, states, ROWS, 1, y);
    carry_model *models[2] = {r.model, build_model(&spec)};
    carry_session_info first = {.size = sizeof first}, info = {.size = sizeof info};
    OK(carry_session_get_info(r.session, &first));
    for (int swap = 1; swap <= 10; swap++) {
        expect(&r, states, swap % 2 ? &spec : &old_spec, expected);
        OK(carry_session_set_model(r.session, models[swap % 2]));
        for (int i = 0; i < ROWS; i++)
            OK(carry_state_copy(r.session, states[i], &twin[i]));
        advance(&r, twin, ROWS, 9, got);
        SAME_BITS(expected, got, COUNT);
        for (int i = 0; i < ROWS; i++)
            OK(carry_state_close(r.session, &twin[i]));
        advance(&r, states, ROWS, (uint64_t)swap, y);
    }
    OK(carry_session_get_info(r.session, &info));
    cr_assert_eq(info.workspace_bytes, first.workspace_bytes);
    carry_model_close(&models[1]);
    rig_close(&r);
}

Test(session_model, a_whole_sequence)
{
    model_spec spec = {
        .features = 2,
        .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS), DENSE_LAYER(2, CY_ACT_TANH)}};
    model_spec longer = spec;
    longer.seed = 5;
    longer.steps = 40; /* stated by the file; what is in force stays in force */
    carry_session_options options = {.size = sizeof options, .max_steps = STEPS};
    rig r = rig_open(&spec, &options), fresh = rig_open(&longer, &options);
    carry_model *model = build_model(&longer);
    OK(carry_session_set_model(r.session, model));
    carry_model_close(&model);
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(r.session, &info));
    cr_assert_eq(info.max_steps, STEPS);
    float expected[COUNT], got[COUNT];
    advance(&r, NULL, ROWS, 3, got);
    advance(&fresh, NULL, ROWS, 3, expected);
    SAME_BITS(expected, got, COUNT);
    rig_close(&r);
    rig_close(&fresh);
}

Test(session_model, what_differs_is_named_and_the_old_model_stays)
{
    rig r = rig_open(&old_spec, NULL);
    carry_state states[ROWS];
    float y[COUNT], expected[COUNT], got[COUNT];
    open_states(&r, states, ROWS);
    advance(&r, states, ROWS, 1, y);
    expect(&r, states, &old_spec, expected);

    model_spec wider = old_spec, shorter = old_spec, activation = old_spec,
               more_outputs = old_spec, other_output = old_spec, features = old_spec;
    wider.layers[1].units = 18;
    shorter.layers[2].present = false;
    activation.layers[0].activation = CY_ACT_RELU;
    more_outputs.layers[1].flags |= STATES;
    more_outputs.outputs[0] = (cy_value){2, CY_PORT_Y};
    more_outputs.outputs[1] = (cy_value){1, CY_PORT_H};
    more_outputs.output_count = 2;
    other_output.layers[1].flags |= STATES;
    other_output.outputs[0] = (cy_value){1, CY_PORT_C};
    other_output.output_count = 1;
    features.features = 4;
    const struct {
        const model_spec *spec;
        const char *words;
    } others[] = {
        {&wider, "line 2 of its layers is 'layer1: LSTM 5 -> 18"},
        {&shorter, "'layer2: Dense 17 -> 2 of 1.0, linear' is here only"},
        {&activation, "line 1 of its layers is 'layer0: LSTM 3 -> 5 of -1.0, relu"},
        {&more_outputs, "2 outputs, the session's has 1"},
        {&other_output, "output 0 of the new model is the c of layer 'layer1', of the "
                        "session's it is the output of 'layer2'"},
        {&features, "line 0 of its layers is 'input features 4', here it is 'input "
                    "features 3'"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        carry_model *model = build_model(others[i].spec);
        FAILS(CARRY_E_MISMATCH, others[i].words,
              carry_session_set_model(r.session, model));
        carry_model_close(&model);
    }
    FAILS(CARRY_E_ARGUMENT, "model is NULL", carry_session_set_model(r.session, NULL));
    FAILS(CARRY_E_ARGUMENT, "session is NULL", carry_session_set_model(NULL, r.model));
    advance(&r, states, ROWS, 9, got);
    SAME_BITS(expected, got, COUNT);
    rig_close(&r);
}
