/* The emulator's controls, for tests: which schedule, which sync site to drop, what went wrong.
 *
 * One OS thread runs a grid; every CUDA thread is a fiber. A fiber gives way at barriers, warp
 * operations and polls, now and then at any basic block (kernel files are compiled with
 * -fsanitize-coverage=trace-pc), and which fiber runs next is drawn from `options.seed`, so a seed
 * replays a run exactly. A launch ends clean or with one sentence in last_error(). */
#ifndef CY_TESTS_EMU_H
#define CY_TESTS_EMU_H

#include <stddef.h>
#include <stdint.h>

namespace emu
{

#define EMU_KIND_LIST(X)                  \
    X(NONE, "ready")                      \
    X(SYNC_BLOCK, "sync_block")           \
    X(SYNC_WARP, "sync_warp")             \
    X(SYNC_NAMED, "sync_named")           \
    X(SYNC_CLUSTER, "sync_cluster")       \
    X(SHUFFLE, "shuffle")                 \
    X(BALLOT, "ballot")                   \
    X(LOAD_MATRIX, "load_matrix")         \
    X(MOVE_MATRIX, "transpose_matrix")    \
    X(MMA, "mma")                         \
    X(COPY_WAIT, "copy_async_wait")       \
    X(POLL, "poll")                       \
    X(MBARRIER_ARRIVE, "mbarrier_arrive") \
    X(MBARRIER_WAIT, "mbarrier_wait")     \
    X(STORE_ASYNC, "store_async")

enum Kind {
#define EMU_KIND_ENUM(id, text) id,
    EMU_KIND_LIST(EMU_KIND_ENUM)
#undef EMU_KIND_ENUM
        KIND_COUNT
};

/* A place in a kernel's source where threads synchronise. */
struct Site {
    const char *file;
    int line;
    Kind kind;
};

enum class Policy {
    BY_SEED, /* even seeds RANDOM, odd seeds PRIORITY */
    RANDOM,  /* any ready thread */
    PRIORITY, /* blocks, warps and threads with random priorities that change now and then */
    LAST_FIRST, /* the thread that became ready last */
    IN_TURN     /* round robin: what hides most mistakes; here to show that */
};

/* How mma adds up: in double, or as tensor cores are reported to, aligned to the largest term with
 * two extra bits and truncated. */
enum class Numerics { EXACT, TRUNCATING };

enum class Weaken { NONE, RELEASE, ACQUIRE }; /* made relaxed; only TSan can notice */

struct Options {
    uint64_t seed = 1;
    Policy policy = Policy::BY_SEED;
    Numerics numerics = Numerics::EXACT;
    Site drop = {nullptr, 0, NONE}; /* this site does nothing */
    Weaken weaken = Weaken::NONE;
    unsigned preempt_mean = 300;  /* basic blocks between two switches; 0: never */
    unsigned resident_blocks = 0; /* of an ordinary launch; 0: drawn from the seed */
    unsigned multiprocessors = 4;
    unsigned blocks_per_multiprocessor = 8;
    size_t shared_limit_bytes = 232448; /* with opt-in, sm_90 */
    uint64_t max_polls = 2000000;       /* without progress: a livelock */
};
extern Options options;

struct Counters {
    uint64_t launches, threads, switches;
};
extern Counters counters;

/* "" if the last launch was clean. */
const char *last_error();

/* Every site that a launch has come to since sites_clear(). */
size_t sites_count();
Site site_at(size_t index);
void sites_clear();
const char *kind_name(Kind kind);

/* Dropping a site of this kind leaves a kernel that still means something. */
bool droppable(Kind kind);

/* Data races that TSan has reported in this process; 0 in other builds. */
unsigned races();

/* False where the tests run on a GPU (tests/gpu/on_device.cpp): one schedule, nothing to drop. */
extern const bool emulated;

/* How many threads a launch may have with a TSan context each; beyond it warps share one. */
extern const unsigned tsan_threads_max;

} // namespace emu

#endif
