/* A CUDA runtime on the host: memory, streams, events, kernels on the emulator. See fake.h.
 *
 * Device memory is heap filled with NaN; copies and fills are held to the table of allocations and to their
 * stated direction. Copies from pageable memory are staged at the call, copies to it complete before it
 * returns, as CUDA does; only pinned memory is really asynchronous. Under ASan device memory is poisoned while
 * host code runs. A kernel that fails makes every later call fail. A
 * graph replays its work in the order of its capture. */
#include "calls.h"
#include "fake.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* An event is recorded many times; a wait is for the recording that was the last one at its call. */
struct CUevent_st {
    uint64_t recorded = 0, completed = 0;
};

namespace
{

struct Operation {
    std::function<cudaError_t()> run; /* empty: only waits or marks */
    std::shared_ptr<CUevent_st> wait, mark;
    uint64_t version = 0;
};

enum class Place { DEVICE, PINNED };
struct Allocation {
    Place place;
    size_t bytes;
};

struct KernelLimits {
    size_t shared_bytes = 48 << 10;
    bool cluster_16 = false;
};

} // namespace

struct CUstream_st {
    std::deque<Operation> queue;
    bool captured = false; /* its work goes to the graph under capture */
};

/* Work in the order of its capture, which is one that streams and events allow. */
struct CUgraph_st {
    std::vector<std::function<cudaError_t()>> work;
};

struct CUgraphExec_st {
    std::shared_ptr<CUgraph_st> graph;
};

namespace
{

struct State {
    fake::Device device;
    fake::Seen seen{};
    uint64_t random = 1;
    size_t fail_at = 0;
    fake::Failure failure = fake::Failure::ONCE;
    cudaError_t sticky = cudaSuccess, last = cudaSuccess;
    size_t device_bytes = 0;
    std::map<const char *, Allocation> memory;
    std::set<cudaStream_t> streams;
    std::map<cudaEvent_t, std::shared_ptr<CUevent_st>> events;
    std::map<const void *, KernelLimits> limits;
    std::vector<const char *> names;
    std::map<cudaGraph_t, std::shared_ptr<CUgraph_st>> graphs;
    std::set<cudaGraphExec_t> executables;
    std::shared_ptr<CUgraph_st> capture; /* under way, begun on capture_stream */
    cudaStream_t capture_stream = nullptr;
    std::set<const CUevent_st *> captured_events;
    std::string misuse;
    CUstream_st ordinary; /* of a NULL stream */
};

State *state()
{
    static State *s = new State;
    return s;
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
    if (error) state()->last = error;
    return error;
}

__attribute__((format(printf, 2, 3))) cudaError_t misuse(cudaError_t error,
                                                         const char *format, ...)
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

/* Device memory is out of the host's reach but while an operation runs. */
enum class Reach { OPEN, CLOSED };
void guard(Reach reach)
{
#ifdef EMU_ASAN
    for (const auto &[base, allocation] : state()->memory) {
        if (allocation.place != Place::DEVICE) continue;
        if (reach == Reach::OPEN) __asan_unpoison_memory_region(base, allocation.bytes);
        else __asan_poison_memory_region(base, allocation.bytes);
    }
#else
    (void)reach;
#endif
}

bool runnable(CUstream_st *stream)
{
    if (stream->queue.empty()) return false;
    const Operation &next = stream->queue.front();
    return !next.wait || next.wait->completed >= next.version;
}

void run_one(CUstream_st *stream)
{
    Operation next = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (next.run && !state()->sticky) {
        guard(Reach::OPEN);
        state()->sticky = next.run();
        guard(Reach::CLOSED);
    }
    if (next.mark && next.mark->completed < next.version)
        next.mark->completed = next.version;
}

/* One operation of any stream; false: none can run. */
bool run_any()
{
    std::vector<CUstream_st *> able;
    for (cudaStream_t stream : state()->streams)
        if (runnable(stream)) able.push_back(stream);
    if (able.empty()) return false;
    run_one(able[draw((unsigned)able.size())]);
    return true;
}

void run_until(const std::function<bool()> &done)
{
    while (!done() && run_any()) {
    }
}

void run_all()
{
    run_until([] { return false; });
}

/* The beginning of every call: counts it, maybe runs something, maybe fails it. */
cudaError_t enter(const char *name, cudaError_t error)
{
    State *s = state();
    s->names.push_back(name);
    size_t n = ++s->seen.calls;
    if (emu::current_kernel()) {
        fprintf(stderr, "fake: %s called by a kernel\n", name);
        abort();
    }
    while (draw(3) == 0 && run_any()) {
    }
    if (s->device.count == 0) return keep(cudaErrorNoDevice);
    if (s->sticky) return keep(s->sticky);
    bool now = s->fail_at && (n == s->fail_at ||
                              (n > s->fail_at && s->failure == fake::Failure::STICKY));
    return keep(now ? error : cudaSuccess);
}

/* What a capture does not allow. */
cudaError_t outside_capture(const char *name)
{
    if (!state()->capture) return cudaSuccess;
    return misuse(cudaErrorStreamCaptureUnsupported, "%s during a capture", name);
}

#define NOT_CAPTURED()                                    \
    do {                                                  \
        cudaError_t captured = outside_capture(__func__); \
        if (captured) return captured;                    \
    } while (0)

#define ENTER(error)                                  \
    do {                                              \
        cudaError_t entered = enter(__func__, error); \
        if (entered) return entered;                  \
    } while (0)

CUstream_st *resolve(cudaStream_t stream)
{
    if (stream && !state()->streams.count(stream)) return nullptr;
    return stream ? stream : &state()->ordinary;
}

/* The allocation that holds all of these bytes; NULL: none. */
const Allocation *find(const void *pointer, size_t bytes)
{
    const char *p = static_cast<const char *>(pointer);
    auto after = state()->memory.upper_bound(p);
    if (after == state()->memory.begin()) return nullptr;
    const auto &[base, allocation] = *--after;
    bool inside = p < base + allocation.bytes || (bytes == 0 && p == base);
    if (!inside) return nullptr;
    return p + bytes <= base + allocation.bytes ? &allocation : nullptr;
}

/* An unknown host pointer is pageable memory; one inside an allocation that it overruns is a mistake. */
enum class Kind { DEVICE, PINNED, PAGEABLE, OVERRUN };
Kind kind_of(const void *pointer, size_t bytes)
{
    if (const Allocation *a = find(pointer, bytes))
        return a->place == Place::DEVICE ? Kind::DEVICE : Kind::PINNED;
    return find(pointer, 0) ? Kind::OVERRUN : Kind::PAGEABLE;
}

cudaError_t enqueue(cudaStream_t handle, Operation operation)
{
    CUstream_st *stream = resolve(handle);
    if (!stream)
        return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    State *s = state();
    if (s->capture && !handle)
        return misuse(cudaErrorStreamCaptureImplicit, "the NULL stream during a capture");
    if (stream->captured) {
        if (operation.run) s->capture->work.push_back(std::move(operation.run));
        if (operation.mark) s->captured_events.insert(operation.mark.get());
        return cudaSuccess;
    }
    if (operation.wait && s->captured_events.count(operation.wait.get())) {
        stream->captured = true; /* forked: it takes part from here on */
        return cudaSuccess;
    }
    if (!handle) { /* the legacy stream waits for all and all wait for it */
        run_all();
        stream->queue.push_back(std::move(operation));
        run_one(stream);
        return keep(state()->sticky);
    }
    stream->queue.push_back(std::move(operation));
    return cudaSuccess;
}

cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind direction,
                 cudaStream_t stream)
{
    State *s = state();
    if (bytes == 0) return cudaSuccess;
    Kind target = kind_of(to, bytes), source = kind_of(from, bytes);
    if (target == Kind::OVERRUN || source == Kind::OVERRUN)
        return misuse(cudaErrorInvalidValue, "a copy of %zu bytes past the end of its %s",
                      bytes, target == Kind::OVERRUN ? "target" : "source");
    bool to_device = target == Kind::DEVICE, from_device = source == Kind::DEVICE;
    if ((direction == cudaMemcpyHostToDevice && (!to_device || from_device)) ||
        (direction == cudaMemcpyDeviceToHost && (to_device || !from_device)) ||
        (direction == cudaMemcpyDeviceToDevice && (!to_device || !from_device)) ||
        (direction == cudaMemcpyHostToHost && (to_device || from_device)))
        return misuse(cudaErrorInvalidValue,
                      "a copy of %zu bytes against its direction %d", bytes,
                      (int)direction);
    size_t *counted = to_device && from_device ? &s->seen.bytes_on_device
                      : to_device              ? &s->seen.bytes_to_device
                                               : &s->seen.bytes_to_host;
    if (s->capture && stream && stream->captured &&
        (source == Kind::PAGEABLE || target == Kind::PAGEABLE))
        return misuse(cudaErrorStreamCaptureUnsupported, "pageable memory in a capture");
    Operation operation;
    if (source == Kind::PAGEABLE) {
        auto staged = std::make_shared<std::vector<char>>(
            static_cast<const char *>(from), static_cast<const char *>(from) + bytes);
        operation.run = [=] {
            *counted += bytes;
            memcpy(to, staged->data(), bytes);
            return cudaSuccess;
        };
    } else {
        operation.run = [=] {
            *counted += bytes;
            memmove(to, from, bytes);
            return cudaSuccess;
        };
    }
    cudaError_t error = enqueue(stream, std::move(operation));
    if (error || !stream || target != Kind::PAGEABLE) return error;
    run_until([=] { return stream->queue.empty(); });
    return keep(s->sticky);
}

cudaError_t allocate(void **pointer, size_t bytes, Place place)
{
    State *s = state();
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (place == Place::DEVICE && bytes > s->device.memory_bytes - s->device_bytes)
        return keep(cudaErrorMemoryAllocation);
    char *memory = static_cast<char *>(aligned_alloc(256, (bytes + 255) / 256 * 256));
    if (!memory) return keep(cudaErrorMemoryAllocation);
    memset(memory, 0xff, bytes);
    s->memory[memory] = {place, bytes};
    s->seen.allocations++;
    if (place == Place::DEVICE) s->device_bytes += bytes;
    guard(Reach::CLOSED);
    *pointer = memory;
    return cudaSuccess;
}

cudaError_t release(void *pointer, Place place)
{
    State *s = state();
    if (!pointer) return cudaSuccess;
    auto found = s->memory.find(static_cast<char *>(pointer));
    if (found == s->memory.end() || found->second.place != place)
        return misuse(cudaErrorInvalidValue, "freeing what was not allocated so");
    run_all(); /* freeing waits for the device */
    guard(Reach::OPEN);
    if (place == Place::DEVICE) s->device_bytes -= found->second.bytes;
    s->memory.erase(found);
    guard(Reach::CLOSED);
    free(pointer);
    return cudaSuccess;
}

} // namespace

namespace fake
{

void reset(const Device &device, uint64_t seed)
{
    State *s = state();
    guard(Reach::OPEN);
    for (auto &[base, allocation] : s->memory)
        free(const_cast<char *>(base));
    for (cudaStream_t stream : s->streams)
        delete stream;
    for (cudaGraphExec_t executable : s->executables)
        delete executable;
    *s = State();
    s->device = device;
    s->random = seed * 0x9e3779b97f4a7c15u + 1;
    if (!s->random) s->random = 1;
    emu::options.multiprocessors = (unsigned)device.multiprocessors;
}

void fail_call(size_t n, Failure failure)
{
    state()->fail_at = n;
    state()->failure = failure;
}

const Seen &seen()
{
    return state()->seen;
}

const char *last_misuse()
{
    return state()->misuse.c_str();
}

const char *call_name(size_t n)
{
    return n >= 1 && n <= state()->names.size() ? state()->names[n - 1] : "";
}

size_t open_handles()
{
    return state()->memory.size() + state()->streams.size() + state()->events.size() +
           state()->graphs.size() + state()->executables.size();
}

} // namespace fake

extern "C" {

/* ---- the device ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    ENTER(cudaErrorInitializationError);
    *count = state()->device.count;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = state()->device.driver_version;
    ENTER(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    ENTER(cudaErrorInvalidDevice);
    return device >= 0 && device < state()->device.count ? cudaSuccess
                                                         : keep(cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    ENTER(cudaErrorInvalidDevice);
    const fake::Device &d = state()->device;
    if (device < 0 || device >= d.count) return keep(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = d.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = d.minor;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = d.multiprocessors;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)emu::options.shared_limit_bytes;
        return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
        *value = 1;
        return cudaSuccess;
    case cudaDevAttrClusterLaunch:
        *value = d.major >= 9;
        return cudaSuccess;
    default:
        return misuse(cudaErrorInvalidValue, "attribute %d, which the fake does not know",
                      (int)attribute);
    }
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    ENTER(cudaErrorInvalidValue);
    *total_bytes = state()->device.memory_bytes;
    *free_bytes = *total_bytes - state()->device_bytes;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    ENTER(cudaErrorUnknown);
    NOT_CAPTURED();
    state()->seen.synchronisations++;
    run_all();
    return keep(state()->sticky);
}

/* Not counted: they report, and cannot fail by themselves. */
cudaError_t cudaGetLastError(void)
{
    cudaError_t error = state()->last;
    state()->last = state()->sticky;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return state()->last;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInitializationError:
        return "cudaErrorInitializationError";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorLaunchOutOfResources:
        return "cudaErrorLaunchOutOfResources";
    default:
        return "another CUDA error";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    return cudaGetErrorName(error);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    *pointer = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    NOT_CAPTURED();
    return allocate(pointer, bytes, Place::DEVICE);
}

cudaError_t cudaFree(void *pointer)
{
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    cudaError_t released = release(pointer, Place::DEVICE);
    return entered ? entered : released;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned)
{
    *pointer = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return allocate(pointer, bytes, Place::PINNED);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
    *pointer = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return allocate(pointer, bytes, Place::PINNED);
}

cudaError_t cudaFreeHost(void *pointer)
{
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    cudaError_t released = release(pointer, Place::PINNED);
    return entered ? entered : released;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    ENTER(cudaErrorInvalidValue);
    return copy(to, from, bytes, kind, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    ENTER(cudaErrorInvalidValue);
    return copy(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    ENTER(cudaErrorInvalidValue);
    if (bytes == 0) return cudaSuccess;
    if (kind_of(to, bytes) != Kind::DEVICE)
        return misuse(cudaErrorInvalidValue, "%zu bytes filled outside device memory",
                      bytes);
    Operation operation;
    operation.run = [=] {
        memset(to, value, bytes);
        return cudaSuccess;
    };
    return enqueue(stream, std::move(operation));
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    *stream = new CUstream_st;
    state()->streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    if (!state()->streams.count(stream))
        return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    run_until([=] { return stream->queue.empty(); });
    state()->streams.erase(stream);
    delete stream;
    return entered;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    NOT_CAPTURED();
    state()->seen.synchronisations++;
    CUstream_st *s = resolve(stream);
    if (!s) return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    run_until([=] { return s->queue.empty(); });
    if (!s->queue.empty())
        return misuse(cudaErrorUnknown, "a stream that waits for nothing that runs");
    return keep(state()->sticky);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    CUstream_st *s = resolve(stream);
    if (!s) return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    return s->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    auto made = std::make_shared<CUevent_st>();
    *event = made.get();
    state()->events[*event] = made;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    if (!state()->events.erase(event))
        return misuse(cudaErrorInvalidResourceHandle, "an event that does not exist");
    return entered;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    auto found = state()->events.find(event);
    if (found == state()->events.end())
        return misuse(cudaErrorInvalidResourceHandle, "an event that does not exist");
    Operation operation;
    operation.mark = found->second;
    operation.version = ++event->recorded;
    return enqueue(stream, std::move(operation));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    ENTER(cudaErrorUnknown);
    auto found = state()->events.find(event);
    if (found == state()->events.end())
        return misuse(cudaErrorInvalidResourceHandle, "an event that does not exist");
    Operation operation;
    operation.wait = found->second;
    operation.version = event->recorded;
    return enqueue(stream, std::move(operation));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    ENTER(cudaErrorUnknown);
    NOT_CAPTURED();
    if (!state()->events.count(event))
        return misuse(cudaErrorInvalidResourceHandle, "an event that does not exist");
    state()->seen.synchronisations++;
    uint64_t version = event->recorded;
    run_until([=] { return event->completed >= version; });
    return keep(state()->sticky);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    ENTER(cudaErrorUnknown);
    if (!state()->events.count(event))
        return misuse(cudaErrorInvalidResourceHandle, "an event that does not exist");
    return event->completed >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    ENTER(cudaErrorUnknown);
    State *s = state();
    if (!stream || !s->streams.count(stream) || s->capture)
        return misuse(cudaErrorIllegalState, "a capture that cannot begin");
    s->capture = std::make_shared<CUgraph_st>();
    s->capture_stream = stream;
    stream->captured = true;
    return cudaSuccess;
}

/* Ends the capture also when it fails. That forked streams were joined is not checked. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = nullptr;
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    State *s = state();
    if (!s->capture || s->capture_stream != stream)
        return misuse(cudaErrorIllegalState, "the end of a capture that was not begun");
    std::shared_ptr<CUgraph_st> captured = std::move(s->capture);
    s->capture = nullptr;
    s->captured_events.clear();
    for (cudaStream_t one : s->streams)
        one->captured = false;
    if (entered) return entered;
    *graph = captured.get();
    s->graphs[*graph] = captured;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph,
                                 unsigned long long)
{
    *executable = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    auto found = state()->graphs.find(graph);
    if (found == state()->graphs.end())
        return misuse(cudaErrorInvalidValue, "a graph that does not exist");
    *executable = new CUgraphExec_st{found->second};
    state()->executables.insert(*executable);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    if (!state()->graphs.erase(graph))
        return misuse(cudaErrorInvalidValue, "a graph that does not exist");
    return entered;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    cudaError_t entered = enter(__func__, cudaErrorUnknown);
    if (!state()->executables.erase(executable))
        return misuse(cudaErrorInvalidValue, "an executable graph that does not exist");
    delete executable;
    return entered;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    if (!state()->executables.count(executable))
        return misuse(cudaErrorInvalidValue, "an executable graph that does not exist");
    state()->seen.graph_launches++;
    Operation operation;
    operation.run = [graph = executable->graph] {
        for (const auto &work : graph->work)
            if (cudaError_t error = work()) return error;
        return cudaSuccess;
    };
    return enqueue(stream, std::move(operation));
}

/* ---- kernels ---- */

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute,
                                 int value)
{
    ENTER(cudaErrorInvalidValue);
    if (!emu::kernel_find(kernel)) return keep(cudaErrorInvalidDeviceFunction);
    KernelLimits &limits = state()->limits[kernel];
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
        (size_t)value <= emu::options.shared_limit_bytes)
        limits.shared_bytes = (size_t)value;
    else if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed)
        limits.cluster_16 = value != 0;
    else return keep(cudaErrorInvalidValue);
    return cudaSuccess;
}

/* Arguments are copied here, as CUDA does: the caller's may change before the kernel runs. */
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel,
                                void **arguments)
{
    ENTER(cudaErrorLaunchOutOfResources);
    State *s = state();
    const emu::Kernel *how = emu::kernel_find(kernel);
    if (!how) return keep(cudaErrorInvalidDeviceFunction);
    const KernelLimits limits = s->limits[kernel];
    emu::Grid grid = {config->gridDim, config->blockDim, config->dynamicSmemBytes, 1,
                      limits.cluster_16 ? (unsigned)emu::GRID_CLUSTER_16 : 0};
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const cudaLaunchAttribute &a = config->attrs[i];
        if (a.id == cudaLaunchAttributeClusterDimension)
            grid.cluster = a.val.clusterDim.x;
        else if (a.id == cudaLaunchAttributeCooperative && a.val.cooperative)
            grid.flags |= emu::GRID_COOPERATIVE;
        else return keep(cudaErrorNotSupported);
    }
    if (config->dynamicSmemBytes > limits.shared_bytes)
        return keep(cudaErrorInvalidValue);
    if (grid.cluster > 1 && s->device.major < 9) return keep(cudaErrorNotSupported);
    cudaError_t wrong = emu::check_grid(grid);
    if (wrong) return keep(wrong);
    auto values = std::make_shared<std::vector<std::vector<uint64_t>>>();
    for (unsigned i = 0; i < how->argument_count; i++) {
        values->emplace_back((how->argument_bytes[i] + 7) / 8);
        memcpy(values->back().data(), arguments[i], how->argument_bytes[i]);
    }
    Operation operation;
    operation.run = [=] {
        std::vector<void *> pointers;
        for (auto &value : *values)
            pointers.push_back(value.data());
        state()->seen.launches++;
        emu::options.seed = state()->random;
        return emu::run_grid(kernel, grid, pointers.data());
    };
    return enqueue(config->stream, std::move(operation));
}

} // extern "C"
