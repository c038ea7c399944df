/* bench_device.h in a build without a CUDA device of its own: the CPU, or an emulated device, which takes host
 * memory. What an emulated device takes says nothing about a GPU. */
#include "bench_clock.h"
#include "bench_device.h"

#include <stdlib.h>
#include <string.h>

static double marks[BENCH_MARKS];

void bench_device_open(const char *device)
{
    (void)device;
}

void bench_device_close(void)
{
}

carry_place bench_device_place(void)
{
    return CARRY_HOST;
}

void *bench_device_stream(void)
{
    return NULL;
}

size_t bench_device_cache_bytes(void)
{
    return (size_t)32 << 20;
}

size_t bench_device_free_bytes(void)
{
    return (size_t)4 << 30;
}

void *bench_device_take(size_t bytes)
{
    return malloc(bytes);
}

void bench_device_give_back(void *array)
{
    free(array);
}

void bench_device_fill(void *array, const void *from, size_t bytes)
{
    memcpy(array, from, bytes);
}

void bench_device_read(void *to, const void *array, size_t bytes)
{
    memcpy(to, array, bytes);
}

void bench_device_mark(int mark)
{
    marks[mark] = bench_now_us();
}

double bench_device_us(int from, int to)
{
    return marks[to] - marks[from];
}
