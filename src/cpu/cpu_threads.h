/* A session's threads: a job for all of them, and a barrier inside the job. */
#ifndef CY_CPU_CPU_THREADS_H
#define CY_CPU_CPU_THREADS_H

#include "base/status.h"

typedef struct cy_cpu_pool cy_cpu_pool;

/* threads >= 1, the calling one counted. */
carry_status cy_cpu_pool_open(cy_cpu_pool **pool, uint32_t threads);
void cy_cpu_pool_close(cy_cpu_pool *pool);

/* Calls job(argument, id) on every thread, id 0 on the caller's, and returns when all have. */
void cy_cpu_pool_run(cy_cpu_pool *pool, void (*job)(void *argument, uint32_t id),
                     void *argument);

/* Inside a job: returns when all threads have come; what they wrote before is seen after. */
void cy_cpu_pool_barrier(cy_cpu_pool *pool);

#endif
