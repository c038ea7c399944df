/* carry_batcher: many threads, many sequences, one batch.
 *
 * Any number of threads submit requests: a state, some steps, an input, where to write the outputs, whom to
 * tell. Worker threads, one session each, gather whatever is ready into one carry_run after the other. A state
 * is opened through the batcher, lives in one worker's session, and its requests run there in the order of
 * their submission.
 *
 *     carry_batcher_open(&batcher, model, NULL);
 *     carry_batcher_state_open(batcher, &state);
 *     carry_request request = {.size = sizeof request, .state = state, .steps = 1,
 *                              .input = {.size = sizeof(carry_array), .data = x, .bytes = sizeof x},
 *                              .outputs = &out, .output_count = 1, .result = &result};
 *     carry_batcher_submit(batcher, &request, 0, &ticket);
 *     carry_batcher_wait(batcher, ticket);
 *     if (result.status != CARRY_OK) puts(result.sentence);
 *
 * How a batch is formed: the states with work, the one whose head request has waited longest first, at most
 * batch_rows of them and at most batch_steps steps of each. A longer request is cut; what is left of it queues
 * again at the back, so that long requests do not hold up short ones. One call in flight per state. A worker that
 * has fewer than batch_rows waits up to max_delay_us, counted from the oldest submission, for company, unless the queue is
 * full; the rest of a cut request does not wait again.
 *
 * Bits. What a request gives does not depend on its company: as for carry_run, always on the CPU, on CUDA with
 * the session option exact.
 *
 * Bounds. Everything is allocated by carry_batcher_open and, for a state, by carry_batcher_state_open; submit
 * never allocates and, unless asked to, never blocks: when queue_limit requests are on their way it returns
 * CARRY_E_FULL, and so it does when one state has as many as it may: state_limit, or by default as many as there are
 * places left. So a flood of one state ends when the queue is half full, one of n states when it is full but for a share
 * of n + 1, and a state with nothing queued is refused only when no place is left at all. Those who wait for room get it in
 * the order in which they began to wait, before anyone who comes later; only a state that has all it may is passed over.
 *
 * Threads. All functions may be called from any thread at once, but for open and close. From on_done: submit
 * (without CARRY_WAIT_FOR_ROOM), cancel, cancel_state, state_worker and get_info alone; from within a visit, or the
 * function of a sweep, also state_add. The others would wait for themselves: there they do nothing, and give CARRY_E_BUSY.
 *
 * Everything else as in carry.h: errors, structs with size. A handle that is not, or no longer, one of the batcher's gives
 * CARRY_E_STALE.
 */
#ifndef CARRY_CARRY_BATCHER_H
#define CARRY_CARRY_BATCHER_H

#include <carry/carry.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct carry_batcher carry_batcher;

typedef struct carry_batcher_options {
    size_t size;
    uint32_t workers; /* threads with a session each, 1 to 256; 0: 1 */
    uint32_t
        batch_rows; /* rows of a call; 0: max_rows of the sessions, which is also the most */
    uint32_t
        batch_steps; /* steps of a row in a call; 0: 64. Whole-sequence models cannot be cut: max_steps of
                             the sessions is in force, and longer requests are refused */
    uint32_t max_delay_us; /* how long a request waits for company; 0: not at all */
    uint32_t queue_limit;  /* requests accepted and not done, over all states; 0: 65536 */
    uint32_t state_limit;  /* of one state; 0: as many as there are places left */
    const carry_session_options *
        session; /* of every worker's session; NULL: defaults. threads 0: what the machine allows, shared out.
                    max_states is of each session; cuda_stream must be NULL with more than one worker */
} carry_batcher_options;

/* Opens the workers' sessions and starts their threads; holds the model. Errors: E_ARGUMENT, E_MEMORY, and those
 * of carry_session_open; *batcher is then NULL. */
CARRY_API carry_status carry_batcher_open(carry_batcher **batcher, carry_model *model,
                                          const carry_batcher_options *options);

/* Cancels what has not begun (CARRY_E_CANCELLED), finishes the calls in flight, ends the threads, closes all
 * states, sets *batcher to NULL. carry_batcher_drain first to lose nothing. No other call on the batcher may be
 * under way; from within on_done, a visit or a sweep it does nothing, and *batcher stays. NULL or *batcher == NULL
 * is fine. */
CARRY_API void carry_batcher_close(carry_batcher **batcher);

/* Opens a state of zeros in the session with the fewest open states; may wait for that session's present call.
 * Errors: E_ARGUMENT, E_FULL (all sessions), E_MEMORY, E_DEVICE, E_BUSY; *state is then {0}. */
CARRY_API carry_status carry_batcher_state_open(carry_batcher *batcher,
                                                carry_state *state);

/* Cancels what is queued for the state, waits for its call in flight, closes it and sets *state to {0}; {0} is
 * fine. Errors: E_ARGUMENT, E_STALE, E_BUSY. */
CARRY_API carry_status carry_batcher_state_close(carry_batcher *batcher,
                                                 carry_state *state);

/* What became of a request. */
typedef struct carry_result {
    size_t size;
    carry_status status;
    uint32_t
        steps; /* by which the state has advanced for it; all of them if status is CARRY_OK */
    uint64_t wait_us;   /* from submission to its first call */
    uint64_t run_us;    /* in calls, and between them if it was cut */
    char sentence[256]; /* "" if status is CARRY_OK */
} carry_result;

typedef struct carry_request {
    size_t size;
    carry_state state; /* of carry_batcher_state_open */
    uint32_t steps;    /* at least 1 */
    uint32_t reset;    /* not 0: from zeros */
    carry_array input; /* [steps, I], or ids [steps]; place CARRY_HOST or CARRY_PINNED */
    const carry_array *
        outputs; /* [output_count], as for a batch of one row: [steps, W], or [W]; data NULL: not wanted */
    size_t output_count;
    carry_mode mode;
    carry_result *result; /* filled before anyone is told; NULL: not wanted */
    void (*on_done)(
        void *user,
        const carry_result *
            result); /* on the worker's thread (or the thread that cancels); must be short;
                                        may submit and cancel; until it returns the request
                                        counts in the limits, and *result lives. NULL: none */
    void *user;
    int event_fd; /* an eventfd to which 1 is added; 0: none */
} carry_request;

/* A request on its way: never reused, so that an old ticket is known to be done. */
typedef struct carry_ticket {
    uint64_t id;
} carry_ticket;

/* carry_batcher_submit's flags */
#define CARRY_WAIT_FOR_ROOM 1u /* block while there is no room, instead of CARRY_E_FULL */

/* Queues a request and returns. The request itself and its array structs are copied; the arrays' data, and
 * *result, stay the caller's, valid and untouched until the request is done.
 *   *ticket  receives the request's; may be NULL
 * Done is told in this order: result filled, on_done, event_fd, then wait returns. Errors (nothing is queued,
 * nobody is told): E_ARGUMENT, E_CAPACITY, E_INPUT (ids), E_STALE, E_FULL, E_UNSUPPORTED (more steps than a
 * whole-sequence model takes), E_CANCELLED (from an on_done while carry_batcher_close is under way), E_BUSY
 * (CARRY_WAIT_FOR_ROOM alone). */
CARRY_API carry_status carry_batcher_submit(carry_batcher *batcher,
                                            const carry_request *request, uint32_t flags,
                                            carry_ticket *ticket);

/* Returns when the request is done, at once if it is long done; what became of it is in its result.
 * Errors: E_ARGUMENT (never given out), E_BUSY. */
CARRY_API carry_status carry_batcher_wait(carry_batcher *batcher, carry_ticket ticket);

/* A request that no call has taken yet is done now, CARRY_E_CANCELLED; of one in a call, the rest is dropped after
 * that call, and it is CARRY_E_CANCELLED if there was a rest. Who cancels within an on_done tells within it: a chain in
 * which each on_done cancels the next request is as deep as it is long. Errors: E_ARGUMENT, E_STALE (done already). */
CARRY_API carry_status carry_batcher_cancel(carry_batcher *batcher, carry_ticket ticket);

/* The same for all requests of a state. *cancelled receives how many; may be NULL. Errors: E_ARGUMENT, E_STALE. */
CARRY_API carry_status carry_batcher_cancel_state(carry_batcher *batcher,
                                                  carry_state state, size_t *cancelled);

/* Returns when everything submitted before is done. Errors: E_ARGUMENT, E_BUSY. */
CARRY_API carry_status carry_batcher_drain(carry_batcher *batcher);

/* Calls visit(user, session) on this thread between two calls of worker `worker`: to save, restore, read, fork,
 * load or look. The batcher's states must not be closed inside (carry_batcher_state_close and carry_batcher_sweep do
 * that); a state opened inside becomes the batcher's by carry_batcher_state_add, and stays the visitor's without: no
 * sweep closes it. Returns what visit returns. Errors: E_ARGUMENT, E_BUSY. */
CARRY_API carry_status carry_batcher_visit(carry_batcher *batcher, size_t worker,
                                           carry_status (*visit)(void *user,
                                                                 carry_session *session),
                                           void *user);

/* Lets requests be submitted for a state that was opened in a visit of worker `worker`; called within such a visit.
 * Errors: E_ARGUMENT (no such worker, no visit of it, or the state is the batcher's already), E_STALE and E_FOREIGN
 * (no state of its session), E_MEMORY. */
CARRY_API carry_status carry_batcher_state_add(carry_batcher *batcher, size_t worker,
                                               carry_state state);

/* carry_session_sweep of every worker's session: closes idle states, but none that has requests on their way or
 * waiting for room. on_idle is called as in a visit; idle_calls counts the calls of the state's worker. *swept receives
 * how many, on failure too; may be NULL. Errors: as carry_session_sweep (E_DEVICE: a session is dead; the others are
 * swept); E_BUSY. */
CARRY_API carry_status carry_batcher_sweep(carry_batcher *batcher,
                                           const carry_sweep_options *options,
                                           size_t *swept);

/* The worker whose session has the state. Errors: E_ARGUMENT, E_STALE. */
CARRY_API carry_status carry_batcher_state_worker(carry_batcher *batcher,
                                                  carry_state state, size_t *worker);

#define CARRY_BATCH_BUCKETS 24

typedef struct carry_batcher_info {
    size_t size;
    uint32_t workers, batch_rows, batch_steps, max_delay_us, queue_limit;
    uint32_t state_limit; /* 0: as many as there are places left */
    uint64_t states;      /* open */
    uint64_t queued;      /* requests that wait now */
    uint64_t in_flight;   /* requests in a call now */
    uint64_t waiting;     /* threads that wait for room now, CARRY_WAIT_FOR_ROOM */
    uint64_t submitted, done, failed,
        cancelled;               /* ever; done includes failed and cancelled */
    uint64_t rejected;           /* E_FULL */
    uint64_t calls, rows, steps; /* of carry_run, ever */
    uint64_t calls_of_rows[CARRY_BATCH_BUCKETS]; /* calls of 2^i .. 2^(i+1) - 1 rows */
    /* of requests since open, from histograms with steps of at most 1/16; microseconds */
    uint64_t wait_us_p50, wait_us_p99, wait_us_p999;
    uint64_t run_us_p50, run_us_p99, run_us_p999;
} carry_batcher_info;

/* Errors: E_ARGUMENT; *info is then as it was. */
CARRY_API carry_status carry_batcher_get_info(carry_batcher *batcher,
                                              carry_batcher_info *info);

#ifdef __cplusplus
}
#endif

#endif
