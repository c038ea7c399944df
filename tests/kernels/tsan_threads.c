/* The pool under the thread sanitizer: jobs for changing numbers of threads, barriers inside them, and
 * pauses long enough that everybody has gone to sleep. Data goes from thread to thread through plain
 * memory, so a barrier that orders nothing is a race here, and one that lets a thread through early
 * gives a wrong sum. A worker that steps aside (cpu_threads.c) must be allowed everywhere again. */
#define _GNU_SOURCE /* nanosleep, affinity */

#include "cpu/cpu_threads.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_THREADS = 4, ROUNDS = 50 };

typedef struct relay {
    cy_cpu_pool *pool;
    uint32_t threads;
    unsigned long value[2][MOST_THREADS]; /* of the round before, of this one */
    unsigned calls[MOST_THREADS];
    unsigned cores[MOST_THREADS]; /* that the thread may use */
} relay;

static unsigned cores_allowed(void)
{
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        return (unsigned)CPU_COUNT(&allowed);
#endif
    return 1;
}

/* Each round a thread adds up what all wrote in the round before, as a step of an LSTM reads the
 * whole of h. */
static void run_relay(void *argument, uint32_t id)
{
    relay *r = argument;
    r->cores[id] = cores_allowed();
    for (int round = 0; round < ROUNDS; round++) {
        unsigned long sum = id + 1;
        for (uint32_t i = 0; i < r->threads; i++)
            sum += r->value[round % 2][i];
        r->value[1 - round % 2][id] = sum % 1000003;
        if (r->threads > 1) cy_cpu_pool_meet(r->pool);
    }
    r->calls[id]++; /* no barrier behind it: all have ended before the caller looks */
}

static int check_relay(cy_cpu_pool *pool, uint32_t threads)
{
    relay alone = {.threads = threads}, together = {.pool = pool, .threads = threads};
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t id = 0; id < threads; id++) {
            unsigned long sum = id + 1;
            for (uint32_t i = 0; i < threads; i++)
                sum += alone.value[round % 2][i];
            alone.value[1 - round % 2][id] = sum % 1000003;
        }
    cy_cpu_pool_run(pool, threads, run_relay, &together);
    for (uint32_t id = 0; id < threads; id++) {
        if (together.calls[id] == 1 && together.cores[id] == together.cores[0] &&
            together.value[ROUNDS % 2][id] == alone.value[ROUNDS % 2][id])
            continue;
        fprintf(
            stderr,
            "thread %u of %u: called %u times, %lu, expected %lu; on %u cores of %u\n",
            id, threads, together.calls[id], together.value[ROUNDS % 2][id],
            alone.value[ROUNDS % 2][id], together.cores[id], together.cores[0]);
        return 1;
    }
    return 0;
}

/* Threads that are woken without a job soon look for one. */
static int check_wake(void)
{
    cy_cpu_pool *pool;
    if (cy_cpu_pool_open(&pool, 2) != CARRY_OK) return 1;
    int looks = 0, most = 10000; /* of a millisecond */
    const struct timespec pause = {0, 1000000};
    while (cy_cpu_pool_awake(pool) && looks++ < most)
        nanosleep(&pause, NULL);
    int asleep = !cy_cpu_pool_awake(pool);
    for (looks = 0; !cy_cpu_pool_awake(pool) && looks < most; looks++) {
        cy_cpu_pool_wake(pool);
        sched_yield();
    }
    int awake = cy_cpu_pool_awake(pool);
    cy_cpu_pool_close(pool);
    if (asleep && awake) return 0;
    fprintf(stderr, "left alone, a thread was %s; woken, %s\n",
            asleep ? "asleep" : "awake", awake ? "awake" : "asleep");
    return 1;
}

int main(void)
{
    int failures = check_wake();
    for (uint32_t size = 1; size <= MOST_THREADS; size++)
        for (int opened = 0; opened < 3; opened++) {
            cy_cpu_pool *pool;
            if (cy_cpu_pool_open(&pool, size) != CARRY_OK) {
                fprintf(stderr, "pool of %u: %s\n", size, cy_error());
                return 1;
            }
            /* opened and closed at once, then with jobs; the last time with sleep between them */
            for (int job = 0; opened > 0 && job < 20; job++) {
                failures += check_relay(pool, 1 + (uint32_t)job % size);
                if (opened == 2 && job % 5 == 0)
                    nanosleep(&(struct timespec){0, 5000000}, NULL);
                if (job % 4 == 0) cy_cpu_pool_wake(pool); /* asleep or not */
            }
            cy_cpu_pool_close(pool);
        }
    cy_cpu_pool_close(NULL);
    if (failures) fprintf(stderr, "%d jobs went wrong\n", failures);
    return failures ? 1 : 0;
}
