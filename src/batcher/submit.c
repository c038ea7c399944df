/* Submitting, waiting, cancelling. */
#include "base/sized.h"
#include "batcher/batcher.h"

#include <string.h>

/* ---- what a request must be ----------------------------------------------------------------- */

static carry_status check_array(const carry_array *array, const char *what, size_t index,
                                carry_dtype dtype, size_t items, const char *unit,
                                size_t width)
{
    size_t needed = items * width * sizeof(float);
    CY_CHECK(array->place == CARRY_HOST || array->place == CARRY_PINNED, CARRY_E_ARGUMENT,
             "%s %zu: the batcher takes host memory only", what, index);
    CY_CHECK(array->dtype == dtype, CARRY_E_ARGUMENT, "%s %zu has dtype %d, expected %s",
             what, index, (int)array->dtype,
             dtype == CARRY_I32 ? "CARRY_I32" : "CARRY_F32");
    CY_CHECK(array->bytes >= needed, CARRY_E_CAPACITY,
             "%s %zu has %zu bytes, %zu %s of %zu numbers need %zu", what, index,
             array->bytes, items, unit, width, needed);
    CY_CHECK((uintptr_t)array->data % sizeof(float) == 0, CARRY_E_ARGUMENT,
             "%s %zu is not aligned to %zu bytes", what, index, sizeof(float));
    return CARRY_OK;
}

static carry_status check_ids(const carry_batcher *batcher, const carry_request *request)
{
    const int32_t *ids = request->input.data;
    for (uint32_t t = 0; t < request->steps; t++)
        CY_CHECK(ids[t] >= 0 && (size_t)ids[t] < batcher->ids, CARRY_E_INPUT,
                 "step %u: id %d is not in 0 .. %zu", t, ids[t], batcher->ids - 1);
    return CARRY_OK;
}

static carry_status check_input(const carry_batcher *batcher, carry_request *request)
{
    carry_array input;
    CY_TRY(cy_sized_read(&input, sizeof input, &request->input, "carry_array"));
    request->input = input;
    CY_CHECK(input.data, CARRY_E_ARGUMENT, "carry_batcher_submit: the input is NULL");
    CY_TRY(check_array(&input, "input", 0, batcher->ids ? CARRY_I32 : CARRY_F32,
                       request->steps, "steps", batcher->in_width));
    return batcher->ids ? check_ids(batcher, request) : CARRY_OK;
}

static carry_status check_output(const carry_batcher *batcher,
                                 const carry_request *request, size_t index)
{
    const cy_port *port = &batcher->ports[index];
    carry_array output;
    CY_TRY(cy_request_output(request, index, &output));
    if (!output.data) return CARRY_OK;
    CY_CHECK(port->has_time || request->mode != CARRY_STEPS_ALL, CARRY_E_ARGUMENT,
             "carry_batcher_submit: CARRY_STEPS_ALL, but output %zu has no time axis",
             index);
    bool every_step = port->has_time && request->mode != CARRY_STEPS_LAST;
    return check_array(&output, "output", index, CARRY_F32,
                       every_step ? request->steps : 1, every_step ? "steps" : "rows",
                       port->width);
}

static carry_status check_request(const carry_batcher *batcher, carry_request *request)
{
    CY_CHECK(request->steps >= 1, CARRY_E_ARGUMENT,
             "carry_batcher_submit: steps is 0; a request needs at least one");
    CY_CHECK(
        !batcher->whole_sequence || request->steps <= batcher->options.batch_steps,
        CARRY_E_UNSUPPORTED,
        "%u steps, but this whole-sequence model cannot be cut and its sessions take "
        "%u",
        request->steps, batcher->options.batch_steps);
    CY_CHECK(request->mode == CARRY_STEPS_AS_MODEL || request->mode == CARRY_STEPS_ALL ||
                 request->mode == CARRY_STEPS_LAST,
             CARRY_E_ARGUMENT, "carry_batcher_submit: mode %d is not known",
             (int)request->mode);
    CY_CHECK(request->output_count <= batcher->output_count, CARRY_E_ARGUMENT,
             "carry_batcher_submit: %zu outputs given, the model has %zu",
             request->output_count, batcher->output_count);
    CY_CHECK(request->outputs || request->output_count == 0, CARRY_E_ARGUMENT,
             "carry_batcher_submit: outputs is NULL");
    carry_result result;
    if (request->result)
        CY_TRY(cy_sized_read(&result, sizeof result, request->result, "carry_result"));
    CY_TRY(check_input(batcher, request));
    for (size_t o = 0; o < request->output_count; o++)
        CY_TRY(check_output(batcher, request, o));
    return CARRY_OK;
}

/* ---- submit --------------------------------------------------------------------------------- */

carry_status carry_batcher_submit(carry_batcher *batcher, const carry_request *request,
                                  uint32_t flags, carry_ticket *ticket)
{
    carry_request known;
    cy_room room;
    if (ticket) ticket->id = 0;
    CY_CHECK(batcher && request, CARRY_E_ARGUMENT, "carry_batcher_submit: %s is NULL",
             batcher ? "request" : "batcher");
    CY_CHECK(!(flags & ~CARRY_WAIT_FOR_ROOM), CARRY_E_ARGUMENT,
             "carry_batcher_submit: flags is %#x; CARRY_WAIT_FOR_ROOM (%#x) is the only "
             "one known",
             flags, CARRY_WAIT_FOR_ROOM);
    if (flags & CARRY_WAIT_FOR_ROOM)
        CY_TRY(
            cy_inside_refuse(batcher, "carry_batcher_submit with CARRY_WAIT_FOR_ROOM"));
    CY_TRY(cy_sized_read(&known, sizeof known, request, "carry_request"));
    CY_TRY(check_request(batcher, &known));
    pthread_mutex_lock(&batcher->lock);
    carry_status status = cy_room_submit(batcher, &known, flags, ticket, &room);
    pthread_mutex_unlock(&batcher->lock);
    return status == CARRY_E_FULL ? cy_room_refused(batcher, &room) : status;
}

/* ---- wait and cancel ------------------------------------------------------------------------ */

carry_status carry_batcher_wait(carry_batcher *batcher, carry_ticket ticket)
{
    cy_entry *entry;
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_wait: batcher is NULL");
    CY_TRY(cy_inside_refuse(batcher, "carry_batcher_wait"));
    pthread_mutex_lock(&batcher->lock);
    carry_status status = cy_entry_find(batcher, ticket, &entry);
    while (status == CARRY_OK && entry) {
        size_t bucket = (size_t)(entry - batcher->entries) % CY_WAIT_BUCKETS;
        batcher->bucket[bucket].waiters++;
        pthread_cond_wait(&batcher->bucket[bucket].done, &batcher->lock);
        batcher->bucket[bucket].waiters--;
        status = cy_entry_find(batcher, ticket, &entry);
    }
    pthread_mutex_unlock(&batcher->lock);
    return status;
}

/* Under the lock; *removed is the entry if nobody else will finish it. */
static carry_status cancel(carry_batcher *batcher, carry_ticket ticket,
                           cy_entry **removed)
{
    cy_entry *entry;
    CY_TRY(cy_entry_find(batcher, ticket, &entry));
    CY_CHECK(entry && !entry->finished, CARRY_E_STALE,
             "the request of ticket %016llx is done", (unsigned long long)ticket.id);
    if (entry->member->in_call && entry == entry->member->first) {
        entry->cancelled = true;
        return CARRY_OK;
    }
    cy_queue_remove(entry);
    entry->status = CARRY_E_CANCELLED;
    *removed = entry;
    return CARRY_OK;
}

carry_status carry_batcher_cancel(carry_batcher *batcher, carry_ticket ticket)
{
    cy_entry *removed = NULL;
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_cancel: batcher is NULL");
    pthread_mutex_lock(&batcher->lock);
    carry_status status = cancel(batcher, ticket, &removed);
    pthread_mutex_unlock(&batcher->lock);
    cy_entries_finish(batcher, removed, NULL);
    return status;
}

carry_status carry_batcher_cancel_state(carry_batcher *batcher, carry_state state,
                                        size_t *cancelled)
{
    cy_member *member = NULL;
    cy_entry *list = NULL;
    size_t count = 0;
    if (cancelled) *cancelled = 0;
    CY_CHECK(batcher, CARRY_E_ARGUMENT, "carry_batcher_cancel_state: batcher is NULL");
    pthread_mutex_lock(&batcher->lock);
    carry_status status = cy_member_find(batcher, state, &member);
    if (status == CARRY_OK) list = cy_queue_cancel(member, &count);
    pthread_mutex_unlock(&batcher->lock);
    cy_entries_finish(batcher, list, NULL);
    if (cancelled) *cancelled = count;
    return status;
}
