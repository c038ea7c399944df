/* The fake runtime's captures and graphs. A graph is what each captured stream did, in order; a launch runs
 * it in any order that the events between the streams allow. */
#include "fake_state.h"

#include <algorithm>

using namespace fake;

namespace
{

bool ready(const CUgraph_st::Node &node, const Clock &done)
{
    for (size_t lane = 0; lane < node.before.size(); lane++)
        if (done[lane] < node.before[lane]) return false;
    return true;
}

cudaError_t run_graph(const CUgraph_st &graph)
{
    const size_t lanes = graph.lanes.size();
    Clock done(lanes);
    for (;;) {
        unsigned able = 0;
        size_t chosen = lanes;
        for (size_t i = 0; i < lanes; i++)
            if (done[i] < graph.lanes[i].size() && ready(graph.lanes[i][done[i]], done))
                if (draw(++able) == 0) chosen = i;
        if (chosen == lanes) return cudaSuccess;
        cudaError_t error = do_work(graph.lanes[chosen][done[chosen]].work.get());
        if (error) return error;
        done[chosen]++;
    }
}

struct GraphWork final : Work {
    std::shared_ptr<CUgraph_st> graph;
    explicit GraphWork(std::shared_ptr<CUgraph_st> g) : graph(std::move(g))
    {
    }
    cudaError_t run() override
    {
        state()->seen.graph_launches++;
        return run_graph(*graph);
    }
    bool composed() const override
    {
        return true;
    }
};

/* A stream was forked into the capture and its work is not behind anything that its first one waits for. */
bool unjoined(const Capture &capture, const Clock &origin)
{
    for (size_t lane = 1; lane < capture.lanes.size(); lane++) {
        size_t work = capture.graph->lanes[lane].size();
        if (work && (origin.size() <= lane || origin[lane] < work)) return true;
    }
    return false;
}

void capture_end(const std::shared_ptr<Capture> &capture)
{
    auto &all = state()->captures;
    capture->open = false;
    for (cudaStream_t stream : capture->lanes)
        if (stream) {
            stream->capture = nullptr;
            stream->clock.clear();
        }
    all.erase(std::find(all.begin(), all.end(), capture));
}

cudaError_t wrong_device(int device)
{
    return misuse(cudaErrorInvalidResourceHandle,
                  "a graph of device %d used while device %d is current", device,
                  current_device());
}

cudaError_t no_executable()
{
    return misuse(cudaErrorInvalidValue, "an executable graph that does not exist");
}

} // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    ENTER(cudaErrorUnknown);
    State *s = state();
    if (!stream || !s->streams.count(stream) || stream->capture)
        return misuse(cudaErrorIllegalState, "a capture that cannot begin");
    if (stream->device != current_device())
        return misuse(cudaErrorInvalidResourceHandle,
                      "a stream of device %d used while device %d is current",
                      stream->device, current_device());
    auto graph = std::make_shared<CUgraph_st>();
    graph->device = stream->device;
    graph->lanes.emplace_back();
    auto capture = std::make_shared<Capture>();
    capture->graph = std::move(graph);
    capture->lanes.push_back(stream);
    capture->thread = std::this_thread::get_id();
    capture->mode = mode;
    capture->wrong = cudaSuccess;
    capture->open = true;
    stream->capture = capture;
    stream->lane = 0;
    stream->clock.clear();
    s->captures.push_back(std::move(capture));
    return cudaSuccess;
}

/* Ends the capture also when it fails. */
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = nullptr;
    ENTER_RELEASING(cudaErrorUnknown);
    State *s = state();
    if (!s->streams.count(stream) || !stream->capture ||
        stream->capture->lanes[0] != stream)
        return misuse(cudaErrorStreamCaptureUnmatched,
                      "the end of a capture that was not begun");
    std::shared_ptr<Capture> capture = stream->capture;
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        capture->thread != std::this_thread::get_id())
        return misuse(cudaErrorStreamCaptureWrongThread,
                      "the end of a capture that another thread began");
    const Clock clock = stream->clock;
    capture_end(capture);
    if (ENTERED) return ENTERED;
    if (capture->wrong) return keep(capture->wrong);
    if (unjoined(*capture, clock))
        return misuse(cudaErrorStreamCaptureUnjoined,
                      "a stream that was forked in a capture and not joined");
    *graph = capture->graph.get();
    s->graphs[*graph] = capture->graph;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    ENTER_THREAD(cudaErrorInvalidValue);
    std::swap(*mode, *capture_mode());
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph,
                                 unsigned long long)
{
    *executable = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    NOT_CAPTURED();
    auto found = state()->graphs.find(graph);
    if (found == state()->graphs.end())
        return misuse(cudaErrorInvalidValue, "a graph that does not exist");
    if (graph->device != current_device()) return wrong_device(graph->device);
    *executable = new CUgraphExec_st{found->second};
    state()->executables.insert(*executable);
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream)
{
    ENTER(cudaErrorMemoryAllocation);
    if (!state()->executables.count(executable)) return no_executable();
    return enqueue(stream, Operation());
}

/* Of the same shape only: as many operations in as many streams. */
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *result)
{
    ENTER(cudaErrorUnknown);
    auto found = state()->graphs.find(graph);
    if (!state()->executables.count(executable)) return no_executable();
    if (found == state()->graphs.end())
        return misuse(cudaErrorInvalidValue, "a graph that does not exist");
    const auto &old = executable->graph->lanes, &now = found->second->lanes;
    bool same = old.size() == now.size();
    for (size_t i = 0; same && i < old.size(); i++)
        same = old[i].size() == now[i].size();
    if (result) {
        *result = {};
        result->result =
            same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    }
    if (!same) return keep(cudaErrorGraphExecUpdateFailure);
    executable->graph = found->second;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    ENTER_RELEASING(cudaErrorUnknown);
    if (!state()->graphs.erase(graph))
        return misuse(cudaErrorInvalidValue, "a graph that does not exist");
    return ENTERED;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    ENTER_RELEASING(cudaErrorUnknown);
    if (!state()->executables.erase(executable)) return no_executable();
    delete executable;
    return ENTERED;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    ENTER(cudaErrorUnknown);
    if (!state()->executables.count(executable)) return no_executable();
    if (executable->graph->device != current_device())
        return wrong_device(executable->graph->device);
    return enqueue_work(stream, std::make_shared<GraphWork>(executable->graph));
}

} // extern "C"
