/* How a call's work is shared among threads: one pure function, so it is tested without any thread.
 *
 * The bits are the same whatever it says; only the time differs. */
#ifndef CY_CPU_CPU_PLAN_H
#define CY_CPU_CPU_PLAN_H

#include <stddef.h>
#include <stdint.h>

typedef enum cy_cpu_sharing {
    CY_CPU_ALONE,     /* the calling thread; no barrier, nobody is woken */
    CY_CPU_BY_PANELS, /* all rows together, hidden units divided; a barrier every step */
    CY_CPU_BY_ROWS    /* each thread takes its own rows through all layers; no barrier */
} cy_cpu_sharing;

typedef struct cy_cpu_plan {
    cy_cpu_sharing sharing;
    uint32_t threads; /* that take part */
} cy_cpu_plan;

/* What a model costs. */
typedef struct cy_cpu_cost {
    uint64_t flops;        /* multiply-adds x 2 of one step of one row, all layers */
    uint64_t weight_bytes; /* packed */
    uint32_t recurrences;  /* LSTM layers: barriers in a step */
    uint64_t panels;       /* of the LSTM with the fewest; UINT64_MAX without any */
} cy_cpu_cost;

typedef enum cy_cpu_others {
    CY_CPU_ASLEEP, /* some other thread has to be woken: 50 to 150 us */
    CY_CPU_AWAKE   /* all still look for work, from a call just before */
} cy_cpu_others;

/* rows: those of at least one step; row_steps: the steps of all of them together. */
cy_cpu_plan cy_cpu_plan_make(const cy_cpu_cost *cost, uint32_t threads,
                             cy_cpu_others others, size_t rows, uint64_t row_steps);

/* False: the plan is never CY_CPU_BY_ROWS for this model. */
int cy_cpu_plan_may_divide_rows(const cy_cpu_cost *cost);

#endif
