/* Controls of the fake CUDA runtime: the device it plays, calls that fail, and what it saw. Linked in place
 * of the runtime and of cuBLAS, so that the whole backend runs on any machine. Plain C, for the API's suites;
 * fake.h is the same for C++. Without a call of these the fake plays one default device.
 *
 * Work is deferred: an asynchronous call only queues, and a seeded draw decides at every later call whether
 * and in which order queued work runs, as far as streams and events allow; a synchronising call runs
 * what it waits for. So a missing synchronisation shows as stale data. One thread replays a seed exactly. */
#ifndef CY_TESTS_EMU_FAKE_CONTROL_H
#define CY_TESTS_EMU_FAKE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FAKE_DEVICES_MAX = 4 };

typedef struct fake_device {
    int count; /* devices of this kind, up to FAKE_DEVICES_MAX; 0: a machine without a GPU */
    int major, minor;
    int multiprocessors;
    size_t memory_bytes; /* of each */
    int driver_version;  /* 0: that of the runtime; an older major version is too old */
} fake_device;

#define FAKE_DEVICE_DEFAULT            \
    {                                  \
        1, 9, 0, 4, (size_t)1 << 30, 0 \
    }

/* Forgets everything; handles from before are no more. NULL: the default device. */
void fake_reset(const fake_device *device, uint64_t seed);

/* Call number n (from 1) fails, once, or it and all after it. 0: none. Releasing calls release all the
 * same, as CUDA's may. */
typedef enum fake_failure { FAKE_ONCE, FAKE_STICKY } fake_failure;
void fake_fail_call(size_t n, fake_failure failure);

/* Piece of work number n (from 1) that a device does, counted when it runs, fails then: a copy, a fill, a kernel or a
 * product, in a graph too. It is not done, nor anything after it: the device is lost, and every later call of it
 * reports cudaErrorIllegalAddress. 0: none. */
void fake_fail_work(size_t n);

/* All since the reset. Graphs count with what is in them, each time they run. */
typedef struct fake_seen {
    size_t calls;
    size_t works;    /* pieces of work that were done, or failed */
    size_t launches; /* kernels run, products among them */
    size_t products; /* of cuBLAS */
    size_t graph_launches;
    size_t allocations; /* of memory, and one for each load */
    size_t
        loads; /* of a kernel, when it is first launched on a device; of cuBLAS, when a handle is first given a
                           product of its kind: type, m, k, and n from one power of two (4096 the last) to the next */
    size_t bytes_to_device, bytes_to_host, bytes_on_device; /* copied */
    size_t synchronisations;
    size_t misuses; /* what CUDA may let pass and we must not do */
} fake_seen;
fake_seen fake_seen_now(void);

const char *fake_last_misuse(void);  /* "": none */
const char *fake_kernel_error(void); /* why the last kernel failed; "": it did not */
const char *
fake_call_name(size_t n); /* of call number n; "" for those past the first 65536 */

/* Allocations, streams, events, graphs and handles not yet given back. */
size_t fake_open_handles(void);

#ifdef __cplusplus
}
#endif

#endif
