#include "cpu/cpu_dispatch.h"

#include "cpu/cpu.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* __builtin_cpu_supports also asks the system (xgetbv) whether it saves the wide registers. */
const cy_cpu_kernels *cy_cpu_kernels_at(size_t index)
{
    if (index == 0) return &cy_cpu_kernels_ref;
#ifdef CY_CPU_X86_VARIANTS /* set by CMake where it builds them */
    __builtin_cpu_init();
    if (index == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &cy_cpu_kernels_avx2;
    if (index == 2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return &cy_cpu_kernels_avx512;
#endif
    return NULL;
}

static const cy_cpu_kernels *choose(void)
{
    const char *cap = getenv("CARRY_ISA");
    const cy_cpu_kernels *best = cy_cpu_kernels_at(0);
    for (size_t i = 0; cy_cpu_kernels_at(i); i++) {
        best = cy_cpu_kernels_at(i);
        if (cap && strcmp(best->isa, cap) == 0) break;
    }
    return best;
}

const cy_cpu_kernels *cy_cpu_kernels_chosen(void)
{
    /* Two threads that come first at once choose the same: no lock needed. */
    static _Atomic(const cy_cpu_kernels *) chosen;
    const cy_cpu_kernels *kernels = atomic_load_explicit(&chosen, memory_order_acquire);
    if (!kernels) {
        kernels = choose();
        atomic_store_explicit(&chosen, kernels, memory_order_release);
    }
    return kernels;
}

const char *cy_cpu_isa(void)
{
    return cy_cpu_kernels_chosen()->isa;
}
