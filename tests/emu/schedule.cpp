/* The scheduler: starts blocks, picks who runs next, and ends a launch, cleanly or with a sentence.
 *
 * Three sets of threads: ready; polling, which run only when nobody is ready or now and then, so that
 * whoever they wait for gets on even under unfair schedules, and so that "everybody polls" is seen at
 * once; and stalled, parked for a while as a slow warp would be. Compiled without TSan. */
#include "machine.h"

#include <algorithm>
#include <mutex>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unordered_map>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emu
{

Options options;
Counters counters;
Machine *machine;
__thread Thread *current __attribute__((tls_model("initial-exec")));
/* libtsan has 255 slots for contexts; past them it drops history and misses races. */
const unsigned tsan_threads_max = 240;
const bool emulated = true;

namespace
{

char error_text[1024];
unsigned race_count;
uint64_t random_state;
/* Each OS thread's own, like current; counted also where no switch is possible. */
__thread int blocks_to_preemption __attribute__((tls_model("initial-exec")));
const int never = 1 << 30;
Policy policy;
std::unordered_map<const void *, Kernel> kernels;
std::mutex kernels_lock;

std::vector<Thread *> queue; /* ready; a ring of a power of two */
size_t queue_head, queue_count;
std::vector<Thread *> polling, stalled;

Thread *&queue_at(size_t i)
{
    return queue[(queue_head + i) & (queue.size() - 1)];
}

void queue_reset(size_t threads)
{
    size_t size = 64;
    while (size < threads)
        size *= 2;
    queue.assign(size, nullptr);
    queue_head = queue_count = 0;
    polling.clear();
    stalled.clear();
}

Thread *take_any(std::vector<Thread *> &from)
{
    std::swap(from[draw((unsigned)from.size())], from.back());
    Thread *thread = from.back();
    from.pop_back();
    return thread;
}

int standing(const Thread *thread)
{
    return thread->block->priority + thread->warp->priority + thread->priority;
}

/* The best of eight; now and then the winner's block and warp change places in the order. */
size_t pick_by_priority()
{
    const size_t sample = 8;
    size_t best = 0;
    int highest = 0;
    for (size_t i = 0; i < std::min(queue_count, sample); i++) {
        size_t candidate = queue_count <= sample ? i : draw((unsigned)queue_count);
        int candidates = standing(queue_at(candidate));
        if (i > 0 && candidates <= highest) continue;
        best = candidate;
        highest = candidates;
    }
    if (draw(512) == 0) {
        Thread *thread = queue_at(best);
        thread->block->priority = (int)draw(1 << 24);
        thread->warp->priority = (int)draw(1 << 20);
    }
    return best;
}

bool anybody()
{
    return queue_count || !polling.empty() || !stalled.empty();
}

Thread *pick()
{
    bool idle = queue_count == 0;
    if (!stalled.empty() &&
        (idle ? draw(2 * (unsigned)polling.size() + 1) == 0 : draw(8192) == 0))
        return take_any(stalled);
    if (!polling.empty() && (idle || draw(32) == 0)) return take_any(polling);
    if (idle) return take_any(stalled);
    size_t i = 0;
    switch (policy) {
    case Policy::LAST_FIRST:
        i = queue_count - 1;
        break;
    case Policy::PRIORITY:
        i = pick_by_priority();
        break;
    case Policy::RANDOM:
        i = draw((unsigned)queue_count);
        break;
    default:
        break;
    }
    Thread *thread = queue_at(i);
    if (policy == Policy::LAST_FIRST) {
        queue_count--;
        return thread;
    }
    std::swap(queue_at(0), queue_at(i));
    queue_head = (queue_head + 1) & (queue.size() - 1);
    queue_count--;
    return thread;
}

void thread_main();

/* TSan's contexts are opened with the block, in an order that lets warps share them; elsewhere a thread
 * gets its stack at its first turn and gives it back after its last, so that kernels that never wait
 * run on one stack, which stays in the cache. */
#ifdef EMU_TSAN
const bool stacks_at_once = true;
#else
const bool stacks_at_once = false;
#endif

void run(Thread *thread)
{
    current = thread;
    threadIdx = thread->position;
    blockIdx = thread->block->position;
    counters.switches++;
    if (!thread->fiber.stack) fiber_open(&thread->fiber, thread_main, nullptr);
    fiber_enter(&thread->fiber);
    current = nullptr;
    if (!stacks_at_once && thread->state == Thread::DONE)
        fiber_close(&thread->fiber, FiberEnd::FINISHED);
}

void leave(Leave how)
{
    Thread *thread = current;
#ifdef EMU_TSAN
    if (thread->inside) __tsan_ignore_thread_end();
#endif
    fiber_leave(&thread->fiber, how);
#ifdef EMU_TSAN
    if (thread->inside) __tsan_ignore_thread_begin();
#endif
}

void thread_end(Thread *thread)
{
    Inside inside;
    Block *block = thread->block;
    Warp &warp = *thread->warp;
    unsigned bit = 1u << thread->index % 32;
    if (!thread->copies.empty())
        fail("thread %u of block %u exits with a copy_async that it never waited for",
             thread->index, block->index);
    for (WarpMeeting *meeting : warp.meetings)
        if (meeting->arrived && meeting->mask & bit)
            fail("lane %u of block %u exits while others wait for it in %s at %s:%d",
                 thread->index % 32, block->index, kind_name(meeting->site.kind),
                 meeting->site.file, meeting->site.line);
    if (block->all.arrived)
        fail("thread %u of block %u exits while others wait in sync_block at %s:%d",
             thread->index, block->index, block->all.site.file, block->all.site.line);
    warp.exited |= bit;
    thread->state = Thread::DONE;
    machine->live--;
    if (--block->live == 0) {
        machine->finished++;
        for (const AsyncStore *store : machine->stores)
            if (store->block == block->index)
                fail("block %u exits while a store_async to its shared memory is on its "
                     "way",
                     block->index);
    }
    EMU_RELEASE(&machine->end_token);
    progress();
}

void thread_main()
{
    fiber_arrived();
    Thread *thread = current;
    machine->how->call(machine->kernel, machine->arguments);
    thread_end(thread);
    leave(Leave::FINISHED);
    abort();
}

void block_start(unsigned index)
{
    Block &block = machine->blocks[index];
    const dim3 &b = machine->shape.block, &g = machine->shape.grid;
    block.index = index;
    block.position = uint3{index % g.x, index / g.x % g.y, index / g.x / g.y};
    block.thread_count = block.live = b.x * b.y * b.z;
    block.priority = (int)draw(1 << 24);
    block.warps.resize((block.thread_count + 31) / 32);
    for (Warp &warp : block.warps)
        warp.priority = (int)draw(1 << 20);
    block.threads.resize(block.thread_count);
    bool context_each =
        (size_t)machine->block_count * block.thread_count <= tsan_threads_max;
    uint3 position = {0, 0, 0};
    for (unsigned i = 0; i < block.thread_count; i++) {
        Thread &thread = block.threads[i];
        thread.block = &block;
        thread.index = i;
        thread.position = position;
        if (++position.x == b.x) {
            position.x = 0;
            if (++position.y == b.y) {
                position.y = 0;
                position.z++;
            }
        }
        thread.priority = (int)draw(1 << 10);
        thread.warp = &block.warps[i / 32];
        thread.warp->members |= 1u << i % 32;
        if (stacks_at_once)
            fiber_open(&thread.fiber, thread_main,
                       context_each || i % 32 == 0
                           ? nullptr
                           : block.threads[i - i % 32].fiber.tsan);
        ready(&thread);
    }
    counters.threads += block.thread_count;
    machine->live += block.thread_count;
}

void block_end(Block &block)
{
    /* Threads that share a context go before the one that owns it. */
    for (size_t i = block.threads.size(); i-- > 0;)
        fiber_close(&block.threads[i].fiber,
                    machine->failed ? FiberEnd::ABANDONED : FiberEnd::FINISHED);
    block.threads.clear();
    for (Warp &warp : block.warps)
        for (WarpMeeting *meeting : warp.meetings)
            delete meeting;
    block.warps.clear();
#ifdef EMU_ASAN
    if (block.shared) __asan_unpoison_memory_region(block.shared, machine->shared_bytes);
#endif
    free(block.shared);
    block.shared = nullptr;
}

/* Where everybody is: the census that turns a hang into a sentence. */
void report_stuck(const char *what)
{
    struct Place {
        Site site;
        unsigned threads, block, thread;
    };
    std::vector<Place> places;
    for (const Block &block : machine->blocks)
        for (const Thread &thread : block.threads) {
            if (thread.state == Thread::DONE) continue;
            auto same = [&](const Place &p) {
                return p.site.kind == thread.at.kind && p.site.line == thread.at.line;
            };
            auto place = std::find_if(places.begin(), places.end(), same);
            if (place == places.end())
                places.push_back({thread.at, 1, block.index, thread.index});
            else place->threads++;
        }
    char text[800];
    size_t used = 0;
    text[0] = 0;
    for (const Place &p : places)
        if (used + 200 < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used,
                                     "; %u in %s at %s:%d (first: thread %u of block %u)",
                                     p.threads, kind_name(p.site.kind),
                                     p.site.file ? p.site.file : "?", p.site.line,
                                     p.thread, p.block);
    set_error("%s: %u threads live%s", what, machine->live, text);
    machine->failed = true;
}

/* One store of those on their way, not the oldest. */
void deliver()
{
    std::vector<AsyncStore *> &stores = machine->stores;
    std::swap(stores[draw((unsigned)stores.size())], stores.back());
    AsyncStore *store = stores.back();
    stores.pop_back();
    struct Delivery {
        AsyncStore *store;
        const char *wrong;
    } delivery = {store, nullptr};
    fiber_detached(
        [](void *argument) {
            Delivery *d = static_cast<Delivery *>(argument);
            d->wrong = d->store->apply(d->store);
        },
        &delivery, store);
    delete store;
    if (delivery.wrong && !machine->failed) {
        set_error("store_async: %s", delivery.wrong);
        machine->failed = true;
    }
}

void run_blocks()
{
    unsigned cluster = machine->shape.cluster;
    std::vector<unsigned> order, running; /* clusters to start; blocks */
    for (unsigned i = 0; i < machine->block_count / cluster; i++)
        order.push_back(i);
    if (policy != Policy::IN_TURN)
        for (size_t i = order.size(); i > 1; i--)
            std::swap(order[i - 1], order[draw((unsigned)i)]);
    size_t started = 0;
    unsigned races_before = race_count;
    while (!machine->failed) {
        for (size_t i = 0; i < running.size();) {
            if (machine->blocks[running[i]].live == 0) {
                block_end(machine->blocks[running[i]]);
                running[i] = running.back();
                running.pop_back();
            } else {
                i++;
            }
        }
        while (started < order.size() && running.size() + cluster <= machine->resident) {
            for (unsigned i = 0; i < cluster; i++) {
                running.push_back(order[started] * cluster + i);
                block_start(running.back());
            }
            started++;
        }
        if (machine->finished == machine->block_count) break;
        unsigned finished = machine->finished;
        while (machine->finished == finished && !machine->failed) {
            bool due = !machine->stores.empty() &&
                       (queue_count == 0 ||
                        (machine->store_delay && draw(machine->store_delay) == 0));
            if (due) deliver();
            else if (anybody()) run(pick());
            else report_stuck("deadlock");
            if (race_count != races_before && !machine->failed) {
                set_error("a data race, which ThreadSanitizer has reported");
                machine->failed = true;
            }
        }
    }
}

} // namespace

Inside::Inside()
{
    if (current && current->inside++) return;
#ifdef EMU_TSAN
    __tsan_ignore_thread_begin();
#endif
}

Inside::~Inside()
{
    if (current && --current->inside) return;
#ifdef EMU_TSAN
    __tsan_ignore_thread_end();
#endif
}

unsigned draw()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 24);
}

unsigned draw(unsigned below)
{
    return (unsigned)((uint64_t)draw() * below >> 32);
}

unsigned char *shared_of(Block &block)
{
    if (block.shared) return block.shared;
    block.shared =
        static_cast<unsigned char *>(aligned_alloc(1024, machine->shared_bytes));
    if (!block.shared) abort();
    memset(block.shared, 0xff, machine->shared_bytes); /* NaN, until somebody writes */
#ifdef EMU_ASAN
    size_t dynamic = machine->shape.dynamic_bytes;
    __asan_poison_memory_region(block.shared + dynamic, machine->shared_bytes - dynamic);
    for (const SharedArray &array : machine->arrays)
        __asan_unpoison_memory_region(block.shared + array.offset, array.bytes);
#endif
    return block.shared;
}

Policy policy_now()
{
    return policy;
}

void ready(Thread *thread)
{
    thread->state = Thread::READY;
    thread->at.kind = NONE;
    queue_at(queue_count++) = thread;
}

void pause(const Site &site)
{
    current->state = Thread::WAITING;
    current->at = site;
    leave(Leave::PAUSED);
}

void yield()
{
    queue_at(queue_count++) = current;
    leave(Leave::PAUSED);
}

void poll(const Site &site)
{
    Inside inside;
    uint64_t limit = queue_count || !stalled.empty() || !machine->stores.empty()
                         ? options.max_polls
                         : 64 * (polling.size() + 16);
    current->at = site;
    if (++machine->polls > limit) {
        report_stuck("livelock: everybody waits and nothing changes");
        leave(Leave::PAUSED);
        abort();
    }
    polling.push_back(current);
    leave(Leave::PAUSED);
    current->at.kind = NONE;
}

void progress()
{
    if (machine) machine->polls = 0;
}

void maybe_yield()
{
    Inside inside;
    unsigned chance = draw(64);
    if (chance == 0 && policy != Policy::IN_TURN) {
        stalled.push_back(current);
        leave(Leave::PAUSED);
    } else if (chance < 8) {
        yield();
    }
}

void set_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    if (!machine || !current) {
        fprintf(stderr, "emu: outside a kernel: %s\n", error_text);
        abort();
    }
    machine->failed = true;
    leave(Leave::PAUSED);
    abort();
}

const char *last_error()
{
    return error_text;
}

unsigned races()
{
    return race_count;
}

void kernel_register(const void *kernel, const Kernel &how)
{
    std::lock_guard<std::mutex> locked(kernels_lock);
    kernels[kernel] = how;
}

const Kernel *kernel_find(const void *kernel)
{
    std::lock_guard<std::mutex> locked(kernels_lock);
    auto found = kernels.find(kernel);
    return found == kernels.end() ? nullptr : &found->second;
}

cudaError_t check_grid(const Grid &shape)
{
    const dim3 &b = shape.block, &g = shape.grid;
    uint64_t threads = (uint64_t)b.x * b.y * b.z, blocks = (uint64_t)g.x * g.y * g.z;
    unsigned c = shape.cluster;
    if (threads == 0 || threads > 1024 || b.z > 64 || blocks == 0 || blocks > 1u << 20 ||
        g.x > 0x7fffffff || g.y > 65535 || g.z > 65535 ||
        shape.dynamic_bytes > options.shared_limit_bytes) {
        set_error(
            "a launch of %llu blocks of %llu threads with %zu bytes of dynamic shared "
            "memory is outside the device's limits",
            (unsigned long long)blocks, (unsigned long long)threads, shape.dynamic_bytes);
        return cudaErrorInvalidConfiguration;
    }
    if (c == 0 || c & (c - 1) || c > 16 || (c > 8 && !(shape.flags & GRID_CLUSTER_16)) ||
        blocks % c) {
        set_error("a cluster of %u blocks in a grid of %llu", c,
                  (unsigned long long)blocks);
        return cudaErrorInvalidClusterSize;
    }
    if (shape.flags & GRID_COOPERATIVE &&
        blocks > options.multiprocessors * options.blocks_per_multiprocessor) {
        set_error("a cooperative launch of %llu blocks where %u fit",
                  (unsigned long long)blocks,
                  options.multiprocessors * options.blocks_per_multiprocessor);
        return cudaErrorCooperativeLaunchTooLarge;
    }
    return cudaSuccess;
}

bool current_kernel()
{
    return machine != nullptr;
}

cudaError_t run_grid(const void *kernel, const Grid &shape, void **arguments)
{
    if (machine) abort(); /* one at a time */
    Inside outside_of_kernels;
    error_text[0] = 0;
    const Kernel *how = kernel_find(kernel);
    if (!how) return cudaErrorInvalidDeviceFunction;
    cudaError_t wrong = check_grid(shape);
    if (wrong) return wrong;

    random_state = options.seed * 0x9e3779b97f4a7c15u ^ 0xd1b54a32d192ed03u;
    if (!random_state) random_state = 1;
    for (int i = 0; i < 16; i++)
        draw();
    policy = options.policy != Policy::BY_SEED ? options.policy
             : options.seed % 2                ? Policy::PRIORITY
                                               : Policy::RANDOM;
    blocks_to_preemption =
        options.preempt_mean ? 1 + (int)draw(2 * options.preempt_mean) : never;
    static const unsigned delays[] = {1, 4, 32, 256, 0};
    Machine state;
    state.how = how;
    state.kernel = kernel;
    state.arguments = arguments;
    state.shape = shape;
    state.block_count = shape.grid.x * shape.grid.y * shape.grid.z;
    state.shared_top = shape.dynamic_bytes;
    state.shared_bytes = (shape.dynamic_bytes + (64 << 10) + 1023) / 1024 * 1024;
    state.store_delay = delays[draw(5)];
    unsigned threads = shape.block.x * shape.block.y * shape.block.z;
    unsigned fit = options.multiprocessors * options.blocks_per_multiprocessor;
    unsigned resident = options.resident_blocks
                            ? options.resident_blocks
                            : 1 + draw(std::min(state.block_count, fit));
    state.resident = shape.flags & GRID_COOPERATIVE ? state.block_count
                                                    : std::max(resident, shape.cluster);
    machine = &state;
    blockDim = shape.block;
    gridDim = shape.grid;
    counters.launches++;
    {
        Inside inside;
        state.blocks.resize(state.block_count);
        state.clusters.resize(state.block_count / shape.cluster);
        queue_reset((size_t)state.block_count * threads);
    }
    fiber_scheduler_begin();
    run_blocks();
    EMU_ACQUIRE(&state.end_token);
    for (Block &block : state.blocks)
        block_end(block);
    for (AsyncStore *store : state.stores)
        delete store;
    machine = nullptr;
    return state.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

} // namespace emu

/* Every basic block of a kernel file comes here. */
extern "C" void __sanitizer_cov_trace_pc(void)
{
    if (__builtin_expect(--emu::blocks_to_preemption > 0, 1)) return;
    if (!emu::current || !emu::options.preempt_mean) { /* a launcher, on the host */
        emu::blocks_to_preemption = emu::never;
        return;
    }
    if (emu::current->inside) { /* as soon as it is out */
        emu::blocks_to_preemption = 1;
        return;
    }
    emu::blocks_to_preemption = 1 + (int)emu::draw(2 * emu::options.preempt_mean);
    emu::Inside inside;
    emu::yield();
}

/* Every report of TSan comes here; it must not be instrumented. */
extern "C" void __tsan_on_report(void *)
{
    emu::race_count++;
}
