/* A session's threads: a job for some of them, and a barrier inside the job. */
#ifndef CY_CPU_CPU_THREADS_H
#define CY_CPU_CPU_THREADS_H

#include "base/status.h"

#include <stdbool.h>

typedef struct cy_cpu_pool cy_cpu_pool;

/* Starts threads - 1 threads; threads >= 1 counts the calling one. */
carry_status cy_cpu_pool_open(cy_cpu_pool **opened, uint32_t threads);

/* Ends and joins them. NULL is fine. */
void cy_cpu_pool_close(cy_cpu_pool *pool);

/* Calls work(argument, id) for id 0 .. threads-1 at once, id 0 on the calling thread, and returns when
 * all have. One call at a time. With threads == 1 it is a plain call. */
void cy_cpu_pool_run(cy_cpu_pool *pool, uint32_t threads,
                     void (*work)(void *argument, uint32_t id), void *argument);

/* True while every thread still spins, so that a job can begin at once. NULL: true. */
bool cy_cpu_pool_awake(cy_cpu_pool *pool);

/* Wakes those that sleep, for no job: they look for one again. Does not wait for them. */
void cy_cpu_pool_wake(cy_cpu_pool *pool);

/* Inside a job: returns when all its threads have come; what they wrote before is seen after. */
void cy_cpu_pool_meet(cy_cpu_pool *pool);

#endif
