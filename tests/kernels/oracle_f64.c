#include "oracle_f64.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* log(1 + e^x), in the form that does not overflow */
static double softplus(double x)
{
    return x > 30 ? x + exp(-x) : log1p(exp(x));
}

static double between(double x, double low, double high)
{
    if (isnan(x)) return x;
    return fmin(fmax(x, low), high);
}

static double pointwise(cy_activation activation, double x)
{
    const double alpha = 1.6732632423543772, scale = 1.0507009873554805;
    switch (activation) {
    case CY_ACT_LINEAR:
        return x;
    case CY_ACT_TANH:
        return tanh(x);
    case CY_ACT_SIGMOID:
        return sigmoid(x);
    case CY_ACT_HARD_SIGMOID_02:
        return between(x / 5 + 0.5, 0, 1);
    case CY_ACT_HARD_SIGMOID_6TH:
        return between(x + 3, 0, 6) / 6;
    case CY_ACT_RELU:
        return between(x, 0, INFINITY);
    case CY_ACT_RELU6:
        return between(x, 0, 6);
    case CY_ACT_LEAKY_RELU_02:
        return x >= 0 ? x : x / 5;
    case CY_ACT_ELU:
        return x >= 0 ? x : exp(x) - 1;
    case CY_ACT_SELU:
        return x >= 0 ? scale * x : scale * alpha * (exp(x) - 1);
    case CY_ACT_CELU:
        return between(x, 0, INFINITY) + between(exp(x) - 1, -INFINITY, 0);
    case CY_ACT_SOFTPLUS:
        return softplus(x);
    case CY_ACT_SOFTSIGN:
        return x / (1 + fabs(x));
    case CY_ACT_EXPONENTIAL:
        return exp(x);
    case CY_ACT_SILU:
        return x / (1 + exp(-x));
    case CY_ACT_HARD_SILU:
        return x * between(x + 3, 0, 6) / 6;
    case CY_ACT_GELU:
        return x * erfc(-x / sqrt(2)) / 2;
    case CY_ACT_MISH:
        return x * tanh(softplus(x));
    case CY_ACT_LOG_SIGMOID:
        return -softplus(-x);
    case CY_ACT_HARD_TANH:
        return between(x, -1, 1);
    case CY_ACT_TANH_SHRINK:
        return x - tanh(x);
    default:
        abort();
    }
}

void oracle_activate(cy_activation activation, const double *x, double *y, size_t n)
{
    if (activation != CY_ACT_SOFTMAX && activation != CY_ACT_LOG_SOFTMAX) {
        for (size_t i = 0; i < n; i++)
            y[i] = pointwise(activation, x[i]);
        return;
    }
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    for (size_t i = 0; i < n; i++)
        y[i] =
            activation == CY_ACT_SOFTMAX ? exp(x[i] - max) / sum : x[i] - max - log(sum);
}

/* y[columns] += x[rows] * matrix[rows][columns] */
static void add_product(double *y, const double *x, const float *matrix, size_t rows,
                        size_t columns)
{
    for (size_t j = 0; j < columns; j++)
        for (size_t k = 0; k < rows; k++)
            y[j] += x[k] * matrix[k * columns + j];
}

static void add_bias(double *y, const cy_node *node, const float *bias, size_t columns)
{
    for (size_t j = 0; node->use_bias && j < columns; j++)
        y[j] += bias[j];
}

static void *zeros(size_t count)
{
    void *block = calloc(count ? count : 1, sizeof(double));
    if (!block) abort();
    return block;
}

/* y: [steps][units]; h and c [units] are the state before and after. */
static void lstm(const cy_node *node, const double *x, size_t steps, double *y, double *h,
                 double *c)
{
    size_t units = node->units, width = node->in_width;
    double *z = zeros(4 * units), *a = zeros(4 * units), *t = zeros(units);
    for (size_t s = 0; s < steps; s++) {
        const double *xs = x + (node->go_backwards ? steps - 1 - s : s) * width;
        memset(z, 0, 4 * units * sizeof *z);
        add_product(z, xs, node->weights[0].data, width, 4 * units);
        add_product(z, h, node->weights[1].data, units, 4 * units);
        add_bias(z, node, node->weights[2].data, 4 * units);
        for (size_t g = 0; g < 4; g++)
            oracle_activate(g == 2 ? node->activation : node->recurrent_activation,
                            z + g * units, a + g * units, units);
        for (size_t j = 0; j < units; j++)
            c[j] = a[units + j] * c[j] + a[j] * a[2 * units + j];
        oracle_activate(node->activation, c, t, units);
        for (size_t j = 0; j < units; j++)
            h[j] = y[s * units + j] = a[3 * units + j] * t[j];
    }
    free(z), free(a), free(t);
}

void oracle_run(const cy_graph *graph, const void *input, size_t steps, double *state,
                double *const *outputs)
{
    double **y = zeros(graph->node_count), **h = zeros(graph->node_count),
           **c = zeros(graph->node_count);
    size_t in = graph->input.width;
    double *x0 = zeros(steps * in);
    for (size_t i = 0; i < steps * in && !graph->input.ids; i++)
        x0[i] = ((const float *)input)[i];

    for (uint32_t n = 0; n < graph->node_count; n++) {
        const cy_node *node = &graph->nodes[n];
        cy_value from = node->input;
        const double *x = from.node < 0            ? x0
                          : from.port == CY_PORT_H ? h[from.node]
                          : from.port == CY_PORT_C ? c[from.node]
                                                   : y[from.node];
        size_t items = node->in_time ? steps : steps > 0, width = node->out_width;
        y[n] = zeros((node->in_time && steps > 0 ? steps : 1) * width);
        switch (node->op) {
        case CY_OP_IDENTITY:
            memcpy(y[n], x, items * width * sizeof *x);
            break;
        case CY_OP_ACTIVATION:
            for (size_t i = 0; i < items; i++)
                oracle_activate(node->activation, x + i * width, y[n] + i * width, width);
            break;
        case CY_OP_EMBEDDING:
            for (size_t i = 0; i < items; i++)
                for (size_t j = 0; j < width; j++)
                    y[n][i * width + j] =
                        node->weights[0].data[((const int32_t *)input)[i] * width + j];
            break;
        case CY_OP_DENSE:
            for (size_t i = 0; i < items; i++) {
                double *yi = y[n] + i * width;
                add_product(yi, x + i * node->in_width, node->weights[0].data,
                            node->in_width, width);
                add_bias(yi, node, node->weights[1].data, width);
                oracle_activate(node->activation, yi, yi, width);
            }
            break;
        case CY_OP_LSTM: {
            h[n] = zeros(width), c[n] = zeros(width);
            double *state_h = NULL, *state_c = NULL;
            if (state) {
                state_h = state + graph->states[node->first_state].offset;
                state_c = state + graph->states[node->first_state + 1].offset;
                memcpy(h[n], state_h, width * sizeof *state);
                memcpy(c[n], state_c, width * sizeof *state);
            }
            lstm(node, x, steps, y[n], h[n], c[n]);
            if (state) {
                memcpy(state_h, h[n], width * sizeof *state);
                memcpy(state_c, c[n], width * sizeof *state);
            }
            if (!node->return_sequences && steps > 0)
                memcpy(y[n], h[n], width * sizeof *state);
            break;
        }
        }
    }

    for (uint32_t o = 0; o < graph->output_count; o++) {
        cy_value value = graph->outputs[o];
        size_t width = cy_graph_width(graph, value);
        size_t items = cy_graph_has_time(graph, value) ? steps : 1;
        const double *from = value.node < 0            ? x0
                             : value.port == CY_PORT_H ? h[value.node]
                             : value.port == CY_PORT_C ? c[value.node]
                                                       : y[value.node];
        if (outputs[o]) memcpy(outputs[o], from, items * width * sizeof(double));
    }
    for (uint32_t n = 0; n < graph->node_count; n++)
        free(y[n]), free(h[n]), free(c[n]);
    free(y), free(h), free(c), free(x0);
}

/* ---- what float32 can and cannot do --------------------------------------------------------- */

static bool fits_float(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(values[i]) <= FLT_MAX)) return false; /* nor a NaN */
    return true;
}

oracle_range oracle_float_range(const cy_graph *graph, const float *input, size_t steps)
{
    size_t width = cy_graph_width(graph, graph->outputs[0]);
    double *state = zeros(graph->state_floats), *y = zeros(width), *outputs[8] = {y};
    oracle_range range = {0, 0};
    for (size_t s = 0; s < steps; s++) {
        oracle_run(graph, input + s * graph->input.width, 1, state, outputs);
        if (range.output == s) range.output += fits_float(y, width);
        if (range.states == s) range.states += fits_float(state, graph->state_floats);
    }
    free(y), free(state);
    return range;
}

double oracle_distance(const double *a, const double *b, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(size > 0 ? error / size : error);
}

void oracle_condition(const cy_graph *graph, const float *input, size_t steps,
                      const double *truth, double *moved)
{
    size_t in = graph->input.width, width = cy_graph_width(graph, graph->outputs[0]);
    double *y = zeros(steps * width), *state = zeros(graph->state_floats);
    float *x = zeros(in);
    for (size_t s = 0; s < steps; s++)
        moved[s] = 0;
    uint32_t coin = 1;
    for (int run = 0; run < 32; run++) {
        memset(state, 0, graph->state_floats * sizeof *state);
        for (size_t s = 0; s < steps; s++) {
            double *outputs[8] = {y + s * width};
            for (size_t i = 0; i < in; i++) {
                coin = coin * 1664525 + 1013904223;
                x[i] = nextafterf(input[s * in + i], coin >> 31 ? INFINITY : -INFINITY);
            }
            oracle_run(graph, x, 1, state, outputs);
            for (size_t k = 0; k < graph->state_floats; k++)
                state[k] = (float)state[k];
            double distance = oracle_distance(y, truth, (s + 1) * width);
            if (!(distance <= moved[s])) moved[s] = isnan(distance) ? INFINITY : distance;
        }
    }
    free(x), free(state), free(y);
}
