/* Controls of the fake CUDA runtime (fake_runtime.cpp): the device it plays, calls that fail, and what it
 * saw. Linked in place of the runtime, so that the whole backend runs on any machine.
 *
 * Work is deferred: an asynchronous call only queues, and a seeded draw decides at every later call whether
 * and in which order queued work runs, as far as streams and events allow; a synchronising call runs
 * what it waits for. So a missing synchronisation shows as stale data. */
#ifndef CY_TESTS_EMU_FAKE_H
#define CY_TESTS_EMU_FAKE_H

#include <stddef.h>
#include <stdint.h>

namespace fake
{

struct Device {
    int count = 1; /* 0: a machine without a GPU */
    int major = 9, minor = 0;
    int multiprocessors = 4;
    size_t memory_bytes = 256 << 20;
    int driver_version = 13000;
};

/* Forgets everything; handles from before are no more. */
void reset(const Device &device, uint64_t seed);

/* Call number n (from 1) fails, once, or it and all after it. 0: none. Releasing calls release all the
 * same, as CUDA's may. */
enum class Failure { ONCE, STICKY };
void fail_call(size_t n, Failure failure);

struct Seen {
    size_t calls;    /* since reset */
    size_t launches; /* kernels run, in graphs or not */
    size_t graph_launches;
    size_t allocations;
    size_t bytes_to_device, bytes_to_host, bytes_on_device; /* copied */
    size_t synchronisations;
    size_t misuses; /* what CUDA may let pass and we must not do */
};
const Seen &seen();
const char *last_misuse();
const char *call_name(size_t n); /* of call number n */

/* Allocations, streams, events and graphs not yet given back. */
size_t open_handles();

} // namespace fake

#endif
