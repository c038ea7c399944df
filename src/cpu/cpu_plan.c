#include "cpu/cpu_plan.h"

/* Below this a call is over before a second thread has begun: one that sleeps, one that is awake. */
#define LEAST_FLOPS_OF_CALL       500000
#define LEAST_FLOPS_OF_CALL_AWAKE 150000

/* Waking costs the caller some 5 us and the woken half a millisecond of looking for work, which pays when
 * at least as long a time of calls follows. */
#define CALLS_TO_WAKE 64
#define SOON_NS       100000

/* A thread's least work between two barriers, which cost some 0.3 us while everybody spins. */
#define LEAST_FLOPS_OF_SHARE 30000

/* Threads that take rows each read all weights every step: fine while those fit a core's L2 cache,
 * otherwise a division by panels reads them once. */
#define MOST_BYTES_BY_ROWS ((uint64_t)512 * 1024)

/* Rows of a full tile (AVX2); fewer per thread waste multiplies. */
#define LEAST_ROWS_OF_SHARE 3

int cy_cpu_plan_may_divide_rows(const cy_cpu_cost *cost)
{
    return cost->weight_bytes <= MOST_BYTES_BY_ROWS;
}

int cy_cpu_plan_wakes(uint32_t calls)
{
    return calls >= CALLS_TO_WAKE;
}

int cy_cpu_plan_is_soon(uint64_t idle_ns)
{
    return idle_ns <= SOON_NS;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A call that is worth sharing. */
static cy_cpu_plan plan_sharing(const cy_cpu_cost *cost, uint32_t threads, size_t rows)
{
    cy_cpu_plan alone = {CY_CPU_ALONE, 1};
    if (cy_cpu_plan_may_divide_rows(cost) && rows / threads >= LEAST_ROWS_OF_SHARE)
        return (cy_cpu_plan){CY_CPU_BY_ROWS, threads};

    uint64_t meetings = cost->recurrences ? cost->recurrences : 1;
    uint64_t shares = cost->flops * rows / meetings / LEAST_FLOPS_OF_SHARE;
    uint64_t useful = smaller(smaller(threads, cost->panels), shares);
    return useful < 2 ? alone : (cy_cpu_plan){CY_CPU_BY_PANELS, (uint32_t)useful};
}

cy_cpu_plan cy_cpu_plan_make(const cy_cpu_cost *cost, uint32_t threads,
                             cy_cpu_others others, size_t rows, uint64_t row_steps)
{
    cy_cpu_plan alone = {CY_CPU_ALONE, 1};
    uint64_t flops = cost->flops * row_steps;
    if (threads <= 1 || rows == 0 || flops < LEAST_FLOPS_OF_CALL_AWAKE) return alone;
    cy_cpu_plan plan = plan_sharing(cost, threads, rows);
    if (plan.threads > 1 && others == CY_CPU_ASLEEP && flops < LEAST_FLOPS_OF_CALL)
        return (cy_cpu_plan){CY_CPU_ALONE_FOR_NOW, 1};
    return plan;
}

/* A byte copied takes about as long as a multiplication. A lone row is copied by one thread in any case. */
cy_cpu_finishing cy_cpu_plan_finish(const cy_cpu_cost *cost, uint32_t threads,
                                    size_t rows, uint64_t bytes)
{
    uint64_t work = cost->flops_untimed * rows + (rows > 1 ? bytes : 0);
    return threads > 1 && work / LEAST_FLOPS_OF_SHARE >= 2 ? CY_CPU_BY_ALL
                                                           : CY_CPU_BY_CALLER;
}
