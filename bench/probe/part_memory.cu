/* Reading: bandwidth of shared memory, L2 and device memory, what one multiprocessor takes from L2, latencies. */
#include "probe.h"

#include "memory_kernels.h"
#include "probe_expected.h"

namespace probe
{

namespace
{

unsigned mixed_with(unsigned mixed, const uint32_t *vector)
{
    return mixed * 5 + (vector[0] ^ vector[1] ^ vector[2] ^ vector[3]);
}

const uint4 *vectors(const Array<uint32_t> &words)
{
    return reinterpret_cast<const uint4 *>(words.at);
}

/* Some threads' mixtures against the host's. */
std::string wrong_mixture(const std::vector<unsigned> &have,
                          const std::vector<uint32_t> &words, unsigned rounds)
{
    const size_t count = words.size() / 4;
    for (size_t thread = 0; thread < have.size(); thread += have.size() / 8 + 1) {
        unsigned mixed = 0;
        for (unsigned round = 0; round < rounds; round++)
            for (size_t i = thread; i < count; i += have.size())
                mixed = mixed_with(mixed, &words[4 * i]);
        if (have[thread] != mixed)
            return "thread " + std::to_string(thread) + " read other words";
    }
    return "";
}

/* TB/s, or GB/s of one block. */
void read(const std::string &what, size_t bytes, unsigned blocks, unsigned threads,
          unsigned rounds, const char *unit, Expected expected)
{
    const std::vector<uint32_t> words = random_words(bytes / 4, 7);
    Array<uint32_t> in(words);
    Array<unsigned> out(blocks * threads);
    if (!in.at || !out.at) {
        say_not_measured(what, "no memory for it");
        return;
    }
    Launch launch = [&] {
        return dev::launch(probe_read, {dim3(blocks), dim3(threads), 0, 0, 0},
                           cuda_stream, vectors(in), out.at, bytes / 16, rounds);
    };
    if (!ran(what, launch) || !found_right(what, wrong_mixture(out.get(), words, rounds)))
        return;
    const double scale = blocks == 1 ? 1e-3 : 1e-6; /* bytes a us to GB/s, TB/s */
    time_events(what, unit, expected, launch,
                [=](double us) { return (double)bytes * rounds / us * scale; });
}

void read_shared()
{
    const std::string what = "read of shared memory, all multiprocessors";
    const unsigned blocks = size(machine.multiprocessors, 2u), threads = size(1024u, 64u);
    const unsigned count = size(4096u, 128u), rounds = size(20000u, 9u);
    const std::vector<uint32_t> words = random_words(4 * count, 8);
    Array<uint32_t> in(words);
    Array<unsigned> out(blocks * threads);
    if (!tried(dev::allow_shared(probe_read_shared, (int)(16 * count)), what)) return;
    Launch launch = [&] {
        return dev::launch(probe_read_shared,
                           {dim3(blocks), dim3(threads), 16 * count, 0, 0}, cuda_stream,
                           vectors(in), out.at, count, rounds);
    };
    if (!ran(what, launch)) return;
    std::vector<unsigned> have = out.get();
    std::string wrong;
    for (unsigned i = 0; i < have.size() && wrong.empty(); i += 37) {
        unsigned mixed = 0, at = i % threads % count;
        for (unsigned round = 0; round < rounds; round++, at = (at + 32) % count)
            mixed = mixed_with(mixed, &words[4 * at]);
        if (have[i] != mixed) wrong = "thread " + std::to_string(i) + " read other words";
    }
    if (found_right(what, wrong))
        time_events(what, "TB/s", SHARED_READ, launch, [=](double us) {
            return 16.0 * blocks * threads * rounds / us * 1e-6;
        });
}

/* One cycle through `count` places, a line apart and in random order. */
std::vector<unsigned> cycle(size_t count, size_t distance)
{
    std::vector<unsigned> order(count), next(count * distance, 0);
    std::mt19937 generator(9);
    for (size_t i = 0; i < count; i++)
        order[i] = (unsigned)i;
    for (size_t i = count - 1; i > 1; i--) /* place 0 stays the first */
        std::swap(order[i], order[1 + generator() % i]);
    for (size_t i = 0; i < count; i++)
        next[order[i] * distance] = (unsigned)(order[(i + 1) % count] * distance);
    return next;
}

unsigned end_of(const std::vector<unsigned> &next, unsigned steps)
{
    unsigned place = 0;
    for (unsigned i = 0; i < steps; i++)
        place = next[place];
    return place;
}

/* ns of one read that waits for the one before. */
void latency(const std::string &what, size_t bytes, unsigned steps)
{
    const std::vector<unsigned> next = cycle(bytes / 128, 32);
    Array<unsigned> links(next), out(1);
    Launch launch = [&] {
        return dev::launch(probe_chase, {dim3(1), dim3(1), 0, 0, 0}, cuda_stream,
                           links.at, out.at, steps);
    };
    if (ran(what, launch) && found_right(what, out.get()[0] == end_of(next, steps)
                                                   ? ""
                                                   : "the chain ends elsewhere"))
        time_events(what, "ns", NOTHING, launch,
                    [=](double us) { return us * 1e3 / steps; });
}

void latency_shared()
{
    const std::string what = "latency of shared memory";
    const unsigned count = 1024, steps = size(100000u, 50u);
    const std::vector<unsigned> next = cycle(count, 1);
    Array<unsigned> links(next), out(1);
    Launch launch = [&] {
        return dev::launch(probe_chase_shared, {dim3(1), dim3(32), 4 * count, 0, 0},
                           cuda_stream, links.at, out.at, count, steps);
    };
    if (ran(what, launch) && found_right(what, out.get()[0] == end_of(next, steps)
                                                   ? ""
                                                   : "the chain ends elsewhere"))
        time_events(what, "ns", NOTHING, launch,
                    [=](double us) { return us * 1e3 / steps; });
}

} // namespace

void part_memory()
{
    const unsigned all = size(machine.multiprocessors, 2u);
    const size_t mib = size((size_t)1 << 20, (size_t)1 << 10);
    read_shared();
    for (unsigned n : {8u, 32u, 48u})
        read("read of " + std::to_string(n) + " MiB, L2", n * mib, 4 * all,
             size(512u, 32u), size(20u, 2u), "TB/s", n < 44 ? L2_READ : NOTHING);
    read("read of 1024 MiB, device memory", size(1024u, 16u) * mib, 4 * all,
         size(512u, 32u), size(2u, 1u), "TB/s", HBM_READ);
    read("read of 8 MiB by one block, L2", 8 * mib, 1, size(1024u, 32u), 1, "GB/s",
         L2_ONE);
    latency_shared();
    latency("latency of L2, within 8 MiB", 8 * mib, size(20000u, 50u));
    latency("latency of device memory, within 1024 MiB", size(1024u, 16u) * mib,
            size(20000u, 50u));
}

} // namespace probe
