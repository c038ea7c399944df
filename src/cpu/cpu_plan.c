#include "cpu/cpu_plan.h"

/* Below this a call is over before a second thread has begun: one that sleeps, one that is awake. */
#define LEAST_FLOPS_OF_CALL       500000
#define LEAST_FLOPS_OF_CALL_AWAKE 150000

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

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

cy_cpu_plan cy_cpu_plan_make(const cy_cpu_cost *cost, uint32_t threads,
                             cy_cpu_others others, size_t rows, uint64_t row_steps)
{
    uint64_t least =
        others == CY_CPU_AWAKE ? LEAST_FLOPS_OF_CALL_AWAKE : LEAST_FLOPS_OF_CALL;
    cy_cpu_plan alone = {CY_CPU_ALONE, 1};
    if (threads <= 1 || rows == 0) return alone;
    if (cost->flops * row_steps < least) return alone;

    if (cy_cpu_plan_may_divide_rows(cost) && rows / threads >= LEAST_ROWS_OF_SHARE)
        return (cy_cpu_plan){CY_CPU_BY_ROWS, threads};

    uint64_t meetings = cost->recurrences ? cost->recurrences : 1;
    uint64_t shares = cost->flops * rows / meetings / LEAST_FLOPS_OF_SHARE;
    uint64_t useful = smaller(smaller(threads, cost->panels), shares);
    return useful < 2 ? alone : (cy_cpu_plan){CY_CPU_BY_PANELS, (uint32_t)useful};
}
