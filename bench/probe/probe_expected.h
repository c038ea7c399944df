/* What was expected of one H200 before anybody measured, from publications and arithmetic; docs/gpu-floor.md has the
 * same numbers beside an empty column. One H200: 132 multiprocessors, 1.98 GHz. */
#ifndef BENCH_PROBE_EXPECTED_H
#define BENCH_PROBE_EXPECTED_H

#include "probe.h"

namespace probe
{

const Expected NOTHING = {0, 0};

/* us */
const Expected HOST_LAUNCH = {2.4, 2.4}; /* a launch, as the host sees it */
const Expected GRAPH_NODE = {1.3, 1.3};
const Expected DOORBELL = {2, 4};
const Expected GRID_BARRIER = {1.2, 1.2}; /* one counter, all multiprocessors */
const Expected GRID_FLAGS = {0.7, 0.7};   /* flags that carry the data: a target */
const Expected CLUSTER_EXCHANGE = {0.3, 0.3};

/* TB/s; GB/s for one multiprocessor */
const Expected SHARED_READ = {33.5, 33.5}; /* 132 x 128 bytes x 1.98 GHz */
const Expected L2_READ = {9.7, 9.7};       /* up to 44 MB */
const Expected HBM_READ = {4.0, 4.0};
const Expected L2_ONE = {126.7, 126.7}; /* 64 bytes x 1.98 GHz */

/* TFLOP/s */
const Expected HALF_RATE = {790, 790};
const Expected TF32_RATE = {395, 395};
const Expected FFMA_RATE = {55, 67}; /* realistic, peak */

/* Clusters of 1, 2, 4, 8, 16 blocks at once. */
inline Expected clusters_expected(unsigned blocks)
{
    return blocks == 1   ? Expected{132, 132}
           : blocks == 2 ? Expected{66, 66}
           : blocks == 4 ? Expected{32, 32}
           : blocks == 8 ? Expected{16, 16}
                         : Expected{1, 8};
}

/* us per step of the cluster-local kernel, of the design and not of this code; {0, 0}: no such shape was predicted. */
inline Expected cluster_step_expected(unsigned units, unsigned blocks, unsigned rows)
{
    static const struct {
        unsigned units, blocks, rows;
        Expected us;
    } table[] = {{128, 2, 8, {0.47, 0.69}},  {256, 8, 8, {0.52, 0.77}},
                 {256, 4, 16, {0.98, 1.38}}, {512, 16, 1, {0.59, 0.84}},
                 {512, 16, 8, {0.70, 1.08}}, {512, 16, 16, {1.07, 1.65}},
                 {640, 16, 8, {1.05, 1.42}}};
    for (const auto &line : table)
        if (line.units == units && line.blocks == blocks && line.rows == rows)
            return line.us;
    return NOTHING;
}

/* us per step of a grid-persistent kernel, bf16: floors by arithmetic, from exchanged flags to a naive barrier. */
inline Expected grid_step_expected(unsigned units, unsigned rows)
{
    static const struct {
        unsigned units, rows;
        Expected us;
    } table[] = {
        {512, 1, {0.87, 1.38}},  {512, 16, {0.99, 1.54}},  {512, 64, {1.17, 1.77}},
        {1024, 1, {1.07, 1.58}}, {1024, 16, {1.31, 2.00}}, {1024, 64, {1.91, 2.67}},
        {2048, 1, {1.84, 2.36}}, {2048, 16, {2.32, 3.19}}, {2048, 64, {5.59, 7.59}}};
    for (const auto &line : table)
        if (line.units == units && line.rows == rows) return line.us;
    return NOTHING;
}

} // namespace probe

#endif
