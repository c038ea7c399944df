/* tests/golden: what real Keras answered, and what we answer to the same file and the same input. */
#include "support.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER     "tests/golden/"
#define MAX_GROUPS 64

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    cr_assert(value != NULL, "manifest: %s", key);
    return value;
}

static npy read_array(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, FOLDER "%s", name);
    return npy_read(path);
}

typedef struct golden {
    rig r;
    const char *name;
    double tolerance;
    size_t
        group_rows; /* rows of a group: state i of a group continues row i of the one before */
    carry_state *states;
    carry_model_info info;
} golden;

/* Keras: only layers declared stateful carry from group to group. */
static void restart_stateless_layers(golden *g)
{
    for (size_t k = 0; k < g->info.state_tensors; k++) {
        carry_state_info tensor = {.size = sizeof tensor};
        OK(carry_model_get_state_tensor(g->r.model, k, &tensor));
        if (tensor.stateful) continue;
        float *zeros = calloc((size_t)tensor.width, sizeof *zeros);
        for (size_t i = 0; i < g->group_rows; i++)
            OK(carry_state_write(g->r.session, g->states[i], k, zeros,
                                 (size_t)tensor.width));
        free(zeros);
    }
}

static void check_outputs(const golden *g, size_t rows, size_t first_row,
                          const npy *wanted, carry_array *outputs, double *worst)
{
    for (size_t i = 0; i < g->info.outputs; i++) {
        size_t each = wanted[i].count / wanted[i].shape[0];
        double error = worst_error(
            outputs[i].data, (float *)wanted[i].data + first_row * each, rows * each);
        if (error > *worst) *worst = error;
        cr_expect(error <= g->tolerance, "%s: output %zu is wrong by %.3g (allowed %.3g)",
                  g->name, i, error, g->tolerance);
    }
}

static void check_call(golden *g, const json_t *call, double *worst)
{
    npy x = read_array(text(call, "input")), wanted[8];
    const json_t *names = json_object_get(call, "outputs");
    cr_assert_eq(json_array_size(names), g->info.outputs, "%s", g->name);
    carry_array outputs[8];
    size_t steps = x.shape[1], rows = g->group_rows ? g->group_rows : x.shape[0];
    for (size_t i = 0; i < g->info.outputs; i++) {
        wanted[i] = read_array(json_string_value(json_array_get(names, i)));
        carry_port_info port = {.size = sizeof port};
        OK(carry_model_get_output(g->r.model, i, &port));
        /* the shape of the file, and of what Keras returned */
        cr_assert_eq(wanted[i].rank, port.has_time ? 3 : 2, "%s", g->name);
        cr_assert_eq(wanted[i].shape[wanted[i].rank - 1], (size_t)port.width, "%s",
                     g->name);
        size_t bytes =
            rows * (port.has_time ? steps : 1) * (size_t)port.width * sizeof(float);
        outputs[i] =
            (carry_array){.size = sizeof *outputs, .data = malloc(bytes), .bytes = bytes};
    }
    cr_assert_eq(x.count, x.shape[0] * steps * g->r.in, "%s", g->name);
    cr_assert_eq(x.is_int, g->r.ids > 0, "%s", g->name);
    cr_assert_eq(x.shape[0] % rows, 0, "%s", g->name);
    for (size_t first = 0; first < x.shape[0]; first += rows) {
        carry_array in = {.size = sizeof in,
                          .data = (float *)x.data + first * steps * g->r.in,
                          .dtype = x.is_int ? CARRY_I32 : CARRY_F32,
                          .bytes = rows * steps * g->r.in * sizeof(float)};
        carry_batch batch = {.size = sizeof batch,
                             .rows = rows,
                             .max_steps = steps,
                             .states = g->states,
                             .inputs = &in,
                             .input_count = 1,
                             .outputs = outputs,
                             .output_count = g->info.outputs};
        if (g->states) restart_stateless_layers(g);
        OK(carry_run(g->r.session, &batch));
        check_outputs(g, rows, first, wanted, outputs, worst);
    }
    for (size_t i = 0; i < g->info.outputs; i++) {
        free(outputs[i].data);
        free(wanted[i].data);
    }
    free(x.data);
}

static void check_case(const json_t *entry)
{
    golden g = {.name = text(entry, "name"), .info = {.size = sizeof g.info}};
    g.tolerance = json_real_value(json_object_get(entry, "tolerance"));
    char path[512];
    snprintf(path, sizeof path, FOLDER "%s", text(entry, "file"));
    g.r = rig_of(open_foreign(path), NULL);
    OK(carry_model_get_info(g.r.model, &g.info));
    cr_expect_str_eq(g.info.source, text(entry, "source"), "%s", g.name);
    int stateful = json_is_true(json_object_get(entry, "stateful"));
    cr_expect_eq(g.info.stateful, stateful, "%s: stateful is %d", g.name,
                 g.info.stateful);
    g.group_rows = (size_t)json_integer_value(json_object_get(entry, "batch_size"));
    if (stateful) {
        cr_assert_gt(g.group_rows, 0);
        g.states = calloc(g.group_rows, sizeof *g.states);
        open_states(&g.r, g.states, g.group_rows);
    }
    double worst = 0;
    const json_t *calls = json_object_get(entry, "calls");
    for (size_t i = 0; i < json_array_size(calls); i++)
        check_call(&g, json_array_get(calls, i), &worst);
    if (getenv("CARRY_TEST_VERBOSE")) fprintf(stderr, "%-28s %.3g\n", g.name, worst);
    free(g.states);
    rig_close(&g.r);
}

Test(golden, every_model_answers_as_keras_did)
{
    json_error_t error;
    json_t *manifest = json_load_file(FOLDER "manifest.json", 0, &error);
    cr_assert(manifest != NULL, "manifest.json: %s", error.text);
    const json_t *cases = json_object_get(manifest, "cases");
    cr_assert_geq(json_array_size(cases), 50);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i));
    json_decref(manifest);
}

/* ---- the same models through carry's own file and its saved states -------------------------- */

Test(golden, keras_2_and_keras_3_files_of_one_state_fit_when_the_layers_are_the_same)
{
    static const char *const files[] = {FOLDER "stateful/model.keras",
                                        FOLDER "stateful_k2_h5/model.h5"};
    carry_model *a = open_foreign(files[0]), *b = open_foreign(files[1]);
    carry_model_info info_a = {.size = sizeof info_a}, info_b = {.size = sizeof info_b};
    OK(carry_model_get_info(a, &info_a));
    OK(carry_model_get_info(b, &info_b));
    cr_assert_eq(info_a.parameters, info_b.parameters);
    cr_assert_eq(info_a.state_bytes, info_b.state_bytes);
    cr_assert_eq(strlen(info_a.fingerprint), 16);
    /* other layer names, other fingerprint; the same names, the same fingerprint */
    carry_layer_info layer_a = {.size = sizeof layer_a},
                     layer_b = {.size = sizeof layer_b};
    OK(carry_model_get_layer(a, 0, &layer_a));
    OK(carry_model_get_layer(b, 0, &layer_b));
    int same_names = strcmp(layer_a.name, layer_b.name) == 0;
    cr_assert_eq(strcmp(info_a.fingerprint, info_b.fingerprint) == 0, same_names);
    carry_model_close(&a);
    carry_model_close(&b);
}
