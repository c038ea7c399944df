/* Files of every writer and layout: what the importer finds is what Keras itself says is in them. */
#include "graph/graph_file.h"
#include "graph/json.h"
#include "import_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static json_t *manifest_read(void)
{
    blob text = golden_read("manifest.json");
    json_t *root;
    cr_assert_eq(cy_json_load(&root, (char *)text.data, text.bytes, "manifest.json"),
                 CARRY_OK, "%s", cy_error());
    blob_free(&text);
    return root;
}

static const json_t *at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    cr_assert(value, "the manifest has no %s", key);
    return value;
}

static const char *text(const json_t *object, const char *key)
{
    return json_string_value(at(object, key));
}

static void check_flag(const char *file, const json_t *layer, const char *key, bool got)
{
    cr_assert_eq(json_is_true(at(layer, key)), got, "%s: %s of %s is %d", file, key,
                 text(layer, "name"), got);
}

static void check_weights(const char *file, const json_t *layer, const cy_node *node)
{
    const json_t *weights = at(layer, "weights");
    cr_assert_eq(json_array_size(weights), node->weight_count, "%s: %s has %u weights",
                 file, node->name, node->weight_count);
    for (uint32_t i = 0; i < node->weight_count; i++) {
        const json_t *expected = json_array_get(weights, i);
        const json_t *shape = at(expected, "shape");
        const cy_tensor *tensor = &node->weights[i];
        cr_assert_str_eq(tensor->name, text(expected, "name"));
        cr_assert_eq(tensor->rank, json_array_size(shape));
        for (uint32_t axis = 0; axis < tensor->rank; axis++)
            cr_assert_eq((json_int_t)tensor->shape[axis],
                         json_integer_value(json_array_get(shape, axis)));
        char hash[17];
        snprintf(hash, sizeof hash, "%016llx",
                 (unsigned long long)cy_hash64(CY_HASH_START, tensor->data,
                                               cy_tensor_count(tensor) * sizeof(float)));
        cr_assert_str_eq(hash, text(expected, "hash"),
                         "%s: %s/%s has other numbers than Keras gives", file, node->name,
                         tensor->name);
    }
}

static void check_layer(const char *file, const json_t *layer, const cy_node *node)
{
    cr_assert_str_eq(node->class_name, text(layer, "class"), "%s", file);
    check_weights(file, layer, node);
    if (json_object_get(layer, "activation")) {
        cr_assert_str_eq(cy_activation_name(node->activation), text(layer, "activation"),
                         "%s: %s", file, node->name);
        if (node->op == CY_OP_LSTM)
            cr_assert_str_eq(cy_activation_name(node->recurrent_activation),
                             text(layer, "recurrent_activation"), "%s: %s", file,
                             node->name);
    }
    if (node->op != CY_OP_LSTM) return;
    cr_assert_eq((json_int_t)node->units, json_integer_value(at(layer, "units")));
    check_flag(file, layer, "return_sequences", node->return_sequences);
    check_flag(file, layer, "return_state", node->return_state);
    check_flag(file, layer, "go_backwards", node->go_backwards);
    check_flag(file, layer, "stateful", node->stateful);
    check_flag(file, layer, "use_bias", node->use_bias);
}

static void check_input(const char *file, const json_t *input, const cy_graph *graph)
{
    cr_assert_eq(json_is_true(at(input, "ids")), graph->input.ids, "%s", file);
    cr_assert_eq(json_integer_value(at(input, "batch")), (json_int_t)graph->input.batch);
    cr_assert_eq(json_integer_value(at(input, "steps")), (json_int_t)graph->input.steps);
    cr_assert_eq(json_integer_value(at(input, "width")), (json_int_t)graph->input.width);
}

static const cy_node *find_node(const cy_graph *graph, const char *name)
{
    for (uint32_t i = 0; i < graph->node_count; i++)
        if (strcmp(graph->nodes[i].name, name) == 0) return &graph->nodes[i];
    return NULL;
}

static void check_golden(const char *file, const json_t *expected)
{
    blob data = golden_read(file);
    outcome out;
    cr_assert(import_checked(data.data, data.bytes, file, &out));
    cr_assert_eq(out.status, CARRY_OK, "%s: %s", file, out.sentence);
    cy_graph *graph;
    cr_assert_eq(cy_graph_read(&graph, out.model, out.bytes), CARRY_OK);
    cr_assert_str_eq(graph->source, text(expected, "source"));
    cr_assert_str_eq(carry_importer_probe(data.data, data.bytes), graph->source);
    check_input(file, at(expected, "input"), graph);
    const json_t *layers = at(expected, "layers"), *outputs = at(expected, "outputs");
    cr_assert_eq(json_array_size(layers), graph->node_count, "%s: %u layers", file,
                 graph->node_count);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const cy_node *node = find_node(graph, text(layer, "name"));
        cr_assert(node, "%s: no layer '%s'", file, text(layer, "name"));
        check_layer(file, layer, node);
    }
    cr_assert_eq(json_array_size(outputs), graph->output_count, "%s: %u outputs", file,
                 graph->output_count);
    for (uint32_t i = 0; i < graph->output_count; i++) {
        const json_t *output = json_array_get(outputs, i);
        cr_assert_str_eq(graph->nodes[graph->outputs[i].node].name,
                         json_string_value(json_array_get(output, 0)), "%s: output %u",
                         file, i);
        cr_assert_eq(graph->outputs[i].port,
                     json_integer_value(json_array_get(output, 1)), "%s: output %u", file,
                     i);
    }
    cy_graph_close(&graph);
    carry_import_free(out.model);
    blob_free(&data);
}

Test(import_goldens, every_file_is_what_keras_says)
{
    json_t *manifest = manifest_read();
    cr_assert_geq(json_object_size(manifest), 18);
    const char *file;
    json_t *expected;
    json_object_foreach(manifest, file, expected) check_golden(file, expected);
    json_decref(manifest);
}

Test(import_goldens, the_file_function_reads_the_same_bytes)
{
    blob data = golden_read("k3_sequential.keras");
    outcome out;
    cr_assert(import_checked(data.data, data.bytes, "k3_sequential.keras", &out));
    void *model;
    size_t bytes;
    char sentence[64] = "x";
    cr_assert_eq(carry_import_file("tests/import/golden/k3_sequential.keras", &model,
                                   &bytes, sentence, sizeof sentence),
                 CARRY_OK);
    cr_assert_str_empty(sentence);
    cr_assert_eq(bytes, out.bytes);
    cr_assert_arr_eq(model, out.model, bytes);
    carry_import_free(model);
    carry_import_free(out.model);
    blob_free(&data);
}

Test(import_goldens, an_import_of_an_import_says_so)
{
    blob data = golden_read("k3_sequential.keras");
    outcome first, second;
    cr_assert(import_checked(data.data, data.bytes, "k3_sequential.keras", &first));
    cr_assert(import_checked(first.model, first.bytes, "its import", &second));
    cr_assert_eq(second.status, CARRY_E_FORMAT);
    cr_assert(strstr(second.sentence, "need no import"), "%s", second.sentence);
    carry_import_free(first.model);
    blob_free(&data);
}

Test(import_goldens, importers_are_listed_and_probed)
{
    cr_assert_str_eq(carry_importer_name(0), "keras");
    cr_assert_str_eq(carry_importer_name(1), "keras-h5");
    for (size_t i = 2; i < 10; i++)
        cr_assert_null(carry_importer_name(i));
    cr_assert_str_eq(carry_importer_probe("PK\3\4............", 16), "keras");
    cr_assert_str_eq(carry_importer_probe("\x89HDF\r\n\x1a\n........", 16), "keras-h5");
    cr_assert_null(carry_importer_probe("PK\3", 3));
    cr_assert_null(carry_importer_probe("\x89HDF\r\n\x1a", 7));
    cr_assert_null(carry_importer_probe("................", 16));
    cr_assert_null(carry_importer_probe(NULL, 0));
}

Test(import_goldens, bad_arguments_are_refused)
{
    void *model = (void *)1;
    size_t bytes = 7;
    char sentence[200];
    cr_assert_eq(carry_import_bytes(NULL, 3, &model, &bytes, sentence, sizeof sentence),
                 CARRY_E_ARGUMENT);
    cr_assert_null(model);
    cr_assert_eq(bytes, 0);
    cr_assert_eq(carry_import_bytes("x", 0, &model, &bytes, sentence, sizeof sentence),
                 CARRY_E_FORMAT);
    cr_assert_str_eq(sentence, "the file is empty");
    cr_assert_eq(carry_import_bytes("x", 1, NULL, &bytes, sentence, sizeof sentence),
                 CARRY_E_ARGUMENT);
    cr_assert_eq(carry_import_bytes("x", 1, &model, NULL, NULL, 0), CARRY_E_ARGUMENT);
    cr_assert_eq(carry_import_bytes("garbage", 7, &model, &bytes, NULL, 0),
                 CARRY_E_FORMAT);
    cr_assert_eq(carry_import_bytes("garbage", 7, &model, &bytes, sentence, 10),
                 CARRY_E_FORMAT);
    cr_assert_str_eq(sentence, "no known ");
    cr_assert_eq(carry_import_file(NULL, &model, &bytes, sentence, sizeof sentence),
                 CARRY_E_ARGUMENT);
    cr_assert_eq(carry_import_file("tests/import/golden/none", &model, &bytes, sentence,
                                   sizeof sentence),
                 CARRY_E_FILE);
    cr_assert(strstr(sentence, "tests/import/golden/none"), "%s", sentence);
    cr_assert_eq(
        carry_import_file("tests/import", &model, &bytes, sentence, sizeof sentence),
        CARRY_E_FILE);
    cr_assert(strstr(sentence, "is a directory"), "%s", sentence);
    carry_import_free(NULL);
}
