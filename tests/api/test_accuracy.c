/* Against the float64 reference: ||error|| / ||y|| <= 1e-6 after 100 steps (20 for activations without
 * bound), random weights at Keras' default scale. States are held to the same. */
#include "support.h"
#include "tests/kernels/oracle_f64.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUND 1e-6

static double relative_error(const float *got, const double *want, size_t count)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return norm > 0 ? sqrt(error / norm) : INFINITY;
}

/* h and c of every layer after the last step. */
static void check_state(const rig *r, carry_state state, const cy_graph *graph,
                        const double *want, const char *what)
{
    for (uint32_t k = 0; k < graph->state_count; k++) {
        const cy_state_tensor *tensor = &graph->states[k];
        float *got = calloc(tensor->width, sizeof *got);
        OK(carry_state_read(r->session, state, k, got, tensor->width));
        double error = relative_error(got, want + tensor->offset, tensor->width);
        cr_expect(error <= BOUND, "%s: error %.3g in %s of layer %d", what, error,
                  tensor->name, tensor->node);
        free(got);
    }
}

typedef enum scope { OUTPUTS, OUTPUTS_AND_STATES } scope;

/* One sequence, output 0 at every step. The states too where an activation does not amplify the error
 * of its argument (the last step alone is one sample, not a norm over all of them). */
static void check(const model_spec *spec, size_t steps, const char *what, scope scope)
{
    cr_assert_eq(spec->output_count, 0);
    cy_graph *graph = build_graph(spec);
    rig r = rig_open(spec, NULL);
    void *x = random_input(&r, 1, steps, spec->seed + 5);
    size_t count = output_count(&r, 1, steps, CARRY_STEPS_AS_MODEL);
    float *y = calloc(count, sizeof *y);
    double *want = calloc(count, sizeof *want);
    double *want_state = calloc(graph->state_floats, sizeof *want_state);
    carry_state state;
    open_states(&r, &state, 1);
    OK(run_call(
        &r,
        &(call_spec){.rows = 1, .max_steps = steps, .states = &state, .x = x, .y = y}));
    oracle_run(graph, x, steps, want_state, &want);
    double error = relative_error(y, want, count);
    cr_expect(error <= BOUND, "%s: error %.3g over %zu steps", what, error, steps);
    if (scope == OUTPUTS_AND_STATES) check_state(&r, state, graph, want_state, what);
    free(x);
    free(y);
    free(want);
    free(want_state);
    rig_close(&r);
    cy_graph_close(&graph);
}

Test(accuracy, units_and_features)
{
    static const uint32_t units[] = {1, 3, 17, 64, 200};
    static const uint64_t features[] = {1, 2, 33, 128};
    for (size_t u = 0; u < 5; u++)
        for (size_t f = 0; f < 4; f++)
            for (unsigned bias = 0; bias < 2; bias++) {
                model_spec spec = {
                    .features = features[f],
                    .seed = 10 * u + f,
                    .layers = {LSTM_LAYER(units[u], SEQUENCES | (bias ? NO_BIAS : 0))}};
                char what[64];
                snprintf(what, sizeof what, "LSTM(%u) on %d features", units[u],
                         (int)features[f]);
                check(&spec, 100, what, OUTPUTS_AND_STATES);
            }
}

Test(accuracy, whole_models)
{
    static const model_spec specs[] = {
        {.features = 3,
         .layers = {LSTM_LAYER(64, SEQUENCES), LSTM_LAYER(17, SEQUENCES),
                    DENSE_LAYER(5, CY_ACT_LINEAR)}},
        {.features = 3,
         .layers = {LSTM_LAYER(33, SEQUENCES), LSTM_LAYER(9, 0),
                    DENSE_LAYER(2, CY_ACT_SIGMOID)}},
        {.ids = 40,
         .layers = {EMBEDDING_LAYER(16), LSTM_LAYER(48, SEQUENCES),
                    LSTM_LAYER(48, SEQUENCES), DENSE_LAYER(40, CY_ACT_SOFTMAX)}},
        {.features = 2,
         .layers = {DENSE_LAYER(8, CY_ACT_GELU), LSTM_LAYER(20, SEQUENCES), DROPOUT_LAYER,
                    ACTIVATION_LAYER(CY_ACT_SOFTMAX)}},
        {.features = 2,
         .steps = 100,
         .layers = {LSTM_LAYER(6, SEQUENCES | BACKWARDS), LSTM_LAYER(7, SEQUENCES)}},
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        char what[32];
        snprintf(what, sizeof what, "model %zu", i);
        check(&specs[i], 100, what, OUTPUTS_AND_STATES);
    }
}

/* Steps after which to compare an LSTM with this activation. Of those without a bound 20, with two
 * exceptions that no float32 arithmetic could meet: e^c with c = e^... leaves the range of a double
 * after five steps, and log_softmax takes the difference of cells that grow with every step. */
static size_t steps_for(cy_activation activation)
{
    switch (activation) {
    case CY_ACT_EXPONENTIAL:
        return 3;
    case CY_ACT_LOG_SOFTMAX:
        return 10;
    case CY_ACT_TANH:
    case CY_ACT_SIGMOID:
    case CY_ACT_HARD_SIGMOID_02:
    case CY_ACT_HARD_SIGMOID_6TH:
    case CY_ACT_RELU6:
    case CY_ACT_SOFTSIGN:
    case CY_ACT_HARD_TANH:
    case CY_ACT_SOFTMAX:
        return 100;
    default:
        return 20;
    }
}

Test(accuracy, every_activation)
{
    for (int a = 0; a < CY_ACT_COUNT; a++) {
        cy_activation activation = (cy_activation)a;
        size_t steps = steps_for(activation);
        model_spec spec = {
            .features = 3,
            .seed = (uint64_t)a,
            .layers = {LSTM_ACT(12, SEQUENCES, activation, CY_ACT_SIGMOID)}};
        char what[64];
        snprintf(what, sizeof what, "activation %s", cy_activation_name(activation));
        check(&spec, steps, what, OUTPUTS);
        spec.layers[0] = (layer_spec)LSTM_ACT(12, SEQUENCES, CY_ACT_TANH, activation);
        snprintf(what, sizeof what, "recurrent_activation %s",
                 cy_activation_name(activation));
        check(&spec, steps, what, OUTPUTS);
        spec.layers[0] = (layer_spec)LSTM_LAYER(12, SEQUENCES);
        spec.layers[1] = (layer_spec)DENSE_LAYER(9, activation);
        snprintf(what, sizeof what, "Dense with %s", cy_activation_name(activation));
        check(&spec, 100, what, OUTPUTS);
        spec.layers[1] = (layer_spec)ACTIVATION_LAYER(activation);
        snprintf(what, sizeof what, "Activation %s", cy_activation_name(activation));
        check(&spec, 100, what, OUTPUTS);
    }
}
