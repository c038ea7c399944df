/* The fake runtime's machines: none, one, several devices, an old driver; what belongs to which device; the
 * NULL stream; rows of memory; threads. */
#include "check.h"
#include "fake.h"

#include "relu_kernel.h"

#include <atomic>
#include <thread>

namespace
{

void no_reset_needed()
{
    int count = 0, value = 0;
    CHECK(!cudaGetDeviceCount(&count) && count == 1);
    cudaDeviceProp p;
    CHECK(!cudaGetDeviceProperties(&p, 0));
    CHECK(!strcmp(p.name, "emulated") && p.major == 9 && p.multiProcessorCount == 4);
    CHECK(p.totalGlobalMem == (size_t)1 << 30 && p.l2CacheSize > 0);
    CHECK(p.sharedMemPerBlockOptin > p.sharedMemPerBlock && p.pciBusID == 1);
    CHECK(!cudaDeviceGetAttribute(&value, cudaDevAttrL2CacheSize, 0));
    CHECK(value == p.l2CacheSize);
    CHECK(!cudaRuntimeGetVersion(&value) && value == CUDART_VERSION);
    CHECK(!cudaDriverGetVersion(&count) && count >= value);
    CHECK(cudaDeviceGetAttribute(&value, (cudaDeviceAttr)9999, 0) &&
          fake::seen().misuses);
    CHECK(!strcmp(cudaGetErrorName(cudaErrorMemoryAllocation),
                  "cudaErrorMemoryAllocation"));
    CHECK(cudaGetLastError() == cudaErrorInvalidValue && !cudaGetLastError());
}

void absent()
{
    fake::Device device;
    int count = 1;
    device.count = 0;
    fake::reset(device, 1);
    CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0);
    CHECK(cudaSetDevice(0) == cudaErrorNoDevice);
    device.count = 1;
    device.driver_version = CUDART_VERSION - 1000;
    fake::reset(device, 1);
    CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver && count == 0);
    void *memory = nullptr;
    CHECK(cudaMalloc(&memory, 16) == cudaErrorInsufficientDriver && !memory);
    CHECK(!cudaDriverGetVersion(&count) && count == CUDART_VERSION - 1000);
    device.driver_version = CUDART_VERSION + 1000; /* newer is fine */
    fake::reset(device, 1);
    CHECK(!cudaGetDeviceCount(&count) && count == 1);
}

size_t misuses; /* so far */

/* The call failed, was counted, and these words are in what was said. */
bool misused(cudaError_t error, const char *words)
{
    bool counted = fake::seen().misuses == ++misuses;
    bool good = error && counted && strstr(fake::last_misuse(), words);
    if (!good) printf("MISSED %s: %s\n", words, fake::last_misuse());
    return good;
}

void several()
{
    fake::Device device;
    device.count = 3;
    device.memory_bytes = 1 << 20;
    fake::reset(device, 1);
    cudaStream_t stream[2];
    cudaEvent_t event[2];
    float *memory[2], *pinned = nullptr;
    int current = -1;
    size_t free_bytes = 0, total_bytes = 0;
    for (int d = 0; d < 2; d++) {
        CHECK(!cudaSetDevice(d) && !cudaGetDevice(&current) && current == d);
        CHECK(!cudaStreamCreateWithFlags(&stream[d], cudaStreamNonBlocking));
        CHECK(!cudaEventCreateWithFlags(&event[d], cudaEventDisableTiming));
        CHECK(!cudaMalloc((void **)&memory[d], (size_t)4096 << d));
        CHECK(!cudaMemGetInfo(&free_bytes, &total_bytes));
        CHECK(total_bytes == 1 << 20 && free_bytes == total_bytes - (4096u << d));
    }
    CHECK(cudaSetDevice(3) == cudaErrorInvalidDevice);
    CHECK(!cudaMallocHost((void **)&pinned, 4096));
    cudaPointerAttributes a;
    CHECK(!cudaPointerGetAttributes(&a, memory[1] + 5));
    CHECK(a.type == cudaMemoryTypeDevice && a.device == 1);
    CHECK(!cudaPointerGetAttributes(&a, pinned) && a.type == cudaMemoryTypeHost);
    CHECK(!cudaPointerGetAttributes(&a, &a) && a.type == cudaMemoryTypeUnregistered);

    CHECK(fake::seen().misuses == 0); /* device 1 is current */
    misuses = 0;
    CHECK(misused(cudaMemsetAsync(memory[0], 0, 16, stream[0]), "is current"));
    CHECK(misused(cudaMemsetAsync(memory[0], 0, 16, stream[1]), "device 0"));
    CHECK(
        misused(cudaMemcpyAsync(pinned, memory[0], 16, cudaMemcpyDeviceToHost, stream[1]),
                "device 0"));
    CHECK(misused(
        cudaMemcpyAsync(memory[1], memory[0], 16, cudaMemcpyDeviceToDevice, stream[1]),
        "in a stream of device 1"));
    CHECK(misused(cudaEventRecord(event[0], stream[1]), "recorded in a stream"));
    CHECK(misused(cudaStreamBeginCapture(stream[0], cudaStreamCaptureModeThreadLocal),
                  "is current"));
    CHECK(misused(relu_launch(memory[0], 4, stream[1]), "given memory of"));
    CHECK(!cudaMemsetAsync(memory[1], 0, 16, stream[1]));
    CHECK(!relu_launch(memory[1], 4, stream[1]));
    /* Devices wait for each other by events. */
    CHECK(!cudaEventRecord(event[1], stream[1]) && !cudaSetDevice(0));
    CHECK(!cudaStreamWaitEvent(stream[0], event[1], 0));
    CHECK(!cudaStreamSynchronize(stream[0]) && !cudaEventQuery(event[1]));
    /* Each thread has its own current device. */
    std::thread([] {
        int d = -1;
        CHECK(!cudaGetDevice(&d) && d == 0 && !cudaSetDevice(2));
    }).join();
    CHECK(!cudaGetDevice(&current) && current == 0);
    for (int d = 0; d < 2; d++)
        CHECK(!cudaFree(memory[d]) && !cudaStreamDestroy(stream[d]) &&
              !cudaEventDestroy(event[d]));
    CHECK(!cudaFreeHost(pinned) && fake::open_handles() == 0);
}

/* A non-blocking stream does not wait for the NULL stream, not even for a "synchronous" copy to the device
 * or a cudaMemset; a blocking one does. */
unsigned stale(unsigned flags, unsigned seeds)
{
    unsigned wrong = 0;
    for (unsigned seed = 1; seed <= seeds; seed++) {
        fake::reset(fake::Device(), seed);
        cudaStream_t stream = nullptr;
        float *device = nullptr, *pinned = nullptr;
        CHECK(!cudaStreamCreateWithFlags(&stream, flags));
        CHECK(!cudaMalloc((void **)&device, 16) && !cudaMallocHost((void **)&pinned, 16));
        CHECK(!cudaMemset(device, 0, 16));
        CHECK(!cudaMemcpyAsync(pinned, device, 16, cudaMemcpyDeviceToHost, stream));
        CHECK(!cudaStreamSynchronize(stream));
        wrong += pinned[0] != 0;
        CHECK(!cudaFree(device) && !cudaFreeHost(pinned) && !cudaStreamDestroy(stream));
    }
    return wrong;
}

void null_stream()
{
    CHECK(stale(cudaStreamDefault, 16) == 0);
    CHECK(stale(cudaStreamNonBlocking, 16) > 0);
}

/* Rows: only what is named is moved, and the whole of the region counts against its allocation. */
void rows_of_memory()
{
    fake::reset(fake::Device(), 1);
    enum { ROWS = 3, WIDTH = 4, PITCH = 6 };
    unsigned char *device = nullptr, *pinned = nullptr, host[ROWS * WIDTH];
    for (int i = 0; i < ROWS * WIDTH; i++)
        host[i] = (unsigned char)i;
    size_t region = (ROWS - 1) * PITCH + WIDTH;
    CHECK(!cudaMalloc((void **)&device, region));
    CHECK(!cudaMallocHost((void **)&pinned, region));
    CHECK(!cudaMemset2DAsync(device, PITCH, 7, PITCH, ROWS - 1, nullptr));
    CHECK(!cudaMemcpy2DAsync(device, PITCH, host, WIDTH, WIDTH, ROWS,
                             cudaMemcpyHostToDevice, nullptr));
    CHECK(!cudaMemcpy(pinned, device, region, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < region; i++)
        CHECK(pinned[i] == (i % PITCH < WIDTH ? i / PITCH * WIDTH + i % PITCH : 7));
    CHECK(fake::seen().bytes_to_device == ROWS * WIDTH && fake::seen().misuses == 0);
    misuses = 0;
    CHECK(misused(cudaMemcpy2DAsync(device + 1, PITCH, host, WIDTH, WIDTH, ROWS,
                                    cudaMemcpyHostToDevice, nullptr),
                  "past the end"));
    CHECK(misused(cudaMemset2DAsync(device, PITCH + 1, 0, WIDTH, ROWS, nullptr),
                  "a device reaches"));
    CHECK(cudaMemcpy2DAsync(device, WIDTH - 1, host, WIDTH, WIDTH, 2,
                            cudaMemcpyHostToDevice,
                            nullptr) == cudaErrorInvalidPitchValue);
    CHECK(!cudaHostRegister(host, sizeof host, 0));
    cudaPointerAttributes a;
    CHECK(!cudaPointerGetAttributes(&a, host) && a.type == cudaMemoryTypeHost);
    CHECK(misused(cudaHostRegister(host + 1, 2, 0), "overlap"));
    CHECK(!cudaHostUnregister(host));
    CHECK(misused(cudaHostUnregister(host), "not allocated so"));
    CHECK(!cudaFree(device) && !cudaFreeHost(pinned));
}

void small_questions()
{
    fake::reset(fake::Device(), 1);
    cudaStream_t stream = nullptr;
    cudaEvent_t start = nullptr, end = nullptr;
    float *device = nullptr, ms = -1;
    CHECK(!cudaStreamCreate(&stream) && !cudaEventCreate(&start) &&
          !cudaEventCreate(&end));
    CHECK(!cudaMalloc((void **)&device, 64));
    CHECK(cudaEventElapsedTime(&ms, start, end) == cudaErrorInvalidResourceHandle);
    CHECK(!cudaMemsetAsync(device, 0, 64, stream) && !cudaEventRecord(start, stream));
    CHECK(!relu_launch(device, 4, stream) && !cudaEventRecord(end, stream));
    int called = 0;
    CHECK(!cudaLaunchHostFunc(
        stream, [](void *data) { ++*static_cast<int *>(data); }, &called));
    CHECK(!cudaStreamSynchronize(stream) && called == 1);
    CHECK(!cudaEventElapsedTime(&ms, start, end) && ms >= 0 && ms < 1e4f);
    CHECK(!cudaFree(device) && !cudaEventDestroy(start) && !cudaEventDestroy(end));
    CHECK(!cudaStreamDestroy(stream) && fake::open_handles() == 0);
    CHECK(fake::seen().misuses == 0);
}

/* Threads with a stream each meet in one runtime. */
void threads_share_it()
{
    fake::reset(fake::Device(), 1);
#if defined(EMU_ASAN) || defined(EMU_TSAN)
    enum { ROUNDS = 20 };
#else
    enum { ROUNDS = 300 };
#endif
    enum { THREADS = 4, WIDTH = 40 };
    std::atomic<int> waiting(THREADS);
    unsigned wrong[THREADS] = {0};
    std::vector<std::thread> threads;
    for (int t = 0; t < THREADS; t++)
        threads.emplace_back([t, &wrong, &waiting] {
            for (waiting--; waiting > 0;) /* so that they begin together */
                std::this_thread::yield();
            cudaStream_t stream = nullptr;
            float *device = nullptr, *pinned = nullptr;
            wrong[t] += cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != 0;
            wrong[t] += cudaMalloc((void **)&device, WIDTH * 4) != 0;
            wrong[t] += cudaMallocHost((void **)&pinned, WIDTH * 4) != 0;
            for (int round = 0; round < ROUNDS && !wrong[t]; round++) {
                for (int i = 0; i < WIDTH; i++)
                    pinned[i] = (float)((t + 1) * (i + round) * (i % 2 ? -1 : 1));
                cudaMemcpyAsync(device, pinned, WIDTH * 4, cudaMemcpyHostToDevice,
                                stream);
                relu_launch(device, WIDTH, stream);
                cudaMemcpyAsync(pinned, device, WIDTH * 4, cudaMemcpyDeviceToHost,
                                stream);
                wrong[t] += cudaStreamSynchronize(stream) != 0;
                for (int i = 0; i < WIDTH; i++)
                    wrong[t] += pinned[i] != (i % 2 ? 0 : (float)((t + 1) * (i + round)));
            }
            cudaFree(device);
            cudaFreeHost(pinned);
            cudaStreamDestroy(stream);
        });
    for (std::thread &thread : threads)
        thread.join();
    for (unsigned count : wrong)
        CHECK(count == 0);
    CHECK(fake::open_handles() == 0 && fake::seen().launches == THREADS * ROUNDS);
    CHECK(fake::seen().misuses == 0);
}

} // namespace

int main()
{
    no_reset_needed();
    absent();
    several();
    null_stream();
    rows_of_memory();
    small_questions();
    threads_share_it();
    fake::reset(fake::Device(), 1);
    CHECK(emu::races() == 0);
    return check::summary();
}
