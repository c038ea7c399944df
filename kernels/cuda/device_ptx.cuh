/* The device's side of the dialect (device.cuh): thin functions of one or two instructions, and the only
 * file with inline PTX. No logic: what is here is compiled in every build but runs on a GPU only.
 *
 * An instruction that the architecture lacks becomes a trap; the host chooses another kernel before
 * that (mma_bf16, mma_tf32, mma_f16: sm_80; mma_f16_k8, load_matrix*: sm_75; clusters, mbarrier_*,
 * store_async: sm_90). copy_async falls back to a plain copy below sm_80. */
#ifndef CY_KERNELS_CUDA_DEVICE_PTX_CUH
#define CY_KERNELS_CUDA_DEVICE_PTX_CUH

#include <cuda_runtime.h>

#define DEV_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define DEV_SHARED_ALIGNED(bytes, type, name, ...) \
    __shared__ __align__(bytes)                    \
    type name __VA_ARGS__
#define DEV_SHARED_DYNAMIC(name)                                           \
    extern __shared__ __align__(1024) unsigned char dev_shared_dynamic_[]; \
    unsigned char *name = dev_shared_dynamic_

#define DEV_FUNCTION __device__ __forceinline__

namespace dev
{

/* The emulator learns here how to call a kernel; a device knows. */
template <class K> inline void register_kernel(K)
{
}

/* ---- threads ---- */

DEV_FUNCTION void sync_block()
{
    __syncthreads();
}

/* Barrier `id` (1..15) among `threads` threads, a multiple of 32. */
DEV_FUNCTION void sync_named(unsigned id, unsigned threads)
{
    asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

DEV_FUNCTION void sync_warp(unsigned mask = ~0u)
{
    __syncwarp(mask);
}

template <class T> DEV_FUNCTION T shuffle(T value, unsigned source, unsigned mask = ~0u)
{
    return __shfl_sync(mask, value, (int)source);
}

template <class T> DEV_FUNCTION T shuffle_xor(T value, unsigned bits, unsigned mask = ~0u)
{
    return __shfl_xor_sync(mask, value, (int)bits);
}

template <class T>
DEV_FUNCTION T shuffle_up(T value, unsigned distance, unsigned mask = ~0u)
{
    return __shfl_up_sync(mask, value, distance);
}

template <class T>
DEV_FUNCTION T shuffle_down(T value, unsigned distance, unsigned mask = ~0u)
{
    return __shfl_down_sync(mask, value, distance);
}

DEV_FUNCTION unsigned ballot(int predicate, unsigned mask = ~0u)
{
    return __ballot_sync(mask, predicate);
}

/* ---- memory ---- */

DEV_FUNCTION unsigned load_acquire(const unsigned *p)
{
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                 : "=r"(value)
                 : "l"(__cvta_generic_to_global(p))
                 : "memory");
    return value;
}

DEV_FUNCTION void store_release(unsigned *p, unsigned value)
{
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)),
                 "r"(value)
                 : "memory");
}

DEV_FUNCTION void add_release(unsigned *p, unsigned value)
{
    asm volatile(
        "red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)),
        "r"(value)
        : "memory");
}

/* Relaxed; returns the value before. */
DEV_FUNCTION unsigned atomic_add(unsigned *p, unsigned value)
{
    return atomicAdd(p, value);
}

DEV_FUNCTION float atomic_add(float *p, float value)
{
    return atomicAdd(p, value);
}

DEV_FUNCTION void expect_cooperative()
{
}

/* For data that nobody writes while the kernel runs. */
template <class T> DEV_FUNCTION T load_read_only(const T *p)
{
    return __ldg(p);
}

DEV_FUNCTION void prefetch_l2(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(p)));
}

DEV_FUNCTION uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- asynchronous copies ---- */

/* Copies the first source_bytes of BYTES (4, 8, 16; both ends aligned to them) and zeroes the rest. */
template <int BYTES>
DEV_FUNCTION void copy_async(void *to_shared, const void *from_global,
                             unsigned source_bytes = BYTES)
{
#if __CUDA_ARCH__ >= 800
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                         shared_address(to_shared)),
                     "l"(__cvta_generic_to_global(from_global)), "r"(source_bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(
                         shared_address(to_shared)),
                     "l"(__cvta_generic_to_global(from_global)), "n"(BYTES),
                     "r"(source_bytes)
                     : "memory");
#else
    for (unsigned i = 0; i < BYTES; i++)
        static_cast<unsigned char *>(to_shared)[i] =
            i < source_bytes ? static_cast<const unsigned char *>(from_global)[i] : 0;
#endif
}

DEV_FUNCTION void copy_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until at most PENDING of this thread's groups are under way. */
template <int PENDING> DEV_FUNCTION void copy_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

/* ---- matrices of a warp (layouts: tests/emu/device_emu_matrix.h, the PTX manual's) ---- */

/* d = a [16 x 16] * b [16 x 8] + c. */
DEV_FUNCTION void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           const float (&c)[4])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
    __trap();
#endif
}

DEV_FUNCTION void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          const float (&c)[4])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
    __trap();
#endif
}

/* d = a [16 x 8] * b [8 x 8] + c. */
DEV_FUNCTION void mma_f16_k8(float (&d)[4], const uint32_t (&a)[2],
                             const uint32_t (&b)[1], const float (&c)[4])
{
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

DEV_FUNCTION void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           const float (&c)[4])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
          "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
    __trap();
#endif
}

DEV_FUNCTION uint32_t to_tf32(float x)
{
    uint32_t bits = 0;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
#else
    __trap();
#endif
    return bits;
}

/* 8 x 8 matrices of 16-bit values: lane l gives the address of row l % 8 of matrix l / 8. Lanes past
 * the last matrix give any address of shared memory. */
DEV_FUNCTION void load_matrix_x1(uint32_t (&r)[1], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(shared_address(row))
                 : "memory");
}

DEV_FUNCTION void load_matrix_x2(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

DEV_FUNCTION void load_matrix_x4(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEV_FUNCTION void load_matrix_x2_transposed(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

DEV_FUNCTION void load_matrix_x4_transposed(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEV_FUNCTION uint32_t transpose_matrix(uint32_t fragment)
{
    uint32_t transposed;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
                 : "=r"(transposed)
                 : "r"(fragment));
    return transposed;
}

/* ---- clusters ---- */

/* Another block's shared memory in the cluster's window; an integer, so that it fits a register. */
typedef uint32_t cluster_address;

DEV_FUNCTION cluster_address advance(cluster_address address, unsigned bytes)
{
    return address + bytes;
}

#if __CUDA_ARCH__ >= 900

DEV_FUNCTION unsigned cluster_rank()
{
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

DEV_FUNCTION unsigned cluster_size()
{
    unsigned size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}

/* All threads of all blocks of the cluster; orders their memory. */
DEV_FUNCTION void sync_cluster()
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n\t"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

/* The same place in the shared memory of block `rank`. */
DEV_FUNCTION cluster_address map_shared(const void *shared, unsigned rank)
{
    cluster_address mapped;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(mapped)
        : "r"(shared_address(shared)), "r"(rank));
    return mapped;
}

DEV_FUNCTION uint32_t load_cluster(cluster_address from)
{
    uint32_t word;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(word) : "r"(from) : "memory");
    return word;
}

DEV_FUNCTION void store_cluster(cluster_address to, const uint32_t (&words)[4])
{
    asm volatile("st.shared::cluster.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
}

DEV_FUNCTION void mbarrier_init(uint64_t *barrier, unsigned arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}

/* After mbarrier_init, before the sync_cluster that lets other blocks use the barriers. */
DEV_FUNCTION void fence_mbarrier_init()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEV_FUNCTION void mbarrier_arrive(uint64_t *barrier)
{
    asm volatile("{\n\t.reg .b64 state;\n\t"
                 "mbarrier.arrive.release.cta.shared::cta.b64 state, [%0];\n\t}" ::"r"(
                     shared_address(barrier))
                 : "memory");
}

/* One arrival, and `bytes` more to come by store_async. */
DEV_FUNCTION void mbarrier_arrive_expect(uint64_t *barrier, unsigned bytes)
{
    asm volatile(
        "{\n\t.reg .b64 state;\n\t"
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 state, [%0], %1;\n\t}" ::
            "r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
}

DEV_FUNCTION void mbarrier_expect(uint64_t *barrier, unsigned bytes)
{
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

DEV_FUNCTION void mbarrier_arrive_cluster(cluster_address barrier)
{
    asm volatile(
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier)
        : "memory");
}

/* True once the phase of this parity is complete; then what its arrivals released is visible: to the
 * block, or to the cluster (whose acquire costs an invalidation of L1). */
DEV_FUNCTION bool mbarrier_try_wait(uint64_t *barrier, unsigned parity)
{
    uint32_t done;
    asm volatile("{\n\t.reg .pred p;\n\t"
                 "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
    return done;
}

DEV_FUNCTION bool mbarrier_try_wait_cluster(uint64_t *barrier, unsigned parity)
{
    uint32_t done;
    asm volatile(
        "{\n\t.reg .pred p;\n\t"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, p;\n\t}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    return done;
}

/* 16 bytes to another block, or this one; `barrier`, in the block of `to`, counts them when they are
 * there. */
DEV_FUNCTION void store_async(cluster_address to, const uint32_t (&words)[4],
                              cluster_address barrier)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.u32 "
                 "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3]), "r"(barrier)
                 : "memory");
}

#else /* before sm_90 */

DEV_FUNCTION unsigned cluster_rank()
{
    return 0;
}

DEV_FUNCTION unsigned cluster_size()
{
    return 1;
}

DEV_FUNCTION void sync_cluster()
{
    __trap();
}

DEV_FUNCTION cluster_address map_shared(const void *, unsigned)
{
    __trap();
    return 0;
}

DEV_FUNCTION uint32_t load_cluster(cluster_address)
{
    __trap();
    return 0;
}

DEV_FUNCTION void store_cluster(cluster_address, const uint32_t (&)[4])
{
    __trap();
}

DEV_FUNCTION void mbarrier_init(uint64_t *, unsigned)
{
    __trap();
}

DEV_FUNCTION void fence_mbarrier_init()
{
    __trap();
}

DEV_FUNCTION void mbarrier_arrive(uint64_t *)
{
    __trap();
}

DEV_FUNCTION void mbarrier_arrive_expect(uint64_t *, unsigned)
{
    __trap();
}

DEV_FUNCTION void mbarrier_expect(uint64_t *, unsigned)
{
    __trap();
}

DEV_FUNCTION void mbarrier_arrive_cluster(cluster_address)
{
    __trap();
}

DEV_FUNCTION bool mbarrier_try_wait(uint64_t *, unsigned)
{
    __trap();
    return true;
}

DEV_FUNCTION bool mbarrier_try_wait_cluster(uint64_t *, unsigned)
{
    __trap();
    return true;
}

DEV_FUNCTION void store_async(cluster_address, const uint32_t (&)[4], cluster_address)
{
    __trap();
}

#endif

DEV_FUNCTION void mbarrier_wait(uint64_t *barrier, unsigned parity)
{
    while (!mbarrier_try_wait(barrier, parity)) {
    }
}

DEV_FUNCTION void mbarrier_wait_cluster(uint64_t *barrier, unsigned parity)
{
    while (!mbarrier_try_wait_cluster(barrier, parity)) {
    }
}

} // namespace dev

#endif
