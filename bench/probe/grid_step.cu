/* All steps of one LSTM layer's recurrence in one cooperative launch, the weights resident over the whole grid: the
 * skeleton of a grid-persistent kernel, as the floor that one could reach. bf16 products, sums and cell in float.
 *
 *     z' = z[t] + h * recurrent;   c = sigmoid(f) c + sigmoid(i) tanh(g);   h = sigmoid(o) tanh(c)
 *
 * Layout: a block owns OF_BLOCK units, a warp 1 / WARPS of k for all of them; weights as fragments of mma.m16n8k16 whose
 * 16 rows are four units by four gates, IN_REGISTERS sixteens of k in registers, the rest in shared memory. Rows go by in
 * eights ("tiles"), one after the other through each step:
 *
 *     gather     h of eight rows and all units from L2 to shared memory, [units / 8][8 rows][8 units] bf16
 *     multiply   every warp its part of k; sums to shared memory, [warp][unit][40]: gate * 8 + row, and room that keeps
 *                four units out of each other's banks
 *     finish     one thread a unit and row adds the parts, first to last, and publishes its h
 *
 * Exchange: step t publishes stamp first + t + 1 in the half of that parity. EXCHANGE_STAMPS: a pair of numbers and its
 * stamp are one word of 64 bits, polled where it is needed. EXCHANGE_FLAGS: pairs without stamps, and behind them a
 * release of the block's flag. Why a half is not overwritten too early: a block publishes stamp s + 1 of a tile once it
 * has all of stamp s of that tile, whose blocks all were through with stamp s - 1 before (the barrier after the gathering).
 *
 * Why this shape: nothing but the exchange and the resident slice is in a step; no ping-pong of half batches, no
 * multicast. Launch: cooperative, units / OF_BLOCK blocks of 32 * WARPS threads. Limits: sm_80; as many blocks resident.
 * Called by: part_grid.cu. Test: tests/gpu/test_probe_steps.cpp. */
#include "grid_step.h"

#include "probe_ptx.cuh"

namespace probe
{

namespace
{

template <unsigned UNITS_, unsigned OF_BLOCK_, unsigned WARPS_, unsigned IN_REGISTERS_,
          exchange EXCHANGE_>
struct shape {
    static constexpr unsigned UNITS = UNITS_, OF_BLOCK = OF_BLOCK_, WARPS = WARPS_;
    static constexpr unsigned IN_REGISTERS = IN_REGISTERS_;
    static constexpr exchange EXCHANGE = EXCHANGE_;

    static constexpr unsigned BLOCKS = UNITS / OF_BLOCK, THREADS = 32 * WARPS;
    static constexpr unsigned DEPTH = UNITS / 16 / WARPS; /* sixteens of k of a warp */
    static constexpr unsigned IN_SHARED = DEPTH - IN_REGISTERS;
    static constexpr unsigned FOURS = OF_BLOCK / 4; /* matrices A side by side */
    static constexpr unsigned PITCH = 40;           /* floats of a unit's sums */

    static constexpr size_t SUMS_AT = 16 * (size_t)UNITS; /* behind h */
    static constexpr size_t WEIGHTS_AT =
        SUMS_AT + (size_t)WARPS * OF_BLOCK * PITCH * sizeof(float);
    static constexpr size_t C_AT = WEIGHTS_AT + (size_t)WARPS * IN_SHARED * FOURS * 512;

    static_assert(OF_BLOCK % 4 == 0 && UNITS % (32 * WARPS) == 0, "units");
    static_assert(8 * OF_BLOCK <= THREADS && IN_REGISTERS <= DEPTH, "threads");
};

/* h of a tile's rows into shared memory. A thread has four words under way. */
template <class S>
__device__ __forceinline__ void gather_stamped(unsigned char *h, const uint64_t *board,
                                               unsigned rows, unsigned stamp)
{
    const unsigned count = rows * S::UNITS / 2, ahead = 4;
    for (unsigned first = threadIdx.x; first < count; first += ahead * S::THREADS) {
        uint64_t words[ahead];
#pragma unroll
        for (unsigned i = 0; i < ahead; i++)
            if (first + i * S::THREADS < count)
                words[i] = load_relaxed(board + first + i * S::THREADS);
#pragma unroll
        for (unsigned i = 0; i < ahead; i++) {
            unsigned at = first + i * S::THREADS;
            if (at >= count) continue;
            if (words[i] >> 32 != stamp) words[i] = wait_stamped(board + at, stamp);
            unsigned row = at / (S::UNITS / 2), k = at % (S::UNITS / 2) * 2;
            *reinterpret_cast<uint32_t *>(h + (k / 8 * 8 + row) * 16 + k % 8 * 2) =
                (uint32_t)words[i];
        }
    }
}

template <class S>
__device__ __forceinline__ void gather_flagged(unsigned char *h, const uint32_t *pairs,
                                               const unsigned *flags, unsigned rows,
                                               unsigned stamp)
{
    for (unsigned block = threadIdx.x; block < S::BLOCKS; block += S::THREADS)
        while ((int)(dev::load_acquire(flags + block) - stamp) < 0) {
        }
    dev::sync_block(); /* each thread's acquire comes before every thread's reads */
    const uint4 *eights = reinterpret_cast<const uint4 *>(pairs);
    for (unsigned i = threadIdx.x; i < rows * S::UNITS / 8; i += S::THREADS) {
        unsigned row = i / (S::UNITS / 8), eighth = i % (S::UNITS / 8);
        *reinterpret_cast<uint4 *>(h + (eighth * 8 + row) * 16) = load_l2(eights + i);
    }
}

template <class S>
__global__ void __launch_bounds__(S::THREADS, 1) grid_step(grid_step_args s)
{
    DEV_SHARED_DYNAMIC(raw);
    const unsigned thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const unsigned tiles = (s.rows + 7) / 8;
    float *sums = reinterpret_cast<float *>(raw + S::SUMS_AT);
    float *c = reinterpret_cast<float *>(raw + S::C_AT); /* [rows in eights][units] */
    dev::expect_cooperative();

    uint32_t weights[S::IN_REGISTERS + 1][S::FOURS][4];
    uint4 *more_weights = reinterpret_cast<uint4 *>(raw + S::WEIGHTS_AT) +
                          warp * S::IN_SHARED * S::FOURS * 32 + lane;
    const uint4 *packed =
        s.weights + ((size_t)blockIdx.x * S::WARPS + warp) * S::DEPTH * S::FOURS * 32 +
        lane;
#pragma unroll
    for (unsigned k = 0; k < S::DEPTH; k++)
#pragma unroll
        for (unsigned m = 0; m < S::FOURS; m++) {
            uint4 v = dev::load_read_only(packed + (k * S::FOURS + m) * 32);
            if (k < S::IN_REGISTERS) {
                weights[k][m][0] = v.x;
                weights[k][m][1] = v.y;
                weights[k][m][2] = v.z;
                weights[k][m][3] = v.w;
            } else more_weights[((k - S::IN_REGISTERS) * S::FOURS + m) * 32] = v;
        }
    /* What a thread finishes of each tile: one unit of one row. */
    const unsigned unit = thread / 8, in_tile = thread % 8;
    const unsigned column = blockIdx.x * S::OF_BLOCK + unit;
    const bool finishes = thread < 8 * S::OF_BLOCK;
    for (unsigned tile = 0; tile < tiles && finishes; tile++) {
        unsigned row = 8 * tile + in_tile;
        if (row < s.rows)
            c[row * S::OF_BLOCK + unit] = s.c[(size_t)row * S::UNITS + column];
    }
    /* Rows that are none stay zeros, or what the tile before left: nobody looks at their sums. */
    for (unsigned i = thread; i < S::SUMS_AT / 16; i += S::THREADS)
        reinterpret_cast<uint4 *>(raw)[i] = {0, 0, 0, 0};
    dev::sync_block();

    const size_t half = (size_t)s.rows * S::UNITS / 2;
    for (unsigned t = 0; t < s.steps; t++)
        for (unsigned tile = 0; tile < tiles; tile++) {
            const unsigned stamp = s.first + t, row = 8 * tile + in_tile;
            const unsigned rows = s.rows - 8 * tile < 8 ? s.rows - 8 * tile : 8;
            const size_t at = t % s.z_steps * 2 * half + (size_t)row * S::UNITS + column;
            const size_t from = stamp % 2 * half + (size_t)tile * 8 * S::UNITS / 2;
            float4 z = {0, 0, 0, 0};
            if (finishes && row < s.rows) z = dev::load_read_only(s.z + at);
            if (S::EXCHANGE == EXCHANGE_STAMPS)
                gather_stamped<S>(raw, s.board + from, rows, stamp);
            else
                gather_flagged<S>(raw, s.pairs + from, s.flags + tile * S::BLOCKS, rows,
                                  stamp);
            dev::sync_block();

            float d[S::FOURS][4] = {};
            const unsigned char *h = raw + warp * S::DEPTH * 256;
#pragma unroll
            for (unsigned k = 0; k < S::DEPTH; k += 2) {
                uint32_t b[4];
                dev::load_matrix_x4(b, h + (k * 16 + lane) * 16);
#pragma unroll
                for (unsigned e = 0; e < 2; e++)
#pragma unroll
                    for (unsigned m = 0; m < S::FOURS; m++) {
                        uint32_t a[4];
                        if (k + e < S::IN_REGISTERS) {
#pragma unroll
                            for (unsigned i = 0; i < 4; i++)
                                a[i] = weights[k + e < S::IN_REGISTERS ? k + e : 0][m][i];
                        } else {
                            uint4 v =
                                more_weights[((k + e - S::IN_REGISTERS) * S::FOURS + m) *
                                             32];
                            a[0] = v.x;
                            a[1] = v.y;
                            a[2] = v.z;
                            a[3] = v.w;
                        }
                        const uint32_t of_e[2] = {b[2 * e], b[2 * e + 1]};
                        dev::mma_bf16(d[m], a, of_e, d[m]);
                    }
            }
            /* Row 4 unit + gate of a matrix A, columns 2 q and 2 q + 1. */
#pragma unroll
            for (unsigned m = 0; m < S::FOURS; m++)
#pragma unroll
                for (unsigned i = 0; i < 4; i += 2) {
                    unsigned of_m = lane / 4 + 4 * i, of_unit = 4 * m + of_m / 4;
                    float *to = sums + (warp * S::OF_BLOCK + of_unit) * S::PITCH +
                                of_m % 4 * 8 + lane % 4 * 2;
                    *reinterpret_cast<float2 *>(to) = {d[m][i], d[m][i + 1]};
                }
            dev::sync_block();

            if (!finishes)
                continue; /* to the next gathering; its barrier waits for the rest */
#pragma unroll
            for (unsigned w = 0; w < S::WARPS; w++) {
                const float *part = sums + (w * S::OF_BLOCK + unit) * S::PITCH + in_tile;
                z.x += part[0];
                z.y += part[8];
                z.z += part[16];
                z.w += part[24];
            }
            float value = 0;
            if (row < s.rows) {
                float &cell = c[row * S::OF_BLOCK + unit];
                cell = fmaf(sigmoid_fast(z.y), cell, sigmoid_fast(z.x) * tanh_fast(z.z));
                value = sigmoid_fast(z.w) * tanh_fast(cell);
                s.y[at] = value;
            }
            float other = dev::shuffle_down(value, 8); /* the next unit of this row */
            if (unit % 2 == 0 && row < s.rows) {
                alignas(4) __nv_bfloat16 two[2] = {__float2bfloat16(value),
                                                   __float2bfloat16(other)};
                const uint32_t pair = reinterpret_cast<const uint32_t &>(two);
                const size_t to =
                    (stamp + 1) % 2 * half + ((size_t)row * S::UNITS + column) / 2;
                if (S::EXCHANGE == EXCHANGE_STAMPS)
                    store_relaxed(s.board + to, (uint64_t)(stamp + 1) << 32 | pair);
                else s.pairs[to] = pair;
            }
            if (S::EXCHANGE == EXCHANGE_FLAGS) {
                dev::sync_named(1, 8 * S::OF_BLOCK); /* all have written */
                if (thread == 0)
                    dev::store_release(s.flags + tile * S::BLOCKS + blockIdx.x,
                                       stamp + 1);
            }
        }
    for (unsigned tile = 0; tile < tiles && finishes; tile++) {
        unsigned row = 8 * tile + in_tile;
        if (row < s.rows)
            s.c[(size_t)row * S::UNITS + column] = c[row * S::OF_BLOCK + unit];
    }
}

template <class S> grid_step_shape shape_of()
{
    return {S::UNITS,    S::OF_BLOCK, S::WARPS,     S::IN_REGISTERS,
            S::EXCHANGE, S::C_AT,     &grid_step<S>};
}

} // namespace

const std::vector<grid_step_shape> &grid_step_shapes()
{
    static const std::vector<grid_step_shape> shapes = {
        /* units, of a block, warps, in registers */
        shape_of<shape<512, 4, 8, 4, EXCHANGE_STAMPS>>(),
        shape_of<shape<512, 4, 8, 4, EXCHANGE_FLAGS>>(),
        shape_of<shape<1024, 8, 8, 8, EXCHANGE_STAMPS>>(),
        shape_of<shape<1024, 8, 8, 8, EXCHANGE_FLAGS>>(),
        shape_of<shape<2048, 16, 16, 4, EXCHANGE_STAMPS>>(),
        shape_of<shape<2048, 16, 16, 4, EXCHANGE_FLAGS>>(),
        shape_of<shape<64, 8, 2, 1, EXCHANGE_STAMPS>>(),
        shape_of<shape<64, 8, 2, 2, EXCHANGE_FLAGS>>()};
    return shapes;
}

std::vector<uint32_t> grid_step_pack(const grid_step_shape &s,
                                     const std::vector<uint16_t> &recurrent)
{
    const unsigned depth = s.units / 16 / s.warps;
    std::vector<uint32_t> words;
    for (unsigned block = 0; block < s.units / s.of_block; block++)
        for (unsigned warp = 0; warp < s.warps; warp++)
            for (unsigned k16 = 0; k16 < depth; k16++)
                for (unsigned m = 0; m < s.of_block / 4; m++)
                    for (unsigned lane = 0; lane < 32; lane++)
                        for (unsigned r = 0; r < 4; r++) {
                            unsigned of_m = lane / 4 + 8 * (r % 2);
                            unsigned unit = block * s.of_block + 4 * m + of_m / 4;
                            unsigned k =
                                (warp * depth + k16) * 16 + lane % 4 * 2 + 8 * (r / 2);
                            const uint16_t *two =
                                &recurrent[((size_t)(of_m % 4) * s.units + unit) *
                                               s.units +
                                           k];
                            words.push_back(two[0] | (uint32_t)two[1] << 16);
                        }
    return words;
}

} // namespace probe
