/* Within a cluster: its barrier, an exchange through distributed shared memory by mbarriers, how many there are. */
#include "probe.h"

#include "probe_expected.h"
#include "probe_kernels.h"

namespace probe
{

namespace
{

const unsigned THREADS = 256;

std::string where(unsigned blocks, unsigned clusters)
{
    return ", clusters of " + std::to_string(blocks) + ", " + std::to_string(clusters) +
           " at once";
}

void barrier(unsigned blocks, unsigned clusters)
{
    const unsigned rounds = size(2000u, 7u), grid = blocks * clusters;
    std::string what = "cluster barrier" + where(blocks, clusters);
    Array<unsigned> out(grid);
    Launch launch = [&] {
        return dev::launch(probe_cluster_barrier,
                           {dim3(grid), dim3(size(THREADS, 32u)), 0, blocks, 0},
                           cuda_stream, out.at, rounds);
    };
    if (ran(what, launch) &&
        found_right(what, out.get() == std::vector<unsigned>(grid, rounds)
                              ? ""
                              : "a block counted another number of rounds"))
        time_rounds(what, rounds, NOTHING, launch);
}

/* What every block of one cluster ends with. */
std::vector<unsigned> exchanged(unsigned blocks, unsigned words, unsigned rounds)
{
    std::vector<unsigned> value(blocks);
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
    return value;
}

/* Every block takes in `bytes` a round, its own part included. */
void exchange(unsigned blocks, unsigned clusters, unsigned bytes)
{
    const unsigned words = bytes / 16 / blocks, rounds = size(2000u, 3u);
    const unsigned grid = blocks * clusters;
    std::string what = "exchange by st.async of " + std::to_string(bytes) + " bytes" +
                       where(blocks, clusters);
    Array<unsigned> out(grid);
    Launch launch = [&] {
        return dev::launch(probe_exchange,
                           {dim3(grid), dim3(size(THREADS, 64u)), 2 * bytes, blocks, 0},
                           cuda_stream, out.at, words, rounds);
    };
    if (!ran(what, launch)) return;
    std::vector<unsigned> have = out.get(), expected = exchanged(blocks, words, rounds);
    std::string wrong;
    for (unsigned b = 0; b < grid && wrong.empty(); b++)
        if (have[b] != expected[b % blocks])
            wrong = "block " + std::to_string(b) + " has another sum than the host";
    if (found_right(what, wrong))
        time_rounds(what, rounds,
                    blocks > 1 && bytes <= 4096 ? CLUSTER_EXCHANGE : NOTHING, launch);
}

/* As many as fit beside each other: more would take turns. */
unsigned most_at_once(unsigned blocks)
{
    const unsigned want = machine.multiprocessors / blocks;
    int fit = 0;
    dev::launch_shape shape = {dim3(blocks * want), dim3(THREADS), 32 << 10, blocks, 0};
    if (clusters_at_once((const void *)probe_exchange, shape, &fit) || fit < 1) return 1;
    return (unsigned)fit < want ? (unsigned)fit : want;
}

void count(unsigned blocks)
{
    const int shared_bytes = 200 << 10;
    std::string what = "clusters of " + std::to_string(blocks) +
                       " at once, 200 KiB of shared memory a block";
    int clusters = 0;
    dev::launch_shape shape = {dim3(blocks * 256), dim3(THREADS), (size_t)shared_bytes,
                               blocks, 0};
    if (!tried(dev::allow_shared(probe_exchange, shared_bytes), what) ||
        !tried(clusters_at_once((const void *)probe_exchange, shape, &clusters), what))
        return;
    if (machine.is_gpu)
        say(what, "clusters", {(double)clusters}, clusters_expected(blocks));
    else say_not_measured(what, "no GPU here");
}

} // namespace

void part_clusters()
{
    if (machine.major < 9) {
        say_not_measured("clusters", "they need compute capability 9.0, this GPU has " +
                                         std::to_string(machine.major) + "." +
                                         std::to_string(machine.minor));
        return;
    }
    if (!tried(dev::allow_cluster_16(probe_cluster_barrier), "clusters of 16") ||
        !tried(dev::allow_cluster_16(probe_exchange), "clusters of 16"))
        return;
    for (unsigned blocks : {1u, 2u, 4u, 8u, 16u}) {
        unsigned all = machine.is_gpu ? most_at_once(blocks) : 2;
        for (unsigned clusters : {1u, all}) {
            barrier(blocks, clusters);
            for (unsigned kib = 1; kib <= size(16u, 1u); kib *= 2)
                exchange(blocks, clusters, kib << 10);
        }
        count(blocks);
    }
}

} // namespace probe
