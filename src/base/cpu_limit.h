#ifndef CY_BASE_CPU_LIMIT_H
#define CY_BASE_CPU_LIMIT_H

#include <stdint.h>

/* Threads this process may use: affinity and cgroup quota, at least 1. */
uint32_t cy_cpu_limit(void);

#endif
