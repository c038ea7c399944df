/* The host's side of the dialect (kernels/cuda/device.cuh): every function of device_ptx.cuh, under the
 * same name, for g++ and clang. Included by device.cuh only. What touches kernel data is here, inline;
 * the scheduler behind it is in schedule.cpp and sync.cpp. */
#ifndef CY_TESTS_EMU_DEVICE_EMU_H
#define CY_TESTS_EMU_DEVICE_EMU_H

#include "calls.h"

#include <math.h>
#include <string.h>
#include <utility>

/* A raw __shared__ would quietly become one variable for all blocks. */
#undef __shared__
#define __shared__ declare_it_with_DEV_SHARED
#undef __launch_bounds__
#define __launch_bounds__(...)

extern uint3 threadIdx, blockIdx; /* of the thread that runs */
extern dim3 blockDim, gridDim;

#define DEV_SHARED(type, name, ...) \
    EMU_SHARED(type, name, alignof(type), emu::Placing::EXACT, __VA_ARGS__)
#define DEV_SHARED_ALIGNED(bytes, type, name, ...) \
    EMU_SHARED(type, name, bytes, emu::Placing::ALIGNED, __VA_ARGS__)
#define EMU_SHARED(type, name, align, placing, ...)    \
    static char name##_key_;                           \
    typedef type name##_type_ __VA_ARGS__;             \
    name##_type_ &name = *static_cast<name##_type_ *>( \
        emu::shared_static(&name##_key_, sizeof(name##_type_), align, placing))
#define DEV_SHARED_DYNAMIC(name) \
    unsigned char *name = static_cast<unsigned char *>(emu::shared_dynamic(1024))

namespace emu
{

template <class T> inline T given_by(const unsigned char *given, unsigned lane)
{
    T value;
    memcpy(&value, given + lane * 64, sizeof value);
    return value;
}

template <class... P> struct Caller {
    template <size_t... I>
    static void call_with(const void *kernel, void **a, std::index_sequence<I...>)
    {
        reinterpret_cast<void (*)(P...)>(const_cast<void *>(kernel))(
            *static_cast<typename std::remove_reference<P>::type *>(a[I])...);
    }
    static void call(const void *kernel, void **arguments)
    {
        call_with(kernel, arguments, std::index_sequence_for<P...>{});
    }
};

/* The happens-before of acquire and release is made of real atomics, for TSan to see. */
inline int order_of_release()
{
    return options.weaken == Weaken::RELEASE ? __ATOMIC_RELAXED : __ATOMIC_RELEASE;
}

template <class T> inline T load_acquire(const T *p)
{
    return options.weaken == Weaken::ACQUIRE ? __atomic_load_n(p, __ATOMIC_RELAXED)
                                             : __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

} // namespace emu

namespace dev
{

template <class... P> inline void register_kernel(void (*kernel)(P...))
{
    static const size_t bytes[] = {sizeof(P)..., 0};
    emu::kernel_register(reinterpret_cast<const void *>(kernel),
                         {&emu::Caller<P...>::call, (unsigned)sizeof...(P), bytes});
}

inline void sync_block(EMU_SITE)
{
    emu::sync_block(EMU_AT(SYNC_BLOCK));
}

inline void sync_named(unsigned id, unsigned threads, EMU_SITE)
{
    emu::sync_named(id, threads, EMU_AT(SYNC_NAMED));
}

inline void sync_warp(unsigned mask = ~0u, EMU_SITE)
{
    emu::sync_warp(mask, EMU_AT(SYNC_WARP));
}

template <class T>
inline T shuffle_any(unsigned mask, T value, unsigned source, const emu::Site &site)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    const unsigned char *given = emu::warp_exchange(mask, &value, sizeof value, site);
    if (source == emu::lane()) return value;
    if (!(mask >> source & 1))
        emu::fail("shuffle at %s:%d: lane %u reads lane %u, which is not in mask %08x",
                  site.file, site.line, emu::lane(), source, mask);
    return emu::given_by<T>(given, source);
}

template <class T>
inline T shuffle(T value, unsigned source, unsigned mask = ~0u, EMU_SITE)
{
    return shuffle_any(mask, value, source % 32, EMU_AT(SHUFFLE));
}

template <class T>
inline T shuffle_xor(T value, unsigned bits, unsigned mask = ~0u, EMU_SITE)
{
    return shuffle_any(mask, value, (emu::lane() ^ bits) % 32, EMU_AT(SHUFFLE));
}

template <class T>
inline T shuffle_up(T value, unsigned distance, unsigned mask = ~0u, EMU_SITE)
{
    unsigned lane = emu::lane();
    return shuffle_any(mask, value, lane < distance ? lane : lane - distance,
                       EMU_AT(SHUFFLE));
}

template <class T>
inline T shuffle_down(T value, unsigned distance, unsigned mask = ~0u, EMU_SITE)
{
    unsigned lane = emu::lane();
    return shuffle_any(mask, value, lane + distance > 31 ? lane : lane + distance,
                       EMU_AT(SHUFFLE));
}

inline unsigned ballot(int predicate, unsigned mask = ~0u, EMU_SITE)
{
    unsigned char mine = predicate != 0;
    const unsigned char *given = emu::warp_exchange(mask, &mine, 1, EMU_AT(BALLOT));
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) votes |= (unsigned)(given[lane * 64] & 1) << lane;
    return votes;
}

inline unsigned load_acquire(const unsigned *p, EMU_SITE)
{
    emu::visit(EMU_AT(POLL));
    emu::poll(EMU_AT(POLL));
    return emu::load_acquire(p);
}

inline void store_release(unsigned *p, unsigned value)
{
    emu::maybe_yield();
    if (emu::order_of_release() == __ATOMIC_RELEASE)
        __atomic_store_n(p, value, __ATOMIC_RELEASE);
    else __atomic_store_n(p, value, __ATOMIC_RELAXED);
    emu::progress();
}

inline void add_release(unsigned *p, unsigned value)
{
    emu::maybe_yield();
    if (emu::order_of_release() == __ATOMIC_RELEASE)
        __atomic_fetch_add(p, value, __ATOMIC_RELEASE);
    else __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
    emu::progress();
}

inline unsigned atomic_add(unsigned *p, unsigned value)
{
    emu::maybe_yield();
    emu::progress();
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}

inline float atomic_add(float *p, float value)
{
    emu::maybe_yield();
    uint32_t *bits = reinterpret_cast<uint32_t *>(p);
    uint32_t old = __atomic_load_n(bits, __ATOMIC_RELAXED), sum_bits;
    float before;
    do {
        memcpy(&before, &old, sizeof before);
        float sum = before + value;
        memcpy(&sum_bits, &sum, sizeof sum);
    } while (!__atomic_compare_exchange_n(bits, &old, sum_bits, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    emu::progress();
    return before;
}

inline void expect_cooperative(EMU_SITE)
{
    if (!emu::cooperative())
        emu::fail("a grid barrier at %s:%d in a launch that is not cooperative", file_,
                  line_);
}

template <class T> inline T load_read_only(const T *p)
{
    return *p;
}

inline void prefetch_l2(const void *)
{
}

} // namespace dev

#include "device_emu_copy.h"

#include "device_emu_matrix.h"

#include "device_emu_cluster.h"

#endif
