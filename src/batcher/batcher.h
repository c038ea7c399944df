/* What the files of the batcher share.
 *
 *   batcher.c       open, close, drain, statistics
 *   submit.c        submit, wait, cancel
 *   worker.c        the threads: which requests a call takes, and what becomes of them
 *   packing.c       their inputs into one packed array, the outputs back
 *   visit.c         visit and sweep
 *   members.c       the batcher's states: open, close, add
 *   finish.c        the end of a request: who is told, and who may go on
 *   room.c          who gets a place in the queue
 *   queue.c         requests on their way: entries, the queue of each state, the heap of states with work
 *   member_table.c  the states by their handles
 *   turns.c         whose a worker's session is
 *   inside.c        what may not be called from within a function that the batcher calls
 *   clock.c         what time it is
 *   histogram.c     times, and their quantiles
 *
 * Each calls only those below it.
 *
 * The batcher stands on carry.h alone: to the sessions it is a caller like any other.
 *
 * One lock guards everything but the sessions, the workers' arrays and what an entry in a call refers to. It is held for
 * bookkeeping only: no copy of data, no call of a session or of the caller's is made under it. */
#ifndef CY_BATCHER_BATCHER_H
#define CY_BATCHER_BATCHER_H

#include "base/status.h"
#include "batcher/histogram.h"

#include <carry/carry_batcher.h>
#include <pthread.h>
#include <stdbool.h>

typedef struct cy_entry cy_entry;
typedef struct cy_member cy_member;
typedef struct cy_worker cy_worker;
typedef struct cy_room_waiter cy_room_waiter;

/* A request on its way. */
struct cy_entry {
    carry_request
        request;       /* outputs: the entry's own array, one for each of the model's */
    cy_member *member; /* NULL: the entry is free */
    cy_entry *before,
        *after;      /* in the queue of its state; after: in the list of free ones too */
    uint64_t serial; /* of its ticket; moves on when the request is done */
    uint64_t turn;   /* order among all; a cut request gets a new one */
    uint64_t submitted_us, begun_us;
    uint32_t done_steps, call_steps; /* advanced so far; in the present call */
    carry_status status;             /* of the request, once it is finished */
    uint8_t epoch;                   /* for drain */
    bool begun, cancelled;
    bool finished; /* out of the queue, being told */
};

/* One of the batcher's states. */
struct cy_member {
    carry_state state;
    cy_worker *worker;
    cy_entry *first, *last; /* queue, in the order of submission */
    uint32_t entries;       /* accepted and not done, those being told included */
    uint32_t place;         /* in the worker's heap, from 1; 0: not in it */
    bool in_call, closing;
};

/* States by handle: open addressing, a power of two of places, at most half of them taken. */
typedef struct cy_member_table {
    cy_member **places;
    size_t room, count;
} cy_member_table;

struct cy_worker {
    carry_batcher *batcher;
    carry_session *session;
    pthread_t thread;
    bool started;
    uint64_t states; /* open in its session, as far as the batcher knows */

    pthread_cond_t work; /* something to do, or the end */
    pthread_cond_t session_free;
    bool session_taken; /* a call or a visit is under way */
    uint32_t visitors;  /* that wait for the session */
    uint64_t visits;    /* that are over */

    cy_member **
        heap; /* [heap_room], states with work and no call in flight, the oldest head first */
    uint32_t ready, heap_room;
    uint32_t
        unfinished; /* of the ready: their first request was cut, and has waited before */

    /* of one call, [batch_rows] and packed [batch_rows * batch_steps][width] */
    cy_entry **rows;
    carry_state *states_of_rows;
    uint64_t *offsets; /* [batch_rows + 1] */
    uint8_t *reset;
    carry_status *row_status;
    float *input;
    carry_array *outputs; /* [output_count], data: where the packed outputs go */
    float **packed;       /* [output_count] */
    void *arrays;         /* all of these, one block */
    carry_status status;  /* of the whole call */
    char sentence[256];
};

typedef struct cy_port {
    size_t width;
    bool has_time;
} cy_port;

#define CY_WAIT_BUCKETS 64

struct carry_batcher {
    carry_model *model;
    size_t in_width, ids; /* ids: 0 if inputs are numbers */
    bool whole_sequence;
    cy_port *ports; /* [output_count] */
    size_t output_count;
    carry_batcher_options options; /* in force; session is NULL */

    pthread_mutex_t lock;
    pthread_cond_t quiet; /* requests are done: what drain and closing a state wait for */
    uint32_t quiet_waiters;
    cy_room_waiter *room_waiters; /* in the order in which they came */
    uint32_t waiting;             /* how many */
    struct {
        pthread_cond_t done;
        uint32_t waiters;
    } bucket[CY_WAIT_BUCKETS]; /* of waits, by entry */

    cy_entry *entries;   /* [queue_limit] */
    carry_array *arrays; /* [queue_limit][output_count] */
    cy_entry *free_entry;
    uint32_t free_entries; /* how many */
    cy_member_table members;
    cy_worker *workers; /* [options.workers] */
    uint64_t turns;
    uint64_t outstanding[2]; /* accepted and not done, by epoch */
    uint8_t epoch;
    bool draining, closing;
    uint64_t told; /* out of the queue, and not done before everyone has been told */

    uint64_t in_flight, submitted, done, failed, cancelled, rejected, calls, rows, steps;
    uint64_t calls_of_rows[CARRY_BATCH_BUCKETS];
    cy_histogram wait_us, run_us;
};

uint64_t cy_batcher_now_us(void); /* clock.c */

/* ---- queue.c: all under the lock ------------------------------------------------------------ */

/* The entry of a ticket; *entry is NULL if its request is done. Errors: CARRY_E_ARGUMENT. */
carry_status cy_entry_find(const carry_batcher *batcher, carry_ticket ticket,
                           cy_entry **entry);

/* A request that has been checked into a free entry, which there must be, behind its state's last one; wakes the worker.
 *   *ticket  receives its ticket; may be NULL */
void cy_queue_request(cy_member *member, const carry_request *request,
                      carry_ticket *ticket);

/* Out of the queue of its state, wherever it stands; the caller finishes it. */
void cy_queue_remove(cy_entry *entry);

/* Removes what no call has taken and cancels the rest of what is in one. Returns the removed, linked by `after`;
 * *count: how many of both. */
cy_entry *cy_queue_cancel(cy_member *member, size_t *count);

/* Element `index` of the caller's array of structs, whose stride is the size they state. Errors: cy_sized_read's. */
carry_status cy_request_output(const carry_request *request, size_t index,
                               carry_array *output);

/* Puts a state with work and no call in flight where its head's turn belongs; the room is made by the state's opening. */
void cy_ready_put(cy_member *member);
cy_member *cy_ready_take(cy_worker *worker);

/* ---- member_table.c: under the lock ---------------------------------------------------------- */

/* NULL: not one of the batcher's. */
cy_member *cy_member_get(const cy_member_table *table, carry_state state);

/* For one more. Errors: CARRY_E_MEMORY. */
carry_status cy_member_make_room(cy_member_table *table);
void cy_member_put(cy_member_table *table, cy_member *member);
void cy_member_remove(cy_member_table *table, const cy_member *member);
void cy_members_free(cy_member_table *table);

/* Not one that is being closed. Errors: CARRY_E_ARGUMENT ({0}), CARRY_E_STALE. */
carry_status cy_member_find(const carry_batcher *batcher, carry_state state,
                            cy_member **member);

/* ---- turns.c --------------------------------------------------------------------------------- */

/* For a visitor: the session is the caller's until it leaves. */
void cy_worker_enter(cy_worker *worker);
void cy_worker_leave(cy_worker *worker);

/* For the worker itself, under the lock. */
void cy_worker_take_turn(cy_worker *worker);
void cy_worker_end_turn(cy_worker *worker);

/* ---- room.c: under the lock ------------------------------------------------------------------ */

/* What a request was refused for. */
typedef struct cy_room {
    carry_state state;
    uint32_t entries;      /* on their way, of the state */
    uint32_t free_entries; /* left in the queue */
} cy_room;

/* Queues the request, now or after waiting. Errors: CARRY_E_STALE, CARRY_E_ARGUMENT ({0}), CARRY_E_CANCELLED (the
 * batcher is being closed), and CARRY_E_FULL, without a sentence: cy_room_refused makes it of *room. */
carry_status cy_room_submit(carry_batcher *batcher, const carry_request *request,
                            uint32_t flags, carry_ticket *ticket, cy_room *room);

/* Not under the lock: overload is no time to hold it. Returns CARRY_E_FULL. */
carry_status cy_room_refused(const carry_batcher *batcher, const cy_room *room);

/* Entries have become free, or a state is being closed: those who wait are looked through. */
void cy_room_offer(carry_batcher *batcher);

/* Does anyone wait for room for a request of this state? */
bool cy_room_is_awaited(const carry_batcher *batcher, carry_state state);

/* ---- inside.c: about this thread, no lock ---------------------------------------------------- */

/* A function of the caller's that is being called; lives on the stack of whoever calls it. */
typedef struct cy_inside {
    const carry_batcher *batcher;
    const cy_worker *visited; /* whose session it has; NULL: none, it is an on_done */
    const struct cy_inside *around;
} cy_inside;

void cy_inside_enter(cy_inside *inside, const carry_batcher *batcher,
                     const cy_worker *visited);
void cy_inside_leave(const cy_inside *inside);

/* Errors: CARRY_E_BUSY within any function that this batcher calls. */
carry_status cy_inside_refuse(const carry_batcher *batcher, const char *function);
bool cy_inside_visit(const cy_worker *worker);

/* ---- finish.c: not under the lock ------------------------------------------------------------ */

/* Tells everyone, then gives the entries (linked by `after`) back. `sentence` is for those that failed; NULL: their
 * code's general text. */
void cy_entries_finish(carry_batcher *batcher, cy_entry *list, const char *sentence);

/* ---- members.c ------------------------------------------------------------------------------- */

/* Under the lock: no longer the batcher's, and freed. */
void cy_member_dismiss(cy_member *member);

/* ---- worker.c -------------------------------------------------------------------------------- */

carry_status cy_worker_start(cy_worker *worker);
void cy_worker_join(cy_worker *worker);

/* ---- packing.c: not under the lock ----------------------------------------------------------- */

/* The arrays of a worker's calls. */
carry_status cy_worker_arrays_open(cy_worker *worker);
void cy_worker_arrays_close(cy_worker *worker);

/* Runs the `count` rows in worker->rows: copies in, carry_run, copies out. Leaves worker->status, row_status and
 * sentence. */
void cy_worker_call(cy_worker *worker, uint32_t count);

#endif
