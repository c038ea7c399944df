/* The pool: slots for states, over blocks of memory that hold them.
 *
 * A slot is a state's place: what a handle names. A block is one version of a state's values in the backend's
 * memory. A slot refers to the block that counts, and a call writes to another one; committing is a change of
 * reference on the host. So several slots can refer to one block: a fork copies nothing, and neither does a
 * reorder. A slot without a block reads as zeros.
 *
 * There are two blocks for each open slot, so a call always finds one to write to: each slot holds at most one
 * and writes at most one more. Neither slots nor blocks ever move. Open slots are linked in the order of their
 * last use, which makes finding the idle ones cheap.
 *
 * Handle: session serial (24 bits) | generation of the slot (16) | slot (24). A slot whose generations are used up
 * is not opened again, so a stale handle can never match; its blocks are not lost with it. */
#ifndef CY_RUN_POOL_H
#define CY_RUN_POOL_H

#include "backend.h"

#define CY_MAX_STATES ((1u << 24) - 1)

typedef struct cy_block {
    float *memory; /* [pool->state_floats] */
    struct cy_block *next_free;
    uint32_t references; /* 0: free */
} cy_block;

typedef struct cy_slot {
    cy_block *now;  /* the version that counts; NULL: zeros */
    cy_block *next; /* the version that is being written, or NULL */
    struct cy_slot *older,
        *newer;        /* by last use; while free, newer is the next free one */
    uint64_t mark;     /* the last call that saw this slot: finds a state given twice */
    uint64_t used_run; /* pool->runs and pool->now_ms at its last use */
    uint64_t used_ms;
    uint64_t opened; /* pool->opened at its opening */
    uint32_t index;
    uint16_t generation; /* 0: never opened */
    bool open;
} cy_slot;

typedef struct cy_block_chunk cy_block_chunk;

typedef struct cy_pool {
    const cy_backend *backend;
    void *device_session;
    uint64_t state_floats; /* one version */
    uint32_t serial;       /* the session's, 1 .. 2^24 - 1 */
    uint32_t max_states;

    cy_slot **slot_chunks;                      /* [slot_chunk_count] */
    uint32_t slot_chunk_count, slot_chunk_room; /* room: of the array */
    uint32_t slot_count;                        /* slots that were ever used */
    uint32_t spent; /* slots that have no handle left: closed, and never opened again */
    cy_slot *free_slot;
    cy_slot *oldest, *newest; /* open slots, by last use */

    cy_block_chunk *first_chunk, *last_chunk;
    cy_block_chunk *filling; /* the first with blocks that were never used */
    uint64_t block_count;
    cy_block *free_block;
    uint64_t bytes;

    uint64_t call;   /* serial of calls that mark slots */
    uint64_t runs;   /* of carry_run */
    uint64_t now_ms; /* a monotonic clock at the last cy_pool_tick */
    uint64_t opened, closed, swept, rejected;
} cy_pool;

carry_status cy_pool_open(cy_pool *pool, const cy_backend *backend, void *device_session,
                          uint64_t state_floats, uint32_t max_states);
void cy_pool_close(cy_pool *pool);

static inline uint64_t cy_pool_open_count(const cy_pool *pool)
{
    return pool->opened - pool->closed;
}

/* How many more states can be opened without taking memory. */
uint64_t cy_pool_ready_count(const cy_pool *pool);

/* Looks at the clock: before slots are used. */
void cy_pool_tick(cy_pool *pool);

/* A free slot, opened as zeros and just used; the only function that grows the pool. */
carry_status cy_pool_take(cy_pool *pool, cy_slot **slot);
void cy_pool_give(cy_pool *pool, cy_slot *slot);

/* Gives back what was taken for something that then failed: the statistics have not seen it. Only the last one taken. */
void cy_pool_untake(cy_pool *pool, cy_slot *slot);

carry_state cy_pool_state(const cy_pool *pool, const cy_slot *slot);

/* The slot of a handle. Errors: CARRY_E_ARGUMENT, CARRY_E_STALE, CARRY_E_FOREIGN. */
carry_status cy_pool_find(const cy_pool *pool, carry_state state, cy_slot **slot);

/* Slot `index` of 0 .. pool->slot_count - 1, open or not. */
cy_slot *cy_pool_slot(const cy_pool *pool, uint32_t index);

/* The values that count; NULL: zeros. */
static inline const float *cy_slot_read(const cy_slot *slot)
{
    return slot->now ? slot->now->memory : NULL;
}

/* Where to write the next version. Asked again before a commit, it is the same place: a call that fails has
 * nothing to undo. */
float *cy_slot_write(cy_pool *pool, cy_slot *slot);

/* What cy_slot_write gave counts from now on. */
void cy_slot_commit(cy_pool *pool, cy_slot *slot);

/* Makes the slot the one used last. */
void cy_slot_use(cy_pool *pool, cy_slot *slot);

/* From now on the slot reads as zeros. */
void cy_slot_clear(cy_pool *pool, cy_slot *slot);

/* The next version is what counts in `source` now; cy_slot_commit as after writing. */
void cy_slot_share(cy_pool *pool, cy_slot *slot, const cy_slot *source);

#endif
