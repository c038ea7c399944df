/* The pool: slots for states, in chunks whose addresses never move.
 *
 * A slot holds two versions of a state; a call reads one and writes the other, and committing is a flip
 * of `version` on the host. A fresh or reset slot reads as zeros without being written (`zero`).
 *
 * Handle: session serial (24 bits) | generation of the slot (16) | slot (24). A slot whose generations
 * are used up is not opened again, so a stale handle can never match. */
#ifndef CY_RUN_POOL_H
#define CY_RUN_POOL_H

#include "backend.h"

#define CY_MAX_STATES ((1u << 24) - 1)

typedef struct cy_slot {
    uint64_t mark; /* the last call that saw this slot: finds a state given twice */
    float *memory; /* two versions, each pool->state_floats */
    uint32_t next_free;
    uint16_t generation; /* 0: never opened */
    uint8_t version;     /* 0 or 1: the one that counts */
    bool open;
    bool zero; /* reads as zeros, whatever the memory holds */
} cy_slot;

typedef struct cy_pool {
    const cy_backend *backend;
    void *device_session;
    uint64_t state_floats; /* one version */
    uint32_t serial;       /* the session's, 1 .. 2^24 - 1 */
    uint32_t max_states;
    uint32_t slots_per_chunk;
    uint32_t chunk_count, chunk_capacity;
    struct cy_pool_chunk {
        cy_slot *slots;
        float *memory;
    } * chunks;
    uint32_t free_slot; /* head of the list of free slots; CY_MAX_STATES: empty */
    uint32_t open_count;
    uint64_t call; /* serial of calls that mark slots */
} cy_pool;

carry_status cy_pool_open(cy_pool *pool, const cy_backend *backend, void *device_session,
                          uint64_t state_floats, uint32_t max_states);
void cy_pool_close(cy_pool *pool);
uint64_t cy_pool_bytes(const cy_pool *pool);

/* A free slot, opened as zeros; the only function that grows the pool. */
carry_status cy_pool_take(cy_pool *pool, carry_state *state, cy_slot **slot);
void cy_pool_give(cy_pool *pool, carry_state state, cy_slot *slot);

/* The slot of a handle. Errors: CARRY_E_STALE, CARRY_E_FOREIGN. */
carry_status cy_pool_find(const cy_pool *pool, carry_state state, cy_slot **slot);

static inline const float *cy_slot_read(const cy_pool *pool, const cy_slot *slot)
{
    return slot->zero ? NULL : slot->memory + slot->version * pool->state_floats;
}

static inline float *cy_slot_write(const cy_pool *pool, const cy_slot *slot)
{
    return slot->memory + !slot->version * pool->state_floats;
}

static inline void cy_slot_commit(cy_slot *slot)
{
    slot->version = !slot->version;
    slot->zero = false;
}

#endif
