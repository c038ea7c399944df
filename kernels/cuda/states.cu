/* States that lie anywhere, side by side, and back: packed(i) = *states[i], *states[i] = packed(i).
 *
 * Layout: states[i] is one version of a state, width floats in the pool's memory; packed is [count][width]. Both begin at
 * a multiple of 16 bytes, and width is a multiple of 4. A state without memory (NULL) is zeros to gather, and nothing to
 * scatter.
 *
 * Why this shape: one thread moves 16 bytes, neighbours of a state are neighbours on both sides, and a warp's 32 threads
 * take 512 contiguous bytes, or a few states of fewer. The address is read once for each 16 bytes, and for a whole warp it
 * mostly is the same one. What it is for is the copy behind or before it: one for thousands of states instead of one each.
 * Predicted on an H200, not measured: 8 bytes a float at 4.0 TB/s, 0.5 us a MiB; the bus takes a hundred times that.
 *
 * Launch: blocks of 128 threads, ceil(count * width / 4 / 128) of them. No shared memory.
 * Limits: count * width < 2^31.
 * Called by: src/cuda/cuda.c. Test: tests/emu/test_ports.cpp. */
#include "kernels/cuda/cuda_kernels.h"

#include "kernels/cuda/ports.cuh"

namespace
{

enum { THREADS = 128, FLOATS = sizeof(float4) / sizeof(float) };

/* The piece of one thread. */
struct piece {
    unsigned state, first; /* float of the state */
};

__device__ __forceinline__ piece piece_of(const cy_cuda_states &states, unsigned flat)
{
    unsigned pieces = states.width / FLOATS, state = flat / pieces;
    return {state, (flat - state * pieces) * FLOATS};
}

__device__ __forceinline__ float4 *at(float *values, const piece &p)
{
    return reinterpret_cast<float4 *>(values + p.first);
}

__global__ void __launch_bounds__(THREADS) gather_states(cy_cuda_states states)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    piece p = piece_of(states, flat);
    if (p.state >= states.count) return;
    float *from = states.states[p.state];
    float4 values = {};
    if (from) values = *at(from, p);
    reinterpret_cast<float4 *>(states.packed)[flat] = values;
}

__global__ void __launch_bounds__(THREADS) scatter_states(cy_cuda_states states)
{
    unsigned flat = blockIdx.x * THREADS + threadIdx.x;
    piece p = piece_of(states, flat);
    if (p.state >= states.count) return;
    float *to = states.states[p.state];
    if (to) *at(to, p) = reinterpret_cast<const float4 *>(states.packed)[flat];
}

cudaError_t launch(void (*kernel)(cy_cuda_states), const cy_cuda_states *states,
                   cudaStream_t cuda_stream)
{
    unsigned blocks = cy::flat_blocks(THREADS * FLOATS, states->count, states->width);
    if (blocks == 0 || states->width % FLOATS) return cudaErrorInvalidValue;
    return dev::launch(kernel, {dim3(blocks), dim3(THREADS), 0, 0, 0}, cuda_stream,
                       *states);
}

} // namespace

extern "C" cudaError_t cy_cuda_states_gather_launch(const cy_cuda_states *states,
                                                    cudaStream_t cuda_stream)
{
    return launch(gather_states, states, cuda_stream);
}

extern "C" cudaError_t cy_cuda_states_scatter_launch(const cy_cuda_states *states,
                                                     cudaStream_t cuda_stream)
{
    return launch(scatter_states, states, cuda_stream);
}
