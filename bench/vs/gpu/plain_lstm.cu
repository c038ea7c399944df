/* The plain recipe that any user of cuBLAS would write, on the shapes of bench_gpu and by its rules: per layer one input
 * product of all steps, then per step one product and one pointwise kernel; launched one by one, and as a CUDA graph.
 *
 *     plain_lstm --shapes FILE [--budget SECONDS] [--repeats N]      or --list, or --check
 *
 * h is kept in the type of the operands, c in float. The graph holds a call but for the first layer's input product,
 * whose input changes from call to call. Exits 77 without a GPU. --check compares small shapes with the reference and
 * times nothing; --list prints the scoreboard. */
#include "bench/bench_clock.h"
#include "bench/bench_shapes.h"
#include "bench/vs/gpu/lstm_reference.h"
#include "kernels/cuda/device.cuh"

#include <algorithm>
#include <cublas_v2.h>
#include <math.h>
#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

namespace
{

const int NOT_RUN = 77;
const unsigned MOST_CALLS = 2000;

cudaStream_t cuda_stream;
cublasHandle_t handle;
unsigned most_repeats = 100;
size_t most_inputs = 64;

enum recipe { LAUNCHES, GRAPH };
const char *const recipe_names[] = {"launches", "graph"};

/* ---- the pointwise kernel -------------------------------------------------------------------------------------- */

__device__ __forceinline__ float from_z(const float *z, unsigned units, unsigned gate,
                                        unsigned unit, const float *bias)
{
    return z[gate * units + unit] + bias[gate * units + unit];
}

__device__ __forceinline__ float sigmoid_of(float x)
{
    return 1 / (1 + expf(-x));
}

__device__ __forceinline__ void round_to(float *to, float value)
{
    *to = value;
}
__device__ __forceinline__ void round_to(__half *to, float value)
{
    *to = __float2half(value);
}
__device__ __forceinline__ void round_to(__nv_bfloat16 *to, float value)
{
    *to = __float2bfloat16(value);
}

/* One thread a unit of a row: z [rows][4][units], c [rows][units] in place, h [rows][units]. */
template <class T>
__global__ void plain_cell(const float *z, const float *bias, float *c, T *h,
                           unsigned units, unsigned count)
{
    unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    unsigned unit = at % units;
    const float *of_row = z + (size_t)(at / units) * 4 * units;
    float i = sigmoid_of(from_z(of_row, units, 0, unit, bias));
    float f = sigmoid_of(from_z(of_row, units, 1, unit, bias));
    float g = tanhf(from_z(of_row, units, 2, unit, bias));
    float o = sigmoid_of(from_z(of_row, units, 3, unit, bias));
    c[at] = f * c[at] + i * g;
    round_to(h + at, o * tanhf(c[at]));
}

/* ---- one shape -------------------------------------------------------------------------------------------------- */

struct Memory {
    void *at = nullptr;
    ~Memory()
    {
        cudaFree(at);
    }
    template <class T> T *as() const
    {
        return static_cast<T *>(at);
    }
};

struct Job {
    bench_shape s = {};
    recipe how = LAUNCHES;
    std::string reason; /* why it cannot run; "" */
    size_t number = 0, step_count = 0;
    Memory weights, biases, z, c;                /* biases in float */
    std::vector<std::unique_ptr<Memory>> inputs; /* [T][B][H] */
    std::vector<std::unique_ptr<Memory>> h;      /* of each layer [1 + T][B][H] */
    std::vector<lstm_layer> layers;
    float *table = nullptr, *x_table = nullptr;
    cudaGraphExec_t executable = nullptr;

    ~Job()
    {
        if (executable) cudaGraphExecDestroy(executable);
        free(table);
        free(x_table);
    }
    bool fine(cudaError_t error)
    {
        if (error && reason.empty()) reason = cudaGetErrorString(error);
        if (error) cudaGetLastError();
        return !error;
    }
    bool fine(cublasStatus_t status)
    {
        if (status && reason.empty())
            reason = "cuBLAS returns status " + std::to_string((int)status);
        return !status;
    }
    bool take(Memory &m, size_t bytes)
    {
        return fine(cudaMalloc(&m.at, bytes)) && fine(cudaMemset(m.at, 0xff, bytes));
    }
};

size_t layer_numbers(const bench_shape &s)
{
    return 8 * (size_t)s.units * s.units + 4 * s.units;
}

/* count numbers of the table, over and over, from index first on. */
bool fill(Job &j, void *to, size_t count, const float *table, size_t first)
{
    std::vector<unsigned char> some(LSTM_TABLE * j.number);
    for (size_t i = 0; i < LSTM_TABLE; i++) {
        uint32_t bits = lstm_bits(j.s.precision, table[(first + i) % LSTM_TABLE]);
        memcpy(&some[i * j.number], &bits, j.number);
    }
    for (size_t at = 0; at < count; at += LSTM_TABLE) {
        size_t part = std::min<size_t>(count - at, LSTM_TABLE);
        if (!j.fine(cudaMemcpy((char *)to + at * j.number, some.data(), part * j.number,
                               cudaMemcpyHostToDevice)))
            return false;
    }
    return true;
}

/* z [rows][4 H] (+)= in [rows][H] * weights [4 H][H] turned round. */
cublasStatus_t product(const Job &j, const void *weights, const void *in, float *z,
                       size_t rows, float beta)
{
    const float one = 1;
    cudaDataType type = j.s.precision == CARRY_COMPUTE_BF16   ? CUDA_R_16BF
                        : j.s.precision == CARRY_COMPUTE_FP16 ? CUDA_R_16F
                                                              : CUDA_R_32F;
    cublasComputeType_t compute = j.s.precision == CARRY_COMPUTE_TF32
                                      ? CUBLAS_COMPUTE_32F_FAST_TF32
                                      : CUBLAS_COMPUTE_32F;
    int h = (int)j.s.units;
    return cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, 4 * h, (int)rows, h, &one,
                        weights, type, h, in, type, h, &beta, z, CUDA_R_32F, 4 * h,
                        compute, CUBLAS_GEMM_DEFAULT);
}

template <class T>
cudaError_t cell(const Job &j, const float *z, const float *bias, float *c, void *h)
{
    unsigned count = j.s.rows * j.s.units;
    return dev::launch(plain_cell<T>, {dim3((count + 255) / 256), dim3(256), 0, 0, 0},
                       cuda_stream, z, bias, c, static_cast<T *>(h), j.s.units, count);
}

bool input_product(Job &j, unsigned layer, const void *x)
{
    return j.fine(product(j, j.weights.as<char>() + j.layers[layer].kernel[0] * j.number,
                          x, j.z.as<float>(), (size_t)j.s.steps * j.s.rows, 0));
}

/* All but the first layer's input product. */
bool rest_of_call(Job &j)
{
    const size_t step_bytes = j.step_count * j.number;
    for (unsigned l = 0; l < j.s.layers; l++) {
        char *h = j.h[l]->as<char>();
        float *c = j.c.as<float>() + l * j.step_count;
        const float *bias = j.biases.as<float>() + (size_t)l * 4 * j.s.units;
        if (l > 0 && !input_product(j, l, j.h[l - 1]->as<char>() + step_bytes))
            return false;
        for (unsigned t = 0; t < j.s.steps; t++) {
            float *z = j.z.as<float>() + (size_t)t * 4 * j.step_count;
            const void *before = h + t * step_bytes;
            void *after = h + (t + 1) * step_bytes;
            if (!j.fine(
                    product(j, j.weights.as<char>() + j.layers[l].recurrent[0] * j.number,
                            before, z, j.s.rows, 1)) ||
                !j.fine(j.s.precision == CARRY_COMPUTE_BF16
                            ? cell<__nv_bfloat16>(j, z, bias, c, after)
                        : j.s.precision == CARRY_COMPUTE_FP16
                            ? cell<__half>(j, z, bias, c, after)
                            : cell<float>(j, z, bias, c, after)))
                return false;
        }
        /* The state goes on in the next call. */
        if (!j.fine(cudaMemcpyAsync(h, h + j.s.steps * step_bytes, step_bytes,
                                    cudaMemcpyDeviceToDevice, cuda_stream)))
            return false;
    }
    return true;
}

bool call(Job &j, unsigned turn)
{
    if (!input_product(j, 0, j.inputs[turn % j.inputs.size()]->at)) return false;
    return j.how == GRAPH ? j.fine(cudaGraphLaunch(j.executable, cuda_stream))
                          : rest_of_call(j);
}

bool capture(Job &j)
{
    cudaGraph_t graph = nullptr;
    if (!j.fine(cudaStreamBeginCapture(cuda_stream, cudaStreamCaptureModeThreadLocal)))
        return false;
    bool good = rest_of_call(j);
    good = j.fine(cudaStreamEndCapture(cuda_stream, &graph)) && good &&
           j.fine(cudaGraphInstantiate(&j.executable, graph, 0));
    if (graph) cudaGraphDestroy(graph);
    return good;
}

bool open(Job &j)
{
    const bench_shape &s = j.s;
    const size_t per_layer = layer_numbers(s), square = (size_t)s.units * s.units;
    size_t free_bytes = 0, total = 0;
    int device = 0, cache = 0;
    j.number = lstm_number_bytes(s.precision);
    j.step_count = (size_t)s.rows * s.units;
    const size_t bytes = s.steps * j.step_count * j.number;
    j.table = lstm_table(s.precision, 1 / sqrtf((float)s.units), 3);
    j.x_table = lstm_table(s.precision, 1, 11);
    for (size_t l = 0; l < s.layers; l++) {
        lstm_layer layer = {};
        layer.bias_count = 1;
        for (size_t g = 0; g < 4; g++) {
            layer.kernel[g] = l * per_layer + g * square;
            layer.recurrent[g] = l * per_layer + (4 + g) * square;
            layer.bias[0][g] = l * per_layer + 8 * square + g * s.units;
        }
        j.layers.push_back(layer);
    }
    if (!j.fine(cudaGetDevice(&device)) ||
        !j.fine(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device)) ||
        !j.take(j.weights, s.layers * per_layer * j.number) ||
        !fill(j, j.weights.at, s.layers * per_layer, j.table, 0) ||
        !j.take(j.biases, (size_t)s.layers * 4 * s.units * 4) ||
        !j.take(j.z, s.steps * j.step_count * 16) ||
        !j.take(j.c, s.layers * j.step_count * 4))
        return false;
    std::vector<float> bias;
    for (const lstm_layer &layer : j.layers)
        for (size_t i = 0; i < 4 * s.units; i++)
            bias.push_back(j.table[(layer.bias[0][0] + i) % LSTM_TABLE]);
    if (!j.fine(cudaMemcpy(j.biases.at, bias.data(), bias.size() * 4,
                           cudaMemcpyHostToDevice)) ||
        !j.fine(cudaMemset(j.c.at, 0, s.layers * j.step_count * 4)))
        return false;
    for (unsigned l = 0; l < s.layers; l++) {
        j.h.emplace_back(new Memory);
        if (!j.take(*j.h[l], (s.steps + 1) * j.step_count * j.number) ||
            !j.fine(cudaMemset(j.h[l]->at, 0, j.step_count * j.number)))
            return false;
    }
    if (!j.fine(cudaMemGetInfo(&free_bytes, &total))) return false;
    size_t wanted = 2 * (size_t)cache / bytes + 2;
    if (wanted > most_inputs) wanted = most_inputs;
    while (wanted > 2 && wanted * bytes > free_bytes / 10 * 8)
        wanted--;
    for (size_t i = 0; i < wanted; i++) {
        j.inputs.emplace_back(new Memory);
        /* Each its own numbers: another beginning of the table. */
        if (!j.take(*j.inputs[i], bytes) ||
            !fill(j, j.inputs[i]->at, bytes / j.number, j.x_table, i * 7919))
            return false;
    }
    /* Copies may be under way still, and cuda_stream does not wait for them. */
    return j.fine(cudaDeviceSynchronize()) && (j.how == LAUNCHES || capture(j));
}

bool agrees(Job &j)
{
    const size_t bytes = j.s.steps * j.step_count * j.number;
    std::vector<unsigned char> y(bytes);
    if (!call(j, 0) || !j.fine(cudaStreamSynchronize(cuda_stream)) ||
        !j.fine(cudaMemcpy(y.data(), j.h.back()->as<char>() + j.step_count * j.number,
                           bytes, cudaMemcpyDeviceToHost)))
        return false;
    const char *wrong =
        lstm_wrong(j.layers.data(), j.s.layers, j.s.units, j.s.rows, j.s.steps,
                   j.s.precision, j.table, j.x_table, y.data());
    if (wrong) j.reason = wrong;
    return !wrong;
}

void print_shape(const char *kind, const Job &j)
{
    printf("{\"kind\":\"%s\",\"program\":\"plain\",\"algorithm\":\"%s\",\"H\":%u,\"B\":%"
           "u,\"T\":%u,\"layers\":%u,\"precision\":\"%s\"",
           kind, recipe_names[j.how], j.s.units, j.s.rows, j.s.steps, j.s.layers,
           bench_precision_name(j.s.precision));
}

unsigned calls_for(double us, unsigned most)
{
    double fit = 5e5 / (us > 1 ? us : 1);
    if (fit < 5) fit = 5;
    return fit > most ? most : (unsigned)fit;
}

bool measure(Job &j)
{
    unsigned turn = 1;
    double start = bench_now_us();
    if (!call(j, turn++) || !j.fine(cudaStreamSynchronize(cuda_stream))) return false;
    unsigned repeats = calls_for(bench_now_us() - start, most_repeats);
    std::vector<cudaEvent_t> events(repeats + 1);
    for (cudaEvent_t &event : events)
        if (!j.fine(cudaEventCreate(&event))) return false;
    for (unsigned i = 0; i < repeats / 4; i++)
        call(j, turn++);
    j.fine(cudaEventRecord(events[0], cuda_stream));
    for (unsigned i = 1; i <= repeats; i++) {
        call(j, turn++);
        j.fine(cudaEventRecord(events[i], cuda_stream));
    }
    std::vector<double> us(repeats);
    if (j.fine(cudaStreamSynchronize(cuda_stream)))
        for (unsigned i = 0; i < repeats; i++) {
            float ms = 0;
            j.fine(cudaEventElapsedTime(&ms, events[i], events[i + 1]));
            us[i] = ms * 1e3 / j.s.steps;
        }
    for (cudaEvent_t event : events)
        cudaEventDestroy(event);
    if (!j.reason.empty()) return false;
    bench_sort(us.data(), repeats);
    std::vector<double> calls;
    if (j.s.steps == 1) {
        calls.resize(calls_for(us[repeats / 2], MOST_CALLS));
        for (double &one : calls) {
            start = bench_now_us();
            if (!call(j, turn++) || !j.fine(cudaStreamSynchronize(cuda_stream)))
                return false;
            one = bench_now_us() - start;
        }
        bench_sort(calls.data(), calls.size());
    }
    print_shape("result", j);
    printf(",\"repeats\":%u,\"inputs\":%zu,\"us_per_step\":{\"median\":%.4f,\"p10\":%."
           "4f,\"p90\":%.4f}",
           repeats, j.inputs.size(), bench_percentile(us.data(), repeats, 50),
           bench_percentile(us.data(), repeats, 10),
           bench_percentile(us.data(), repeats, 90));
    if (!calls.empty())
        printf(",\"calls\":%zu,\"call_us\":{\"p50\":%.3f,\"p99\":%.3f}", calls.size(),
               bench_percentile(calls.data(), calls.size(), 50),
               bench_percentile(calls.data(), calls.size(), 99));
    printf("}\n");
    return true;
}

bool start()
{
    int devices = 0;
    if (cudaGetDeviceCount(&devices) || devices == 0) {
        fprintf(stderr, "plain_lstm: there is no GPU here\n");
        return false;
    }
    static Memory workspace; /* a captured product needs one that is ours */
    const size_t workspace_bytes = 32 << 20;
    if (cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking) ||
        cudaMalloc(&workspace.at, workspace_bytes) || cublasCreate(&handle) ||
        cublasSetStream(handle, cuda_stream) ||
        cublasSetWorkspace(handle, workspace.at, workspace_bytes)) {
        fprintf(stderr, "plain_lstm: CUDA or cuBLAS does not start\n");
        exit(1);
    }
    return true;
}

/* Small shapes against the reference, both recipes; no time. */
int check()
{
    unsigned wrong = 0, right = 0;
    most_inputs = 2;
    for (recipe how : {LAUNCHES, GRAPH})
        for (carry_precision precision : {CARRY_COMPUTE_FP32, CARRY_COMPUTE_TF32,
                                          CARRY_COMPUTE_BF16, CARRY_COMPUTE_FP16})
            for (unsigned layers : {1u, 2u}) {
                Job j;
                j.s = {24, 3, 2, layers, precision};
                j.how = how;
                bool good = open(j) && agrees(j);
                good ? right++ : wrong++;
                if (!good)
                    printf("WRONG: plain_lstm, %s, %s, %u layers: %s\n",
                           recipe_names[how], bench_precision_name(precision), layers,
                           j.reason.c_str());
            }
    printf("plain_lstm: %u shapes agree with the float64 reference, %u do not\n", right,
           wrong);
    return wrong != 0;
}

} // namespace

int main(int argc, char **argv)
{
    const char *path = nullptr;
    double budget_s = 0;
    if (argc == 2 && !strcmp(argv[1], "--check")) return start() ? check() : NOT_RUN;
    bench_shape *shapes = nullptr;
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        size_t all = bench_shapes_all(&shapes);
        bench_shapes_print(shapes, all);
        free(shapes);
        return 0;
    }
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && !strcmp(argv[i], "--shapes")) path = argv[i + 1];
        else if (i + 1 < argc && !strcmp(argv[i], "--budget"))
            budget_s = atof(argv[i + 1]);
        else if (i + 1 < argc && !strcmp(argv[i], "--repeats") && atoi(argv[i + 1]) > 0)
            most_repeats = (unsigned)atoi(argv[i + 1]);
        else path = nullptr, i = argc;
    }
    if (!path) {
        fprintf(stderr, "usage: plain_lstm --shapes FILE [--budget SECONDS] [--repeats "
                        "N], or --list, or --check\n");
        return 2;
    }
    if (!start()) return NOT_RUN;
    size_t count = bench_shapes_read(path, &shapes), measured = 0;
    int version = 0;
    cublasGetVersion(handle, &version);
    printf("{\"kind\":\"header\",\"program\":\"plain\",\"cublas\":%d}\n", version);
    double begin = bench_now_us();
    for (size_t i = 0; i < count; i++)
        for (recipe how : {LAUNCHES, GRAPH}) {
            Job j;
            j.s = shapes[i];
            j.how = how;
            if (budget_s > 0 && bench_now_us() - begin > budget_s * 1e6)
                j.reason = "the time was up";
            else if (open(j) && agrees(j) && measure(j)) measured++;
            if (!j.reason.empty()) {
                print_shape("not_run", j);
                printf(",\"reason\":\"%s\"}\n", j.reason.c_str());
            }
            fflush(stdout);
        }
    free(shapes);
    return measured == 0;
}
