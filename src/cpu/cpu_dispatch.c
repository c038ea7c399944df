#include "cpu/cpu_dispatch.h"

#include "cpu/cpu.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

const cy_cpu_kernels *cy_cpu_kernels_at(size_t index)
{
    return index == 0 ? &cy_cpu_kernels_ref : NULL;
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
