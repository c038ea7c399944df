/* What it costs to start something: launches, nodes of a graph, a resident kernel that answers, small copies. */
#include "probe.h"

#include "bench/bench_clock.h"
#include "probe_expected.h"
#include "probe_kernels.h"
#include "probe_raw.h"

#include <string.h>

namespace probe
{

namespace
{

typedef std::function<cudaError_t(unsigned *counter)> Counting;

cudaError_t plainly(unsigned *counter)
{
    return dev::launch(probe_count, {dim3(1), dim3(32), 0, 0, 0}, cuda_stream, counter);
}

cudaError_t cooperatively(unsigned *counter)
{
    return dev::launch(probe_count, {dim3(1), dim3(32), 0, 0, dev::LAUNCH_COOPERATIVE},
                       cuda_stream, counter);
}

cudaError_t dependently(unsigned *counter)
{
    return raw_dependent(cuda_stream, counter);
}

/* Each kernel adds 1 to a counter: so many ran, one after the other. */
bool counted(const std::string &what, Array<unsigned> &counter, unsigned expected)
{
    unsigned have = counter.get()[0];
    return found_right(what, have == expected
                                 ? ""
                                 : "the kernels counted to " + std::to_string(have) +
                                       ", expected " + std::to_string(expected));
}

void back_to_back(const std::string &what, Expected expected, const Counting &launch_one)
{
    const unsigned many = size(1000u, 5u);
    Array<unsigned> counter(std::vector<unsigned>{0});
    Launch all = [&] {
        for (unsigned i = 0; i < many; i++)
            if (cudaError_t error = launch_one(counter.at)) return error;
        return cudaSuccess;
    };
    if (ran(what, all) && counted(what, counter, many))
        time_rounds(what, many, expected, all);
}

void synchronised()
{
    Array<unsigned> counter(std::vector<unsigned>{0});
    time_host("empty kernel and synchronise, host clock", NOTHING, 20 * repeats, [&] {
        cudaError_t error = plainly(counter.at);
        return error ? error : cudaStreamSynchronize(cuda_stream);
    });
}

void graph(unsigned nodes, const std::string &how, Expected expected,
           const Counting &launch_one)
{
    std::string what =
        "graph of " + std::to_string(nodes) + " nodes" + how + ", per node";
    Array<unsigned> counter(std::vector<unsigned>{0});
    cudaGraph_t captured = nullptr;
    cudaGraphExec_t executable = nullptr;
    if (!tried(cudaStreamBeginCapture(cuda_stream, cudaStreamCaptureModeThreadLocal),
               what))
        return;
    cudaError_t error = cudaSuccess;
    for (unsigned i = 0; i < nodes && !error; i++)
        error = launch_one(counter.at);
    cudaError_t ended = cudaStreamEndCapture(cuda_stream, &captured);
    if (tried(error, what) && tried(ended, what) &&
        tried(cudaGraphInstantiate(&executable, captured, 0), what)) {
        Launch replay = [&] { return cudaGraphLaunch(executable, cuda_stream); };
        if (ran(what, replay) && counted(what, counter, nodes))
            time_rounds(what, nodes, expected, replay);
    }
    if (executable) cudaGraphExecDestroy(executable);
    if (captured) cudaGraphDestroy(captured);
}

/* A resident kernel polls a word of host memory and answers in another. */
void doorbell()
{
    const std::string what = "doorbell in mapped host memory, there and back";
    const double patience_us = 1e6;
    unsigned *words = nullptr;
    if (!tried(cudaHostAlloc((void **)&words, 256, cudaHostAllocMapped), what)) return;
    unsigned *bell = words, *answer = words + 32; /* lines of their own */
    *bell = *answer = 0;
    std::vector<double> us;
    bool answered = true;
    if (tried(raw_doorbell(cuda_stream, bell, answer), what)) {
        for (unsigned i = 1; i <= 1000 && answered; i++) {
            double start = bench_now_us();
            __atomic_store_n(bell, i, __ATOMIC_RELEASE);
            while (__atomic_load_n(answer, __ATOMIC_ACQUIRE) != i + 1 && answered)
                answered = bench_now_us() - start < patience_us;
            us.push_back(bench_now_us() - start);
        }
        __atomic_store_n(bell, UINT32_MAX, __ATOMIC_RELEASE);
        if (tried(cudaStreamSynchronize(cuda_stream), what) &&
            found_right(what, answered ? "" : "no answer within a second")) {
            us.erase(us.begin(), us.begin() + 100); /* warm */
            say(what, "us", us, DOORBELL);
        }
    }
    cudaFreeHost(words);
}

void copies(size_t bytes)
{
    std::string of = "copy of " + std::to_string(bytes) + " pinned bytes ";
    unsigned char *pinned = nullptr;
    Array<unsigned char> device(bytes);
    std::vector<uint32_t> random = random_words((bytes + 3) / 4, 5);
    if (!tried(cudaHostAlloc((void **)&pinned, bytes, cudaHostAllocDefault), of)) return;
    memcpy(pinned, random.data(), bytes);
    Launch up = [&] {
        return cudaMemcpyAsync(device.at, pinned, bytes, cudaMemcpyHostToDevice,
                               cuda_stream);
    };
    Launch down = [&] {
        return cudaMemcpyAsync(pinned, device.at, bytes, cudaMemcpyDeviceToHost,
                               cuda_stream);
    };
    if (ran(of, up)) {
        memset(pinned, 0xff, bytes);
        if (ran(of, down) &&
            found_right(of, memcmp(pinned, random.data(), bytes) ? "other bytes came back"
                                                                 : ""))
            for (bool there : {true, false}) {
                const Launch &one = there ? up : down;
                const unsigned many = size(200u, 1u);
                time_rounds(of + (there ? "to the device" : "to the host"), many, NOTHING,
                            [&] {
                                for (unsigned i = 0; i < many; i++)
                                    if (cudaError_t error = one()) return error;
                                return cudaSuccess;
                            });
                time_host(of + (there ? "to the device" : "to the host") +
                              ", synchronised, host clock",
                          NOTHING, 20 * repeats, [&] {
                              cudaError_t error = one();
                              return error ? error : cudaStreamSynchronize(cuda_stream);
                          });
            }
    }
    cudaFreeHost(pinned);
}

} // namespace

void part_launch()
{
    back_to_back("empty kernel, back to back", HOST_LAUNCH, plainly);
    synchronised();
    back_to_back("cooperative kernel, back to back", NOTHING, cooperatively);
    if (machine.major >= 9)
        back_to_back("dependent kernel, back to back", NOTHING, dependently);
    for (unsigned nodes = 1; nodes <= size(1024u, 8u); nodes *= 2) {
        graph(nodes, "", nodes >= 128 ? GRAPH_NODE : NOTHING, plainly);
        if (machine.major >= 9) graph(nodes, ", dependent launch", NOTHING, dependently);
    }
    doorbell();
    for (size_t bytes : {64u, 4096u, 65536u})
        copies(bytes);
}

} // namespace probe
