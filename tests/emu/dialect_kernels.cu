/* See dialect_kernels.h. */
#include "dialect_kernels.h"

__global__ void dialect_warp(int *out, unsigned n)
{
    unsigned lane = threadIdx.x;
    int value = (int)lane * 10;
    out[lane] = dev::shuffle(value, n);
    out[32 + lane] = dev::shuffle_xor(value, n);
    out[64 + lane] = dev::shuffle_up(value, n);
    out[96 + lane] = dev::shuffle_down(value, n);
    out[128 + lane] = (int)dev::ballot(lane & 1);
}

__global__ void dialect_mask(unsigned *out, unsigned mask)
{
    DEV_SHARED(unsigned, seen, [32]);
    unsigned lane = threadIdx.x;
    seen[lane] = lane;
    if (mask >> lane & 1) {
        dev::sync_warp(mask);
        unsigned first = seen[0];
        first += dev::shuffle(lane + 3, 0, mask);
        out[lane] = dev::ballot(1, mask) + first;
    } else {
        out[lane] = 7;
    }
}

__global__ void dialect_block(const float *in, float *out)
{
    DEV_SHARED(float, turned, [256]);
    unsigned i = threadIdx.x, n = blockDim.x;
    float value = in[i];
    for (int round = 0; round < 3; round++) {
        turned[n - 1 - i] = value;
        dev::sync_block();
        value = turned[i];
        dev::sync_block();
    }
    out[i] = value;
}

__global__ void dialect_named(const int *in, int *out)
{
    DEV_SHARED(int, half, [2][64]);
    unsigned i = threadIdx.x, which = i / 64;
    half[which][i % 64] = in[i];
    dev::sync_named(1 + which, 64);
    out[i] = half[which][i % 64 ^ 63];
}

__global__ void dialect_matrix(const uint16_t *in, uint32_t *out)
{
    DEV_SHARED_ALIGNED(16, uint16_t, tile, [4][8][8]);
    unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 256; i += 64)
        tile[i / 64][i / 8 % 8][i % 8] = in[i];
    dev::sync_block();
    if (lane >= 32) return;
    const void *row = tile[lane / 8][lane % 8];
    uint32_t one[1], two[2], four[4];
    dev::load_matrix_x1(one, row);
    out[lane] = one[0];
    dev::load_matrix_x2(two, row);
    for (int i = 0; i < 2; i++)
        out[32 * (1 + i) + lane] = two[i];
    dev::load_matrix_x4(four, row);
    for (int i = 0; i < 4; i++)
        out[32 * (3 + i) + lane] = four[i];
    dev::load_matrix_x2_transposed(two, row);
    for (int i = 0; i < 2; i++)
        out[32 * (7 + i) + lane] = two[i];
    dev::load_matrix_x4_transposed(four, row);
    for (int i = 0; i < 4; i++)
        out[32 * (9 + i) + lane] = four[i];
    out[32 * 13 + lane] = dev::transpose_matrix(one[0]);
}

#define DIALECT_MMA(name, a_registers, b_registers)                                      \
    __global__ void dialect_##name(const uint32_t *a, const uint32_t *b, const float *c, \
                                   float *d)                                             \
    {                                                                                    \
        unsigned lane = threadIdx.x;                                                     \
        uint32_t fa[a_registers], fb[b_registers];                                       \
        float fc[4], fd[4];                                                              \
        for (int i = 0; i < a_registers; i++)                                            \
            fa[i] = a[i * 32 + lane];                                                    \
        for (int i = 0; i < b_registers; i++)                                            \
            fb[i] = b[i * 32 + lane];                                                    \
        for (int i = 0; i < 4; i++)                                                      \
            fc[i] = c[i * 32 + lane];                                                    \
        dev::name(fd, fa, fb, fc);                                                       \
        for (int i = 0; i < 4; i++)                                                      \
            d[i * 32 + lane] = fd[i];                                                    \
    }
DIALECT_MMA(mma_f16_k8, 2, 1)
DIALECT_MMA(mma_bf16, 4, 2)
DIALECT_MMA(mma_f16, 4, 2)
DIALECT_MMA(mma_tf32, 4, 2)

__global__ void dialect_to_tf32(const float *in, uint32_t *out)
{
    out[threadIdx.x] = dev::to_tf32(in[threadIdx.x]);
}

__global__ void dialect_copy(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED_ALIGNED(16, uint32_t, tile, [3][64][4]);
    unsigned i = threadIdx.x;
    for (unsigned t = 0; t < 3; t++) {
        dev::copy_async<16>(tile[t][i], in + (t * 64 + i) * 4, t == 2 ? 12 : 16);
        dev::copy_async_commit();
    }
    dev::copy_async_wait<1>();
    dev::sync_block();
    for (unsigned t = 0; t < 2; t++)
        for (unsigned w = 0; w < 4; w++)
            out[(t * 64 + i) * 4 + w] = tile[t][63 - i][w];
    dev::copy_async_wait<0>();
    dev::sync_block();
    for (unsigned w = 0; w < 4; w++)
        out[(2 * 64 + i) * 4 + w] = tile[2][63 - i][w];
}

__global__ void dialect_copy_narrow(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED_ALIGNED(8, uint32_t, one, [32]);
    DEV_SHARED_ALIGNED(8, uint32_t, two, [32][2]);
    unsigned i = threadIdx.x;
    dev::copy_async<4>(&one[i], in + i);
    dev::copy_async<8>(two[i], in + 2 * i);
    dev::copy_async_commit();
    dev::copy_async_wait<0>();
    dev::sync_block();
    out[i] = one[31 - i];
    out[32 + 2 * i] = two[31 - i][0];
    out[32 + 2 * i + 1] = two[31 - i][1];
}

__global__ void dialect_atomic(unsigned *sum, float *float_sum)
{
    dev::atomic_add(sum, 1u);
    dev::atomic_add(float_sum, 1.0f);
}

__global__ void dialect_flag(unsigned *flag, unsigned *data, unsigned *out)
{
    if (blockIdx.x == 0) {
        data[threadIdx.x] = 5 * threadIdx.x;
        dev::sync_block();
        if (threadIdx.x == 0) dev::store_release(flag, 1);
    } else {
        if (threadIdx.x == 0)
            while (dev::load_acquire(flag) != 1) {
            }
        dev::sync_block();
        out[threadIdx.x] = data[threadIdx.x];
    }
}

__global__ void dialect_grid(unsigned *arrivals, unsigned *cells, int rounds)
{
    unsigned blocks = gridDim.x, block = blockIdx.x;
    for (int round = 0; round < rounds; round++) {
        const unsigned *from = cells + round % 2 * blocks;
        unsigned *to = cells + (round + 1) % 2 * blocks;
        unsigned value = from[(block + blocks - 1) % blocks];
        if (threadIdx.x == 31) to[block] = value + 1;
        dev::grid_barrier(arrivals, (unsigned)(round + 1) * blocks);
    }
}

__global__ void dialect_cluster(uint32_t *out)
{
    DEV_SHARED_ALIGNED(16, uint32_t, mine, [32]);
    unsigned rank = dev::cluster_rank(), lane = threadIdx.x;
    mine[lane] = 100 * rank + lane;
    dev::sync_cluster();
    dev::cluster_address next = dev::map_shared(mine, (rank + 1) % dev::cluster_size());
    out[blockIdx.x * 32 + lane] = dev::load_cluster(dev::advance(next, (31 - lane) * 4));
    dev::sync_cluster();
}

/* Every round a block sends its words to the next one and waits for those of the one before, in buffer
 * round % 2. Nothing tells a sender that its words were read, hence the cluster barrier after two rounds:
 * it comes between the reading of a buffer and its next use. */
template <int MODE> static __device__ __forceinline__ void ring(uint32_t *out, int rounds)
{
    DEV_SHARED_ALIGNED(16, uint32_t, words, [2][32][4]);
    DEV_SHARED_ALIGNED(8, uint64_t, full, [2]);
    unsigned rank = dev::cluster_rank(), next = (rank + 1) % dev::cluster_size();
    unsigned lane = threadIdx.x;
    if (lane == 0) {
        for (int i = 0; i < 2; i++)
            dev::mbarrier_init(&full[i], MODE == RING_ASYNC ? 1 : 32);
        dev::fence_mbarrier_init();
        if (MODE == RING_ASYNC)
            for (int i = 0; i < 2; i++)
                dev::mbarrier_arrive_expect(&full[i], 512);
    }
    dev::sync_cluster();
    uint32_t mine[4] = {1000 * rank + lane, 0, lane, rank};
    for (int round = 0; round < rounds; round++) {
        int buffer = round % 2;
        dev::cluster_address to = dev::map_shared(words[buffer][lane], next);
        dev::cluster_address its_full = dev::map_shared(&full[buffer], next);
        if (MODE == RING_ASYNC) {
            dev::store_async(to, mine, its_full);
        } else {
            dev::store_cluster(to, mine);
            dev::mbarrier_arrive_cluster(its_full);
        }
        dev::mbarrier_wait_cluster(&full[buffer], round / 2 % 2);
        if (MODE == RING_ASYNC && lane == 0 && round + 2 < rounds)
            dev::mbarrier_arrive_expect(&full[buffer], 512);
        for (int i = 0; i < 4; i++)
            mine[i] = words[buffer][lane][i];
        mine[1]++;
        if (buffer == 1) dev::sync_cluster();
    }
    for (int i = 0; i < 4; i++)
        out[(blockIdx.x * 32 + lane) * 4 + i] = mine[i];
    /* Every store to a block is one that the block has waited for: it may leave. */
}

__global__ void dialect_ring_async(uint32_t *out, int rounds)
{
    ring<RING_ASYNC>(out, rounds);
}

__global__ void dialect_ring_plain(uint32_t *out, int rounds)
{
    ring<RING_PLAIN>(out, rounds);
}

__global__ void dialect_mbarrier(uint32_t *out, int rounds)
{
    DEV_SHARED(uint32_t, buffer, [32]);
    DEV_SHARED_ALIGNED(8, uint64_t, full, [1]);
    DEV_SHARED_ALIGNED(8, uint64_t, empty, [1]);
    unsigned lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        dev::mbarrier_init(full, 32);
        dev::mbarrier_init(empty, 32);
    }
    dev::sync_block();
    if (threadIdx.x < 32) {
        for (int round = 0; round < rounds; round++) {
            if (round > 0) dev::mbarrier_wait(empty, (round - 1) % 2);
            buffer[lane] = 100 * round + lane;
            dev::mbarrier_arrive(full);
        }
    } else {
        for (int round = 0; round < rounds; round++) {
            dev::mbarrier_wait(full, round % 2);
            out[round * 32 + lane] = buffer[31 - lane];
            dev::mbarrier_arrive(empty);
        }
    }
}

__global__ void dialect_dynamic(unsigned *out)
{
    DEV_SHARED_DYNAMIC(raw);
    unsigned *words = reinterpret_cast<unsigned *>(raw);
    words[blockDim.x - 1 - threadIdx.x] = threadIdx.x;
    dev::sync_block();
    out[threadIdx.x] = words[threadIdx.x];
}

__global__ void dialect_local(const int *in, int *out)
{
    int values[32];
    for (int i = 0; i < 32; i++)
        values[in[i] % 32] = i;
    out[threadIdx.x] = values[threadIdx.x % 32];
}
