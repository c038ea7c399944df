/* cuBLAS for the fake runtime: products that are checked, deferred and captured like kernels.
 *
 * Every operand lies in one live device allocation with its whole extent; anything else, a wrong shape, or a
 * capture without a workspace of one's own is a misuse. As in cuBLAS, setting the stream takes the workspace
 * away, and how a sum is ordered depends on the shape (fake_product.h). Scalars are read at the call. */
#include "fake_product.h"
#include "fake_state.h"

#include <cublas_v2.h>

#include <stdint.h>

using namespace fake;

namespace
{

cublasStatus_t refuse(cublasStatus_t status, const char *why)
{
    misuse(cudaSuccess, "%s", why);
    return status;
}

/* How a failure of the call itself shows. */
#define ENTER_CUBLAS(natural)                                   \
    fake::Call call_(__func__, cudaErrorInvalidResourceHandle); \
    if (call_.error) return natural

cublasStatus_t check_handle(cublasHandle_t handle)
{
    if (!state()->products.count(handle))
        return refuse(CUBLAS_STATUS_NOT_INITIALIZED,
                      "a cuBLAS handle that does not exist");
    if (handle->device != current_device())
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "a cuBLAS handle used while another device is current");
    return CUBLAS_STATUS_SUCCESS;
}

/* One operand of one or more products, in elements. */
struct Extent {
    const void *data;
    unsigned rows, columns; /* as it lies in memory, column by column */
    int stride;
    long long batch_stride;
    size_t element_bytes;
};

cublasStatus_t check_extent(const Extent &e, unsigned batch, int device)
{
    if (e.stride < 1 || (unsigned)e.stride < e.rows)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "a leading dimension that is less than the rows");
    if (batch > 1 && e.batch_stride < 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a negative stride between products");
    size_t elements = (size_t)(batch - 1) * (size_t)e.batch_stride +
                      (size_t)(e.columns - 1) * (size_t)e.stride + e.rows;
    const Allocation *a = find(e.data, elements * e.element_bytes);
    if (!a || a->place != Place::DEVICE)
        return refuse(CUBLAS_STATUS_EXECUTION_FAILED,
                      "an operand of a product outside device memory");
    if (a->device != device)
        return refuse(CUBLAS_STATUS_EXECUTION_FAILED,
                      "an operand of a product in another device's memory");
    if ((uintptr_t)e.data % e.element_bytes)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "an operand that is not aligned");
    return CUBLAS_STATUS_SUCCESS;
}

bool overlap(const Extent &x, const Extent &y, unsigned batch)
{
    auto end = [=](const Extent &e) {
        return (uintptr_t)e.data + ((size_t)(batch - 1) * (size_t)e.batch_stride +
                                    (size_t)(e.columns - 1) * (size_t)e.stride + e.rows) *
                                       e.element_bytes;
    };
    return (uintptr_t)x.data < end(y) && (uintptr_t)y.data < end(x);
}

/* cuBLAS has kernels for small and for large products; where it goes from one to the next nobody says. */
unsigned size_class(unsigned n)
{
    unsigned power = 0;
    while (power < 12 && n >> (power + 1))
        power++;
    return power;
}

/* The combinations that carry may use; NULL-like: false. */
bool operand_of(cudaDataType a, cudaDataType b, cudaDataType c,
                cublasComputeType_t compute, int math_mode, Operand *operand)
{
    if (a != b || c != CUDA_R_32F) return false;
    bool plain = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC;
    if (a == CUDA_R_32F && (plain || compute == CUBLAS_COMPUTE_32F_FAST_TF32)) {
        bool rounded = compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                       (compute == CUBLAS_COMPUTE_32F &&
                        (math_mode & 15) == CUBLAS_TF32_TENSOR_OP_MATH);
        *operand = rounded && state()->device.major >= 8 ? Operand::TF32 : Operand::F32;
        return true;
    }
    if (a == CUDA_R_16BF) *operand = Operand::BF16;
    else if (a == CUDA_R_16F) *operand = Operand::F16;
    else return false;
    return plain;
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    *handle = nullptr;
    ENTER_CUBLAS(CUBLAS_STATUS_NOT_INITIALIZED);
    if (outside_capture(__func__)) return CUBLAS_STATUS_INTERNAL_ERROR;
    *handle = new cublasContext;
    (*handle)->device = current_device();
    state()->products.insert(*handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    ENTER_RELEASING(cudaErrorUnknown);
    if (!state()->products.erase(handle))
        return refuse(CUBLAS_STATUS_NOT_INITIALIZED,
                      "a cuBLAS handle that does not exist");
    delete handle;
    run_all(); /* it waits for the device */
    return ENTERED ? CUBLAS_STATUS_INTERNAL_ERROR : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *version)
{
    Quiet quiet(lock());
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    ENTER_CUBLAS(CUBLAS_STATUS_INTERNAL_ERROR);
    cublasStatus_t wrong = check_handle(handle);
    if (wrong) return wrong;
    const CUstream_st *queue = resolve(stream);
    if (!queue || queue->device != handle->device)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "a cuBLAS handle given a stream that its device does not have");
    handle->stream = stream;
    handle->workspace = false;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes)
{
    ENTER_CUBLAS(CUBLAS_STATUS_INTERNAL_ERROR);
    cublasStatus_t wrong = check_handle(handle);
    if (wrong) return wrong;
    const Allocation *a = find(workspace, bytes);
    if (bytes && (!a || a->place != Place::DEVICE || a->device != handle->device))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a workspace outside device memory");
    if ((uintptr_t)workspace % 256)
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "a workspace that is not aligned to 256 bytes");
    handle->workspace = true;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    ENTER_CUBLAS(CUBLAS_STATUS_INTERNAL_ERROR);
    cublasStatus_t wrong = check_handle(handle);
    if (wrong) return wrong;
    handle->math_mode = (int)mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
    int n, int k, const void *alpha, const void *a, cudaDataType a_type, int lda,
    long long int a_stride, const void *b, cudaDataType b_type, int ldb,
    long long int b_stride, const void *beta, void *c, cudaDataType c_type, int ldc,
    long long int c_stride, int batch, cublasComputeType_t compute, cublasGemmAlgo_t)
{
    ENTER_CUBLAS(CUBLAS_STATUS_EXECUTION_FAILED);
    cublasStatus_t wrong = check_handle(handle);
    if (wrong) return wrong;
    if (m < 0 || n < 0 || k < 0 || batch < 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a product of a negative size");
    Operand operand;
    if (!operand_of(a_type, b_type, c_type, compute, handle->math_mode, &operand))
        return refuse(CUBLAS_STATUS_NOT_SUPPORTED,
                      "a product of types that carry does not use");
    if (operand == Operand::BF16 && state()->device.major < 8)
        return refuse(CUBLAS_STATUS_ARCH_MISMATCH,
                      "a product in bf16 on a device before sm_80");
    if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
    if (k == 0)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a product without a k to sum over");
    if (!alpha || !beta || find(alpha, 0) || find(beta, 0))
        return refuse(CUBLAS_STATUS_INVALID_VALUE,
                      "scalars that are not in the host's own memory");
    const unsigned um = (unsigned)m, un = (unsigned)n, uk = (unsigned)k;
    const unsigned count = (unsigned)batch;
    const bool ta = transa != CUBLAS_OP_N, tb = transb != CUBLAS_OP_N;
    const size_t element = operand_bytes(operand);
    const Extent in_a = {a, ta ? uk : um, ta ? um : uk, lda, a_stride, element};
    const Extent in_b = {b, tb ? un : uk, tb ? uk : un, ldb, b_stride, element};
    const Extent out = {c, um, un, ldc, c_stride, sizeof(float)};
    for (const Extent *e : {&in_a, &in_b, &out})
        if ((wrong = check_extent(*e, count, handle->device))) return wrong;
    if (count > 1 && (size_t)c_stride < (size_t)(n - 1) * (size_t)ldc + (size_t)m)
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "products that overlap in c");
    if (overlap(out, in_a, count) || overlap(out, in_b, count))
        return refuse(CUBLAS_STATUS_INVALID_VALUE, "a product over its own operand");
    const CUstream_st *queue = resolve(handle->stream);
    if (!queue)
        return refuse(CUBLAS_STATUS_EXECUTION_FAILED,
                      "a product in a stream that does not exist");
    if (queue->capture && !handle->workspace)
        return refuse(CUBLAS_STATUS_EXECUTION_FAILED,
                      "a product captured without a workspace of its own");
    load_once(handle->loaded, {(unsigned)operand, um, uk, size_class(un)});
    Product p;
    p.m = um;
    p.n = un;
    p.k = uk;
    p.batch = count;
    p.operand = operand;
    p.a = {a, (size_t)lda, ta ? Layout::TRANSPOSED : Layout::PLAIN};
    p.b = {b, (size_t)ldb, tb ? Layout::TRANSPOSED : Layout::PLAIN};
    p.alpha = *static_cast<const float *>(alpha);
    p.beta = *static_cast<const float *>(beta);
    p.c = static_cast<float *>(c);
    p.c_stride = (size_t)ldc;
    cudaError_t error = enqueue_work(handle->stream, work([=]() mutable {
                                         state()->seen.launches++;
                                         state()->seen.products++;
                                         Product one = p;
                                         for (unsigned i = 0; i < count; i++) {
                                             one.a.data = static_cast<const char *>(a) +
                                                          i * (size_t)a_stride * element;
                                             one.b.data = static_cast<const char *>(b) +
                                                          i * (size_t)b_stride * element;
                                             one.c = p.c + i * (size_t)c_stride;
                                             product(one);
                                         }
                                         return cudaSuccess;
                                     }));
    return error ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa,
                            cublasOperation_t transb, int m, int n, int k,
                            const void *alpha, const void *a, cudaDataType a_type,
                            int lda, const void *b, cudaDataType b_type, int ldb,
                            const void *beta, void *c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
{
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, a, a_type,
                                      lda, 0, b, b_type, ldb, 0, beta, c, c_type, ldc, 0,
                                      1, compute, algorithm);
}

#define CUBLAS_STATUSES(X)                                        \
    X(CUBLAS_STATUS_SUCCESS, "success")                           \
    X(CUBLAS_STATUS_NOT_INITIALIZED, "library not initialised")   \
    X(CUBLAS_STATUS_ALLOC_FAILED, "allocation failed")            \
    X(CUBLAS_STATUS_INVALID_VALUE, "unsupported value")           \
    X(CUBLAS_STATUS_ARCH_MISMATCH, "not on this architecture")    \
    X(CUBLAS_STATUS_MAPPING_ERROR, "memory could not be reached") \
    X(CUBLAS_STATUS_EXECUTION_FAILED, "a kernel failed")          \
    X(CUBLAS_STATUS_INTERNAL_ERROR, "internal error")             \
    X(CUBLAS_STATUS_NOT_SUPPORTED, "not supported")               \
    X(CUBLAS_STATUS_LICENSE_ERROR, "licence error")

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
#define STATUS_NAME(code, text) \
    case code:                  \
        return #code;
        CUBLAS_STATUSES(STATUS_NAME)
#undef STATUS_NAME
    }
    return "CUBLAS_STATUS_UNKNOWN";
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    switch (status) {
#define STATUS_TEXT(code, text) \
    case code:                  \
        return text;
        CUBLAS_STATUSES(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "an unknown status";
}

} // extern "C"
