/* The recurrence of one LSTM layer, kept by a cluster of blocks; see cluster_step.cu. */
#ifndef BENCH_CLUSTER_STEP_H
#define BENCH_CLUSTER_STEP_H

#include "kernels/cuda/device.cuh"

#include <vector>

namespace probe
{

struct cluster_step_args {
    const uint4 *weights; /* cluster_step_pack */
    const float4 *z; /* [z_steps][rows][units] of i, f, g, o; step t reads t % z_steps */
    float *h, *c;    /* [rows][units], before and after */
    float *y;        /* [z_steps][rows][units], likewise */
    unsigned rows, steps, z_steps;
};

enum push { PUSH_ASYNC /* st.async */, PUSH_STORES /* plain stores and an arrival */ };
/* Of the acquire that waits for h. Plain stores of other blocks need the cluster's. */
enum scope { SCOPE_CLUSTER, SCOPE_BLOCK };

struct cluster_step_shape {
    unsigned units, blocks; /* of a cluster */
    unsigned split; /* warps that share a group of 8 units, each with its part of k */
    unsigned tiles; /* of 8 rows of a cluster */
    unsigned in_registers; /* of a warp's k in sixteens; the rest lies in shared memory */
    enum push push;
    enum scope scope;
    unsigned
        resident; /* blocks of a multiprocessor that the compiler leaves registers for */
    unsigned threads;
    size_t shared_bytes;
    void (*kernel)(cluster_step_args);
};

/* All that are compiled; those of up to 64 units are for tests. */
const std::vector<cluster_step_shape> &cluster_step_shapes();

/* The words of `weights` from recurrent [4][units][units] (gate, unit, k), bits of bf16. */
std::vector<uint32_t> cluster_step_pack(const cluster_step_shape &shape,
                                        const std::vector<uint16_t> &recurrent);

} // namespace probe

#endif
