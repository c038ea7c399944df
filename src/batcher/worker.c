/* A worker: takes the requests of a call, runs it, settles what became of them. */
#define _GNU_SOURCE /* pthread_setname_np, pthread_sigmask */
#include "batcher/batcher.h"

#include <signal.h>
#include <string.h>
#include <time.h>

/* ---- a call, under the lock ----------------------------------------------------------------- */

/* Returns when a call should begin, or false when the batcher closes. */
static bool wait_for_work(cy_worker *worker)
{
    carry_batcher *batcher = worker->batcher;
    const carry_batcher_options *options = &batcher->options;
    for (;;) {
        if (worker->ready == 0) {
            if (batcher->closing) return false;
            pthread_cond_wait(&worker->work, &batcher->lock);
            continue;
        }
        uint64_t oldest_us = worker->heap[0]->first->submitted_us;
        uint64_t until_us = oldest_us + options->max_delay_us;
        /* company: into a full queue nobody can come */
        if (worker->ready >= options->batch_rows || worker->unfinished > 0 ||
            batcher->free_entries == 0 || batcher->closing ||
            cy_batcher_now_us() >= until_us)
            return true;
        struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                                 .tv_nsec = (long)(until_us % 1000000) * 1000};
        pthread_cond_timedwait(&worker->work, &batcher->lock, &until);
    }
}

static uint32_t take_rows(cy_worker *worker)
{
    carry_batcher *batcher = worker->batcher;
    uint64_t now_us = cy_batcher_now_us();
    uint32_t count = 0;
    while (count < batcher->options.batch_rows && worker->ready > 0) {
        cy_member *member = cy_ready_take(worker);
        cy_entry *entry = member->first;
        uint32_t left = entry->request.steps - entry->done_steps;
        entry->call_steps =
            left < batcher->options.batch_steps ? left : batcher->options.batch_steps;
        if (!entry->begun) {
            entry->begun = true;
            entry->begun_us = now_us;
        }
        member->in_call = true;
        batcher->steps += entry->call_steps;
        worker->rows[count++] = entry;
    }
    if (count == 0) return 0;
    batcher->in_flight += count;
    batcher->calls++;
    batcher->rows += count;
    unsigned bucket = 31 - (unsigned)__builtin_clz(count);
    batcher->calls_of_rows[bucket < CARRY_BATCH_BUCKETS ? bucket
                                                        : CARRY_BATCH_BUCKETS - 1]++;
    return count;
}

/* A row is over when all its steps are done, or when it failed, or when it was cancelled meanwhile. */
static bool settle_row(carry_batcher *batcher, cy_entry *entry, carry_status status)
{
    entry->status = status;
    if (status == CARRY_OK) entry->done_steps += entry->call_steps;
    bool complete = entry->done_steps == entry->request.steps;
    if (status == CARRY_OK && !complete && entry->cancelled)
        entry->status = CARRY_E_CANCELLED;
    if (entry->status != CARRY_OK || complete) return true;
    entry->turn = ++batcher->turns; /* behind those that wait now */
    return false;
}

/* Returns the requests that are done, linked by `after`. */
static cy_entry *settle(cy_worker *worker, uint32_t count)
{
    cy_entry *list = NULL, **end = &list;
    for (uint32_t i = 0; i < count; i++) {
        cy_entry *entry = worker->rows[i];
        cy_member *member = entry->member;
        carry_status status =
            worker->status != CARRY_OK ? worker->status : worker->row_status[i];
        member->in_call = false;
        if (settle_row(worker->batcher, entry, status)) {
            cy_queue_remove(entry);
            *end = entry;
            end = &entry->after;
        }
        if (member->first) cy_ready_put(member);
    }
    worker->batcher->in_flight -= count;
    return list;
}

static void *work(void *argument)
{
    cy_worker *worker = argument;
    carry_batcher *batcher = worker->batcher;
    pthread_mutex_lock(&batcher->lock);
    while (wait_for_work(worker)) {
        cy_worker_take_turn(worker);
        uint32_t count = take_rows(worker); /* 0: all cancelled while it waited */
        cy_entry *list = NULL;
        if (count > 0) {
            pthread_mutex_unlock(&batcher->lock);
            cy_worker_call(worker, count);
            pthread_mutex_lock(&batcher->lock);
            list = settle(worker, count);
        }
        cy_worker_end_turn(worker);
        pthread_mutex_unlock(&batcher->lock);
        cy_entries_finish(batcher, list,
                          worker->status != CARRY_OK ? worker->sentence : NULL);
        pthread_mutex_lock(&batcher->lock);
    }
    pthread_mutex_unlock(&batcher->lock);
    return NULL;
}

/* The caller's signals are not for our threads: new threads inherit the mask. */
carry_status cy_worker_start(cy_worker *worker)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&worker->thread, NULL, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CY_CHECK(!failed, CARRY_E_MEMORY, "a thread of the batcher could not be started: %s",
             strerror(failed));
    worker->started = true;
    pthread_setname_np(worker->thread, "carry-batcher");
    return CARRY_OK;
}

void cy_worker_join(cy_worker *worker)
{
    if (worker->started) pthread_join(worker->thread, NULL);
    worker->started = false;
}
