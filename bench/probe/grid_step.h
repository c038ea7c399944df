/* The recurrence of one LSTM layer, kept by a whole grid; see grid_step.cu. */
#ifndef BENCH_GRID_STEP_H
#define BENCH_GRID_STEP_H

#include "kernels/cuda/device.cuh"

#include <vector>

namespace probe
{

struct grid_step_args {
    const uint4 *weights; /* grid_step_pack */
    const float4 *z; /* [z_steps][rows][units] of i, f, g, o; step t reads t % z_steps */
    float *c;        /* [rows][units], before and after */
    float *y;        /* [z_steps][rows][units], likewise */
    /* h in pairs of bf16 [2][rows][units / 2]: with a stamp in the upper half, or without and a flag for each block and
     * eight rows [ceil(rows / 8)][blocks]. Half `first` % 2 holds stamp `first`. */
    uint64_t *board;
    uint32_t *pairs;
    unsigned *flags;
    unsigned rows, steps, z_steps;
    unsigned first; /* steps done by launches before, whose board this goes on with */
};

enum exchange { EXCHANGE_STAMPS /* the data are their flags */, EXCHANGE_FLAGS };

struct grid_step_shape {
    unsigned units, of_block; /* a block's units */
    unsigned warps, in_registers;
    enum exchange exchange;
    size_t shared_bytes; /* without c: 4 * of_block a row, in eights */
    void (*kernel)(grid_step_args);
};

/* All that are compiled; those of up to 64 units are for tests. */
const std::vector<grid_step_shape> &grid_step_shapes();

inline size_t grid_step_shared_bytes(const grid_step_shape &shape, unsigned rows)
{
    return shape.shared_bytes + (size_t)(rows + 7) / 8 * 32 * shape.of_block;
}

/* The words of `weights` from recurrent [4][units][units] (gate, unit, k), bits of bf16. */
std::vector<uint32_t> grid_step_pack(const grid_step_shape &shape,
                                     const std::vector<uint16_t> &recurrent);

} // namespace probe

#endif
