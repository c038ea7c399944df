/* The operations: each one on the session, and on what its states must hold. */
#include "mailbox.h"
#include "model_builder.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 24, MOST_STEPS = 5, MOST_FORKS = 6, MOST_SAVED = 12 };

/* `wanted` different sequences, or as many as there are, moved to the front of the list; how many. */
static size_t choose(world *w, size_t wanted)
{
    if (wanted > w->count) wanted = w->count;
    for (size_t i = 0; i < wanted; i++) {
        size_t at = i + pick(w, w->count - i);
        sequence swap = w->open[i];
        w->open[i] = w->open[at];
        w->open[at] = swap;
    }
    return wanted;
}

static void states_of(const world *w, carry_state *states, size_t count)
{
    for (size_t i = 0; i < count; i++)
        states[i] = w->open[i].state;
}

static carry_state any_stale(world *w)
{
    size_t count = w->stale_count < STALE ? w->stale_count : STALE;
    return count ? w->stale[pick(w, count)] : (carry_state){0};
}

/* ---- run ------------------------------------------------------------------------------------ */

typedef struct row {
    sequence *s; /* NULL: from zeros, not kept */
    carry_state state;
    carry_status expected;
    uint32_t span, steps;
    uint8_t reset;
    size_t first; /* of its steps in the arrays */
} row;

typedef struct call {
    row rows[MOST_ROWS];
    size_t count, longest, all_steps;
    bool packed, with_status, with_steps;
    carry_mode mode;
    float x[MOST_ROWS * MOST_STEPS * 16], y[MOST_ROWS * MOST_STEPS * 16];
} call;

static void make_row(world *w, call *c, row *r, sequence *s)
{
    *r = (row){.s = s, .state = s ? s->state : (carry_state){0}};
    r->span = c->packed ? (uint32_t)pick(w, MOST_STEPS + 1) : (uint32_t)c->longest;
    r->steps = c->with_steps ? (uint32_t)pick(w, r->span + 1) : r->span;
    r->reset = pick(w, 8) == 0;
    if (!c->with_status || pick(w, 6) > 0) return;
    switch (pick(w, 3)) { /* a row that is refused */
    case 0:
        r->state = any_stale(w);
        if (r->state.id) r->expected = CARRY_E_STALE;
        r->s = NULL;
        break;
    case 1:
        r->state = w->plain_state;
        r->expected = CARRY_E_FOREIGN;
        r->s = NULL;
        break;
    default:
        if (!c->with_steps) return;
        r->steps = r->span + 1;
        r->expected = CARRY_E_ARGUMENT;
    }
}

static void make_call(world *w, call *c)
{
    c->packed = pick(w, 2);
    c->with_status = pick(w, 3) == 0;
    c->with_steps = pick(w, 2);
    c->mode = pick(w, 4) == 0 ? CARRY_STEPS_LAST : CARRY_STEPS_AS_MODEL;
    c->longest = 1 + pick(w, MOST_STEPS);
    size_t chosen = choose(w, 1 + pick(w, MOST_ROWS));
    c->count = chosen ? chosen : 1;
    c->all_steps = 0;
    for (size_t i = 0; i < c->count; i++) {
        bool stateless = i >= chosen || pick(w, 20) == 0;
        make_row(w, c, &c->rows[i], stateless ? NULL : &w->open[i]);
        c->rows[i].first = c->all_steps;
        c->all_steps += c->rows[i].span;
    }
    int32_t *ids = (int32_t *)(void *)c->x;
    for (size_t i = 0; i < c->all_steps * w->in; i++)
        if (w->ids) ids[i] = (int32_t)pick(w, w->ids);
        else c->x[i] = number(w);
    memset(c->y, 0x7f, sizeof c->y);
}

static carry_status run(world *w, call *c, carry_status *row_status)
{
    carry_state states[MOST_ROWS];
    uint32_t steps[MOST_ROWS];
    uint8_t reset[MOST_ROWS];
    uint64_t offsets[MOST_ROWS + 1] = {0};
    for (size_t i = 0; i < c->count; i++) {
        states[i] = c->rows[i].state;
        steps[i] = c->rows[i].steps;
        reset[i] = c->rows[i].reset;
        offsets[i + 1] = c->rows[i].first + c->rows[i].span;
    }
    size_t places = c->mode == CARRY_STEPS_LAST ? c->count : c->all_steps;
    carry_array in = {.size = sizeof in,
                      .data = c->x,
                      .dtype = w->ids ? CARRY_I32 : CARRY_F32,
                      .bytes = c->all_steps * w->in * sizeof(float)};
    carry_array out = {
        .size = sizeof out, .data = c->y, .bytes = places * w->out * sizeof(float)};
    carry_batch batch = {.size = sizeof batch,
                         .rows = c->count,
                         .states = states,
                         .max_steps = c->packed ? 0 : c->longest,
                         .steps = c->with_steps ? steps : NULL,
                         .reset = reset,
                         .row_offsets = c->packed ? offsets : NULL,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1,
                         .mode = c->mode,
                         .row_status = row_status};
    return carry_run(w->session, &batch);
}

/* The row's values move on, and its outputs are what they then must be. */
static void check_row(world *w, const call *c, size_t index)
{
    const row *r = &c->rows[index];
    float expected[(MOST_STEPS + 1) * 16] = {0}, zeros[512] = {0};
    uint32_t steps = r->expected == CARRY_OK ? r->steps : 0;
    if (steps > 0) {
        if (r->s && r->reset) memset(r->s->values, 0, w->state_floats * sizeof(float));
        plain_run(w, r->s ? r->s->values : NULL, c->x + r->first * w->in, steps,
                  expected);
        if (r->s) world_use(w, r->s);
    }
    const float *got = c->y + r->first * w->out, *want = expected;
    size_t places = r->span;
    if (c->mode == CARRY_STEPS_LAST) {
        got = c->y + index * w->out;
        want = steps ? expected + (steps - 1) * w->out : zeros;
        places = 1;
    }
    if (memcmp(got, want, places * w->out * sizeof(float)) != 0)
        fail(w,
             "row %zu of %zu (%u steps of %u%s%s): outputs are not those of a plain run",
             index, c->count, steps, r->span, c->packed ? ", packed" : "",
             r->reset ? ", reset" : "");
}

static void do_run(world *w)
{
    static _Thread_local call c;
    carry_status row_status[MOST_ROWS];
    make_call(w, &c);
    MUST(w, run(w, &c, c.with_status ? row_status : NULL));
    w->runs++;
    for (size_t i = 0; i < c.count; i++) {
        if (c.with_status && row_status[i] != c.rows[i].expected)
            fail(w, "row %zu: %s, expected %s", i, carry_status_name(row_status[i]),
                 carry_status_name(c.rows[i].expected));
        check_row(w, &c, i);
    }
}

/* A call with one bad row and no row_status fails as a whole, and nothing moves. */
static void do_bad_run(world *w)
{
    static _Thread_local call c;
    make_call(w, &c);
    c.with_status = false;
    for (size_t i = 0; i < c.count; i++)
        if (c.rows[i].expected != CARRY_OK) return;
    if (c.count < 2 || !c.rows[0].s) return;
    c.rows[c.count - 1].state = c.rows[0].state;
    MUST_FAIL(w, CARRY_E_DUPLICATE, run(w, &c, NULL));
    world_check(w, c.rows[0].s);
}

/* ---- one state ------------------------------------------------------------------------------ */

static void do_open(world *w)
{
    carry_state state;
    if (w->count == w->max_states) {
        MUST_FAIL(w, CARRY_E_FULL, carry_state_open(w->session, &state));
        if (state.id) fail(w, "a refused open left a handle");
        w->rejected++;
        return;
    }
    MUST(w, carry_state_open(w->session, &state));
    world_add(w, state, NULL);
}

static void do_close(world *w)
{
    if (!choose(w, 1)) return;
    carry_state state = w->open[0].state;
    MUST(w, carry_state_close(w->session, &state));
    world_remove(w, &w->open[0]);
}

static void do_stale(world *w)
{
    carry_state state = any_stale(w), other = state;
    float value;
    if (!state.id) return;
    switch (pick(w, 4)) {
    case 0:
        MUST_FAIL(w, CARRY_E_STALE, carry_state_reset(w->session, state));
        break;
    case 1:
        MUST_FAIL(w, CARRY_E_STALE, carry_state_close(w->session, &other));
        break;
    case 2:
        MUST_FAIL(w, CARRY_E_STALE, carry_state_copy(w->session, state, &other));
        break;
    default:
        MUST_FAIL(w, CARRY_E_STALE, carry_state_read(w->session, state, 0, &value, 1));
    }
}

static void do_reset(world *w)
{
    if (!choose(w, 1)) return;
    MUST(w, carry_state_reset(w->session, w->open[0].state));
    memset(w->open[0].values, 0, w->state_floats * sizeof(float));
    world_use(w, &w->open[0]);
}

static void do_read(world *w)
{
    if (choose(w, 1)) world_check(w, &w->open[0]);
}

static void do_write(world *w)
{
    if (!choose(w, 1)) return;
    size_t k = pick(w, w->tensors);
    float *values = w->open[0].values + w->offset[k];
    for (size_t i = 0; i < w->width[k]; i++)
        values[i] = number(w);
    MUST(w, carry_state_write(w->session, w->open[0].state, k, values, w->width[k]));
    world_use(w, &w->open[0]);
}

/* ---- several states ------------------------------------------------------------------------- */

static void do_fork(world *w)
{
    if (!choose(w, 1)) return;
    carry_state source = w->open[0].state, copies[MOST_FORKS];
    const float *values = w->open[0].values;
    size_t count = 1 + pick(w, MOST_FORKS);
    if (w->count + count > w->max_states) {
        MUST_FAIL(w, CARRY_E_FULL, carry_state_fork(w->session, source, copies, count));
        w->rejected++;
        return;
    }
    if (count == 1) MUST(w, carry_state_copy(w->session, source, copies));
    else MUST(w, carry_state_fork(w->session, source, copies, count));
    for (size_t i = 0; i < count; i++)
        world_add(w, copies[i], values);
}

static void do_reorder(world *w)
{
    carry_state states[MOST_ROWS], parents[MOST_ROWS];
    size_t count = choose(w, 1 + pick(w, MOST_ROWS)), from[MOST_ROWS];
    float *before = malloc(w->count * w->state_floats * sizeof *before);
    for (size_t i = 0; i < count; i++) {
        from[i] = pick(w, pick(w, 2) ? count : w->count);
        parents[i] = w->open[from[i]].state;
        memcpy(before + i * w->state_floats, w->open[from[i]].values,
               w->state_floats * sizeof(float));
    }
    states_of(w, states, count);
    MUST(w, carry_states_reorder(w->session, states, parents, count));
    for (size_t i = 0; i < count; i++) {
        memcpy(w->open[i].values, before + i * w->state_floats,
               w->state_floats * sizeof(float));
        world_use(w, &w->open[i]);
    }
    free(before);
}

/* Saves some states and restores them into as many others, which may be the same. */
static void do_save_restore(world *w)
{
    carry_state states[MOST_SAVED];
    size_t bytes, count = choose(w, 1 + pick(w, MOST_SAVED));
    if (!count) return;
    states_of(w, states, count);
    MUST(w, carry_states_save(w->session, states, count, NULL, NULL, 0, &bytes));
    void *data = malloc(bytes);
    MUST(w, carry_states_save(w->session, states, count, NULL, data, bytes, &bytes));
    size_t floats = count * w->state_floats;
    float *values = malloc(floats * sizeof *values);
    for (size_t i = 0; i < count; i++)
        memcpy(values + i * w->state_floats, w->open[i].values,
               w->state_floats * sizeof(float));
    if (pick(w, 3) == 0) { /* a flipped bit: refused, nothing moves */
        ((unsigned char *)data)[pick(w, bytes)] ^= (unsigned char)(1u << pick(w, 8));
        carry_status status =
            carry_states_restore(w->session, states, count, NULL, data, bytes);
        if (status == CARRY_OK) fail(w, "a damaged file was restored");
    } else {
        choose(w, count);
        states_of(w, states, count);
        MUST(w, carry_states_restore(w->session, states, count, NULL, data, bytes));
        for (size_t i = 0; i < count; i++) {
            memcpy(w->open[i].values, values + i * w->state_floats,
                   w->state_floats * sizeof(float));
            world_use(w, &w->open[i]);
        }
    }
    free(values);
    free(data);
}

/* Leaves saved states for another world, or takes what another one has left. */
static void do_exchange(world *w)
{
    carry_state states[MOST_SAVED];
    size_t count = choose(w, MOST_SAVED);
    if (!w->common->mailbox || count < MOST_SAVED) return;
    states_of(w, states, count);
    parcel *taken = pick(w, 2) ? mailbox_take(w->common->mailbox) : NULL;
    if (taken) {
        MUST(w, carry_states_restore(w->session, states, count, NULL, taken->data,
                                     taken->bytes));
        for (size_t i = 0; i < count; i++) {
            memcpy(w->open[i].values, taken->values + i * w->state_floats,
                   w->state_floats * sizeof(float));
            world_use(w, &w->open[i]);
        }
        parcel_close(taken);
        return;
    }
    size_t bytes;
    MUST(w, carry_states_save(w->session, states, count, NULL, NULL, 0, &bytes));
    parcel *fresh = parcel_open(bytes, count * w->state_floats);
    MUST(w,
         carry_states_save(w->session, states, count, NULL, fresh->data, bytes, &bytes));
    for (size_t i = 0; i < count; i++)
        memcpy(fresh->values + i * w->state_floats, w->open[i].values,
               w->state_floats * sizeof(float));
    mailbox_put(w->common->mailbox, fresh);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void flip_bit(world *w)
{
    FILE *file = fopen(w->path, "r+b");
    if (!file || fseek(file, 0, SEEK_END)) fail(w, "the pool's file is not there");
    long at = (long)pick(w, (uint64_t)ftell(file));
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file) ^ 1 << pick(w, 8);
    fseek(file, at, SEEK_SET);
    fputc(byte, file);
    fclose(file);
}

/* Saves some states to a file, each with a key, and opens new ones from it. */
static void do_some_to_file(world *w)
{
    carry_state states[MOST_SAVED], loaded[MOST_SAVED];
    int64_t keys[MOST_SAVED], found[MOST_SAVED];
    size_t capacity = choose(w, 1 + pick(w, MOST_SAVED)), count = 0;
    states_of(w, states, capacity);
    for (size_t i = 0; i < capacity; i++)
        keys[i] = (int64_t)random_u64(&w->seed);
    if (!capacity) return;
    MUST(w, carry_pool_save(w->session, w->path, states, keys, capacity));
    if (pick(w, 4) == 0) {
        flip_bit(w);
        carry_status status =
            carry_pool_load(w->session, w->path, loaded, found, capacity, &count);
        if (status == CARRY_OK) fail(w, "a damaged file was loaded");
        if (status == CARRY_E_FULL) w->rejected++; /* whether there is room comes first */
        world_check_pool(w);
        return;
    }
    if (w->count + capacity > w->max_states) {
        MUST_FAIL(w, CARRY_E_FULL,
                  carry_pool_load(w->session, w->path, loaded, found, capacity, &count));
        w->rejected++;
        return;
    }
    MUST(w, carry_pool_load(w->session, w->path, loaded, found, capacity, &count));
    if (count != capacity || memcmp(found, keys, count * sizeof *keys) != 0)
        fail(w, "%zu states were saved and %zu loaded, or their keys differ", capacity,
             count);
    for (size_t i = 0; i < count; i++) {
        world_add(w, loaded[i], w->open[i].values);
        world_check(w, &w->open[w->count - 1]);
    }
}

static int compare_opened(const void *left, const void *right)
{
    const sequence *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* Saves all states to a file, which says them in the order of their opening; the other session loads it. */
static void do_all_to_file(world *w)
{
    size_t count = 0;
    carry_state *loaded = calloc(w->count + 1, sizeof *loaded);
    qsort(w->open, w->count, sizeof *w->open, compare_opened);
    MUST(w, carry_pool_save(w->session, w->path, NULL, NULL, 0));
    MUST(w, carry_pool_load(w->plain, w->path, loaded, NULL, w->count, &count));
    if (count != w->count)
        fail(w, "%zu states are open and %zu were saved", w->count, count);
    for (size_t i = 0; i < count; i++) {
        world_compare(w, w->plain, loaded[i], w->open[i].values);
        MUST(w, carry_state_close(w->plain, &loaded[i]));
    }
    free(loaded);
}

static void do_pool_file(world *w)
{
    if (pick(w, 8)) do_some_to_file(w);
    else do_all_to_file(w);
}

/* ---- another model -------------------------------------------------------------------------- */

static void do_set_model(world *w)
{
    w->model = 1 - w->model;
    MUST(w, carry_session_set_model(w->session, w->common->models[w->model]));
    MUST(w, carry_session_set_model(w->plain, w->common->models[w->model]));
}

/* ---- sweep ---------------------------------------------------------------------------------- */

typedef struct sweeping {
    world *w;
    uint64_t idle_calls;
    uint64_t closed;
    uint64_t last_used;
} sweeping;

static int look(void *user, carry_session *session, carry_state state)
{
    sweeping *s = user;
    world *w = s->w;
    (void)session;
    for (size_t i = 0; i < w->count; i++) {
        sequence *found = &w->open[i];
        if (found->state.id != state.id) continue;
        if (w->runs - found->used_run < s->idle_calls)
            fail(w, "a state used %llu calls ago was swept",
                 (unsigned long long)(w->runs - found->used_run));
        if (found->used_run < s->last_used) fail(w, "sweep: not the longest idle first");
        s->last_used = found->used_run;
        world_check(w, found); /* the session may be used here */
        if (pick(w, 4) == 0) {
            world_use(w, found);
            s->last_used = 0;
            return 1;
        }
        world_remove(w, found);
        s->closed++;
        return 0;
    }
    fail(w, "a state that is not open was swept");
}

static void do_sweep(world *w)
{
    size_t swept;
    sweeping s = {.w = w, .idle_calls = 1 + pick(w, w->max_states)};
    carry_sweep_options options = {.size = sizeof options,
                                   .idle_calls = s.idle_calls,
                                   .most = pick(w, 2) ? 1 + pick(w, 10) : 0,
                                   .on_idle = look,
                                   .user = &s};
    MUST(w, carry_session_sweep(w->session, &options, &swept));
    if (swept != s.closed || (options.most && swept > options.most))
        fail(w, "swept %zu, expected %llu", swept, (unsigned long long)s.closed);
    w->swept += swept;
    if (options.most) return;
    for (size_t i = 0; i < w->count; i++)
        if (w->runs - w->open[i].used_run >= s.idle_calls)
            fail(w, "a state idle for %llu calls was left",
                 (unsigned long long)(w->runs - w->open[i].used_run));
}

/* ---- the choice ----------------------------------------------------------------------------- */

static const struct {
    void (*run)(world *w);
    unsigned share;
} operations[] = {
    {do_run, 30},  {do_bad_run, 3},   {do_open, 16},        {do_close, 8},
    {do_stale, 4}, {do_reset, 4},     {do_read, 5},         {do_write, 4},
    {do_fork, 6},  {do_reorder, 6},   {do_save_restore, 5}, {do_exchange, 3},
    {do_sweep, 1}, {do_pool_file, 1}, {do_set_model, 1},
};

void operate(world *w)
{
    unsigned all = 0;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        all += operations[i].share;
    uint64_t chosen = pick(w, all);
    size_t i = 0;
    while (chosen >= operations[i].share)
        chosen -= operations[i++].share;
    w->operation++;
    operations[i].run(w);
    if (w->operation % 64 == 0) world_check_pool(w);
}
