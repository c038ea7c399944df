/* The end of a request: everyone is told, its entry goes back, and those who waited for either go on. */
#include "base/sized.h"
#include "batcher/batcher.h"

#include <stdio.h>
#include <unistd.h>

static void tell(const carry_batcher *batcher, const cy_entry *entry,
                 const char *sentence, uint64_t now_us)
{
    const carry_request *request = &entry->request;
    carry_result result = {.size = sizeof result,
                           .status = entry->status,
                           .steps = entry->done_steps,
                           .wait_us = (entry->begun ? entry->begun_us : now_us) -
                                      entry->submitted_us,
                           .run_us = entry->begun ? now_us - entry->begun_us : 0};
    if (entry->status == CARRY_E_CANCELLED)
        snprintf(result.sentence, sizeof result.sentence,
                 "cancelled after %u of %u steps", entry->done_steps, request->steps);
    else if (entry->status != CARRY_OK)
        snprintf(result.sentence, sizeof result.sentence, "%s",
                 sentence ? sentence : carry_status_text(entry->status));
    /* its size was checked when it was submitted */
    if (request->result) cy_sized_write(request->result, &result, sizeof result, "");
    if (request->on_done) {
        cy_inside inside;
        cy_inside_enter(&inside, batcher, NULL);
        request->on_done(request->user, request->result ? request->result : &result);
        cy_inside_leave(&inside);
    }
    if (request->event_fd > 0) {
        uint64_t one = 1;
        ssize_t written = write(request->event_fd, &one, sizeof one);
        (void)written; /* full, or not an eventfd: the caller's affair */
    }
}

static void give_back(carry_batcher *batcher, cy_entry *entry, uint64_t now_us)
{
    uint64_t begun_us = entry->begun ? entry->begun_us : now_us;
    batcher->done++;
    if (entry->status == CARRY_E_CANCELLED) batcher->cancelled++;
    else if (entry->status != CARRY_OK) batcher->failed++;
    cy_histogram_add(&batcher->wait_us, begun_us - entry->submitted_us);
    if (entry->begun) cy_histogram_add(&batcher->run_us, now_us - begun_us);
    batcher->outstanding[entry->epoch]--;
    batcher->told--;
    entry->member->entries--;
    entry->member = NULL;
    entry->serial++;
    entry->after = batcher->free_entry;
    batcher->free_entry = entry;
    batcher->free_entries++;
    size_t bucket = (size_t)(entry - batcher->entries) % CY_WAIT_BUCKETS;
    if (batcher->bucket[bucket].waiters)
        pthread_cond_broadcast(&batcher->bucket[bucket].done);
}

void cy_entries_finish(carry_batcher *batcher, cy_entry *list, const char *sentence)
{
    if (!list) return;
    uint64_t now_us = cy_batcher_now_us();
    for (cy_entry *entry = list; entry; entry = entry->after)
        tell(batcher, entry, sentence, now_us);
    pthread_mutex_lock(&batcher->lock);
    while (list) {
        cy_entry *entry = list;
        list = entry->after;
        give_back(batcher, entry, now_us);
    }
    cy_room_offer(batcher);
    if (batcher->quiet_waiters) pthread_cond_broadcast(&batcher->quiet);
    pthread_mutex_unlock(&batcher->lock);
}
