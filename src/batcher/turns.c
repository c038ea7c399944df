/* Whose a worker's session is: its own, for a call, or a visitor's (states being opened and closed, carry_batcher_visit),
 * who come between two calls. */
#include "batcher/batcher.h"

void cy_worker_enter(cy_worker *worker)
{
    pthread_mutex_t *lock = &worker->batcher->lock;
    pthread_mutex_lock(lock);
    worker->visitors++;
    while (worker->session_taken)
        pthread_cond_wait(&worker->session_free, lock);
    worker->visitors--;
    worker->session_taken = true;
    pthread_mutex_unlock(lock);
}

void cy_worker_leave(cy_worker *worker)
{
    pthread_mutex_lock(&worker->batcher->lock);
    worker->session_taken = false;
    worker->visits++;
    pthread_cond_broadcast(&worker->session_free);
    pthread_mutex_unlock(&worker->batcher->lock);
}

/* Whoever waited for the session before this call goes first; whoever comes later does not, so neither
 * side can keep the other out. */
void cy_worker_take_turn(cy_worker *worker)
{
    uint64_t until = worker->visits + worker->visitors + worker->session_taken;
    while (worker->session_taken || (worker->visits < until && worker->visitors > 0))
        pthread_cond_wait(&worker->session_free, &worker->batcher->lock);
    worker->session_taken = true;
}

void cy_worker_end_turn(cy_worker *worker)
{
    worker->session_taken = false;
    if (worker->visitors) pthread_cond_broadcast(&worker->session_free);
}
