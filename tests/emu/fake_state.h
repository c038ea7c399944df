/* What the parts of the fake runtime share: its handles, its queues, its tables, and how a call begins.
 *
 * One lock covers it all: every call takes it for its whole length (Call), so threads of the library meet
 * here as they would in a driver. Every object belongs to the device that was current when it was made. */
#ifndef CY_TESTS_EMU_FAKE_STATE_H
#define CY_TESTS_EMU_FAKE_STATE_H

#include "calls.h"
#include "fake_control.h"

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace fake
{

/* Something that a stream does. */
struct Work {
    virtual ~Work() = default;
    virtual cudaError_t run() = 0;
    /* Several pieces, that count one by one. */
    virtual bool composed() const
    {
        return false;
    }
};

/* Runs it, or fails as fake_fail_work wants it. */
cudaError_t do_work(Work *work);

template <class F> struct WorkOf final : Work {
    F call;
    explicit WorkOf(F f) : call(std::move(f))
    {
    }
    cudaError_t run() override
    {
        return call();
    }
};

template <class F> std::shared_ptr<Work> work(F f)
{
    return std::make_shared<WorkOf<F>>(std::move(f));
}

/* How much of each stream of a capture comes before something: [lane] operations. */
typedef std::vector<unsigned> Clock;
void clock_merge(Clock *into, const Clock &other);

struct Capture {
    std::shared_ptr<CUgraph_st> graph;
    std::vector<cudaStream_t> lanes; /* the first began it, others were forked */
    std::thread::id thread;
    cudaStreamCaptureMode mode;
    cudaError_t wrong; /* what made it worthless */
    bool open;
};

struct Operation {
    std::shared_ptr<Work> work; /* none: only waits or marks */
    std::shared_ptr<CUevent_st> wait, mark;
    uint64_t version = 0;
};

enum class Place { DEVICE, PINNED, REGISTERED };
struct Allocation {
    Place place;
    size_t bytes;
    int device;
};

struct KernelLimits {
    size_t shared_bytes = 48 << 10;
    bool cluster_16 = false;
};

} // namespace fake

struct CUstream_st {
    int device;
    bool blocking; /* orders itself with the NULL stream */
    std::deque<fake::Operation> queue;
    std::shared_ptr<fake::Capture> capture; /* its work goes there */
    unsigned lane = 0;
    fake::Clock clock;
};

/* An event is recorded many times; a wait is for the recording that was the last one at its call. */
struct CUevent_st {
    int device;
    uint64_t recorded = 0, completed = 0;
    double completed_ms = 0;
    std::shared_ptr<fake::Capture>
        capture; /* of the last recording, if it was captured */
    fake::Clock clock;
};

/* Captured work, stream by stream, each operation behind what it has to wait for. */
struct CUgraph_st {
    struct Node {
        std::shared_ptr<fake::Work> work;
        fake::Clock before;
    };
    int device;
    std::vector<std::vector<Node>> lanes;
};

struct CUgraphExec_st {
    std::shared_ptr<CUgraph_st> graph;
};

/* A handle of cuBLAS. */
struct cublasContext {
    int device;
    cudaStream_t stream = nullptr;
    bool workspace = false; /* given since the stream was set */
    int math_mode = 0;
    std::set<std::array<unsigned, 4>> loaded; /* kinds of products */
};

namespace fake
{

struct State {
    fake_device device = FAKE_DEVICE_DEFAULT;
    fake_seen seen{};
    uint64_t random = 1, generation = 0;
    size_t fail_at = 0;
    fake_failure failure = FAKE_ONCE;
    size_t fail_work = 0;
    bool reach_open = false; /* device memory can be touched */
    bool host_function = false;
    cudaError_t sticky[FAKE_DEVICES_MAX] = {};
    size_t device_bytes[FAKE_DEVICES_MAX] = {};
    std::map<const char *, Allocation> memory;
    std::vector<cudaStream_t>
        queues; /* in order of creation, for replays; NULL streams first */
    std::set<cudaStream_t> streams;
    std::map<cudaEvent_t, std::shared_ptr<CUevent_st>> events;
    std::map<cudaGraph_t, std::shared_ptr<CUgraph_st>> graphs;
    std::set<cudaGraphExec_t> executables;
    std::set<cublasContext *> products;
    std::vector<std::shared_ptr<Capture>> captures; /* under way */
    std::unordered_map<const void *, KernelLimits> limits[FAKE_DEVICES_MAX];
    std::set<const void *> loaded[FAKE_DEVICES_MAX]; /* kernels */
    std::vector<const char *> names;
    std::string misuse, kernel_error;
    CUstream_st ordinary[FAKE_DEVICES_MAX]; /* NULL streams */
};

State *state();
std::recursive_mutex &lock();
int current_device();
void current_device_set(int device);

/* What the calling thread is held to while others capture. */
cudaStreamCaptureMode *capture_mode();

unsigned draw(unsigned below);

/* The calling thread's last error becomes this one. */
cudaError_t keep(cudaError_t error);
cudaError_t misuse(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The beginning and the end of every call: locks, counts, maybe runs something, maybe fails the call. */
enum class Asks {
    THE_DEVICE,
    THE_THREAD
}; /* the thread's own settings work on a lost device, too */
struct Call {
    std::unique_lock<std::recursive_mutex> locked;
    cudaError_t error;
    Call(const char *name, cudaError_t natural, Asks asks = Asks::THE_DEVICE);
    ~Call();
};

/* Locks only: for calls that report and cannot fail. */
typedef std::lock_guard<std::recursive_mutex> Quiet;

#define ENTER(natural)                   \
    fake::Call call_(__func__, natural); \
    if (call_.error) return call_.error
#define ENTER_THREAD(natural)                                    \
    fake::Call call_(__func__, natural, fake::Asks::THE_THREAD); \
    if (call_.error) return call_.error
/* For calls that release even so. */
#define ENTER_RELEASING(natural) fake::Call call_(__func__, natural)
#define ENTERED                  call_.error

/* What a capture does not allow; it is worthless afterwards. */
cudaError_t outside_capture(const char *name);
#define NOT_CAPTURED()                                           \
    do {                                                         \
        cudaError_t captured_ = fake::outside_capture(__func__); \
        if (captured_) return captured_;                         \
    } while (0)

/* The queue behind a handle; NULL: no such stream. */
CUstream_st *resolve(cudaStream_t stream);
/* Queues the operation, or captures it. */
cudaError_t enqueue(cudaStream_t stream, Operation operation);
cudaError_t enqueue_work(cudaStream_t stream, std::shared_ptr<Work> work);

/* One operation of any queue; false: none can run. */
bool run_any();
template <class F> void run_until(F done)
{
    while (!done() && run_any()) {
    }
}
void run_all();
void run_stream(CUstream_st *stream);

/* Opens device memory for the host's code until the call ends. */
void reach();
void memory_guard(const char *base, const Allocation &allocation); /* closes one */

/* The allocation that holds all of these bytes; NULL: none. */
const Allocation *find(const void *pointer, size_t bytes);

cudaError_t sticky(); /* of the current device */

/* Code is loaded when it is first used, into memory that is allocated then. */
template <class Key> void load_once(std::set<Key> &loaded, const Key &key)
{
    if (!loaded.insert(key).second) return;
    state()->seen.loads++;
    state()->seen.allocations++;
}

} // namespace fake

#endif
