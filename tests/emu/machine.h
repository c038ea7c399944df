/* The emulated machine: the grid that runs, its blocks, warps and threads. Internal to the emulator. */
#ifndef CY_TESTS_EMU_MACHINE_H
#define CY_TESTS_EMU_MACHINE_H

#include "calls.h"
#include "fiber.h"

#include <memory>
#include <vector>

namespace emu
{

struct Block;
struct Warp;

struct Thread {
    enum State { READY, WAITING, DONE };
    Fiber fiber;
    Block *block = nullptr;
    Warp *warp = nullptr;
    unsigned index = 0; /* in its block */
    uint3 position{};
    State state = READY;
    Site at = {nullptr, 0, NONE}; /* where it waits */
    int priority = 0;
    unsigned inside = 0;      /* depth of Inside */
    std::vector<Copy> copies; /* on their way, oldest first: a few */
    unsigned copy_group = 0;
};

/* A barrier among a number of threads. */
struct Meeting {
    unsigned arrived = 0, round = 0;
    Site site = {nullptr, 0, NONE};
    std::vector<Thread *> waiting;
    char token[2] = {0, 0}; /* TSan: even and odd rounds */
};

/* The meetings of one set of lanes. */
struct WarpMeeting : Meeting {
    unsigned mask = 0;
    alignas(16) unsigned char given[2][32 * 64]; /* even and odd rounds */
};

struct Warp {
    unsigned members = 0, exited = 0;
    int priority = 0;
    std::vector<WarpMeeting *> meetings;
};

struct Block {
    unsigned index = 0, thread_count = 0, live = 0;
    uint3 position{};
    int priority = 0;
    unsigned char *shared =
        nullptr; /* dynamic part first; NULL: not touched yet, or not running */
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Meeting all;
    std::unique_ptr<Meeting[]> named; /* [16] once one is used */
    std::vector<uint32_t> mbarriers;  /* offsets in shared */
};

struct SharedArray {
    const void *key;
    size_t offset, bytes;
};

struct Machine {
    const Kernel *how = nullptr;
    const void *kernel = nullptr;
    void **arguments = nullptr;
    Grid shape{};
    unsigned block_count = 0, resident = 0, finished = 0, live = 0;
    size_t shared_bytes = 0, shared_top = 0; /* reserved and handed out, per block */
    std::vector<Block> blocks;
    std::vector<Meeting> clusters;
    std::vector<SharedArray> arrays;
    std::vector<AsyncStore *> stores;
    unsigned store_delay =
        0;              /* one in so many turns delivers a store; 0: only when all wait */
    uint64_t polls = 0; /* since something changed */
    char end_token = 0;
    bool failed = false;
};

extern Machine *machine; /* NULL: no launch */
/* NULL: the scheduler or the host. Each OS thread's own: while one runs a grid, others come to the
 * preemption points of launchers, which are compiled with the kernels. */
extern __thread Thread *current __attribute__((tls_model("initial-exec")));

/* Held by every entry: no preemption inside, and TSan looks away from the emulator's own memory. */
struct Inside {
    Inside();
    ~Inside();
};

unsigned draw();               /* the launch's random numbers */
unsigned draw(unsigned below); /* 0 .. below-1 */
Policy policy_now();

/* The block's shared memory, which it gets when it first asks: most kernels never do. */
unsigned char *shared_of(Block &block);

void ready(Thread *thread);
void pause(const Site &site); /* current waits until ready() */
void yield();                 /* current stays ready */
void set_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace emu

#endif
