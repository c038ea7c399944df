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
    _Atomic uint64_t word;
    _Atomic uint32_t sleepers;
} gate;

typedef struct worker {
    cy_cpu_pool *pool;
    uint32_t id;
    pthread_t thread;
} worker;

/* Written before `start` changes, read only by its threads. */
typedef struct job {
    void (*work)(void *argument, uint32_t id);
    void *argument;
    uint32_t team;
} job;

struct cy_cpu_pool {
    /* One cache line, so who sees the word change has the job with it. The word: number of the job
     * << TEAM_BITS | its threads; 0 threads: the end. */
    _Alignas(CY_ALIGN) gate start;
    _Atomic int caller_core; /* at the last start; -1: not known here */
    job job;

    _Alignas(CY_ALIGN) gate round; /* number of barriers passed */
    _Alignas(CY_ALIGN) _Atomic uint32_t arrived;
    _Alignas(CY_ALIGN) gate done; /* jobs that workers have finished, all together */

    _Alignas(CY_ALIGN) pthread_mutex_t mutex; /* who sleeps, whatever the gate */
    pthread_cond_t changed;
    uint32_t started; /* workers running */
    uint64_t due;     /* what `done` will be when the job is; the caller's */
    worker workers[];
};

#define TEAM_BITS 32
#define TEAM_MASK UINT32_MAX

/* After the word has changed. Either the sleeper sees the new word or this sees the sleeper: both
 * orders are sequentially consistent. */
static void gate_tell(cy_cpu_pool *pool, gate *g)
{
    if (atomic_load(&g->sleepers) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
}

static void gate_set(cy_cpu_pool *pool, gate *g, uint64_t word)
{
    atomic_store(&g->word, word);
    gate_tell(pool, g);
}

/* Returns the word once it is not `seen`. */
static uint64_t gate_wait(cy_cpu_pool *pool, gate *g, uint64_t seen)
{
    uint64_t word;
    for (int i = 0; i < SPINS + YIELDS; i++) {
        word = atomic_load_explicit(&g->word, memory_order_acquire);
        if (word != seen) return word;
        if (i < SPINS) cy_cpu_pause();
        else sched_yield();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&g->sleepers, 1);
    while ((word = atomic_load(&g->word)) == seen)
        pthread_cond_wait(&pool->changed, &pool->mutex);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
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
    uint32_t team = pool->job.team;
    uint64_t round = atomic_load_explicit(&pool->round.word, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == team) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        gate_set(pool, &pool->round, round + 1);
    } else {
        gate_wait(pool, &pool->round, round);
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

/* Wakes the caller, who may be waiting for the others still. */
static void leave_job(cy_cpu_pool *pool)
{
    atomic_fetch_add(&pool->done.word, 1);
    gate_tell(pool, &pool->done);
}

/* A worker outside a job's team may sleep through the job: nobody waits for it. One inside cannot
 * miss it: the caller starts no other before it has left this one. */
static void *serve(void *argument)
{
    const worker *self = argument;
    cy_cpu_pool *pool = self->pool;
    cy_cpu_control_set();
    uint64_t seen = 0;
    unsigned stay = 0;
    for (;;) {
        seen = gate_wait(pool, &pool->start, seen);
        uint32_t team = seen & TEAM_MASK;
        if (team == 0) return NULL;
        int core = atomic_load_explicit(&pool->caller_core, memory_order_relaxed);
        if (stay > 0) stay--;
        else if (core >= 0 && core == this_core()) {
            step_aside(core);
            stay = JOBS_TO_STAY;
        }
        if (self->id >= team) continue;
        pool->job.work(pool->job.argument, self->id);
        leave_job(pool);
    }
}

carry_status cy_cpu_pool_open(cy_cpu_pool **opened, uint32_t threads)
{
    *opened = NULL;
    size_t bytes = sizeof(cy_cpu_pool) + (threads - 1) * sizeof(worker);
    cy_cpu_pool *pool = cy_alloc(bytes);
    CY_CHECK(pool, CARRY_E_MEMORY, "out of memory: %u threads take %zu bytes", threads,
             bytes);
    pthread_mutex_init(&pool->mutex, NULL);  /* with default attributes neither */
    pthread_cond_init(&pool->changed, NULL); /* can fail here */

    /* the caller's signals are not for these threads */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (!error && pool->started < threads - 1) {
        worker *next = &pool->workers[pool->started];
        *next = (worker){.pool = pool, .id = pool->started + 1};
        error = pthread_create(&next->thread, NULL, serve, next);
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

/* The next job, for threads 1 .. team - 1; 0: the end; 1: for nobody. */
static void start(cy_cpu_pool *pool, uint64_t team)
{
    uint64_t word = atomic_load_explicit(&pool->start.word, memory_order_relaxed);
    atomic_store_explicit(&pool->caller_core, this_core(), memory_order_relaxed);
    gate_set(pool, &pool->start, ((word >> TEAM_BITS) + 1) << TEAM_BITS | team);
}

void cy_cpu_pool_close(cy_cpu_pool *pool)
{
    if (!pool) return;
    start(pool, 0);
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->mutex);
    cy_free(pool);
}

void cy_cpu_pool_wake(cy_cpu_pool *pool)
{
    start(pool, 1);
}

void cy_cpu_pool_run(cy_cpu_pool *pool, uint32_t threads,
                     void (*work)(void *argument, uint32_t id), void *argument)
{
    if (threads == 1) {
        work(argument, 0);
        return;
    }
    pool->job = (job){work, argument, threads};
    pool->due += threads - 1;
    start(pool, threads);
    work(argument, 0);
    uint64_t done = atomic_load_explicit(&pool->done.word, memory_order_acquire);
    while (done != pool->due)
        done = gate_wait(pool, &pool->done, done);
}
