/* Configs that carry must not run: each is refused with a sentence that names what is wrong. And configs in
 * which every value in turn is something else: each is a success or a clean sentence, never a crash. */
#define _POSIX_C_SOURCE 200809L /* strdup */

#include "import_support.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A golden archive taken apart, its config parsed. */
typedef struct parts {
    blob archive, metadata, config, weights;
    json_t *root;
} parts;

static parts parts_open(const char *name)
{
    parts p = {.archive = golden_read(name)};
    cr_assert(zip_find(p.archive, "metadata.json", &p.metadata));
    cr_assert(zip_find(p.archive, "config.json", &p.config));
    cr_assert(zip_find(p.archive, "model.weights.h5", &p.weights));
    json_error_t error;
    p.root = json_loadb((char *)p.config.data, p.config.bytes, 0, &error);
    cr_assert(p.root, "%s", error.text);
    return p;
}

static void parts_close(parts *p)
{
    json_decref(p->root);
    blob_free(&p->archive);
}

static bool import_config(const parts *p, const char *config, const char *what,
                          outcome *out)
{
    blob text = {(unsigned char *)config, strlen(config)};
    blob file = keras_make(&p->metadata, &text, &p->weights);
    bool good = import_checked(file.data, file.bytes, what, out);
    blob_free(&file);
    return good;
}

/* Follows "config.layers.1.config" from the root; digits are places in a list. */
static json_t *follow(json_t *json, const char *path)
{
    char key[64];
    while (*path) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        json = json_is_array(json) ? json_array_get(json, strtoul(key, NULL, 10))
                                   : json_object_get(json, key);
        cr_assert(json, "no %s", key);
        path += length + (path[length] == '.');
    }
    return json;
}

typedef struct edit {
    const char *file, *object, *key, *value; /* value: JSON; NULL removes the key */
    carry_status status;
    const char *says; /* in the sentence */
} edit;

static void check_edit(const edit *e)
{
    parts p = parts_open(e->file);
    json_t *object = follow(p.root, e->object);
    json_t *value = e->value ? json_loads(e->value, JSON_DECODE_ANY, NULL) : NULL;
    cr_assert(value || !e->value, "no JSON: %s", e->value);
    if (json_is_array(object)) {
        if (value) json_array_set_new(object, strtoul(e->key, NULL, 10), value);
        else json_array_remove(object, strtoul(e->key, NULL, 10));
    } else if (value) {
        json_object_set_new(object, e->key, value);
    } else {
        json_object_del(object, e->key);
    }
    char *text = json_dumps(p.root, 0);
    char what[256];
    snprintf(what, sizeof what, "%s with %s.%s = %.60s", e->file, e->object, e->key,
             e->value ? e->value : "nothing");
    outcome out;
    cr_assert(import_config(&p, text, what, &out));
    cr_assert_eq(out.status, e->status, "%s: status %s, '%s'", what,
                 carry_status_name(out.status), out.sentence);
    if (e->says)
        cr_assert(strstr(out.sentence, e->says), "%s: '%s' does not say '%s'", what,
                  out.sentence, e->says);
    carry_import_free(out.model);
    free(text);
    parts_close(&p);
}

#define SEQ         "k3_sequential.keras"
#define FUN         "k3_functional.keras"
#define IDS         "k3_ids.keras"
#define OLD         "k2_functional.keras"
#define LSTM        "config.layers.1.config"
#define UNSUPPORTED CARRY_E_UNSUPPORTED
#define FORMAT      CARRY_E_FORMAT
#define OK          CARRY_OK

static const edit edits[] = {
    /* LSTM arguments */
    {SEQ, LSTM, "time_major", "true", UNSUPPORTED, "layer 'a' (LSTM): time_major=true"},
    {SEQ, LSTM, "time_major", "false", OK, NULL},
    {SEQ, LSTM, "new_argument", "1", UNSUPPORTED, "'new_argument'"},
    {SEQ, LSTM, "new_argument", "null", OK, NULL},
    {SEQ, LSTM, "new_argument", "false", OK, NULL},
    {SEQ, LSTM, "implementation", "1", OK, NULL},
    {SEQ, LSTM, "unroll", "true", OK, NULL},
    {SEQ, LSTM, "zero_output_for_mask", "true", OK, NULL},
    {SEQ, LSTM, "recurrent_dropout", "0.5", OK, NULL},
    {SEQ, LSTM, "units", "4.0", OK, NULL},
    {SEQ, LSTM, "units", "4.5", FORMAT, "units is 4.5"},
    {SEQ, LSTM, "units", "0", FORMAT, "units is 0, expected 1 to 16777216"},
    {SEQ, LSTM, "units", "-4", FORMAT, "units is -4"},
    {SEQ, LSTM, "units", "16777217", FORMAT, "units is 16777217"},
    {SEQ, LSTM, "units", "16777216", FORMAT,
     "a/kernel is [3, 16], expected [3, 67108864]"},
    {SEQ, LSTM, "units", NULL, FORMAT, "units is missing"},
    {SEQ, LSTM, "units", "5", FORMAT, "a/kernel is [3, 16], expected [3, 20]"},
    {SEQ, LSTM, "use_bias", "false", FORMAT, "more than 2 weights"},
    {SEQ, LSTM, "use_bias", "1", OK, NULL},
    {SEQ, LSTM, "use_bias", "2", FORMAT, "use_bias is 2, expected true or false"},
    {SEQ, LSTM, "stateful", "\"yes\"", FORMAT, "stateful is \"yes\""},
    {SEQ, LSTM, "return_state", "true", UNSUPPORTED, "returns its state"},
    {SEQ, LSTM, "return_sequences", "false", UNSUPPORTED,
     "needs an input with a time axis"},
    {SEQ, "config.layers.2.config", "use_bias", "true", FORMAT, "has no dataset"},
    /* activations */
    {SEQ, LSTM, "activation", "\"squareplus\"", UNSUPPORTED,
     "supported are hard_sigmoid"},
    {SEQ, LSTM, "activation", "null", OK, NULL},
    {SEQ, LSTM, "activation", "3", UNSUPPORTED, "activation is 3"},
    {SEQ, LSTM, "activation", NULL, FORMAT, "has no activation"},
    {SEQ, LSTM, "recurrent_activation", NULL, FORMAT, "has no recurrent_activation"},
    {SEQ, LSTM, "activation",
     "{\"class_name\": \"function\", \"config\": \"gelu\", \"module\": \"builtins\"}", OK,
     NULL},
    {SEQ, LSTM, "activation", "{\"class_name\": \"function\", \"config\": \"mine\"}",
     UNSUPPORTED, "activation is \"mine\""},
    {SEQ, LSTM, "activation", "{\"class_name\": \"__lambda__\", \"config\": {}}",
     UNSUPPORTED, "__lambda__"},
    {SEQ, LSTM, "activation",
     "{\"class_name\": \"LeakyReLU\", \"config\": {\"negative_slope\": 0.2}}", OK, NULL},
    {SEQ, LSTM, "activation",
     "{\"class_name\": \"LeakyReLU\", \"config\": {\"negative_slope\": 0.3}}",
     UNSUPPORTED, "slope must be 0.2"},
    {SEQ, LSTM, "activation",
     "{\"class_name\": \"ReLU\", \"config\": {\"max_value\": 6}}", OK, NULL},
    {SEQ, LSTM, "activation",
     "{\"class_name\": \"ReLU\", \"config\": {\"max_value\": 5}}", UNSUPPORTED,
     "\"ReLU\""},
    {SEQ, LSTM, "activation", "{\"class_name\": \"Softmax\", \"config\": {\"axis\": 1}}",
     UNSUPPORTED, "\"Softmax\""},
    /* data types */
    {SEQ, LSTM, "dtype", "\"mixed_float16\"", OK, NULL},
    {SEQ, LSTM, "dtype", "\"int32\"", UNSUPPORTED, "dtype is \"int32\""},
    {SEQ, LSTM, "dtype",
     "{\"class_name\": \"QuantizedDTypePolicy\", \"config\": {\"name\": "
     "\"int8_from_float32\"}}",
     UNSUPPORTED, "quantized"},
    {SEQ, "config.layers.3.config", "quantization_config", "{}", UNSUPPORTED,
     "quantization_config is set"},
    {SEQ, "config.layers.3.config", "lora_rank", "4", UNSUPPORTED,
     "lora_rank is set (4)"},
    {FUN, "config.layers.0.config", "dtype", "\"int32\"", UNSUPPORTED,
     "layer 'x' (InputLayer): dtype is \"int32\""},
    {FUN, "config.layers.0.config", "sparse", "true", UNSUPPORTED, "sparse=true"},
    /* classes */
    {SEQ, "config.layers.1", "class_name", "\"GRU\"", UNSUPPORTED,
     "layer 'a' (GRU) is not supported; supported are InputLayer, LSTM, Dense"},
    {SEQ, "config.layers.1", "class_name", "\"CuDNNLSTM\"", UNSUPPORTED, "(CuDNNLSTM)"},
    {SEQ, "config.layers.1", "class_name", "\"Lambda\"", UNSUPPORTED, "(Lambda)"},
    {SEQ, "config.layers.1", "class_name", "\"Masking\"", UNSUPPORTED, "no masks yet"},
    {SEQ, "config.layers.1", "registered_name", "\"pkg>LSTM\"", UNSUPPORTED,
     "registered as \"pkg>LSTM\""},
    {SEQ, "config.layers.1", "module", "\"my.layers\"", UNSUPPORTED,
     "module \"my.layers\""},
    {SEQ, "config.layers.1", "module", "\"kerasy\"", UNSUPPORTED, "module \"kerasy\""},
    {SEQ, "", "class_name", "\"MyModel\"", UNSUPPORTED, "the model is a MyModel"},
    {SEQ, "", "registered_name", "\"pkg>Sequential\"", UNSUPPORTED, "pkg>Sequential"},
    {IDS, "config.layers.1.config", "mask_zero", "true", UNSUPPORTED,
     "layer 'e' (Embedding): mask_zero=true is not supported"},
    {IDS, "config.layers.1.config", "input_dim", "8", FORMAT,
     "e/embeddings is [7, 3], expected [8, 3]"},
    {IDS, "config.layers.1.config", "input_dim", "2147483648", FORMAT, "input_dim is"},
    {FUN, "config.layers.2.config.layer", "class_name", "\"LSTM\"", UNSUPPORTED,
     "wraps LSTM; TimeDistributed(Dense) is supported"},
    /* inputs */
    {SEQ, "config.layers.0.config", "batch_shape", "[null, 3]", UNSUPPORTED,
     "has no time axis; carry needs [batch, time, features]"},
    {SEQ, "config.layers.0.config", "batch_shape", "[2, 5, 3, 1]", UNSUPPORTED, "4 axes"},
    {SEQ, "config.layers.0.config", "batch_shape", "[2, 5, null]", UNSUPPORTED,
     "the feature axis of its input shape is null"},
    {SEQ, "config.layers.0.config", "batch_shape", "[2, 5, 4]", FORMAT,
     "a/kernel is [3, 16], expected [4, 16]"},
    {SEQ, "config.layers.0.config", "batch_shape", NULL, FORMAT,
     "input shape is missing"},
    {SEQ, "config.layers.0.config", "batch_shape", "[2, 0, 3]", FORMAT, "time axis"},
    {IDS, "config.layers.0.config", "batch_shape", "[null, 4, 1]", UNSUPPORTED,
     "an Embedding needs ids [batch, time]"},
    {FUN, "config", "input_layers", "[[\"x\", 0, 0], [\"x\", 0, 0]]", UNSUPPORTED,
     "the model has 2 inputs; one is supported"},
    {FUN, "config", "input_layers", "[\"head\", 0, 0]", FORMAT, "expected an InputLayer"},
    {FUN, "config", "input_layers", "[\"y\", 0, 0]", FORMAT, "'y', which does not exist"},
    {FUN, "config", "output_layers", "[\"head\", 0, 1]", FORMAT, "refers to output 1"},
    {FUN, "config", "output_layers", "[\"head\", 1, 0]", UNSUPPORTED, "shared layers"},
    {FUN, "config", "output_layers", "[\"x\", 0, 0]", UNSUPPORTED, "the model's input"},
    {FUN, "config", "output_layers", "[]", UNSUPPORTED, "0 outputs"},
    {FUN, "config", "output_layers",
     "{\"b\": [\"head\", 0, 0], \"a\": [[\"head\", 0, 0]]}", OK, NULL},
    /* wiring */
    {FUN, "config.layers.2", "inbound_nodes", "[]", FORMAT,
     "inbound_nodes is a list of 0"},
    {FUN, "config.layers.2.inbound_nodes.0.kwargs", "mask", "[1]", UNSUPPORTED, "a mask"},
    {FUN, "config.layers.1.inbound_nodes.0.kwargs", "initial_state", "[1, 2]",
     UNSUPPORTED, "takes initial_state from other layers"},
    {FUN, "config.layers.1.inbound_nodes.0.kwargs", "other", "1", UNSUPPORTED, "'other'"},
    {FUN, "config.layers.2.inbound_nodes.0.args.0.config.keras_history", "0", "\"head\"",
     FORMAT, "in a circle"},
    {FUN, "config.layers.2.inbound_nodes.0.args.0.config.keras_history", "0", "\"none\"",
     FORMAT, "layer 'none', which does not exist"},
    {FUN, "config.layers.2.inbound_nodes.0.args.0.config.keras_history", "2", "3", FORMAT,
     "refers to output 3"},
    {FUN, "config.layers.2.inbound_nodes.0.args.0.config.keras_history", "2", "1", FORMAT,
     "(TimeDistributed) needs an input with a time axis"},
    {FUN, "config.layers.2.inbound_nodes.0.args.0", "class_name", "\"x\"", FORMAT,
     "expected a __keras_tensor__"},
    {FUN, "config.layers.2", "name", "\"x\"", FORMAT, "two layers are named 'x'"},
    {FUN, "config.layers.2", "name", "\"\"", FORMAT, "expected one of 1 to 512 bytes"},
    {OLD, "config.layers.1", "inbound_nodes", "[[\"x\", 0, 0, {}]]", OK, NULL},
    {OLD, "config.layers.1", "inbound_nodes", "[[[\"x\", 0, 0]]]", OK, NULL},
    {OLD, "config.layers.1", "inbound_nodes", "[[[\"x\", 0, 0, {}], [\"x\", 0, 0, {}]]]",
     UNSUPPORTED, "takes initial_state from other layers"},
    {OLD, "config.layers.1", "inbound_nodes", "[[[\"x\", 0, 0, {\"mask\": 1}]]]",
     UNSUPPORTED, "a mask"},
    {OLD, "config.layers.1", "inbound_nodes", "[[[\"x\", 0, 0]], [[\"x\", 0, 0]]]",
     UNSUPPORTED, "is called 2 times"},
    {OLD, "config.layers.1", "inbound_nodes", "[[[\"x\", 1, 0]]]", UNSUPPORTED,
     "shared layers"},
};

Test(import_refusals, every_sentence_names_what_is_wrong)
{
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++)
        check_edit(&edits[i]);
}

/* Text in place of the whole config, or of the metadata. */
Test(import_refusals, texts_that_are_no_config)
{
    parts p = parts_open(SEQ);
    outcome out;
    static const struct {
        const char *text, *says;
    } texts[] = {
        {"", "config.json is not JSON"},
        {"{", "config.json is not JSON"},
        {"[]", "no class_name"},
        {"{}", "no class_name"},
        {"null", "no"},
        {"{\"class_name\": \"Sequential\"}", "config is missing"},
        {"{\"class_name\": \"Sequential\", \"class_name\": \"Functional\"}", "duplicate"},
        {"{\"class_name\": 1e400}", "config.json is not JSON"},
        {"{\"class_name\": 123456789012345678901234567890}", "config.json is not JSON"},
        {"{\"class_name\": \"\\ud800\"}", "config.json is not JSON"},
        {"{\"class_name\": \"a\\u0000b\"}", "config.json is not JSON"},
        {"{\"class_name\": \"\xff\xfe\"}", "config.json is not JSON"},
        {"{\"class_name\": NaN}", "no class_name"},
        {"{\"class_name\": -Infinity}", "no class_name"},
        {"{\"class_name\": \"a\\\" NaN\"}", "the model is a a\" NaN"},
        {"{\"class_name\": \"Sequential\", \"config\": Infinity}", "config is null"},
        {"{\"class_name\": \"Sequential\", \"config\": []}", "0 layers"},
        {"{\"class_name\": \"Sequential\", \"config\": [7]}", "layer 0 is 7"},
        {"{\"class_name\": \"Sequential\", \"config\": [{\"class_name\": \"NaN\", "
         "\"config\": {\"name\": \"Infinity\"}}]}",
         "layer 'Infinity' (NaN) is not supported"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_assert(import_config(&p, texts[i].text, texts[i].text, &out));
        cr_assert_neq(out.status, CARRY_OK, "%s", texts[i].text);
        cr_assert(strstr(out.sentence, texts[i].says), "%s: '%s'", texts[i].text,
                  out.sentence);
    }
    parts_close(&p);
}

Test(import_refusals, deep_nesting_is_counted_before_it_is_parsed)
{
    parts p = parts_open(SEQ);
    outcome out;
    char text[20001];
    memset(text, '[', 10000);
    memset(text + 10000, ']', 10000);
    text[20000] = '\0';
    cr_assert(import_config(&p, text, "10000 brackets", &out));
    cr_assert_eq(out.status, CARRY_E_FORMAT);
    cr_assert(strstr(out.sentence, "nests deeper than 64"), "%s", out.sentence);
    parts_close(&p);
}

Test(import_refusals, the_generation_of_the_file_counts)
{
    parts p = parts_open(SEQ);
    static const struct {
        const char *metadata;
        carry_status status;
        const char *says;
    } cases[] = {
        {"{\"keras_version\": \"3.15.1\"}", CARRY_OK, ""},
        {"{\"keras_version\": \"2.14.0\"}", CARRY_OK, ""},
        {"{\"keras_version\": \"1.2.2\"}", CARRY_E_UNSUPPORTED, "Keras 1.2.2"},
        {"{\"keras_version\": \"x\"}", CARRY_E_FORMAT, "keras_version is 'x'"},
        {"{}", CARRY_E_FORMAT, "no keras_version"},
        {"{\"keras_version\": 3}", CARRY_E_FORMAT, "no keras_version"},
        {"nonsense", CARRY_E_FORMAT, "metadata.json is not JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        blob metadata = {(unsigned char *)cases[i].metadata, strlen(cases[i].metadata)};
        blob file = keras_make(&metadata, &p.config, &p.weights);
        outcome out;
        cr_assert(import_checked(file.data, file.bytes, cases[i].metadata, &out));
        cr_assert_eq(out.status, cases[i].status, "%s: %s", cases[i].metadata,
                     out.sentence);
        cr_assert(strstr(out.sentence, cases[i].says), "%s", out.sentence);
        carry_import_free(out.model);
        blob_free(&file);
    }
    parts_close(&p);
}

/* ---- every value in turn ------------------------------------------------------------------------ */

typedef struct sweep {
    const parts *file;
    const char *name;
    size_t imports, successes;
} sweep;

static void import_sweep(sweep *s, const char *path)
{
    char what[512];
    char *text = json_dumps(s->file->root, JSON_ENCODE_ANY);
    snprintf(what, sizeof what, "%s at %s", s->name, path);
    outcome out;
    cr_assert(import_config(s->file, text, what, &out));
    s->successes += out.status == CARRY_OK;
    s->imports++;
    carry_import_free(out.model);
    free(text);
}

/* Puts each replacement where `holder`[key or place] is, imports, and puts the value back. */
static void replace_each(sweep *s, json_t *holder, const char *key, size_t place,
                         const char *path)
{
    static const char *const replacements[] = {"null", "-1",   "1e300", "\"x\"", "[]",
                                               "{}",   "true", "0",     "[[[]]]"};
    json_t *old =
        json_incref(key ? json_object_get(holder, key) : json_array_get(holder, place));
    for (size_t i = 0; i < sizeof replacements / sizeof *replacements; i++) {
        json_t *fresh = json_loads(replacements[i], JSON_DECODE_ANY, NULL);
        if (key) json_object_set_new(holder, key, fresh);
        else json_array_set_new(holder, place, fresh);
        char where[400];
        snprintf(where, sizeof where, "%s = %s", path, replacements[i]);
        import_sweep(s, where);
    }
    if (key) {
        json_object_del(holder, key);
        import_sweep(s, path);
        json_object_set(holder, key, old);
    } else {
        json_array_set(holder, place, old);
    }
    json_decref(old);
}

static void walk(sweep *s, json_t *json, const char *path)
{
    char below[300];
    if (json_is_object(json)) {
        size_t count = json_object_size(json), i = 0;
        const char **keys = calloc(count + 1, sizeof *keys), *key;
        json_t *value;
        json_object_foreach(json, key, value) keys[i++] = key;
        for (i = 0; i < count; i++) {
            char *kept =
                strdup(keys[i]); /* the object frees its own when it is replaced */
            keys[i] = kept;
        }
        for (i = 0; i < count; i++) {
            snprintf(below, sizeof below, "%s.%s", path, keys[i]);
            replace_each(s, json, keys[i], 0, below);
            walk(s, json_object_get(json, keys[i]), below);
            free((char *)keys[i]);
        }
        free(keys);
        return;
    }
    for (size_t i = 0; i < json_array_size(json); i++) {
        snprintf(below, sizeof below, "%s.%zu", path, i);
        replace_each(s, json, NULL, i, below);
        walk(s, json_array_get(json, i), below);
    }
}

static void sweep_golden(const char *name)
{
    parts p = parts_open(name);
    sweep s = {.file = &p, .name = name};
    walk(&s, p.root, "");
    cr_assert_gt(s.imports, 1000);
    /* Inert keys may be anything; shapes, names and wiring may not. */
    cr_assert_gt(s.successes, s.imports / 10);
    cr_assert_lt(s.successes, s.imports * 9 / 10);
    parts_close(&p);
}

Test(import_refusals, any_value_of_a_sequential_config)
{
    sweep_golden("k3_sequential.keras");
}

Test(import_refusals, any_value_of_a_functional_config)
{
    sweep_golden("k3_functional.keras");
}

Test(import_refusals, any_value_of_a_config_of_ids)
{
    sweep_golden("k3_ids.keras");
}

Test(import_refusals, any_value_of_a_config_of_names)
{
    sweep_golden("k3_tree.keras");
}

Test(import_refusals, any_value_of_a_keras_2_config)
{
    sweep_golden("k2_functional.keras");
}
