/* The batcher's states by their handles. */
#include "base/mem.h"
#include "batcher/batcher.h"

static size_t home_of(const cy_member_table *table, carry_state state)
{
    return (size_t)(state.id * 0x9e3779b97f4a7c15u >> 32) & (table->room - 1);
}

/* Where the state stands, or the free place where it would. */
static size_t place_of(const cy_member_table *table, carry_state state)
{
    size_t place = home_of(table, state);
    while (table->places[place] && table->places[place]->state.id != state.id)
        place = (place + 1) & (table->room - 1);
    return place;
}

cy_member *cy_member_get(const cy_member_table *table, carry_state state)
{
    return table->room ? table->places[place_of(table, state)] : NULL;
}

carry_status cy_member_make_room(cy_member_table *table)
{
    if (2 * (table->count + 1) <= table->room) return CARRY_OK;
    cy_member_table larger = {.room = table->room ? 2 * table->room : 64,
                              .count = table->count};
    larger.places = cy_alloc(larger.room * sizeof(cy_member *));
    CY_CHECK(larger.places, CARRY_E_MEMORY, "out of memory: a table of %zu states",
             larger.room);
    for (size_t i = 0; i < table->room; i++) {
        cy_member *member = table->places[i];
        if (member) larger.places[place_of(&larger, member->state)] = member;
    }
    cy_free(table->places);
    *table = larger;
    return CARRY_OK;
}

void cy_member_put(cy_member_table *table, cy_member *member)
{
    table->places[place_of(table, member->state)] = member;
    table->count++;
}

/* Those behind a freed place move up, so that no search ends too early. */
void cy_member_remove(cy_member_table *table, const cy_member *member)
{
    size_t mask = table->room - 1, hole = place_of(table, member->state);
    table->places[hole] = NULL;
    table->count--;
    for (size_t at = (hole + 1) & mask; table->places[at]; at = (at + 1) & mask) {
        size_t home = home_of(table, table->places[at]->state);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        table->places[hole] = table->places[at];
        table->places[at] = NULL;
        hole = at;
    }
}

void cy_members_free(cy_member_table *table)
{
    for (size_t i = 0; i < table->room; i++)
        cy_free(table->places[i]);
    cy_free(table->places);
}

carry_status cy_member_find(const carry_batcher *batcher, carry_state state,
                            cy_member **member)
{
    CY_CHECK(state.id != 0, CARRY_E_ARGUMENT, "the state is {0}, which is no state");
    *member = cy_member_get(&batcher->members, state);
    CY_CHECK(*member && !(*member)->closing, CARRY_E_STALE,
             "state %016llx is not, or no longer, one of this batcher's",
             (unsigned long long)state.id);
    return CARRY_OK;
}
