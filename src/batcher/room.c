/* Who gets a place in the queue. Places that become free go to those who wait for one, in the order in which they began
 * to wait, but past those whose state has as many requests as it may: so nobody who comes later, waiting or not, can take
 * what a waiting one could have had. Under the lock, but for the refusal's sentence. */
#include "batcher/batcher.h"

/* Without a state_limit a state may have as many requests on its way as there are places left. A flood of one state
 * ends when the queue is half full, one of n states when a share of n + 1 is free: for a state that has nothing queued there
 * is a place as long as there is any. (Buffer memory is shared so in switches: A. K. Choudhury and E. L. Hahne, "Dynamic
 * queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998, with
 * alpha = 1.) */
static bool may_take(const carry_batcher *batcher, const cy_member *member)
{
    uint32_t limit = batcher->options.state_limit;
    return batcher->free_entries > 0 &&
           member->entries < (limit ? limit : batcher->free_entries);
}

carry_status cy_room_refused(const carry_batcher *batcher, const cy_room *room)
{
    const carry_batcher_options *options = &batcher->options;
    unsigned long long state = (unsigned long long)room->state.id;
    CY_CHECK(room->free_entries > 0, CARRY_E_FULL,
             "%u requests are on their way, which is queue_limit", options->queue_limit);
    CY_CHECK(options->state_limit == 0, CARRY_E_FULL,
             "state %016llx has %u requests on their way, which is state_limit", state,
             room->entries);
    return cy_fail(
        CARRY_E_FULL,
        "state %016llx has %u requests on their way, and of queue_limit %u only "
        "%u places are left: they are kept for states with fewer",
        state, room->entries, options->queue_limit, room->free_entries);
}

/* What bars a request for ever: the batcher or its state is being closed. */
static carry_status find_open(const carry_batcher *batcher, carry_state state,
                              cy_member **member)
{
    /* or those who submit again whenever they are told would keep it open for ever */
    CY_CHECK(!batcher->closing, CARRY_E_CANCELLED, "the batcher is being closed");
    return cy_member_find(batcher, state, member);
}

/* A thread that waits in cy_room_submit; lives on its stack. */
struct cy_room_waiter {
    const carry_request *request;
    carry_ticket *ticket;
    bool accepted;
    pthread_cond_t changed;
    cy_room_waiter *next;
};

static void join(carry_batcher *batcher, cy_room_waiter *waiter)
{
    cy_room_waiter **end = &batcher->room_waiters;
    while (*end)
        end = &(*end)->next;
    *end = waiter;
    batcher->waiting++;
}

static void leave(carry_batcher *batcher, const cy_room_waiter *waiter)
{
    cy_room_waiter **at = &batcher->room_waiters;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    batcher->waiting--;
}

bool cy_room_is_awaited(const carry_batcher *batcher, carry_state state)
{
    const cy_room_waiter *waiter = batcher->room_waiters;
    while (waiter && waiter->request->state.id != state.id)
        waiter = waiter->next;
    return waiter != NULL;
}

void cy_room_offer(carry_batcher *batcher)
{
    for (cy_room_waiter *waiter = batcher->room_waiters, *next; waiter; waiter = next) {
        cy_member *member;
        next = waiter->next;
        if (find_open(batcher, waiter->request->state, &member) != CARRY_OK) {
            pthread_cond_signal(&waiter->changed); /* it finds out for itself */
        } else if (may_take(batcher, member)) {
            cy_queue_request(member, waiter->request, waiter->ticket);
            waiter->accepted = true;
            leave(batcher, waiter);
            pthread_cond_signal(&waiter->changed);
        }
    }
}

static carry_status wait_for_room(carry_batcher *batcher, const carry_request *request,
                                  carry_ticket *ticket)
{
    cy_room_waiter waiter = {.request = request, .ticket = ticket};
    carry_status status = CARRY_OK;
    cy_member *member;
    pthread_cond_init(&waiter.changed, NULL);
    join(batcher, &waiter);
    while (!waiter.accepted && status == CARRY_OK) {
        pthread_cond_wait(&waiter.changed, &batcher->lock);
        if (!waiter.accepted) status = find_open(batcher, request->state, &member);
    }
    if (!waiter.accepted) leave(batcher, &waiter);
    pthread_cond_destroy(&waiter.changed);
    return status;
}

carry_status cy_room_submit(carry_batcher *batcher, const carry_request *request,
                            uint32_t flags, carry_ticket *ticket, cy_room *room)
{
    cy_member *member = NULL;
    CY_TRY(find_open(batcher, request->state, &member));
    if (may_take(batcher, member)) {
        cy_queue_request(member, request, ticket);
        return CARRY_OK;
    }
    if (flags & CARRY_WAIT_FOR_ROOM) return wait_for_room(batcher, request, ticket);
    batcher->rejected++;
    *room = (cy_room){member->state, member->entries, batcher->free_entries};
    return CARRY_E_FULL;
}
