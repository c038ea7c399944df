/* The fake runtime's captures: what CUDA does not allow is an error, and graphs of several streams run in
 * every order that their events allow. */
#include "check.h"
#include "fake.h"

#include <cuda_runtime_api.h>

#include <set>
#include <thread>

namespace
{

const size_t bytes = 4 * sizeof(float);

/* Two streams, an event for each way, memory of both kinds. */
struct Rig {
    cudaStream_t stream = nullptr, other = nullptr;
    cudaEvent_t fork = nullptr, join = nullptr;
    float *device = nullptr, *more = nullptr, *pinned = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;

    explicit Rig(uint64_t seed)
    {
        fake::reset(fake::Device(), seed);
        CHECK(!cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CHECK(!cudaStreamCreateWithPriority(&other, cudaStreamNonBlocking, -1));
        CHECK(!cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
        CHECK(!cudaEventCreate(&join));
        CHECK(!cudaMalloc((void **)&device, bytes) && !cudaMalloc((void **)&more, bytes));
        CHECK(!cudaMallocHost((void **)&pinned, bytes));
    }

    ~Rig()
    {
        CHECK(!executable || !cudaGraphExecDestroy(executable));
        CHECK(!graph || !cudaGraphDestroy(graph));
        CHECK(!cudaFree(device) && !cudaFree(more) && !cudaFreeHost(pinned));
        CHECK(!cudaEventDestroy(fork) && !cudaEventDestroy(join));
        CHECK(!cudaStreamDestroy(stream) && !cudaStreamDestroy(other));
        CHECK(fake::open_handles() == 0);
    }

    void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal)
    {
        CHECK(!cudaStreamBeginCapture(stream, mode));
    }

    void forked()
    {
        CHECK(!cudaEventRecord(fork, stream) && !cudaStreamWaitEvent(other, fork, 0));
    }

    void joined()
    {
        CHECK(!cudaEventRecord(join, other) && !cudaStreamWaitEvent(stream, join, 0));
    }

    cudaError_t end()
    {
        return cudaStreamEndCapture(stream, &graph);
    }

    float first()
    {
        CHECK(!cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, stream));
        CHECK(!cudaStreamSynchronize(stream));
        return pinned[0];
    }
};

cudaError_t fill(float *to, int byte, cudaStream_t stream)
{
    return cudaMemsetAsync(to, byte, bytes, stream);
}

/* Each makes the capture worthless, is counted, and leaves the stream as it was before. */
void not_in_a_capture()
{
    static const struct {
        const char *what;
        cudaError_t (*call)(Rig &);
    } mistakes[] = {
        {"synchronise", [](Rig &r) { return cudaStreamSynchronize(r.stream); }},
        {"synchronise another", [](Rig &r) { return cudaStreamSynchronize(r.other); }},
        {"synchronise the device", [](Rig &) { return cudaDeviceSynchronize(); }},
        {"query", [](Rig &r) { return cudaStreamQuery(r.stream); }},
        {"allocate",
         [](Rig &) {
             void *memory = nullptr;
             return cudaMalloc(&memory, 64);
         }},
        {"allocate pinned",
         [](Rig &) {
             void *memory = nullptr;
             return cudaHostAlloc(&memory, 64, 0);
         }},
        {"free", [](Rig &r) { return cudaFree(r.more); }},
        {"pageable memory",
         [](Rig &r) {
             float host[4] = {0, 0, 0, 0};
             return cudaMemcpyAsync(r.device, host, bytes, cudaMemcpyHostToDevice,
                                    r.stream);
         }},
        {"an event from outside",
         [](Rig &r) {
             CHECK(!cudaEventRecord(r.join, r.other));
             return cudaStreamWaitEvent(r.stream, r.join, 0);
         }},
    };
    for (const auto &mistake : mistakes) {
        Rig rig(1);
        rig.begin();
        CHECK(!fill(rig.device, 0, rig.stream));
        cudaError_t error = mistake.call(rig);
        check::report(error && fake::seen().misuses == 1, __FILE__, __LINE__,
                      mistake.what);
        cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
        CHECK(!cudaStreamIsCapturing(rig.stream, &status));
        check::report(status == cudaStreamCaptureStatusInvalidated, __FILE__, __LINE__,
                      mistake.what);
        check::report(rig.end() == cudaErrorStreamCaptureInvalidated && !rig.graph,
                      __FILE__, __LINE__, mistake.what);
        CHECK(!cudaStreamIsCapturing(rig.stream, &status));
        CHECK(status == cudaStreamCaptureStatusNone);
        CHECK(!fill(rig.device, 0, rig.stream) && rig.first() == 0);
    }
    /* A relaxed capture lets its thread allocate. */
    Rig rig(1);
    void *memory = nullptr;
    rig.begin(cudaStreamCaptureModeRelaxed);
    CHECK(!cudaMalloc(&memory, 64) && !fill(rig.device, 0, rig.stream) && !rig.end());
    CHECK(!cudaFree(memory) && fake::seen().misuses == 0);
}

/* What another thread may do while this one captures: by the mode of the capture, and by what that thread said of
 * itself. The legacy stream is closed to it whatever it says. */
void beside_a_capture()
{
    const cudaStreamCaptureMode global = cudaStreamCaptureModeGlobal,
                                local = cudaStreamCaptureModeThreadLocal,
                                relaxed = cudaStreamCaptureModeRelaxed;
    enum Act { ALLOCATES, LEGACY_WORK, LEGACY_WAIT };
    static const struct {
        cudaStreamCaptureMode capture, thread;
        Act act;
        cudaError_t answer;
    } cases[] = {
        {global, global, ALLOCATES, cudaErrorStreamCaptureUnsupported},
        {global, local, ALLOCATES, cudaSuccess},
        {global, relaxed, ALLOCATES, cudaSuccess},
        {local, global, ALLOCATES, cudaSuccess},
        {relaxed, global, ALLOCATES, cudaSuccess},
        {global, global, LEGACY_WORK, cudaErrorStreamCaptureImplicit},
        {global, local, LEGACY_WORK, cudaErrorStreamCaptureImplicit},
        {global, relaxed, LEGACY_WAIT, cudaErrorStreamCaptureImplicit},
        {local, global, LEGACY_WORK, cudaSuccess},
        {local, global, LEGACY_WAIT, cudaSuccess},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Rig rig(1);
        rig.begin(cases[i].capture);
        cudaError_t answer = cudaErrorUnknown;
        std::thread([&] {
            cudaStreamCaptureMode mode = cases[i].thread;
            CHECK(!cudaThreadExchangeStreamCaptureMode(&mode) && mode == global);
            void *memory = nullptr;
            answer = cases[i].act == ALLOCATES     ? cudaMalloc(&memory, 64)
                     : cases[i].act == LEGACY_WORK ? cudaMemset(rig.more, 0, bytes)
                                                   : cudaStreamSynchronize(nullptr);
            CHECK(!memory || !cudaFree(memory));
        }).join();
        check::report(answer == cases[i].answer, __FILE__, __LINE__,
                      std::to_string(i).c_str());
        CHECK((rig.end() == cudaSuccess) == (answer == cudaSuccess));
        CHECK(fake::seen().misuses == (answer != cudaSuccess));
    }
}

void forks_are_joined()
{
    {
        Rig rig(1);
        rig.begin();
        rig.forked();
        CHECK(!fill(rig.device, 0, rig.other));
        CHECK(rig.end() == cudaErrorStreamCaptureUnjoined && !rig.graph);
        CHECK(strstr(fake::last_misuse(), "not joined"));
    }
    {
        Rig rig(1); /* joined, but with work after it */
        rig.begin();
        rig.forked();
        CHECK(!fill(rig.device, 0, rig.other));
        rig.joined();
        CHECK(!fill(rig.more, 0, rig.other));
        CHECK(rig.end() == cudaErrorStreamCaptureUnjoined);
    }
    {
        Rig rig(1);
        rig.begin();
        rig.forked();
        CHECK(!fill(rig.device, 0, rig.other));
        rig.joined();
        CHECK(!rig.end() && rig.graph);
        /* What was recorded in there says nothing outside. */
        CHECK(cudaEventSynchronize(rig.join) == cudaErrorCapturedEvent);
        CHECK(cudaStreamWaitEvent(rig.stream, rig.join, 0) == cudaErrorCapturedEvent);
        CHECK(!cudaEventRecord(rig.join, rig.stream) && !cudaEventSynchronize(rig.join));
        CHECK(fake::seen().misuses == 2);
    }
    Rig rig(1);
    rig.begin();
    CHECK(cudaStreamEndCapture(rig.other, &rig.graph) == cudaErrorStreamCaptureUnmatched);
    CHECK(!cudaMemsetAsync(rig.device, 0, bytes, rig.stream));
    CHECK(cudaMemset(rig.more, 0, bytes) == cudaErrorStreamCaptureImplicit);
    CHECK(!rig.end());
}

/* Joined, the second fill is what remains; with both in streams of their own either may be. */
std::set<float> remains(unsigned seeds, bool ordered)
{
    std::set<float> values;
    for (unsigned seed = 1; seed <= seeds; seed++) {
        Rig rig(seed);
        rig.begin();
        rig.forked();
        CHECK(!fill(rig.device, 0, rig.other));
        if (ordered) rig.joined();
        CHECK(!fill(rig.device, 0x3f, rig.stream)); /* 0.747 */
        if (!ordered) rig.joined();
        CHECK(!rig.end() && !cudaGraphInstantiate(&rig.executable, rig.graph, 0));
        CHECK(!cudaGraphUpload(rig.executable, rig.stream));
        CHECK(!cudaGraphLaunch(rig.executable, rig.stream));
        values.insert(rig.first());
        CHECK(fake::seen().graph_launches == 1 && fake::seen().misuses == 0);
    }
    return values;
}

void any_order()
{
    CHECK(remains(16, true).size() == 1);
    CHECK(remains(16, false).size() == 2);
}

void update_in_place()
{
    Rig rig(1);
    rig.begin();
    CHECK(!fill(rig.device, 0, rig.stream) && !rig.end());
    CHECK(!cudaGraphInstantiate(&rig.executable, rig.graph, 0));
    CHECK(!cudaGraphDestroy(rig.graph));
    rig.begin();
    CHECK(!fill(rig.device, 0x3f, rig.stream) && !rig.end());
    CHECK(!cudaGraphExecUpdate(rig.executable, rig.graph, nullptr));
    CHECK(!cudaGraphDestroy(rig.graph));
    CHECK(!cudaGraphLaunch(rig.executable, rig.stream) && rig.first() > 0.5f);
    rig.begin();
    CHECK(!fill(rig.device, 0, rig.stream) && !fill(rig.more, 0, rig.stream));
    CHECK(!rig.end());
    cudaGraphExecUpdateResultInfo info;
    CHECK(cudaGraphExecUpdate(rig.executable, rig.graph, &info) ==
          cudaErrorGraphExecUpdateFailure);
    CHECK(info.result == cudaGraphExecUpdateErrorTopologyChanged);
    CHECK(cudaGetLastError() == cudaErrorGraphExecUpdateFailure);
}

} // namespace

int main()
{
    not_in_a_capture();
    beside_a_capture();
    forks_are_joined();
    any_order();
    update_in_place();
    fake::reset(fake::Device(), 1);
    CHECK(emu::races() == 0);
    return check::summary();
}
