/* How a call's work is shared among threads: one pure function, so it is tested without any thread.
 *
 * The bits are the same whatever it says; only the time differs. */
#ifndef CY_CPU_CPU_PLAN_H
#define CY_CPU_CPU_PLAN_H

#include <stddef.h>
#include <stdint.h>

typedef enum cy_cpu_sharing {
    CY_CPU_ALONE,         /* the calling thread; no barrier, nobody is woken */
    CY_CPU_ALONE_FOR_NOW, /* the same, but shared if the others were awake */
    CY_CPU_BY_PANELS,     /* all rows together, units divided; a barrier every step */
    CY_CPU_BY_ROWS /* each thread takes its own rows through all layers; no barrier */
} cy_cpu_sharing;

typedef struct cy_cpu_plan {
    cy_cpu_sharing sharing;
    uint32_t threads; /* that take part */
} cy_cpu_plan;

/* What a model costs. */
typedef struct cy_cpu_cost {
    uint64_t flops;         /* multiply-adds x 2 of one step of one row, all layers */
    uint64_t flops_untimed; /* of these, the layers behind the last step, once a call */
    uint64_t weight_bytes;  /* packed */
    uint32_t recurrences;   /* LSTM layers: barriers in a step */
    uint64_t panels;        /* of the LSTM with the fewest; UINT64_MAX without any */
} cy_cpu_cost;

typedef enum cy_cpu_others {
    CY_CPU_ASLEEP, /* some other thread has to be woken: 50 to 150 us */
    CY_CPU_AWAKE   /* all still look for work, from a call just before */
} cy_cpu_others;

/* rows: those of at least one step; row_steps: the steps of all of them together. */
cy_cpu_plan cy_cpu_plan_make(const cy_cpu_cost *cost, uint32_t threads,
                             cy_cpu_others others, size_t rows, uint64_t row_steps);

/* Wakes the others for calls to come when `calls` in a row were CY_CPU_ALONE_FOR_NOW, each soon after
 * the one before. */
int cy_cpu_plan_wakes(uint32_t calls);

/* Soon: so that who had been awake at the call before would still look for work. */
int cy_cpu_plan_is_soon(uint64_t idle_ns);

/* Who does what is left behind the last step of all sharings but CY_CPU_BY_ROWS. */
typedef enum cy_cpu_finishing {
    CY_CPU_BY_CALLER, /* the others have ended; no barrier */
    CY_CPU_BY_ALL     /* a barrier more, three with layers there */
} cy_cpu_finishing;

/* bytes: copied to outputs and states, of all rows together. */
cy_cpu_finishing cy_cpu_plan_finish(const cy_cpu_cost *cost, uint32_t threads,
                                    size_t rows, uint64_t bytes);

/* False: the plan is never CY_CPU_BY_ROWS for this model. */
int cy_cpu_plan_may_divide_rows(const cy_cpu_cost *cost);

#endif
