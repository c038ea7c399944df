/* Threads that spin briefly, then sleep.
 *
 * A step of a small layer takes a few microseconds and a sleeping thread 50 to 150 to wake, so who
 * waits looks for a while before it asks the system for sleep: between the steps of a call nobody
 * sleeps, between calls that follow each other closely nobody sleeps, and an idle session costs
 * nothing.
 *
 * A worker that slept, or has just been started, is often put on the caller's own core, and the
 * system may leave it there for many milliseconds: every barrier then waits until one has spun enough to
 * give way, so that calls of 3 us took 207 for as long as they went on, and the first calls of a session
 * five times their time. So a worker that finds itself beside its caller steps aside (step_aside), and
 * who waits gives way (sched_yield) many times before it sleeps. Measured on two cores of a virtual
 * machine; half a millisecond of patience after a call is the price. */
#define _GNU_SOURCE /* sched_getcpu and affinity; pthread_sigmask */

#include "cpu/cpu_threads.h"

#include "base/mem.h"
#include "cpu/cpu_control.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* Looks before sleep; a look takes some 15 to 40 ns, one that gives way about 500. */
#define SPINS  2000
#define YIELDS 1000

/* A word that threads wait to see changed. */
typedef struct gate {
    _Alignas(CY_ALIGN) _Atomic uint64_t word;
    _Atomic uint32_t sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} gate;

typedef struct worker {
    cy_cpu_pool *pool;
    uint32_t id;
    pthread_t thread;
} worker;

struct cy_cpu_pool {
    gate start; /* number of the job << TEAM_BITS | its threads; 0 threads: end */
    gate round; /* number of barriers passed */
    _Alignas(CY_ALIGN) _Atomic uint32_t arrived;

    /* the job; written before `start` changes, read only by its threads */
    void (*job)(void *argument, uint32_t id);
    void *argument;
    uint32_t team;
    int caller_core; /* where the caller is; -1: not known here */

    uint32_t started; /* workers running */
    worker workers[];
};

#define TEAM_BITS 32
#define TEAM_MASK UINT32_MAX

static void gate_open(gate *g)
{
    pthread_mutex_init(&g->mutex,
                       NULL); /* with default attributes neither can fail here */
    pthread_cond_init(&g->changed, NULL);
}

static void gate_close(gate *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->mutex);
}

/* Either the sleeper sees the new word or this sees the sleeper: both orders are sequentially
 * consistent. */
static void gate_set(gate *g, uint64_t word)
{
    atomic_store(&g->word, word);
    if (atomic_load(&g->sleepers) == 0) return;
    pthread_mutex_lock(&g->mutex);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mutex);
}

/* Returns the word once it is not `seen`. */
static uint64_t gate_wait(gate *g, uint64_t seen)
{
    uint64_t word;
    for (int i = 0; i < SPINS + YIELDS; i++) {
        word = atomic_load_explicit(&g->word, memory_order_acquire);
        if (word != seen) return word;
        if (i < SPINS) cy_cpu_pause();
        else sched_yield();
    }
    pthread_mutex_lock(&g->mutex);
    atomic_fetch_add(&g->sleepers, 1);
    while ((word = atomic_load(&g->word)) == seen)
        pthread_cond_wait(&g->changed, &g->mutex);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->mutex);
    return word;
}

bool cy_cpu_pool_awake(cy_cpu_pool *pool)
{
    return !pool ||
           atomic_load_explicit(&pool->start.sleepers, memory_order_relaxed) == 0;
}

void cy_cpu_pool_meet(cy_cpu_pool *pool)
{
    /* read before arriving: once all have arrived, the caller may write the next job's team */
    uint32_t team = pool->team;
    uint64_t round = atomic_load_explicit(&pool->round.word, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == team) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        gate_set(&pool->round, round + 1);
    } else {
        gate_wait(&pool->round, round);
    }
}

#if defined(__linux__)
static int this_core(void)
{
    return sched_getcpu();
}

/* Away from this core, to any other that the thread may use; then all are allowed again, and the
 * system's balance has the last word. Nothing happens where there is only one, or more than a
 * cpu_set_t holds. */
static void step_aside(int core)
{
    cpu_set_t allowed, others;
    if (core < 0 || core >= CPU_SETSIZE) return;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    others = allowed;
    CPU_CLR(core, &others);
    if (CPU_COUNT(&others) == 0) return;
    if (sched_setaffinity(0, sizeof others, &others) != 0) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
static int this_core(void)
{
    return -1;
}

static void step_aside(int core)
{
    (void)core;
}
#endif

/* Jobs between two steps aside: with more threads than cores somebody is always beside the caller. */
#define JOBS_TO_STAY 64

/* A worker outside a job's team may sleep through the job: nobody waits for it. One inside cannot
 * miss it: the caller starts no other before it has come to the last barrier. */
static void *work(void *argument)
{
    const worker *self = argument;
    cy_cpu_pool *pool = self->pool;
    cy_cpu_control_set();
    uint64_t seen = 0;
    unsigned stay = 0;
    for (;;) {
        seen = gate_wait(&pool->start, seen);
        uint32_t team = seen & TEAM_MASK;
        if (team == 0) return NULL;
        if (self->id >= team) continue;
        if (stay > 0) stay--;
        else if (pool->caller_core >= 0 && pool->caller_core == this_core()) {
            step_aside(pool->caller_core);
            stay = JOBS_TO_STAY;
        }
        pool->job(pool->argument, self->id);
        cy_cpu_pool_meet(pool);
    }
}

carry_status cy_cpu_pool_open(cy_cpu_pool **opened, uint32_t threads)
{
    *opened = NULL;
    size_t bytes = sizeof(cy_cpu_pool) + (threads - 1) * sizeof(worker);
    cy_cpu_pool *pool = cy_alloc(bytes);
    CY_CHECK(pool, CARRY_E_MEMORY, "out of memory: %u threads take %zu bytes", threads,
             bytes);
    gate_open(&pool->start);
    gate_open(&pool->round);

    /* the caller's signals are not for these threads */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (!error && pool->started < threads - 1) {
        worker *next = &pool->workers[pool->started];
        *next = (worker){.pool = pool, .id = pool->started + 1};
        error = pthread_create(&next->thread, NULL, work, next);
        if (!error) pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        uint32_t started = pool->started;
        cy_cpu_pool_close(pool);
        return cy_fail(CARRY_E_MEMORY, "thread %u of %u could not be started: %s",
                       started + 2, threads, strerror(error));
    }
    *opened = pool;
    return CARRY_OK;
}

void cy_cpu_pool_close(cy_cpu_pool *pool)
{
    if (!pool) return;
    uint64_t word = atomic_load(&pool->start.word);
    gate_set(&pool->start, ((word >> TEAM_BITS) + 1) << TEAM_BITS);
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    gate_close(&pool->round);
    gate_close(&pool->start);
    cy_free(pool);
}

void cy_cpu_pool_run(cy_cpu_pool *pool, uint32_t threads,
                     void (*job)(void *argument, uint32_t id), void *argument)
{
    if (threads == 1) {
        job(argument, 0);
        return;
    }
    pool->job = job;
    pool->argument = argument;
    pool->team = threads;
    pool->caller_core = this_core();
    uint64_t word = atomic_load_explicit(&pool->start.word, memory_order_relaxed);
    gate_set(&pool->start, ((word >> TEAM_BITS) + 1) << TEAM_BITS | threads);
    job(argument, 0);
    cy_cpu_pool_meet(pool);
}
