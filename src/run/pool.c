#define _GNU_SOURCE /* CLOCK_MONOTONIC_COARSE */
#include "run/pool.h"

#include "base/mem.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define CHUNK_BYTES      ((uint64_t)1 << 20) /* the first memory is about this much ... */
#define MOST_CHUNK_BYTES ((uint64_t)64 << 20)
#define GROWTH           8 /* ... and more is an eighth of what is there, up to that */
#define MOST_BLOCKS      8192u
#define CHUNK_SLOTS_BITS 10
#define CHUNK_SLOTS      (1u << CHUNK_SLOTS_BITS)
#define SLOT_BITS        24
#define GENERATION_BITS  16
#define SERIAL_MASK      ((1u << 24) - 1)

struct cy_block_chunk {
    cy_block_chunk *after;
    float *memory;
    uint64_t used, count;
    cy_block blocks[];
};

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
                      .max_states = max_states ? max_states : CY_MAX_STATES};
    CY_CHECK(pool->max_states <= CY_MAX_STATES, CARRY_E_ARGUMENT,
             "max_states is %u; %u are the most", max_states, CY_MAX_STATES);
    return CARRY_OK;
}

void cy_pool_close(cy_pool *pool)
{
    for (cy_block_chunk *chunk = pool->first_chunk, *after; chunk; chunk = after) {
        after = chunk->after;
        pool->backend->memory_close(pool->device_session, chunk->memory);
        cy_free(chunk);
    }
    for (uint32_t i = 0; i < pool->slot_chunk_count; i++)
        cy_free(pool->slot_chunks[i]);
    cy_free(pool->slot_chunks);
    *pool = (cy_pool){0};
}

void cy_pool_tick(cy_pool *pool)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    pool->now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- slots ---------------------------------------------------------------------------------- */

static carry_status grow_slot_table(cy_pool *pool)
{
    uint32_t room = pool->slot_chunk_room ? 2 * pool->slot_chunk_room : 8;
    cy_slot **chunks = cy_alloc(room * sizeof(cy_slot *));
    CY_CHECK(chunks, CARRY_E_MEMORY, "out of memory: a table of %u chunks of states",
             room);
    if (pool->slot_chunks)
        memcpy(chunks, pool->slot_chunks, pool->slot_chunk_count * sizeof *chunks);
    cy_free(pool->slot_chunks);
    pool->bytes += (room - pool->slot_chunk_room) * sizeof *chunks;
    pool->slot_chunks = chunks;
    pool->slot_chunk_room = room;
    return CARRY_OK;
}

/* A slot never used before. */
static carry_status fresh_slot(cy_pool *pool, cy_slot **slot)
{
    CY_CHECK(pool->slot_count < CY_MAX_STATES, CARRY_E_FULL,
             "no handles are left: %u slots have been opened %u times each",
             CY_MAX_STATES, UINT16_MAX);
    if (pool->slot_count == pool->slot_chunk_count << CHUNK_SLOTS_BITS) {
        if (pool->slot_chunk_count == pool->slot_chunk_room)
            CY_TRY(grow_slot_table(pool));
        cy_slot *chunk = cy_alloc(CHUNK_SLOTS * sizeof *chunk);
        CY_CHECK(chunk, CARRY_E_MEMORY, "out of memory: %u more states", CHUNK_SLOTS);
        pool->bytes += CHUNK_SLOTS * sizeof *chunk;
        pool->slot_chunks[pool->slot_chunk_count++] = chunk;
    }
    *slot = cy_pool_slot(pool, pool->slot_count);
    (*slot)->index = pool->slot_count++;
    return CARRY_OK;
}

cy_slot *cy_pool_slot(const cy_pool *pool, uint32_t index)
{
    return &pool->slot_chunks[index >> CHUNK_SLOTS_BITS][index & (CHUNK_SLOTS - 1)];
}

static void unlink_slot(cy_pool *pool, cy_slot *slot)
{
    *(slot->older ? &slot->older->newer : &pool->oldest) = slot->newer;
    *(slot->newer ? &slot->newer->older : &pool->newest) = slot->older;
}

static void link_newest(cy_pool *pool, cy_slot *slot)
{
    slot->older = pool->newest;
    slot->newer = NULL;
    *(pool->newest ? &pool->newest->newer : &pool->oldest) = slot;
    pool->newest = slot;
    slot->used_run = pool->runs;
    slot->used_ms = pool->now_ms;
}

void cy_slot_use(cy_pool *pool, cy_slot *slot)
{
    unlink_slot(pool, slot);
    link_newest(pool, slot);
}

/* ---- blocks --------------------------------------------------------------------------------- */

static uint64_t block_bytes(const cy_pool *pool)
{
    return pool->state_floats * sizeof(float);
}

/* Blocks of the next chunk: two for each of at least 4 states, for no more than can ever be open. */
static uint64_t next_chunk_blocks(const cy_pool *pool)
{
    uint64_t bytes = pool->block_count * block_bytes(pool) / GROWTH;
    bytes = bytes < CHUNK_BYTES        ? CHUNK_BYTES
            : bytes > MOST_CHUNK_BYTES ? MOST_CHUNK_BYTES
                                       : bytes;
    uint64_t most = pool->block_count / GROWTH;
    if (most < MOST_BLOCKS) most = MOST_BLOCKS;
    uint64_t count = block_bytes(pool) ? bytes / block_bytes(pool) : most;
    count = count < 8 ? 8 : count > most ? most : count;
    count &= ~(uint64_t)1;
    uint64_t left = 2 * (uint64_t)pool->max_states - pool->block_count;
    return count < left ? count : left;
}

static carry_status grow_blocks(cy_pool *pool)
{
    uint64_t count = next_chunk_blocks(pool);
    uint64_t header_bytes = sizeof(cy_block_chunk) + count * sizeof(cy_block);
    uint64_t memory_bytes = count * block_bytes(pool);
    cy_block_chunk *chunk = cy_alloc(header_bytes);
    CY_CHECK(chunk, CARRY_E_MEMORY, "out of memory: %llu more states",
             (unsigned long long)count / 2);
    carry_status status =
        pool->backend->memory_open(pool->device_session, memory_bytes, &chunk->memory);
    if (status != CARRY_OK) {
        cy_free(chunk);
        return status;
    }
    chunk->count = count;
    *(pool->last_chunk ? &pool->last_chunk->after : &pool->first_chunk) = chunk;
    pool->last_chunk = chunk;
    if (!pool->filling) pool->filling = chunk;
    pool->block_count += count;
    pool->bytes += header_bytes + memory_bytes;
    return CARRY_OK;
}

/* There always is one: see pool.h. */
static cy_block *take_block(cy_pool *pool)
{
    cy_block *block = pool->free_block;
    if (block) pool->free_block = block->next_free;
    else {
        cy_block_chunk *chunk = pool->filling;
        block = &chunk->blocks[chunk->used];
        block->memory = chunk->memory + chunk->used++ * pool->state_floats;
        if (chunk->used == chunk->count) pool->filling = chunk->after;
    }
    block->references = 1;
    return block;
}

static void drop_block(cy_pool *pool, cy_block *block)
{
    if (!block || --block->references > 0) return;
    block->next_free = pool->free_block;
    pool->free_block = block;
}

/* ---- states --------------------------------------------------------------------------------- */

static carry_status take(cy_pool *pool, cy_slot **slot)
{
    uint64_t open = cy_pool_open_count(pool);
    CY_CHECK(open < pool->max_states, CARRY_E_FULL,
             "all %u states of the session are open", pool->max_states);
    if (pool->block_count < 2 * (open + 1)) CY_TRY(grow_blocks(pool));
    if (!pool->free_slot) return fresh_slot(pool, slot);
    *slot = pool->free_slot;
    pool->free_slot = (*slot)->newer;
    return CARRY_OK;
}

carry_status cy_pool_take(cy_pool *pool, cy_slot **slot)
{
    carry_status status = take(pool, slot);
    if (status != CARRY_OK) {
        pool->rejected++;
        return status;
    }
    cy_slot *taken = *slot;
    taken->generation++;
    taken->open = true;
    taken->opened = ++pool->opened;
    link_newest(pool, taken);
    return CARRY_OK;
}

void cy_pool_give(cy_pool *pool, cy_slot *slot)
{
    unlink_slot(pool, slot);
    drop_block(pool, slot->now);
    drop_block(pool, slot->next);
    slot->now = slot->next = NULL;
    slot->open = false;
    pool->closed++;
    if (slot->generation == UINT16_MAX) {
        pool->spent++;
        return;
    }
    slot->newer = pool->free_slot;
    pool->free_slot = slot;
}

void cy_pool_untake(cy_pool *pool, cy_slot *slot)
{
    cy_pool_give(pool, slot);
    pool->opened--;
    pool->closed--;
}

uint64_t cy_pool_ready_count(const cy_pool *pool)
{
    uint64_t blocks = pool->block_count / 2;
    uint64_t slots = ((uint64_t)pool->slot_chunk_count << CHUNK_SLOTS_BITS) - pool->spent;
    return (blocks < slots ? blocks : slots) - cy_pool_open_count(pool);
}

carry_state cy_pool_state(const cy_pool *pool, const cy_slot *slot)
{
    return (carry_state){(uint64_t)pool->serial << (GENERATION_BITS + SLOT_BITS) |
                         (uint64_t)slot->generation << SLOT_BITS | slot->index};
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
    CY_CHECK(index < pool->slot_count, CARRY_E_STALE, "state %016llx was never opened",
             (unsigned long long)state.id);
    cy_slot *found = cy_pool_slot(pool, index);
    CY_CHECK(found->open && found->generation == generation, CARRY_E_STALE,
             "state %016llx was closed before", (unsigned long long)state.id);
    *slot = found;
    return CARRY_OK;
}

float *cy_slot_write(cy_pool *pool, cy_slot *slot)
{
    if (!slot->next) slot->next = take_block(pool);
    return slot->next->memory;
}

void cy_slot_commit(cy_pool *pool, cy_slot *slot)
{
    drop_block(pool, slot->now);
    slot->now = slot->next;
    slot->next = NULL;
    cy_slot_use(pool, slot);
}

void cy_slot_clear(cy_pool *pool, cy_slot *slot)
{
    drop_block(pool, slot->now);
    slot->now = NULL;
    cy_slot_use(pool, slot);
}

void cy_slot_share(cy_pool *pool, cy_slot *slot, const cy_slot *source)
{
    drop_block(pool, slot->next);
    slot->next = source->now;
    if (slot->next) slot->next->references++;
}
