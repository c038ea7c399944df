/* wgmma of sm_90a on operands in shared memory, again and again. No emulator has run it, and no GPU: only the sum of all
 * products is compared with the host's, which does not depend on how the operands lie (part_arithmetic.cu). */
#include "probe_raw.h"

#include <cuda_runtime.h>

namespace probe
{

namespace
{

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

const unsigned BATCH = 8; /* products in flight */

/* An operand without swizzling, K along its rows: matrices of 8 rows by 16 bytes, 128 bytes each, one after the other.
 * Along K they are `leading` bytes apart, along M or N `stride` bytes. */
__device__ __forceinline__ uint64_t descriptor(uint32_t address, uint32_t leading,
                                               uint32_t stride)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32;
}

#define WGMMA_8(i)                                                               \
    "%" #i "0, %" #i "1, %" #i "2, %" #i "3, %" #i "4, %" #i "5, %" #i "6, %" #i \
    "7, %" #i "8, %" #i "9, "
#define D8(i)                                                                   \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), \
        "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

/* d [64][256] += a [64][16] * b [16][256]; 128 numbers of d in each of 128 threads. */
#define WGMMA(type)                                                                      \
    asm volatile("{wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {"      \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " WGMMA_8(1) WGMMA_8(2)        \
                     WGMMA_8(3) WGMMA_8(4) WGMMA_8(5) WGMMA_8(6) WGMMA_8(7) WGMMA_8(8)   \
                         WGMMA_8(9) WGMMA_8(10)                                          \
                             WGMMA_8(11) "%120, %121, %122, %123, %124, %125, %126, "    \
                                         "%127}, %128, %129, 1, 1, 1, 0, 0;}"            \
                 : D8(0), D8(8), D8(16), D8(24), D8(32), D8(40), D8(48), D8(56), D8(64), \
                   D8(72), D8(80), D8(88), D8(96), D8(104), D8(112), D8(120)             \
                 : "l"(of_a), "l"(of_b))

#endif

template <raw_type TYPE>
__global__ void __launch_bounds__(128, 1)
    wgmma_often(const uint32_t *a, const uint32_t *b, float *out, unsigned rounds)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __shared__ __align__(128) uint32_t in_a[512], in_b[2048];
    __shared__ float sums[128];
    for (unsigned i = threadIdx.x; i < 512; i += 128)
        in_a[i] = a[i];
    for (unsigned i = threadIdx.x; i < 2048; i += 128)
        in_b[i] = b[i];
    /* wgmma reads shared memory by another way than the stores wrote it. */
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    const uint64_t of_a = descriptor(dev::shared_address(in_a), 128, 256);
    const uint64_t of_b = descriptor(dev::shared_address(in_b), 128, 256);
    float d[128] = {};
    for (unsigned round = 0; round < rounds; round += BATCH) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (unsigned i = 0; i < BATCH; i++) {
            if (TYPE == RAW_BF16) WGMMA("bf16");
            else WGMMA("f16");
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 128; i++)
        sum += d[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 128; i++)
            sum += sums[i];
        out[blockIdx.x] = sum;
    }
#else
    (void)a, (void)b, (void)out, (void)rounds;
    __trap();
#endif
}

} // namespace

cudaError_t raw_wgmma(cudaStream_t cuda_stream, raw_type type, unsigned blocks,
                      const uint32_t *a, const uint32_t *b, float *out, unsigned rounds)
{
    return dev::launch(type == RAW_BF16 ? wgmma_often<RAW_BF16> : wgmma_often<RAW_F16>,
                       {dim3(blocks), dim3(128), 0, 0, 0}, cuda_stream, a, b, out,
                       rounds);
}

} // namespace probe
