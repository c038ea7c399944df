/* What a GPU's parts cost that a step of a recurrent network is made of, beside what was expected before anybody
 * measured. Uses nothing of carry but the dialect, and of CUDA the runtime and cuBLAS.
 *
 *     gpu_probe [--repeats N] [PART...]       launch barriers clusters memory arithmetic recurrent grid
 *
 * Without a PART: all. Lines of JSON on stdout, a table on stderr. Exits 1 if a result is wrong, 77 where there is no
 * GPU. A ratio is the median by the middle of what was expected of one H200. */
#include "probe.h"

#include "bench/bench_clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

using namespace probe;

namespace
{

const int NO_GPU = 77;

const struct {
    const char *name;
    void (*run)();
} parts[] = {{"launch", part_launch},
             {"barriers", part_barriers},
             {"clusters", part_clusters},
             {"memory", part_memory},
             {"arithmetic", part_arithmetic},
             {"recurrent", part_recurrent},
             {"grid", part_grid}};

int usage()
{
    fprintf(stderr, "usage: gpu_probe [--repeats N] [PART...]; parts:");
    for (const auto &part : parts)
        fprintf(stderr, " %s", part.name);
    fprintf(stderr, "\n");
    return 2;
}

} // namespace

int main(int argc, char **argv)
{
    const size_t count = sizeof parts / sizeof *parts;
    bool asked[count] = {}, any = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--repeats") && i + 1 < argc && atoi(argv[i + 1]) > 0) {
            repeats = (unsigned)atoi(argv[++i]);
            continue;
        }
        size_t p = 0;
        while (p < count && strcmp(argv[i], parts[p].name))
            p++;
        if (p == count) return usage();
        asked[p] = any = true;
    }
    if (!machine_open()) return NO_GPU;
    int runtime = 0, driver = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    printf("{\"kind\":\"header\",\"program\":\"probe\",\"device\":\"%s\",\"compute_"
           "capability\":\"%d.%d\",\"multiprocessors\":%u,\"l2_bytes\":%zu,\"memory_"
           "bytes\":%zu,\"runtime\":%d,\"driver\":%d,\"is_gpu\":%s}\n",
           machine.name.c_str(), machine.major, machine.minor, machine.multiprocessors,
           machine.l2_bytes, machine.memory_bytes, runtime, driver,
           machine.is_gpu ? "true" : "false");
    if (!tried(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking),
               "a stream"))
        return 1;
    for (size_t p = 0; p < count; p++) {
        if (any && !asked[p]) continue;
        double start = bench_now_us();
        begin_part(parts[p].name);
        parts[p].run();
        printf("{\"kind\":\"part\",\"program\":\"probe\",\"part\":\"%s\",\"seconds\":%."
               "1f}\n",
               parts[p].name, (bench_now_us() - start) * 1e-6);
    }
    cudaError_t error = cudaStreamDestroy(cuda_stream);
    if (!error) error = cudaDeviceSynchronize();
    if (error) say_wrong("the end", cudaGetErrorString(error));
    fprintf(stderr, "\n%u results compared with the host's are right, %u are wrong\n",
            right_count(), wrong_count());
    if (!machine.is_gpu)
        fprintf(stderr, "There is no GPU here: kernels ran in emulation, no time was "
                        "measured.\n");
    return wrong_count() != 0;
}
