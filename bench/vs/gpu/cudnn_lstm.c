/* cuDNN's LSTM through its C API, each algorithm on the shapes of bench_gpu and by its rules, as lines of JSON.
 *
 *     cudnn_lstm --shapes FILE [--budget SECONDS] [--repeats N]
 *
 * An algorithm that cuDNN refuses for a shape is listed as not run with cuDNN's word for it; a result says which one the
 * descriptor held when it ran. Before timing, outputs are compared with a float64 reference. Two bias vectors as in torch, weights random, inputs rotating over more memory than L2, h and c carried from call to call (from one
 * buffer to another). cuDNN is loaded at run time: exits 77 where there is none, or no GPU. */
#include "bench/bench_clock.h"
#include "bench/bench_shapes.h"
#include "bench/vs/gpu/lstm_reference.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_RUN = 77, MOST_REPEATS = 500, MOST_INPUTS = 64, MOST_CALLS = 2000 };

/* Every function of cuDNN that is called, by name. */
#define CUDNN_LIST(X)                \
    X(cudnnCreate)                   \
    X(cudnnSetStream)                \
    X(cudnnGetVersion)               \
    X(cudnnGetErrorString)           \
    X(cudnnCreateRNNDescriptor)      \
    X(cudnnDestroyRNNDescriptor)     \
    X(cudnnSetRNNDescriptor_v8)      \
    X(cudnnGetRNNDescriptor_v8)      \
    X(cudnnCreateRNNDataDescriptor)  \
    X(cudnnDestroyRNNDataDescriptor) \
    X(cudnnSetRNNDataDescriptor)     \
    X(cudnnCreateTensorDescriptor)   \
    X(cudnnDestroyTensorDescriptor)  \
    X(cudnnSetTensorNdDescriptor)    \
    X(cudnnCreateDropoutDescriptor)  \
    X(cudnnDestroyDropoutDescriptor) \
    X(cudnnSetDropoutDescriptor)     \
    X(cudnnBuildRNNDynamic)          \
    X(cudnnGetRNNWeightSpaceSize)    \
    X(cudnnGetRNNWeightParams)       \
    X(cudnnGetRNNTempSpaceSizes)     \
    X(cudnnRNNForward)

static struct api {
#define CUDNN_POINTER(name) __typeof__(&name) name;
    CUDNN_LIST(CUDNN_POINTER)
#undef CUDNN_POINTER
} api;

static const struct {
    cudnnRNNAlgo_t algorithm;
    const char *name;
} algorithms[] = {{CUDNN_RNN_ALGO_STANDARD, "STANDARD"},
                  {CUDNN_RNN_ALGO_PERSIST_STATIC, "PERSIST_STATIC"},
                  {CUDNN_RNN_ALGO_PERSIST_DYNAMIC, "PERSIST_DYNAMIC"},
                  {CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H, "PERSIST_STATIC_SMALL_H"}};

static cudnnHandle_t handle;
static cudaStream_t cuda_stream;
static cudaEvent_t events[MOST_REPEATS + 1];

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "cudnn_lstm: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

static int load(void)
{
    static const char *const files[] = {"libcudnn.so.9", "libcudnn.so.8", "libcudnn.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files && !library; i++)
        library = dlopen(files[i], RTLD_NOW | RTLD_GLOBAL);
    if (!library) return 0;
#define CUDNN_LOAD(name)                                 \
    *(void **)(void *)&api.name = dlsym(library, #name); \
    if (!api.name) return 0;
    CUDNN_LIST(CUDNN_LOAD)
#undef CUDNN_LOAD
    return 1;
}

static void print_shape(const char *kind, const bench_shape *s, const char *algorithm)
{
    printf("{\"kind\":\"%s\",\"program\":\"cudnn\",\"algorithm\":\"%s\",\"H\":%u,\"B\":%"
           "u,\"T\":%u,"
           "\"layers\":%u,\"precision\":\"%s\"",
           kind, algorithm, s->units, s->rows, s->steps, s->layers,
           bench_precision_name(s->precision));
}

/* ---- one shape with one algorithm -------------------------------------------------------- */

typedef struct job {
    cudnnRNNDescriptor_t rnn;
    cudnnDropoutDescriptor_t dropout;
    cudnnRNNDataDescriptor_t x_layout, y_layout;
    cudnnTensorDescriptor_t state_layout;
    int32_t *lengths; /* on the device */
    void *inputs[MOST_INPUTS], *output, *h[2], *c[2], *weights, *workspace;
    unsigned input_count;
    size_t bytes, state_bytes, weight_bytes, workspace_bytes;
    float *table, *first_x; /* of the weights, of the first input */
    lstm_layer *layers;
    const char *reason; /* why it cannot run, or NULL */
} job;

/* Notes the first refusal; true if it was none. */
static int fine(job *j, cudnnStatus_t status)
{
    if (status != CUDNN_STATUS_SUCCESS && !j->reason)
        j->reason = api.cudnnGetErrorString(status);
    return status == CUDNN_STATUS_SUCCESS;
}

static void *take(job *j, size_t bytes)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes ? bytes : 1) == cudaSuccess) return memory;
    cudaGetLastError();
    if (!j->reason) j->reason = "out of device memory";
    return NULL;
}

/* count numbers of the table, over and over. */
static void fill(void *array, size_t count, carry_precision precision, const float *table)
{
    const size_t number = lstm_number_bytes(precision);
    static unsigned char some[LSTM_TABLE * sizeof(float)];
    for (size_t i = 0; i < LSTM_TABLE; i++) {
        uint32_t bits = lstm_bits(precision, table[i]);
        memcpy(some + i * number, &bits, number);
    }
    for (size_t at = 0; at < count; at += LSTM_TABLE) {
        size_t part = count - at < LSTM_TABLE ? count - at : LSTM_TABLE;
        must(cudaMemcpy((unsigned char *)array + at * number, some, part * number,
                        cudaMemcpyHostToDevice),
             "a copy");
    }
}

static cudnnDataType_t type_of(carry_precision precision)
{
    return precision == CARRY_COMPUTE_BF16   ? CUDNN_DATA_BFLOAT16
           : precision == CARRY_COMPUTE_FP16 ? CUDNN_DATA_HALF
                                             : CUDNN_DATA_FLOAT;
}

static void describe(job *j, const bench_shape *s, cudnnRNNAlgo_t algorithm)
{
    cudnnDataType_t type = type_of(s->precision);
    cudnnMathType_t math = s->precision == CARRY_COMPUTE_FP32   ? CUDNN_FMA_MATH
                           : s->precision == CARRY_COMPUTE_TF32 ? CUDNN_DEFAULT_MATH
                                                                : CUDNN_TENSOR_OP_MATH;
    int h = (int)s->units, b = (int)s->rows, t = (int)s->steps, layers = (int)s->layers;
    int dims[3] = {layers, b, h}, strides[3] = {b * h, h, 1};
    int *lengths = malloc((size_t)b * sizeof *lengths);
    for (int i = 0; lengths && i < b; i++)
        lengths[i] = t;
    if (fine(j, api.cudnnCreateDropoutDescriptor(&j->dropout)) &&
        fine(j, api.cudnnSetDropoutDescriptor(j->dropout, handle, 0, NULL, 0, 0)) &&
        fine(j, api.cudnnCreateRNNDescriptor(&j->rnn)) &&
        fine(j, api.cudnnSetRNNDescriptor_v8(
                    j->rnn, algorithm, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS,
                    CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, type, CUDNN_DATA_FLOAT,
                    math, h, h, h, layers, j->dropout, CUDNN_RNN_PADDED_IO_DISABLED)) &&
        (algorithm != CUDNN_RNN_ALGO_PERSIST_DYNAMIC ||
         fine(j, api.cudnnBuildRNNDynamic(handle, j->rnn, b))) &&
        fine(j, api.cudnnCreateRNNDataDescriptor(&j->x_layout)) &&
        fine(j, api.cudnnSetRNNDataDescriptor(j->x_layout, type,
                                              CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, t,
                                              b, h, lengths, NULL)) &&
        fine(j, api.cudnnCreateRNNDataDescriptor(&j->y_layout)) &&
        fine(j, api.cudnnSetRNNDataDescriptor(j->y_layout, type,
                                              CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, t,
                                              b, h, lengths, NULL)) &&
        fine(j, api.cudnnCreateTensorDescriptor(&j->state_layout)) &&
        fine(j,
             api.cudnnSetTensorNdDescriptor(j->state_layout, type, 3, dims, strides)) &&
        fine(j, api.cudnnGetRNNWeightSpaceSize(handle, j->rnn, &j->weight_bytes))) {
        size_t reserve;
        fine(j,
             api.cudnnGetRNNTempSpaceSizes(handle, j->rnn, CUDNN_FWD_MODE_INFERENCE,
                                           j->x_layout, &j->workspace_bytes, &reserve));
    }
    if (!j->reason && (j->lengths = take(j, (size_t)b * sizeof *lengths)))
        must(cudaMemcpy(j->lengths, lengths, (size_t)b * sizeof *lengths,
                        cudaMemcpyHostToDevice),
             "a copy");
    free(lengths);
}

/* Where cuDNN keeps the matrices and biases of each layer, as indices of the weight space. Matrices 0..3 multiply x,
 * 4..7 h, each of gates i, f, g, o. */
static int find_weights(job *j, const bench_shape *s, size_t number)
{
    cudnnTensorDescriptor_t matrix = NULL, bias = NULL;
    j->layers = calloc(s->layers, sizeof *j->layers);
    int good = j->layers && fine(j, api.cudnnCreateTensorDescriptor(&matrix)) &&
               fine(j, api.cudnnCreateTensorDescriptor(&bias));
    for (unsigned l = 0; good && l < s->layers; l++)
        for (int i = 0; good && i < 8; i++) {
            void *matrix_at = NULL, *bias_at = NULL;
            good = fine(j, api.cudnnGetRNNWeightParams(
                               handle, j->rnn, (int)l, j->weight_bytes, j->weights, i,
                               matrix, &matrix_at, bias, &bias_at));
            if (good && (!matrix_at || !bias_at)) {
                j->reason = "cuDNN does not say where its weights lie";
                good = 0;
            }
            if (!good) break;
            size_t at = (size_t)((char *)matrix_at - (char *)j->weights) / number;
            lstm_layer *layer = &j->layers[l];
            *(i < 4 ? &layer->kernel[i] : &layer->recurrent[i - 4]) = at;
            layer->bias[i / 4][i % 4] =
                (size_t)((char *)bias_at - (char *)j->weights) / number;
            layer->bias_count = 2;
        }
    if (matrix) api.cudnnDestroyTensorDescriptor(matrix);
    if (bias) api.cudnnDestroyTensorDescriptor(bias);
    return good;
}

static void job_open(job *j, const bench_shape *s, cudnnRNNAlgo_t algorithm)
{
    memset(j, 0, sizeof *j);
    describe(j, s, algorithm);
    if (j->reason) return;
    cudnnDataType_t type = type_of(s->precision);
    size_t number = type == CUDNN_DATA_FLOAT ? 4 : 2, free_bytes, total;
    size_t count = (size_t)s->rows * s->steps * s->units;
    size_t state_count = (size_t)s->rows * s->units * s->layers;
    int cache, device;
    must(cudaGetDevice(&device), "the device");
    must(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "L2's size");
    must(cudaMemGetInfo(&free_bytes, &total), "free memory");
    j->bytes = count * number;
    j->state_bytes = state_count * number;
    size_t wanted = 2 * (size_t)cache / j->bytes + 2;
    if (wanted > MOST_INPUTS) wanted = MOST_INPUTS;
    while (wanted > 2 &&
           (wanted + 1) * j->bytes + j->workspace_bytes > free_bytes / 10 * 8)
        wanted--;
    j->weights = take(j, j->weight_bytes);
    j->workspace = take(j, j->workspace_bytes);
    j->output = take(j, j->bytes);
    for (int i = 0; i < 2; i++) {
        j->h[i] = take(j, j->state_bytes);
        j->c[i] = take(j, j->state_bytes);
    }
    if (j->reason) return;
    j->table = lstm_table(s->precision, sqrtf(1 / (float)s->units), 3);
    fill(j->weights, j->weight_bytes / number, s->precision, j->table);
    if (!find_weights(j, s, number)) return;
    must(cudaMemset(j->h[0], 0, j->state_bytes), "cudaMemset");
    must(cudaMemset(j->c[0], 0, j->state_bytes), "cudaMemset");
    must(cudaMemset(j->output, 0xff, j->bytes),
         "cudaMemset"); /* NaN, where nothing is written */
    for (; j->input_count < wanted && (j->inputs[j->input_count] = take(j, j->bytes));
         j->input_count++) {
        float *table = lstm_table(s->precision, 1, 11 + j->input_count);
        fill(j->inputs[j->input_count], count, s->precision, table);
        if (j->input_count == 0) j->first_x = table;
        else free(table);
    }
    if (j->input_count >= 2) j->reason = NULL;
    /* Copies may be under way still, and cuda_stream does not wait for them. */
    must(cudaDeviceSynchronize(), "copies");
}

static void job_close(job *j)
{
    void *memory[] = {j->lengths, j->output, j->h[0],    j->h[1],
                      j->c[0],    j->c[1],   j->weights, j->workspace};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i]) must(cudaFree(memory[i]), "cudaFree");
    for (unsigned i = 0; i < j->input_count; i++)
        must(cudaFree(j->inputs[i]), "cudaFree");
    free(j->table);
    free(j->first_x);
    free(j->layers);
    if (j->state_layout) api.cudnnDestroyTensorDescriptor(j->state_layout);
    if (j->x_layout) api.cudnnDestroyRNNDataDescriptor(j->x_layout);
    if (j->y_layout) api.cudnnDestroyRNNDataDescriptor(j->y_layout);
    if (j->rnn) api.cudnnDestroyRNNDescriptor(j->rnn);
    if (j->dropout) api.cudnnDestroyDropoutDescriptor(j->dropout);
}

static int call(job *j, unsigned turn)
{
    unsigned from = turn % 2, to = 1 - from;
    return fine(
        j, api.cudnnRNNForward(handle, j->rnn, CUDNN_FWD_MODE_INFERENCE, j->lengths,
                               j->x_layout, j->inputs[turn % j->input_count], j->y_layout,
                               j->output, j->state_layout, j->h[from], j->h[to],
                               j->state_layout, j->c[from], j->c[to], j->weight_bytes,
                               j->weights, j->workspace_bytes, j->workspace, 0, NULL));
}

/* Of the first call: every output was written, with an h, and those looked at agree with the reference. */
static int outputs_good(job *j, const bench_shape *s)
{
    const size_t number = lstm_number_bytes(s->precision);
    unsigned char *y = malloc(j->bytes);
    if (y) must(cudaMemcpy(y, j->output, j->bytes, cudaMemcpyDeviceToHost), "a copy");
    else j->reason = "out of memory";
    for (size_t i = 0; !j->reason && i < j->bytes; i += number)
        if (!(fabsf(lstm_value(s->precision, y + i)) <= 1)) /* NaN is not */
            j->reason = "WRONG: outputs are no h of an LSTM";
    if (!j->reason)
        j->reason = lstm_wrong(j->layers, s->layers, s->units, s->rows, s->steps,
                               s->precision, j->table, j->first_x, y);
    free(y);
    return !j->reason;
}

/* The algorithm that the descriptor holds, which may not be the one asked for. */
static const char *algorithm_held(job *j)
{
    cudnnRNNAlgo_t algorithm;
    cudnnRNNMode_t mode;
    cudnnRNNBiasMode_t bias;
    cudnnDirectionMode_t direction;
    cudnnRNNInputMode_t input;
    cudnnDataType_t type, math_precision;
    cudnnMathType_t math;
    int32_t features, units, projection, layers;
    cudnnDropoutDescriptor_t dropout;
    uint32_t flags;
    if (api.cudnnGetRNNDescriptor_v8(j->rnn, &algorithm, &mode, &bias, &direction, &input,
                                     &type, &math_precision, &math, &features, &units,
                                     &projection, &layers, &dropout, &flags))
        return "unknown";
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
        if (algorithms[i].algorithm == algorithm) return algorithms[i].name;
    return "another";
}

static unsigned calls_for(double us, unsigned most)
{
    double fit = 5e5 / (us > 1 ? us : 1);
    if (fit < 5) fit = 5;
    return fit > most ? most : (unsigned)fit;
}

/* 1: measured. */
static int measure(job *j, const bench_shape *s, const char *algorithm, unsigned most)
{
    static double us[MOST_CALLS];
    unsigned turn = 0;
    double start;
    if (!call(j, turn++)) return 0;
    must(cudaStreamSynchronize(cuda_stream), algorithm);
    if (!outputs_good(j, s)) return 0;
    start = bench_now_us();
    if (!call(j, turn++)) return 0;
    must(cudaStreamSynchronize(cuda_stream), algorithm);
    unsigned repeats = calls_for(bench_now_us() - start, most);
    for (unsigned i = 0; i < repeats / 4; i++)
        call(j, turn++);
    must(cudaEventRecord(events[0], cuda_stream), "an event");
    for (unsigned i = 0; i < repeats; i++) {
        call(j, turn++);
        must(cudaEventRecord(events[i + 1], cuda_stream), "an event");
    }
    must(cudaStreamSynchronize(cuda_stream), algorithm);
    if (j->reason) return 0;
    for (unsigned i = 0; i < repeats; i++) {
        float ms;
        must(cudaEventElapsedTime(&ms, events[i], events[i + 1]), "an event");
        us[i] = (double)ms * 1e3 / s->steps;
    }
    bench_sort(us, repeats);
    print_shape("result", s, algorithm);
    printf(",\"held\":\"%s\"", algorithm_held(j));
    printf(",\"repeats\":%u,\"inputs\":%u,\"us_per_step\":{\"median\":%.4f,\"p10\":%.4f,"
           "\"p90\":%.4f}",
           repeats, j->input_count, bench_percentile(us, repeats, 50),
           bench_percentile(us, repeats, 10), bench_percentile(us, repeats, 90));
    if (s->steps == 1) {
        unsigned calls = calls_for(us[repeats / 2], MOST_CALLS);
        for (unsigned i = 0; i < calls; i++) {
            start = bench_now_us();
            call(j, turn++);
            must(cudaStreamSynchronize(cuda_stream), algorithm);
            us[i] = bench_now_us() - start;
        }
        bench_sort(us, calls);
        printf(",\"calls\":%u,\"call_us\":{\"p50\":%.3f,\"p99\":%.3f}", calls,
               bench_percentile(us, calls, 50), bench_percentile(us, calls, 99));
    }
    printf("}\n");
    return 1;
}

/* ---- the list ---------------------------------------------------------------------------- */

static void print_not_run(const bench_shape *s, const char *algorithm, const char *reason)
{
    print_shape("not_run", s, algorithm);
    printf(",\"reason\":\"%s\"}\n", reason);
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    double budget_s = 0;
    unsigned repeats = 100;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--shapes") == 0) path = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--budget") == 0)
            budget_s = atof(argv[i + 1]);
        else if (i + 1 < argc && strcmp(argv[i], "--repeats") == 0)
            repeats = (unsigned)atoi(argv[i + 1]);
        else path = NULL, i = argc;
    }
    if (!path || repeats < 1 || repeats > MOST_REPEATS) {
        fprintf(stderr,
                "usage: cudnn_lstm --shapes FILE [--budget SECONDS] [--repeats N]\n");
        return 2;
    }
    bench_shape *shapes;
    size_t count = bench_shapes_read(path, &shapes), measured = 0;
    int devices = 0;
    const char *missing = cudaGetDeviceCount(&devices) || devices == 0 ? "GPU"
                          : load()                                     ? NULL
                                                                       : "cuDNN";
    if (missing) {
        fprintf(stderr, "cudnn_lstm: no %s here\n", missing);
        free(shapes);
        return NOT_RUN;
    }
    must(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking), "a stream");
    for (unsigned i = 0; i <= repeats; i++)
        must(cudaEventCreate(&events[i]), "an event");
    if (api.cudnnCreate(&handle) != CUDNN_STATUS_SUCCESS ||
        api.cudnnSetStream(handle, cuda_stream) != CUDNN_STATUS_SUCCESS) {
        fprintf(stderr, "cudnn_lstm: cuDNN does not start\n");
        return 1;
    }
    printf("{\"kind\":\"header\",\"program\":\"cudnn\",\"version\":%zu,\"headers\":%d}\n",
           api.cudnnGetVersion(), CUDNN_VERSION);
    double start = bench_now_us();
    for (size_t i = 0; i < count; i++)
        for (size_t a = 0; a < sizeof algorithms / sizeof *algorithms; a++) {
            if (budget_s > 0 && bench_now_us() - start > budget_s * 1e6) {
                print_not_run(&shapes[i], algorithms[a].name, "the time was up");
                continue;
            }
            job j;
            job_open(&j, &shapes[i], algorithms[a].algorithm);
            if (!j.reason)
                measured += (size_t)measure(&j, &shapes[i], algorithms[a].name, repeats);
            if (j.reason) print_not_run(&shapes[i], algorithms[a].name, j.reason);
            job_close(&j);
            fflush(stdout);
        }
    free(shapes);
    return measured == 0;
}
