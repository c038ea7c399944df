/* Models: opening from a path and from bytes, what the info functions say, lifetime, errors. */
#define _XOPEN_SOURCE 700
#include "support.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const model_spec full = {
    .features = 3,
    .steps = 6,
    .layers = {LSTM_LAYER(5, SEQUENCES | STATES | STATEFUL),
               LSTM_LAYER(4, BACKWARDS | NO_BIAS), DROPOUT_LAYER,
               DENSE_LAYER(2, CY_ACT_SOFTMAX)},
    .outputs = {{3, CY_PORT_Y}, {0, CY_PORT_C}, {0, CY_PORT_Y}, {0, CY_PORT_H}},
    .output_count = 4};
static const model_spec words = {.ids = 11,
                                 .layers = {EMBEDDING_LAYER(3), LSTM_LAYER(4, SEQUENCES),
                                            DENSE_LAYER(11, CY_ACT_LINEAR)}};

/* A folder of this test's own, gone with it. */
static char folder[64];

static void folder_open(void)
{
    snprintf(folder, sizeof folder, "/tmp/carry_test_model_XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
}

static void folder_close(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

static const char *in_folder(const char *name, const void *data, size_t bytes)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!data) return path;
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0);
    return path;
}

static void *slurp(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL, "%s", path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*bytes);
    cr_assert_eq(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

Test(model, a_path_and_its_bytes_open_the_same_model, .init = folder_open,
     .fini = folder_close)
{
    size_t bytes;
    void *data = build_bytes(&full, &bytes);
    const char *path = in_folder("model.carry", data, bytes);
    carry_model *from_path = NULL, *from_bytes = NULL;
    OK(carry_model_open(&from_path, path, NULL));
    unlink(path); /* not needed any more */
    carry_model_options options = {.size = sizeof options, .device = "cpu"};
    /* bytes that are not aligned to anything */
    char *shifted = malloc(bytes + 1);
    memcpy(shifted + 1, data, bytes);
    OK(carry_model_open_bytes(&from_bytes, shifted + 1, bytes, &options));
    memset(shifted, 0xff, bytes + 1); /* nor are these kept */
    free(shifted);
    cy_free(data);
    rig a = rig_of(from_path, NULL), b = rig_of(from_bytes, NULL);
    float *x = random_input(&a, 2, 6, 1), y_path[4], y_bytes[4];
    OK(run_call(&a, &(call_spec){.rows = 2, .max_steps = 6, .x = x, .y = y_path}));
    OK(run_call(&b, &(call_spec){.rows = 2, .max_steps = 6, .x = x, .y = y_bytes}));
    SAME_BITS(y_path, y_bytes, 4);
    free(x);
    rig_close(&a);
    rig_close(&b);
}

/* ---- info ----------------------------------------------------------------------------------- */

static void is_shape(const carry_shape *shape, int32_t rank, int64_t a, int64_t b,
                     int64_t c)
{
    int64_t dims[3] = {a, b, c};
    cr_expect_eq(shape->rank, rank, "rank %d, expected %d", shape->rank, rank);
    for (int i = 0; i < rank; i++)
        cr_expect_eq(shape->dim[i], dims[i], "axis %d is %lld, expected %lld", i,
                     (long long)shape->dim[i], (long long)dims[i]);
}

Test(model, info_of_the_whole)
{
    carry_model *model = build_model(&full);
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(model, &info));
    cr_expect_str_eq(info.source, "keras");
    cr_expect_str_eq(info.name, "built");
    cr_expect_str_eq(info.device, on_cuda() ? "cuda:0" : "cpu");
    cr_expect_eq(strlen(info.fingerprint), 16);
    cr_expect_eq(strspn(info.fingerprint, "0123456789abcdef"), 16);
    cr_expect_eq(info.whole_sequence, 1);
    cr_expect_eq(info.stateful, 1);
    cr_expect_eq(info.layers, 4);
    cr_expect_eq(info.weights, 3 + 2 + 0 + 2);
    cr_expect_eq(info.inputs, 1);
    cr_expect_eq(info.outputs, 4);
    cr_expect_eq(info.state_tensors, 4);
    uint64_t parameters = 4 * 5 * (3 + 5 + 1) + 4 * 4 * (5 + 4) + 2 * (4 + 1);
    cr_expect_eq(info.parameters, parameters);
    cr_expect_eq(info.weight_bytes, 4 * parameters);
    cr_expect_eq(info.state_bytes, 4 * (2 * 5 + 2 * 4));
    carry_model_close(&model);
}

Test(model, info_of_each_layer)
{
    carry_model *model = build_model(&full);
    carry_layer_info layer = {.size = sizeof layer};
    OK(carry_model_get_layer(model, 0, &layer));
    cr_expect_str_eq(layer.name, "layer0");
    cr_expect_str_eq(layer.class_name, "LSTM");
    cr_expect_str_eq(layer.activation, "tanh");
    cr_expect_str_eq(layer.recurrent_activation, "sigmoid");
    cr_expect_eq(layer.input_width, 3);
    cr_expect_eq(layer.units, 5);
    cr_expect_eq(layer.parameters, 4 * 5 * 9);
    cr_expect_eq(layer.first_weight, 0);
    cr_expect_eq(layer.weights, 3);
    cr_expect_eq(layer.output_count, 3);
    is_shape(&layer.output_shapes[0], 3, CARRY_FREE, 6, 5);
    is_shape(&layer.output_shapes[1], 2, CARRY_FREE, 5, 0);
    is_shape(&layer.output_shapes[2], 2, CARRY_FREE, 5, 0);
    cr_expect(layer.recurrent && layer.stateful && !layer.go_backwards &&
              layer.return_sequences);
    OK(carry_model_get_layer(model, 1, &layer));
    cr_expect_eq(layer.first_weight, 3);
    cr_expect_eq(layer.weights, 2);
    cr_expect_eq(layer.output_count, 1);
    is_shape(&layer.output_shapes[0], 2, CARRY_FREE, 4, 0);
    cr_expect(layer.recurrent && !layer.stateful && layer.go_backwards &&
              !layer.return_sequences);
    OK(carry_model_get_layer(model, 2, &layer));
    cr_expect_str_eq(layer.class_name, "Dropout");
    cr_expect_str_eq(layer.activation, "linear");
    cr_expect_null(layer.recurrent_activation);
    cr_expect_eq(layer.units, -1);
    cr_expect_eq(layer.parameters, 0);
    cr_expect_eq(layer.weights, 0);
    OK(carry_model_get_layer(model, 3, &layer));
    cr_expect_str_eq(layer.activation, "softmax");
    cr_expect_eq(layer.input_width, 4);
    cr_expect_eq(layer.first_weight, 5);
    cr_expect(!layer.recurrent);
    carry_model_close(&model);
}

Test(model, info_of_weights_ports_and_state_tensors)
{
    carry_model *model = build_model(&full);
    static const struct {
        const char *name;
        size_t layer;
        int32_t rank;
        int64_t a, b;
    } weights[] = {{"kernel", 0, 2, 3, 20},
                   {"recurrent_kernel", 0, 2, 5, 20},
                   {"bias", 0, 1, 20, 0},
                   {"kernel", 1, 2, 5, 16},
                   {"recurrent_kernel", 1, 2, 4, 16},
                   {"kernel", 3, 2, 4, 2},
                   {"bias", 3, 1, 2, 0}};
    for (size_t i = 0; i < 7; i++) {
        carry_weight_info weight = {.size = sizeof weight};
        OK(carry_model_get_weight(model, i, &weight));
        cr_expect_str_eq(weight.name, weights[i].name);
        cr_expect_eq(weight.layer, weights[i].layer);
        is_shape(&weight.shape, weights[i].rank, weights[i].a, weights[i].b, 0);
    }
    carry_port_info port = {.size = sizeof port};
    OK(carry_model_get_input(model, 0, &port));
    cr_expect_str_eq(port.name, "x");
    cr_expect_eq(port.dtype, CARRY_F32);
    cr_expect_eq(port.width, 3);
    cr_expect_eq(port.ids, 0);
    cr_expect_eq(port.has_time, 1);
    is_shape(&port.shape, 3, CARRY_FREE, 6, 3);
    static const struct {
        const char *name;
        char tensor;
        int has_time;
        int64_t width;
        size_t layer;
    } outputs[] = {{"layer3", 'y', 0, 2, 3},
                   {"layer0", 'c', 0, 5, 0},
                   {"layer0", 'y', 1, 5, 0},
                   {"layer0", 'h', 0, 5, 0}};
    for (size_t i = 0; i < 4; i++) {
        OK(carry_model_get_output(model, i, &port));
        cr_expect_str_eq(port.name, outputs[i].name);
        cr_expect_eq(port.tensor, outputs[i].tensor);
        cr_expect_eq(port.has_time, outputs[i].has_time);
        cr_expect_eq(port.width, outputs[i].width);
        cr_expect_eq(port.layer, outputs[i].layer);
        cr_expect_eq(port.dtype, CARRY_F32);
        if (port.has_time) is_shape(&port.shape, 3, CARRY_FREE, 6, 5);
        else is_shape(&port.shape, 2, CARRY_FREE, outputs[i].width, 0);
    }
    static const struct {
        const char *layer, *name;
        int64_t width;
        int stateful;
    } states[] = {{"layer0", "h", 5, 1},
                  {"layer0", "c", 5, 1},
                  {"layer1", "h", 4, 0},
                  {"layer1", "c", 4, 0}};
    for (size_t i = 0; i < 4; i++) {
        carry_state_info state = {.size = sizeof state};
        OK(carry_model_get_state_tensor(model, i, &state));
        cr_expect_str_eq(state.layer, states[i].layer);
        cr_expect_str_eq(state.name, states[i].name);
        cr_expect_eq(state.width, states[i].width);
        cr_expect_eq(state.stateful, states[i].stateful);
        cr_expect_eq(state.layer_index, i / 2);
    }
    carry_model_close(&model);
}

Test(model, info_of_ids)
{
    carry_model *model = build_model(&words);
    carry_port_info port = {.size = sizeof port};
    OK(carry_model_get_input(model, 0, &port));
    cr_expect_eq(port.dtype, CARRY_I32);
    cr_expect_eq(port.ids, 11);
    cr_expect_eq(port.width, 1);
    is_shape(&port.shape, 2, CARRY_FREE, CARRY_FREE, 0);
    carry_layer_info layer = {.size = sizeof layer};
    OK(carry_model_get_layer(model, 0, &layer));
    cr_expect_eq(layer.input_width, 11);
    cr_expect_eq(layer.units, 3);
    cr_expect_eq(layer.parameters, 33);
    carry_weight_info weight = {.size = sizeof weight};
    OK(carry_model_get_weight(model, 0, &weight));
    cr_expect_str_eq(weight.name, "embeddings");
    carry_model_close(&model);
}

Test(model, an_lstm_of_one_unit_has_12_or_16_parameters)
{
    for (uint64_t features = 1; features <= 2; features++) {
        model_spec spec = {.features = features, .layers = {LSTM_LAYER(1, 0)}};
        carry_model *model = build_model(&spec);
        carry_model_info info = {.size = sizeof info};
        OK(carry_model_get_info(model, &info));
        cr_expect_eq(info.parameters, features == 1 ? 12 : 16);
        carry_model_close(&model);
    }
}

Test(model, info_past_the_end_or_without_a_size_is_refused)
{
    carry_model *model = build_model(&full);
    carry_layer_info layer = {.size = sizeof layer};
    carry_weight_info weight = {.size = sizeof weight};
    carry_port_info port = {.size = sizeof port};
    carry_state_info state = {.size = sizeof state};
    carry_model_info info = {.size = sizeof info};
    FAILS(CARRY_E_ARGUMENT, "layer 4 of 4", carry_model_get_layer(model, 4, &layer));
    FAILS(CARRY_E_ARGUMENT, "weight 7 of 7", carry_model_get_weight(model, 7, &weight));
    FAILS(CARRY_E_ARGUMENT, "input 1 of 1", carry_model_get_input(model, 1, &port));
    FAILS(CARRY_E_ARGUMENT, "output 4 of 4", carry_model_get_output(model, 4, &port));
    FAILS(CARRY_E_ARGUMENT, "tensor 4 of 4",
          carry_model_get_state_tensor(model, 4, &state));
    FAILS(CARRY_E_ARGUMENT, "layer", carry_model_get_layer(model, SIZE_MAX, &layer));
    info.size = layer.size = weight.size = port.size = state.size = 0;
    FAILS(CARRY_E_ARGUMENT, "size", carry_model_get_info(model, &info));
    FAILS(CARRY_E_ARGUMENT, "size", carry_model_get_layer(model, 0, &layer));
    FAILS(CARRY_E_ARGUMENT, "size", carry_model_get_weight(model, 0, &weight));
    FAILS(CARRY_E_ARGUMENT, "size", carry_model_get_input(model, 0, &port));
    FAILS(CARRY_E_ARGUMENT, "size", carry_model_get_output(model, 0, &port));
    FAILS(CARRY_E_ARGUMENT, "size", carry_model_get_state_tensor(model, 0, &state));
    info.size = sizeof info;
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_get_info(NULL, &info));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_get_info(model, NULL));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_get_layer(NULL, 0, &layer));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_get_layer(model, 0, NULL));
    carry_model_close(&model);
}

Test(model, a_program_with_an_older_struct_gets_what_it_knows)
{
    carry_model *model = build_model(&full);
    carry_model_info info;
    memset(&info, 0x55, sizeof info);
    info.size = offsetof(carry_model_info, layers);
    OK(carry_model_get_info(model, &info));
    cr_expect_str_eq(info.name, "built");
    cr_expect_eq(info.stateful, 1);
    cr_expect_eq(info.size, offsetof(carry_model_info, layers));
    size_t untouched;
    memset(&untouched, 0x55, sizeof untouched);
    cr_expect_eq(info.layers, untouched);
    /* and one of a newer header: what the library does not know it leaves alone */
    struct {
        carry_model_info known;
        uint64_t newer;
    } larger = {.known = {.size = sizeof larger}, .newer = 7};
    OK(carry_model_get_info(model, &larger.known));
    cr_expect_eq(larger.known.layers, 4);
    cr_expect_eq(larger.newer, 7);
    /* a session opened by options that end before max_states */
    carry_session_options options = {.threads = 1, .max_rows = 2, .max_states = 1u << 30};
    options.size = offsetof(carry_session_options, max_states);
    carry_session *session = NULL;
    OK(carry_session_open(&session, model, &options));
    carry_session_info in_force = {.size = sizeof in_force};
    OK(carry_session_get_info(session, &in_force));
    cr_expect_eq(in_force.max_rows, 2);
    carry_session_close(&session);
    carry_model_close(&model);
}

/* ---- fingerprint ---------------------------------------------------------------------------- */

static void fingerprint_of(const model_spec *spec, char *text)
{
    carry_model *model = build_model(spec);
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(model, &info));
    memcpy(text, info.fingerprint, 17);
    carry_model_close(&model);
}

Test(model, the_fingerprint_covers_layers_and_widths_and_no_weights)
{
    char first[17], other[17];
    fingerprint_of(&full, first);
    model_spec changed = full;
    changed.seed = 1234;
    fingerprint_of(&changed, other);
    cr_expect_str_eq(first, other, "other weights");
    changed = full;
    changed.steps = 0;
    fingerprint_of(&changed, other);
    cr_expect_str_eq(first, other, "a free time axis");
    changed = full;
    changed.layers[0].units = 6;
    fingerprint_of(&changed, other);
    cr_expect_str_neq(first, other, "other units");
    changed = full;
    changed.layers[0].activation = CY_ACT_RELU;
    fingerprint_of(&changed, other);
    cr_expect_str_neq(first, other, "other activation");
    changed = full;
    changed.layers[1].flags = NO_BIAS;
    fingerprint_of(&changed, other);
    cr_expect_str_neq(first, other, "not backwards");
    changed = full;
    changed.features = 4;
    fingerprint_of(&changed, other);
    cr_expect_str_neq(first, other, "other features");
}

/* ---- what cannot be opened ------------------------------------------------------------------ */

#define REFUSED_PATH(code, words, path)                            \
    do {                                                           \
        carry_model *model_ = (carry_model *)&model_;              \
        FAILS(code, words, carry_model_open(&model_, path, NULL)); \
        cr_expect_null(model_);                                    \
    } while (0)
#define REFUSED_BYTES(code, words, data, bytes)                                 \
    do {                                                                        \
        carry_model *model_ = (carry_model *)&model_;                           \
        FAILS(code, words, carry_model_open_bytes(&model_, data, bytes, NULL)); \
        cr_expect_null(model_);                                                 \
    } while (0)

Test(model, paths_that_are_no_model, .init = folder_open, .fini = folder_close)
{
    REFUSED_PATH(CARRY_E_ARGUMENT, "path", NULL);
    REFUSED_PATH(CARRY_E_FILE, "no/such.carry: No such file", "no/such.carry");
    REFUSED_PATH(CARRY_E_FILE, "not a regular file", folder);
    REFUSED_PATH(CARRY_E_FILE, "not a regular file", "/dev/zero");
    REFUSED_PATH(CARRY_E_FORMAT, "empty", in_folder("empty", "", 0));
    REFUSED_PATH(CARRY_E_FORMAT, "text", in_folder("text", "no model at all\n", 16));
    const char *pipe = in_folder("pipe", NULL, 0);
    cr_assert_eq(mkfifo(pipe, 0600), 0);
    REFUSED_PATH(CARRY_E_FILE, "not a regular file",
                 pipe); /* and does not wait for a writer */
}

Test(model, another_frameworks_file_says_to_convert_it)
{
    static const char *const files[] = {"tests/golden/lstm_units_3/model.keras",
                                        "tests/golden/lstm_h5/model.h5"};
    for (size_t i = 0; i < 2; i++) {
        REFUSED_PATH(CARRY_E_UNSUPPORTED, "convert", files[i]);
        size_t bytes;
        void *data = slurp(files[i], &bytes);
        REFUSED_BYTES(CARRY_E_UNSUPPORTED, "convert", data, bytes);
        free(data);
    }
}

Test(model, arguments_and_devices)
{
    size_t bytes;
    void *data = build_bytes(&words, &bytes);
    carry_model *model = (carry_model *)data;
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_open(NULL, "x", NULL));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_open_bytes(NULL, data, bytes, NULL));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_model_open_bytes(&model, NULL, bytes, NULL));
    cr_expect_null(model);
    REFUSED_BYTES(CARRY_E_FORMAT, "", data, 0);
    carry_model_options options = {.size = sizeof options, .device = "abacus"};
    model = (carry_model *)data;
    FAILS(CARRY_E_DEVICE, "abacus",
          carry_model_open_bytes(&model, data, bytes, &options));
    cr_expect_null(model);
    options.size = 0;
    options.device = NULL;
    FAILS(CARRY_E_ARGUMENT, "size",
          carry_model_open_bytes(&model, data, bytes, &options));
    options.size = sizeof options;
    static const char *const good[] = {NULL, "auto", "cpu"};
    for (size_t i = 0; i < 3; i++) {
        options.device = good[i];
        OK(carry_model_open_bytes(&model, data, bytes, &options));
        carry_model_close(&model);
        cr_expect_null(model);
    }
    cy_free(data);
}

/* ---- lifetime and threads ------------------------------------------------------------------- */

Test(model, sessions_keep_it_alive)
{
    rig r = rig_open(&words, NULL);
    carry_session *second = NULL;
    carry_session_options options = session_options(NULL);
    OK(carry_session_open(&second, r.model, &options));
    carry_model_close(&r.model);
    cr_assert_null(r.model);
    int32_t x[3] = {1, 2, 3};
    float y[33], again[33];
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 3, .x = x, .y = y}));
    carry_session_close(&r.session);
    cr_assert_null(r.session);
    r.session = second;
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 3, .x = x, .y = again}));
    SAME_BITS(y, again, 33);
    rig_close(&r);
}

static void *ask_and_open(void *argument)
{
    carry_model *model = argument;
    for (int i = 0; i < (on_cuda() ? 20 : 200); i++) {
        carry_model_info info = {.size = sizeof info};
        carry_session *session = NULL;
        carry_session_options options = {.size = sizeof options, .threads = 1};
        if (carry_model_get_info(model, &info) != CARRY_OK || info.layers != 3)
            return model;
        if (carry_session_open(&session, model, &options) != CARRY_OK) return model;
        carry_session_close(&session);
    }
    return NULL;
}

Test(model, any_number_of_threads_may_use_one)
{
    carry_model *model = build_model(&words);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, ask_and_open, model), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_assert_null(failed);
    }
    carry_model_close(&model);
}
