/* Meeting among all blocks of a grid: by cooperative groups, by one counter, by flags that carry the data. */
#include "probe.h"

#include "probe_expected.h"
#include "probe_kernels.h"
#include "probe_raw.h"

namespace probe
{

namespace
{

/* Cells [2][blocks] as probe_grid_barrier starts with them. */
std::vector<unsigned> first_cells(unsigned blocks)
{
    std::vector<unsigned> cells(2 * blocks, 0xffffffffu);
    for (unsigned b = 0; b < blocks; b++)
        cells[b] = 100 * b;
    return cells;
}

std::string wrong_cells(const std::vector<unsigned> &cells, unsigned blocks,
                        unsigned rounds)
{
    for (unsigned b = 0; b < blocks; b++) {
        unsigned have = cells[rounds % 2 * blocks + b];
        unsigned expected = 100 * ((b + rounds) % blocks) + rounds;
        if (have != expected)
            return "cell " + std::to_string(b) + " is " + std::to_string(have) +
                   ", expected " + std::to_string(expected);
    }
    return "";
}

typedef std::function<cudaError_t(unsigned *cells, unsigned *arrivals, unsigned rounds)>
    Meeting;

void meet(const std::string &how, unsigned blocks, Expected expected,
          const Meeting &meeting)
{
    const unsigned rounds = size(2000u, 4u);
    std::string what =
        "grid barrier by " + how + ", " + std::to_string(blocks) + " blocks";
    Array<unsigned> cells(first_cells(blocks)), arrivals(1);
    Launch launch = [&] {
        cudaError_t error = cudaMemsetAsync(arrivals.at, 0, 4, cuda_stream);
        return error ? error : meeting(cells.at, arrivals.at, rounds);
    };
    if (ran(what, launch) && found_right(what, wrong_cells(cells.get(), blocks, rounds)))
        time_rounds(what, rounds, expected, launch);
}

void flags(unsigned blocks, unsigned words, Expected expected)
{
    const unsigned rounds = size(2000u, 4u);
    std::string what = "exchange by flags that are the data, " + std::to_string(blocks) +
                       " blocks of " + std::to_string(4 * words) + " bytes";
    Array<uint64_t> board(2 * (size_t)blocks * words);
    Array<unsigned> out(blocks);
    unsigned first = 0;
    Launch launch = [&] {
        cudaError_t error = dev::launch(
            probe_flags, {dim3(blocks), dim3(256), 0, 0, dev::LAUNCH_COOPERATIVE},
            cuda_stream, out.at, board.at, words, first, rounds);
        first += rounds;
        return error;
    };
    if (!ran(what, launch)) return;
    std::vector<unsigned> value(blocks), have = out.get();
    for (unsigned b = 0; b < blocks; b++)
        value[b] = b;
    for (unsigned round = 0; round < rounds; round++) {
        unsigned sum = 0;
        for (unsigned v : value)
            sum += words * v + words * (words - 1) / 2;
        for (unsigned &v : value)
            v = 3 * v + sum;
    }
    if (found_right(what, have == value ? "" : "another sum than the host's"))
        time_rounds(what, rounds, expected, launch);
}

} // namespace

void part_barriers()
{
    unsigned all = size(machine.multiprocessors, 4u);
    for (unsigned blocks : {size(16u, 2u), size(66u, 3u), all}) {
        if (blocks > all) continue;
        Expected many = blocks >= 66 ? GRID_BARRIER : NOTHING;
        meet("cooperative groups", blocks, many,
             [&](unsigned *cells, unsigned *, unsigned rounds) {
                 return raw_grid_sync(cuda_stream, blocks, cells, rounds);
             });
        meet("a counter", blocks, many,
             [&](unsigned *cells, unsigned *arrivals, unsigned rounds) {
                 return dev::launch(
                     probe_grid_barrier,
                     {dim3(blocks), dim3(256), 0, 0, dev::LAUNCH_COOPERATIVE},
                     cuda_stream, arrivals, cells, rounds);
             });
        for (unsigned words : {1u, 4u, 16u})
            flags(blocks, words, words <= 4 && blocks >= 66 ? GRID_FLAGS : NOTHING);
    }
}

} // namespace probe
