/* The pool: forks and reorders that copy nothing, idle states swept away, statistics, very many states. */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const model_spec two_layers = {
    .features = 3, .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(17, SEQUENCES)}};

#define STEPS 2
#define COUNT (STEPS * 17)

static rig open_rig(uint32_t max_states)
{
    return rig_open(&two_layers,
                    &(carry_session_options){.size = sizeof(carry_session_options),
                                             .max_states = max_states});
}

/* Advances `count` states together, state i by input number inputs[i]; y: [count][COUNT]. */
static void advance(const rig *r, const carry_state *states, const int *inputs,
                    size_t count, float *y)
{
    float *x = malloc(count * STEPS * 3 * sizeof *x);
    for (size_t i = 0; i < count; i++) {
        float *own = random_input(r, 1, STEPS, (uint64_t)inputs[i]);
        memcpy(x + i * STEPS * 3, own, STEPS * 3 * sizeof *x);
        free(own);
    }
    OK(run_call(
        r, &(call_spec){
               .rows = count, .max_steps = STEPS, .states = states, .x = x, .y = y}));
    free(x);
}

/* What a sequence that saw these inputs, and only these, gives at the last of them. */
static void expect(const rig *r, const int *inputs, size_t count, float *y)
{
    carry_state state;
    OK(carry_state_open(r->session, &state));
    for (size_t i = 0; i < count; i++)
        advance(r, &state, &inputs[i], 1, y);
    OK(carry_state_close(r->session, &state));
}

static carry_pool_info pool_of(const rig *r)
{
    carry_pool_info info = {.size = sizeof info};
    OK(carry_session_get_pool(r->session, &info));
    cr_assert_eq(info.open, info.opened - info.closed);
    return info;
}

/* ---- fork ----------------------------------------------------------------------------------- */

Test(pool, forks_continue_from_the_source_and_then_go_their_own_ways)
{
    rig r = open_rig(0);
    carry_state states[4] = {{0}};
    OK(carry_state_open(r.session, &states[0]));
    float y[4 * COUNT], wanted[COUNT];
    for (int past = 0; past < 2; past++) { /* from zeros, and from a past */
        if (past) advance(&r, states, (int[]){1}, 1, y);
        OK(carry_state_fork(r.session, states[0], states + 1, 3));
        advance(&r, states, (int[]){2, 3, 4, 5}, 4, y); /* all four share a block */
        for (int i = 0; i < 4; i++) {
            expect(&r, past ? (int[]){1, 2 + i} : (int[]){2 + i}, 1 + (size_t)past,
                   wanted);
            SAME_BITS(y + i * COUNT, wanted, COUNT);
        }
        advance(&r, states + 2, (int[]){6}, 1, y);
        advance(&r, states + 3, (int[]){7}, 1, y + COUNT);
        expect(&r, past ? (int[]){1, 4, 6} : (int[]){4, 6}, 2 + (size_t)past, wanted);
        SAME_BITS(y, wanted, COUNT);
        expect(&r, past ? (int[]){1, 5, 7} : (int[]){5, 7}, 2 + (size_t)past, wanted);
        SAME_BITS(y + COUNT, wanted, COUNT);
        for (int i = 1; i < 4; i++)
            OK(carry_state_close(r.session, &states[i]));
        OK(carry_state_reset(r.session, states[0]));
    }
    rig_close(&r);
}

Test(pool, a_fork_outlives_its_source_and_is_not_moved_by_it)
{
    rig r = open_rig(2);
    carry_state source, copy;
    float y[COUNT], wanted[COUNT];
    for (int how = 0; how < 4; how++) {
        OK(carry_state_open(r.session, &source));
        advance(&r, &source, (int[]){1}, 1, y);
        OK(carry_state_fork(r.session, source, &copy, 1));
        float h[5] = {1, 2, 3, 4, 5};
        if (how == 0) OK(carry_state_reset(r.session, source));
        if (how == 1) OK(carry_state_write(r.session, source, 0, h, 5));
        if (how == 2)
            for (int i = 0; i < 3; i++)
                advance(&r, &source, (int[]){8}, 1, y);
        OK(carry_state_close(r.session, &source));
        OK(carry_state_open(r.session, &source)); /* takes what became free */
        OK(carry_state_write(r.session, source, 0, h, 5));
        advance(&r, &copy, (int[]){2}, 1, y);
        OK(carry_state_close(r.session, &source));
        expect(&r, (int[]){1, 2}, 2, wanted);
        SAME_BITS(y, wanted, COUNT);
        OK(carry_state_close(r.session, &copy));
    }
    rig_close(&r);
}

Test(pool, a_fork_opens_all_or_none)
{
    rig r = open_rig(4);
    carry_state source, copies[4] = {{1}, {2}, {3}, {4}};
    OK(carry_state_open(r.session, &source));
    FAILS(CARRY_E_FULL, "all 4 states", carry_state_fork(r.session, source, copies, 4));
    for (int i = 0; i < 4; i++)
        cr_assert_eq(copies[i].id, 0);
    carry_pool_info info = pool_of(&r);
    cr_assert(info.opened == 1 && info.closed == 0 && info.rejected == 1,
              "%zu opened, %zu closed, %zu rejected: it has opened none",
              (size_t)info.opened, (size_t)info.closed, (size_t)info.rejected);
    OK(carry_state_fork(r.session, source, copies, 3));
    OK(carry_state_fork(r.session, source, NULL, 0));
    OK(carry_state_close(r.session, &copies[1]));
    carry_state stale = source;
    OK(carry_state_close(r.session, &source));
    FAILS(CARRY_E_STALE, "closed", carry_state_fork(r.session, stale, copies + 1, 1));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_state_fork(r.session, copies[0], NULL, 1));
    cr_assert_eq(pool_of(&r).open, 2);
    rig_close(&r);
}

/* ---- reorder -------------------------------------------------------------------------------- */

Test(pool, reorder_is_a_gather_of_histories)
{
    enum { WIDTH = 5, ROUNDS = 12 };
    rig r = open_rig(2 * WIDTH);
    carry_state beam[WIDTH];
    int history[WIDTH][ROUNDS], next[WIDTH][ROUNDS];
    float y[WIDTH * COUNT], wanted[COUNT];
    unsigned seed = 7;
    open_states(&r, beam, WIDTH);
    for (int round = 0; round < ROUNDS; round++) {
        int inputs[WIDTH];
        for (int i = 0; i < WIDTH; i++)
            inputs[i] = history[i][round] = 100 * round + i;
        advance(&r, beam, inputs, WIDTH, y);
        for (int i = 0; i < WIDTH; i++) {
            expect(&r, history[i], (size_t)round + 1, wanted);
            SAME_BITS(y + i * COUNT, wanted, COUNT);
        }
        carry_state parents[WIDTH];
        for (int i = 0; i < WIDTH; i++) {
            /* by turns a cycle of all, and whatever comes */
            int parent = round % 3 == 0 ? (i + 1) % WIDTH
                                        : (int)((seed = seed * 69069 + 1) >> 16) % WIDTH;
            parents[i] = beam[parent];
            memcpy(next[i], history[parent], sizeof next[i]);
        }
        OK(carry_states_reorder(r.session, beam, parents, WIDTH));
        memcpy(history, next, sizeof history);
    }
    rig_close(&r);
}

Test(pool, reorder_refuses_before_anything_moves)
{
    rig r = open_rig(0), other = open_rig(0);
    carry_state states[3], foreign;
    float y[3 * COUNT], wanted[COUNT];
    open_states(&r, states, 3);
    open_states(&other, &foreign, 1);
    advance(&r, states, (int[]){1, 2, 3}, 3, y);
    carry_state stale = states[2];
    OK(carry_state_close(r.session, &states[2]));
    FAILS(CARRY_E_DUPLICATE, "twice",
          carry_states_reorder(r.session, (carry_state[]){states[0], states[0]},
                               (carry_state[]){states[1], states[1]}, 2));
    FAILS(CARRY_E_STALE, "closed",
          carry_states_reorder(r.session, (carry_state[]){states[0], states[1]},
                               (carry_state[]){states[1], stale}, 2));
    FAILS(CARRY_E_FOREIGN, "session",
          carry_states_reorder(r.session, (carry_state[]){states[0], states[1]},
                               (carry_state[]){states[1], foreign}, 2));
    FAILS(CARRY_E_ARGUMENT, "parents is NULL",
          carry_states_reorder(r.session, states, NULL, 2));
    OK(carry_states_reorder(r.session, NULL, NULL, 0));
    advance(&r, states, (int[]){4, 5}, 2, y);
    for (int i = 0; i < 2; i++) {
        expect(&r, (int[]){1 + i, 4 + i}, 2, wanted);
        SAME_BITS(y + i * COUNT, wanted, COUNT);
    }
    rig_close(&other);
    rig_close(&r);
}

/* ---- memory --------------------------------------------------------------------------------- */

Test(pool, a_full_pool_advances_all_its_states_at_once)
{
    enum {
        ALL = 100
    }; /* more than max_rows, so that several groups are written before any commits */
    rig r = open_rig(ALL);
    carry_state states[ALL];
    int inputs[ALL];
    float *y = malloc(ALL * COUNT * sizeof *y), wanted[COUNT];
    open_states(&r, states, 1);
    advance(&r, states, (int[]){1}, 1, y);
    OK(carry_state_fork(r.session, states[0], states + 1, ALL - 1));
    for (int i = 0; i < ALL; i++)
        inputs[i] = 50 + i;
    uint64_t bytes = pool_of(&r).bytes;
    for (int round = 0; round < 3; round++)
        advance(&r, states, inputs, ALL, y);
    cr_assert_eq(pool_of(&r).bytes, bytes, "a call made the pool grow");
    OK(carry_state_close(r.session, &states[0])); /* room for what expect() opens */
    for (int i = 1; i < ALL; i += 7) {
        expect(&r, (int[]){1, 50 + i, 50 + i, 50 + i}, 4, wanted);
        SAME_BITS(y + i * COUNT, wanted, COUNT);
    }
    free(y);
    rig_close(&r);
}

Test(pool, opening_and_closing_for_ever_takes_no_more_memory)
{
    rig r = open_rig(2);
    carry_state keep, state, old = {0};
    OK(carry_state_open(r.session, &keep));
    OK(carry_state_open(r.session, &state));
    uint64_t bytes = pool_of(&r).bytes;
    for (uint32_t i = 0; i < 3 * 65536; i++) { /* a slot's handles are used up twice */
        old = state;
        OK(carry_state_close(r.session, &state));
        OK(carry_state_open(r.session, &state));
        cr_assert_neq(state.id, old.id);
    }
    cr_assert_eq(pool_of(&r).bytes, bytes);
    FAILS(CARRY_E_STALE, "closed", carry_state_reset(r.session, old));
    FAILS(CARRY_E_FULL, "all 2", carry_state_open(r.session, &old));
    rig_close(&r);
}

/* A million sequences of a small model in one session: opened, some advanced, all closed. */
Test(pool, very_many_states)
{
    size_t many = on_cuda() ? 20000 : 1000000;
    model_spec spec = {.features = 1, .layers = {LSTM_LAYER(1, SEQUENCES)}};
    rig r = rig_open(&spec, NULL);
    carry_state *states = calloc(many, sizeof *states);
    open_states(&r, states, many);
    carry_pool_info info = pool_of(&r);
    cr_assert_eq(info.open, many);
    cr_assert_geq(info.bytes, many * 2 * 2 * sizeof(float));
    enum { ROWS = 512 };
    carry_state some[ROWS];
    float *x = random_input(&r, ROWS, 1, 3), y[2][ROWS];
    for (size_t i = 0; i < ROWS; i++)
        some[i] = states[i * (many / ROWS)];
    for (int round = 0; round < 2; round++)
        OK(run_call(
            &r, &(call_spec){
                    .rows = ROWS, .max_steps = 1, .states = some, .x = x, .y = y[0]}));
    for (size_t i = 0; i < ROWS; i++) { /* each of them alone, from zeros */
        OK(carry_state_reset(r.session, some[i]));
        for (int round = 0; round < 2; round++)
            OK(run_call(&r, &(call_spec){.rows = 1,
                                         .max_steps = 1,
                                         .states = &some[i],
                                         .x = x + i,
                                         .y = &y[1][i]}));
    }
    SAME_BITS(y[0], y[1], ROWS);
    for (size_t i = 0; i < many; i++)
        OK(carry_state_close(r.session, &states[i]));
    cr_assert_eq(pool_of(&r).open, 0);
    cr_assert_geq(pool_of(&r).free, many);
    free(x);
    free(states);
    rig_close(&r);
}

Test(pool, statistics)
{
    rig r = open_rig(3);
    carry_state states[3], none;
    carry_pool_info info = pool_of(&r);
    cr_assert_eq(info.max_states, 3);
    cr_assert(info.opened == 0 && info.closed == 0 && info.swept == 0 &&
              info.rejected == 0 && info.free == 0 && info.bytes == 0);
    open_states(&r, states, 2);
    info = pool_of(&r);
    cr_assert(info.open == 2 && info.free == 1, "%zu open, %zu free", (size_t)info.open,
              (size_t)info.free);
    cr_assert_geq(info.bytes, 2 * 3 * 2 * (5 + 17) * sizeof(float));
    OK(carry_state_copy(r.session, states[0], &states[2]));
    FAILS(CARRY_E_FULL, "3", carry_state_open(r.session, &none));
    FAILS(CARRY_E_FULL, "3", carry_state_copy(r.session, states[0], &none));
    FAILS(CARRY_E_FULL, "3", carry_state_fork(r.session, states[0], &none, 1));
    OK(carry_state_close(r.session, &states[0]));
    info = pool_of(&r);
    cr_assert(info.open == 2 && info.opened == 3 && info.closed == 1 &&
              info.rejected == 3 && info.free == 1);
    info.size = 0;
    FAILS(CARRY_E_ARGUMENT, "carry_pool_info", carry_session_get_pool(r.session, &info));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_session_get_pool(NULL, &info));
    rig_close(&r);
}

/* Small states, whose blocks come by the thousand, and their slots not so many at once; closed ones count again, and
 * those without a handle left do not. */
Test(pool, so_many_are_free_as_take_no_memory)
{
    rig r = open_rig(0);
    carry_state first;
    open_states(&r, &first, 1);
    for (int closed = 0; closed < 2 * UINT16_MAX; closed++) {
        OK(carry_state_close(r.session, &first));
        OK(carry_state_open(r.session, &first));
    }
    for (int turn = 0; turn < 5; turn++) {
        carry_pool_info info = pool_of(&r);
        size_t count = (size_t)info.free;
        carry_state *states = malloc((count + 1) * sizeof *states);
        open_states(&r, states, count);
        cr_assert_eq(pool_of(&r).bytes, info.bytes, "turn %d: %zu states", turn, count);
        cr_assert_eq(pool_of(&r).free, 0);
        if (turn % 2 == 0)
            for (size_t i = 0; i < count; i++)
                OK(carry_state_close(r.session, &states[i]));
        else open_states(&r, states, 1);
        cr_assert_gt(pool_of(&r).free, 0);
        free(states);
    }
    rig_close(&r);
}

/* ---- sweep ---------------------------------------------------------------------------------- */

typedef struct seen {
    carry_state states[8];
    size_t count;
    carry_state keep;
    size_t saved_bytes;
} seen;

static int look(void *user, carry_session *session, carry_state state)
{
    seen *s = user;
    s->states[s->count++] = state;
    OK(carry_states_save(session, &state, 1, NULL, NULL, 0, &s->saved_bytes));
    return state.id == s->keep.id;
}

static size_t sweep(const rig *r, carry_sweep_options options)
{
    size_t swept = 99;
    options.size = sizeof options;
    OK(carry_session_sweep(r->session, &options, &swept));
    return swept;
}

Test(sweep, closes_what_so_many_calls_did_not_advance_longest_idle_first)
{
    rig r = open_rig(0);
    carry_state s[6];
    float y[6 * COUNT], values[5] = {0};
    open_states(&r, s, 6);
    advance(&r, (carry_state[]){s[3], s[1]}, (int[]){1, 2}, 2, y);
    advance(&r, &s[5], (int[]){1}, 1, y);
    OK(carry_state_reset(r.session, s[0]));               /* at 2 calls */
    OK(carry_state_write(r.session, s[2], 0, values, 5)); /* likewise */
    OK(run_call(&r, &(call_spec){.rows = 1,               /* no steps: not advanced */
                                 .max_steps = STEPS,
                                 .states = &s[4],
                                 .steps = (uint32_t[]){0},
                                 .x = y,
                                 .y = y + COUNT}));
    /* calls since: s4 3; s3, s1 2; s5, s0, s2 1 */
    cr_assert_eq(sweep(&r, (carry_sweep_options){.idle_calls = 4}), 0);
    seen saw = {.count = 0};
    carry_sweep_options options = {.idle_calls = 2, .on_idle = look, .user = &saw};
    cr_assert_eq(sweep(&r, options), 3);
    cr_assert_eq(saw.count, 3);
    cr_assert_gt(saw.saved_bytes, 0);
    cr_assert(saw.states[0].id == s[4].id && saw.states[1].id == s[3].id &&
              saw.states[2].id == s[1].id);
    FAILS(CARRY_E_STALE, "closed", carry_state_reset(r.session, s[3]));
    carry_pool_info info = pool_of(&r);
    cr_assert(info.open == 3 && info.swept == 3 && info.closed == 3);
    advance(&r, (carry_state[]){s[0], s[2]}, (int[]){1, 2}, 2, y);
    cr_assert_eq(sweep(&r, (carry_sweep_options){.idle_calls = 1}), 1); /* s5 */
    FAILS(CARRY_E_STALE, "closed", carry_state_reset(r.session, s[5]));
    rig_close(&r);
}

Test(sweep, at_most_so_many_and_what_the_caller_keeps_stays)
{
    rig r = open_rig(0);
    carry_state s[5], other;
    float y[COUNT];
    open_states(&r, s, 5);
    open_states(&r, &other, 1);
    for (int i = 0; i < 3; i++)
        advance(&r, &other, (int[]){1}, 1, y);
    seen saw = {.keep = s[1]};
    carry_sweep_options options = {
        .idle_calls = 3, .most = 2, .on_idle = look, .user = &saw};
    cr_assert_eq(sweep(&r, options), 2); /* s0, s2; s1 is kept */
    cr_assert_eq(saw.count, 3);
    OK(carry_state_reset(r.session, s[1]));
    cr_assert_eq(sweep(&r, options), 2); /* s3, s4; s1 was used */
    cr_assert_eq(saw.count, 5);
    cr_assert_eq(sweep(&r, options), 0);
    cr_assert_eq(pool_of(&r).open, 2);
    rig_close(&r);
}

typedef struct busy {
    const rig *r;
    carry_state scratch;
    size_t asked;
} busy;

static int run_and_keep(void *user, carry_session *session, carry_state state)
{
    busy *b = user;
    float y[COUNT];
    (void)session;
    (void)state;
    advance(b->r, &b->scratch, (int[]){1}, 1, y);
    b->asked++;
    return 1;
}

/* Calls made by on_idle age what was kept before, and must not bring it round again. */
Test(sweep, looks_at_each_state_once_whatever_is_done_meanwhile)
{
    rig r = open_rig(0);
    carry_state s[3];
    busy b = {.r = &r};
    float y[COUNT];
    open_states(&r, s, 3);
    open_states(&r, &b.scratch, 1);
    advance(&r, &b.scratch, (int[]){1}, 1, y);
    carry_sweep_options options = {.idle_calls = 1, .on_idle = run_and_keep, .user = &b};
    cr_assert_eq(sweep(&r, options), 0);
    cr_assert_eq(b.asked, 3);
    rig_close(&r);
}

Test(sweep, by_time)
{
    rig r = open_rig(0);
    carry_state s[2];
    open_states(&r, s, 2);
    cr_assert_eq(sweep(&r, (carry_sweep_options){.idle_ms = 3600 * 1000}), 0);
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    OK(carry_state_reset(r.session, s[0]));
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    /* s1 has been idle for 100 ms at least, s0 for less by 50: only an order is certain */
    cr_assert_eq(sweep(&r, (carry_sweep_options){.idle_ms = 40, .most = 1}), 1);
    FAILS(CARRY_E_STALE, "closed", carry_state_reset(r.session, s[1]));
    OK(carry_state_reset(r.session, s[0]));
    cr_assert_eq(sweep(&r, (carry_sweep_options){.idle_calls = 1, .idle_ms = 1}), 0,
                 "both conditions must hold");
    rig_close(&r);
}

Test(sweep, refuses)
{
    rig r = open_rig(0);
    size_t swept = 5;
    carry_sweep_options options = {.size = sizeof options};
    FAILS(CARRY_E_ARGUMENT, "both 0", carry_session_sweep(r.session, &options, &swept));
    cr_assert_eq(swept, 0);
    FAILS(CARRY_E_ARGUMENT, "options", carry_session_sweep(r.session, NULL, NULL));
    options.idle_calls = 1;
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_session_sweep(NULL, &options, NULL));
    OK(carry_session_sweep(r.session, &options, NULL));
    rig_close(&r);
}
