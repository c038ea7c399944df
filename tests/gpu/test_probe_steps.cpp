/* The probe's recurrences against float64 under many schedules, and every wait of theirs dropped. */
#include "check.h"

#include "bench/probe/cluster_step.h"
#include "bench/probe/grid_step.h"
#include "bench/probe/step_reference.h"

using check::Scenario;
using namespace probe;

namespace
{

const unsigned Z_STEPS = 3;

bool cluster_good_as(const cluster_step_shape &s, unsigned rows, unsigned steps)
{
    const StepData data(s.units, rows, Z_STEPS, 1);
    const std::vector<uint32_t> weights = cluster_step_pack(s, data.recurrent);
    std::vector<float4> z(data.z.size() / 4);
    memcpy((void *)z.data(), data.z.data(), data.z.size() * 4);
    std::vector<uint4> packed(weights.size() / 4);
    memcpy((void *)packed.data(), weights.data(), weights.size() * 4);
    std::vector<float> h = data.h, c = data.c, y(z.size(), NAN);
    const unsigned clusters = (rows + 8 * s.tiles - 1) / (8 * s.tiles);
    cluster_step_args args = {packed.data(), z.data(), h.data(), c.data(),
                              y.data(),      rows,     steps,    Z_STEPS};
    if (dev::allow_shared(s.kernel, (int)s.shared_bytes) ||
        dev::launch(
            s.kernel,
            {dim3(clusters * s.blocks), dim3(s.threads), s.shared_bytes, s.blocks, 0}, 0,
            args))
        return WRONG;
    check::where_wrong = wrong_steps(data, steps, c, y);
    if (!check::where_wrong.empty()) return false;
    for (unsigned i = 0; i < h.size(); i++) /* the state is the last y */
        if (h[i] != y[(steps - 1) % Z_STEPS * h.size() + i]) return WRONG;
    return true;
}

bool clusters_good()
{
    for (const cluster_step_shape &s : cluster_step_shapes()) {
        if (s.units > 64) continue;
        /* Two clusters, the second not full; then steps that never, once or twice use a buffer. */
        if (!cluster_good_as(s, 8 * s.tiles + 3, 5)) return false;
        for (unsigned steps : {1u, 2u, 3u})
            if (!cluster_good_as(s, 1, steps)) return false;
    }
    return true;
}

bool one_cluster_good(unsigned units, unsigned blocks, push how)
{
    for (const cluster_step_shape &s : cluster_step_shapes())
        if (s.units == units && s.blocks == blocks && s.push == how)
            return cluster_good_as(s, 8 * s.tiles, 5);
    return WRONG;
}

bool grid_good_as(const grid_step_shape &s, unsigned rows)
{
    const unsigned steps = 3;
    const StepData data(s.units, rows, Z_STEPS, 2);
    const std::vector<uint32_t> weights = grid_step_pack(s, data.recurrent);
    std::vector<float4> z(data.z.size() / 4);
    memcpy((void *)z.data(), data.z.data(), data.z.size() * 4);
    std::vector<uint4> packed(weights.size() / 4),
        pairs(data.h.size() / 4, uint4{~0u, ~0u, ~0u, ~0u});
    memcpy((void *)packed.data(), weights.data(), weights.size() * 4);
    std::vector<float> c = data.c, y(z.size(), NAN);
    std::vector<uint64_t> board(data.h.size(), ~(uint64_t)0);
    uint32_t *words = reinterpret_cast<uint32_t *>(pairs.data());
    for (size_t i = 0; i < data.h.size() / 2; i++) {
        words[i] = bf16_bits(data.h[2 * i]) | (uint32_t)bf16_bits(data.h[2 * i + 1])
                                                  << 16;
        board[i] = words[i];
    }
    std::vector<unsigned> flags((rows + 7) / 8 * s.units / s.of_block, 0);
    const size_t bytes = grid_step_shared_bytes(s, rows);
    /* Two launches: the second goes on with what the first left. */
    for (unsigned first : {0u, steps}) {
        grid_step_args args = {packed.data(), z.data(), c.data(),     y.data(),
                               board.data(),  words,    flags.data(), rows,
                               steps,         Z_STEPS,  first};
        if (dev::allow_shared(s.kernel, (int)bytes) ||
            dev::launch(s.kernel,
                        {dim3(s.units / s.of_block), dim3(32 * s.warps), bytes, 0,
                         dev::LAUNCH_COOPERATIVE},
                        0, args))
            return WRONG;
    }
    check::where_wrong = wrong_steps(data, 2 * steps, c, y);
    return check::where_wrong.empty();
}

bool grids_good()
{
    for (const grid_step_shape &s : grid_step_shapes())
        if (s.units <= 64 && !(grid_good_as(s, 1) && grid_good_as(s, 11))) return false;
    return true;
}

} // namespace

int main()
{
    emu::options.blocks_per_multiprocessor = 8;
    check::under_schedules({{"cluster steps", clusters_good}, {"grid steps", grids_good}},
                           4);
    /* An operation of the whole warp follows each sync_warp, so that only TSan can see one dropped. */
    check::every_site_matters(
        {{"st.async", [] { return one_cluster_good(32, 2, PUSH_ASYNC); }},
         {"split, st.async", [] { return one_cluster_good(64, 4, PUSH_ASYNC); }},
         {"split, stores", [] { return one_cluster_good(64, 4, PUSH_STORES); }},
         {"grid", grids_good}},
        24, emu::SYNC_WARP);
    return check::summary();
}
