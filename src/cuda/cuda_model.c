#include "cuda/cuda_model.h"

#include "base/mem.h"
#include "cuda/cuda_error.h"

#include <math.h>
#include <string.h>

#define MOST_COLUMNS 0x7fffffffu /* kernels index with 32 bits */

/* ---- packing, on the host ------------------------------------------------------------------- */

uint16_t cy_cuda_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t cy_cuda_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x477ff000)
        return sign | 0x7c00;     /* 65520 and up round to infinity */
    if (magnitude < 0x38800000) { /* below 2^-14 it counts steps of 2^-24 */
        uint32_t shift = 126 - (magnitude >> 23);
        if (shift > 25) return sign;
        uint32_t fraction = (magnitude & 0x7fffff) | 0x800000, half = 1u << (shift - 1);
        return sign |
               (uint16_t)((fraction + half - 1 + (fraction >> shift & 1)) >> shift);
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return sign | (uint16_t)((magnitude - 0x38000000) >> 13);
}

static void put(void *to, size_t i, cy_cuda_type type, float value)
{
    if (type == CY_CUDA_F32) ((float *)to)[i] = value;
    else
        ((uint16_t *)to)[i] =
            type == CY_CUDA_BF16 ? cy_cuda_to_bf16(value) : cy_cuda_to_f16(value);
}

/* [rows][4 blocks of units] -> [rows][units][4] */
static void pack_gates(void *to, cy_cuda_type type, const float *from, size_t rows,
                       size_t units)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t unit = 0; unit < units; unit++)
            for (size_t gate = 0; gate < 4; gate++)
                put(to, (r * units + unit) * 4 + gate, type,
                    from[(r * 4 + gate) * units + unit]);
}

static void pack_plain(void *to, cy_cuda_type type, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(to, i, type, from[i]);
}

/* Float16 ends at 65504: a weight beyond it would become infinite. Biases and embeddings stay float. */
static carry_status check_range(const cy_node *node, cy_cuda_type type)
{
    uint32_t count = node->op == CY_OP_LSTM ? 2 : node->op == CY_OP_DENSE ? 1 : 0;
    for (uint32_t w = 0; type == CY_CUDA_F16 && w < count; w++) {
        const cy_tensor *tensor = &node->weights[w];
        for (uint64_t i = 0; i < cy_tensor_count(tensor); i++)
            CY_CHECK(!(fabsf(tensor->data[i]) >= 65520.0f) || isinf(tensor->data[i]),
                     CARRY_E_UNSUPPORTED,
                     "%s/%s holds %g, float16 ends at 65504: use another precision",
                     node->name, tensor->name, (double)tensor->data[i]);
    }
    return CARRY_OK;
}

/* ---- layout: the same walk measures, and packs ---------------------------------------------- */

/* Identity is no work: whoever reads it reads what it reads. One on the model's input is a copy, so that the
 * input can be an output. */
static cy_value resolve(const cy_graph *graph, cy_value value)
{
    while (value.node >= 0 && graph->nodes[value.node].op == CY_OP_IDENTITY &&
           graph->nodes[value.node].input.node >= 0)
        value = graph->nodes[value.node].input;
    return value;
}

/* Host and device block have one layout; what is carved from the host's is the device's at the same place. */
typedef struct image {
    cy_carver host;
    unsigned char *device;
} image;

static void *carve(image *image, size_t count, size_t bytes, const void **device)
{
    unsigned char *host = cy_carve(&image->host, count, bytes);
    *device = host && image->device ? image->device + (host - image->host.base) : NULL;
    return host;
}

static void lay_out_layer(cy_cuda_layer *layer, cy_cuda_type type, image *image)
{
    const cy_node *node = layer->node;
    size_t in = node->in_width, width = node->out_width, size = cy_cuda_type_bytes(type);
    const void *bias = NULL;
    if (node->op == CY_OP_LSTM) {
        void *kernel = carve(image, in * width, 4 * size, &layer->kernel);
        void *recurrent = carve(image, width * width, 4 * size, &layer->recurrent);
        float *b = node->use_bias ? carve(image, width, 4 * sizeof(float), &bias) : NULL;
        if (kernel) {
            pack_gates(kernel, type, node->weights[0].data, in, width);
            pack_gates(recurrent, type, node->weights[1].data, width, width);
            if (b) pack_gates(b, CY_CUDA_F32, node->weights[2].data, 1, width);
        }
    } else if (node->op == CY_OP_DENSE) {
        void *kernel = carve(image, in * width, size, &layer->kernel);
        float *b = node->use_bias ? carve(image, width, sizeof(float), &bias) : NULL;
        if (kernel) {
            pack_plain(kernel, type, node->weights[0].data, in * width);
            if (b) memcpy(b, node->weights[1].data, width * sizeof(float));
        }
    } else if (node->op == CY_OP_EMBEDDING) {
        void *table = carve(image, in * width, sizeof(float), &layer->kernel);
        if (table) memcpy(table, node->weights[0].data, in * width * sizeof(float));
    }
    layer->bias = bias;
}

static void lay_out(cy_cuda_model *model, image *image)
{
    for (unsigned i = 0; i < model->layer_count; i++)
        lay_out_layer(&model->layers[i], model->type, image);
}

/* ---- open and close ------------------------------------------------------------------------- */

static carry_status choose_type(cy_cuda_model *model, carry_precision precision)
{
    static const char *const names[] = {"fp32", "tf32", "bf16", "fp16"};
    const cy_cuda_device *device = &model->device;
    model->precision = precision;
    model->type = precision == CARRY_COMPUTE_BF16   ? CY_CUDA_BF16
                  : precision == CARRY_COMPUTE_FP16 ? CY_CUDA_F16
                                                    : CY_CUDA_F32;
    bool needs_8 = precision == CARRY_COMPUTE_TF32 || precision == CARRY_COMPUTE_BF16;
    CY_CHECK(!needs_8 || device->major >= 8, CARRY_E_UNSUPPORTED,
             "%s needs compute capability 8.0 or later; cuda:%d has %d.%d",
             names[precision], device->index, device->major, device->minor);
    return CARRY_OK;
}

static carry_status check_sizes(const cy_graph *graph, cy_cuda_type type)
{
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const cy_node *node = &graph->nodes[i];
        CY_CHECK(node->out_width <= MOST_COLUMNS / 4 && node->in_width <= MOST_COLUMNS,
                 CARRY_E_UNSUPPORTED,
                 "%s is %llu by %llu wide; the CUDA kernels index with 32 bits",
                 node->name, (unsigned long long)node->in_width,
                 (unsigned long long)node->out_width);
        CY_TRY(check_range(node, type));
    }
    return CARRY_OK;
}

/* The model and its tables are one host block. */
static carry_status open_tables(const cy_graph *graph, cy_cuda_model **opened)
{
    cy_carver carver = {0};
    for (int pass = 0; pass < 2; pass++) {
        cy_cuda_model *model = cy_carve(&carver, 1, sizeof *model);
        cy_cuda_layer *layers = cy_carve(&carver, graph->node_count, sizeof *layers);
        cy_value *outputs = cy_carve(&carver, graph->output_count, sizeof *outputs);
        if (pass == 0) {
            void *block = cy_alloc(carver.bytes);
            CY_CHECK(block, CARRY_E_MEMORY, "out of memory: %zu bytes for a model",
                     carver.bytes);
            carver = (cy_carver){.base = block};
            continue;
        }
        *model = (cy_cuda_model){.graph = graph,
                                 .layer_count = graph->node_count,
                                 .layers = layers,
                                 .outputs = outputs};
        for (uint32_t i = 0; i < graph->node_count; i++) {
            const cy_node *node = &graph->nodes[i];
            layers[i] = (cy_cuda_layer){.node = node,
                                        .source = resolve(graph, node->input),
                                        .in = (unsigned)node->in_width,
                                        .width = (unsigned)node->out_width};
        }
        for (uint32_t i = 0; i < graph->output_count; i++)
            outputs[i] = resolve(graph, graph->outputs[i]);
        *opened = model;
    }
    return CARRY_OK;
}

/* In a stream of its own: the legacy default stream waits for every other one that does not refuse it, and is
 * forbidden while another thread captures one of those. */
static carry_status copy_weights(void *to, const void *from, size_t bytes)
{
    cudaStream_t stream;
    CY_CUDA_TRY(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                "creating a cuda_stream for the weights");
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream);
    cudaError_t done = cudaStreamSynchronize(stream);
    cudaError_t destroyed = cudaStreamDestroy(stream);
    if (error == cudaSuccess) error = done;
    CY_CUDA_TRY(error, "copying the weights to the device");
    CY_CUDA_TRY(destroyed, "giving the weights' cuda_stream back");
    return CARRY_OK;
}

static carry_status pack(cy_cuda_model *model)
{
    image measure = {0};
    lay_out(model, &measure);
    model->memory_bytes = measure.host.bytes;
    CY_TRY(cy_cuda_alloc(&model->memory, model->memory_bytes, "the model's weights"));
    if (model->memory_bytes == 0) return CARRY_OK;
    image packed = {.host.base = cy_alloc(model->memory_bytes), .device = model->memory};
    CY_CHECK(packed.host.base, CARRY_E_MEMORY,
             "out of memory: packing the weights takes %zu bytes", model->memory_bytes);
    lay_out(model, &packed);
    carry_status status =
        copy_weights(model->memory, packed.host.base, model->memory_bytes);
    cy_free(packed.host.base);
    return status;
}

/* What kernels must be told once for a device, and not in a call. */
static carry_status prepare_kernels(const cy_cuda_model *model)
{
    if (model->type != CY_CUDA_F32 && model->device.major >= 8)
        CY_CUDA_TRY(cy_cuda_lstm_step_mma_prepare(model->type),
                    "preparing the kernels of a precision");
    return CARRY_OK;
}

static carry_status open_on_device(cy_cuda_model *model, carry_precision precision)
{
    CY_TRY(choose_type(model, precision));
    CY_TRY(check_sizes(model->graph, model->type));
    cy_cuda_scope scope;
    CY_TRY(cy_cuda_device_enter(&scope, model->device.index));
    carry_status status = prepare_kernels(model);
    if (status == CARRY_OK) status = pack(model);
    return cy_cuda_device_leave(&scope, status);
}

carry_status cy_cuda_model_open(const cy_graph *graph, uint32_t device,
                                carry_precision precision, cy_cuda_model **model)
{
    *model = NULL;
    cy_cuda_device facts;
    CY_TRY(cy_cuda_device_read(device, &facts));
    CY_TRY(open_tables(graph, model));
    (*model)->device = facts;
    carry_status status = open_on_device(*model, precision);
    if (status == CARRY_OK) return CARRY_OK;
    cy_cuda_model_close(*model);
    *model = NULL;
    return status;
}

void cy_cuda_model_close(cy_cuda_model *model)
{
    if (!model) return;
    cy_cuda_scope scope;
    cy_cuda_device_enter_to_close(&scope, model->device.index);
    if (model->memory) cy_cuda_ignore(cudaFree(model->memory));
    cy_cuda_device_leave_closed(&scope);
    cy_free(model);
}
