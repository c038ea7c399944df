/* The record of a trial: what the ways say of it while it runs, and what it comes to. */
#include "load.h"

#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

void cy_sleep_until(double clock_s)
{
    struct timespec until = {.tv_sec = (time_t)clock_s};
    until.tv_nsec = (long)((clock_s - (double)until.tv_sec) * 1e9);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* May be called by any worker; those of one sequence come from one. */
void cy_server_answer(cy_server *server, size_t index, double now_s)
{
    const cy_arrival *arrival = &server->arrivals->items[index];
    cy_mark *mark = &server->marks[index];
    if (mark->answers++ > 0) atomic_fetch_add(&server->repeated, 1);
    mark->latency_s = (float)(now_s - server->start_s - arrival->at_s);
    if (index < server->last[arrival->sequence]) atomic_fetch_add(&server->disordered, 1);
    server->last[arrival->sequence] = (uint32_t)index + 1;
    if (mark->latency_s > server->deadline_s) atomic_fetch_add(&server->late, 1);
    atomic_fetch_add(&server->answered, 1);
}

int cy_server_ends(cy_server *server, double now_s)
{
    return now_s >= server->end_s || atomic_load(&server->late) > server->most_late ||
           atomic_load(&server->failed) > 0;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The nearest rank: so many of the arrivals took no longer. */
static double percentile(const float *sorted, uint64_t count, double part)
{
    uint64_t rank = (uint64_t)(part * (double)count);
    if ((double)rank < part * (double)count) rank++;
    return count == 0 ? 0 : sorted[rank > 0 ? rank - 1 : 0];
}

/* Counts what was due by the end, an answer that did not come with the age of its arrival. */
int cy_server_conclude(cy_server *server, double now_s, cy_trial *trial)
{
    const cy_arrivals *arrivals = server->arrivals;
    double elapsed = now_s - server->start_s, last_s = 0;
    float *latency = malloc((arrivals->count + 1) * sizeof *latency);
    if (latency == NULL) return cy_load_memory();
    for (size_t i = 0; i < arrivals->count; i++) {
        const cy_arrival *arrival = &arrivals->items[i];
        const cy_mark *mark = &server->marks[i];
        if (mark->answers == 0 && arrival->at_s > elapsed) break; /* never came */
        if (mark->answers > 0) {
            double done_s = arrival->at_s + mark->latency_s;
            if (done_s > last_s) last_s = done_s;
            trial->done++;
            trial->steps += arrival->steps;
            latency[trial->arrivals++] = mark->latency_s;
        } else {
            trial->undone++;
            latency[trial->arrivals++] = (float)(elapsed - arrival->at_s);
        }
    }
    qsort(latency, trial->arrivals, sizeof *latency, compare_floats);
    trial->p50 = percentile(latency, trial->arrivals, 0.5);
    trial->p99 = percentile(latency, trial->arrivals, 0.99);
    trial->p999 = percentile(latency, trial->arrivals, 0.999);
    free(latency);
    trial->seconds = last_s;
    trial->repeated = atomic_load(&server->repeated);
    trial->disordered = atomic_load(&server->disordered);
    trial->calls = server->calls;
    trial->rows = server->rows_called;
    trial->met = trial->undone == 0 && trial->p99 <= server->deadline_s;
    return CY_EXIT_OK;
}
