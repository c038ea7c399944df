/* What the inline half of the emulator (device_emu.h, compiled and instrumented with each kernel) asks
 * of the other half (machine.h, compiled plain). Kernel data is touched in the inline half only, so
 * that sanitizers see every access with the kernel's own file and line. */
#ifndef CY_TESTS_EMU_CALLS_H
#define CY_TESTS_EMU_CALLS_H

#include "emu.h"

#include <cuda_runtime_api.h>

/* Last parameters of every function of the dialect that synchronises. */
#define EMU_SITE     const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE()
#define EMU_AT(kind) (emu::Site{file_, line_, emu::kind})

namespace emu
{

/* Ends the launch with this sentence; the calling thread never runs again. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* False: the site is the one that options.drop names. */
bool visit(const Site &site);

void sync_block(const Site &site);
void sync_named(unsigned id, unsigned threads, const Site &site);
void sync_cluster(const Site &site);
void sync_warp(unsigned mask, const Site &site);

/* Every lane of mask gives `bytes` (at most 64) and, when all have come, sees what each gave: lane
 * l's at l * 64. Orders nothing, as on the device. */
const unsigned char *warp_exchange(unsigned mask, const void *give, unsigned bytes,
                                   const Site &site);

unsigned lane();
unsigned cluster_rank();
unsigned cluster_size();
bool coin();
bool cooperative();

void poll(const Site &site); /* gives way until something may have changed */
void progress();             /* something may have changed */
void maybe_yield();          /* gives way now and then, sometimes for long */

void *shared_dynamic(size_t align);
/* exact: placed no better than align says. */
enum class Placing { EXACT, ALIGNED };
void *shared_static(const void *key, size_t bytes, size_t align, Placing placing);
void check_shared(const void *address, size_t bytes, size_t align, const Site &site);
void check_global(const void *address, size_t align, const Site &site);

/* One asynchronous copy to shared memory: its bytes arrive no earlier than the wait. */
struct Copy {
    void *to;
    const void *from;
    unsigned bytes, source_bytes;
    bool
        sampled; /* data was read when the copy was issued, else it is read at the wait */
    alignas(16) unsigned char data[16];
    unsigned group;
};
void copy_push(const Copy &copy);
void copy_commit();
/* The next copy that a wait which leaves `pending` groups open must finish; false: none. */
bool copy_pop(unsigned pending, Copy *copy);
void copy_forget(unsigned pending); /* the wait was dropped: they never arrive */

/* Another block's shared memory, or one's own, in the cluster's window. */
struct ClusterAddress {
    unsigned rank;
    uint32_t offset;
};
ClusterAddress cluster_map(const void *address, unsigned rank, const Site &site);
void *cluster_resolve(ClusterAddress address, size_t bytes, size_t align,
                      const Site &site);
unsigned cluster_block(ClusterAddress address);

void mbarrier_born(const void *barrier, const Site &site);
bool mbarrier_known(const void *barrier);

/* A store that arrives later, in any order: apply runs in the scheduler, and returns NULL or what
 * is wrong. */
struct AsyncStore {
    void *to;
    uint64_t *barrier;
    uint64_t data[2];
    unsigned block;
    const char *(*apply)(AsyncStore *);
};
void async_push(const AsyncStore &store);

/* Kernels by address: how to call one with an array of pointers to its arguments. */
struct Kernel {
    void (*call)(const void *kernel, void **arguments);
    unsigned argument_count;
    const size_t *argument_bytes;
};
void kernel_register(const void *kernel, const Kernel &how);
const Kernel *kernel_find(const void *kernel);

enum { GRID_COOPERATIVE = 1, GRID_CLUSTER_16 = 2 };
struct Grid {
    dim3 grid, block;
    size_t dynamic_bytes;
    unsigned cluster;
    unsigned flags;
};
/* What a device would refuse at the launch. */
cudaError_t check_grid(const Grid &grid);
bool current_kernel(); /* a kernel is running: no place for a call of the host's */
/* Runs a grid to its end on the calling OS thread. */
cudaError_t run_grid(const void *kernel, const Grid &grid, void **arguments);

} // namespace emu

#endif
