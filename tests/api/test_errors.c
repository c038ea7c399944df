/* The named errors, their sentences, and that a failed call moves nothing. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

#include "run/session.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const model_spec spec = {
    .features = 3,
    .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(4, 0), DENSE_LAYER(2, CY_ACT_TANH)}};
static const model_spec ids = {.ids = 6,
                               .layers = {EMBEDDING_LAYER(3), LSTM_LAYER(4, SEQUENCES)}};

#define ROWS  2
#define STEPS 4

/* A batch in which everything is right, for a test to spoil one thing at a time. */
typedef struct good {
    rig r;
    carry_state states[ROWS];
    float x[ROWS * STEPS * 3], y[ROWS * STEPS * 4];
    carry_array in, out;
    carry_batch batch;
    void *before;
    size_t bytes;
} good;

static void good_open(good *g, const model_spec *of)
{
    memset(g, 0, sizeof *g);
    g->r = rig_open(of, NULL);
    float *x = random_input(&g->r, ROWS, STEPS, 1);
    memcpy(g->x, x, ROWS * STEPS * g->r.in * sizeof *x);
    free(x);
    open_states(&g->r, g->states, ROWS);
    g->in = (carry_array){.size = sizeof g->in,
                          .data = g->x,
                          .dtype = g->r.ids ? CARRY_I32 : CARRY_F32,
                          .bytes = ROWS * STEPS * g->r.in * sizeof(float)};
    g->out = (carry_array){
        .size = sizeof g->out,
        .data = g->y,
        .bytes = output_count(&g->r, ROWS, STEPS, CARRY_STEPS_AS_MODEL) * sizeof(float)};
    g->batch = (carry_batch){.size = sizeof g->batch,
                             .rows = ROWS,
                             .states = g->states,
                             .max_steps = STEPS,
                             .inputs = &g->in,
                             .input_count = 1,
                             .outputs = &g->out,
                             .output_count = 1};
    OK(carry_run(g->r.session, &g->batch));
    g->before = save(&g->r, g->states, ROWS, &g->bytes);
}

/* The call fails as stated and the states are byte for byte what they were. */
#define SPOILED(g, code, words)                                                   \
    do {                                                                          \
        FAILS(code, words, carry_run((g).r.session, &(g).batch));                 \
        size_t bytes_;                                                            \
        void *after_ = save(&(g).r, (g).states, ROWS, &bytes_);                   \
        cr_expect(bytes_ == (g).bytes && memcmp((g).before, after_, bytes_) == 0, \
                  "a failed call moved a state");                                 \
        free(after_);                                                             \
    } while (0)

static void good_close(good *g)
{
    free(g->before);
    rig_close(&g->r);
}

Test(errors, what_carry_run_refuses)
{
    good g;
    good_open(&g, &spec);
    const carry_batch batch = g.batch;
    const carry_array in = g.in, out = g.out;
#define AGAIN (g.batch = batch, g.in = in, g.out = out)

    g.batch.max_steps = 0;
    SPOILED(g, CARRY_E_ARGUMENT, "max_steps is 0");
    AGAIN;
    g.batch.inputs = NULL;
    SPOILED(g, CARRY_E_ARGUMENT, "inputs");
    AGAIN;
    g.batch.input_count = 0;
    SPOILED(g, CARRY_E_ARGUMENT, "0 inputs");
    AGAIN;
    g.batch.input_count = 2;
    SPOILED(g, CARRY_E_ARGUMENT, "2 inputs");
    AGAIN;
    g.batch.output_count = 2;
    SPOILED(g, CARRY_E_ARGUMENT, "2 outputs");
    AGAIN;
    g.batch.outputs = NULL;
    SPOILED(g, CARRY_E_ARGUMENT, "outputs is NULL");
    AGAIN;
    g.in.data = NULL;
    SPOILED(g, CARRY_E_ARGUMENT, "input 0");
    AGAIN;
    g.in.dtype = CARRY_I32;
    SPOILED(g, CARRY_E_ARGUMENT, "CARRY_F32");
    AGAIN;
    g.out.dtype = CARRY_I32;
    SPOILED(g, CARRY_E_ARGUMENT, "CARRY_F32");
    AGAIN;
    g.in.bytes--;
    SPOILED(g, CARRY_E_CAPACITY, "input 0 has 95 bytes");
    AGAIN;
    g.out.bytes--;
    SPOILED(g, CARRY_E_CAPACITY, "output 0 has 15 bytes");
    AGAIN;
    g.batch.mode = CARRY_STEPS_ALL; /* the head has no time axis */
    SPOILED(g, CARRY_E_ARGUMENT, "no time axis");
    AGAIN;
    g.batch.mode = (carry_mode)7;
    SPOILED(g, CARRY_E_ARGUMENT, "mode 7");
    AGAIN;
    g.batch.size = 0;
    SPOILED(g, CARRY_E_ARGUMENT, "size");
    AGAIN;
    g.in.size = 0;
    SPOILED(g, CARRY_E_ARGUMENT, "size");
    AGAIN;
    g.out.size = 0;
    SPOILED(g, CARRY_E_ARGUMENT, "size");
    AGAIN;
    const uint32_t too_many[ROWS] = {1, STEPS + 1};
    g.batch.steps = too_many;
    SPOILED(g, CARRY_E_ARGUMENT, "row 1 has 5 steps");
    AGAIN;
    const carry_state twice[ROWS] = {g.states[0], g.states[0]};
    g.batch.states = twice;
    SPOILED(g, CARRY_E_DUPLICATE, "row 1");
    AGAIN;
    g.batch.rows = SIZE_MAX / 2;
    SPOILED(g, CARRY_E_ARGUMENT, "rows");
    AGAIN;
    g.batch.rows = UINT32_MAX;
    g.batch.max_steps = UINT32_MAX;
    g.in.bytes = g.out.bytes = SIZE_MAX;
    SPOILED(g, CARRY_E_ARGUMENT, "more than memory");
    AGAIN;
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_run(g.r.session, NULL));
    FAILS(CARRY_E_ARGUMENT, "session", carry_run(NULL, &g.batch));
    OK(carry_run(g.r.session, &g.batch));
    good_close(&g);
}

Test(errors, packed_batches_that_are_refused)
{
    good g;
    good_open(&g, &spec);
    const carry_batch batch = g.batch;
    const carry_array in = g.in, out = g.out;
    const uint64_t offsets[ROWS + 1] = {1, 4, 8};
#define WITH(...) (AGAIN, g.batch.row_offsets = (const uint64_t[ROWS + 1]){__VA_ARGS__})

    WITH(1, 0, 2);
    SPOILED(g, CARRY_E_ARGUMENT, "falls from 1 to 0 behind row 0");
    WITH(0, 3, 2);
    SPOILED(g, CARRY_E_ARGUMENT, "falls from 3 to 2 behind row 1");
    WITH(0, 5, 6);
    SPOILED(g, CARRY_E_ARGUMENT, "gives a row 5 steps, max_steps is 4");
    WITH(0, 1, 1 + ((uint64_t)1 << 32));
    g.batch.max_steps = 0;
    SPOILED(g, CARRY_E_ARGUMENT, "a row 4294967296 steps; 4294967295 are the most");
    WITH(UINT64_MAX - 4, UINT64_MAX - 4, UINT64_MAX);
    SPOILED(g, CARRY_E_ARGUMENT, "more than memory can hold");
    WITH(1, 5, 9); /* the array has eight steps */
    SPOILED(g, CARRY_E_CAPACITY, "input 0 has 96 bytes, 9 steps of 3 numbers need 108");
    WITH(0, 1, 2); /* of outputs without a time axis, rows are counted */
    g.out.bytes--;
    SPOILED(g, CARRY_E_CAPACITY, "output 0 has 15 bytes, 2 rows of 2 numbers need 16");
    WITH(0, 1, 4);
    g.batch.steps = (const uint32_t[ROWS]){2, 3};
    SPOILED(g, CARRY_E_ARGUMENT, "row 0 has 2 steps, its place in the arrays 1");
    AGAIN;
    g.batch.row_offsets = offsets;
    OK(carry_run(g.r.session, &g.batch));
    good_close(&g);

    good_open(&g, &ids);
    const uint64_t packed[ROWS + 1] = {2, 4, 7};
    g.batch.row_offsets = packed;
    g.out.bytes = 7 * 4 * sizeof(float) - 1;
    SPOILED(g, CARRY_E_CAPACITY, "output 0 has 111 bytes, 7 steps of 4 numbers need 112");
    g.out.bytes++;
    ((int32_t *)g.x)[1] = -1; /* before the first row: nobody's */
    ((int32_t *)g.x)[5] = 6;
    SPOILED(g, CARRY_E_INPUT, "row 1, step 1: id 6");
    ((int32_t *)g.x)[5] = 5;
    OK(carry_run(g.r.session, &g.batch));
    good_close(&g);
}

Test(errors, a_duplicate_far_away_is_found)
{
    rig r = rig_open(&ids, NULL);
    const size_t many = sizes()->many; /* more than max_rows */
    carry_state *states = calloc(many, sizeof *states);
    int32_t *x = calloc(many, sizeof *x);
    float *y = calloc(many * 4, sizeof *y);
    open_states(&r, states, many - 1);
    states[many - 1] = states[3];
    call_spec call = {.rows = many, .max_steps = 1, .states = states, .x = x, .y = y};
    char row[32];
    snprintf(row, sizeof row, "row %zu", many - 1);
    FAILS(CARRY_E_DUPLICATE, row, run_call(&r, &call));
    states[many - 1].id = 0;
    OK(run_call(&r, &call)); /* many {0} are no duplicates */
    states[4].id = 0;
    OK(run_call(&r, &call));
    free(states);
    free(x);
    free(y);
    rig_close(&r);
}

Test(errors, ids_out_of_range)
{
    good g;
    good_open(&g, &ids);
    int32_t *x = (int32_t *)g.x;
    static const int32_t bad[] = {-1, 6, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        int32_t kept = x[STEPS + 2];
        x[STEPS + 2] = bad[i];
        SPOILED(g, CARRY_E_INPUT, "row 1, step 2");
        x[STEPS + 2] = kept;
    }
    g.in.dtype = CARRY_F32;
    SPOILED(g, CARRY_E_ARGUMENT, "CARRY_I32");
    good_close(&g);
}

Test(errors, more_steps_than_the_session_was_opened_for)
{
    model_spec back = {
        .features = 3, .steps = 5, .layers = {LSTM_LAYER(4, SEQUENCES | BACKWARDS)}};
    rig r = rig_open(&back, NULL);
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(r.session, &info));
    cr_assert_eq(info.max_steps, 5, "the steps the file states: %u", info.max_steps);
    float x[3 * 2000] = {0}, *y = calloc(4 * 2000, sizeof *y);
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 5, .x = x, .y = y}));
    FAILS(CARRY_E_ARGUMENT, "max_steps = 5",
          run_call(&r, &(call_spec){.rows = 1, .max_steps = 6, .x = x, .y = y}));
    rig_close(&r);
    back.steps = 0;
    r = rig_open(&back, NULL);
    OK(carry_session_get_info(r.session, &info));
    cr_assert_eq(info.max_steps, 1024);
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 1024, .x = x, .y = y}));
    FAILS(CARRY_E_ARGUMENT, "1024",
          run_call(&r, &(call_spec){.rows = 1, .max_steps = 1025, .x = x, .y = y}));
    rig_close(&r);
    carry_session_options options = {.size = sizeof options, .max_steps = 2000};
    r = rig_open(&back, &options);
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = 2000, .x = x, .y = y}));
    rig_close(&r);
    free(y);
}

Test(errors, sessions_refuse_what_they_cannot_be)
{
    carry_model *model = build_model(&spec);
    carry_session *session = (carry_session *)model;
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_session_open(NULL, model, NULL));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_session_open(&session, NULL, NULL));
    cr_assert_null(session);
    carry_session_options options = {.size = 0, .threads = 1};
    session = (carry_session *)model;
    FAILS(CARRY_E_ARGUMENT, "size", carry_session_open(&session, model, &options));
    cr_assert_null(session);
    options = (carry_session_options){.size = sizeof options, .max_states = 1u << 24};
    FAILS(CARRY_E_ARGUMENT, "max_states", carry_session_open(&session, model, &options));
    cr_assert_null(session);
    options = (carry_session_options){.size = sizeof options, .threads = UINT32_MAX};
    FAILS(CARRY_E_ARGUMENT, "threads", carry_session_open(&session, model, &options));
    options = (carry_session_options){.size = sizeof options, .max_rows = UINT32_MAX};
    FAILS(CARRY_E_ARGUMENT, "max_rows", carry_session_open(&session, model, &options));
    cr_assert_null(session);
    carry_session_info info = {.size = sizeof info};
    FAILS(CARRY_E_ARGUMENT, "session", carry_session_get_info(NULL, &info));
    carry_session_close(&session);
    carry_session_close(NULL);
    carry_model_close(&model);
    cr_assert_null(model);
    carry_model_close(&model);
    carry_model_close(NULL);
}

Test(errors, states_refuse_a_missing_session_or_place)
{
    rig r = rig_open(&spec, NULL);
    carry_state state = {42};
    float values[5];
    FAILS(CARRY_E_ARGUMENT, "session", carry_state_open(NULL, &state));
    cr_assert_eq(state.id, 0);
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_state_open(r.session, NULL));
    FAILS(CARRY_E_ARGUMENT, "session", carry_state_close(NULL, &state));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_state_close(r.session, NULL));
    FAILS(CARRY_E_ARGUMENT, "session", carry_state_reset(NULL, state));
    FAILS(CARRY_E_ARGUMENT, "session", carry_state_copy(NULL, state, &state));
    FAILS(CARRY_E_ARGUMENT, "NULL", carry_state_copy(r.session, state, NULL));
    FAILS(CARRY_E_ARGUMENT, "session", carry_state_read(NULL, state, 0, values, 5));
    FAILS(CARRY_E_ARGUMENT, "session", carry_state_write(NULL, state, 0, values, 5));
    rig_close(&r);
}

/* ---- sentences ------------------------------------------------------------------------------ */

static void *fail_elsewhere(void *sentence)
{
    cr_assert_str_empty(carry_error(), "a new thread begins with somebody's error");
    carry_model *model;
    carry_model_open(&model, "no/such/file", NULL);
    strncpy(sentence, carry_error(), 255);
    return NULL;
}

Test(errors, a_sentence_belongs_to_its_thread_and_lasts)
{
    cr_assert_str_empty(carry_error());
    rig r = rig_open(&spec, NULL);
    cr_assert_str_empty(carry_error());
    carry_state state = {1};
    FAILS(CARRY_E_FOREIGN, "session", carry_state_reset(r.session, state));
    char mine[256], theirs[256] = "";
    strncpy(mine, carry_error(), 255);
    mine[255] = 0;
    OK(carry_state_open(r.session, &state)); /* success leaves it as it is */
    cr_assert_str_eq(carry_error(), mine);
    pthread_t thread;
    pthread_create(&thread, NULL, fail_elsewhere, theirs);
    pthread_join(thread, NULL);
    cr_assert_str_eq(carry_error(), mine);
    cr_assert(strstr(theirs, "no/such/file") != NULL, "%s", theirs);
    rig_close(&r);
}

Test(errors, codes_have_names_and_texts)
{
    static const struct {
        carry_status status;
        int value;
        const char *name;
    } codes[] = {
#define ROW(name, value, text) {CARRY_##name, value, #name},
        CARRY_STATUS_LIST(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        cr_assert_eq((int)codes[i].status, codes[i].value);
        cr_assert_str_eq(carry_status_name(codes[i].status), codes[i].name);
        cr_assert_str_not_empty(carry_status_text(codes[i].status));
    }
    cr_assert_str_eq(carry_status_text((carry_status)999), "unknown status");
    cr_assert_str_eq(carry_status_text((carry_status)-1), "unknown status");
    cr_assert_not_null(carry_status_name((carry_status)999));
    cr_assert_str_eq(carry_status_text(CARRY_E_STALE), "the state was closed before");
    cr_assert_str_eq(carry_version(), "0.1.0");
    cr_assert_str_eq(carry_backend_name(0), "cpu");
    cr_assert_null(carry_backend_name(99));
    const char *isa = carry_cpu_isa();
    cr_assert(!strcmp(isa, "reference") || !strcmp(isa, "avx2") || !strcmp(isa, "avx512"),
              "%s", isa);
}

/* Each test is a process of its own, so the choice has not been made yet. */
Test(errors, the_instruction_set_is_capped_and_chosen_once)
{
    setenv("CARRY_ISA", "reference", 1);
    cr_assert_str_eq(carry_cpu_isa(), "reference");
    setenv("CARRY_ISA", "avx512", 1);
    cr_assert_str_eq(carry_cpu_isa(), "reference");
    rig r = rig_open(&spec, NULL);
    float *x = random_input(&r, 1, STEPS, 1), y[2];
    OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = STEPS, .x = x, .y = y}));
    free(x);
    rig_close(&r);
}

Test(errors, a_cap_never_raises_the_instruction_set)
{
    setenv("CARRY_ISA", "avx2", 1);
    cr_assert_str_neq(carry_cpu_isa(), "avx512");
}

/* ---- two threads on one session ------------------------------------------------------------- */

/* As if another thread were inside: every function on a session is refused, and changes nothing. */
Test(errors, every_function_on_a_session_in_use_is_busy)
{
    good g;
    good_open(&g, &spec);
    carry_session *session = g.r.session;
    carry_state other = {7}, first = g.states[0];
    float values[5];
    char block[64];
    size_t bytes = 7;
    carry_session_info info = {.size = sizeof info, .states = 77};
    OK(cy_session_enter(session, "the test"));
    FAILS(CARRY_E_BUSY, "carry_session_get_info", carry_session_get_info(session, &info));
    FAILS(CARRY_E_BUSY, "carry_state_open", carry_state_open(session, &other));
    cr_expect_eq(other.id, 0);
    FAILS(CARRY_E_BUSY, "carry_state_close", carry_state_close(session, &g.states[0]));
    FAILS(CARRY_E_BUSY, "carry_state_reset", carry_state_reset(session, first));
    other.id = 7;
    FAILS(CARRY_E_BUSY, "carry_state_copy", carry_state_copy(session, first, &other));
    cr_expect_eq(other.id, 0);
    FAILS(CARRY_E_BUSY, "carry_state_read",
          carry_state_read(session, first, 0, values, 5));
    FAILS(CARRY_E_BUSY, "carry_state_write",
          carry_state_write(session, first, 0, g.x, 5));
    FAILS(CARRY_E_BUSY, "carry_states_save",
          carry_states_save(session, g.states, ROWS, NULL, block, sizeof block, &bytes));
    FAILS(CARRY_E_BUSY, "carry_states_restore",
          carry_states_restore(session, g.states, ROWS, NULL, g.before, g.bytes));
    FAILS(CARRY_E_BUSY, "carry_run", carry_run(session, &g.batch));
    carry_state forks[2] = {{7}, {7}};
    FAILS(CARRY_E_BUSY, "carry_state_fork", carry_state_fork(session, first, forks, 2));
    cr_expect(forks[0].id == 0 && forks[1].id == 0);
    FAILS(CARRY_E_BUSY, "carry_states_reorder",
          carry_states_reorder(session, g.states, g.states, ROWS));
    carry_sweep_options idle = {.size = sizeof idle, .idle_calls = 1};
    size_t swept = 7, count = 7;
    FAILS(CARRY_E_BUSY, "carry_session_sweep",
          carry_session_sweep(session, &idle, &swept));
    carry_pool_info pool = {.size = sizeof pool, .open = 77};
    FAILS(CARRY_E_BUSY, "carry_session_get_pool", carry_session_get_pool(session, &pool));
    cr_expect_eq(pool.open, 77);
    FAILS(CARRY_E_BUSY, "carry_pool_save",
          carry_pool_save(session, "busy.pool", NULL, NULL, 0));
    cr_expect_neq(access("busy.pool", F_OK), 0, "a refused save wrote a file");
    FAILS(CARRY_E_BUSY, "carry_pool_load",
          carry_pool_load(session, "busy.pool", NULL, NULL, 0, &count));
    FAILS(CARRY_E_BUSY, "carry_session_warm", carry_session_warm(session, NULL, 0));
    FAILS(CARRY_E_BUSY, "carry_session_wait", carry_session_wait(session));
    carry_plan_info plan = {.size = sizeof plan, .algorithm = "untouched"};
    FAILS(CARRY_E_BUSY, "carry_session_get_plan",
          carry_session_get_plan(session, 0, 1, 1, &plan));
    cr_expect_str_eq(plan.algorithm, "untouched");
    FAILS(CARRY_E_BUSY, "carry_session_set_model",
          carry_session_set_model(session, g.r.model));
    cr_expect_eq(info.states, 77);
    cy_session_leave(session);
    OK(carry_session_get_info(session, &info));
    cr_expect_eq(info.states, ROWS);
    size_t now_bytes;
    void *now = save(&g.r, g.states, ROWS, &now_bytes);
    cr_assert_eq(now_bytes, g.bytes);
    cr_expect(memcmp(now, g.before, g.bytes) == 0, "a refused call moved a state");
    free(now);
    good_close(&g);
}

typedef struct shared {
    rig r;
    atomic_int stop;
    atomic_long busy, other;
} shared;

static void *keep_resetting(void *argument)
{
    shared *s = argument;
    carry_state state = {1}; /* foreign: what is asked is only who gets in */
    while (!atomic_load(&s->stop)) {
        carry_status status = carry_state_reset(s->r.session, state);
        if (status == CARRY_E_BUSY) {
            atomic_fetch_add(&s->busy, 1);
            cr_assert(strstr(carry_error(), "another thread") != NULL, "%s",
                      carry_error());
        } else if (status != CARRY_E_FOREIGN) {
            atomic_fetch_add(&s->other, 1);
        }
    }
    return NULL;
}

Test(errors, two_calls_at_once_on_one_session_are_busy)
{
    model_spec large = {.features = 64, .layers = {LSTM_LAYER(128, SEQUENCES)}};
    carry_session_options one = {.size = sizeof one, .threads = 1};
    shared s = {.r = rig_open(&large, &one)};
    float *x = random_input(&s.r, 1, 200, 1), *y = calloc(200 * 128, sizeof *y);
    pthread_t thread;
    pthread_create(&thread, NULL, keep_resetting, &s);
    time_t end = time(NULL) + 20;
    while (atomic_load(&s.busy) == 0 && time(NULL) < end) {
        carry_status status =
            run_call(&s.r, &(call_spec){.rows = 1, .max_steps = 200, .x = x, .y = y});
        cr_assert(status == CARRY_OK || status == CARRY_E_BUSY);
    }
    atomic_store(&s.stop, 1);
    pthread_join(thread, NULL);
    cr_assert_gt(s.busy, 0, "no call was refused");
    cr_assert_eq(s.other, 0);
    free(x);
    free(y);
    rig_close(&s.r);
}
