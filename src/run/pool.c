#include "run/pool.h"

#include "base/mem.h"

#include <stdatomic.h>
#include <string.h>

#define NONE            CY_MAX_STATES
#define CHUNK_BYTES     ((uint64_t)1 << 20) /* about this much memory at a time */
#define MAX_CHUNK_SLOTS 4096u
#define SLOT_BITS       24
#define GENERATION_BITS 16
#define SERIAL_MASK     ((1u << 24) - 1)

static uint32_t next_serial(void)
{
    static atomic_uint count;
    uint32_t serial;
    do
        serial = (atomic_fetch_add(&count, 1) + 1) & SERIAL_MASK;
    while (serial == 0);
    return serial;
}

carry_status cy_pool_open(cy_pool *pool, const cy_backend *backend, void *device_session,
                          uint64_t state_floats, uint32_t max_states)
{
    *pool = (cy_pool){.backend = backend,
                      .device_session = device_session,
                      .state_floats = state_floats,
                      .serial = next_serial(),
                      .max_states = max_states ? max_states : CY_MAX_STATES,
                      .free_slot = NONE};
    CY_CHECK(pool->max_states <= CY_MAX_STATES, CARRY_E_ARGUMENT,
             "max_states is %u; %u are the most", max_states, CY_MAX_STATES);
    uint64_t slot_bytes = 2 * state_floats * sizeof(float);
    uint64_t slots = slot_bytes ? CHUNK_BYTES / slot_bytes : MAX_CHUNK_SLOTS;
    slots = slots < 4 ? 4 : slots > MAX_CHUNK_SLOTS ? MAX_CHUNK_SLOTS : slots;
    pool->slots_per_chunk = slots < pool->max_states ? (uint32_t)slots : pool->max_states;
    return CARRY_OK;
}

void cy_pool_close(cy_pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++) {
        pool->backend->memory_close(pool->device_session, pool->chunks[i].memory);
        cy_free(pool->chunks[i].slots);
    }
    cy_free(pool->chunks);
    *pool = (cy_pool){0};
}

static uint64_t chunk_memory_bytes(const cy_pool *pool)
{
    return pool->slots_per_chunk * 2 * pool->state_floats * sizeof(float);
}

uint64_t cy_pool_bytes(const cy_pool *pool)
{
    return pool->chunk_count *
           (chunk_memory_bytes(pool) + pool->slots_per_chunk * sizeof(cy_slot));
}

static carry_status grow_table(cy_pool *pool)
{
    uint32_t capacity = pool->chunk_capacity ? 2 * pool->chunk_capacity : 8;
    struct cy_pool_chunk *chunks = cy_alloc(capacity * sizeof *chunks);
    CY_CHECK(chunks, CARRY_E_MEMORY, "out of memory: a table of %u chunks of states",
             capacity);
    if (pool->chunks) memcpy(chunks, pool->chunks, pool->chunk_count * sizeof *chunks);
    cy_free(pool->chunks);
    pool->chunks = chunks;
    pool->chunk_capacity = capacity;
    return CARRY_OK;
}

static carry_status grow(cy_pool *pool)
{
    uint32_t begin = pool->chunk_count * pool->slots_per_chunk;
    uint32_t count = pool->slots_per_chunk;
    CY_CHECK(begin < pool->max_states, CARRY_E_FULL,
             "all %u states of the session are open", pool->max_states);
    if (count > pool->max_states - begin) count = pool->max_states - begin;
    if (pool->chunk_count == pool->chunk_capacity) CY_TRY(grow_table(pool));

    struct cy_pool_chunk chunk = {.slots = cy_alloc(count * sizeof *chunk.slots)};
    CY_CHECK(chunk.slots, CARRY_E_MEMORY, "out of memory: %u more states", count);
    carry_status status = pool->backend->memory_open(
        pool->device_session, chunk_memory_bytes(pool), &chunk.memory);
    if (status != CARRY_OK) {
        cy_free(chunk.slots);
        return status;
    }
    for (uint32_t i = count; i-- > 0;) { /* backwards: the lowest slot is taken first */
        chunk.slots[i].memory = chunk.memory + i * 2 * pool->state_floats;
        chunk.slots[i].next_free = pool->free_slot;
        pool->free_slot = begin + i;
    }
    pool->chunks[pool->chunk_count++] = chunk;
    return CARRY_OK;
}

static cy_slot *slot_at(const cy_pool *pool, uint32_t index)
{
    return &pool->chunks[index / pool->slots_per_chunk]
                .slots[index % pool->slots_per_chunk];
}

carry_status cy_pool_take(cy_pool *pool, carry_state *state, cy_slot **slot)
{
    if (pool->free_slot == NONE) CY_TRY(grow(pool));
    uint32_t index = pool->free_slot;
    cy_slot *taken = slot_at(pool, index);
    pool->free_slot = taken->next_free;
    pool->open_count++;
    taken->generation++;
    taken->open = taken->zero = true;
    taken->version = 0;
    state->id = (uint64_t)pool->serial << (GENERATION_BITS + SLOT_BITS) |
                (uint64_t)taken->generation << SLOT_BITS | index;
    *slot = taken;
    return CARRY_OK;
}

void cy_pool_give(cy_pool *pool, carry_state state, cy_slot *slot)
{
    slot->open = false;
    pool->open_count--;
    if (slot->generation == UINT16_MAX) return; /* no handle left for it */
    slot->next_free = pool->free_slot;
    pool->free_slot = (uint32_t)(state.id & ((1u << SLOT_BITS) - 1));
}

carry_status cy_pool_find(const cy_pool *pool, carry_state state, cy_slot **slot)
{
    uint32_t index = (uint32_t)(state.id & ((1u << SLOT_BITS) - 1));
    uint16_t generation = (uint16_t)(state.id >> SLOT_BITS);
    uint32_t serial = (uint32_t)(state.id >> (SLOT_BITS + GENERATION_BITS));
    CY_CHECK(state.id != 0, CARRY_E_ARGUMENT, "the state is {0}, which is no state");
    CY_CHECK(serial == pool->serial, CARRY_E_FOREIGN,
             "state %016llx belongs to session %u, this is session %u",
             (unsigned long long)state.id, serial, pool->serial);
    CY_CHECK(
        index / pool->slots_per_chunk < pool->chunk_count && index < pool->max_states,
        CARRY_E_STALE, "state %016llx was never opened", (unsigned long long)state.id);
    cy_slot *found = slot_at(pool, index);
    CY_CHECK(found->open && found->generation == generation, CARRY_E_STALE,
             "state %016llx was closed before", (unsigned long long)state.id);
    *slot = found;
    return CARRY_OK;
}
