/* bench_device.h on a CUDA device. The CPU's arrays are the host's here too, so that one program measures both. */
#include "bench_clock.h"
#include "bench_device.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_gpu;
static cudaStream_t cuda_stream;
static cudaEvent_t events[BENCH_MARKS];
static double marks[BENCH_MARKS];

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "bench: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

void bench_device_open(const char *device)
{
    on_gpu = strncmp(device, "cuda", 4) == 0;
    if (!on_gpu) return;
    must(cudaSetDevice(device[4] == ':' ? atoi(device + 5) : 0), device);
    must(cudaStreamCreateWithFlags(&cuda_stream, cudaStreamNonBlocking), "a stream");
    for (int i = 0; i < BENCH_MARKS; i++)
        must(cudaEventCreate(&events[i]), "an event");
}

void bench_device_close(void)
{
    if (!on_gpu) return;
    for (int i = 0; i < BENCH_MARKS; i++)
        must(cudaEventDestroy(events[i]), "an event");
    must(cudaStreamDestroy(cuda_stream), "a stream");
}

carry_place bench_device_place(void)
{
    return on_gpu ? CARRY_DEVICE : CARRY_HOST;
}

void *bench_device_stream(void)
{
    return on_gpu ? cuda_stream : NULL;
}

size_t bench_device_cache_bytes(void)
{
    int device, bytes = 32 << 20;
    if (on_gpu) {
        must(cudaGetDevice(&device), "the device");
        must(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device), "L2's size");
    }
    return (size_t)bytes;
}

size_t bench_device_free_bytes(void)
{
    size_t free_bytes = (size_t)4 << 30, total;
    if (on_gpu) must(cudaMemGetInfo(&free_bytes, &total), "free memory");
    return free_bytes;
}

void *bench_device_take(size_t bytes)
{
    if (!on_gpu) return malloc(bytes);
    void *array = NULL;
    if (cudaMalloc(&array, bytes) == cudaSuccess) return array;
    cudaGetLastError();
    return NULL;
}

void bench_device_give_back(void *array)
{
    if (on_gpu) must(cudaFree(array), "cudaFree");
    else free(array);
}

void bench_device_fill(void *array, const void *from, size_t bytes)
{
    if (on_gpu) must(cudaMemcpy(array, from, bytes, cudaMemcpyHostToDevice), "a copy");
    else memcpy(array, from, bytes);
}

void bench_device_read(void *to, const void *array, size_t bytes)
{
    if (on_gpu) must(cudaMemcpy(to, array, bytes, cudaMemcpyDeviceToHost), "a copy");
    else memcpy(to, array, bytes);
}

void bench_device_mark(int mark)
{
    if (on_gpu) must(cudaEventRecord(events[mark], cuda_stream), "an event");
    else marks[mark] = bench_now_us();
}

double bench_device_us(int from, int to)
{
    if (!on_gpu) return marks[to] - marks[from];
    float ms;
    must(cudaEventSynchronize(events[to]), "an event");
    must(cudaEventElapsedTime(&ms, events[from], events[to]), "an event");
    return (double)ms * 1e3;
}
