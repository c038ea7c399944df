/* See probe_kernels.h. */
#include "probe_kernels.h"

#include "probe_ptx.cuh"

__global__ void probe_count(unsigned *counter)
{
    if (threadIdx.x == 0) *counter += 1;
}

__global__ void probe_grid_barrier(unsigned *arrivals, unsigned *cells, unsigned rounds)
{
    unsigned blocks = gridDim.x, block = blockIdx.x;
    for (unsigned round = 0; round < rounds; round++) {
        if (threadIdx.x == 0)
            cells[(round + 1) % 2 * blocks + block] =
                cells[round % 2 * blocks + (block + 1) % blocks] + 1;
        dev::grid_barrier(arrivals, (round + 1) * blocks);
    }
}

/* Why a word is not overwritten before everybody has read it: a block publishes stamp s + 1 over stamp s - 1 once it has
 * all words of stamp s, so every block has published s, and each did so after all its threads had those of s - 1 (the
 * barrier of the block). */
__global__ void probe_flags(unsigned *out, uint64_t *board, unsigned words,
                            unsigned first, unsigned rounds)
{
    DEV_SHARED(unsigned, sums, [2][8]);
    dev::expect_cooperative();
    unsigned all = gridDim.x * words, thread = threadIdx.x, value = blockIdx.x;
    for (unsigned stamp = first + 1; stamp != first + rounds + 1; stamp++) {
        unsigned buffer = stamp % 2;
        uint64_t *now = board + (size_t)buffer * all;
        for (unsigned i = thread; i < words; i += blockDim.x)
            probe::store_relaxed(now + blockIdx.x * words + i,
                                 (uint64_t)stamp << 32 | (value + i));
        unsigned sum = 0;
        for (unsigned i = thread; i < all; i += blockDim.x)
            sum += (unsigned)probe::wait_stamped(now + i, stamp);
        for (unsigned bits = 16; bits > 0; bits /= 2)
            sum += dev::shuffle_xor(sum, bits);
        if (thread % 32 == 0) sums[buffer][thread / 32] = sum;
        dev::sync_block();
        value *= 3;
        for (unsigned w = 0; w < blockDim.x / 32; w++)
            value += sums[buffer][w];
    }
    if (thread == 0) out[blockIdx.x] = value;
}

__global__ void probe_cluster_barrier(unsigned *out, unsigned rounds)
{
    unsigned met = 0;
    for (unsigned round = 0; round < rounds; round++) {
        dev::sync_cluster();
        met++;
    }
    if (threadIdx.x == 0) out[blockIdx.x] = met;
}

/* Why a buffer is not overwritten while somebody reads it: a block pushes for round t + 1 once it has everything of
 * round t, so every block has pushed round t, and each did so after its reading of round t - 1 (the barrier of the
 * block at the end), which lay in the buffer that round t + 1 fills. */
__global__ void probe_exchange(unsigned *out, unsigned words, unsigned rounds)
{
    DEV_SHARED_DYNAMIC(raw);
    DEV_SHARED_ALIGNED(8, uint64_t, full, [2]);
    DEV_SHARED(unsigned, sums, [2][32]);
    unsigned blocks = dev::cluster_size(), rank = dev::cluster_rank();
    unsigned all = blocks * words, thread = threadIdx.x, value = rank;
    uint32_t(*buffers)[4] = reinterpret_cast<uint32_t(*)[4]>(raw);
    if (thread == 0) {
        for (int i = 0; i < 2; i++)
            dev::mbarrier_init(&full[i], 1);
        dev::fence_mbarrier_init();
        for (int i = 0; i < 2; i++)
            dev::mbarrier_arrive_expect(&full[i], all * 16);
    }
    dev::sync_cluster();
    for (unsigned round = 0; round < rounds; round++) {
        unsigned buffer = round % 2;
        uint32_t four[4] = {value, value + 1, value + 2, value + 3};
        for (unsigned i = thread; i < all; i += blockDim.x) {
            uint32_t *to = buffers[buffer * all + rank * words + i % words];
            dev::store_async(dev::map_shared(to, i / words), four,
                             dev::map_shared(&full[buffer], i / words));
        }
        dev::mbarrier_wait_cluster(&full[buffer], round / 2 % 2);
        if (thread == 0 && round + 2 < rounds)
            dev::mbarrier_arrive_expect(&full[buffer], all * 16);
        unsigned sum = 0;
        for (unsigned i = thread; i < all; i += blockDim.x)
            sum += buffers[buffer * all + i][i % 4];
        for (unsigned bits = 16; bits > 0; bits /= 2)
            sum += dev::shuffle_xor(sum, bits);
        if (thread % 32 == 0) sums[buffer][thread / 32] = sum;
        dev::sync_block();
        value *= 3;
        for (unsigned w = 0; w < blockDim.x / 32; w++)
            value += sums[buffer][w];
    }
    /* Whatever was pushed to this block it has waited for: it may leave. */
    if (thread == 0) out[blockIdx.x] = value;
}
