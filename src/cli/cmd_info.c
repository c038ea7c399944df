/* carry info: what a model is, as a table or as JSON. */
#include "commands.h"

#include "model_source.h"
#include "options.h"
#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a call of so many rows and steps would be computed. */
typedef struct device_facts {
    uint64_t rows, steps;
    int exact;               /* in: asked for; out: promised */
    carry_plan_info *layers; /* [model.layers] */
} device_facts;

/* Everything the library says about a model, asked once. The index functions cannot fail on a model
 * that opened, whose counts they are called by. */
typedef struct model_facts {
    const char *path, *format;
    device_facts *on; /* NULL: not asked for */
    carry_model_info model;
    carry_layer_info *layers;
    carry_weight_info *weights;
    carry_port_info *inputs, *outputs;
    carry_state_info *state;
} model_facts;

#define ASK(field, count, type, get)                                       \
    do {                                                                   \
        facts->field = calloc((count) + 1, sizeof(type));                  \
        if (facts->field == NULL) return false;                            \
        for (size_t i = 0; i < (count); i++) {                             \
            facts->field[i].size = sizeof(type);                           \
            if (get(model, i, &facts->field[i]) != CARRY_OK) return false; \
        }                                                                  \
    } while (0)

static bool facts_ask(model_facts *facts, const carry_model *model)
{
    facts->model.size = sizeof facts->model;
    if (carry_model_get_info(model, &facts->model) != CARRY_OK) return false;
    ASK(layers, facts->model.layers, carry_layer_info, carry_model_get_layer);
    ASK(weights, facts->model.weights, carry_weight_info, carry_model_get_weight);
    ASK(inputs, facts->model.inputs, carry_port_info, carry_model_get_input);
    ASK(outputs, facts->model.outputs, carry_port_info, carry_model_get_output);
    ASK(state, facts->model.state_tensors, carry_state_info,
        carry_model_get_state_tensor);
    return true;
}

/* Opens a session, since it is one that plans: with the rows and steps asked about. */
static int device_facts_ask(model_facts *facts, carry_model *model)
{
    device_facts *on = facts->on;
    carry_session *session;
    carry_session_info info = {.size = sizeof info};
    carry_session_options wants = {
        .size = sizeof wants,
        .max_rows = cy_device_max_rows(&facts->model, on->rows),
        .max_steps = facts->model.whole_sequence ? (uint32_t)on->steps : 0,
        .exact = (uint32_t)on->exact};
    on->layers = calloc(facts->model.layers + 1, sizeof *on->layers);
    if (on->layers == NULL)
        return cy_report(CY_EXIT_FAILED, "%s: out of memory", facts->path);
    bool done = carry_session_open(&session, model, &wants) == CARRY_OK &&
                carry_session_get_info(session, &info) == CARRY_OK;
    for (size_t i = 0; done && i < facts->model.layers; i++) {
        on->layers[i].size = sizeof on->layers[i];
        done = carry_session_get_plan(session, i, on->rows, on->steps, &on->layers[i]) ==
               CARRY_OK;
    }
    on->exact = (int)info.exact;
    carry_session_close(&session);
    return done ? CY_EXIT_OK
                : cy_report(CY_EXIT_FAILED, "%s: %s", facts->path, carry_error());
}

static void facts_free(model_facts *facts)
{
    if (facts->on != NULL) free(facts->on->layers);
    free(facts->layers);
    free(facts->weights);
    free(facts->inputs);
    free(facts->outputs);
    free(facts->state);
}

/* ---- JSON ------------------------------------------------------------------------------------- */

static json_t *shape_json(const carry_shape *shape)
{
    json_t *list = json_array();
    for (int i = 0; i < shape->rank; i++)
        json_array_append_new(list, shape->dim[i] == CARRY_FREE
                                        ? json_null()
                                        : json_integer(shape->dim[i]));
    return list;
}

static json_t *number_json(int64_t number)
{
    return number < 0 ? json_null() : json_integer(number);
}

static json_t *ports_json(const carry_port_info *ports, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:o}", "name", ports[i].name,
                                              "shape", shape_json(&ports[i].shape)));
    return list;
}

static json_t *layer_json(const model_facts *facts, const carry_layer_info *layer)
{
    json_t *weights = json_array(), *shape;
    for (size_t i = 0; i < layer->weights; i++) {
        const carry_weight_info *weight = &facts->weights[layer->first_weight + i];
        json_array_append_new(weights, json_pack("{s:s, s:o}", "name", weight->name,
                                                 "shape", shape_json(&weight->shape)));
    }
    if (layer->output_count == 1) shape = shape_json(&layer->output_shapes[0]);
    else {
        shape = json_array();
        for (size_t i = 0; i < layer->output_count; i++)
            json_array_append_new(shape, shape_json(&layer->output_shapes[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:o}", "name", layer->name, "class",
                     layer->class_name, "input_width", number_json(layer->input_width),
                     "units", number_json(layer->units), "output_shape", shape,
                     "parameters", (json_int_t)layer->parameters, "weights", weights);
}

/* Adds what the device makes of it. */
static int add_device(json_t *root, const model_facts *facts)
{
    const device_facts *on = facts->on;
    json_t *plan = json_array();
    for (size_t i = 0; i < facts->model.layers; i++)
        json_array_append_new(plan,
                              json_pack("{s:s, s:s, s:s}", "layer", facts->layers[i].name,
                                        "algorithm", on->layers[i].algorithm, "reason",
                                        on->layers[i].reason));
    json_t *more =
        json_pack("{s:s, s:s?, s:I, s:b, s:I, s:I, s:o}", "precision",
                  cy_precision_name(facts->model.precision), "device_note",
                  facts->model.device_note, "device_bytes",
                  (json_int_t)facts->model.device_bytes, "exact", on->exact, "rows",
                  (json_int_t)on->rows, "steps", (json_int_t)on->steps, "plan", plan);
    int failed = json_object_update(root, more);
    json_decref(more);
    return failed;
}

static int print_json(const model_facts *facts)
{
    json_t *layers = json_array(), *state = json_array();
    char *path = cy_utf8_text(facts->path);
    for (size_t i = 0; i < facts->model.layers; i++)
        json_array_append_new(layers, layer_json(facts, &facts->layers[i]));
    for (size_t i = 0; i < facts->model.state_tensors; i++)
        json_array_append_new(state, json_pack("{s:s, s:s, s:[I], s:I}", "layer",
                                               facts->state[i].layer, "tensor",
                                               facts->state[i].name, "shape",
                                               (json_int_t)facts->state[i].width, "bytes",
                                               (json_int_t)facts->state[i].width * 4));
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:I}", "file", path, "format",
        facts->format, "device", facts->model.device, "whole_sequence",
        facts->model.whole_sequence, "parameters", (json_int_t)facts->model.parameters,
        "weight_bytes", (json_int_t)facts->model.weight_bytes, "inputs",
        ports_json(facts->inputs, facts->model.inputs), "outputs",
        ports_json(facts->outputs, facts->model.outputs), "layers", layers, "state",
        state, "state_bytes_per_sequence", (json_int_t)facts->model.state_bytes);
    free(path);
    if (root == NULL || (facts->on != NULL && add_device(root, facts) != 0) ||
        json_dumpf(root, stdout, 0) != 0) {
        json_decref(root);
        return cy_report(CY_EXIT_FAILED,
                         "%s: its description could not be written as JSON", facts->path);
    }
    json_decref(root);
    putchar('\n');
    return cy_finish_stdout();
}

/* ---- text ------------------------------------------------------------------------------------- */

#define CELL 600

/* "1,234,567" */
static const char *grouped(char text[32], uint64_t number)
{
    char digits[24];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, number), at = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = 0;
    return text;
}

/* As in Keras' summary: "(None, 7, 3)", "(5,)". */
static size_t shape_print(char *text, size_t bytes, const carry_shape *shape)
{
    size_t length = (size_t)snprintf(text, bytes, "(");
    for (int i = 0; i < shape->rank && length < bytes; i++) {
        const char *before = i == 0 ? "" : ", ";
        if (shape->dim[i] == CARRY_FREE)
            length += (size_t)snprintf(text + length, bytes - length, "%sNone", before);
        else
            length += (size_t)snprintf(text + length, bytes - length, "%s%" PRId64,
                                       before, shape->dim[i]);
    }
    if (length < bytes)
        length += (size_t)snprintf(text + length, bytes - length,
                                   shape->rank == 1 ? ",)" : ")");
    return length;
}

enum { NAME, CLASS, INPUT, UNITS, SHAPE, PARAMETERS, COLUMNS };
static const char *const titles[COLUMNS] = {"layer", "class",        "input",
                                            "units", "output shape", "parameters"};

static void layer_cells(const carry_layer_info *layer, char cells[COLUMNS][CELL])
{
    snprintf(cells[NAME], CELL, "%s", layer->name);
    snprintf(cells[CLASS], CELL, "%s", layer->class_name);
    snprintf(cells[INPUT], CELL, layer->input_width < 0 ? "-" : "%" PRId64,
             layer->input_width);
    snprintf(cells[UNITS], CELL, layer->units < 0 ? "-" : "%" PRId64, layer->units);
    size_t length = 0;
    for (size_t i = 0; i < layer->output_count && length < CELL; i++) {
        if (i > 0) length += (size_t)snprintf(cells[SHAPE] + length, CELL - length, ", ");
        length +=
            shape_print(cells[SHAPE] + length, CELL - length, &layer->output_shapes[i]);
    }
    char number[32];
    snprintf(cells[PARAMETERS], CELL, "%s", grouped(number, layer->parameters));
}

/* Columns a terminal gives to UTF-8 text, near enough: one a character. */
static size_t columns_of(const char *text)
{
    size_t columns = 0;
    for (; *text != 0; text++)
        columns += ((unsigned char)*text & 0xc0) != 0x80;
    return columns;
}

static void print_row(char cells[COLUMNS][CELL], const size_t widths[COLUMNS])
{
    for (int i = 0; i < COLUMNS; i++) {
        int to_the_right = i == INPUT || i == UNITS || i == PARAMETERS;
        size_t blanks = widths[i] - columns_of(cells[i]);
        if (i == COLUMNS - 1 && !to_the_right) blanks = 0;
        fputs("  ", stdout);
        if (to_the_right) printf("%*s", (int)blanks, "");
        cy_print_text(stdout, cells[i]);
        if (!to_the_right) printf("%*s", (int)blanks, "");
    }
    putchar('\n');
}

static void print_layers(const model_facts *facts)
{
    static char cells[COLUMNS][CELL];
    size_t widths[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        widths[i] = strlen(titles[i]);
    for (size_t l = 0; l < facts->model.layers; l++) {
        layer_cells(&facts->layers[l], cells);
        for (int i = 0; i < COLUMNS; i++)
            if (columns_of(cells[i]) > widths[i]) widths[i] = columns_of(cells[i]);
    }
    for (int i = 0; i < COLUMNS; i++)
        snprintf(cells[i], CELL, "%s", titles[i]);
    print_row(cells, widths);
    for (size_t l = 0; l < facts->model.layers; l++) {
        layer_cells(&facts->layers[l], cells);
        print_row(cells, widths);
    }
}

static void print_weights(const model_facts *facts)
{
    bool gates = false;
    if (facts->model.weights == 0) return;
    printf("\nweights (float32)\n");
    for (size_t l = 0; l < facts->model.layers; l++) {
        const carry_layer_info *layer = &facts->layers[l];
        if (layer->weights == 0) continue;
        printf("  ");
        cy_print_text(stdout, layer->name);
        gates |= layer->recurrent != 0;
        for (size_t i = 0; i < layer->weights; i++) {
            const carry_weight_info *weight = &facts->weights[layer->first_weight + i];
            char shape[128];
            shape_print(shape, sizeof shape, &weight->shape);
            printf("%s %s %s", i == 0 ? ":" : ",", weight->name, shape);
        }
        putchar('\n');
    }
    if (gates)
        printf("  An LSTM's kernel, recurrent_kernel and bias: four blocks of `units` "
               "columns, i f c o "
               "(input, forget, candidate, output)\n");
}

static void print_ports(const model_facts *facts)
{
    char shape[128];
    putchar('\n');
    for (size_t i = 0; i < facts->model.inputs; i++) {
        const carry_port_info *port = &facts->inputs[i];
        shape_print(shape, sizeof shape, &port->shape);
        printf("input  %zu  ", i);
        cy_print_text(stdout, port->name);
        printf(" %s", shape);
        if (port->dtype == CARRY_I32) printf(", ids from 0 to %" PRId64, port->ids - 1);
        putchar('\n');
    }
    for (size_t i = 0; i < facts->model.outputs; i++) {
        const carry_port_info *port = &facts->outputs[i];
        shape_print(shape, sizeof shape, &port->shape);
        printf("output %zu  ", i);
        cy_print_text(stdout, port->name);
        printf(" %s%s\n", shape,
               port->tensor == 'h'   ? ", the layer's h"
               : port->tensor == 'c' ? ", the layer's c"
               : port->has_time      ? ", one per step"
                                     : ", one per row, after its last step");
    }
}

static void print_state(const model_facts *facts)
{
    char number[32];
    if (facts->model.state_tensors == 0) {
        printf("\nstate: none, no layer remembers anything\n");
        return;
    }
    printf("\nstate of one sequence: %s bytes\n",
           grouped(number, facts->model.state_bytes));
    for (size_t i = 0; i < facts->model.state_tensors; i++) {
        const carry_state_info *tensor = &facts->state[i];
        printf("  ");
        cy_print_text(stdout, tensor->layer);
        printf("/%s (%" PRId64 ",), %s bytes%s\n", tensor->name, tensor->width,
               grouped(number, (uint64_t)tensor->width * 4),
               tensor->stateful ? ", stateful in the file" : "");
    }
}

static void print_words(const model_facts *facts)
{
    const char *before = "";
    printf("\nwhat the words mean here\n  units: the width of a layer's h and c, its "
           "memory, not the number of steps;");
    for (size_t l = 0; l < facts->model.layers; l++) {
        if (!facts->layers[l].recurrent) continue;
        printf("%s ", before);
        cy_print_text(stdout, facts->layers[l].name);
        printf(" has %" PRId64, facts->layers[l].units);
        before = ",";
    }
    printf("%s\n", *before == 0 ? " no layer has one" : "");
    if (facts->model.inputs == 0) return;
    const carry_port_info *input = &facts->inputs[0];
    int64_t batch = input->shape.rank > 0 ? input->shape.dim[0] : CARRY_FREE;
    int64_t steps = input->shape.rank > 1 ? input->shape.dim[1] : CARRY_FREE;
    printf("  time steps: how many are fed in one call; ");
    if (steps == CARRY_FREE) printf("the file leaves them free, any number may be fed\n");
    else printf("the file says %" PRId64 ", any number may be fed\n", steps);
    if (input->dtype == CARRY_I32)
        printf("  features: numbers in one step; here a step is one id from 0 to %" PRId64
               "\n",
               input->ids - 1);
    else printf("  features: numbers in one step; here %" PRId64 "\n", input->width);
    if (batch == CARRY_FREE)
        printf("  batch_shape: the file fixes no batch; any number of rows may be fed\n");
    else
        printf("  batch_shape: the file fixes a batch of %" PRId64
               ", as many states as Keras keeps; here it is "
               "only --batch-size's default\n",
               batch);
}

static void print_device(const model_facts *facts)
{
    const device_facts *on = facts->on;
    char text[320], number[32];
    int name_width = 0, algorithm_width = 0;
    printf("\non %s: ", facts->model.device);
    cy_print_text(stdout, cy_device_description(facts->model.device, text, sizeof text));
    printf("; %s, %s, packed weights %s bytes\n",
           cy_precision_name(facts->model.precision), on->exact ? "exact" : "not exact",
           grouped(number, facts->model.device_bytes));
    printf("how a call of %" PRIu64 " row%s and %" PRIu64 " step%s would be computed\n",
           on->rows, on->rows == 1 ? "" : "s", on->steps, on->steps == 1 ? "" : "s");
    for (size_t i = 0; i < facts->model.layers; i++) {
        int name = (int)columns_of(facts->layers[i].name);
        int algorithm = (int)strlen(on->layers[i].algorithm);
        if (name > name_width) name_width = name;
        if (algorithm > algorithm_width) algorithm_width = algorithm;
    }
    for (size_t i = 0; i < facts->model.layers; i++) {
        const carry_plan_info *plan = &on->layers[i];
        const char *name = facts->layers[i].name;
        printf("  ");
        cy_print_text(stdout, name);
        printf("%*s  %-*s", name_width - (int)columns_of(name), "",
               plan->reason[0] == 0 ? 0 : algorithm_width, plan->algorithm);
        if (plan->reason[0] != 0) printf("  %s", plan->reason);
        putchar('\n');
    }
}

static int print_text(const model_facts *facts)
{
    char number[32], bytes[32];
    cy_print_text(stdout, facts->path);
    printf(": %s", facts->format);
    if (strcmp(facts->format, "carry") == 0)
        printf(", converted from %s", facts->model.source);
    printf(", model ");
    cy_print_text(stdout, facts->model.name);
    printf(", on device %s\n", facts->model.device);
    printf("%s parameters, %s bytes as float32\n",
           grouped(number, facts->model.parameters),
           grouped(bytes, facts->model.weight_bytes));
    printf(facts->model.whole_sequence ? "whole-sequence: some layer needs the last step "
                                         "before it can give the first\n\n"
                                       : "causal: a step's output needs no later step, "
                                         "so time may be cut anywhere\n\n");
    print_layers(facts);
    print_weights(facts);
    print_ports(facts);
    print_state(facts);
    print_words(facts);
    if (facts->on != NULL) print_device(facts);
    return cy_finish_stdout();
}

int cy_cmd_info(int argc, char **argv)
{
    const char *path = NULL;
    int json = 0;
    uint64_t rows = 0, steps = 0; /* not given */
    cy_device_options on = {0};
    const cy_argument arguments[] = {{"MODEL", &path}};
    const cy_option options[] = {
        {"json", CY_OPTION_FLAG, &json, NULL, "one JSON object instead of text", 0, 0},
        CY_DEVICE_OPTION_ROWS(on),
        {"rows", CY_OPTION_UINT, &rows, "N", "of the call; default: 1", 1, 1 << 20},
        {"steps", CY_OPTION_UINT, &steps, "N", "of the call; default: 1", 1, 1 << 24},
    };
    const cy_command_line line = {
        .command = "info",
        .synopsis = "MODEL [options]",
        .summary = "Shows a model's layers, weights, inputs and outputs, and its state: "
                   "what it\n"
                   "remembers of one sequence.",
        .arguments = arguments,
        .argument_count = 1,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .notes =
            "Any of --device, --precision, --exact, --rows and --steps adds how each "
            "layer of a\ncall of so many rows and steps would be computed there, and "
            "why.",
    };
    int code = cy_command_line_read(&line, argc, argv);
    if (code < 0) code = cy_device_options_check(&on);
    if (code >= 0) return code;

    carry_model *model;
    device_facts asked = {
        .rows = rows > 0 ? rows : 1, .steps = steps > 0 ? steps : 1, .exact = on.exact};
    model_facts facts = {.path = path};
    if (on.device != NULL || on.precision != NULL || on.exact || rows > 0 || steps > 0)
        facts.on = &asked;
    code = cy_model_load(path, &on, &model, &facts.format);
    if (code != CY_EXIT_OK) return code;
    if (!facts_ask(&facts, model))
        code = cy_report(CY_EXIT_FAILED, "%s: out of memory", path);
    else if (facts.on != NULL) code = device_facts_ask(&facts, model);
    if (code == CY_EXIT_OK) code = json ? print_json(&facts) : print_text(&facts);
    facts_free(&facts);
    carry_model_close(&model);
    return code;
}
