/* The heart of the fake runtime: its state, how a call begins, and how queued work runs. See
 * fake_control.h for what it is for.
 *
 * Device memory is heap filled with NaN; copies and fills are held to the table of allocations and to their
 * stated direction. Under ASan device memory is poisoned while host code runs. A kernel that fails makes
 * every later call of its device fail. */
#include "fake_state.h"

#include "emu.h"

#include <algorithm>
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fake
{
namespace
{

const size_t names_max = 65536;
const fake_device default_device = FAKE_DEVICE_DEFAULT;

struct PerThread {
    uint64_t generation = 0;
    int device = 0;
    cudaError_t last = cudaSuccess;
    cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
};

PerThread &mine()
{
    static thread_local PerThread thread;
    if (thread.generation != state()->generation) {
        thread = PerThread();
        thread.generation = state()->generation;
    }
    return thread;
}

void begin(State *s, const fake_device &device, uint64_t seed)
{
    s->device = device;
    if (s->device.count > FAKE_DEVICES_MAX) s->device.count = FAKE_DEVICES_MAX;
    if (!s->device.driver_version) s->device.driver_version = CUDART_VERSION;
    s->random = seed * 0x9e3779b97f4a7c15u + 1;
    if (!s->random) s->random = 1;
    for (int i = 0; i < FAKE_DEVICES_MAX; i++) {
        s->ordinary[i].device = i;
        s->ordinary[i].blocking = false;
        s->queues.push_back(&s->ordinary[i]);
    }
    emu::options.multiprocessors = (unsigned)device.multiprocessors;
}

bool runnable(CUstream_st *stream)
{
    if (stream->queue.empty()) return false;
    const Operation &next = stream->queue.front();
    return !next.wait || next.wait->completed >= next.version;
}

/* A device has a floating-point environment of its own, whatever the calling thread has set. */
struct Arithmetic {
    fenv_t callers;
    Arithmetic()
    {
        fegetenv(&callers);
        fesetenv(FE_DFL_ENV);
    }
    ~Arithmetic()
    {
        fesetenv(&callers);
    }
};

void run_one(CUstream_st *stream)
{
    Operation next = std::move(stream->queue.front());
    stream->queue.pop_front();
    State *s = state();
    if (next.work && !s->sticky[stream->device]) {
        reach();
        Arithmetic of_the_device;
        s->sticky[stream->device] = do_work(next.work.get());
    }
    if (next.mark && next.mark->completed < next.version) {
        timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        next.mark->completed = next.version;
        next.mark->completed_ms = (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
    }
}

/* Without a device or a driver that is new enough nothing goes. */
cudaError_t no_device()
{
    const fake_device &d = state()->device;
    if (d.driver_version / 1000 < CUDART_VERSION / 1000)
        return cudaErrorInsufficientDriver;
    return d.count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

} // namespace

State *state()
{
    static State *s = [] {
        State *made = new State;
        begin(made, default_device, 1);
        emu::options.preempt_mean =
            4000; /* for users; tests reset, and switch more often */
        return made;
    }();
    return s;
}

std::recursive_mutex &lock()
{
    static std::recursive_mutex *mutex = new std::recursive_mutex;
    return *mutex;
}

int current_device()
{
    return mine().device;
}

void current_device_set(int device)
{
    mine().device = device;
}

cudaStreamCaptureMode *capture_mode()
{
    return &mine().capture_mode;
}

unsigned draw(unsigned below)
{
    uint64_t &r = state()->random;
    r ^= r << 13;
    r ^= r >> 7;
    r ^= r << 17;
    return (unsigned)(r >> 24) % below;
}

cudaError_t keep(cudaError_t error)
{
    if (error) mine().last = error;
    return error;
}

cudaError_t sticky()
{
    return state()->sticky[current_device()];
}

cudaError_t misuse(cudaError_t error, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    state()->seen.misuses++;
    state()->misuse = text;
    return keep(error);
}

void memory_guard(const char *base, const Allocation &allocation)
{
#ifdef EMU_ASAN
    if (allocation.place == Place::DEVICE && !state()->reach_open)
        __asan_poison_memory_region(base, allocation.bytes);
#else
    (void)base;
    (void)allocation;
#endif
}

void reach()
{
    if (state()->reach_open) return;
    state()->reach_open = true;
#ifdef EMU_ASAN
    for (const auto &[base, allocation] : state()->memory)
        if (allocation.place == Place::DEVICE)
            __asan_unpoison_memory_region(base, allocation.bytes);
#endif
}

Call::Call(const char *name, cudaError_t natural, Asks asks) : locked(lock())
{
    State *s = state();
    size_t n = ++s->seen.calls;
    if (s->names.size() < names_max) s->names.push_back(name);
    if (emu::current_kernel() || s->host_function) {
        fprintf(stderr, "fake: %s called by a kernel or a host function\n", name);
        abort();
    }
    while (draw(3) == 0 && run_any()) {
    }
    error = no_device();
    if (!error && asks == Asks::THE_DEVICE) error = sticky();
    if (!error && s->fail_at &&
        (n == s->fail_at || (n > s->fail_at && s->failure == FAKE_STICKY)))
        error = natural;
    keep(error);
}

Call::~Call()
{
    State *s = state();
    if (!s->reach_open) return;
    s->reach_open = false;
    for (const auto &[base, allocation] : s->memory)
        memory_guard(base, allocation);
}

cudaError_t do_work(Work *work)
{
    State *s = state();
    if (!work->composed() && ++s->seen.works == s->fail_work)
        return cudaErrorIllegalAddress;
    return work->run();
}

bool run_any()
{
    State *s = state();
    unsigned able = 0;
    for (cudaStream_t stream : s->queues)
        able += runnable(stream);
    if (able == 0) return false;
    unsigned chosen = able == 1 ? 0 : draw(able);
    for (cudaStream_t stream : s->queues)
        if (runnable(stream) && chosen-- == 0) {
            run_one(stream);
            return true;
        }
    return false;
}

void run_all()
{
    run_until([] { return false; });
}

void run_stream(CUstream_st *stream)
{
    run_until([=] { return stream->queue.empty(); });
}

CUstream_st *resolve(cudaStream_t stream)
{
    if (!stream || stream == cudaStreamLegacy)
        return &state()->ordinary[current_device()];
    return state()->streams.count(stream) ? stream : nullptr;
}

const Allocation *find(const void *pointer, size_t bytes)
{
    const char *p = static_cast<const char *>(pointer);
    auto after = state()->memory.upper_bound(p);
    if (after == state()->memory.begin()) return nullptr;
    const auto &[base, allocation] = *--after;
    bool inside = p < base + allocation.bytes || (bytes == 0 && p == base);
    if (!inside) return nullptr;
    return bytes <= (size_t)(base + allocation.bytes - p) ? &allocation : nullptr;
}

} // namespace fake

using namespace fake;

extern "C" {

void fake_reset(const fake_device *device, uint64_t seed)
{
    Quiet quiet(lock());
    State *s = state();
    s->reach_open = false;
    reach();
    for (auto &[base, allocation] : s->memory)
        if (allocation.place != Place::REGISTERED) free(const_cast<char *>(base));
    for (cudaStream_t stream : s->streams)
        delete stream;
    for (cudaGraphExec_t executable : s->executables)
        delete executable;
    for (cublasContext *handle : s->products)
        delete handle;
    uint64_t generation = s->generation + 1;
    *s = State();
    s->generation = generation;
    begin(s, device ? *device : default_device, seed);
    emu::options.preempt_mean = emu::Options().preempt_mean;
}

void fake_fail_call(size_t n, fake_failure failure)
{
    Quiet quiet(lock());
    state()->fail_at = n;
    state()->failure = failure;
}

void fake_fail_work(size_t n)
{
    Quiet quiet(lock());
    state()->fail_work = n;
}

fake_seen fake_seen_now(void)
{
    Quiet quiet(lock());
    return state()->seen;
}

const char *fake_last_misuse(void)
{
    Quiet quiet(lock());
    return state()->misuse.c_str();
}

const char *fake_kernel_error(void)
{
    Quiet quiet(lock());
    return state()->kernel_error.c_str();
}

const char *fake_call_name(size_t n)
{
    Quiet quiet(lock());
    return n >= 1 && n <= state()->names.size() ? state()->names[n - 1] : "";
}

size_t fake_open_handles(void)
{
    Quiet quiet(lock());
    const State *s = state();
    return s->memory.size() + s->streams.size() + s->events.size() + s->graphs.size() +
           s->executables.size() + s->products.size();
}

/* Not counted: they report, and cannot fail by themselves. */
cudaError_t cudaGetLastError(void)
{
    Quiet quiet(lock());
    cudaError_t error = mine().last;
    mine().last = sticky();
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    Quiet quiet(lock());
    return mine().last;
}

} // extern "C"
