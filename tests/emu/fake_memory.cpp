/* The fake runtime's memory: allocations, copies and fills. Every copy is held to the table of allocations,
 * to its stated direction and to its stream's device. Copies from pageable memory are staged at the call,
 * copies to it complete before it returns, as CUDA does; only pinned memory is really asynchronous. */
#include "fake_state.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

using namespace fake;

namespace
{

/* Rows of memory; one row is a plain copy. */
struct Region {
    size_t width, rows, pitch;
    size_t extent() const
    {
        return (rows - 1) * pitch + width;
    }
};

/* An unknown host pointer is pageable memory; one inside an allocation that it overruns is a mistake. */
enum class Kind { DEVICE, PINNED, PAGEABLE, OVERRUN };
Kind kind_of(const void *pointer, size_t bytes, int *device)
{
    if (const Allocation *a = find(pointer, bytes)) {
        *device = a->device;
        return a->place == Place::DEVICE ? Kind::DEVICE : Kind::PINNED;
    }
    return find(pointer, 0) ? Kind::OVERRUN : Kind::PAGEABLE;
}

bool against(cudaMemcpyKind direction, bool to_device, bool from_device)
{
    switch (direction) {
    case cudaMemcpyHostToDevice:
        return !to_device || from_device;
    case cudaMemcpyDeviceToHost:
        return to_device || !from_device;
    case cudaMemcpyDeviceToDevice:
        return !to_device || !from_device;
    case cudaMemcpyHostToHost:
        return to_device || from_device;
    default:
        return false;
    }
}

void move_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch,
               const Region &r)
{
    for (size_t row = 0; row < r.rows; row++)
        memmove(static_cast<char *>(to) + row * to_pitch,
                static_cast<const char *>(from) + row * from_pitch, r.width);
}

enum class Returns { AT_ONCE, WHEN_DONE };

const size_t MOST_PITCH = 0x7fffffff; /* cudaDevAttrMaxPitch of every device so far */

cudaError_t copy(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                 size_t width, size_t rows, cudaMemcpyKind direction, cudaStream_t stream,
                 Returns returns)
{
    State *s = state();
    if (width == 0 || rows == 0) return cudaSuccess;
    if (rows > 1 && (to_pitch < width || from_pitch < width))
        return keep(cudaErrorInvalidPitchValue);
    if (rows > 1 && (to_pitch > MOST_PITCH || from_pitch > MOST_PITCH))
        return misuse(cudaErrorInvalidPitchValue, "a copy with a pitch of %zu bytes",
                      std::max(to_pitch, from_pitch));
    const Region target_region = {width, rows, to_pitch};
    const Region source_region = {width, rows, from_pitch};
    int to_place = current_device(), from_place = current_device();
    Kind target = kind_of(to, target_region.extent(), &to_place);
    Kind source = kind_of(from, source_region.extent(), &from_place);
    if (target == Kind::OVERRUN || source == Kind::OVERRUN)
        return misuse(cudaErrorInvalidValue,
                      "a copy of %zu rows of %zu bytes past the end of its %s", rows,
                      width, target == Kind::OVERRUN ? "target" : "source");
    bool to_device = target == Kind::DEVICE, from_device = source == Kind::DEVICE;
    if (against(direction, to_device, from_device))
        return misuse(cudaErrorInvalidMemcpyDirection,
                      "a copy of %zu bytes against its direction %d", rows * width,
                      (int)direction);
    CUstream_st *queue = resolve(stream);
    if (!queue)
        return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    if ((to_device && to_place != queue->device) ||
        (from_device && from_place != queue->device))
        return misuse(cudaErrorInvalidValue,
                      "a copy with memory of device %d in a stream of device %d",
                      to_device ? to_place : from_place, queue->device);
    size_t *counted = to_device && from_device ? &s->seen.bytes_on_device
                      : to_device              ? &s->seen.bytes_to_device
                                               : &s->seen.bytes_to_host;
    if (queue->capture && (source == Kind::PAGEABLE || target == Kind::PAGEABLE)) {
        queue->capture->wrong = cudaErrorStreamCaptureInvalidated;
        return misuse(cudaErrorStreamCaptureUnsupported, "pageable memory in a capture");
    }
    std::shared_ptr<Work> moved;
    if (source == Kind::PAGEABLE) {
        std::vector<char> staged(rows * width);
        move_rows(staged.data(), width, from, from_pitch, source_region);
        moved = work([=, staged = std::move(staged)] {
            *counted += rows * width;
            move_rows(to, to_pitch, staged.data(), width, target_region);
            return cudaSuccess;
        });
    } else {
        moved = work([=] {
            *counted += rows * width;
            move_rows(to, to_pitch, from, from_pitch, target_region);
            return cudaSuccess;
        });
    }
    cudaError_t error = enqueue_work(stream, std::move(moved));
    if (error || queue->capture) return error;
    /* What a synchronous copy waits for is the source being read, unless its target is the host. */
    bool waits =
        target == Kind::PAGEABLE || target == Kind::PINNED || source == Kind::PINNED;
    if (target == Kind::PAGEABLE || (returns == Returns::WHEN_DONE && waits)) {
        run_stream(queue);
        return keep(s->sticky[queue->device]);
    }
    return cudaSuccess;
}

cudaError_t fill(void *to, size_t pitch, int value, size_t width, size_t rows,
                 cudaStream_t stream)
{
    if (width == 0 || rows == 0) return cudaSuccess;
    if (rows > 1 && pitch < width) return keep(cudaErrorInvalidPitchValue);
    const Region region = {width, rows, pitch};
    int device = 0;
    CUstream_st *queue = resolve(stream);
    if (!queue)
        return misuse(cudaErrorInvalidResourceHandle, "a stream that does not exist");
    Kind target = kind_of(to, region.extent(), &device);
    if (target != Kind::DEVICE && target != Kind::PINNED)
        return misuse(cudaErrorInvalidValue,
                      "%zu rows of %zu bytes filled outside of what a device reaches",
                      rows, width);
    if (rows > 1 && pitch > MOST_PITCH)
        return misuse(cudaErrorInvalidPitchValue, "a fill with a pitch of %zu bytes",
                      pitch);
    if (target == Kind::DEVICE && device != queue->device)
        return misuse(cudaErrorInvalidValue,
                      "memory of device %d filled in a stream of device %d", device,
                      queue->device);
    return enqueue_work(stream, work([=] {
                            for (size_t row = 0; row < rows; row++)
                                memset(static_cast<char *>(to) + row * pitch, value,
                                       width);
                            return cudaSuccess;
                        }));
}

cudaError_t allocate(void **pointer, size_t bytes, Place place)
{
    State *s = state();
    int device = current_device();
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (place == Place::DEVICE &&
        bytes > s->device.memory_bytes - s->device_bytes[device])
        return keep(cudaErrorMemoryAllocation);
    if (bytes > SIZE_MAX - 255) return keep(cudaErrorMemoryAllocation);
    char *memory = static_cast<char *>(aligned_alloc(256, (bytes + 255) / 256 * 256));
    if (!memory) return keep(cudaErrorMemoryAllocation);
    memset(memory, 0xff, bytes);
    s->memory[memory] = {place, bytes, device};
    s->seen.allocations++;
    if (place == Place::DEVICE) s->device_bytes[device] += bytes;
    memory_guard(memory, s->memory[memory]);
    *pointer = memory;
    return cudaSuccess;
}

cudaError_t release(void *pointer, Place place)
{
    State *s = state();
    if (!pointer) return cudaSuccess;
    auto found = s->memory.find(static_cast<char *>(pointer));
    if (found == s->memory.end() || found->second.place != place)
        return misuse(place == Place::REGISTERED ? cudaErrorHostMemoryNotRegistered
                                                 : cudaErrorInvalidValue,
                      "freeing what was not allocated so");
    run_all(); /* freeing waits for the device */
    const Allocation allocation = found->second;
    if (place == Place::DEVICE) s->device_bytes[allocation.device] -= allocation.bytes;
    s->memory.erase(found);
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(pointer, allocation.bytes);
#endif
    if (place != Place::REGISTERED) free(pointer);
    return cudaSuccess;
}

} // namespace

extern "C" {

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    *pointer = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    NOT_CAPTURED();
    return allocate(pointer, bytes, Place::DEVICE);
}

cudaError_t cudaFree(void *pointer)
{
    ENTER_RELEASING(cudaErrorUnknown);
    cudaError_t captured = pointer ? outside_capture(__func__) : cudaSuccess;
    if (captured) return captured;
    cudaError_t released = release(pointer, Place::DEVICE);
    return ENTERED ? ENTERED : released;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned)
{
    *pointer = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    NOT_CAPTURED();
    return allocate(pointer, bytes, Place::PINNED);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
    *pointer = nullptr;
    ENTER(cudaErrorMemoryAllocation);
    NOT_CAPTURED();
    return allocate(pointer, bytes, Place::PINNED);
}

cudaError_t cudaFreeHost(void *pointer)
{
    ENTER_RELEASING(cudaErrorUnknown);
    cudaError_t captured = pointer ? outside_capture(__func__) : cudaSuccess;
    if (captured) return captured;
    cudaError_t released = release(pointer, Place::PINNED);
    return ENTERED ? ENTERED : released;
}

cudaError_t cudaHostRegister(void *pointer, size_t bytes, unsigned)
{
    ENTER(cudaErrorMemoryAllocation);
    NOT_CAPTURED();
    if (!pointer || bytes == 0) return keep(cudaErrorInvalidValue);
    State *s = state();
    char *begin = static_cast<char *>(pointer);
    auto next = s->memory.lower_bound(begin);
    if (find(pointer, 0) || (next != s->memory.end() && next->first < begin + bytes))
        return misuse(cudaErrorHostMemoryAlreadyRegistered,
                      "%zu bytes registered that overlap an allocation", bytes);
    s->memory[begin] = {Place::REGISTERED, bytes, current_device()};
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *pointer)
{
    ENTER_RELEASING(cudaErrorUnknown);
    cudaError_t captured = outside_capture(__func__);
    if (captured) return captured;
    cudaError_t released = release(pointer, Place::REGISTERED);
    return ENTERED ? ENTERED : released;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes,
                                     const void *pointer)
{
    ENTER(cudaErrorInvalidValue);
    memset(attributes, 0, sizeof *attributes);
    const Allocation *a = find(pointer, 0);
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -2; /* as the runtime answers for memory it does not know */
    if (!a) {
        attributes->hostPointer = const_cast<void *>(pointer);
        return cudaSuccess;
    }
    attributes->device = a->device;
    attributes->devicePointer = const_cast<void *>(pointer);
    if (a->place == Place::DEVICE) {
        attributes->type = cudaMemoryTypeDevice;
    } else {
        attributes->type = cudaMemoryTypeHost;
        attributes->hostPointer = const_cast<void *>(pointer);
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    ENTER(cudaErrorInvalidValue);
    return copy(to, bytes, from, bytes, bytes, 1, kind, stream, Returns::AT_ONCE);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    ENTER(cudaErrorInvalidValue);
    return copy(to, bytes, from, bytes, bytes, 1, kind, nullptr, Returns::WHEN_DONE);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from,
                              size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream)
{
    ENTER(cudaErrorInvalidValue);
    return copy(to, to_pitch, from, from_pitch, width, rows, kind, stream,
                Returns::AT_ONCE);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t rows, cudaMemcpyKind kind)
{
    ENTER(cudaErrorInvalidValue);
    return copy(to, to_pitch, from, from_pitch, width, rows, kind, nullptr,
                Returns::WHEN_DONE);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    ENTER(cudaErrorInvalidValue);
    return fill(to, bytes, value, bytes, 1, stream);
}

/* Of device memory: asynchronous like the other. */
cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    ENTER(cudaErrorInvalidValue);
    return fill(to, bytes, value, bytes, 1, nullptr);
}

cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width,
                              size_t rows, cudaStream_t stream)
{
    ENTER(cudaErrorInvalidValue);
    return fill(to, pitch, value, width, rows, stream);
}

} // extern "C"
