/* See dump_kernels.h. Compiled by nvcc and for the emulator; once more for the emulator with wrong_dialect.h,
 * where one function at a time does something wrong, which the dump must show. */
#include "dump_kernels.h"

#ifdef DUMP_WRONG
#include "wrong_dialect.h"
#endif

/* out [4 distances][32 words, then 32 values of 64 bits in halves], and [32] where half a warp meets alone:
 * the half from which a distance of 3 does not lead out. */
#define DUMP_SHUFFLE(name, half)                                                    \
    __global__ void dump_##name(const uint32_t *in, uint32_t *out)                  \
    {                                                                               \
        unsigned lane = threadIdx.x;                                                \
        unsigned long long both = in[32 + lane] | (unsigned long long)in[64 + lane] \
                                                      << 32;                        \
        const unsigned distances[4] = {0, 1, 13, 31};                               \
        for (int round = 0; round < 4; round++) {                                   \
            uint32_t *to = out + 96 * round;                                        \
            to[lane] = dev::name(in[lane], distances[round]);                       \
            unsigned long long got = dev::name(both, distances[round]);             \
            to[32 + lane] = (uint32_t)got;                                          \
            to[64 + lane] = (uint32_t)(got >> 32);                                  \
        }                                                                           \
        if (lane / 16 == half)                                                      \
            out[384 + lane] = dev::name(in[lane], 3u, 0xffffu << 16 * half);        \
    }
DUMP_SHUFFLE(shuffle, 0)
DUMP_SHUFFLE(shuffle_xor, 0)
DUMP_SHUFFLE(shuffle_up, 0)
DUMP_SHUFFLE(shuffle_down, 1)

__global__ void dump_ballot(const uint32_t *in, uint32_t *out)
{
    unsigned lane = threadIdx.x;
    for (unsigned round = 0; round < 4; round++)
        out[32 * round + lane] = dev::ballot((int)(in[lane] >> round & 4));
    if (lane % 3 != 0) out[128 + lane] = dev::ballot((int)(in[lane] & 1), 0xb6db6db6u);
}

__global__ void dump_warp_sum(const uint32_t *in, uint32_t *out)
{
    float sum = dev::warp_sum(reinterpret_cast<const float *>(in)[threadIdx.x]);
    reinterpret_cast<float *>(out)[threadIdx.x] = sum;
}

__global__ void dump_warp_max(const uint32_t *in, uint32_t *out)
{
    float most = dev::warp_max(reinterpret_cast<const float *>(in)[threadIdx.x]);
    reinterpret_cast<float *>(out)[threadIdx.x] = most;
}

/* ---- barriers ---- */

__global__ void dump_sync_warp(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED(uint32_t, words, [32]);
    const unsigned mask = 0x0ff00f0fu;
    unsigned lane = threadIdx.x;
    if (mask >> lane & 1) {
        words[lane] = in[lane];
        dev::sync_warp(mask);
        out[lane] = words[lane ^ 3];
    }
}

__global__ void dump_sync_block(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED(uint32_t, words, [160]);
    unsigned i = threadIdx.x;
    uint32_t value = in[i];
    for (unsigned round = 1; round < 4; round++) {
        words[(i + 37 * round) % 160] = value + round;
        dev::sync_block();
        value = words[i];
        dev::sync_block();
    }
    out[i] = value;
}

__global__ void dump_sync_named(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED(uint32_t, words, [128]);
    unsigned i = threadIdx.x, first = i < 32 ? 0 : 32, count = i < 32 ? 32 : 96;
    words[i] = in[i];
    dev::sync_named(i < 32 ? 3 : 15, count);
    out[i] = words[first + count - 1 - (i - first)];
}

__global__ void dump_shared_dynamic(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED_DYNAMIC(raw);
    uint32_t *words = reinterpret_cast<uint32_t *>(raw);
    unsigned i = threadIdx.x;
    for (unsigned w = 0; w < 4; w++)
        words[4 * i + w] = in[i] + w;
    dev::sync_block();
    for (unsigned w = 0; w < 4; w++)
        out[4 * i + w] = words[383 - 4 * i - w];
}

/* Block 0 publishes 64 words, block 1 takes them: out [64 taken][64 published][flag]. */
__global__ void dump_store_release(const uint32_t *in, uint32_t *out)
{
    unsigned i = threadIdx.x;
    if (blockIdx.x == 0) {
        out[64 + i] = in[i] * 3;
        dev::sync_block();
        if (i == 0) dev::store_release(out + 128, 1);
    } else {
        if (i == 0)
            while (dev::load_acquire(out + 128) != 1) {
            }
        dev::sync_block();
        out[i] = out[64 + 63 - i] + 1;
    }
}

/* Block 0 waits for all five: out [32 of block 0][5][32 published][counter]. */
__global__ void dump_add_release(const uint32_t *in, uint32_t *out)
{
    unsigned lane = threadIdx.x, block = blockIdx.x;
    out[32 + 32 * block + lane] = in[32 * block + lane] + block;
    dev::sync_block();
    if (lane == 0) dev::add_release(out + 192, 1 + block);
    if (block != 0) return;
    if (lane == 0)
        while (dev::load_acquire(out + 192) != DUMP_POISON + 15) {
        }
    dev::sync_block();
    uint32_t mixed = 0;
    for (unsigned b = 0; b < 5; b++)
        mixed = 5 * mixed + out[32 + 32 * b + 31 - lane];
    out[lane] = mixed;
}

/* Cells wander from block to block: out [2 buffers][5 blocks][32][arrivals]. */
__global__ void dump_grid_barrier(const uint32_t *in, uint32_t *out)
{
    unsigned lane = threadIdx.x, block = blockIdx.x, blocks = gridDim.x;
    out[32 * block + lane] = in[32 * block + lane];
    for (unsigned round = 0; round < 4; round++) {
        dev::grid_barrier(out + 320, DUMP_POISON + blocks * (round + 1));
        const uint32_t *from = out + round % 2 * 160;
        uint32_t *to = out + (round + 1) % 2 * 160;
        to[32 * block + lane] = from[(block + 1) % blocks * 32 + (lane + 5) % 32] + round;
    }
}

/* ---- memory ---- */

/* The values before are every number once, in whatever order: each marks its own place. The second counter
 * gets one word of `in` from each thread: out [counter][120 places][sum]. */
__global__ void dump_atomic_add(const uint32_t *in, uint32_t *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned place = dev::atomic_add(out, 1u) - DUMP_POISON;
    if (place < 120) out[1 + place] = 1000 + place;
    dev::atomic_add(out + 121, in[i]);
}

/* The same with 1.0f. The poison is a float of -1e-12: the first sum rounds it away. */
__global__ void dump_atomic_add_float(const uint32_t *in, uint32_t *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    float *counters = reinterpret_cast<float *>(out);
    unsigned place = (unsigned)(dev::atomic_add(counters, 1.0f) + 0.5f);
    if (place < 120) out[1 + place] = 1000 + place;
    dev::atomic_add(counters + 121, (float)(in[i] % 1000));
}

__global__ void dump_load_read_only(const uint32_t *in, uint32_t *out)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    dev::prefetch_l2(in + 4 * i);
    uint4 four =
        dev::load_read_only(reinterpret_cast<const uint4 *>(in) + (i * 5 + 3) % 64);
    out[4 * i] = four.x;
    out[4 * i + 1] = four.y;
    out[4 * i + 2] = four.z;
    out[4 * i + 3] = four.w + dev::load_read_only(in + i);
}

/* Five groups of 64 copies; of each the first 0 to BYTES bytes, the rest zeros. */
template <int BYTES>
static __device__ __forceinline__ void copy_groups(const uint32_t *in, uint32_t *out)
{
    const unsigned words = BYTES / 4;
    DEV_SHARED_ALIGNED(16, uint32_t, tile, [5][64][BYTES / 4]);
    unsigned i = threadIdx.x;
    for (unsigned group = 0; group < 5; group++) {
        dev::copy_async<BYTES>(tile[group][63 - i], in + (group * 64 + i) * words,
                               (3 * group + i) % (BYTES + 1));
        dev::copy_async_commit();
    }
    dev::copy_async_wait<2>();
    dev::sync_block();
    for (unsigned group = 0; group < 3; group++)
        for (unsigned w = 0; w < words; w++)
            out[(group * 64 + i) * words + w] = tile[group][i][w];
    dev::copy_async_wait<0>();
    dev::sync_block();
    for (unsigned group = 3; group < 5; group++)
        for (unsigned w = 0; w < words; w++)
            out[(group * 64 + i) * words + w] = tile[group][i][w];
}

__global__ void dump_copy_async_16(const uint32_t *in, uint32_t *out)
{
    copy_groups<16>(in, out);
}

__global__ void dump_copy_async_8(const uint32_t *in, uint32_t *out)
{
    copy_groups<8>(in, out);
}

__global__ void dump_copy_async_4(const uint32_t *in, uint32_t *out)
{
    copy_groups<4>(in, out);
}

/* ---- matrices ---- */

/* in: registers of the fragments, a [4][32], b [2][32], c [4][32]; out: d [4][32]. */
#define DUMP_MMA(name, a_count, b_count)                                     \
    __global__ void dump_##name(const uint32_t *in, uint32_t *out)           \
    {                                                                        \
        unsigned lane = threadIdx.x;                                         \
        uint32_t a[a_count], b[b_count];                                     \
        float c[4], d[4];                                                    \
        for (int r = 0; r < a_count; r++)                                    \
            a[r] = in[32 * r + lane];                                        \
        for (int r = 0; r < b_count; r++)                                    \
            b[r] = in[128 + 32 * r + lane];                                  \
        for (int r = 0; r < 4; r++)                                          \
            c[r] = reinterpret_cast<const float *>(in)[192 + 32 * r + lane]; \
        dev::name(d, a, b, c);                                               \
        for (int r = 0; r < 4; r++)                                          \
            reinterpret_cast<float *>(out)[32 * r + lane] = d[r];            \
    }
DUMP_MMA(mma_bf16, 4, 2)
DUMP_MMA(mma_f16, 4, 2)
DUMP_MMA(mma_f16_k8, 2, 1)
DUMP_MMA(mma_tf32, 4, 2)

__global__ void dump_to_tf32(const uint32_t *in, uint32_t *out)
{
    unsigned i = threadIdx.x;
    out[i] = dev::to_tf32(reinterpret_cast<const float *>(in)[i]);
}

/* in: four matrices of 8 rows of 16 bytes, then which row each lane gives. out [registers][32]. */
#define DUMP_LOAD_MATRIX(name, count)                              \
    __global__ void dump_##name(const uint32_t *in, uint32_t *out) \
    {                                                              \
        DEV_SHARED_ALIGNED(16, uint32_t, rows, [32][4]);           \
        unsigned lane = threadIdx.x;                               \
        for (unsigned w = 0; w < 4; w++)                           \
            rows[lane][w] = in[4 * lane + w];                      \
        dev::sync_block();                                         \
        uint32_t registers[count];                                 \
        dev::name(registers, rows[in[128 + lane] % 32]);           \
        for (int r = 0; r < count; r++)                            \
            out[32 * r + lane] = registers[r];                     \
    }
DUMP_LOAD_MATRIX(load_matrix_x1, 1)
DUMP_LOAD_MATRIX(load_matrix_x2, 2)
DUMP_LOAD_MATRIX(load_matrix_x4, 4)
DUMP_LOAD_MATRIX(load_matrix_x2_transposed, 2)
DUMP_LOAD_MATRIX(load_matrix_x4_transposed, 4)

__global__ void dump_transpose_matrix(const uint32_t *in, uint32_t *out)
{
    out[threadIdx.x] = dev::transpose_matrix(in[threadIdx.x]);
}

/* ---- clusters ---- */

__global__ void dump_cluster_rank(const uint32_t *, uint32_t *out)
{
    dev::sync_cluster();
    if (threadIdx.x != 0) return;
    out[2 * blockIdx.x] = dev::cluster_rank();
    out[2 * blockIdx.x + 1] = dev::cluster_size();
}

/* Every block reads the words of another one. */
static __device__ __forceinline__ void read_other(const uint32_t *in, uint32_t *out,
                                                  unsigned times, unsigned plus)
{
    DEV_SHARED_ALIGNED(16, uint32_t, mine, [32]);
    unsigned lane = threadIdx.x, at = blockIdx.x * 32 + lane;
    unsigned other = (dev::cluster_rank() * times + plus) % dev::cluster_size();
    mine[lane] = in[at];
    dev::sync_cluster();
    dev::cluster_address from =
        dev::advance(dev::map_shared(mine, other), (lane * 5 + 3) % 32 * 4);
    out[at] = dev::load_cluster(from);
    dev::sync_cluster();
}

__global__ void dump_load_cluster(const uint32_t *in, uint32_t *out)
{
    read_other(in, out, 1, 1);
}

__global__ void dump_load_cluster_16(const uint32_t *in, uint32_t *out)
{
    read_other(in, out, 7, 3);
}

__global__ void dump_store_cluster(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED_ALIGNED(16, uint32_t, words, [32][4]);
    unsigned lane = threadIdx.x, at = (blockIdx.x * 32 + lane) * 4;
    unsigned next = (dev::cluster_rank() + 1) % dev::cluster_size();
    uint32_t four[4] = {in[at], in[at + 1], in[at + 2], in[at + 3]};
    dev::sync_cluster(); /* the other block runs */
    dev::store_cluster(dev::map_shared(words[31 - lane], next), four);
    dev::sync_cluster();
    for (unsigned w = 0; w < 4; w++)
        out[at + w] = words[lane][w];
}

/* Warp 0 fills, warp 1 drains, five rounds; then what try_wait says in every state of one barrier of two
 * arrivals: out [160][6]. */
__global__ void dump_mbarrier(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED(uint32_t, buffer, [32]);
    DEV_SHARED_ALIGNED(8, uint64_t, full, [1]);
    DEV_SHARED_ALIGNED(8, uint64_t, empty, [1]);
    DEV_SHARED_ALIGNED(8, uint64_t, pair, [1]);
    unsigned lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        dev::mbarrier_init(full, 32);
        dev::mbarrier_init(empty, 32);
        dev::mbarrier_init(pair, 2);
    }
    dev::sync_block();
    if (threadIdx.x < 32) {
        for (unsigned round = 0; round < 5; round++) {
            if (round > 0) dev::mbarrier_wait(empty, (round - 1) % 2);
            buffer[lane] = in[32 * round + lane];
            dev::mbarrier_arrive(full);
        }
    } else {
        for (unsigned round = 0; round < 5; round++) {
            dev::mbarrier_wait(full, round % 2);
            out[32 * round + lane] = buffer[31 - lane] + round;
            dev::mbarrier_arrive(empty);
        }
    }
    if (threadIdx.x == 63) {
        out[160] = dev::mbarrier_try_wait(pair, 0);
        out[161] = dev::mbarrier_try_wait(pair, 1);
        dev::mbarrier_arrive(pair);
        out[162] = dev::mbarrier_try_wait(pair, 0);
        dev::mbarrier_arrive(pair);
        out[163] = dev::mbarrier_try_wait(pair, 0);
        out[164] = dev::mbarrier_try_wait(pair, 1);
        out[165] = dev::mbarrier_try_wait_cluster(pair, 0);
    }
}

/* 512 bytes go round the ring of a cluster's blocks, ROUNDS times, into buffer round % 2. The cluster barrier
 * after two rounds comes between the reading of a buffer and its next use. */
enum class Ring { ASYNC, EXPECT, PLAIN };
template <Ring RING> static __device__ __forceinline__ void expect_bytes(uint64_t *full)
{
    if (RING == Ring::ASYNC) dev::mbarrier_arrive_expect(full, 512);
    if (RING == Ring::EXPECT) {
        dev::mbarrier_expect(full, 512);
        dev::mbarrier_arrive(full);
    }
}

template <Ring RING>
static __device__ __forceinline__ void ring(const uint32_t *in, uint32_t *out)
{
    DEV_SHARED_ALIGNED(16, uint32_t, words, [2][32][4]);
    DEV_SHARED_ALIGNED(8, uint64_t, full, [2]);
    const int rounds = 5;
    unsigned lane = threadIdx.x, at = (blockIdx.x * 32 + lane) * 4;
    unsigned next = (dev::cluster_rank() + 1) % dev::cluster_size();
    if (lane == 0) {
        for (int i = 0; i < 2; i++)
            dev::mbarrier_init(&full[i], RING == Ring::PLAIN ? 32 : 1);
        dev::fence_mbarrier_init();
        for (int i = 0; i < 2; i++)
            expect_bytes<RING>(&full[i]);
    }
    dev::sync_cluster();
    uint32_t mine[4] = {in[at], in[at + 1], in[at + 2], in[at + 3]};
    for (int round = 0; round < rounds; round++) {
        int buffer = round % 2;
        dev::cluster_address to = dev::map_shared(words[buffer][lane ^ 5], next);
        dev::cluster_address its_full = dev::map_shared(&full[buffer], next);
        if (RING == Ring::PLAIN) {
            dev::store_cluster(to, mine);
            dev::mbarrier_arrive_cluster(its_full);
        } else {
            dev::store_async(to, mine, its_full);
        }
        dev::mbarrier_wait_cluster(&full[buffer], round / 2 % 2);
        if (RING != Ring::PLAIN && lane == 0 && round + 2 < rounds)
            expect_bytes<RING>(&full[buffer]);
        for (int i = 0; i < 4; i++)
            mine[i] = words[buffer][lane][i];
        mine[1]++;
        if (buffer == 1) dev::sync_cluster();
    }
    for (int i = 0; i < 4; i++)
        out[at + i] = mine[i];
    dev::
        sync_cluster(); /* nobody leaves while its neighbour's remote arrivals may be under way */
}

__global__ void dump_store_async(const uint32_t *in, uint32_t *out)
{
    ring<Ring::ASYNC>(in, out);
}

__global__ void dump_mbarrier_expect(const uint32_t *in, uint32_t *out)
{
    ring<Ring::EXPECT>(in, out);
}

__global__ void dump_mbarrier_arrive_cluster(const uint32_t *in, uint32_t *out)
{
    ring<Ring::PLAIN>(in, out);
}
