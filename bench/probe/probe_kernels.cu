/* See probe_kernels.h. */
#include "probe_kernels.h"

__global__ void probe_nothing(unsigned *out)
{
    if (threadIdx.x == 0) out[blockIdx.x] = 1;
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

__global__ void probe_read(const uint4 *in, unsigned *out, size_t count, unsigned rounds)
{
    unsigned mixed = 0;
    size_t first = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (unsigned round = 0; round < rounds; round++)
#pragma unroll 4
        for (size_t i = first; i < count; i += stride) {
            uint4 v = in[i];
            mixed = mixed * 5 + (v.x ^ v.y ^ v.z ^ v.w);
        }
    out[first] = mixed;
}
