/* tests/emu/toolkit/cublas_v2.h, with which machines without the toolkit build, against the toolkit's own.
 * Compiling is the test: a value, a parameter or a result that differs is an error. */
#include <cublas_v2.h>

/* Ours once more, in a namespace and under other names. */
namespace ours
{
#undef cublasCreate
#undef cublasDestroy
#undef cublasGetVersion
#undef cublasSetWorkspace
#undef cublasSetStream
#define cublasCreate_v2            our_create
#define cublasDestroy_v2           our_destroy
#define cublasGetVersion_v2        our_version
#define cublasSetWorkspace_v2      our_workspace
#define cublasSetStream_v2         our_stream
#define cublasSetMathMode          our_math
#define cublasGetStatusName        our_name
#define cublasGetStatusString      our_string
#define cublasGemmEx               our_gemm
#define cublasGemmStridedBatchedEx our_gemms
#include "toolkit/cublas_v2.h"
#undef cublasCreate_v2
#undef cublasDestroy_v2
#undef cublasGetVersion_v2
#undef cublasSetWorkspace_v2
#undef cublasSetStream_v2
#undef cublasSetMathMode
#undef cublasGetStatusName
#undef cublasGetStatusString
#undef cublasGemmEx
#undef cublasGemmStridedBatchedEx
} // namespace ours

#define SAME_VALUE(name) static_assert((int)::name == (int)ours::name, #name)
SAME_VALUE(CUBLAS_STATUS_SUCCESS);
SAME_VALUE(CUBLAS_STATUS_NOT_INITIALIZED);
SAME_VALUE(CUBLAS_STATUS_ALLOC_FAILED);
SAME_VALUE(CUBLAS_STATUS_INVALID_VALUE);
SAME_VALUE(CUBLAS_STATUS_ARCH_MISMATCH);
SAME_VALUE(CUBLAS_STATUS_MAPPING_ERROR);
SAME_VALUE(CUBLAS_STATUS_EXECUTION_FAILED);
SAME_VALUE(CUBLAS_STATUS_INTERNAL_ERROR);
SAME_VALUE(CUBLAS_STATUS_NOT_SUPPORTED);
SAME_VALUE(CUBLAS_STATUS_LICENSE_ERROR);
SAME_VALUE(CUBLAS_OP_N);
SAME_VALUE(CUBLAS_OP_T);
SAME_VALUE(CUBLAS_OP_C);
SAME_VALUE(CUBLAS_COMPUTE_32F);
SAME_VALUE(CUBLAS_COMPUTE_32F_PEDANTIC);
SAME_VALUE(CUBLAS_COMPUTE_32F_FAST_TF32);
SAME_VALUE(CUBLAS_GEMM_DEFAULT);
SAME_VALUE(CUBLAS_DEFAULT_MATH);
SAME_VALUE(CUBLAS_PEDANTIC_MATH);
SAME_VALUE(CUBLAS_TF32_TENSOR_OP_MATH);
SAME_VALUE(CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);

/* Our function's type with their types in it. */
template <class T> struct Theirs {
    using type = T;
};
#define THEIRS(name)                        \
    template <> struct Theirs<ours::name> { \
        using type = ::name;                \
    }
THEIRS(cublasStatus_t);
THEIRS(cublasHandle_t);
THEIRS(cublasOperation_t);
THEIRS(cublasComputeType_t);
THEIRS(cublasGemmAlgo_t);
THEIRS(cublasMath_t);
template <> struct Theirs<ours::cublasHandle_t *> {
    using type = ::cublasHandle_t *;
};
template <class R, class... P> struct Theirs<R (*)(P...)> {
    using type = typename Theirs<R>::type (*)(typename Theirs<P>::type...);
};

/* Taking the address picks an overload of exactly this type, or fails to compile. */
#define SAME_TYPE(their_name, our_name) \
    (static_cast<Theirs<decltype(&ours::our_name)>::type>(&::their_name) != nullptr)

int main()
{
    bool all = SAME_TYPE(cublasCreate_v2, our_create) &&
               SAME_TYPE(cublasDestroy_v2, our_destroy) &&
               SAME_TYPE(cublasGetVersion_v2, our_version) &&
               SAME_TYPE(cublasSetWorkspace_v2, our_workspace) &&
               SAME_TYPE(cublasSetStream_v2, our_stream) &&
               SAME_TYPE(cublasSetMathMode, our_math) &&
               SAME_TYPE(cublasGetStatusName, our_name) &&
               SAME_TYPE(cublasGetStatusString, our_string) &&
               SAME_TYPE(cublasGemmEx, our_gemm) &&
               SAME_TYPE(cublasGemmStridedBatchedEx, our_gemms);
    return !all;
}
