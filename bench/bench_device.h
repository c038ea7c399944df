/* Where a bench's arrays lie and what times it: memory and events of a CUDA device (bench_device_cuda.c), or of the
 * host (bench_device_host.c) in a build without one. Failures end the program with a sentence. */
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include <carry/carry.h>

#include <stddef.h>

/* device: "cpu", "cuda", "cuda:1". On the CPU everything is the host's. */
void bench_device_open(const char *device);
void bench_device_close(void);

carry_place bench_device_place(void);
void *bench_device_stream(void);       /* cudaStream_t, or NULL */
size_t bench_device_cache_bytes(void); /* the last cache before memory */
size_t bench_device_free_bytes(void);

/* NULL if there is no room. */
void *bench_device_take(size_t bytes);
void bench_device_give_back(void *array);
void bench_device_fill(void *array, const void *from, size_t bytes);
void bench_device_read(void *to, const void *array, size_t bytes);

/* A point in the order of the device's work, and the microseconds between two of them once both are past. */
enum { BENCH_MARKS = 512 };
void bench_device_mark(int mark);
double bench_device_us(int from, int to);

#endif
