/* The fake runtime's streams and events, and how work gets into a stream. */
#include "fake_state.h"

#include <algorithm>

namespace fake
{
namespace
{

/* The NULL stream and the blocking streams of a device order themselves; others know nothing of it. */
void order_with_null(CUstream_st *stream, bool is_null)
{
    State *s = state();
    CUstream_st *null = &s->ordinary[stream->device];
    if (!is_null) {
        if (stream->blocking) run_stream(null);
        return;
    }
    for (cudaStream_t other : s->queues)
        if (other->blocking && other->device == stream->device) run_stream(other);
}

/* The legacy stream would wait for every blocking one, captured or not: it is closed to the thread that captures, and
 * to all of them while one captures in global mode, which that ends. */
cudaError_t null_during_capture()
{
    bool refused = false;
    for (const auto &capture : state()->captures) {
        bool mine = capture->thread == std::this_thread::get_id();
        bool global = capture->mode == cudaStreamCaptureModeGlobal;
        if (global) capture->wrong = cudaErrorStreamCaptureInvalidated;
        refused = refused || mine || global;
    }
    return refused ? misuse(cudaErrorStreamCaptureImplicit,
                            "the NULL stream during a capture")
                   : cudaSuccess;
}

/* The wait of a stream for what a capture holds: it takes part from here on. */
cudaError_t captured_wait(CUstream_st *stream, const CUevent_st &event)
{
    if (!event.capture) {
        if (event.recorded == 0) return cudaSuccess;
        stream->capture->wrong = cudaErrorStreamCaptureInvalidated;
        return misuse(cudaErrorStreamCaptureIsolation,
                      "a captured stream waits for an event from outside");
    }
    if (!event.capture->open)
        return misuse(cudaErrorCapturedEvent,
                      "a wait for an event of a capture that has ended");
    if (stream->capture && stream->capture != event.capture) {
        stream->capture->wrong = event.capture->wrong = cudaErrorStreamCaptureInvalidated;
        return misuse(cudaErrorStreamCaptureMerge, "a captured stream waits for another's"
                                                   " capture");
    }
    if (!stream->capture) {
        stream->capture = event.capture;
        stream->lane = (unsigned)event.capture->lanes.size();
        stream->clock.clear();
        event.capture->lanes.push_back(stream);
        event.capture->graph->lanes.emplace_back();
    }
    clock_merge(&stream->clock, event.clock);
    return cudaSuccess;
}

void capture_work(CUstream_st *stream, Operation operation)
{
    CUgraph_st *graph = stream->capture->graph.get();
    if (operation.work) {
        auto &lane = graph->lanes[stream->lane];
        lane.push_back({std::move(operation.work), stream->clock});
        if (stream->clock.size() <= stream->lane) stream->clock.resize(stream->lane + 1);
        stream->clock[stream->lane] = (unsigned)lane.size();
    }
    if (operation.mark) {
        operation.mark->capture = stream->capture;
        operation.mark->clock = stream->clock;
    }
}

} // namespace

void clock_merge(Clock *into, const Clock &other)
{
    if (into->size() < other.size()) into->resize(other.size());
    for (size_t i = 0; i < other.size(); i++)
        (*into)[i] = std::max((*into)[i], other[i]);
}

cudaError_t enqueue(cudaStream_t handle, Operation operation)
{
    State *s = state();
    CUstream_st *stream = resolve(handle);
    if (!stream)
        return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    if (stream->device != current_device())
        return misuse(cudaErrorInvalidResourceHandle,
                      "a stream of device %d used while device %d is current",
                      stream->device, current_device());
    bool is_null = stream == &s->ordinary[stream->device];
    if (is_null) {
        cudaError_t wrong = null_during_capture();
        if (wrong) return wrong;
    }
    if (operation.wait && (stream->capture || operation.wait->capture)) {
        cudaError_t wrong = captured_wait(stream, *operation.wait);
        if (wrong) return wrong;
        operation.wait = nullptr;
    }
    if (stream->capture) {
        capture_work(stream, std::move(operation));
        return cudaSuccess;
    }
    if (operation.mark) operation.mark->capture = nullptr;
    order_with_null(stream, is_null);
    if (s->sticky[stream->device]) return keep(s->sticky[stream->device]);
    stream->queue.push_back(std::move(operation));
    return cudaSuccess;
}

cudaError_t enqueue_work(cudaStream_t stream, std::shared_ptr<Work> work)
{
    Operation operation;
    operation.work = std::move(work);
    return enqueue(stream, std::move(operation));
}

cudaError_t outside_capture(const char *name)
{
    for (const auto &capture : state()->captures) {
        bool mine = capture->thread == std::this_thread::get_id();
        bool held = mine ? capture->mode != cudaStreamCaptureModeRelaxed
                         : capture->mode == cudaStreamCaptureModeGlobal &&
                               *capture_mode() == cudaStreamCaptureModeGlobal;
        if (!held || *capture_mode() == cudaStreamCaptureModeRelaxed) continue;
        capture->wrong = cudaErrorStreamCaptureInvalidated;
        return misuse(cudaErrorStreamCaptureUnsupported, "%s during a capture", name);
    }
    return cudaSuccess;
}

} // namespace fake

using namespace fake;

namespace
{

cudaError_t stream_create(cudaStream_t *stream, unsigned flags)
{
    State *s = state();
    *stream = new CUstream_st;
    (*stream)->device = current_device();
    (*stream)->blocking = !(flags & cudaStreamNonBlocking);
    s->streams.insert(*stream);
    s->queues.push_back(*stream);
    return cudaSuccess;
}

cudaError_t event_create(cudaEvent_t *event)
{
    auto made = std::make_shared<CUevent_st>();
    made->device = current_device();
    *event = made.get();
    state()->events[*event] = made;
    return cudaSuccess;
}

std::shared_ptr<CUevent_st> event_find(cudaEvent_t event)
{
    auto found = state()->events.find(event);
    return found == state()->events.end() ? nullptr : found->second;
}

cudaError_t no_event()
{
    return misuse(cudaErrorInvalidResourceHandle, "an event that does not exist");
}

cudaError_t no_stream()
{
    return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
}

} // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    *stream = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return stream_create(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    *stream = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return stream_create(stream, flags);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    *stream = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return stream_create(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    ENTER_RELEASING(cudaErrorUnknown);
    State *s = state();
    if (!s->streams.count(stream)) return no_stream();
    if (stream->capture) {
        auto &lanes = stream->capture->lanes;
        stream->capture->wrong = cudaErrorStreamCaptureInvalidated;
        std::replace(lanes.begin(), lanes.end(), stream, cudaStream_t());
        misuse(cudaErrorStreamCaptureUnsupported,
               "a stream destroyed during its capture");
    }
    run_stream(stream);
    s->streams.erase(stream);
    s->queues.erase(std::find(s->queues.begin(), s->queues.end(), stream));
    delete stream;
    return ENTERED;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    CUstream_st *s = resolve(stream);
    if (!s) return no_stream();
    if (s->capture) s->capture->wrong = cudaErrorStreamCaptureInvalidated;
    NOT_CAPTURED();
    bool is_null = s == &state()->ordinary[s->device];
    if (cudaError_t wrong = is_null ? null_during_capture() : cudaSuccess) return wrong;
    state()->seen.synchronisations++;
    if (is_null) order_with_null(s, true);
    run_stream(s);
    if (!s->queue.empty())
        return misuse(cudaErrorUnknown, "a stream that waits for nothing that runs");
    return keep(state()->sticky[s->device]);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    CUstream_st *s = resolve(stream);
    if (!s) return no_stream();
    NOT_CAPTURED();
    return s->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    ENTER(cudaErrorUnknown);
    CUstream_st *s = resolve(stream);
    if (!s) return no_stream();
    *status = !s->capture         ? cudaStreamCaptureStatusNone
              : s->capture->wrong ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return event_create(event);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    return event_create(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    ENTER_RELEASING(cudaErrorUnknown);
    if (!state()->events.erase(event)) return no_event();
    return ENTERED;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    std::shared_ptr<CUevent_st> found = event_find(event);
    CUstream_st *s = resolve(stream);
    if (!found) return no_event();
    if (!s) return no_stream();
    if (found->device != s->device)
        return misuse(cudaErrorInvalidResourceHandle,
                      "an event of device %d recorded in a stream of device %d",
                      found->device, s->device);
    Operation operation;
    operation.version = found->recorded + 1;
    operation.mark = found;
    bool captured = s->capture != nullptr;
    cudaError_t error = enqueue(stream, std::move(operation));
    if (!error && !captured) found->recorded++;
    return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    ENTER(cudaErrorUnknown);
    std::shared_ptr<CUevent_st> found = event_find(event);
    if (!found) return no_event();
    Operation operation;
    operation.version = found->recorded;
    operation.wait = std::move(found);
    return enqueue(stream, std::move(operation));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    ENTER(cudaErrorUnknown);
    if (!event_find(event)) return no_event();
    if (event->capture)
        return misuse(cudaErrorCapturedEvent, "a wait for an event of a capture");
    NOT_CAPTURED();
    state()->seen.synchronisations++;
    uint64_t version = event->recorded;
    run_until([=] { return event->completed >= version; });
    return keep(state()->sticky[event->device]);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    ENTER(cudaErrorUnknown);
    if (!event_find(event)) return no_event();
    if (event->capture)
        return misuse(cudaErrorCapturedEvent, "a question about an event of a capture");
    return event->completed >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

/* The host's clock, when the fake came by: it says nothing about a device. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    *ms = 0;
    ENTER(cudaErrorUnknown);
    if (!event_find(start) || !event_find(end)) return no_event();
    if (!start->recorded || !end->recorded) return keep(cudaErrorInvalidResourceHandle);
    if (start->completed < start->recorded || end->completed < end->recorded)
        return cudaErrorNotReady;
    *ms = (float)(end->completed_ms - start->completed_ms);
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    ENTER(cudaErrorUnknown);
    return enqueue_work(stream, work([=] {
                            state()->host_function =
                                true; /* it may call nothing of CUDA */
                            function(data);
                            state()->host_function = false;
                            return cudaSuccess;
                        }));
}

} // extern "C"
