/* Every function of the dialect does in the emulator what the CUDA and PTX manuals say, against plain host
 * code written from those; and every sync site of the small kernels, dropped, is noticed. */
#include "check.h"
#include "dialect_kernels.h"

using check::Scenario;

namespace
{

const dev::launch_shape one_warp = {dim3(1), dim3(32), 0, 0, 0};

bool warp_good()
{
    for (unsigned n : {0u, 1u, 3u, 16u, 31u}) {
        std::vector<int> out(160);
        if (dev::launch(dialect_warp, one_warp, 0, out.data(), n)) return WRONG;
        for (int l = 0; l < 32; l++) {
            int up = l - (int)n, down = l + (int)n;
            if (out[l] != 10 * (int)n || out[32 + l] != 10 * (l ^ (int)n) ||
                out[64 + l] != 10 * (up < 0 ? l : up) ||
                out[96 + l] != 10 * (down > 31 ? l : down) ||
                (unsigned)out[128 + l] != 0xaaaaaaaau)
                return WRONG;
        }
    }
    return true;
}

bool mask_good()
{
    for (unsigned mask : {1u, 0x55u, 0xffff0001u, ~0u}) {
        std::vector<unsigned> out(32);
        if (dev::launch(dialect_mask, one_warp, 0, out.data(), mask)) return WRONG;
        for (unsigned l = 0; l < 32; l++)
            if (out[l] != (mask >> l & 1 ? mask + 3 : 7)) return WRONG;
    }
    return true;
}

bool block_good()
{
    for (unsigned n : {1u, 33u, 128u}) {
        std::vector<float> in = check::random_floats(n, 1, -1, 1), out(n);
        dev::launch_shape shape = {dim3(1), dim3(n), 0, 0, 0};
        if (dev::launch(dialect_block, shape, 0, in.data(), out.data())) return WRONG;
        for (unsigned i = 0; i < n; i++)
            if (out[i] != in[n - 1 - i]) return WRONG;
    }
    return true;
}

bool named_good()
{
    std::vector<int> in(128), out(128);
    for (int i = 0; i < 128; i++)
        in[i] = 3 * i;
    dev::launch_shape shape = {dim3(1), dim3(128), 0, 0, 0};
    if (dev::launch(dialect_named, shape, 0, in.data(), out.data())) return WRONG;
    for (int i = 0; i < 128; i++)
        if (out[i] != 3 * (i ^ 63)) return WRONG;
    return true;
}

bool matrix_good()
{
    std::vector<uint16_t> in(256);
    for (unsigned i = 0; i < 256; i++)
        in[i] = (uint16_t)(1000 + 7 * i);
    std::vector<uint32_t> out(14 * 32);
    dev::launch_shape shape = {dim3(1), dim3(64), 0, 0, 0};
    if (dev::launch(dialect_matrix, shape, 0, in.data(), out.data())) return WRONG;
    auto at = [&](unsigned m, unsigned row, unsigned column) -> uint32_t {
        return in[m * 64 + row * 8 + column];
    };
    const unsigned matrices[14] = {0, 0, 1, 0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 0};
    for (unsigned r = 0; r < 14; r++)
        for (unsigned l = 0; l < 32; l++) {
            unsigned m = matrices[r], i = l / 4, j = l % 4 * 2;
            uint32_t straight = at(m, i, j) | at(m, i, j + 1) << 16;
            uint32_t turned = at(m, j, i) | at(m, j + 1, i) << 16;
            if (out[r * 32 + l] != (r >= 7 ? turned : straight)) return WRONG;
        }
    return true;
}

/* A product whose matrices are laid out in fragments here, element by element, from the tables of the
 * PTX manual, with values that every type holds exactly and sums without rounding. */
enum Type { BF16, F16, TF32 };

uint32_t bits_of(Type type, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == TF32) return bits;
    if (type == BF16) return bits >> 16;
    uint16_t half;
    __half h = __float2half(value);
    memcpy(&half, &h, sizeof half);
    return half;
}

template <class KERNEL>
bool mma_good_as(KERNEL kernel, Type type, unsigned k_count, unsigned seed)
{
    std::mt19937 generator(seed);
    float a[16][16], b[16][8], c[16][8];
    for (auto &row : a)
        for (float &v : row)
            v = (float)((int)(generator() % 33) - 16) / 8;
    for (auto &row : b)
        for (float &v : row)
            v = (float)((int)(generator() % 33) - 16) / 4;
    for (auto &row : c)
        for (float &v : row)
            v = (float)((int)(generator() % 65) - 32) / 32;
    std::vector<uint32_t> fa(4 * 32), fb(2 * 32);
    std::vector<float> fc(4 * 32), fd(4 * 32);
    for (unsigned l = 0; l < 32; l++) {
        unsigned group = l >> 2, in_group = l & 3;
        for (unsigned r = 0; r < 4; r++) {
            fc[r * 32 + l] = c[group + (r > 1 ? 8 : 0)][in_group * 2 + (r & 1)];
            unsigned row = group + (r & 1 ? 8 : 0);
            if (type == TF32)
                fa[r * 32 + l] = bits_of(type, a[row][in_group + (r > 1 ? 4 : 0)]);
            else if (r > 1 && k_count == 8) continue;
            else
                fa[r * 32 + l] = bits_of(type, a[row][in_group * 2 + (r > 1 ? 8 : 0)]) |
                                 bits_of(type, a[row][in_group * 2 + 1 + (r > 1 ? 8 : 0)])
                                     << 16;
        }
        for (unsigned r = 0; r < 2; r++) {
            if (type == TF32) fb[r * 32 + l] = bits_of(type, b[in_group + 4 * r][group]);
            else if (8 * r < k_count)
                fb[r * 32 + l] = bits_of(type, b[in_group * 2 + 8 * r][group]) |
                                 bits_of(type, b[in_group * 2 + 1 + 8 * r][group]) << 16;
        }
    }
    if (dev::launch(kernel, one_warp, 0, fa.data(), fb.data(), fc.data(), fd.data()))
        return WRONG;
    for (unsigned l = 0; l < 32; l++)
        for (unsigned r = 0; r < 4; r++) {
            unsigned row = (l >> 2) + (r > 1 ? 8 : 0), column = (l & 3) * 2 + (r & 1);
            float sum = c[row][column];
            for (unsigned k = 0; k < k_count; k++)
                sum += a[row][k] * b[k][column];
            if (fd[r * 32 + l] != sum) return WRONG;
        }
    return true;
}

bool mma_good()
{
    return mma_good_as(dialect_mma_bf16, BF16, 16, 1) &&
           mma_good_as(dialect_mma_f16, F16, 16, 2) &&
           mma_good_as(dialect_mma_f16_k8, F16, 8, 3) &&
           mma_good_as(dialect_mma_tf32, TF32, 8, 4);
}

bool tf32_good()
{
    /* 10 bits of fraction are kept: the unit of 1 is 2^-10. */
    const float unit = 0x1p-10f;
    std::vector<float> in(32, 0);
    const float rounded[][2] = {{1, 1},
                                {1 + unit, 1 + unit},
                                {1 + unit / 2, 1 + unit},
                                {1 + 0.49f * unit, 1},
                                {-1 - unit / 2, -1 - unit},
                                {1 + 1.5f * unit, 1 + 2 * unit},
                                {INFINITY, INFINITY}};
    unsigned count = sizeof rounded / sizeof *rounded;
    for (unsigned i = 0; i < count; i++)
        in[i] = rounded[i][0];
    std::vector<uint32_t> out(32);
    if (dev::launch(dialect_to_tf32, one_warp, 0, in.data(), out.data())) return WRONG;
    for (unsigned i = 0; i < count; i++) {
        float value;
        memcpy(&value, &out[i], sizeof value);
        if (value != rounded[i][1]) return WRONG;
    }
    return true;
}

bool copy_good()
{
    alignas(16) uint32_t in[768];
    for (unsigned i = 0; i < 768; i++)
        in[i] = 100000 + i;
    std::vector<uint32_t> out(768);
    dev::launch_shape shape = {dim3(1), dim3(64), 0, 0, 0};
    if (dev::launch(dialect_copy, shape, 0, in, out.data())) return WRONG;
    for (unsigned t = 0; t < 3; t++)
        for (unsigned i = 0; i < 64; i++)
            for (unsigned w = 0; w < 4; w++)
                if (out[(t * 64 + i) * 4 + w] !=
                    (t == 2 && w == 3 ? 0 : in[(t * 64 + 63 - i) * 4 + w]))
                    return WRONG;
    if (dev::launch(dialect_copy_narrow, one_warp, 0, in, out.data())) return WRONG;
    for (unsigned i = 0; i < 32; i++)
        if (out[i] != in[31 - i] || out[32 + 2 * i] != in[2 * (31 - i)] ||
            out[32 + 2 * i + 1] != in[2 * (31 - i) + 1])
            return WRONG;
    return true;
}

bool atomic_good()
{
    unsigned sum = 5;
    float float_sum = 0.5f;
    dev::launch_shape shape = {dim3(3), dim3(40), 0, 0, 0};
    if (dev::launch(dialect_atomic, shape, 0, &sum, &float_sum)) return WRONG;
    return sum == 125 && float_sum == 120.5f;
}

bool flag_good()
{
    unsigned flag = 0;
    std::vector<unsigned> data(64), out(64);
    /* Block 1 waits for block 0, so both must be resident. */
    dev::launch_shape shape = {dim3(2), dim3(64), 0, 0, dev::LAUNCH_COOPERATIVE};
    if (dev::launch(dialect_flag, shape, 0, &flag, data.data(), out.data())) return WRONG;
    for (unsigned i = 0; i < 64; i++)
        if (out[i] != 5 * i) return WRONG;
    return true;
}

bool grid_good()
{
    const unsigned blocks = 5, rounds = 4;
    unsigned arrivals = 0;
    std::vector<unsigned> cells(2 * blocks);
    for (unsigned b = 0; b < blocks; b++)
        cells[b] = 100 * b;
    dev::launch_shape shape = {dim3(blocks), dim3(32), 0, 0, dev::LAUNCH_COOPERATIVE};
    if (dev::launch(dialect_grid, shape, 0, &arrivals, cells.data(), (int)rounds))
        return WRONG;
    for (unsigned b = 0; b < blocks; b++)
        if (cells[b] != 100 * ((b + blocks * rounds - rounds) % blocks) + rounds)
            return WRONG;
    return arrivals == blocks * rounds;
}

bool cluster_good()
{
    for (unsigned n : {2u, 4u}) {
        std::vector<uint32_t> out(2 * n * 32);
        dev::launch_shape shape = {dim3(2 * n), dim3(32), 0, n, 0};
        if (dev::launch(dialect_cluster, shape, 0, out.data())) return WRONG;
        for (unsigned b = 0; b < 2 * n; b++)
            for (unsigned l = 0; l < 32; l++)
                if (out[b * 32 + l] != 100 * ((b + 1) % n) + 31 - l) return WRONG;
    }
    return true;
}

bool ring_good_as(void (*kernel)(uint32_t *, int), unsigned n)
{
    const int rounds = 5;
    std::vector<uint32_t> out(n * 32 * 4);
    dev::launch_shape shape = {dim3(n), dim3(32), 0, n, 0};
    if (n > 8 && dev::allow_cluster_16(kernel)) return WRONG;
    if (dev::launch(kernel, shape, 0, out.data(), rounds)) return WRONG;
    for (unsigned b = 0; b < n; b++)
        for (unsigned l = 0; l < 32; l++) {
            unsigned source = (b + 5 * n - rounds) % n;
            const uint32_t *words = &out[(b * 32 + l) * 4];
            if (words[0] != 1000 * source + l || words[1] != (unsigned)rounds ||
                words[2] != l || words[3] != source)
                return WRONG;
        }
    return true;
}

bool ring_async_good()
{
    return ring_good_as(dialect_ring_async, 2) && ring_good_as(dialect_ring_async, 4);
}

bool ring_plain_good()
{
    return ring_good_as(dialect_ring_plain, 2) && ring_good_as(dialect_ring_plain, 4);
}

bool mbarrier_good()
{
    const unsigned rounds = 5;
    std::vector<uint32_t> out(rounds * 32);
    dev::launch_shape shape = {dim3(1), dim3(64), 0, 0, 0};
    if (dev::launch(dialect_mbarrier, shape, 0, out.data(), (int)rounds)) return WRONG;
    for (unsigned r = 0; r < rounds; r++)
        for (unsigned l = 0; l < 32; l++)
            if (out[r * 32 + l] != 100 * r + 31 - l) return WRONG;
    return true;
}

bool dynamic_good()
{
    std::vector<unsigned> out(96);
    dev::launch_shape shape = {dim3(1), dim3(96), 96 * 4, 0, 0};
    if (dev::launch(dialect_dynamic, shape, 0, out.data())) return WRONG;
    for (unsigned i = 0; i < 96; i++)
        if (out[i] != 95 - i) return WRONG;
    return true;
}

bool local_good()
{
    std::vector<int> in(32), out(32);
    for (int i = 0; i < 32; i++)
        in[i] = (5 * i + 3) % 32;
    if (dev::launch(dialect_local, one_warp, 0, in.data(), out.data())) return WRONG;
    for (int i = 0; i < 32; i++)
        if (out[in[i]] != i) return WRONG;
    return true;
}

/* Truncated sums differ from exact ones, by less than two bits beyond the largest term. */
void numerics_differ()
{
    std::vector<uint32_t> a(4 * 32, bits_of(BF16, 1.0f) * 0x10001u),
        b(2 * 32, bits_of(BF16, 1.0f) * 0x10001u);
    std::vector<float> c(4 * 32, 0x1.fffffep+23f), d(4 * 32);
    emu::Options before = emu::options;
    emu::options.numerics = emu::Numerics::EXACT;
    CHECK(!dev::launch(dialect_mma_bf16, one_warp, 0, a.data(), b.data(), c.data(),
                       d.data()));
    float exact = d[0];
    emu::options.numerics = emu::Numerics::TRUNCATING;
    CHECK(!dev::launch(dialect_mma_bf16, one_warp, 0, a.data(), b.data(), c.data(),
                       d.data()));
    CHECK(exact == (float)(0x1.fffffep+23 + 16));
    CHECK(d[0] != exact && fabs(d[0] - exact) <= 2);
    emu::options = before;
}

#ifdef EMU_TSAN
/* A release or an acquire made relaxed changes no result on this processor; the race is seen. */
void weak_orders_noticed()
{
    const Scenario ordered[] = {{"store_release, load_acquire", flag_good},
                                {"grid_barrier", grid_good},
                                {"remote arrivals", ring_plain_good},
                                {"local mbarriers", mbarrier_good}};
    emu::Options before = emu::options;
    for (const Scenario &s : ordered)
        for (emu::Weaken weaken : {emu::Weaken::RELEASE, emu::Weaken::ACQUIRE}) {
            emu::options.weaken = weaken;
            unsigned noticed = 0;
            for (unsigned seed = 1; seed <= 4; seed++) {
                emu::options.seed = seed;
                noticed += !check::went_well(s);
            }
            printf("%s %s, %s relaxed: %u of 4\n", noticed ? "noticed" : "MISSED ",
                   s.name, weaken == emu::Weaken::RELEASE ? "release" : "acquire",
                   noticed);
            check::failures += noticed == 0;
        }
    emu::options = before;
}
#endif

} // namespace

int main()
{
    const std::vector<Scenario> scenarios = {
        {"shuffles, ballot", warp_good},
        {"lanes of a mask", mask_good},
        {"sync_block", block_good},
        {"sync_named", named_good},
        {"load_matrix", matrix_good},
        {"mma", mma_good},
        {"to_tf32", tf32_good},
        {"copy_async", copy_good},
        {"atomic_add", atomic_good},
        {"store_release, load_acquire", flag_good},
        {"grid_barrier", grid_good},
        {"cluster memory", cluster_good},
        {"store_async", ring_async_good},
        {"remote arrivals", ring_plain_good},
        {"local mbarriers", mbarrier_good},
        {"dynamic shared memory", dynamic_good},
        {"local memory", local_good},
    };
    check::under_schedules(scenarios, 32);
    numerics_differ();
    check::every_site_matters(scenarios, 16);
#ifdef EMU_TSAN
    weak_orders_noticed();
#endif
    CHECK(ring_good_as(dialect_ring_async, 16));
    return check::summary();
}
