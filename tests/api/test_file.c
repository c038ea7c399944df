/* Bytes from anywhere: malformed model files and saved states. Each is refused with a sentence and
 * leaves a NULL handle, or untouched states; none crashes (the sanitized builds run this too). */
#include "support.h"

#include "base/mem.h"
#include "graph/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const model_spec small = {
    .features = 1, .layers = {LSTM_LAYER(2, SEQUENCES), DENSE_LAYER(1, CY_ACT_LINEAR)}};
static const model_spec words = {.ids = 4,
                                 .layers = {EMBEDDING_LAYER(2), LSTM_LAYER(3, 0)}};

static const carry_status refusals[] = {CARRY_E_FORMAT, CARRY_E_UNSUPPORTED,
                                        CARRY_E_MISMATCH};

static bool is_refusal(carry_status status)
{
    for (size_t i = 0; i < 3; i++)
        if (status == refusals[i]) return true;
    return false;
}

/* A block of exactly these bytes, so that a sanitizer sees a read behind it. */
static unsigned char *exact(const void *data, size_t bytes)
{
    unsigned char *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, data, bytes);
    return copy;
}

static carry_status try_model(const void *data, size_t bytes, carry_model **model)
{
    unsigned char *copy = exact(data, bytes);
    *model = (carry_model *)copy;
    carry_status status = carry_model_open_bytes(model, copy, bytes, NULL);
    free(copy);
    if (status != CARRY_OK) {
        cr_assert_null(*model);
        cr_assert_str_not_empty(carry_error());
    }
    return status;
}

static void model_refused(const void *data, size_t bytes, const char *what, size_t at)
{
    carry_model *model;
    carry_status status = try_model(data, bytes, &model);
    cr_assert(is_refusal(status), "%s %zu: %s", what, at, carry_status_name(status));
}

/* ---- models --------------------------------------------------------------------------------- */

Test(file, a_model_cut_at_every_byte)
{
    size_t bytes;
    void *data = build_bytes(&small, &bytes);
    for (size_t cut = 0; cut < bytes; cut++)
        model_refused(data, cut, "cut at", cut);
    unsigned char *longer = malloc(bytes + 1);
    memcpy(longer, data, bytes);
    longer[bytes] = 0;
    model_refused(longer, bytes + 1, "a byte too many at", bytes);
    free(longer);
    cy_free(data);
}

/* Changed bytes are refused, or the change meant nothing: then the model answers as before. */
static void check_changed(const void *data, size_t bytes, const char *what, size_t at)
{
    static const float x[3] = {0.5f, -1, 2};
    static float expected[3];
    static int known;
    carry_model *model;
    carry_status status = try_model(data, bytes, &model);
    if (status != CARRY_OK) {
        cr_assert(is_refusal(status), "%s %zu: %s", what, at, carry_status_name(status));
        return;
    }
    rig r = rig_of(model, NULL);
    float y[3];
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 3, .x = x, .y = y}));
    if (!known) memcpy(expected, y, sizeof y);
    known = 1;
    cr_assert_eq(first_difference(y, expected, 3), 3,
                 "%s %zu: a damaged model was opened", what, at);
    rig_close(&r);
}

Test(file, a_model_with_every_byte_changed)
{
    size_t bytes;
    unsigned char *data = build_bytes(&small, &bytes);
    check_changed(data, bytes, "unchanged", 0);
    for (size_t at = 0; at < bytes; at++) {
        for (int bit = 0; bit < 8; bit++) {
            data[at] ^= (unsigned char)(1 << bit);
            check_changed(data, bytes, "bit flipped in byte", at);
            data[at] ^= (unsigned char)(1 << bit);
        }
        static const unsigned char values[] = {0, 0xff, '"', '{', '[', '9', ' '};
        unsigned char kept = data[at];
        for (size_t v = 0; v < sizeof values; v++) {
            data[at] = values[v];
            check_changed(data, bytes, "value set in byte", at);
        }
        data[at] = kept;
    }
    cy_free(data);
}

/* Random damage of a few bytes at once, blocks moved, blocks doubled. */
Test(file, a_model_with_random_damage)
{
    size_t bytes;
    unsigned char *data = build_bytes(&words, &bytes), *copy = malloc(bytes);
    uint64_t seed = 11;
    carry_model *model;
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, data, bytes);
        int changes = 1 + (int)(random_u64(&seed) % 6);
        for (int i = 0; i < changes; i++) {
            size_t from = random_u64(&seed) % bytes, to = random_u64(&seed) % bytes;
            size_t n = random_u64(&seed) % 16;
            if (random_u64(&seed) % 2) copy[to] = (unsigned char)random_u64(&seed);
            else if (from + n <= bytes && to + n <= bytes)
                memmove(copy + to, copy + from, n);
        }
        size_t length = random_u64(&seed) % 4 ? bytes : random_u64(&seed) % bytes;
        carry_status status = try_model(copy, length, &model);
        if (status == CARRY_OK) carry_model_close(&model);
        else
            cr_assert(is_refusal(status), "round %d: %s", round,
                      carry_status_name(status));
    }
    free(copy);
    cy_free(data);
}

/* ---- files written by hand ------------------------------------------------------------------ */

typedef struct written {
    unsigned char *data;
    size_t bytes;
} written;

static written write_by_hand(uint64_t header_bytes, const char *header, size_t data_bytes)
{
    size_t length = strlen(header);
    written file = {calloc(1, 8 + length + data_bytes), 8 + length + data_bytes};
    for (int i = 0; i < 8; i++)
        file.data[i] = (unsigned char)(header_bytes >> (8 * i));
    memcpy(file.data + 8, header, length);
    return file;
}

static void hand_refused(const char *header, size_t data_bytes, const char *words)
{
    written file = write_by_hand(strlen(header), header, data_bytes);
    model_refused(file.data, file.bytes, header, 0);
    cr_assert(strstr(carry_error(), words) != NULL, "%s: sentence is '%s', expected '%s'",
              header, carry_error(), words);
    rig r = rig_open(&small, NULL);
    carry_state state;
    open_states(&r, &state, 1);
    unsigned char *copy = exact(file.data, file.bytes);
    carry_status status =
        carry_states_restore(r.session, &state, 1, NULL, copy, file.bytes);
    cr_assert(is_refusal(status), "restore of %s: %s", header, carry_status_name(status));
    free(copy);
    free(file.data);
    rig_close(&r);
}

Test(file, tricks_of_the_header)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *words;
    } tricks[] = {
        {"", 0, "JSON"},
        {"[]", 0, "object"},
        {"null", 0, "JSON"},
        {"{}", 0, "carry.kind"},
        {"{}", 1, "behind"},
        {"{} {}", 0, "JSON"},
        {"{\"a\":1}", 0, "'a'"},
        {"{\"a\":{}}", 0, "'a'"},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F33"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3,
         "cut off"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "behind"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
         "axis 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4,
         "axis 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", 4,
         "axis 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4,
         "axis 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "shape"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":["
         "0,0]}}",
         0, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,9223372036854775807],"
         "\"data_offsets\":[0,4]}}",
         4, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,"
         "4]}}",
         4, "JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}"
         "}",
         4, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "'b'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, "JSON"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, "carry.kind"},
        {"{\"__metadata__\":{\"carry.kind\":\"model\",\"carry.version\":\"3\"}}", 0,
         "version '3'"},
        {"{\"__metadata__\":{\"carry.kind\":\"model\"}}", 0, "version"},
        {"{\"__metadata__\":{\"carry.kind\":\"soup\",\"carry.version\":\"1\"}}", 0,
         "soup"},
        {"{\"__metadata__\":{\"carry.kind\":\"model\",\"carry.version\":\"1\"}}", 0,
         "carry.graph"},
        {"{\"__metadata__\":{\"carry.kind\":\"model\",\"carry.version\":\"1\","
         "\"carry.graph\":\"[[[\"}}",
         0, "carry.graph"},
        {"{\"\xff\xfe\":{}}", 0, "JSON"},
        {"{\"a\\u0000b\":{}}", 0, "JSON"},
    };
    for (size_t i = 0; i < sizeof tricks / sizeof *tricks; i++)
        hand_refused(tricks[i].header, tricks[i].data_bytes, tricks[i].words);
}

Test(file, lengths_that_lie)
{
    static const uint64_t lengths[] = {3,          100000001,         UINT64_C(1) << 32,
                                       UINT64_MAX, UINT64_C(1) << 63, UINT64_MAX - 7,
                                       1000,       UINT64_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        written file = write_by_hand(lengths[i], "{}", 0);
        model_refused(file.data, file.bytes, "header length", (size_t)lengths[i]);
        free(file.data);
    }
    /* all there, and too long: only the length is looked at */
    const unsigned char most[8] = {0, 0xe1, 0xf5, 5}, more[8] = {1, 0xe1, 0xf5, 5};
    size_t bytes;
    OK(cy_safetensors_header_bytes(most, 200000000, &bytes));
    cr_expect_eq(bytes, 100000008);
    FAILS(CARRY_E_FORMAT, "has 100000001 bytes, at most 100000000 are read",
          cy_safetensors_header_bytes(more, 200000000, &bytes));
}

Test(file, nesting_cannot_exhaust_the_stack)
{
    enum { DEEP = 2000000 };
    static const char *const units[] = {"[", "{\"a\":", "[{\"a\":"};
    for (size_t u = 0; u < 3; u++) {
        size_t unit = strlen(units[u]);
        char *header = malloc(DEEP * unit + 1);
        for (size_t i = 0; i < DEEP; i++)
            memcpy(header + i * unit, units[u], unit);
        header[DEEP * unit] = 0;
        written file = write_by_hand(DEEP * unit, header, 0);
        model_refused(file.data, file.bytes, "depth", DEEP);
        cr_expect(strstr(carry_error(), "deeper") != NULL, "%s", carry_error());
        free(file.data);
        free(header);
    }
    /* the same inside the graph's own JSON, where each quote is escaped */
    const char head[] =
        "{\"__metadata__\":{\"carry.kind\":\"model\",\"carry.version\":\"1\","
        "\"carry.graph\":\"",
               tail[] = "\"}}";
    char *header = malloc(sizeof head + sizeof tail + DEEP);
    size_t at = sizeof head - 1;
    memcpy(header, head, at);
    memset(header + at, '[', DEEP);
    memcpy(header + at + DEEP, tail, sizeof tail);
    written file = write_by_hand(strlen(header), header, 0);
    model_refused(file.data, file.bytes, "depth of the graph", DEEP);
    cr_expect(strstr(carry_error(), "deeper") != NULL, "%s", carry_error());
    free(file.data);
    free(header);
}

Test(file, many_tensors_cost_no_more_than_their_header)
{
    enum { MANY = 200000 };
    char *header = malloc(MANY * 64 + 64), *at = header;
    at += sprintf(at, "{");
    for (int i = 0; i < MANY; i++)
        at += sprintf(at,
                      "%s\"%d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                      i ? "," : "", i);
    sprintf(at, "}");
    written file = write_by_hand(strlen(header), header, 0);
    model_refused(file.data, file.bytes, "tensors", MANY);
    free(file.data);
    free(header);
}

/* ---- graphs that are valid JSON and wrong --------------------------------------------------- */

/* The file with one piece of its graph replaced (same length or not) and its checksum left out. */
static written replace(const model_spec *spec, const char *piece, const char *by)
{
    size_t bytes;
    unsigned char *data = build_bytes(spec, &bytes);
    uint64_t header_bytes = 0;
    for (int i = 8; i-- > 0;)
        header_bytes = header_bytes << 8 | data[i];
    char *header = calloc(1, header_bytes + 1024);
    memcpy(header, data + 8, header_bytes);
    char *sum = strstr(header, "carry.checksum");
    cr_assert_not_null(sum);
    memcpy(sum, "carry.chocolat", 14);
    char *place = strstr(header, piece);
    cr_assert_not_null(place, "'%s' is not in %s", piece, header);
    size_t tail = strlen(place + strlen(piece)) + 1;
    memmove(place + strlen(by), place + strlen(piece), tail);
    memcpy(place, by, strlen(by));
    written file = write_by_hand(strlen(header), header, bytes - 8 - header_bytes);
    memcpy(file.data + 8 + strlen(header), data + 8 + header_bytes,
           bytes - 8 - header_bytes);
    free(header);
    cy_free(data);
    return file;
}

Test(file, the_replaced_file_is_otherwise_sound)
{
    written file = replace(&small, "layer1", "layer1");
    carry_model *model;
    OK(try_model(file.data, file.bytes, &model));
    carry_model_close(&model);
    free(file.data);
}

Test(file, graphs_that_do_not_hold_together)
{
    static const struct {
        const model_spec *spec;
        const char *piece, *by, *words;
    } lies[] = {
        {&small, "\\\"units\\\":2", "\\\"units\\\":3",
         "layer0/kernel is [1, 8], expected [1, 12]"},
        {&small, "\\\"units\\\":2", "\\\"units\\\":0", "units is 0"},
        {&small, "\\\"units\\\":2", "\\\"units\\\":-1", "units"},
        {&small, "\\\"units\\\":2", "\\\"units\\\":4611686018427387904",
         "units is 46116860184"},
        {&small, "\\\"units\\\":2", "\\\"units\\\":1e1", "units"},
        {&small, "\\\"units\\\":2", "\\\"units\\\":\\\"2\\\"", "units"},
        {&small, "\\\"width\\\":1", "\\\"width\\\":2", "expected [2, 8]"},
        {&small, "\\\"width\\\":1", "\\\"width\\\":0", "features is 0"},
        {&small, "\\\"width\\\":1", "\\\"width\\\":16777217", "features"},
        {&small, "\\\"steps\\\":0", "\\\"steps\\\":4294967296", "time axis"},
        {&small, "\\\"name\\\":\\\"layer1\\\"", "\\\"name\\\":\\\"layer0\\\"", "layer0"},
        {&small, "\\\"name\\\":\\\"layer1\\\"", "\\\"name\\\":\\\"\\\"", ""},
        {&small, "\\\"op\\\":\\\"lstm\\\"", "\\\"op\\\":\\\"gru\\\"", "gru"},
        {&small, "\\\"op\\\":\\\"dense\\\"", "\\\"op\\\":\\\"lstm\\\"",
         "recurrent_activation"},
        {&small, "\\\"activation\\\":\\\"tanh\\\"", "\\\"activation\\\":\\\"tan\\\"",
         "'tan'"},
        {&small, "\\\"use_bias\\\":true", "\\\"use_bias\\\":1", "use_bias"},
        {&small, "\\\"input\\\":[0,0]", "\\\"input\\\":[1,0]", "not before it"},
        {&small, "\\\"input\\\":[0,0]", "\\\"input\\\":[7,0]", "not before it"},
        {&small, "\\\"input\\\":[0,0]", "\\\"input\\\":[-2,0]", "edge"},
        {&small, "\\\"input\\\":[0,0]", "\\\"input\\\":[0,3]", "edge"},
        {&small, "\\\"input\\\":[0,0]", "\\\"input\\\":[0]", "edge"},
        {&small, "\\\"outputs\\\":[[1,0]]", "\\\"outputs\\\":[]", "0 outputs"},
        {&small, "\\\"outputs\\\":[[1,0]]", "\\\"outputs\\\":[[2,0]]", "output 0"},
        {&small, "\\\"outputs\\\":[[1,0]]", "\\\"outputs\\\":[[1,1]]", "output"},
        {&small, "\\\"outputs\\\":[[1,0]]", "\\\"outputs\\\":[[-1,0]]", "input itself"},
        {&small, "\\\"outputs\\\":[[1,0]]", "\\\"outputs\\\":7", "outputs"},
        {&small, "\\\"ids\\\":false", "\\\"ids\\\":true", "ids"},
        {&words, "\\\"ids\\\":true", "\\\"ids\\\":false", "Embedding"},
        {&words, "\\\"ids\\\":true", "\\\"ids\\\":null", "ids"},
        {&small, "layer0/bias", "layer0/byas", "layer0/bias"},
        {&small, "carry.graph", "carry.grass", "carry.graph"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        written file = replace(lies[i].spec, lies[i].piece, lies[i].by);
        carry_model *model;
        carry_status status = try_model(file.data, file.bytes, &model);
        cr_expect(is_refusal(status), "%s: %s", lies[i].by, carry_status_name(status));
        if (status == CARRY_OK) carry_model_close(&model);
        else
            cr_expect(strstr(carry_error(), lies[i].words) != NULL,
                      "%s: sentence is '%s', expected '%s'", lies[i].by, carry_error(),
                      lies[i].words);
        free(file.data);
    }
}

/* Changes something inside the graph's JSON that leaves it JSON: a digit, a flag, a word. */
static void change_graph(char *header, size_t capacity, uint64_t *seed)
{
    static const char *const swaps[][2] = {{"true", "false"},
                                           {"false", "true"},
                                           {"tanh", "softmax"},
                                           {"sigmoid", "log_softmax"},
                                           {"linear", "exponential"},
                                           {"lstm\\\"", "dense\\\""},
                                           {"dense\\\"", "identity\\\""},
                                           {"dense\\\"", "activation\\\""},
                                           {"[0,0]", "[0,1]"},
                                           {"[0,0]", "[-1,0]"},
                                           {"[[1,0]]", "[[1,0],[0,1],[0,2],[0,0]]"}};
    char *graph = strstr(header, "carry.graph");
    cr_assert_not_null(graph);
    size_t length = strlen(graph);
    if (random_u64(seed) % 2) {
        for (int tries = 0; tries < 200; tries++) {
            char *at = graph + random_u64(seed) % length;
            if (*at < '0' || *at > '9') continue;
            *at = (char)('0' + random_u64(seed) % 10);
            return;
        }
        return;
    }
    const char *const *swap = swaps[random_u64(seed) % (sizeof swaps / sizeof *swaps)];
    size_t from = strlen(swap[0]), to = strlen(swap[1]);
    char *place = strstr(graph + random_u64(seed) % length, swap[0]);
    if (!place || strlen(header) + to >= capacity) return;
    memmove(place + to, place + from, strlen(place + from) + 1);
    memcpy(place, swap[1], to);
}

static void run_whatever_it_is(carry_model *model)
{
    carry_model_info info = {.size = sizeof info};
    carry_port_info in_port = {.size = sizeof in_port};
    OK(carry_model_get_info(model, &info));
    OK(carry_model_get_input(model, 0, &in_port));
    carry_session_options options = {
        .size = sizeof options, .threads = 2, .max_rows = 2, .max_steps = 4};
    carry_session *session;
    OK(carry_session_open(&session, model, &options));
    enum { ROWS = 3, STEPS = 4 };
    cr_assert(info.outputs <= 8 && in_port.width <= 64);
    float x[ROWS * STEPS * 64] = {0}, *y[8] = {0};
    const uint32_t steps[ROWS] = {4, 0, 2};
    carry_state states[ROWS] = {{0}};
    OK(carry_state_open(session, &states[0]));
    OK(carry_state_open(session, &states[1]));
    carry_array in = {.size = sizeof in,
                      .data = x,
                      .dtype = in_port.dtype,
                      .bytes = ROWS * STEPS * (size_t)in_port.width * sizeof(float)};
    carry_array out[8];
    for (size_t i = 0; i < info.outputs; i++) {
        carry_port_info port = {.size = sizeof port};
        OK(carry_model_get_output(model, i, &port));
        size_t bytes =
            ROWS * (port.has_time ? STEPS : 1) * (size_t)port.width * sizeof(float);
        out[i] = (carry_array){
            .size = sizeof *out, .data = y[i] = malloc(bytes), .bytes = bytes};
    }
    carry_batch batch = {.size = sizeof batch,
                         .rows = ROWS,
                         .states = states,
                         .steps = steps,
                         .max_steps = STEPS,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = info.outputs};
    OK(carry_run(session, &batch));
    OK(carry_run(session, &batch));
    for (size_t i = 0; i < info.outputs; i++)
        free(y[i]);
    carry_session_close(&session);
}

/* A stranger's file needs no checksum: whatever then opens must also run. */
Test(file, changed_graphs_are_refused_or_run)
{
    static const model_spec *const specs[] = {&small, &words};
    enum { CAPACITY = 8192 };
    uint64_t seed = 21;
    int opened = 0;
    for (int round = 0; round < 6000; round++) {
        written sound = replace(specs[round % 2], "layer1", "layer1");
        uint64_t header_bytes = 0;
        for (int i = 8; i-- > 0;)
            header_bytes = header_bytes << 8 | sound.data[i];
        size_t data_bytes = sound.bytes - 8 - header_bytes;
        static char header[CAPACITY];
        memcpy(header, sound.data + 8, header_bytes);
        header[header_bytes] = 0;
        for (uint64_t changes = 1 + random_u64(&seed) % 4; changes > 0; changes--)
            change_graph(header, sizeof header, &seed);
        written file = write_by_hand(strlen(header), header, data_bytes);
        memcpy(file.data + 8 + strlen(header), sound.data + 8 + header_bytes, data_bytes);
        carry_model *model;
        carry_status status = try_model(file.data, file.bytes, &model);
        if (status == CARRY_OK) {
            opened++;
            run_whatever_it_is(model);
            carry_model_close(&model);
        } else {
            cr_assert(is_refusal(status), "round %d: %s", round,
                      carry_status_name(status));
        }
        free(sound.data);
        free(file.data);
    }
    cr_assert_gt(opened, 300, "only %d of 6000 opened: nothing was tested", opened);
}

/* ---- saved states --------------------------------------------------------------------------- */

typedef struct saved {
    rig r;
    carry_state state;
    unsigned char *data; /* what it saved */
    size_t bytes;
    void *other; /* the state it is in while restores are tried */
    size_t other_bytes;
} saved;

static saved saved_open(void)
{
    saved s = {.r = rig_open(&small, NULL)};
    open_states(&s.r, &s.state, 1);
    const float x[4] = {1, -2, 3, 0.5f};
    float y[4];
    call_spec call = {.rows = 1, .max_steps = 4, .states = &s.state, .x = x, .y = y};
    OK(run_call(&s.r, &call));
    s.data = save(&s.r, &s.state, 1, &s.bytes);
    OK(run_call(&s.r, &call));
    s.other = save(&s.r, &s.state, 1, &s.other_bytes);
    return s;
}

static bool state_is(saved *s, const void *data, size_t bytes)
{
    size_t now_bytes;
    void *now = save(&s->r, &s->state, 1, &now_bytes);
    bool same = now_bytes == bytes && memcmp(now, data, bytes) == 0;
    free(now);
    return same;
}

static void saved_close(saved *s)
{
    free(s->data);
    free(s->other);
    rig_close(&s->r);
}

/* Refused and nothing moved; or the damage meant nothing and the state is what was saved. */
static void check_restore(saved *s, const void *data, size_t bytes, const char *what,
                          size_t at)
{
    unsigned char *copy = exact(data, bytes);
    carry_status status =
        carry_states_restore(s->r.session, &s->state, 1, NULL, copy, bytes);
    free(copy);
    if (status == CARRY_OK) {
        cr_assert(state_is(s, s->data, s->bytes), "%s %zu: a damaged state was restored",
                  what, at);
        OK(carry_states_restore(s->r.session, &s->state, 1, NULL, s->other,
                                s->other_bytes));
        return;
    }
    cr_assert(is_refusal(status), "%s %zu: %s", what, at, carry_status_name(status));
    cr_assert_str_not_empty(carry_error());
    cr_assert(state_is(s, s->other, s->other_bytes),
              "%s %zu: a refused restore moved the state", what, at);
}

Test(file, a_saved_state_cut_at_every_byte)
{
    saved s = saved_open();
    for (size_t cut = 0; cut < s.bytes; cut++) {
        carry_status status =
            carry_states_restore(s.r.session, &s.state, 1, NULL, s.data, cut);
        cr_assert(is_refusal(status), "cut at %zu: %s", cut, carry_status_name(status));
        check_restore(&s, s.data, cut, "cut at", cut);
    }
    saved_close(&s);
}

Test(file, a_saved_state_with_every_bit_flipped)
{
    saved s = saved_open();
    for (size_t at = 0; at < s.bytes; at++)
        for (int bit = 0; bit < 8; bit++) {
            s.data[at] ^= (unsigned char)(1 << bit);
            unsigned char *copy = exact(s.data, s.bytes);
            s.data[at] ^= (unsigned char)(1 << bit);
            check_restore(&s, copy, s.bytes, "bit flipped in byte", at);
            free(copy);
        }
    saved_close(&s);
}

Test(file, a_plain_safetensors_file_with_the_right_tensors_is_a_state)
{
    saved s = saved_open();
    const char header[] =
        "{\"layer0/c\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
        "\"layer0/h\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]}}";
    written file = write_by_hand(sizeof header - 1, header, 16);
    const float values[4] = {4, 3, 2, 1};
    memcpy(file.data + file.bytes - 16, values, 16);
    /* at every alignment of the caller's memory */
    for (size_t shift = 0; shift < 8; shift++) {
        unsigned char *place = malloc(file.bytes + 8);
        memcpy(place + shift, file.data, file.bytes);
        OK(carry_states_restore(s.r.session, &s.state, 1, NULL, place + shift,
                                file.bytes));
        free(place);
        float h[2], c[2];
        OK(carry_state_read(s.r.session, s.state, 0, h, 2));
        OK(carry_state_read(s.r.session, s.state, 1, c, 2));
        cr_assert(c[0] == 4 && c[1] == 3 && h[0] == 2 && h[1] == 1);
    }
    free(file.data);
    saved_close(&s);
}

Test(file, states_of_the_wrong_shape)
{
    static const struct {
        const char *h, *c, *words;
        size_t bytes;
    } shapes[] = {
        {"[1,3]", "[1,2]", "layer0/h' is [1, 3], expected [1, 2]", 20},
        {"[2]", "[1,2]", "layer0/h' has 1 axes", 16},
        {"[1,1,2]", "[1,2]", "layer0/h' has 3 axes", 16},
        {"[2,1]", "[1,2]", "layer0/h' is [2, 1]", 16},
        {"[1,2]", "[0,2]", "layer0/c' is [0, 2]", 8},
    };
    saved s = saved_open();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t h_bytes = shapes[i].bytes == 20 ? 12 : 8;
        char header[256];
        snprintf(
            header, sizeof header,
            "{\"layer0/h\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,%zu]},"
            "\"layer0/c\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}}",
            shapes[i].h, h_bytes, shapes[i].c, h_bytes, shapes[i].bytes);
        written file = write_by_hand(strlen(header), header, shapes[i].bytes);
        check_restore(&s, file.data, file.bytes, shapes[i].words, i);
        cr_expect(strstr(carry_error(), shapes[i].words) != NULL,
                  "sentence is '%s', expected '%s'", carry_error(), shapes[i].words);
        free(file.data);
    }
    static const struct {
        const char *header, *words;
        size_t bytes;
    } others[] = {
        {"{\"layer0/h\":{\"dtype\":\"F64\",\"shape\":[1,2],\"data_offsets\":[0,16]},"
         "\"layer0/c\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[16,24]}}",
         "F64", 24},
        {"{\"layer0/h\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}",
         "'layer0/c' is missing", 8},
        {"{\"layer0/h\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
         "\"layer0/c\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"
         "\"layer9/h\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[16,24]}}",
         "'layer9/h'", 24},
        {"{\"__metadata__\":{\"carry.kind\":\"model\"}}", "'model'", 0},
        {"{\"__metadata__\":{\"carry.version\":\"9\"}}", "version '9'", 0},
        {"{\"__metadata__\":{\"carry.fingerprint\":\"0123456789abcdef\"}}",
         "0123456789abcdef", 0},
        {"{\"__metadata__\":{\"carry.checksum\":\"0123456789abcdef\"}}", "damaged", 0},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        written file =
            write_by_hand(strlen(others[i].header), others[i].header, others[i].bytes);
        check_restore(&s, file.data, file.bytes, others[i].words, i);
        cr_expect(strstr(carry_error(), others[i].words) != NULL,
                  "sentence is '%s', expected '%s'", carry_error(), others[i].words);
        free(file.data);
    }
    saved_close(&s);
}

Test(file, a_model_is_no_state_and_a_state_no_model)
{
    saved s = saved_open();
    size_t bytes;
    void *model = build_bytes(&small, &bytes);
    check_restore(&s, model, bytes, "a model", 0);
    cr_expect(strstr(carry_error(), "'model'") != NULL, "%s", carry_error());
    model_refused(s.data, s.bytes, "a state", 0);
    cr_expect(strstr(carry_error(), "'state'") != NULL, "%s", carry_error());
    cy_free(model);
    saved_close(&s);
}
