/* The fake runtime keeps CUDA's promises and no more: work happens when it may, mistakes are named, and every
 * call can fail. The stand-in for a backend here uses two streams, events, pinned and pageable memory. */
#include "check.h"
#include "fake.h"
#include "faulty_kernels.h"

#include "kernels/cuda/cuda_kernels.h"

#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace
{

enum { ROWS = 3, STEPS = 4, IDS = 5, WIDTH = 6 };

/* What the stand-in gets wrong, if anything. */
enum class Flaw { NONE, NO_SYNCHRONISE, NO_EVENT_WAIT, LEAKS_EVENT };

struct Backend {
    cudaStream_t compute = nullptr, transfer = nullptr;
    cudaEvent_t arrived = nullptr, computed = nullptr;
    float *table = nullptr, *out = nullptr, *result = nullptr;
    int *ids = nullptr;
    cy_cuda_row *rows = nullptr;
    cy_cuda_port *ports = nullptr; /* of the ids and of the result */
    float *pinned = nullptr;
};

cudaError_t backend_open(Backend *b)
{
    cudaError_t e;
    if ((e = cudaSetDevice(0))) return e;
    if ((e = cudaStreamCreateWithFlags(&b->compute, cudaStreamNonBlocking))) return e;
    if ((e = cudaStreamCreateWithFlags(&b->transfer, cudaStreamNonBlocking))) return e;
    if ((e = cudaEventCreateWithFlags(&b->arrived, cudaEventDisableTiming))) return e;
    if ((e = cudaEventCreateWithFlags(&b->computed, cudaEventDisableTiming))) return e;
    if ((e = cudaMalloc((void **)&b->table, IDS * WIDTH * sizeof(float)))) return e;
    if ((e = cudaMalloc((void **)&b->out, STEPS * ROWS * WIDTH * sizeof(float))))
        return e;
    if ((e = cudaMalloc((void **)&b->result, STEPS * ROWS * WIDTH * sizeof(float))))
        return e;
    if ((e = cudaMalloc((void **)&b->ids, ROWS * STEPS * sizeof(int)))) return e;
    if ((e = cudaMalloc((void **)&b->rows, ROWS * sizeof(cy_cuda_row)))) return e;
    if ((e = cudaMalloc((void **)&b->ports, 2 * sizeof(cy_cuda_port)))) return e;
    return cudaHostAlloc((void **)&b->pinned, STEPS * ROWS * WIDTH * sizeof(float),
                         cudaHostAllocDefault);
}

void backend_close(Backend *b, Flaw flaw)
{
    if (b->pinned) cudaFreeHost(b->pinned);
    cudaFree(b->ports);
    cudaFree(b->rows);
    cudaFree(b->ids);
    cudaFree(b->result);
    cudaFree(b->out);
    cudaFree(b->table);
    if (b->computed && flaw != Flaw::LEAKS_EVENT) cudaEventDestroy(b->computed);
    if (b->arrived) cudaEventDestroy(b->arrived);
    if (b->transfer) cudaStreamDestroy(b->transfer);
    if (b->compute) cudaStreamDestroy(b->compute);
}

cudaError_t backend_run(Backend *b, const float *table, const int *ids,
                        const cy_cuda_row *rows, float *result, Flaw flaw)
{
    cudaError_t e;
    size_t out_bytes = STEPS * ROWS * WIDTH * sizeof(float);
    if ((e = cudaMemcpyAsync(b->table, table, IDS * WIDTH * sizeof(float),
                             cudaMemcpyHostToDevice, b->transfer)))
        return e;
    if ((e = cudaMemcpyAsync(b->ids, ids, ROWS * STEPS * sizeof(int),
                             cudaMemcpyHostToDevice, b->transfer)))
        return e;
    if ((e = cudaMemcpyAsync(b->rows, rows, ROWS * sizeof(cy_cuda_row),
                             cudaMemcpyHostToDevice, b->transfer)))
        return e;
    const cy_cuda_port ports[] = {
        {b->ids, STEPS, 1, CY_CUDA_F32, CY_CUDA_BY_INDEX},
        {b->result, STEPS * WIDTH, WIDTH, CY_CUDA_F32, CY_CUDA_BY_INDEX}};
    if ((e = cudaMemcpyAsync(b->ports, ports, sizeof ports, cudaMemcpyHostToDevice,
                             b->transfer)))
        return e;
    if ((e = cudaEventRecord(b->arrived, b->transfer))) return e;
    if ((e = cudaMemsetAsync(b->result, 0, out_bytes, b->compute))) return e;
    if ((e = cudaStreamWaitEvent(b->compute, b->arrived, 0))) return e;
    cy_cuda_embedding embedding = {};
    embedding.rows = b->rows;
    embedding.port = b->ports;
    embedding.table = b->table;
    embedding.out = b->out;
    embedding.id_count = IDS;
    embedding.width = WIDTH;
    embedding.step_count = STEPS;
    embedding.row_count = ROWS;
    if ((e = cy_cuda_embedding_launch(&embedding, b->compute))) return e;
    embedding.width = 0; /* the launch has its own copy */
    cy_cuda_dense_output dense = {};
    dense.rows = b->rows;
    dense.z = b->out;
    dense.step_count = STEPS;
    dense.row_count = ROWS;
    dense.width = WIDTH;
    dense.activation = CY_ACT_RELU;
    if ((e = cy_cuda_dense_output_launch(&dense, b->compute))) return e;
    cy_cuda_scatter scatter = {};
    scatter.rows = b->rows;
    scatter.in = b->out;
    scatter.port = b->ports + 1;
    scatter.step_count = STEPS;
    scatter.row_count = scatter.in_row_count = ROWS;
    scatter.width = WIDTH;
    scatter.which = CY_CUDA_EVERY_STEP;
    if ((e = cy_cuda_scatter_launch(&scatter, b->compute))) return e;
    if ((e = cudaEventRecord(b->computed, b->compute))) return e;
    if (flaw != Flaw::NO_EVENT_WAIT)
        if ((e = cudaStreamWaitEvent(b->transfer, b->computed, 0))) return e;
    if ((e = cudaMemcpyAsync(b->pinned, b->result, out_bytes, cudaMemcpyDeviceToHost,
                             b->transfer)))
        return e;
    if (flaw != Flaw::NO_SYNCHRONISE)
        if ((e = cudaStreamSynchronize(b->transfer))) return e;
    memcpy(result, b->pinned, out_bytes);
    return cudaSuccess;
}

struct Outcome {
    cudaError_t error;
    bool right;
};

Outcome run(Flaw flaw)
{
    std::vector<float> table = check::random_floats(IDS * WIDTH, 1, -1, 1);
    std::vector<float> result(STEPS * ROWS * WIDTH, -1);
    std::vector<int> ids(ROWS * STEPS);
    std::vector<cy_cuda_row> rows(ROWS);
    for (unsigned i = 0; i < ids.size(); i++)
        ids[i] = (int)(i * 3 % IDS);
    for (unsigned r = 0; r < ROWS; r++) {
        rows[r].steps = 1 + r;
        rows[r].index = ROWS - 1 - r;
    }
    Backend backend;
    Outcome outcome = {cudaSuccess, true};
    outcome.error = backend_open(&backend);
    if (!outcome.error)
        outcome.error = backend_run(&backend, table.data(), ids.data(), rows.data(),
                                    result.data(), flaw);
    backend_close(&backend, flaw);
    for (unsigned r = 0; r < ROWS; r++)
        for (unsigned s = 0; s < STEPS; s++)
            for (unsigned i = 0; i < WIDTH; i++) {
                unsigned index = rows[r].index;
                float value = table[(unsigned)ids[index * STEPS + s] * WIDTH + i];
                float expected = s < rows[r].steps ? fmaxf(value, 0) : 0;
                if (result[(index * STEPS + s) * WIDTH + i] != expected)
                    outcome.right = false;
            }
    return outcome;
}

unsigned wrong_in(Flaw flaw, unsigned seeds)
{
    unsigned wrong = 0;
    for (unsigned seed = 1; seed <= seeds; seed++) {
        fake::reset(fake::Device(), seed);
        Outcome outcome = run(flaw);
        CHECK(!outcome.error);
        wrong += !outcome.right;
    }
    return wrong;
}

void right_under_any_order()
{
    CHECK(wrong_in(Flaw::NONE, 32) == 0);
    CHECK(fake::open_handles() == 0 && fake::seen().misuses == 0);
    CHECK(fake::seen().launches == 3 && fake::seen().synchronisations == 1);
    CHECK(fake::seen().bytes_to_device == IDS * WIDTH * 4 + ROWS * STEPS * 4 +
                                              ROWS * sizeof(cy_cuda_row) +
                                              2 * sizeof(cy_cuda_port));
    CHECK(fake::seen().bytes_to_host == STEPS * ROWS * WIDTH * 4);
    CHECK(wrong_in(Flaw::NO_SYNCHRONISE, 32) > 0);
    CHECK(wrong_in(Flaw::NO_EVENT_WAIT, 32) > 0);
    fake::reset(fake::Device(), 1);
    run(Flaw::LEAKS_EVENT);
    CHECK(fake::open_handles() == 1);
}

/* Each call of a clean run fails, once and for good: the error comes back, nothing stays open. */
void every_call_fails()
{
    fake::reset(fake::Device(), 1);
    CHECK(run(Flaw::NONE).right);
    size_t calls = fake::seen().calls, runs = 0;
    CHECK(calls > 30);
    for (size_t n = 1; n <= calls; n++)
        for (fake::Failure failure : {fake::Failure::ONCE, fake::Failure::STICKY}) {
            fake::reset(fake::Device(), 1);
            fake::fail_call(n, failure);
            Outcome outcome = run(Flaw::NONE);
            const std::string name = fake::call_name(n);
            bool releases = name.find("Free") != std::string::npos ||
                            name.find("Destroy") != std::string::npos;
            check::report((outcome.error != cudaSuccess) != releases, __FILE__, __LINE__,
                          "call " + std::to_string(n) + ", " + name +
                              ", was not reported");
            check::report(fake::open_handles() == 0 && fake::seen().misuses == 0,
                          __FILE__, __LINE__,
                          "after call " + std::to_string(n) + ", " + name);
            runs++;
        }
    printf("ok     %zu calls failed, %zu runs\n", calls, runs);
}

/* Each piece of work of a clean run fails when it runs: the next call that could know says so, and all after it. */
void every_work_fails()
{
    fake::reset(fake::Device(), 1);
    CHECK(run(Flaw::NONE).right);
    const size_t works = fake::seen().works;
    CHECK(works == 9); /* four copies, a fill, three kernels, a copy */
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (size_t n = 1; n <= works; n++) {
            fake::reset(fake::Device(), seed);
            fake::fail_work(n);
            Outcome outcome = run(Flaw::NONE);
            CHECK(outcome.error == cudaErrorIllegalAddress);
            CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
            CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
            CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
            CHECK(fake::seen().works == n && fake::open_handles() == 0);
            CHECK(fake::seen().misuses == 0);
        }
}

void mistakes_named()
{
    fake::reset(fake::Device(), 1);
    char *device = nullptr, *pinned = nullptr;
    char host[64] = {0};
    CHECK(!cudaMalloc((void **)&device, 64));
    CHECK(!cudaHostAlloc((void **)&pinned, 64, 0));
    auto named = [](cudaError_t error, const char *words) {
        bool good = error && strstr(fake::last_misuse(), words);
        printf("%s %s\n", good ? "named " : "MISSED", fake::last_misuse());
        check::failures += !good;
    };
    named(cudaMemcpy(device + 1, host, 64, cudaMemcpyHostToDevice), "past the end");
    named(cudaMemcpy(host, device, 64, cudaMemcpyHostToDevice), "against its direction");
    named(cudaMemcpy(device, pinned, 64, cudaMemcpyDeviceToDevice),
          "against its direction");
    named(cudaMemsetAsync(host, 0, 64, nullptr), "outside of what a device reaches");
    named(cudaFree(pinned), "not allocated so");
    named(cudaFree(host), "not allocated so");
    named(cudaStreamSynchronize((cudaStream_t)host), "does not exist");
    named(cudaEventDestroy((cudaEvent_t)host), "does not exist");
    CHECK(!cudaFree(device) && !cudaFreeHost(pinned));
    named(cudaFree(device), "not allocated so");
    size_t free_bytes = 0, total_bytes = 0;
    CHECK(!cudaMemGetInfo(&free_bytes, &total_bytes) && free_bytes == total_bytes);
    CHECK(cudaMalloc((void **)&device, total_bytes + 1) == cudaErrorMemoryAllocation);
    CHECK(!device && cudaGetLastError() == cudaErrorMemoryAllocation);

    /* A kernel that goes wrong ends the device: every later call says so. */
    fake::reset(fake::Device(), 1);
    cudaStream_t stream = nullptr;
    CHECK(!cudaStreamCreateWithFlags(&stream, 0));
    dev::launch_shape shape = {dim3(1), dim3(32), 0, 0, 0};
    CHECK(!dev::launch(faulty_divergent_block, shape, stream, (int *)nullptr));
    CHECK(cudaStreamSynchronize(stream) == cudaErrorLaunchFailure);
    CHECK(cudaMalloc((void **)&device, 64) == cudaErrorLaunchFailure);
    CHECK(cudaStreamDestroy(stream) == cudaErrorLaunchFailure &&
          fake::open_handles() == 0);
    fake::Device none;
    none.count = 0;
    fake::reset(none, 1);
    int count = -1;
    CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0);

    fake::Device small;
    small.major = 8;
    fake::reset(small, 1);
    int major = 0;
    CHECK(!cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    CHECK(major == 8);
}

/* A captured chunk runs at every launch, with what its arguments point at by then; a capture runs nothing. */
void graphs_replay()
{
    for (unsigned seed = 1; seed <= 8; seed++) {
        fake::reset(fake::Device(), seed);
        cudaStream_t stream = nullptr, other = nullptr;
        cudaEvent_t fork = nullptr, join = nullptr;
        float *in = nullptr, *out = nullptr, *device = nullptr;
        CHECK(!cudaStreamCreateWithFlags(&stream, 0) &&
              !cudaStreamCreateWithFlags(&other, 0));
        CHECK(!cudaEventCreateWithFlags(&fork, 0) && !cudaEventCreateWithFlags(&join, 0));
        CHECK(!cudaHostAlloc((void **)&in, 16, 0) &&
              !cudaHostAlloc((void **)&out, 16, 0));
        CHECK(!cudaMalloc((void **)&device, 16));
        cy_cuda_row one = {nullptr, nullptr, 1, 0, 0, 0, 0, 0, 0}, *rows = nullptr;
        CHECK(!cudaMalloc((void **)&rows, sizeof one) &&
              !cudaMemcpy(rows, &one, sizeof one, cudaMemcpyHostToDevice));
        for (int i = 0; i < 4; i++)
            out[i] = 77;

        CHECK(!cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        CHECK(!cudaMemcpyAsync(device, in, 16, cudaMemcpyHostToDevice, stream));
        CHECK(!cudaEventRecord(fork, stream) && !cudaStreamWaitEvent(other, fork, 0));
        cy_cuda_dense_output dense = {};
        dense.rows = rows;
        dense.z = device;
        dense.width = 4;
        dense.step_count = dense.row_count = 1;
        dense.activation = CY_ACT_RELU;
        CHECK(!cy_cuda_dense_output_launch(&dense, other));
        CHECK(!cudaEventRecord(join, other) && !cudaStreamWaitEvent(stream, join, 0));
        CHECK(!cudaMemcpyAsync(out, device, 16, cudaMemcpyDeviceToHost, stream));
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t executable = nullptr;
        CHECK(!cudaStreamEndCapture(stream, &graph));
        CHECK(!cudaGraphInstantiate(&executable, graph, 0) && !cudaGraphDestroy(graph));
        CHECK(!cudaDeviceSynchronize() && out[0] == 77 && fake::seen().launches == 0);
        for (int replay = 0; replay < 3; replay++) {
            for (int i = 0; i < 4; i++)
                in[i] = (float)(replay * 10 + i) * (i % 2 ? -1 : 1);
            CHECK(!cudaGraphLaunch(executable, stream) && !cudaStreamSynchronize(stream));
            for (int i = 0; i < 4; i++)
                CHECK(out[i] == (i % 2 ? 0 : (float)(replay * 10 + i)));
        }
        CHECK(fake::seen().launches == 3 && fake::seen().graph_launches == 3);
        CHECK(!cudaGraphExecDestroy(executable) && !cudaFree(device) && !cudaFree(rows));
        CHECK(!cudaFreeHost(in) && !cudaFreeHost(out));
        CHECK(!cudaEventDestroy(fork) && !cudaEventDestroy(join));
        CHECK(!cudaStreamDestroy(stream) && !cudaStreamDestroy(other));
        CHECK(fake::open_handles() == 0);
    }
}

#ifdef EMU_ASAN
/* A host access to device memory stops the process. */
void device_memory_guarded()
{
    fake::reset(fake::Device(), 1);
    float *device = nullptr;
    CHECK(!cudaMalloc((void **)&device, 64));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        __sanitizer_set_report_path("stderr");
        if (!freopen("/dev/null", "w", stderr)) _exit(0);
        device[0] = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0));
    CHECK(!cudaFree(device));
}
#endif

} // namespace

int main()
{
    right_under_any_order();
    every_call_fails();
    every_work_fails();
    mistakes_named();
    graphs_replay();
#ifdef EMU_ASAN
    device_memory_guarded();
#endif
    fake::reset(fake::Device(), 1);
    return check::summary();
}
