/* The layer loop: one call's rows through every node of the graph, chunk by chunk. */
#ifndef CY_CPU_CPU_RUN_H
#define CY_CPU_CPU_RUN_H

#include "cpu/cpu_model.h"
#include "cpu/cpu_threads.h"

/* Some rows of a call, their workspace, and the threads that share the work. */
typedef struct cy_cpu_job {
    const cy_cpu_model *model;
    const cy_run *run;
    const cy_row *rows; /* [row_count], most steps first */
    size_t row_count;   /* <= space->rows */
    cy_cpu_space *space;
    cy_cpu_pool
        *pool; /* threads > 1: all its threads call cy_cpu_job_run with this job */
    uint32_t threads;
    size_t live;                /* rows of at least one step, a prefix; by prepare */
    cy_cpu_finishing finishing; /* by prepare */
} cy_cpu_job;

/* Loads the states and plans the first chunk: once, before cy_cpu_job_run. */
void cy_cpu_job_prepare(cy_cpu_job *job);

/* Thread `id` of job->threads does its share; every thread of them must come. */
void cy_cpu_job_run(const cy_cpu_job *job, uint32_t id);

/* Once, when all have returned: does what they have left. Now outputs and states are written. */
void cy_cpu_job_finish(const cy_cpu_job *job);

#endif
