/* What the emulator cannot run: kernels beyond the dialect. On a GPU they are probe_raw.cu and probe_wgmma.cu; in
 * emulation every launch is cudaErrorNotSupported, and the probe says that it was compiled only. */
#ifndef BENCH_PROBE_RAW_H
#define BENCH_PROBE_RAW_H

#include "kernels/cuda/device.cuh"

namespace probe
{

/* One thread adds 1 to *counter, after the kernel before it in the stream is through; launched so that it may start
 * earlier (programmatic dependent launch, sm_90). */
cudaError_t raw_dependent(cudaStream_t cuda_stream, unsigned *counter);

/* A thread that answers: *answer = *bell + 1, both in mapped host memory, each time the bell has another word, until it
 * rings UINT32_MAX or ten seconds are over. */
cudaError_t raw_doorbell(cudaStream_t cuda_stream, const unsigned *bell,
                         unsigned *answer);

/* The kernel of probe_grid_barrier (probe_kernels.h) with cooperative groups' barrier. */
cudaError_t raw_grid_sync(cudaStream_t cuda_stream, unsigned blocks, unsigned *cells,
                          unsigned rounds);

/* wgmma, m64n256k16 bf16 or fp16, both operands in shared memory (sm_90a). Every block, of 128 threads, multiplies
 * its a [64 x 16] and b [16 x 256], given as 512 and 2048 words in an order that does not matter for the sum,
 * `rounds` times, in eights; out [blocks]: the sum of all products. */
enum raw_type { RAW_BF16, RAW_F16 };
cudaError_t raw_wgmma(cudaStream_t cuda_stream, raw_type type, unsigned blocks,
                      const uint32_t *a, const uint32_t *b, float *out, unsigned rounds);

} // namespace probe

#endif
