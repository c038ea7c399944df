/* The probe's kernels do what they say, in emulation under many schedules; what they cost only a GPU tells. */
#include "check.h"

#include "bench/probe/probe_kernels.h"

using check::Scenario;

namespace
{

bool grid_good()
{
    const unsigned blocks = 5, rounds = 4;
    unsigned arrivals = 0;
    std::vector<unsigned> cells(2 * blocks);
    for (unsigned b = 0; b < blocks; b++)
        cells[b] = 100 * b;
    dev::launch_shape shape = {dim3(blocks), dim3(64), 0, 0, dev::LAUNCH_COOPERATIVE};
    if (dev::launch(probe_grid_barrier, shape, 0, &arrivals, cells.data(), rounds))
        return WRONG;
    for (unsigned b = 0; b < blocks; b++)
        if (cells[rounds % 2 * blocks + b] != 100 * ((b + rounds) % blocks) + rounds)
            return WRONG;
    return arrivals == blocks * rounds;
}

bool cluster_good()
{
    std::vector<unsigned> out(8);
    dev::launch_shape shape = {dim3(8), dim3(32), 0, 4, 0};
    if (dev::launch(probe_cluster_barrier, shape, 0, out.data(), 7u)) return WRONG;
    for (unsigned met : out)
        if (met != 7) return WRONG;
    return true;
}

bool exchange_good_as(unsigned blocks, unsigned words, unsigned threads)
{
    const unsigned rounds = 5;
    std::vector<unsigned> out(2 * blocks), value(blocks);
    dev::launch_shape shape = {dim3(2 * blocks), dim3(threads), 2u * blocks * words * 16,
                               blocks, 0};
    if (dev::launch(probe_exchange, shape, 0, out.data(), words, rounds)) return WRONG;
    for (unsigned b = 0; b < blocks; b++)
        value[b] = b;
    for (unsigned round = 0; round < rounds; round++) {
        unsigned sum = 0;
        for (unsigned b = 0; b < blocks; b++)
            for (unsigned w = 0; w < words; w++)
                sum += value[b] + (b * words + w) % 4;
        for (unsigned &v : value)
            v = 3 * v + sum;
    }
    for (unsigned b = 0; b < 2 * blocks; b++)
        if (out[b] != value[b % blocks]) return WRONG;
    return true;
}

bool exchange_good()
{
    return exchange_good_as(2, 2, 256) && exchange_good_as(4, 2, 32);
}

bool flags_good()
{
    const unsigned blocks = 3, words = 2, rounds = 3;
    std::vector<uint64_t> board(2 * blocks * words, ~(uint64_t)0);
    std::vector<unsigned> out(blocks);
    dev::launch_shape shape = {dim3(blocks), dim3(64), 0, 0, dev::LAUNCH_COOPERATIVE};
    /* The second launch goes on where the first ended, among its words. */
    for (unsigned first : {0u, rounds}) {
        if (dev::launch(probe_flags, shape, 0, out.data(), board.data(), words, first,
                        rounds))
            return WRONG;
        std::vector<unsigned> value = {0, 1, 2};
        for (unsigned round = 0; round < rounds; round++) {
            unsigned sum = 0;
            for (unsigned v : value)
                sum += 2 * v + 1;
            for (unsigned &v : value)
                v = 3 * v + sum;
        }
        if (out != value) return WRONG;
    }
    return true;
}

} // namespace

int main()
{
    check::under_schedules({{"grid barrier", grid_good},
                            {"cluster barrier", cluster_good},
                            {"exchange", exchange_good},
                            {"flags", flags_good}},
                           16);
    check::every_site_matters({{"exchange", exchange_good}, {"flags", flags_good}}, 24);
    return check::summary();
}
