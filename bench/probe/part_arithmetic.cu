/* Computing: rates of the CUDA cores and the tensor cores on random data, cuBLAS beside them, and the functions of the
 * gates with their worst error. */
#include "probe.h"

#include "arithmetic_kernels.h"
#include "probe_expected.h"
#include "probe_raw.h"

#include <cublas_v2.h>
#include <functional>
#include <math.h>
#include <string.h>

namespace probe
{

namespace
{

/* ---- CUDA cores ---------------------------------------------------------------------------------------------------- */

void ffma()
{
    const std::string what = "FFMA";
    const unsigned blocks = size(4 * machine.multiprocessors, 1u),
                   threads = size(512u, 32u);
    const unsigned rounds = size(20000u, 20u), all = blocks * threads;
    const std::vector<float> operands =
        random_floats(all * (1 + PROBE_CHAINS), 21, -1, 1);
    Array<float> in(operands), out(all * PROBE_CHAINS);
    Launch launch = [&] {
        return dev::launch(probe_ffma, {dim3(blocks), dim3(threads), 0, 0, 0},
                           cuda_stream, in.at, out.at, rounds);
    };
    if (!ran(what, launch)) return;
    std::vector<float> have = out.get();
    std::string wrong;
    for (unsigned t = 0; t < all && wrong.empty(); t += all / 8 + 1)
        for (unsigned i = 0; i < PROBE_CHAINS; i++) {
            const float *mine = &operands[t * (1 + PROBE_CHAINS)];
            float sum = mine[1 + i];
            for (unsigned round = 0; round < rounds; round++)
                sum = fmaf(mine[0], sum, mine[1 + i]);
            if (memcmp(&sum, &have[t * PROBE_CHAINS + i], 4))
                wrong = "thread " + std::to_string(t) + " has " +
                        std::to_string(have[t * PROBE_CHAINS + i]) + ", expected " +
                        std::to_string(sum);
        }
    if (found_right(what, wrong))
        time_events(what, "TFLOP/s", FFMA_RATE, launch, [=](double us) {
            return 2.0 * PROBE_CHAINS * all * rounds / us * 1e-6;
        });
}

/* ---- tensor cores -------------------------------------------------------------------------------------------------- */

/* What the words of an operand hold: two numbers of 16 bits, or one of tf32. */
struct Format {
    const char *name;
    void (*kernel)(const uint32_t *, float *, unsigned);
    unsigned depth; /* k of one mma */
    Expected rate;
    uint32_t (*pack)(float low, float high);
    double (*value)(uint32_t word, unsigned half);
};

uint32_t pack_bf16(float low, float high)
{
    __nv_bfloat16 pair[2] = {__float2bfloat16(low), __float2bfloat16(high)};
    uint32_t word;
    memcpy(&word, pair, 4);
    return word;
}

double value_bf16(uint32_t word, unsigned half)
{
    __nv_bfloat16_raw raw;
    raw.x = (unsigned short)(word >> 16 * half);
    return __bfloat162float(__nv_bfloat16(raw));
}

uint32_t pack_f16(float low, float high)
{
    __half pair[2] = {__float2half(low), __float2half(high)};
    uint32_t word;
    memcpy(&word, pair, 4);
    return word;
}

double value_f16(uint32_t word, unsigned half)
{
    __half_raw raw;
    raw.x = (unsigned short)(word >> 16 * half);
    return __half2float(__half(raw));
}

uint32_t pack_tf32(float low, float)
{
    uint32_t word;
    memcpy(&word, &low, 4);
    return word & 0xffffe000u;
}

double value_tf32(uint32_t word, unsigned)
{
    float value;
    memcpy(&value, &word, 4);
    return value;
}

const Format formats[] = {{"bf16", probe_mma_bf16, 16, HALF_RATE, pack_bf16, value_bf16},
                          {"fp16", probe_mma_f16, 16, HALF_RATE, pack_f16, value_f16},
                          {"TF32", probe_mma_tf32, 8, TF32_RATE, pack_tf32, value_tf32}};

std::vector<uint32_t> random_operands(const Format &format, size_t words, unsigned seed)
{
    std::vector<float> values = random_floats(2 * words, seed, -1, 1);
    std::vector<uint32_t> packed(words);
    for (size_t i = 0; i < words; i++)
        packed[i] = format.pack(values[2 * i], values[2 * i + 1]);
    return packed;
}

/* Row g + 8 (r / 2), column 2 q + r % 2 of A * B for the lane 4 g + q: both from the fragments' layout, which
 * tests/emu/device_emu_matrix.h states. */
double element(const Format &format, const uint32_t *operands, unsigned tile,
               unsigned lane, unsigned r)
{
    const unsigned row = lane / 4 + 8 * (r / 2), column = lane % 4 * 2 + r % 2;
    const unsigned halves = format.depth == 16 ? 2 : 1;
    double sum = 0;
    for (unsigned k = 0; k < format.depth; k++) {
        unsigned quarter = k / halves % 4, upper = k / (4 * halves);
        uint32_t a = operands[(row / 8 + 2 * upper) * 32 + row % 8 * 4 + quarter];
        uint32_t b = operands[(4 + 2 * tile + upper) * 32 + column * 4 + quarter];
        sum += format.value(a, k % halves) * format.value(b, k % halves);
    }
    return sum;
}

void mma(const Format &format)
{
    const std::string what = std::string("mma.sync ") + format.name;
    const unsigned blocks = size(2 * machine.multiprocessors, 1u),
                   threads = size(256u, 64u);
    const unsigned warps = blocks * threads / 32, words = (4 + 2 * PROBE_TILES) * 32;
    const std::vector<uint32_t> operands = random_operands(format, warps * words, 22);
    Array<uint32_t> in(operands);
    Array<float> out(warps * PROBE_TILES * 128);
    auto launch_of = [&](unsigned rounds) {
        return dev::launch(format.kernel, {dim3(blocks), dim3(threads), 0, 0, 0},
                           cuda_stream, in.at, out.at, rounds);
    };
    const unsigned few = 3, rounds = 20000; /* few, so that rounding does not grow */
    if (!ran(what, [&] { return launch_of(few); })) return;
    std::vector<float> all = out.get(), have;
    std::vector<double> expected;
    for (unsigned warp = 0; warp < warps; warp += warps - 1)
        for (unsigned i = 0; i < PROBE_TILES * 128; i++) {
            have.push_back(all[warp * PROBE_TILES * 128 + i]);
            expected.push_back(few * element(format, &operands[warp * words], i / 128,
                                             i / 4 % 32, i % 4));
        }
    double off = distance(have, expected);
    if (found_right(what, off < 1e-5 ? "" : "off by " + std::to_string(off)))
        time_events(
            what, "TFLOP/s", format.rate, [&] { return launch_of(size(rounds, few)); },
            [=](double us) {
                return 2.0 * 16 * 8 * format.depth * PROBE_TILES * warps * rounds / us *
                       1e-6;
            });
}

/* The sum of all of A * B is sum over k of (column k of A) * (row k of B); with one of them all ones it is 64 or 256
 * times the sum of the other, whatever the layout: each number was multiplied as often as it should be. */
void wgmma(raw_type type, const Format &format)
{
    const std::string what = std::string("wgmma ") + format.name;
    const unsigned blocks = 2 * machine.multiprocessors, rounds = 20000;
    const size_t a_words = 512, b_words = 2048;
    const std::vector<uint32_t> a = random_operands(format, a_words, 23);
    const std::vector<uint32_t> b = random_operands(format, b_words, 24);
    const uint32_t one = format.pack(1, 1);
    Array<float> out(blocks);
    for (bool ones_in_a : {true, false}) {
        Array<uint32_t> in_a(ones_in_a ? std::vector<uint32_t>(a_words, one) : a);
        Array<uint32_t> in_b(ones_in_a ? b : std::vector<uint32_t>(b_words, one));
        if (!ran(what, [&] {
                return raw_wgmma(cuda_stream, type, blocks, in_a.at, in_b.at, out.at, 8);
            }))
            return;
        double sum = 0;
        for (uint32_t word : ones_in_a ? b : a)
            sum += format.value(word, 0) + format.value(word, 1);
        std::vector<double> expected(blocks, 8 * sum * (ones_in_a ? 64 : 256));
        double off = distance(out.get(), expected);
        if (!found_right(what + (ones_in_a ? ", sum of B" : ", sum of A"),
                         off < 1e-3 ? "" : "off by " + std::to_string(off)))
            return;
    }
    Array<uint32_t> in_a(a), in_b(b);
    time_events(
        what, "TFLOP/s", format.rate,
        [&] {
            return raw_wgmma(cuda_stream, type, blocks, in_a.at, in_b.at, out.at, rounds);
        },
        [=](double us) { return 2.0 * 64 * 256 * 16 * blocks * rounds / us * 1e-6; });
}

/* One large product, as a peer would have it. */
void cublas(const char *name, cudaDataType type, cublasComputeType_t compute,
            Expected expected)
{
    const std::string what = std::string("cuBLAS, 8192 x 8192 x 8192, ") + name;
    if (!machine.is_gpu) {
        say_not_measured(what, "no GPU here");
        return;
    }
    const int n = 8192;
    const size_t count = (size_t)n * n, number = type == CUDA_R_32F ? 4 : 2;
    /* Random bits of exponents that are near 1: two numbers of bf16, or one float. */
    std::vector<uint32_t> words = random_words(count * number / 4, 25);
    for (uint32_t &word : words)
        word = (word & 0x807f807fu) | 0x3f003f00u;
    Array<uint32_t> a(words), b(words), c(count * number / 4);
    cublasHandle_t handle = nullptr;
    if (!a.at || !b.at || !c.at || cublasCreate(&handle) ||
        cublasSetStream(handle, cuda_stream)) {
        say_not_measured(what, "cuBLAS does not start, or no memory for it");
        return;
    }
    const float one = 1, zero = 0;
    time_events(
        what, "TFLOP/s", expected,
        [&] {
            return cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a.at,
                                type, n, b.at, type, n, &zero, c.at, type, n, compute,
                                CUBLAS_GEMM_DEFAULT)
                       ? cudaErrorUnknown
                       : cudaSuccess;
        },
        [=](double us) { return 2.0 * n * n * n / us * 1e-6; });
    cublasDestroy(handle);
}

/* ---- functions of the gates ----------------------------------------------------------------------------------------- */

struct Function {
    const char *name;
    probe_function id;
    float low, high;
    double (*exact)(double);
    double
        allowed; /* absolute, or of the value for ex2 and exp: what nothing sane exceeds */
};

double exact_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

const Function functions[] = {
    {"ex2.approx", PROBE_EX2_APPROX, -20, 20, exp2, 1e-6},
    {"expf", PROBE_EXP, -20, 20, exp, 1e-6},
    {"tanh.approx", PROBE_TANH_APPROX, -10, 10, tanh, 1e-3},
    {"tanh by ex2 and rcp", PROBE_TANH_FAST, -10, 10, tanh, 1e-5},
    {"tanhf", PROBE_TANH, -10, 10, tanh, 1e-6},
    {"sigmoid by ex2 and rcp", PROBE_SIGMOID_FAST, -20, 20, exact_sigmoid, 1e-5},
    {"sigmoid of the kernels", PROBE_SIGMOID, -20, 20, exact_sigmoid, 1e-6}};

void gate_function(const Function &f)
{
    const std::string what = f.name;
    const unsigned count = size(1u << 22, 512u);
    std::vector<float> x = random_floats(count, 31, f.low, f.high);
    for (unsigned i = 0; i < count / 2; i++) /* and an even grid */
        x[i] = f.low + (f.high - f.low) * (float)i / (float)(count / 2);
    Array<float> in(x), out(count);
    if (!ran(what, [&] {
            return dev::launch(probe_values, {dim3(count / 256), dim3(256), 0, 0, 0},
                               cuda_stream, f.id, in.at, out.at, count);
        }))
        return;
    const bool relative =
        f.exact == (double (*)(double))exp2 || f.exact == (double (*)(double))exp;
    std::vector<float> y = out.get();
    double worst = 0, of_value = 0;
    for (unsigned i = 0; i < count; i++) {
        double exact = f.exact(x[i]), error = fabs(y[i] - exact);
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
        error /= fabs(exact);
        if (exact != 0 && !(error <= of_value))
            of_value = isnan(error) ? INFINITY : error;
    }
    double looked_at = relative ? of_value : worst;
    if (!found_right(what, looked_at <= f.allowed
                               ? ""
                               : "off by " + std::to_string(looked_at * 1e9) + "e-9"))
        return;
    if (machine.is_gpu) {
        say(what + ", worst error", "absolute", {worst}, {0, 0});
        say(what + ", worst error", "relative", {of_value}, {0, 0});
    } else
        say_not_measured(what + ", worst error",
                         "an emulator computes what the host computes");

    const unsigned blocks = size(4 * machine.multiprocessors, 1u),
                   threads = size(512u, 32u);
    const unsigned rounds = size(1000u, 2u), all = blocks * threads * PROBE_CHAINS;
    std::vector<float> starts = random_floats(all, 32, f.low / 10, f.high / 10);
    Array<float> start(starts), end(all);
    Launch launch = [&] {
        return dev::launch(probe_rate, {dim3(blocks), dim3(threads), 0, 0, 0},
                           cuda_stream, f.id, start.at, end.at, rounds);
    };
    if (!ran(what, launch)) return;
    y = end.get();
    worst = 0;
    for (unsigned i = 0; i < all; i += 3) { /* the last round moves x by little */
        double error = fabs(y[i] - f.exact(starts[i])) / fmax(1, fabs(y[i]));
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
    }
    if (found_right(what + ", again and again",
                    worst < 1e-3 ? "" : "off by " + std::to_string(worst)))
        time_events(what + ", rate", "G/s", NOTHING, launch,
                    [=](double us) { return (double)all * rounds / us * 1e-3; });
}

} // namespace

void part_arithmetic()
{
    ffma();
    for (const Format &format : formats)
        mma(format);
    if (machine.major == 9) {
        wgmma(RAW_BF16, formats[0]);
        wgmma(RAW_F16, formats[1]);
    } else say_not_measured("wgmma", "only compute capability 9.0 has it");
    cublas("bf16", CUDA_R_16BF, CUBLAS_COMPUTE_32F, HALF_RATE);
    cublas("TF32", CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, TF32_RATE);
    cublas("fp32", CUDA_R_32F, CUBLAS_COMPUTE_32F, FFMA_RATE);
    for (const Function &f : functions)
        gate_function(f);
}

} // namespace probe
