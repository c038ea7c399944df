/* Requests on their way. Each state has a queue of its own; the states that have work and no call in flight stand in
 * their worker's heap by the turn of their first request, so the one that has waited longest is on top. */
#include "base/sized.h"
#include "batcher/batcher.h"

#define INDEX_BITS 24

static carry_ticket ticket_of(const carry_batcher *batcher, const cy_entry *entry)
{
    return (carry_ticket){entry->serial << INDEX_BITS |
                          (uint64_t)(entry - batcher->entries)};
}

carry_status cy_entry_find(const carry_batcher *batcher, carry_ticket ticket,
                           cy_entry **entry)
{
    uint64_t index = ticket.id & ((1u << INDEX_BITS) - 1),
             serial = ticket.id >> INDEX_BITS;
    cy_entry *at = index < batcher->options.queue_limit ? &batcher->entries[index] : NULL;
    bool on_its_way = at && at->member && serial == at->serial;
    CY_CHECK(on_its_way || (at && serial >= 1 && serial < at->serial), CARRY_E_ARGUMENT,
             "ticket %016llx was never given out by this batcher",
             (unsigned long long)ticket.id);
    *entry = on_its_way ? at : NULL;
    return CARRY_OK;
}

/* ---- the heap of a worker ------------------------------------------------------------------- */

static bool comes_before(const cy_member *a, const cy_member *b)
{
    return a->first->turn < b->first->turn;
}

static void set_place(cy_worker *worker, uint32_t place, cy_member *member)
{
    worker->heap[place - 1] = member;
    member->place = place;
}

static void sift_up(cy_worker *worker, cy_member *member)
{
    uint32_t place = member->place;
    while (place > 1 && comes_before(member, worker->heap[place / 2 - 1])) {
        set_place(worker, place, worker->heap[place / 2 - 1]);
        place /= 2;
    }
    set_place(worker, place, member);
}

static void sift_down(cy_worker *worker, cy_member *member)
{
    uint32_t place = member->place;
    for (;;) {
        uint32_t child = 2 * place;
        if (child > worker->ready) break;
        if (child < worker->ready &&
            comes_before(worker->heap[child], worker->heap[child - 1]))
            child++;
        if (!comes_before(worker->heap[child - 1], member)) break;
        set_place(worker, place, worker->heap[child - 1]);
        place = child;
    }
    set_place(worker, place, member);
}

void cy_ready_put(cy_member *member)
{
    cy_worker *worker = member->worker;
    worker->unfinished += member->first->begun;
    set_place(worker, ++worker->ready, member);
    sift_up(worker, member);
}

static void remove_ready(cy_member *member)
{
    cy_worker *worker = member->worker;
    cy_member *last = worker->heap[--worker->ready];
    worker->unfinished -= member->first->begun;
    if (last != member) {
        set_place(worker, member->place, last);
        sift_up(worker, last);
        sift_down(worker, last);
    }
    member->place = 0;
}

cy_member *cy_ready_take(cy_worker *worker)
{
    cy_member *member = worker->heap[0];
    remove_ready(member);
    return member;
}

/* ---- the queue of a state ------------------------------------------------------------------- */

static cy_entry *take_entry(carry_batcher *batcher)
{
    cy_entry *entry = batcher->free_entry;
    batcher->free_entry = entry->after;
    batcher->free_entries--;
    entry->before = entry->after = NULL;
    entry->done_steps = entry->call_steps = 0;
    entry->begun_us = 0;
    entry->status = CARRY_OK;
    entry->begun = entry->cancelled = entry->finished = false;
    return entry;
}

carry_status cy_request_output(const carry_request *request, size_t index,
                               carry_array *output)
{
    const char *at = (const char *)request->outputs + index * request->outputs->size;
    return cy_sized_read(output, sizeof *output, at, "carry_array");
}

/* Its output structs go into the entry's own array: one for each output of the model. */
static void fill_entry(carry_batcher *batcher, cy_entry *entry,
                       const carry_request *request)
{
    carry_array *outputs =
        batcher->arrays + (size_t)(entry - batcher->entries) * batcher->output_count;
    for (size_t o = 0; o < batcher->output_count; o++) {
        outputs[o] = (carry_array){.size = sizeof(carry_array)};
        if (o < request->output_count)
            cy_request_output(request, o, &outputs[o]); /* checked before */
    }
    entry->request = *request;
    entry->request.outputs = outputs;
    entry->submitted_us = cy_batcher_now_us();
    entry->turn = ++batcher->turns;
    entry->epoch = batcher->epoch;
}

static void append(cy_member *member, cy_entry *entry)
{
    cy_worker *worker = member->worker;
    entry->member = member;
    entry->before = member->last;
    *(member->last ? &member->last->after : &member->first) = entry;
    member->last = entry;
    member->entries++;
    if (member->first == entry && !member->in_call) cy_ready_put(member);
    pthread_cond_signal(&worker->work);
}

void cy_queue_request(cy_member *member, const carry_request *request,
                      carry_ticket *ticket)
{
    carry_batcher *batcher = member->worker->batcher;
    cy_entry *entry = take_entry(batcher);
    fill_entry(batcher, entry, request);
    batcher->submitted++;
    batcher->outstanding[entry->epoch]++;
    if (ticket) *ticket = ticket_of(batcher, entry);
    append(member, entry);
}

void cy_queue_remove(cy_entry *entry)
{
    cy_member *member = entry->member;
    bool in_heap = member->place != 0;
    if (in_heap && member->first == entry) remove_ready(member);
    *(entry->before ? &entry->before->after : &member->first) = entry->after;
    *(entry->after ? &entry->after->before : &member->last) = entry->before;
    entry->before = entry->after = NULL;
    entry->finished = true;
    member->worker->batcher->told++;
    if (in_heap && member->place == 0 && member->first) cy_ready_put(member);
}

cy_entry *cy_queue_cancel(cy_member *member, size_t *count)
{
    cy_entry *list = NULL, **end = &list;
    *count = 0;
    for (cy_entry *entry = member->first, *after; entry; entry = after) {
        after = entry->after;
        ++*count;
        if (member->in_call && entry == member->first) {
            entry->cancelled = true;
            continue;
        }
        cy_queue_remove(entry);
        entry->status = CARRY_E_CANCELLED;
        *end = entry;
        end = &entry->after;
    }
    return list;
}
