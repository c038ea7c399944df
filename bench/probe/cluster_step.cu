/* All steps of one LSTM layer's recurrence in one launch, by clusters that know nothing of each other: bf16 products,
 * sums and cell in float.
 *
 *     z' = z[t] + h * recurrent;   c = sigmoid(f) c + sigmoid(i) tanh(g);   h = sigmoid(o) tanh(c)
 *
 * Layout: a cluster of C blocks has 8 or 16 rows and all of the weights; block `rank` owns units / C of the units, a
 * warp eight of them (or its share of their k), whose weights it keeps in registers and, beyond IN_REGISTERS, in
 * shared memory, as fragments of mma.m16n8k16:
 *
 *     D [16 gates][8 rows]  +=  A [16 gates][16 k]  *  B [16 k][8 rows]
 *
 *     A, m = 0   rows 0..7: gate i of the eight units, rows 8..15: gate f;  m = 1: g and o. So lane 4 u + q has all
 *                four gates of unit u in rows 2q and 2q + 1 of the batch, and finishes them alone.
 *     h          [2 buffers][units / 8][rows][8 units] bf16: ldmatrix meets no bank twice, and eight units of a row
 *                are the 16 bytes of one push.
 *
 * Exchange: step t reads buffer t % 2, and its h goes to buffer (t + 1) % 2 of every block, its own included. An
 * mbarrier a buffer counts the bytes (PUSH_ASYNC) or the warps (PUSH_STORES) that have come. Why a buffer is not
 * overwritten while somebody reads it: what a warp pushes in step t was computed after its own reads, and those of the
 * warps whose sums it added, of buffer t % 2. Who has all of step t + 1's input therefore knows that everybody is
 * through with step t's, which lies where step t + 1 writes. Nobody pushes in the last step, so that nothing is under
 * way to a block that has left.
 *
 * Why this shape: no barrier of the grid, weights read once. Predicted us per step (gpu.md's design, not this code; not
 * measured) are in probe_expected.h.
 * Launch: clusters of C blocks; ceil(rows / (8 tiles)) clusters. Limits: sm_90; the shapes below.
 * Called by: part_recurrent.cu. Test: tests/gpu/test_probe_steps.cpp. */
#include "cluster_step.h"

#include "probe_ptx.cuh"

#include <string.h>

namespace probe
{

namespace
{

template <unsigned UNITS_, unsigned BLOCKS_, unsigned SPLIT_, unsigned TILES_,
          unsigned IN_REGISTERS_, push PUSH_, scope SCOPE_, unsigned RESIDENT_>
struct shape {
    static constexpr unsigned UNITS = UNITS_, BLOCKS = BLOCKS_, SPLIT = SPLIT_;
    static constexpr unsigned TILES = TILES_, IN_REGISTERS = IN_REGISTERS_;
    static constexpr push PUSH = PUSH_;
    static constexpr scope SCOPE = SCOPE_;
    static constexpr unsigned RESIDENT = RESIDENT_;

    static constexpr unsigned GROUPS = UNITS / BLOCKS / 8, WARPS = GROUPS * SPLIT;
    static constexpr unsigned THREADS = 32 * WARPS, ROWS = 8 * TILES;
    static constexpr unsigned DEPTH = UNITS / 16 / SPLIT; /* sixteens of k of a warp */
    static constexpr unsigned IN_SHARED = DEPTH - IN_REGISTERS;
    /* Two sums for even and odd sixteens, where registers allow: a shorter chain. */
    static constexpr unsigned SUMS = TILES == 1 ? 2 : 1;
    /* Warps of a group that finish rows. */
    static constexpr unsigned FINISHERS = SPLIT < TILES ? SPLIT : TILES;
    static constexpr unsigned ARRIVALS =
        PUSH == PUSH_ASYNC ? 1 : BLOCKS * GROUPS * FINISHERS;

    static constexpr size_t H_BYTES = 2 * (size_t)ROWS * UNITS; /* one buffer */
    static constexpr size_t PARTS_AT = 2 * H_BYTES;
    static constexpr size_t PARTS_BYTES = SPLIT > 1 ? (size_t)WARPS *TILES * 1024 : 0;
    static constexpr size_t WEIGHTS_AT = PARTS_AT + PARTS_BYTES;
    static constexpr size_t SHARED_BYTES = WEIGHTS_AT + (size_t)WARPS * IN_SHARED * 1024;

    static_assert(UNITS % (8 * BLOCKS) == 0 && UNITS % (32 * SPLIT) == 0, "units");
    static_assert(DEPTH % 2 == 0 && IN_REGISTERS <= DEPTH, "depth");
    static_assert(SPLIT == 1 || GROUPS < 16, "a named barrier a group");
    static_assert(PUSH == PUSH_ASYNC || SCOPE == SCOPE_CLUSTER, "scope");
};

/* Where 8 units of a row lie in a buffer of h. */
template <class S>
__device__ __forceinline__ unsigned h_at(unsigned buffer, unsigned eighth, unsigned row)
{
    return (unsigned)(buffer * S::H_BYTES) + (eighth * S::ROWS + row) * 16;
}

__device__ __forceinline__ uint32_t bits_of(float value)
{
    alignas(4) __nv_bfloat16 two[2] = {__float2bfloat16(value), __float2bfloat16(0)};
    return reinterpret_cast<const uint32_t &>(two);
}

/* sums[m][tile][4] of this warp's part of k. */
template <class S>
__device__ __forceinline__ void
multiply(const unsigned char *h, const uint32_t (&weights)[S::IN_REGISTERS + 1][2][4],
         const uint4 *more_weights, float (&sums)[2][S::TILES][4])
{
    const unsigned lane = threadIdx.x % 32;
    float d[S::SUMS][2][S::TILES][4] = {};
#pragma unroll
    for (unsigned s = 0; s < S::DEPTH; s += 2) {
        uint32_t b[S::TILES][4];
#pragma unroll
        for (unsigned n = 0; n < S::TILES; n++)
            dev::load_matrix_x4(
                b[n], h + ((2 * s + lane / 8) * S::ROWS + 8 * n + lane % 8) * 16);
#pragma unroll
        for (unsigned e = 0; e < 2; e++)
#pragma unroll
            for (unsigned m = 0; m < 2; m++) {
                uint32_t a[4];
                if (s + e < S::IN_REGISTERS) {
#pragma unroll
                    for (unsigned i = 0; i < 4; i++)
                        a[i] = weights[s + e < S::IN_REGISTERS ? s + e : 0][m][i];
                } else {
                    uint4 v = more_weights[((s + e - S::IN_REGISTERS) * 2 + m) * 32];
                    a[0] = v.x;
                    a[1] = v.y;
                    a[2] = v.z;
                    a[3] = v.w;
                }
#pragma unroll
                for (unsigned n = 0; n < S::TILES; n++) {
                    const uint32_t of_e[2] = {b[n][2 * e], b[n][2 * e + 1]};
                    float(&to)[4] = d[e % S::SUMS][m][n];
                    dev::mma_bf16(to, a, of_e, to);
                }
            }
    }
#pragma unroll
    for (unsigned m = 0; m < 2; m++)
#pragma unroll
        for (unsigned n = 0; n < S::TILES; n++)
#pragma unroll
            for (unsigned i = 0; i < 4; i++)
                sums[m][n][i] = S::SUMS == 2 ? d[0][m][n][i] + d[S::SUMS - 1][m][n][i]
                                             : d[0][m][n][i];
}

/* Adds the parts of a group's warps, first to last, for those that finish a tile. */
template <class S>
__device__ __forceinline__ void add_parts(float4 *parts, float (&sums)[2][S::TILES][4])
{
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned group = warp / S::SPLIT, part = warp % S::SPLIT;
#pragma unroll
    for (unsigned n = 0; n < S::TILES; n++)
        if (n % S::SPLIT != part)
#pragma unroll
            for (unsigned m = 0; m < 2; m++)
                parts[((warp * S::TILES + n) * 2 + m) * 32 + lane] = {
                    sums[m][n][0], sums[m][n][1], sums[m][n][2], sums[m][n][3]};
    dev::sync_named(1 + group, 32 * S::SPLIT);
#pragma unroll
    for (unsigned n = 0; n < S::TILES; n++)
        if (n % S::SPLIT == part)
#pragma unroll
            for (unsigned other = 0; other < S::SPLIT; other++) {
                if (other == part) continue;
                unsigned from = group * S::SPLIT + other;
#pragma unroll
                for (unsigned m = 0; m < 2; m++) {
                    float4 v = parts[((from * S::TILES + n) * 2 + m) * 32 + lane];
                    sums[m][n][0] += v.x;
                    sums[m][n][1] += v.y;
                    sums[m][n][2] += v.z;
                    sums[m][n][3] += v.w;
                }
            }
}

template <class S>
__global__ void __launch_bounds__(S::THREADS, S::RESIDENT)
    cluster_step(cluster_step_args s)
{
    DEV_SHARED_DYNAMIC(raw);
    DEV_SHARED_ALIGNED(8, uint64_t, full, [2]);
    const unsigned thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const unsigned group = warp / S::SPLIT, part = warp % S::SPLIT, quarter = lane % 4;
    const unsigned rank = dev::cluster_rank();
    const unsigned first_row = blockIdx.x / S::BLOCKS * S::ROWS;
    const unsigned rows = s.rows - first_row < S::ROWS ? s.rows - first_row : S::ROWS;
    const unsigned first_unit = rank * (S::UNITS / S::BLOCKS) + 8 * group;
    const unsigned unit = first_unit + lane / 4;
    const unsigned step_bytes = rows * S::UNITS * 2;

    if (thread == 0) {
        for (int i = 0; i < 2; i++)
            dev::mbarrier_init(&full[i], S::ARRIVALS);
        dev::fence_mbarrier_init();
        if (S::PUSH == PUSH_ASYNC) {
            if (s.steps > 1) dev::mbarrier_arrive_expect(&full[1], step_bytes);
            if (s.steps > 2) dev::mbarrier_arrive_expect(&full[0], step_bytes);
        }
    }
    uint32_t weights[S::IN_REGISTERS + 1][2][4];
    uint4 *more_weights =
        reinterpret_cast<uint4 *>(raw + S::WEIGHTS_AT) + warp * S::IN_SHARED * 64 + lane;
    const uint4 *packed =
        s.weights + ((size_t)rank * S::WARPS + warp) * S::DEPTH * 64 + lane;
#pragma unroll
    for (unsigned k = 0; k < S::DEPTH; k++)
#pragma unroll
        for (unsigned m = 0; m < 2; m++) {
            uint4 v = dev::load_read_only(packed + (k * 2 + m) * 32);
            if (k < S::IN_REGISTERS) {
                weights[k][m][0] = v.x;
                weights[k][m][1] = v.y;
                weights[k][m][2] = v.z;
                weights[k][m][3] = v.w;
            } else more_weights[((k - S::IN_REGISTERS) * 2 + m) * 32] = v;
        }
    /* Every block has all of h. Rows that are none stay zeros: nobody pushes them. */
    for (unsigned i = thread; i < 2 * S::ROWS * S::UNITS; i += S::THREADS) {
        unsigned buffer = i / (S::ROWS * S::UNITS), row = i / S::UNITS % S::ROWS;
        unsigned k = i % S::UNITS;
        float value =
            buffer == 0 && row < rows ? s.h[(size_t)(first_row + row) * S::UNITS + k] : 0;
        *reinterpret_cast<__nv_bfloat16 *>(raw + h_at<S>(buffer, k / 8, row) +
                                           k % 8 * 2) = __float2bfloat16(value);
    }
    /* This lane's cells: unit `unit` of rows 8 n + 2 quarter + j. */
    float c[S::TILES][2], h[S::TILES][2];
    float4 z[S::TILES][2];
    bool is_mine[S::TILES][2];
    size_t at[S::TILES][2];
#pragma unroll
    for (unsigned n = 0; n < S::TILES; n++)
#pragma unroll
        for (unsigned j = 0; j < 2; j++) {
            unsigned row = 8 * n + 2 * quarter + j;
            is_mine[n][j] = row < rows && n % S::SPLIT == part;
            at[n][j] = (size_t)(first_row + row) * S::UNITS + unit;
            c[n][j] = is_mine[n][j] ? s.c[at[n][j]] : 0;
            h[n][j] = 0;
            z[n][j] = is_mine[n][j] ? s.z[at[n][j]] : float4{0, 0, 0, 0};
        }
    dev::cluster_address peers[(S::BLOCKS + 3) / 4], bars[(S::BLOCKS + 3) / 4];
#pragma unroll
    for (unsigned i = 0; i < (S::BLOCKS + 3) / 4; i++) {
        unsigned to = quarter + 4 * i < S::BLOCKS ? quarter + 4 * i : 0;
        peers[i] = dev::map_shared(raw, to);
        bars[i] = dev::map_shared(full, to);
    }
    const dev::cluster_address told = dev::map_shared(full, lane < S::BLOCKS ? lane : 0);
    dev::sync_cluster(); /* mbarriers and buffer 0 are ready everywhere */

    const size_t step_size = (size_t)s.rows * S::UNITS;
    for (unsigned t = 0; t < s.steps; t++) {
        const unsigned now = t % 2, next = 1 - now;
        if (t > 0) {
            if (S::SCOPE == SCOPE_CLUSTER)
                dev::mbarrier_wait_cluster(&full[now], (t - 1) / 2 % 2);
            else dev::mbarrier_wait(&full[now], (t - 1) / 2 % 2);
            if (S::PUSH == PUSH_ASYNC && thread == 0 && t + 2 < s.steps)
                dev::mbarrier_arrive_expect(&full[now], step_bytes);
        }
        float sums[2][S::TILES][4];
        multiply<S>(raw + h_at<S>(now, part * S::DEPTH * 2, 0), weights, more_weights,
                    sums);
        if (S::SPLIT > 1)
            add_parts<S>(reinterpret_cast<float4 *>(raw + S::PARTS_AT), sums);
        /* All lanes' reads of h come before any lane's push: a product orders no memory. */
        dev::sync_warp();
#pragma unroll
        for (unsigned n = 0; n < S::TILES; n++) {
            if (n % S::SPLIT != part || 8 * n >= rows) continue;
#pragma unroll
            for (unsigned j = 0; j < 2; j++) {
                float i = sigmoid_fast(sums[0][n][j] + z[n][j].x);
                float f = sigmoid_fast(sums[0][n][2 + j] + z[n][j].y);
                float g = tanh_fast(sums[1][n][j] + z[n][j].z);
                float o = sigmoid_fast(sums[1][n][2 + j] + z[n][j].w);
                c[n][j] = fmaf(f, c[n][j], i * g);
                h[n][j] = o * tanh_fast(c[n][j]);
            }
            if (t + 1 == s.steps) continue;
            /* From a unit's two rows a lane to a row's eight units, the same in four lanes. */
            uint32_t two =
                dev::transpose_matrix(bits_of(h[n][0]) | bits_of(h[n][1]) << 16);
            uint32_t eight[4];
            eight[0] = dev::shuffle(two, lane / 4 * 4);
            eight[1] = dev::shuffle(two, lane / 4 * 4 + 1);
            eight[2] = dev::shuffle(two, lane / 4 * 4 + 2);
            eight[3] = dev::shuffle(two, lane / 4 * 4 + 3);
            const unsigned row = 8 * n + lane / 4;
            const unsigned to = h_at<S>(next, first_unit / 8, row);
#pragma unroll
            for (unsigned i = 0; i < (S::BLOCKS + 3) / 4; i++)
                if (row < rows && quarter + 4 * i < S::BLOCKS) {
                    if (S::PUSH == PUSH_ASYNC)
                        dev::store_async(dev::advance(peers[i], to), eight,
                                         dev::advance(bars[i], 8 * next));
                    else dev::store_cluster(dev::advance(peers[i], to), eight);
                }
        }
        if (S::PUSH == PUSH_STORES && t + 1 < s.steps && part < S::FINISHERS) {
            dev::sync_warp(); /* the warp's stores come before its lanes' releases */
            if (lane < S::BLOCKS)
                dev::mbarrier_arrive_cluster(dev::advance(told, 8 * next));
        }
        /* Off the critical path. */
#pragma unroll
        for (unsigned n = 0; n < S::TILES; n++)
#pragma unroll
            for (unsigned j = 0; j < 2; j++)
                if (is_mine[n][j]) {
                    s.y[t % s.z_steps * step_size + at[n][j]] = h[n][j];
                    if (t + 1 < s.steps)
                        z[n][j] = dev::load_read_only(
                            s.z + (t + 1) % s.z_steps * step_size + at[n][j]);
                }
    }
#pragma unroll
    for (unsigned n = 0; n < S::TILES; n++)
#pragma unroll
        for (unsigned j = 0; j < 2; j++)
            if (is_mine[n][j] && s.steps > 0) {
                s.h[at[n][j]] = h[n][j];
                s.c[at[n][j]] = c[n][j];
            }
}

template <class S> cluster_step_shape shape_of()
{
    return {S::UNITS, S::BLOCKS,   S::SPLIT,   S::TILES,        S::IN_REGISTERS, S::PUSH,
            S::SCOPE, S::RESIDENT, S::THREADS, S::SHARED_BYTES, &cluster_step<S>};
}

} // namespace

const std::vector<cluster_step_shape> &cluster_step_shapes()
{
    const push ASYNC = PUSH_ASYNC, STORES = PUSH_STORES;
    const scope CLUSTER = SCOPE_CLUSTER, BLOCK = SCOPE_BLOCK;
    static const std::vector<cluster_step_shape> shapes = {
        /* units, blocks, split, tiles, in registers */
        shape_of<shape<128, 1, 1, 1, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<128, 2, 1, 1, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<128, 2, 1, 1, 8, ASYNC, BLOCK, 1>>(),
        shape_of<shape<128, 2, 1, 1, 8, STORES, CLUSTER, 1>>(),
        shape_of<shape<128, 2, 1, 1, 8, ASYNC, CLUSTER, 2>>(),
        shape_of<shape<128, 2, 1, 2, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<128, 4, 1, 1, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<128, 4, 2, 1, 4, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 2, 1, 1, 4, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 4, 1, 1, 16, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 4, 1, 2, 16, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 4, 2, 1, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 8, 1, 1, 16, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 8, 2, 1, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<256, 8, 2, 1, 8, ASYNC, BLOCK, 1>>(),
        shape_of<shape<256, 8, 2, 1, 8, STORES, CLUSTER, 1>>(),
        shape_of<shape<256, 8, 2, 1, 8, ASYNC, CLUSTER, 2>>(),
        shape_of<shape<512, 16, 2, 1, 16, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<512, 16, 2, 1, 16, ASYNC, BLOCK, 1>>(),
        shape_of<shape<512, 16, 2, 1, 16, STORES, CLUSTER, 1>>(),
        shape_of<shape<512, 16, 2, 2, 16, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<640, 16, 2, 1, 10, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<640, 16, 2, 2, 8, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<32, 1, 1, 1, 2, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<32, 2, 1, 1, 1, ASYNC, BLOCK, 1>>(),
        shape_of<shape<32, 2, 1, 2, 2, STORES, CLUSTER, 1>>(),
        shape_of<shape<64, 2, 2, 1, 2, ASYNC, CLUSTER, 2>>(),
        shape_of<shape<64, 4, 2, 2, 1, ASYNC, CLUSTER, 1>>(),
        shape_of<shape<64, 4, 2, 1, 1, STORES, CLUSTER, 1>>()};
    return shapes;
}

std::vector<uint32_t> cluster_step_pack(const cluster_step_shape &s,
                                        const std::vector<uint16_t> &recurrent)
{
    const unsigned of_block = s.units / s.blocks, depth = s.units / 16 / s.split;
    std::vector<uint32_t> words;
    for (unsigned rank = 0; rank < s.blocks; rank++)
        for (unsigned group = 0; group < of_block / 8; group++)
            for (unsigned part = 0; part < s.split; part++)
                for (unsigned k16 = 0; k16 < depth; k16++)
                    for (unsigned m = 0; m < 2; m++)
                        for (unsigned lane = 0; lane < 32; lane++)
                            for (unsigned r = 0; r < 4; r++) {
                                unsigned gate = 2 * m + r % 2;
                                unsigned unit = rank * of_block + 8 * group + lane / 4;
                                unsigned k = (part * depth + k16) * 16 + lane % 4 * 2 +
                                             8 * (r / 2);
                                const uint16_t *two =
                                    &recurrent[((size_t)gate * s.units + unit) * s.units +
                                               k];
                                words.push_back(two[0] | (uint32_t)two[1] << 16);
                            }
    return words;
}

} // namespace probe
