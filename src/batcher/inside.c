/* Where this thread is: inside a function of the caller's that the batcher is calling, perhaps several deep (an on_done
 * that cancels, and so is called within a visit). What would wait there for the end of that very function is refused. */
#include "batcher/batcher.h"

static _Thread_local const cy_inside *innermost;

void cy_inside_enter(cy_inside *inside, const carry_batcher *batcher,
                     const cy_worker *visited)
{
    *inside = (cy_inside){.batcher = batcher, .visited = visited, .around = innermost};
    innermost = inside;
}

void cy_inside_leave(const cy_inside *inside)
{
    innermost = inside->around;
}

carry_status cy_inside_refuse(const carry_batcher *batcher, const char *function)
{
    for (const cy_inside *at = innermost; at; at = at->around)
        CY_CHECK(at->batcher != batcher, CARRY_E_BUSY,
                 "%s from within %s of the same batcher would wait for itself", function,
                 at->visited ? "a visit or a sweep" : "an on_done");
    return CARRY_OK;
}

bool cy_inside_visit(const cy_worker *worker)
{
    for (const cy_inside *at = innermost; at; at = at->around)
        if (at->visited == worker) return true;
    return false;
}
