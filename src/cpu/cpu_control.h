/* What the processor offers beneath C: the floating-point control word (round to nearest, denormals
 * kept, no traps), and the pause of a spinning thread. */
#ifndef CY_CPU_CPU_CONTROL_H
#define CY_CPU_CPU_CONTROL_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* Sets the word carry computes with on this thread; returns the word that stood there. */
static inline uint64_t cy_cpu_control_set(void)
{
#if defined(__x86_64__)
    uint64_t before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
#else
    return 0;
#endif
}

static inline void cy_cpu_control_restore(uint64_t before)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

/* Tells the processor that this thread only looks whether something has changed. */
static inline void cy_cpu_pause(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
