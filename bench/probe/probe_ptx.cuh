/* Instructions that only the probe uses, beside the dialect's: one function each, for nvcc and for the emulator.
 * The approximations are exact functions in emulation, so only a GPU shows their error. */
#ifndef BENCH_PROBE_PTX_CUH
#define BENCH_PROBE_PTX_CUH

#include "kernels/cuda/device.cuh"

namespace probe
{

#ifdef __CUDACC__

/* Relaxed: order nothing but the word itself. */
DEV_FUNCTION uint64_t load_relaxed(const uint64_t *p)
{
    uint64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];"
                 : "=l"(value)
                 : "l"(__cvta_generic_to_global(p))
                 : "memory");
    return value;
}

/* The word once its upper half is `stamp`. */
DEV_FUNCTION uint64_t wait_stamped(const uint64_t *p, unsigned stamp)
{
    uint64_t word;
    do {
        word = load_relaxed(p);
    } while (word >> 32 != stamp);
    return word;
}

DEV_FUNCTION void store_relaxed(uint64_t *p, uint64_t value)
{
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(p)),
                 "l"(value)
                 : "memory");
}

/* From L2, past L1. */
DEV_FUNCTION uint4 load_l2(const uint4 *p)
{
    return __ldcg(p);
}

DEV_FUNCTION unsigned load_l2(const unsigned *p)
{
    return __ldcg(p);
}

DEV_FUNCTION float ex2_approx(float x)
{
    float y;
    asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEV_FUNCTION float rcp_approx(float x)
{
    float y;
    asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEV_FUNCTION float tanh_approx(float x)
{
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else

inline uint64_t load_relaxed(const uint64_t *p)
{
    emu::maybe_yield();
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

inline uint64_t wait_stamped(const uint64_t *p, unsigned stamp, EMU_SITE)
{
    emu::visit(EMU_AT(POLL));
    for (;;) {
        uint64_t word = __atomic_load_n(p, __ATOMIC_RELAXED);
        if (word >> 32 != stamp) {
            emu::poll(EMU_AT(POLL));
            continue;
        }
        emu::progress();
        return word;
    }
}

inline void store_relaxed(uint64_t *p, uint64_t value)
{
    emu::maybe_yield();
    __atomic_store_n(p, value, __ATOMIC_RELAXED);
    emu::progress();
}

inline uint4 load_l2(const uint4 *p)
{
    return *p;
}

inline unsigned load_l2(const unsigned *p)
{
    return *p;
}

inline float ex2_approx(float x)
{
    return exp2f(x);
}

inline float rcp_approx(float x)
{
    return 1 / x;
}

inline float tanh_approx(float x)
{
    return tanhf(x);
}

#endif

/* The fast gates: 2 and 2 special functions. Far arguments end at 0, 1 and -1; NaN goes through. */
__device__ __forceinline__ float sigmoid_fast(float x)
{
    return rcp_approx(1 + ex2_approx(-1.4426950408889634f * x));
}

__device__ __forceinline__ float tanh_fast(float x)
{
    return 2 * rcp_approx(1 + ex2_approx(-2.885390081777927f * x)) - 1;
}

} // namespace probe

#endif
