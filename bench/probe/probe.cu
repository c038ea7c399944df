/* What a GPU's parts cost that a step of a recurrent network is made of, beside what was expected before anybody
 * measured: lines of JSON, and a table on stderr. Uses nothing of carry but the dialect.
 *
 *     gpu_probe [--repeats N]
 *
 * A figure is the median over launches of the launch's time by its rounds, which are so many that the launch itself
 * does not count. Expectations are for one H200 (us): from publications or arithmetic, in the table below. */
#include "bench/bench_clock.h"
#include "probe_kernels.h"

#include <algorithm>
#include <functional>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

namespace
{

cudaStream_t cuda_stream;
cudaEvent_t before, after;
unsigned repeats = 21;
cudaDeviceProp properties;

bool tried(cudaError_t error, const std::string &what)
{
    if (!error) return true;
    printf("{\"kind\":\"not_run\",\"program\":\"probe\",\"what\":\"%s\",\"reason\":\"%"
           "s\"}\n",
           what.c_str(), cudaGetErrorString(error));
    fprintf(stderr, "%-46s not run: %s\n", what.c_str(), cudaGetErrorString(error));
    cudaGetLastError();
    return false;
}

struct Memory {
    void *at = nullptr;
    explicit Memory(size_t bytes)
    {
        if (cudaMalloc(&at, bytes)) at = nullptr;
        else cudaMemset(at, 0, bytes);
    }
    ~Memory()
    {
        cudaFree(at);
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    template <class T> T *as() const
    {
        return static_cast<T *>(at);
    }
};

void say(const std::string &what, const char *unit, std::vector<double> values,
         double expected)
{
    std::sort(values.begin(), values.end());
    double median = bench_percentile(values.data(), values.size(), 50);
    printf("{\"kind\":\"probe\",\"program\":\"probe\",\"what\":\"%s\",\"unit\":\"%s\","
           "\"median\":%.5g,\"p10\":%.5g,\"p90\":%.5g",
           what.c_str(), unit, median, bench_percentile(values.data(), values.size(), 10),
           bench_percentile(values.data(), values.size(), 90));
    if (expected > 0)
        printf(",\"expected\":%.5g,\"ratio\":%.3f", expected, median / expected);
    printf("}\n");
    fprintf(stderr, "%-46s %10.4g %s", what.c_str(), median, unit);
    if (expected > 0)
        fprintf(stderr, ", expected %.4g: %.2f of it", expected, median / expected);
    fprintf(stderr, "\n");
    fflush(stdout);
}

/* Times `launch` by device events; the microseconds by `rounds` are said. */
void time_rounds(const std::string &what, double rounds, double expected,
                 const std::function<cudaError_t()> &launch)
{
    std::vector<double> us;
    if (!tried(launch(), what) || !tried(cudaStreamSynchronize(cuda_stream), what))
        return;
    for (unsigned i = 0; i < repeats; i++) {
        float ms = 0;
        cudaEventRecord(before, cuda_stream);
        if (!tried(launch(), what)) return;
        cudaEventRecord(after, cuda_stream);
        if (!tried(cudaEventSynchronize(after), what)) return;
        cudaEventElapsedTime(&ms, before, after);
        us.push_back(ms * 1e3 / rounds);
    }
    say(what, "us", us, expected);
}

cudaError_t nothing(Memory &out)
{
    return dev::launch(probe_nothing, {dim3(1), dim3(32), 0, 0, 0}, cuda_stream,
                       out.as<unsigned>());
}

void launches()
{
    Memory out(4096);
    const unsigned many = 1000;
    time_rounds("empty kernel, back to back", many, 2.4, [&] {
        for (unsigned i = 0; i < many; i++)
            if (cudaError_t error = nothing(out)) return error;
        return cudaSuccess;
    });
    std::vector<double> us;
    for (unsigned i = 0; i < 20 * repeats; i++) {
        double start = bench_now_us();
        if (!tried(nothing(out), "launch") ||
            !tried(cudaStreamSynchronize(cuda_stream), "launch"))
            return;
        us.push_back(bench_now_us() - start);
    }
    say("empty kernel and synchronise, host clock", "us", us, 0);
    for (unsigned nodes : {1u, 16u, 256u, 1024u}) {
        cudaGraph_t graph;
        cudaGraphExec_t executable;
        std::string what = "graph of " + std::to_string(nodes) + " nodes, per node";
        if (!tried(cudaStreamBeginCapture(cuda_stream, cudaStreamCaptureModeThreadLocal),
                   what))
            return;
        for (unsigned i = 0; i < nodes; i++)
            nothing(out);
        if (!tried(cudaStreamEndCapture(cuda_stream, &graph), what) ||
            !tried(cudaGraphInstantiate(&executable, graph, 0), what))
            return;
        time_rounds(what, nodes, nodes >= 256 ? 1.3 : 0,
                    [&] { return cudaGraphLaunch(executable, cuda_stream); });
        cudaGraphExecDestroy(executable);
        cudaGraphDestroy(graph);
    }
}

void grid_barriers()
{
    const unsigned rounds = 2000;
    unsigned all = (unsigned)properties.multiProcessorCount;
    for (unsigned blocks : {16u, 66u, all}) {
        if (blocks > all) continue;
        Memory arrivals(4), cells(2 * blocks * 4);
        std::vector<unsigned> last(blocks);
        std::string what = "grid barrier, " + std::to_string(blocks) + " blocks";
        time_rounds(what, rounds, blocks >= 66 ? 1.2 : 0, [&] {
            cudaError_t error = cudaMemsetAsync(arrivals.at, 0, 4, cuda_stream);
            if (!error) error = cudaMemsetAsync(cells.at, 0, 2 * blocks * 4, cuda_stream);
            if (error) return error;
            return dev::launch(probe_grid_barrier,
                               {dim3(blocks), dim3(256), 0, 0, dev::LAUNCH_COOPERATIVE},
                               cuda_stream, arrivals.as<unsigned>(), cells.as<unsigned>(),
                               rounds);
        });
        cudaMemcpy(last.data(), cells.at, blocks * 4, cudaMemcpyDeviceToHost);
        for (unsigned value : last)
            if (value != rounds) {
                fprintf(stderr, "%s: WRONG: a cell is %u, expected %u\n", what.c_str(),
                        value, rounds);
                exit(1);
            }
    }
}

void clusters()
{
    const unsigned rounds = 2000;
    unsigned all = (unsigned)properties.multiProcessorCount;
    tried(dev::allow_cluster_16(probe_cluster_barrier), "clusters of 16");
    tried(dev::allow_cluster_16(probe_exchange), "clusters of 16");
    for (unsigned size : {2u, 4u, 8u, 16u}) {
        unsigned blocks = all / size * size;
        Memory out(blocks * 4);
        for (unsigned grid : {size, blocks}) {
            std::string where = ", clusters of " + std::to_string(size) + ", " +
                                std::to_string(grid / size) + " at once";
            time_rounds("cluster barrier" + where, rounds, 0, [&] {
                return dev::launch(probe_cluster_barrier,
                                   {dim3(grid), dim3(256), 0, size, 0}, cuda_stream,
                                   out.as<unsigned>(), rounds);
            });
            for (unsigned words : {4u, 16u, 64u}) {
                if (!tried(
                        dev::allow_shared(probe_exchange, (int)(2 * size * words * 16)),
                        "shared memory"))
                    continue;
                time_rounds("exchange of " + std::to_string(16 * words * size) +
                                " B by st.async" + where,
                            rounds, words == 16 ? 0.3 : 0, [&] {
                                return dev::launch(probe_exchange,
                                                   {dim3(grid), dim3(256),
                                                    2 * size * words * 16, size, 0},
                                                   cuda_stream, out.as<unsigned>(), words,
                                                   rounds);
                            });
            }
        }
    }
}

void reads()
{
    unsigned all = (unsigned)properties.multiProcessorCount;
    Memory out(all * 4 * 512 * 4);
    for (size_t mib : {8u, 32u, 48u, 1024u}) {
        size_t bytes = mib << 20;
        unsigned rounds = mib > 100 ? 2 : 20;
        Memory in(bytes);
        std::string what = "read of " + std::to_string(mib) + " MiB, per TB";
        if (!in.at) continue;
        double tera = (double)bytes * rounds * 1e-12;
        time_rounds(what, tera,
                    mib <= 32   ? 1e6 / 9.7
                    : mib > 100 ? 1e6 / 4.0
                                : 0,
                    [&] {
                        return dev::launch(
                            probe_read, {dim3(4 * all), dim3(512), 0, 0, 0}, cuda_stream,
                            in.as<const uint4>(), out.as<unsigned>(), bytes / 16, rounds);
                    });
    }
    Memory in(8 << 20);
    time_rounds("read of 8 MiB by one block, per GB", 8.388608e-3, 1e3 / (64 * 1.98),
                [&] {
                    return dev::launch(probe_read, {dim3(1), dim3(1024), 0, 0, 0},
                                       cuda_stream, in.as<const uint4>(),
                                       out.as<unsigned>(), (size_t)(8 << 20) / 16, 1u);
                });
}

} // namespace

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--repeats") && atoi(argv[2]) > 0)
        repeats = (unsigned)atoi(argv[2]);
    else if (argc != 1) {
        fprintf(stderr, "usage: gpu_probe [--repeats N]\n");
        return 2;
    }
    cudaError_t error = cudaGetDeviceProperties(&properties, 0);
    if (error) {
        fprintf(stderr, "gpu_probe: no GPU here: %s\n", cudaGetErrorString(error));
        return 1;
    }
    printf("{\"kind\":\"header\",\"program\":\"probe\",\"device\":\"%s\","
           "\"multiprocessors\":%d,"
           "\"l2_bytes\":%d}\n",
           properties.name, properties.multiProcessorCount, properties.l2CacheSize);
    if (!tried(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking),
               "a stream") ||
        !tried(cudaEventCreate(&before), "an event") ||
        !tried(cudaEventCreate(&after), "an event"))
        return 1;
    launches();
    grid_barriers();
    if (properties.major >= 9) clusters();
    reads();
    return cudaDeviceSynchronize() != cudaSuccess;
}
