/* See faulty_kernels.h. */
#include "faulty_kernels.h"

__global__ void faulty_divergent_block(int *out)
{
    if (threadIdx.x < 16) dev::sync_block();
    else dev::sync_block();
    out[threadIdx.x] = 1;
}

__global__ void faulty_exit_before_barrier(int *out, unsigned stay)
{
    if (threadIdx.x >= stay) return;
    out[threadIdx.x] = 1;
    dev::sync_block();
}

__global__ void faulty_half_warp_shuffle(int *out)
{
    if (threadIdx.x < 16) out[threadIdx.x] = dev::shuffle_xor(1, 1);
}

__global__ void faulty_shuffle_outside_mask(int *out)
{
    if (threadIdx.x < 16) out[threadIdx.x] = dev::shuffle(1, 20, 0xffff);
}

__global__ void faulty_partial_mma(float *out)
{
    uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    float c[4] = {0, 0, 0, 0}, d[4];
    dev::mma_bf16(d, a, b, c);
    out[threadIdx.x] = d[0];
}

__global__ void faulty_grid_barrier(unsigned *arrivals)
{
    dev::grid_barrier(arrivals, gridDim.x);
}

__global__ void faulty_homemade_barrier(unsigned *arrivals)
{
    dev::add_release(arrivals, 1);
    while (dev::load_acquire(arrivals) < gridDim.x) {
    }
}

__global__ void faulty_copy_misaligned(const float *in)
{
    DEV_SHARED_ALIGNED(16, float, tile, [8]);
    dev::copy_async<16>(tile + 1, in);
    dev::copy_async_commit();
    dev::copy_async_wait<0>();
}

__global__ void faulty_copy_unaligned_array(const float *in)
{
    DEV_SHARED(float, tile, [8]); /* nothing promises 16 bytes here */
    dev::copy_async<16>(tile, in);
    dev::copy_async_commit();
    dev::copy_async_wait<0>();
}

__global__ void faulty_copy_never_waited(const float *in, float *out)
{
    DEV_SHARED_ALIGNED(16, float, tile, [4]);
    dev::copy_async<16>(tile, in);
    dev::copy_async_commit();
    out[0] = tile[0];
}

__global__ void faulty_copy_wrong_group(const float *in, float *out)
{
    DEV_SHARED_ALIGNED(16, float, tile, [2][4]);
    for (int i = 0; i < 2; i++) {
        dev::copy_async<16>(tile[i], in + 4 * i);
        dev::copy_async_commit();
    }
    dev::copy_async_wait<1>();
    out[0] = tile[0][0];
    out[1] = tile[1][0];
    dev::copy_async_wait<0>();
}

__global__ void faulty_copy_from_shared(float *out)
{
    DEV_SHARED_ALIGNED(16, float, tile, [2][4]);
    dev::copy_async<16>(tile[0], tile[1]);
    dev::copy_async_commit();
    dev::copy_async_wait<0>();
    out[0] = tile[0][0];
}

__global__ void faulty_uninitialised(float *out)
{
    DEV_SHARED(float, values, [32]);
    if (threadIdx.x != 5) values[threadIdx.x] = 1;
    dev::sync_block();
    out[threadIdx.x] = values[threadIdx.x];
}

__global__ void faulty_large_array(float *out)
{
    DEV_SHARED(float, values, [13000]);
    values[threadIdx.x] = 0;
    out[threadIdx.x] = values[threadIdx.x];
}

__global__ void faulty_missing_sync_warp(int *out)
{
    DEV_SHARED(int, values, [32]);
    values[threadIdx.x] = (int)threadIdx.x;
    out[threadIdx.x] = values[31 - threadIdx.x];
}

__global__ void faulty_shared_overflow(float *out, int past)
{
    DEV_SHARED(float, values, [32]);
    values[(int)threadIdx.x + past] = 1;
    out[threadIdx.x] = values[threadIdx.x];
}

__global__ void faulty_dynamic_overflow(float *out, int past)
{
    DEV_SHARED_DYNAMIC(raw);
    float *values = reinterpret_cast<float *>(raw);
    values[(int)threadIdx.x + past] = 1;
    out[threadIdx.x] = values[threadIdx.x];
}

__global__ void faulty_global_overflow(float *out, int past)
{
    out[(int)threadIdx.x + past] = 1;
}

__global__ void faulty_mbarrier(int mistake, uint64_t *global, uint32_t *out)
{
    DEV_SHARED_ALIGNED(16, uint32_t, words, [32][4]);
    DEV_SHARED_ALIGNED(8, uint64_t, barrier, [2]);
    unsigned rank = dev::cluster_rank(), lane = threadIdx.x;
    uint32_t value[4] = {lane, lane, lane, lane};
    if (mistake == RELIES_ON_STORE_ORDER) {
        if (lane == 0) {
            dev::mbarrier_init(&barrier[0], 1);
            dev::mbarrier_init(&barrier[1], 1);
            dev::mbarrier_arrive_expect(&barrier[0], 16);
            dev::mbarrier_arrive_expect(&barrier[1], 31 * 16);
        }
        dev::sync_cluster();
        /* The last lane's store completes barrier 0; were stores in order, all would be there. */
        dev::store_async(dev::map_shared(words[lane], rank ^ 1), value,
                         dev::map_shared(&barrier[lane != 31], rank ^ 1));
        dev::mbarrier_wait_cluster(&barrier[0], 0);
        out[blockIdx.x * 32 + lane] = words[31 - lane][3];
        dev::mbarrier_wait_cluster(&barrier[1], 0);
        return;
    }
    if (lane == 0 && mistake != NEVER_INITIALISED) {
        dev::mbarrier_init(&barrier[0], 1);
        dev::mbarrier_init(&barrier[mistake == INITIALISED_TWICE ? 0 : 1], 1);
    }
    dev::fence_mbarrier_init();
    if (mistake != NO_BARRIER_AFTER_INIT) dev::sync_cluster();
    if (lane > 0) return;
    dev::cluster_address mine = dev::map_shared(words[0], rank);
    dev::cluster_address my_barrier = dev::map_shared(&barrier[0], rank);
    switch (mistake) {
    case NEVER_INITIALISED:
    case NO_BARRIER_AFTER_INIT:
        dev::mbarrier_arrive_cluster(dev::map_shared(&barrier[0], rank ^ 1));
        break;
    case TOO_MANY_ARRIVALS:
        dev::mbarrier_arrive_expect(&barrier[0], 16);
        dev::mbarrier_arrive_expect(&barrier[0], 16);
        break;
    case TOO_MANY_BYTES_EXPECTED:
        dev::mbarrier_arrive_expect(&barrier[0], 32);
        dev::store_async(mine, value, my_barrier);
        dev::mbarrier_wait_cluster(&barrier[0], 0);
        break;
    case STORE_NOBODY_AWAITS:
        if (rank == 0)
            dev::store_async(dev::map_shared(words[0], 1), value,
                             dev::map_shared(&barrier[0], 1));
        break;
    case STORE_AND_BARRIER_APART:
        dev::store_async(dev::map_shared(words[0], 0), value,
                         dev::map_shared(&barrier[0], 1));
        break;
    case STORE_MISALIGNED:
        dev::store_async(dev::advance(mine, 4), value, my_barrier);
        break;
    case RANK_OUTSIDE:
        out[0] = dev::load_cluster(dev::map_shared(words[0], 2));
        break;
    case WAIT_ON_GLOBAL:
        dev::mbarrier_wait(global, 0);
        break;
    case NOBODY_ARRIVES:
        dev::mbarrier_wait(&barrier[0], 0);
        break;
    }
}
