/* How `carry run` sees its input and cuts its work. */
#include "run_plan.h"

#include <inttypes.h>
#include <stdio.h>

/* Arrays of one call: large enough that a call's fixed cost is nothing, small beside any memory. */
#define CALL_BYTES ((uint64_t)16 << 20)
/* Multiplications of one call: well below a second of work, so that the progress bar moves. */
#define CALL_PRODUCTS ((uint64_t)1 << 33)
/* Rows that keep the kernels and threads busy; with fewer, longer pieces are better than more rows. */
#define BUSY_ROWS 256

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

const char *cy_run_view(const uint64_t *shape, int rank, cy_run_input input,
                        cy_npy_view *view, char *why, size_t why_bytes)
{
    int flat = input.ids || input.width == 1; /* a step needs no axis of its own */
    *view = (cy_npy_view){1, 0, input.width};
    if (rank == 3 && shape[2] == input.width)
        view->rows = shape[0], view->steps = shape[1];
    else if (rank == 2 && flat) view->rows = shape[0], view->steps = shape[1];
    else if (rank == 2 && shape[1] == input.width) view->steps = shape[0];
    else if (rank == 1 && flat) view->steps = shape[0];
    else {
        char text[CY_SHAPE_TEXT];
        cy_shape_text(text, shape, rank);
        if (input.ids)
            snprintf(why, why_bytes,
                     "is %s; the model takes ids, [rows, steps], or [steps] for one row",
                     text);
        else if (flat)
            snprintf(why, why_bytes,
                     "is %s; the model takes one feature, [rows, steps] or [rows, steps, "
                     "1], or "
                     "[steps] for one row",
                     text);
        else
            snprintf(why, why_bytes,
                     "is %s; the model takes %" PRIu64 " features, [rows, steps, %" PRIu64
                     "], or [steps, %" PRIu64 "] for one row",
                     text, input.width, input.width, input.width);
        return why;
    }
    if (view->rows == 0 || view->steps == 0) {
        char text[CY_SHAPE_TEXT];
        snprintf(why, why_bytes, "is %s: there are no %s",
                 cy_shape_text(text, shape, rank),
                 view->rows == 0 ? "rows" : "time steps");
        return why;
    }
    return NULL;
}

cy_run_block cy_run_plan(const cy_run_work *work)
{
    uint64_t by_memory = CALL_BYTES / most(work->step_bytes, 1);
    uint64_t by_work = CALL_PRODUCTS / most(work->parameters, 1);
    uint64_t row_steps = most(least(by_memory, most(by_work, BUSY_ROWS)), 1);
    uint64_t longest = least(work->steps, work->chunk);

    if (work->whole_sequence)
        return (cy_run_block){(size_t)least(work->rows, most(row_steps / work->steps, 1)),
                              (size_t)work->steps};
    if (work->in_order && (longest < work->steps || row_steps < work->steps))
        return (cy_run_block){1, (size_t)least(longest, row_steps)};

    /* Rows that wait for their next call keep a state each. */
    uint64_t by_state = most(CALL_BYTES / most(work->state_bytes, 1), BUSY_ROWS);
    uint64_t together = longest < work->steps ? least(work->rows, by_state) : work->rows;
    /* Whole rows, as many as fit; or, when that is too few of them, a part of each. */
    uint64_t rows = least(together, BUSY_ROWS);
    if (work->in_order || row_steps / longest >= rows)
        return (cy_run_block){(size_t)least(together, most(row_steps / longest, 1)),
                              (size_t)longest};
    if (work->rows_first)
        rows = most(least(least(work->rows, by_state), row_steps), rows);
    return (cy_run_block){(size_t)rows,
                          (size_t)least(longest, most(row_steps / rows, 1))};
}
