/* One small kernel for each function of the dialect (kernels/cuda/device.cuh). What a kernel leaves in `out`
 * depends on `in` alone, so the emulator and a GPU can be compared bit for bit. `out` holds DUMP_POISON in
 * every word before; counters count from there. dump_cases.cu says how each is launched. */
#ifndef CY_TESTS_GPU_DUMP_KERNELS_H
#define CY_TESTS_GPU_DUMP_KERNELS_H

#include "kernels/cuda/device.cuh"

#define DUMP_POISON 0xabababab

typedef void dump_kernel(const uint32_t *in, uint32_t *out);

#define DUMP_KERNELS(X)          \
    X(shuffle)                   \
    X(shuffle_xor)               \
    X(shuffle_up)                \
    X(shuffle_down)              \
    X(ballot)                    \
    X(warp_sum)                  \
    X(warp_max)                  \
    X(sync_warp)                 \
    X(sync_block)                \
    X(sync_named)                \
    X(shared_dynamic)            \
    X(store_release)             \
    X(add_release)               \
    X(grid_barrier)              \
    X(atomic_add)                \
    X(atomic_add_float)          \
    X(load_read_only)            \
    X(copy_async_16)             \
    X(copy_async_8)              \
    X(copy_async_4)              \
    X(mma_bf16)                  \
    X(mma_f16)                   \
    X(mma_f16_k8)                \
    X(mma_tf32)                  \
    X(to_tf32)                   \
    X(load_matrix_x1)            \
    X(load_matrix_x2)            \
    X(load_matrix_x4)            \
    X(load_matrix_x2_transposed) \
    X(load_matrix_x4_transposed) \
    X(transpose_matrix)          \
    X(cluster_rank)              \
    X(load_cluster)              \
    X(load_cluster_16)           \
    X(store_cluster)             \
    X(mbarrier)                  \
    X(mbarrier_arrive_cluster)   \
    X(mbarrier_expect)           \
    X(store_async)

#define DUMP_DECLARE(name) __global__ void dump_##name(const uint32_t *in, uint32_t *out);
DUMP_KERNELS(DUMP_DECLARE)
#undef DUMP_DECLARE

#endif
