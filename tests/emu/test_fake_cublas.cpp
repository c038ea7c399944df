/* The fake cuBLAS: right products of every type and layout, mistakes that are named, and sums whose bits
 * change with the shape, as those of cuBLAS do. */
#include "check.h"
#include "fake.h"
#include "fake_product.h"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace
{

struct Rig {
    cublasHandle_t handle = nullptr;
    cudaStream_t stream = nullptr;
    std::vector<void *> memory;

    explicit Rig(uint64_t seed, const fake::Device &device = fake::Device())
    {
        fake::reset(device, seed);
        CHECK(!cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CHECK(!cublasCreate(&handle) && !cublasSetStream(handle, stream));
    }

    ~Rig()
    {
        for (void *one : memory)
            CHECK(!cudaFree(one));
        CHECK(!cublasDestroy(handle) && !cudaStreamDestroy(stream));
        CHECK(fake::open_handles() == 0);
    }

    template <class T> T *device(const std::vector<T> &values)
    {
        void *made = nullptr;
        size_t bytes = values.size() * sizeof(T);
        CHECK(!cudaMalloc(&made, bytes));
        CHECK(
            !cudaMemcpyAsync(made, values.data(), bytes, cudaMemcpyHostToDevice, stream));
        memory.push_back(made);
        return static_cast<T *>(made);
    }

    std::vector<float> host(const float *from, size_t count)
    {
        std::vector<float> values(count);
        CHECK(!cudaMemcpyAsync(values.data(), from, count * 4, cudaMemcpyDeviceToHost,
                               stream));
        return values;
    }
};

template <class T> T as(float value);
template <> float as<float>(float value)
{
    return value;
}
template <> __nv_bfloat16 as<__nv_bfloat16>(float value)
{
    return __float2bfloat16(value);
}
template <> __half as<__half>(float value)
{
    return __float2half(value);
}

/* c = alpha op(a) op(b) + beta c against double, two products at once, padding untouched. */
template <class T>
void right(cudaDataType type, cublasOperation_t ta, cublasOperation_t tb, float beta)
{
    Rig rig(7);
    const int m = 37, n = 5, k = 300, pad = 3;
    const int a_rows = ta ? k : m, a_columns = ta ? m : k;
    const int b_rows = tb ? n : k, b_columns = tb ? k : n;
    const int lda = a_rows + pad, ldb = b_rows + pad, ldc = m + pad;
    const long long a_size = lda * a_columns, b_size = ldb * b_columns, c_size = ldc * n;
    std::vector<T> a, b;
    for (float value : check::random_floats((size_t)(2 * a_size), 1, -1, 1))
        a.push_back(as<T>(value));
    for (float value : check::random_floats((size_t)(2 * b_size), 2, -1, 1))
        b.push_back(as<T>(value));
    std::vector<float> c((size_t)(2 * c_size), beta == 0 ? NAN : 3);
    T *da = rig.device(a), *db = rig.device(b);
    float *dc = rig.device(c);
    const float alpha = 2;
    CHECK(!cublasGemmStridedBatchedEx(
        rig.handle, ta, tb, m, n, k, &alpha, da, type, lda, a_size, db, type, ldb, b_size,
        &beta, dc, CUDA_R_32F, ldc, c_size, 2, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    std::vector<float> out = rig.host(dc, c.size());
    double worst = 0;
    unsigned untouched = 0;
    for (long long p = 0; p < 2; p++)
        for (int j = 0; j < n; j++) {
            for (int i = 0; i < m; i++) {
                double sum = 0;
                for (int x = 0; x < k; x++) {
                    const T &va =
                        a[(size_t)(p * a_size + (ta ? i * lda + x : x * lda + i))];
                    const T &vb =
                        b[(size_t)(p * b_size + (tb ? x * ldb + j : j * ldb + x))];
                    sum += (double)(float)va * (double)(float)vb;
                }
                double expected = 2 * sum + (beta == 0 ? 0 : beta * 3);
                double error = fabs(out[(size_t)(p * c_size + j * ldc + i)] - expected);
                if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
            }
            for (int i = m; i < ldc; i++) {
                float value = out[(size_t)(p * c_size + j * ldc + i)];
                untouched += beta == 0 ? isnan(value) : value == 3;
            }
        }
    CHECK(worst < 2e-4 && untouched == 2 * n * pad);
    CHECK(fake::seen().products == 1 && fake::seen().launches == 1);
    CHECK(fake::seen().misuses == 0);
}

template <class T> void right_everywhere(cudaDataType type)
{
    for (cublasOperation_t ta : {CUBLAS_OP_N, CUBLAS_OP_T})
        for (cublasOperation_t tb : {CUBLAS_OP_N, CUBLAS_OP_T})
            for (float beta : {0.0f, 1.0f, -0.5f})
                right<T>(type, ta, tb, beta);
}

/* One column's product where the call has n of them. */
std::vector<float> first_column(int n, cublasComputeType_t compute, cublasMath_t mode)
{
    const int m = 16, k = 500;
    Rig rig(1);
    const float one = 1, zero = 0;
    std::vector<float> b((size_t)(k * n));
    std::vector<float> column = check::random_floats(k, 4, -1, 1);
    for (int j = 0; j < n; j++)
        std::copy(column.begin(), column.end(), b.begin() + j * k);
    float *da = rig.device(check::random_floats(m * k, 3, -1, 1)), *db = rig.device(b);
    float *dc = rig.device(std::vector<float>((size_t)(m * n)));
    CHECK(!cublasSetMathMode(rig.handle, mode));
    CHECK(!cublasGemmEx(rig.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, da,
                        CUDA_R_32F, m, db, CUDA_R_32F, k, &zero, dc, CUDA_R_32F, m,
                        compute, CUBLAS_GEMM_DEFAULT));
    std::vector<float> all = rig.host(dc, (size_t)(m * n));
    for (int j = 1; j < n; j++) /* within a call every column is summed alike */
        CHECK(!memcmp(&all[(size_t)(j * m)], all.data(), m * sizeof(float)));
    all.resize(m);
    return all;
}

double difference(const std::vector<float> &a, const std::vector<float> &b)
{
    double worst = 0;
    for (size_t i = 0; i < a.size(); i++)
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

void bits_follow_the_shape()
{
    const std::vector<float> alone =
        first_column(1, CUBLAS_COMPUTE_32F, CUBLAS_DEFAULT_MATH);
    unsigned others = 0;
    for (int n = 2; n <= 16; n++) {
        std::vector<float> among =
            first_column(n, CUBLAS_COMPUTE_32F, CUBLAS_DEFAULT_MATH);
        CHECK(difference(alone, among) < 1e-4);
        others += memcmp(alone.data(), among.data(), alone.size() * 4) != 0;
    }
    printf("ok     %u of 15 values of n change the bits of n = 1\n", others);
    CHECK(others >= 8);
    CHECK(first_column(5, CUBLAS_COMPUTE_32F, CUBLAS_DEFAULT_MATH) ==
          first_column(5, CUBLAS_COMPUTE_32F, CUBLAS_DEFAULT_MATH));
    for (unsigned k : {1u, 2u, 3u}) {
        fake::SumOrder order = fake::sum_order(8, 8, k, 1);
        CHECK(order.slices >= 1 && order.slices <= k && order.first < order.slices);
    }
    /* TF32, by type or by mode, is coarser than float and no coarser than it should be. */
    double by_type = difference(
        alone, first_column(1, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_DEFAULT_MATH));
    double by_mode = difference(
        alone, first_column(1, CUBLAS_COMPUTE_32F, CUBLAS_TF32_TENSOR_OP_MATH));
    double pedantic = difference(
        alone, first_column(1, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_TF32_TENSOR_OP_MATH));
    CHECK(by_type > 1e-4 && by_type < 5e-2 && by_mode == by_type && pedantic == 0);
}

void mistakes_named()
{
    Rig rig(1);
    const float one = 1, zero = 0;
    const int m = 4, n = 3, k = 2;
    float *a = rig.device(std::vector<float>(m * k)),
          *b = rig.device(std::vector<float>(k * n));
    float *c = rig.device(std::vector<float>(m * n + 1)), *pinned = nullptr;
    std::vector<float> pageable(m * n);
    CHECK(!cudaMallocHost((void **)&pinned, m * n * sizeof(float)));
    struct Call {
        const char *words;
        cublasStatus_t status;
        int m, n, k, lda, ldb, ldc;
        const void *a, *b;
        void *c;
        const float *alpha;
        cudaDataType a_type;
    };
    char *odd = reinterpret_cast<char *>(c) + 2;
    const Call calls[] = {
        {"leading dimension", CUBLAS_STATUS_INVALID_VALUE, m, n, k, m - 1, k, m, a, b, c,
         &one, CUDA_R_32F},
        {"outside device memory", CUBLAS_STATUS_EXECUTION_FAILED, m, n, k, m + 1, k, m, a,
         b, c, &one, CUDA_R_32F},
        {"outside device memory", CUBLAS_STATUS_EXECUTION_FAILED, m, n, k + 1, m, k + 1,
         m, a, b, c, &one, CUDA_R_32F},
        {"outside device memory", CUBLAS_STATUS_EXECUTION_FAILED, m, n, k, m, k, m, a, b,
         pinned, &one, CUDA_R_32F},
        {"outside device memory", CUBLAS_STATUS_EXECUTION_FAILED, m, n, k, m, k, m, a, b,
         pageable.data(), &one, CUDA_R_32F},
        {"outside device memory", CUBLAS_STATUS_EXECUTION_FAILED, m, n, k, m, k, m,
         nullptr, b, c, &one, CUDA_R_32F},
        {"own operand", CUBLAS_STATUS_INVALID_VALUE, 2, 2, 2, 2, 2, 2, a, b, a, &one,
         CUDA_R_32F},
        {"aligned", CUBLAS_STATUS_INVALID_VALUE, m, n, k, m, k, m, a, b, odd, &one,
         CUDA_R_32F},
        {"negative", CUBLAS_STATUS_INVALID_VALUE, -1, n, k, m, k, m, a, b, c, &one,
         CUDA_R_32F},
        {"host's own memory", CUBLAS_STATUS_INVALID_VALUE, m, n, k, m, k, m, a, b, c, a,
         CUDA_R_32F},
        {"types", CUBLAS_STATUS_NOT_SUPPORTED, m, n, k, m, k, m, a, b, c, &one,
         CUDA_R_16F},
        {"types", CUBLAS_STATUS_NOT_SUPPORTED, m, n, k, m, k, m, a, b, c, &one,
         CUDA_R_64F},
    };
    size_t misuses = 0;
    for (const Call &t : calls) {
        cublasStatus_t status =
            cublasGemmEx(rig.handle, CUBLAS_OP_N, CUBLAS_OP_N, t.m, t.n, t.k, t.alpha,
                         t.a, t.a_type, t.lda, t.b, CUDA_R_32F, t.ldb, &zero, t.c,
                         CUDA_R_32F, t.ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
        check::report(status == t.status && fake::seen().misuses == ++misuses &&
                          strstr(fake::last_misuse(), t.words),
                      __FILE__, __LINE__,
                      std::string(t.words) + ", " + cublasGetStatusName(status) + ", " +
                          fake::last_misuse());
    }
    auto gemm = [&] {
        return cublasGemmEx(rig.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a,
                            CUDA_R_32F, m, b, CUDA_R_32F, k, &zero, c, CUDA_R_32F, m,
                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    };
    CHECK(!gemm() && fake::seen().misuses == misuses);
    CHECK(!cublasGemmEx(rig.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, 0, k, &one, a,
                        CUDA_R_32F, m, b, CUDA_R_32F, k, &zero, c, CUDA_R_32F, m,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    CHECK(cublasSetWorkspace(rig.handle, pageable.data(), 8) ==
          CUBLAS_STATUS_INVALID_VALUE);
    CHECK(cublasSetWorkspace(rig.handle, a + 1, 4) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(cublasSetStream(rig.handle, (cudaStream_t)&rig) == CUBLAS_STATUS_INVALID_VALUE);
    cublasHandle_t none = (cublasHandle_t)&rig;
    CHECK(cublasSetMathMode(none, CUBLAS_DEFAULT_MATH) == CUBLAS_STATUS_NOT_INITIALIZED);
    CHECK(fake::seen().misuses == misuses + 4);

    /* In a graph a product needs a workspace of its own, given after the stream. */
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    CHECK(!cublasSetWorkspace(rig.handle, a, m * k * sizeof(float)));
    CHECK(!cublasSetStream(rig.handle, rig.stream));
    CHECK(!cudaStreamBeginCapture(rig.stream, cudaStreamCaptureModeThreadLocal));
    CHECK(gemm() == CUBLAS_STATUS_EXECUTION_FAILED);
    CHECK(strstr(fake::last_misuse(), "workspace"));
    CHECK(!cublasSetWorkspace(rig.handle, a, m * k * sizeof(float)));
    CHECK(!gemm() && !cudaStreamEndCapture(rig.stream, &graph));
    CHECK(!cudaStreamSynchronize(rig.stream));
    size_t before = fake::seen().products;
    CHECK(!cudaGraphInstantiate(&executable, graph, 0));
    CHECK(!cudaGraphLaunch(executable, rig.stream) && !cudaStreamSynchronize(rig.stream));
    CHECK(fake::seen().products == before + 1 && fake::seen().launches == before + 1);
    CHECK(!cudaGraphExecDestroy(executable) && !cudaGraphDestroy(graph));
    CHECK(!cudaFreeHost(pinned));
    CHECK(!strcmp(cublasGetStatusName(CUBLAS_STATUS_ARCH_MISMATCH),
                  "CUBLAS_STATUS_ARCH_MISMATCH"));
    CHECK(strlen(cublasGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED)) > 3);
}

void old_and_other_devices()
{
    fake::Device turing;
    turing.major = 7;
    turing.minor = 5;
    turing.count = 2;
    Rig rig(1, turing);
    const float one = 1, zero = 0;
    __nv_bfloat16 *a = rig.device(std::vector<__nv_bfloat16>(4));
    float *c = rig.device(std::vector<float>(4));
    auto gemm = [&] {
        return cublasGemmEx(rig.handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a,
                            CUDA_R_16BF, 2, a, CUDA_R_16BF, 2, &zero, c, CUDA_R_32F, 2,
                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    };
    CHECK(gemm() == CUBLAS_STATUS_ARCH_MISMATCH);
    CHECK(!cudaSetDevice(1) && gemm() == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(strstr(fake::last_misuse(), "another device") && !cudaSetDevice(0));
    fake::fail_call(fake::seen().calls + 1, fake::Failure::ONCE);
    CHECK(cublasSetStream(rig.handle, rig.stream) == CUBLAS_STATUS_INTERNAL_ERROR);
}

/* Products wait in their stream like kernels. */
void deferred()
{
    unsigned stale = 0;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        Rig rig(seed);
        const float one = 1, zero = 0;
        float *a = rig.device(std::vector<float>(1, 3)),
              *c = rig.device(std::vector<float>(1, 0));
        float *pinned = nullptr;
        CHECK(!cudaMallocHost((void **)&pinned, 4) && !cudaStreamSynchronize(rig.stream));
        pinned[0] = 0;
        CHECK(!cublasGemmEx(rig.handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a,
                            CUDA_R_32F, 1, a, CUDA_R_32F, 1, &zero, c, CUDA_R_32F, 1,
                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
        CHECK(!cudaMemcpyAsync(pinned, c, 4, cudaMemcpyDeviceToHost, rig.stream));
        stale += pinned[0] != 9;
        CHECK(!cudaStreamSynchronize(rig.stream) && pinned[0] == 9 &&
              !cudaFreeHost(pinned));
    }
    CHECK(stale > 8);
}

} // namespace

int main()
{
    right_everywhere<float>(CUDA_R_32F);
    right_everywhere<__nv_bfloat16>(CUDA_R_16BF);
    right_everywhere<__half>(CUDA_R_16F);
    bits_follow_the_shape();
    mistakes_named();
    old_and_other_devices();
    deferred();
    fake::reset(fake::Device(), 1);
    CHECK(emu::races() == 0);
    return check::summary();
}
