/* See memory_kernels.h. */
#include "memory_kernels.h"

#include "probe_ptx.cuh"

/* Four loads in flight a thread, of sixteen bytes each; L1 is passed by, since what a multiprocessor reads of 8 MiB
 * would fit it. */
__global__ void probe_read(const uint4 *in, unsigned *out, size_t count, unsigned rounds)
{
    unsigned mixed = 0;
    size_t first = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (unsigned round = 0; round < rounds; round++)
#pragma unroll 4
        for (size_t i = first; i < count; i += stride) {
            uint4 v = probe::load_l2(in + i);
            mixed = mixed * 5 + (v.x ^ v.y ^ v.z ^ v.w);
        }
    out[first] = mixed;
}

__global__ void probe_read_shared(const uint4 *in, unsigned *out, unsigned count,
                                  unsigned rounds)
{
    DEV_SHARED_DYNAMIC(raw);
    uint4 *shared = reinterpret_cast<uint4 *>(raw);
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
        shared[i] = in[i];
    dev::sync_block();
    unsigned mixed = 0, at = threadIdx.x % count;
#pragma unroll 8
    for (unsigned round = 0; round < rounds; round++) {
        uint4 v = shared[at];
        mixed = mixed * 5 + (v.x ^ v.y ^ v.z ^ v.w);
        at += 32;
        at = at >= count ? at - count : at;
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = mixed;
}

__global__ void probe_chase(const unsigned *next, unsigned *out, unsigned steps)
{
    unsigned place = 0;
    for (unsigned i = 0; i < steps; i++)
        place = probe::load_l2(next + place);
    *out = place;
}

__global__ void probe_chase_shared(const unsigned *next, unsigned *out, unsigned count,
                                   unsigned steps)
{
    DEV_SHARED_DYNAMIC(raw);
    unsigned *links = reinterpret_cast<unsigned *>(raw);
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
        links[i] = next[i];
    dev::sync_block();
    unsigned place = 0;
    for (unsigned i = 0; i < steps; i++)
        place = links[place];
    if (threadIdx.x == 0) *out = place;
}
