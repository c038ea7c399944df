/* How a call's work is shared, as a pure function: no thread is started here. */
#include "cpu/cpu_plan.h"

#include <criterion/criterion.h>

/* One LSTM of as many features as units, in panels of 16 units. */
static cy_cpu_cost lstm(uint64_t units)
{
    uint64_t weights = 8 * units * units;
    return (cy_cpu_cost){.flops = 2 * weights,
                         .weight_bytes = 4 * weights,
                         .recurrences = 1,
                         .panels = (units + 15) / 16};
}

static cy_cpu_plan plan(uint64_t units, uint32_t threads, cy_cpu_others others,
                        size_t rows, uint64_t steps)
{
    cy_cpu_cost cost = lstm(units);
    return cy_cpu_plan_make(&cost, threads, others, rows, rows * steps);
}

Test(cpu_plan, table)
{
    static const struct {
        uint64_t units;
        uint32_t threads;
        cy_cpu_others others;
        size_t rows;
        uint64_t steps;
        cy_cpu_sharing sharing;
        uint32_t taking_part;
    } table[] = {
        {128, 1, CY_CPU_AWAKE, 1, 1, CY_CPU_ALONE, 1},
        {128, 2, CY_CPU_AWAKE, 1, 1, CY_CPU_BY_PANELS, 2},
        {128, 2, CY_CPU_ASLEEP, 1, 1, CY_CPU_ALONE_FOR_NOW, 1},
        {128, 2, CY_CPU_ASLEEP, 1, 100, CY_CPU_BY_PANELS, 2}, /* worth a wake */
        {64, 2, CY_CPU_AWAKE, 1, 1, CY_CPU_ALONE, 1},
        {64, 2, CY_CPU_ASLEEP, 1, 1, CY_CPU_ALONE, 1}, /* nothing to wake for */
        {64, 2, CY_CPU_AWAKE, 1, 100, CY_CPU_BY_PANELS, 2},
        {16, 2, CY_CPU_AWAKE, 1, 1000, CY_CPU_ALONE, 1}, /* a step is too little */
        {512, 16, CY_CPU_AWAKE, 1, 1, CY_CPU_BY_PANELS, 16},
        {128, 16, CY_CPU_AWAKE, 1, 1, CY_CPU_BY_PANELS, 8}, /* as it has panels */
        {64, 4, CY_CPU_AWAKE, 64, 10, CY_CPU_BY_ROWS, 4},
        {64, 4, CY_CPU_AWAKE, 8, 100, CY_CPU_BY_PANELS, 4},  /* tiles of two rows */
        {512, 4, CY_CPU_AWAKE, 64, 10, CY_CPU_BY_PANELS, 4}, /* weights beyond a cache */
        {512, 4, CY_CPU_AWAKE, 0, 0, CY_CPU_ALONE, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        cy_cpu_plan p = plan(table[i].units, table[i].threads, table[i].others,
                             table[i].rows, table[i].steps);
        cr_expect(p.sharing == table[i].sharing && p.threads == table[i].taking_part,
                  "line %zu: sharing %d of %u threads", i, (int)p.sharing, p.threads);
    }
}

/* The memory of slices is laid out only where rows may be divided. */
Test(cpu_plan, rows_are_divided_only_where_announced)
{
    for (uint64_t units = 16; units <= 1024; units *= 2) {
        cy_cpu_cost cost = lstm(units);
        for (size_t rows = 1; rows <= 256; rows *= 2) {
            cy_cpu_plan p = cy_cpu_plan_make(&cost, 4, CY_CPU_AWAKE, rows, rows * 100);
            cr_expect(p.threads >= 1 && p.threads <= 4);
            cr_expect(p.sharing != CY_CPU_BY_ROWS || cy_cpu_plan_may_divide_rows(&cost));
        }
    }
}

Test(cpu_plan, a_call_for_now_is_shared_once_the_others_are_awake)
{
    for (uint64_t units = 16; units <= 1024; units *= 2)
        for (uint64_t steps = 1; steps <= 64; steps *= 2)
            if (plan(units, 2, CY_CPU_ASLEEP, 1, steps).sharing == CY_CPU_ALONE_FOR_NOW)
                cr_expect_eq(plan(units, 2, CY_CPU_AWAKE, 1, steps).threads, 2);
}

Test(cpu_plan, who_calls_often_wakes_the_others)
{
    cr_expect(cy_cpu_plan_is_soon(5000));
    cr_expect(!cy_cpu_plan_is_soon(1000000)); /* they would be asleep again */
    cr_expect(!cy_cpu_plan_wakes(1));
    cr_expect(cy_cpu_plan_wakes(1000));
}

Test(cpu_plan, finishing)
{
    cy_cpu_cost cost = lstm(128);
    cr_expect_eq(cy_cpu_plan_finish(&cost, 2, 1, 1 << 20),
                 CY_CPU_BY_CALLER); /* one row */
    cr_expect_eq(cy_cpu_plan_finish(&cost, 2, 4, 1 << 10), CY_CPU_BY_CALLER);
    cr_expect_eq(cy_cpu_plan_finish(&cost, 2, 4, 1 << 20), CY_CPU_BY_ALL);
    cr_expect_eq(cy_cpu_plan_finish(&cost, 1, 4, 1 << 20), CY_CPU_BY_CALLER);
    cost.flops_untimed = 2 * 128 * 10000; /* a vocabulary behind the last step */
    cr_expect_eq(cy_cpu_plan_finish(&cost, 2, 1, 40000), CY_CPU_BY_ALL);
}
