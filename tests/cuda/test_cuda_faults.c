/* Every call of CUDA and cuBLAS fails in turn, once, or it and all after it; so does every allocation of the host; and so
 * does every piece of the device's own work, when it runs.
 *
 * A scenario is a list of steps: what a program does from opening a model to its last result. Its clean run is counted;
 * then it is repeated as often as it has calls. Each time: the failing step gives a status and a sentence, nothing
 * leaks, the runtime was not misused; a session that lives has its states as they were, and goes on to the same results;
 * one that is dead says so.
 *
 * Linked with --wrap for cy_alloc and cy_free. Sanitized, every thirteenth fails; all of them in other builds. */
#define _GNU_SOURCE /* setenv */
#include "cuda_support.h"
#include "tests/api/scratch_folder.h"

#include "base/mem.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EVERY = FEWER > 1 ? 13 : 1 };

enum { ROWS = 3, STEPS = 4, MOST_UNITS = 4, MOST_NUMBERS = 256 };

/* ---- allocations of the host ---------------------------------------------------------------- */

static long live_blocks, allocations, failing_allocation;

void *__real_cy_alloc(size_t bytes);
void __real_cy_free(void *block);
void *__wrap_cy_alloc(size_t bytes);
void __wrap_cy_free(void *block);

void *__wrap_cy_alloc(size_t bytes)
{
    if (++allocations == failing_allocation) return NULL;
    void *block = __real_cy_alloc(bytes);
    live_blocks += block != NULL;
    return block;
}

void __wrap_cy_free(void *block)
{
    live_blocks -= block != NULL;
    __real_cy_free(block);
}

/* ---- the scenario --------------------------------------------------------------------------- */

/* Files in memory, where there is such a folder: thousands of them are synchronised. */
static void open_folder(void)
{
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    folder_open();
}

TestSuite(cuda_faults, .init = open_folder, .fini = folder_close);

static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};
static const carry_graph_shape at_open[] = {{3, 2}}, warmed[] = {{2, 3}};

typedef struct scenario {
    const char *name;
    model_spec spec;
    carry_precision precision;
    uint32_t exact, max_rows;
    bool graphs, async;
    bool moving; /* another model takes over, and the pool goes to a file and back */
    carry_place place;
} scenario;

static const scenario scenarios[] = {
    {.name = "stacked layers and a dense head, cuBLAS",
     .spec = {.features = 2,
              .layers = {LSTM_LAYER(3, SEQUENCES), LSTM_LAYER(4, 0),
                         DENSE_LAYER(2, CY_ACT_TANH)}}},
    {.name = "a dense head at every step, exact, in graphs",
     .spec = {.features = 2,
              .layers = {LSTM_LAYER(4, SEQUENCES), DENSE_LAYER(2, CY_ACT_TANH)}},
     .exact = 1,
     .graphs = true},
    {.name = "an embedding in bf16, ids on the device",
     .spec = {.ids = 9, .layers = {EMBEDDING_LAYER(3), LSTM_LAYER(4, SEQUENCES)}},
     .precision = CARRY_COMPUTE_BF16,
     .max_rows = 2,
     .exact = 1,
     .place = CARRY_DEVICE},
    {.name = "asynchronous, pinned, in graphs, cuBLAS",
     .spec = {.features = 2, .layers = {LSTM_LAYER(4, SEQUENCES)}},
     .graphs = true,
     .async = true,
     .place = CARRY_PINNED},
    {.name = "asynchronous, device memory",
     .spec = {.features = 2, .layers = {LSTM_LAYER(4, SEQUENCES), LSTM_LAYER(3, 0)}},
     .exact = 1,
     .async = true,
     .place = CARRY_DEVICE},
    {.name = "another model and a file, exact, in graphs",
     .spec = {.features = 2,
              .layers = {LSTM_LAYER(4, SEQUENCES), DENSE_LAYER(2, CY_ACT_TANH)}},
     .exact = 1,
     .graphs = true,
     .moving = true},
    {.name = "another model and a file, asynchronous, pinned, cuBLAS",
     .spec = {.features = 2, .layers = {LSTM_LAYER(3, SEQUENCES)}},
     .async = true,
     .moving = true,
     .place = CARRY_PINNED},
};

/* A run of it. */
typedef struct run {
    const scenario *s;
    const void *file, *other_file;
    size_t file_bytes, other_bytes;
    carry_model *model, *other;
    carry_session *session;
    carry_state states[ROWS], copy, loaded[ROWS + 1];
    buffer x, y;
    void *saved;
    size_t saved_bytes;
} run;

/* Both models, or none. */
static carry_status open_the_model(run *r)
{
    carry_model_options options = {
        .size = sizeof options, .device = "cuda", .precision = r->s->precision};
    CY_TRY(carry_model_open_bytes(&r->model, r->file, r->file_bytes, &options));
    if (!r->s->moving) return CARRY_OK;
    carry_status status =
        carry_model_open_bytes(&r->other, r->other_file, r->other_bytes, &options);
    if (status != CARRY_OK) carry_model_close(&r->model);
    return status;
}

static carry_status open_the_session(run *r)
{
    carry_session_options options = {.size = sizeof options,
                                     .exact = r->s->exact,
                                     .max_rows = r->s->max_rows,
                                     .graphs = r->s->graphs ? at_open : NULL,
                                     .graph_count = r->s->graphs ? 1 : 0};
    return carry_session_open(&r->session, r->model, &options);
}

static carry_status open_the_states(run *r)
{
    for (int i = 0; i < ROWS; i++)
        if (r->states[i].id == 0) CY_TRY(carry_state_open(r->session, &r->states[i]));
    return CARRY_OK;
}

static carry_status call(run *r, size_t rows, size_t steps)
{
    return run_wide(r->session, &(wide_call){.rows = rows,
                                             .max_steps = steps,
                                             .states = r->states,
                                             .x = &r->x,
                                             .y = &r->y,
                                             .outputs = 1,
                                             .flags = r->s->async ? CARRY_ASYNC : 0});
}

static carry_status call_all(run *r)
{
    return call(r, ROWS, STEPS);
}

static carry_status call_one(run *r)
{
    return call(r, 1, 1);
}

static carry_status call_some(run *r)
{
    return call(r, 2, 3);
}

static carry_status copy_one(run *r)
{
    return carry_state_copy(r->session, r->states[1], &r->copy);
}

static carry_status save_all(run *r)
{
    size_t bytes;
    CY_TRY(carry_states_save(r->session, r->states, ROWS, NULL, NULL, 0, &bytes));
    if (!r->saved) r->saved = malloc(bytes);
    return carry_states_save(r->session, r->states, ROWS, NULL, r->saved, bytes,
                             &r->saved_bytes);
}

static carry_status restore_all(run *r)
{
    return carry_states_restore(r->session, r->states, ROWS, NULL, r->saved,
                                r->saved_bytes);
}

static carry_status warm(run *r)
{
    return carry_session_warm(r->session, warmed, r->s->graphs ? 1 : 0);
}

static carry_status wait(run *r)
{
    return carry_session_wait(r->session);
}

static carry_status close_copy(run *r)
{
    return carry_state_close(r->session, &r->copy);
}

static carry_status set_the_other(run *r)
{
    return r->s->moving ? carry_session_set_model(r->session, r->other) : CARRY_OK;
}

static const char *pool_path(void)
{
    static char path[PATH_BYTES];
    folder_path(path, "pool");
    return path;
}

static carry_status save_pool(run *r)
{
    return r->s->moving ? carry_pool_save(r->session, pool_path(), NULL, NULL, 0)
                        : CARRY_OK;
}

/* The states and the copy of one. */
static carry_status load_pool(run *r)
{
    size_t count;
    if (!r->s->moving) return CARRY_OK;
    return carry_pool_load(r->session, pool_path(), r->loaded, NULL, ROWS + 1, &count);
}

static carry_status close_loaded(run *r)
{
    for (int i = 0; i <= ROWS; i++)
        CY_TRY(carry_state_close(r->session, &r->loaded[i]));
    return CARRY_OK;
}

typedef carry_status step(run *r);
static step *const steps[] = {
    open_the_model, open_the_session, open_the_states, call_all,  call_one,
    copy_one,       save_all,         restore_all,     warm,      call_some,
    wait,           set_the_other,    call_some,       save_pool, load_pool,
    close_loaded,   close_copy,       call_all,        wait};
enum { COPY_STEP = 5, SET_STEP = 11, STEP_COUNT = sizeof steps / sizeof *steps };

/* Outside of what is counted: the caller's own arrays. */
static run begin_run(const scenario *s, const void *file, size_t bytes)
{
    run r = {.s = s, .file = file, .file_bytes = bytes};
    if (s->moving) {
        model_spec retrained = s->spec;
        retrained.seed = 1;
        r.other_file = build_bytes(&retrained, &r.other_bytes);
    }
    carry_dtype type = s->spec.ids ? CARRY_I32 : CARRY_F32;
    size_t count = ROWS * STEPS * s->spec.features;
    if (s->spec.ids) count = ROWS * STEPS;
    r.x = buffer_open(s->place, type, count);
    r.y = buffer_open(s->place, CARRY_F32, ROWS * STEPS * MOST_UNITS);
    uint32_t values[ROWS * STEPS * 2];
    uint64_t seed = 7;
    for (size_t i = 0; i < count; i++) {
        float number = random_float(&seed);
        if (s->spec.ids) values[i] = (uint32_t)(i * 5 % s->spec.ids);
        else memcpy(&values[i], &number, sizeof number);
    }
    buffer_write(&r.x, values);
    return r;
}

static void end_run(run *r)
{
    carry_session_close(&r->session);
    carry_model_close(&r->other);
    carry_model_close(&r->model);
}

static void end_arrays(run *r)
{
    cy_free((void *)r->other_file);
    buffer_close(&r->x);
    buffer_close(&r->y);
    free(r->saved);
}

/* All numbers of all states, the copy's too; read with nothing failing. */
static size_t read_all(run *r, float *values)
{
    size_t count = 0;
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(r->model, &info));
    for (int i = 0; i <= ROWS; i++) {
        carry_state state = i < ROWS ? r->states[i] : r->copy;
        if (!r->session || state.id == 0) continue;
        for (size_t t = 0; t < info.state_tensors; t++) {
            carry_state_info tensor = {.size = sizeof tensor};
            OK(carry_model_get_state_tensor(r->model, t, &tensor));
            OK(carry_state_read(r->session, state, t, values + count,
                                (size_t)tensor.width));
            count += (size_t)tensor.width;
        }
    }
    return count;
}

/* ---- what a clean run does ------------------------------------------------------------------ */

typedef struct record {
    void *file;
    size_t file_bytes;
    size_t first_call;                      /* before the first step */
    size_t last_call[STEP_COUNT];           /* of each step */
    size_t end;                             /* of closing, too */
    size_t works;                           /* of the device, over all steps */
    float states[STEP_COUNT][MOST_NUMBERS]; /* after each */
    size_t state_count[STEP_COUNT];
    long allocations;
    size_t closing; /* calls that giving an open session's workspace back takes */
} record;

/* Closes another session of the same kind: without states, that is what is closed under a session, too. */
static size_t count_closing(run *r)
{
    run twin = {.s = r->s, .model = r->model};
    OK(open_the_session(&twin));
    OK(warm(&twin));
    size_t before = fake_seen_now().calls;
    carry_session_close(&twin.session);
    return fake_seen_now().calls - before;
}

static record *record_clean(const scenario *s)
{
    record *clean = calloc(1, sizeof *clean);
    clean->file = build_bytes(&s->spec, &clean->file_bytes);
    for (int reading = 0; reading < 2; reading++) {
        fake_reset(&gpu, 1);
        run r = begin_run(s, clean->file, clean->file_bytes);
        clean->first_call = fake_seen_now().calls;
        size_t works = fake_seen_now().works;
        allocations = 0;
        for (int i = 0; i < STEP_COUNT; i++) {
            OK(steps[i](&r));
            if (!reading) clean->last_call[i] = fake_seen_now().calls;
            else if (i > 0) clean->state_count[i] = read_all(&r, clean->states[i]);
        }
        if (reading && s->moving) clean->closing = count_closing(&r);
        if (!reading) clean->allocations = allocations;
        if (!reading) clean->works = fake_seen_now().works - works;
        end_run(&r);
        if (!reading) clean->end = fake_seen_now().calls;
        end_arrays(&r);
        no_misuse();
        cr_assert_eq(fake_open_handles(), 0);
    }
    return clean;
}

/* ---- one failure ---------------------------------------------------------------------------- */

/* What fails, and how. */
typedef struct fault {
    size_t call;     /* of CUDA or cuBLAS; 0: none */
    long allocation; /* of the host; 0: none */
    fake_failure failure;
} fault;

static const char *where(const scenario *s, const fault *f, int i)
{
    static char text[300];
    snprintf(text, sizeof text, "%s: step %d, call %zu (%s), allocation %ld, %s", s->name,
             i, f->call, f->call ? fake_call_name(f->call) : "", f->allocation,
             f->failure == FAKE_ONCE ? "once" : "from then on");
    return text;
}

static void check_sentence(const scenario *s, const fault *f, int i, carry_status status)
{
    const char *said = carry_error();
    cr_assert(strcmp(said, "unset") != 0, "%s: no sentence", where(s, f, i));
    cr_assert(status == CARRY_E_DEVICE || status == CARRY_E_MEMORY ||
                  status == CARRY_E_UNSUPPORTED,
              "%s: %s: %s", where(s, f, i), carry_status_name(status), said);
    bool tells = strstr(said, "(cudaError") || strstr(said, "cuBLAS") ||
                 strstr(said, "memory") || strstr(said, "driver");
    cr_assert(tells && strlen(said) > 20, "%s: '%s'", where(s, f, i), said);
}

/* The state of everything behind a step that failed: as before it. */
static void check_unmoved(run *r, const record *clean, const fault *f, int i)
{
    float now[MOST_NUMBERS];
    if (i <= 2) return; /* no states yet */
    size_t count = read_all(r, now);
    cr_assert_eq(count, clean->state_count[i - 1], "%s", where(r->s, f, i));
    size_t at = first_difference(now, clean->states[i - 1], count);
    cr_assert_eq(at, count, "%s: a state moved", where(r->s, f, i));
}

static void check_fault(const scenario *s, const record *clean, const fault *f)
{
    fake_reset(&gpu, 1 + f->call % 3);
    run r = begin_run(s, clean->file, clean->file_bytes);
    size_t arrays = fake_open_handles();
    long blocks = live_blocks;
    bool failed = false, dead = false;
    allocations = 0;
    failing_allocation = f->allocation;
    fake_fail_call(f->call, f->failure);
    for (int i = 0; i < STEP_COUNT && !dead; i++) {
        size_t handles = fake_open_handles();
        cy_fail(CARRY_OK, "unset");
        carry_status status = steps[i](&r);
        if (status == CARRY_OK) continue;
        cr_assert(!failed, "%s: a second failure: %s", where(s, f, i), carry_error());
        failed = true;
        check_sentence(s, f, i, status);
        if (f->failure == FAKE_STICKY) {
            cr_assert(!r.session || info_of(r.session).dead, "%s: alive", where(s, f, i));
            break;
        }
        fake_fail_call(0, FAKE_ONCE);
        failing_allocation = 0;
        if (i < 2) {
            cr_assert_eq(fake_open_handles(), handles, "%s: left open", where(s, f, i));
            cr_assert_null(i == 0 ? (void *)r.model : (void *)r.session);
        }
        dead = r.session && info_of(r.session).dead;
        if (dead) {
            /* what carry_state_copy began is not waited for either */
            cr_assert(s->async || i > COPY_STEP, "%s: dead of a synchronous call",
                      where(s, f, i));
            FAILS(CARRY_E_DEVICE, "the session is dead", carry_session_wait(r.session));
            break;
        }
        check_unmoved(&r, clean, f, i);
        OK(steps[i](&r)); /* the same again now works */
    }
    /* All but closing reports what fails, a workspace under a session as well, and except for the name of a device in
     * its description. */
    bool in_steps = f->allocation || f->call <= clean->last_call[STEP_COUNT - 1];
    bool untold = f->call && f->failure == FAKE_ONCE &&
                  strncmp(fake_call_name(f->call), "cudaGetDeviceProperties", 23) ==
                      0; /* CUDA 12 has it as ..._v2 */
    untold = untold || (f->call > clean->last_call[SET_STEP] - clean->closing &&
                        f->call <= clean->last_call[SET_STEP]);
    cr_assert(failed || !in_steps || untold, "%s: nobody was told",
              where(s, f, STEP_COUNT));
    if (in_steps && !dead && f->failure == FAKE_ONCE) {
        float now[MOST_NUMBERS];
        size_t count = read_all(&r, now);
        cr_assert_eq(count, clean->state_count[STEP_COUNT - 1]);
        SAME_BITS(now, clean->states[STEP_COUNT - 1], count);
    }
    end_run(&r);
    fake_fail_call(0, FAKE_ONCE);
    failing_allocation = 0;
    cr_assert_eq(folder_count("pool.tmp-"), 0, "%s: left beside the file",
                 where(s, f, -1));
    cr_assert_eq(fake_open_handles(), arrays, "%s: %zu handles leak", where(s, f, -1),
                 fake_open_handles() - arrays);
    cr_assert_eq(live_blocks, blocks, "%s: %ld blocks leak", where(s, f, -1),
                 live_blocks - blocks);
    cr_assert_eq(fake_seen_now().misuses, 0, "%s: %s", where(s, f, -1),
                 fake_last_misuse());
    end_arrays(&r);
}

static void check_calls(const scenario *s, fake_failure failure)
{
    record *clean = record_clean(s);
    cr_assert_gt(clean->end, clean->first_call + 50);
    size_t first = clean->first_call + 1 + (failure == FAKE_STICKY && FEWER > 1);
    for (size_t n = first; n <= clean->end; n += EVERY)
        check_fault(s, clean, &(fault){.call = n, .failure = failure});
    cy_free(clean->file);
    free(clean);
}

#define SCENARIO(number)                                \
    Test(cuda_faults, every_call_once_##number)         \
    {                                                   \
        check_calls(&scenarios[number], FAKE_ONCE);     \
    }                                                   \
    Test(cuda_faults, every_call_from_then_on_##number) \
    {                                                   \
        check_calls(&scenarios[number], FAKE_STICKY);   \
    }
SCENARIO(0)
SCENARIO(1)
SCENARIO(2)
SCENARIO(3)
SCENARIO(4)
SCENARIO(5)
SCENARIO(6)

Test(cuda_faults, every_allocation_of_the_host)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        record *clean = record_clean(&scenarios[i]);
        cr_assert_gt(clean->allocations, 8);
        for (long n = 1; n <= clean->allocations; n += EVERY)
            check_fault(&scenarios[i], clean, &(fault){.allocation = n});
        cy_free(clean->file);
        free(clean);
    }
}

/* ---- work that fails when it runs ------------------------------------------------------------- */

/* Every call on the session says that it is dead, and gives no number of a state that never came to be. */
static void check_dead(run *r)
{
    float number = 77;
    size_t bytes;
    cr_assert_eq(info_of(r->session).dead, 1);
    FAILS(CARRY_E_DEVICE, "the session is dead", carry_session_wait(r->session));
    FAILS(CARRY_E_DEVICE, "the session is dead", call(r, 1, 1));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_state_read(r->session, r->states[0], 0, &number, 1));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_states_save(r->session, r->states, 1, NULL, NULL, 0, &bytes));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_state_copy(r->session, r->states[0], &r->copy));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_state_reset(r->session, r->states[0]));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_session_warm(r->session, warmed, 1));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_session_set_model(r->session, r->model));
    FAILS(CARRY_E_DEVICE, "the session is dead",
          carry_pool_save(r->session, pool_path(), NULL, NULL, 0));
    cr_assert_eq(number, 77);
}

/* Closing a state is the host's affair; and so are steps that the scenario leaves out. */
static bool asks_nothing(const scenario *s, step *one)
{
    bool moves = one == set_the_other || one == save_pool || one == load_pool;
    return one == close_copy || one == close_loaded || (moves && !s->moving);
}

static void check_work(const scenario *s, const record *clean, size_t n)
{
    fake_reset(&gpu, 1 + n % 3);
    run r = begin_run(s, clean->file, clean->file_bytes);
    size_t arrays = fake_open_handles(), before = fake_seen_now().works;
    long blocks = live_blocks;
    fake_fail_work(before + n);
    int i = 0;
    carry_status status = CARRY_OK;
    for (; i < STEP_COUNT && status == CARRY_OK; i++) {
        bool lost = fake_seen_now().works >= before + n;
        cy_fail(CARRY_OK, "unset");
        status = steps[i](&r);
        /* Only what asks nothing of the device may still succeed. */
        cr_assert(status != CARRY_OK || !lost || asks_nothing(s, steps[i]),
                  "%s: work %zu: step %d succeeds on a device that is lost", s->name, n,
                  i);
    }
    const fault f = {.failure = FAKE_ONCE};
    cr_assert_neq(status, CARRY_OK, "%s: work %zu: nobody was told", s->name, n);
    check_sentence(s, &f, i - 1, status);
    cr_assert_eq(status, CARRY_E_DEVICE, "%s: work %zu: %s", s->name, n, carry_error());
    cr_assert_eq(fake_seen_now().works, before + n, "nothing is done behind it");
    if (i - 1 < 2) cr_assert_null(i == 1 ? (void *)r.model : (void *)r.session);
    else check_dead(&r);
    carry_model *another = NULL;
    carry_model_options options = {.size = sizeof options, .device = "cuda"};
    FAILS(CARRY_E_DEVICE, "cudaErrorIllegalAddress",
          carry_model_open_bytes(&another, clean->file, clean->file_bytes, &options));
    end_run(&r);
    cr_assert_eq(fake_open_handles(), arrays, "%s: work %zu: %zu handles leak", s->name,
                 n, fake_open_handles() - arrays);
    cr_assert_eq(live_blocks, blocks, "%s: work %zu: %ld blocks leak", s->name, n,
                 live_blocks - blocks);
    no_misuse();
    if (s->place != CARRY_HOST) {
        r.x.data = r.y.data = NULL; /* the lost device's */
        r.x.place = r.y.place = CARRY_HOST;
    }
    end_arrays(&r);
}

static void check_works(const scenario *s)
{
    record *clean = record_clean(s);
    cr_assert_gt(clean->works, 50);
    for (size_t n = 1; n <= clean->works; n += EVERY)
        check_work(s, clean, n);
    cy_free(clean->file);
    free(clean);
}

#define WORK_OF_SCENARIO(number)                        \
    Test(cuda_faults, every_work_when_it_runs_##number) \
    {                                                   \
        check_works(&scenarios[number]);                \
    }
WORK_OF_SCENARIO(0)
WORK_OF_SCENARIO(1)
WORK_OF_SCENARIO(2)
WORK_OF_SCENARIO(3)
WORK_OF_SCENARIO(4)
WORK_OF_SCENARIO(5)
WORK_OF_SCENARIO(6)

/* ---- too little memory ---------------------------------------------------------------------- */

static size_t taken(void)
{
    size_t free_bytes, total;
    CUDA_OK(cudaMemGetInfo(&free_bytes, &total));
    return total - free_bytes;
}

/* One byte less than a step takes: its sentence has both numbers, and what it had taken is free again. */
Test(cuda_faults, out_of_device_memory)
{
    const scenario *s = &scenarios[0];
    size_t bytes, after[3];
    void *file = build_bytes(&s->spec, &bytes);
    for (int stage = -1; stage < 3; stage++) {
        fake_device small = gpu;
        if (stage >= 0) small.memory_bytes = after[stage] - 1;
        fake_reset(&small, 1);
        run r = {.s = s, .file = file, .file_bytes = bytes};
        for (int i = 0; i < 3; i++) {
            size_t before = taken(), handles = fake_open_handles(), wanted, left, total;
            carry_status status = steps[i](&r);
            if (i != stage) {
                OK(status);
                if (stage < 0) after[i] = taken();
                continue;
            }
            cr_assert_eq(status, CARRY_E_MEMORY, "%s", carry_error());
            const char *at = strstr(carry_error(), " takes ");
            cr_assert(at, "%s", carry_error());
            cr_assert_eq(sscanf(at, " takes %zu bytes, %zu of %zu are free", &wanted,
                                &left, &total),
                         3, "%s", carry_error());
            cr_assert_eq(wanted, left + 1, "%s", carry_error());
            cr_assert_eq(total, small.memory_bytes);
            cr_assert_eq(taken(), before, "stage %d: memory is not given back", stage);
            cr_assert_eq(fake_open_handles(), handles, "stage %d", stage);
            if (r.session) cr_assert_eq(info_of(r.session).dead, 0);
            break;
        }
        end_run(&r);
        no_misuse();
        cr_assert_eq(fake_open_handles(), 0);
    }
    cy_free(file);
}

/* What CUDA takes by itself, for a graph or a stream, it does not say; what is free stands in the sentence. */
Test(cuda_faults, out_of_memory_where_cuda_takes_it)
{
    static const char *const calls[] = {"cudaGraphInstantiate",
                                        "cudaStreamCreateWithFlags"};
    const scenario *s = &scenarios[3];
    record *clean = record_clean(s);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int attempt = 0; attempt < 2; attempt++) {
            static size_t failing;
            fake_reset(&gpu, 1);
            run r = begin_run(s, clean->file, clean->file_bytes);
            OK(open_the_model(&r));
            size_t n = fake_seen_now().calls, left, total;
            if (attempt == 1) fake_fail_call(failing, FAKE_ONCE);
            carry_status status = open_the_session(&r);
            if (attempt == 0) {
                OK(status);
                while (strcmp(fake_call_name(n), calls[i]) != 0)
                    cr_assert_leq(++n, fake_seen_now().calls);
                failing = n;
            } else {
                cr_assert_eq(status, CARRY_E_MEMORY);
                const char *at = strchr(carry_error(), ';');
                cr_assert(at && sscanf(at, "; %zu of %zu bytes of device memory are free",
                                       &left, &total) == 2,
                          "%s", carry_error());
                cr_assert(left > 0 && left < total && total == gpu.memory_bytes);
            }
            end_run(&r);
            end_arrays(&r);
            cr_assert_eq(fake_open_handles(), 0);
        }
    cy_free(clean->file);
    free(clean);
}
