/* Memory: every allocation of ours in every open fails once, leaving a sentence, a NULL handle and no
 * leak; and carry_run and carry_state_reset allocate nothing at all.
 *
 * Linked with --wrap for cy_alloc, cy_free and the C library's allocators: the calls of the objects of
 * carry go through the counters below. */
#include "scratch_folder.h"
#include "support.h"

#include "base/mem.h"

#include <carry/carry_batcher.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_long ours, live,
    fail_at; /* fail_at: number of the allocation to fail, 0: none */
static atomic_long libc_calls;

void *__real_cy_alloc(size_t bytes);
void __real_cy_free(void *block);
void *__wrap_cy_alloc(size_t bytes);
void __wrap_cy_free(void *block);

void *__wrap_cy_alloc(size_t bytes)
{
    long number = atomic_fetch_add(&ours, 1) + 1;
    if (number == atomic_load(&fail_at)) return NULL;
    void *block = __real_cy_alloc(bytes);
    if (block) atomic_fetch_add(&live, 1);
    return block;
}

void __wrap_cy_free(void *block)
{
    if (block) atomic_fetch_sub(&live, 1);
    __real_cy_free(block);
}

#define COUNTED(type, name, parameters, arguments) \
    type __real_##name parameters;                 \
    type __wrap_##name parameters;                 \
    type __wrap_##name parameters                  \
    {                                              \
        atomic_fetch_add(&libc_calls, 1);          \
        return __real_##name arguments;            \
    }
COUNTED(void *, malloc, (size_t bytes), (bytes))
COUNTED(void *, calloc, (size_t count, size_t bytes), (count, bytes))
COUNTED(void *, realloc, (void *block, size_t bytes), (block, bytes))
COUNTED(int, posix_memalign, (void **block, size_t align, size_t bytes),
        (block, align, bytes))

void *__real_aligned_alloc(size_t align, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
    atomic_fetch_add(&libc_calls, 1);
    /* more than any machine has: AddressSanitizer ends the process where the C library says no */
    if (bytes > (size_t)1 << 40) return NULL;
    return __real_aligned_alloc(align, bytes);
}

static atomic_long thread_to_refuse; /* number of the thread that cannot start, 0: none */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    if (atomic_load(&thread_to_refuse) && atomic_fetch_sub(&thread_to_refuse, 1) == 1)
        return EAGAIN;
    return __real_pthread_create(thread, attributes, start, argument);
}

static const model_spec specs[] = {
    {.features = 3,
     .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(40, 0),
                DENSE_LAYER(2, CY_ACT_TANH)}},
    {.ids = 50,
     .layers = {EMBEDDING_LAYER(8), LSTM_LAYER(17, SEQUENCES),
                DENSE_LAYER(50, CY_ACT_SOFTMAX)}},
    {.features = 2,
     .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS),
                LSTM_ACT(5, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_RELU)}},
};
#define SPECS (sizeof specs / sizeof *specs)

/* Fails the first, second ... allocation of `action` until it succeeds; says how many there were. */
typedef struct attempt {
    carry_status (*action)(void *);
    void (*undo)(void *); /* after success */
    int (*is_clean)(void *);
    void *argument;
    long
        may_keep; /* blocks that a failure may leave with their owner, who frees them when it closes */
} attempt;

static long fail_each(const attempt *a)
{
    for (long number = 1;; number++) {
        long before = atomic_load(&live);
        atomic_store(&ours, 0);
        atomic_store(&fail_at, number);
        carry_status status = a->action(a->argument);
        bool reached = atomic_load(&ours) >= number;
        atomic_store(&fail_at, 0);
        if (!reached) {
            OK(status);
            a->undo(a->argument);
            return number - 1;
        }
        cr_assert_eq(status, CARRY_E_MEMORY, "allocation %ld: %s", number,
                     carry_status_name(status));
        cr_assert(strstr(carry_error(), "memory") != NULL, "allocation %ld: %s", number,
                  carry_error());
        cr_assert(a->is_clean(a->argument), "allocation %ld: the handle is not NULL",
                  number);
        long more = atomic_load(&live) - before;
        cr_assert(more >= 0 && more <= a->may_keep, "allocation %ld: %ld blocks leaked",
                  number, more);
    }
}

typedef struct opened {
    const void *data;
    size_t bytes;
    carry_model *model;
    carry_session_options options;
    carry_session *session;
    carry_state state, source;
    void *buffer;
    size_t capacity;
    char path[PATH_BYTES];
    carry_model *other;
} opened;

static carry_status open_model(void *argument)
{
    opened *o = argument;
    o->model = argument;
    return carry_model_open_bytes(&o->model, o->data, o->bytes, NULL);
}
static int no_model(void *argument)
{
    return ((opened *)argument)->model == NULL;
}
static void close_model(void *argument)
{
    carry_model_close(&((opened *)argument)->model);
}

Test(alloc, every_allocation_of_a_model)
{
    for (size_t i = 0; i < SPECS; i++) {
        opened o = {0};
        void *data = build_bytes(&specs[i], &o.bytes);
        /* unaligned, so that weights are copied as well */
        char *shifted = malloc(o.bytes + 2);
        memcpy(shifted + 1, data, o.bytes);
        cy_free(data);
        o.data = shifted + 1;
        long before = atomic_load(&live);
        long count = fail_each(&(attempt){open_model, close_model, no_model, &o, 0});
        cr_assert_geq(count, 3, "%ld allocations", count);
        cr_assert_eq(atomic_load(&live), before, "a closed model leaves blocks behind");
        free(shifted);
    }
}

static carry_status open_session(void *argument)
{
    opened *o = argument;
    o->session = argument;
    return carry_session_open(&o->session, o->model, &o->options);
}
static int no_session(void *argument)
{
    return ((opened *)argument)->session == NULL;
}
static void close_session(void *argument)
{
    carry_session_close(&((opened *)argument)->session);
}

Test(alloc, every_allocation_of_a_session)
{
    for (size_t i = 0; i < SPECS; i++)
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            opened o = {.model = build_model(&specs[i]),
                        .options = {.size = sizeof o.options, .threads = threads}};
            long before = atomic_load(&live);
            long count =
                fail_each(&(attempt){open_session, close_session, no_session, &o, 0});
            cr_assert_geq(count, 2, "%ld allocations", count);
            cr_assert_eq(atomic_load(&live), before,
                         "a closed session leaves blocks behind");
            carry_model_close(&o.model);
            cr_assert_eq(atomic_load(&live), 0);
        }
}

Test(alloc, every_thread_that_cannot_start)
{
    if (on_cuda()) {
        rig r =
            rig_open(&specs[0], &(carry_session_options){
                                    .size = sizeof(carry_session_options), .threads = 5});
        carry_session_info info = {.size = sizeof info};
        OK(carry_session_get_info(r.session, &info));
        cr_assert_eq(info.threads, 1, "a CUDA session has %u threads", info.threads);
        rig_close(&r);
        return;
    }
    opened o = {.model = build_model(&specs[0]),
                .options = {.size = sizeof o.options, .threads = 5}};
    long before = atomic_load(&live);
    for (long number = 1; number <= 4; number++) { /* the fifth is the caller */
        atomic_store(&thread_to_refuse, number);
        carry_status status = open_session(&o);
        atomic_store(&thread_to_refuse, 0);
        cr_assert_eq(status, CARRY_E_MEMORY, "thread %ld: %s", number,
                     carry_status_name(status));
        cr_assert(strstr(carry_error(), "thread") != NULL, "%s", carry_error());
        cr_assert_null(o.session);
        cr_assert_eq(atomic_load(&live), before);
    }
    OK(open_session(&o));
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(o.session, &info));
    cr_assert_eq(info.threads, 5);
    carry_session_close(&o.session);
    carry_model_close(&o.model);
}

static carry_status open_state(void *argument)
{
    opened *o = argument;
    o->state.id = 42;
    return o->source.id ? carry_state_copy(o->session, o->source, &o->state)
                        : carry_state_open(o->session, &o->state);
}
static int no_state(void *argument)
{
    return ((opened *)argument)->state.id == 0;
}
static void keep_state(void *argument)
{
    (void)argument;
}

Test(alloc, every_allocation_of_a_state)
{
    for (size_t i = 0; i < SPECS; i++)
        for (int copy = 0; copy < 2; copy++) {
            opened o = {.model = build_model(&specs[i])};
            OK(carry_session_open(&o.session, o.model, NULL));
            if (copy) /* fill the pool's first chunk, so that the copy must grow it */
                do {
                    atomic_store(&ours, 0);
                    carry_state state;
                    OK(carry_state_open(o.session, &state));
                    if (atomic_load(&ours) && o.source.id) break;
                    o.source = state;
                } while (1);
            /* opens until one allocates; each of its allocations is then failed in turn. What an open has taken
             * before it fails, blocks and their memory, then the table, serves the next one. */
            long count = 0;
            for (int opens = 0; opens < 20000 && count == 0; opens++)
                count = fail_each(&(attempt){open_state, keep_state, no_state, &o, 3});
            cr_assert_gt(count, 0, "no open of a state ever allocated");
            carry_session_close(&o.session);
            carry_model_close(&o.model);
            cr_assert_eq(atomic_load(&live), 0);
        }
}

static carry_status save_state(void *argument)
{
    opened *o = argument;
    return carry_states_save(o->session, &o->state, 1, NULL, o->buffer, o->capacity,
                             &o->bytes);
}
static carry_status restore_state(void *argument)
{
    opened *o = argument;
    return carry_states_restore(o->session, &o->state, 1, NULL, o->buffer, o->capacity);
}
static int always(void *argument)
{
    (void)argument;
    return 1;
}

Test(alloc, every_allocation_of_saving_and_restoring)
{
    opened o = {.model = build_model(&specs[0])};
    OK(carry_session_open(&o.session, o.model, NULL));
    OK(carry_state_open(o.session, &o.state));
    float h[5] = {1, 2, 3, 4, 5}, back[5], other[5] = {9, 9, 9, 9, 9};
    OK(carry_state_write(o.session, o.state, 0, h, 5));
    OK(carry_states_save(o.session, &o.state, 1, NULL, NULL, 0, &o.bytes));
    o.capacity = o.bytes;
    o.buffer = malloc(o.capacity);
    long saving = fail_each(&(attempt){save_state, keep_state, always, &o, 0});
    cr_assert_gt(saving, 0);
    OK(save_state(&o));
    OK(carry_state_write(o.session, o.state, 0, other, 5));
    /* a restore that failed has changed nothing; the one that succeeds has changed all */
    atomic_store(&ours, 0);
    atomic_store(&fail_at, 1);
    carry_status status = restore_state(&o);
    atomic_store(&fail_at, 0);
    cr_assert_eq(status, CARRY_E_MEMORY);
    OK(carry_state_read(o.session, o.state, 0, back, 5));
    SAME_BITS(back, other, 5);
    long restoring = fail_each(&(attempt){restore_state, keep_state, always, &o, 0});
    cr_assert_gt(restoring, 0);
    OK(carry_state_read(o.session, o.state, 0, back, 5));
    SAME_BITS(back, h, 5);
    free(o.buffer);
    carry_session_close(&o.session);
    carry_model_close(&o.model);
    cr_assert_eq(atomic_load(&live), 0);
}

static carry_status save_pool(void *argument)
{
    opened *o = argument;
    return carry_pool_save(o->session, o->path, NULL, NULL, 0);
}
static carry_status load_pool(void *argument)
{
    opened *o = argument;
    return carry_pool_load(o->session, o->path, &o->state, NULL, 1, &o->bytes);
}
static void close_state(void *argument)
{
    opened *o = argument;
    OK(carry_state_close(o->session, &o->state));
}
static int only_the_old_file(void *argument)
{
    size_t bytes;
    void *file = file_read(((opened *)argument)->path, &bytes);
    free(file);
    return file && bytes == 7 && folder_count("") == 1;
}

Test(alloc, every_allocation_of_a_pool_file)
{
    opened o = {.model = build_model(&specs[0])};
    folder_open();
    folder_path(o.path, "pool");
    file_write(o.path, "the old", 7);
    OK(carry_session_open(&o.session, o.model, NULL));
    OK(carry_state_open(o.session, &o.state));
    float h[5] = {1, 2, 3, 4, 5}, back[5];
    OK(carry_state_write(o.session, o.state, 0, h, 5));
    long saving = fail_each(&(attempt){save_pool, keep_state, only_the_old_file, &o, 0});
    cr_assert_geq(saving, 8, "%ld allocations", saving);
    carry_session_close(&o.session);

    OK(carry_session_open(&o.session, o.model, NULL));
    OK(carry_state_open(o.session, &o.source));
    long loading = fail_each(&(attempt){load_pool, close_state, no_state, &o, 0});
    cr_assert_geq(loading, 8, "%ld allocations", loading);
    OK(load_pool(&o));
    OK(carry_state_read(o.session, o.state, 0, back, 5));
    SAME_BITS(back, h, 5);
    carry_session_close(&o.session);
    carry_model_close(&o.model);
    folder_close();
    cr_assert_eq(atomic_load(&live), 0);
}

/* A load that needs more memory for its states, and does not get it, has opened none. */
Test(alloc, loading_into_a_pool_that_must_grow)
{
    enum { MOST = 20000 };
    const size_t many =
        on_cuda() ? 3000 : MOST; /* more than the pool's first memory is for */
    opened o = {.model = build_model(&specs[0])};
    static carry_state states[MOST];
    size_t count;
    folder_open();
    folder_path(o.path, "pool");
    OK(carry_session_open(&o.session, o.model, NULL));
    for (size_t i = 0; i < many; i++)
        OK(carry_state_open(o.session, &states[i]));
    OK(save_pool(&o));
    carry_session_close(&o.session);
    OK(carry_session_open(&o.session, o.model, NULL));
    int refused = 0;
    carry_pool_info info = {.size = sizeof info};
    OK(carry_session_get_pool(o.session, &info));
    uint64_t held = info.bytes;
    for (long number = 1;; number++) {
        atomic_store(&ours, 0);
        atomic_store(&fail_at, number);
        carry_status status =
            carry_pool_load(o.session, o.path, states, NULL, many, &count);
        bool reached = atomic_load(&ours) >= number;
        atomic_store(&fail_at, 0);
        if (!reached) {
            OK(status);
            break;
        }
        cr_assert_eq(status, CARRY_E_MEMORY, "allocation %ld: %s", number,
                     carry_status_name(status));
        OK(carry_session_get_pool(o.session, &info));
        cr_assert_eq(info.open, 0);
        cr_assert_eq(info.opened + info.closed, 0, "they were never there");
        cr_assert_eq(count, 0);
        for (size_t i = 0; i < many; i++)
            cr_assert_eq(states[i].id, 0);
        refused += info.bytes > held; /* in the middle of the file: the pool had grown */
        held = info.bytes;
    }
    cr_assert_gt(refused, 0, "no allocation failed after a state was opened");
    carry_session_close(&o.session);
    carry_model_close(&o.model);
    folder_close();
    cr_assert_eq(atomic_load(&live), 0);
}

static carry_status set_model(void *argument)
{
    opened *o = argument;
    return carry_session_set_model(o->session, o->other);
}
static carry_status run_one(opened *o, float *y)
{
    static const float x[3] = {1, -1, 0.5f};
    rig r = {.session = o->session, .in = 3, .out = 2};
    return run_call(
        &r, &(call_spec){.rows = 1, .max_steps = 1, .states = &o->state, .x = x, .y = y});
}
static float old_answer[2], y_of_old[2];
static int answers_as_before(void *argument)
{
    opened *o = argument;
    OK(carry_state_reset(o->session, o->state));
    OK(run_one(o, y_of_old));
    return memcmp(y_of_old, old_answer, sizeof old_answer) == 0;
}

Test(alloc, every_allocation_of_another_model)
{
    model_spec retrained = specs[0];
    retrained.seed = 9;
    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        carry_session_options options = {.size = sizeof options, .threads = threads};
        opened o = {.model = build_model(&specs[0]), .other = build_model(&retrained)};
        OK(carry_session_open(&o.session, o.model, &options));
        OK(carry_state_open(o.session, &o.state));
        OK(run_one(&o, old_answer));
        long count =
            fail_each(&(attempt){set_model, keep_state, answers_as_before, &o, 0});
        cr_assert_geq(count, 2, "%ld allocations", count);
        carry_model_close(&o.model);
        cr_assert(!answers_as_before(&o), "the old model answers");
        if (!on_cuda() && threads == 3) { /* nor does a thread that cannot start harm */
            OK(run_one(&o, old_answer));
            cr_assert(!answers_as_before(&o));
            memcpy(old_answer, y_of_old, sizeof y_of_old);
            atomic_store(&thread_to_refuse, 1);
            cr_assert_eq(set_model(&o), CARRY_E_MEMORY);
            atomic_store(&thread_to_refuse, 0);
            cr_assert(answers_as_before(&o));
        }
        carry_session_close(&o.session);
        carry_model_close(&o.other);
        cr_assert_eq(atomic_load(&live), 0);
    }
}

Test(alloc, run_and_reset_allocate_nothing)
{
    enum { ROWS = 70, STEPS = 30 };
    const int rows = on_cuda() ? 12 : ROWS, most = on_cuda() ? 9 : STEPS;
    for (size_t i = 0; i < SPECS; i++)
        for (uint32_t threads = 1; threads <= (on_cuda() ? 1 : 3); threads++) {
            carry_session_options options = {
                .size = sizeof options, .threads = threads, .max_steps = (uint32_t)most};
            rig r = rig_open(&specs[i], &options);
            carry_state states[ROWS];
            open_states(&r, states, (size_t)rows);
            float *x = random_input(&r, (size_t)rows, (size_t)most, i);
            float *y = malloc(
                output_count(&r, (size_t)rows, (size_t)most, CARRY_STEPS_AS_MODEL) *
                sizeof *y);
            uint32_t steps[ROWS];
            carry_status status[ROWS];
            for (int row = 0; row < rows; row++)
                steps[row] = (uint32_t)(row * 7) % (uint32_t)(most + 1);
            call_spec call = {.rows = (size_t)rows,
                              .max_steps = (size_t)most,
                              .states = states,
                              .x = x,
                              .y = y};
            carry_state foreign = {1};
            uint64_t offsets[ROWS + 1] = {0};
            for (int row = 0; row < rows; row++)
                offsets[row + 1] = offsets[row] + steps[row];
            carry_array in = {.size = sizeof in,
                              .data = x,
                              .dtype = r.ids ? CARRY_I32 : CARRY_F32,
                              .bytes = (size_t)(rows * most) * r.in * sizeof *x},
                        out = {.size = sizeof out,
                               .data = y,
                               .bytes = output_count(&r, (size_t)rows, (size_t)most,
                                                     CARRY_STEPS_AS_MODEL) *
                                        sizeof *y};
            carry_batch packed = {.size = sizeof packed,
                                  .rows = (size_t)rows,
                                  .inputs = &in,
                                  .input_count = 1,
                                  .outputs = &out,
                                  .output_count = 1,
                                  .row_offsets = offsets};
            atomic_store(&ours, 0);
            atomic_store(&libc_calls, 0);
            carry_status all[7];
            all[0] = run_call(&r, &call);
            call.steps = steps;
            all[1] = run_call(&r, &call);
            call.row_status = status;
            states[1] = foreign; /* a row that is refused, sentence included */
            all[2] = run_call(&r, &call);
            all[3] = carry_state_reset(r.session, states[0]);
            all[4] = carry_state_reset(r.session, foreign);
            call.states = NULL;
            all[5] = run_call(&r, &call);
            all[6] = carry_run(r.session, &packed);
            long own = atomic_load(&ours), libc = atomic_load(&libc_calls);
            cr_assert_eq(own, 0, "%ld allocations of ours", own);
            if (!on_cuda()) /* the emulated runtime is in this program, and allocates */
                cr_assert_eq(libc, 0, "%ld allocations through the C library", libc);
            for (int k = 0; k < 7; k++)
                cr_assert_eq(all[k], k == 4 ? CARRY_E_FOREIGN : CARRY_OK, "call %d: %s",
                             k, carry_error());
            free(x);
            free(y);
            rig_close(&r);
        }
}

Test(alloc, the_counters_count)
{
    /* the wraps are linked in: otherwise the test above could not fail */
    atomic_store(&ours, 0);
    atomic_store(&libc_calls, 0);
    carry_model *model = build_model(&specs[0]);
    cr_assert_gt(atomic_load(&ours), 0);
    cr_assert_gt(atomic_load(&libc_calls), 0);
    cr_assert_gt(atomic_load(&live), 0);
    carry_model_close(&model);
    cr_assert_eq(atomic_load(&live), 0);
}

Test(alloc, a_session_too_large_for_memory_says_how_many_bytes)
{
    model_spec spec = {.features = 2, .layers = {LSTM_LAYER(200, SEQUENCES | BACKWARDS)}};
    carry_model *model = build_model(&spec);
    carry_session *session = NULL;
    carry_session_options options = {.size = sizeof options,
                                     .threads = 1,
                                     .max_rows = 1u << 20,
                                     .max_steps = 1u << 24};
    if (on_cuda()) { /* as many as its kernels can index: 8.5 GB for the gates alone */
        options.max_rows = 1024;
        options.max_steps = 2600;
    }
    FAILS(CARRY_E_MEMORY, "bytes", carry_session_open(&session, model, &options));
    cr_assert_null(session);
    carry_model_close(&model);
    cr_assert_eq(atomic_load(&live), 0);
}

/* ---- the batcher ---------------------------------------------------------------------------- */

typedef struct batched {
    carry_model *model;
    carry_session_options session;
    carry_batcher *batcher;
    carry_state state;
} batched;

static carry_status open_batcher(void *argument)
{
    batched *b = argument;
    carry_batcher_options options = {
        .size = sizeof options, .workers = 3, .queue_limit = 50, .session = &b->session};
    b->batcher = argument;
    return carry_batcher_open(&b->batcher, b->model, &options);
}
static int no_batcher(void *argument)
{
    return ((batched *)argument)->batcher == NULL;
}
static void close_batcher(void *argument)
{
    carry_batcher_close(&((batched *)argument)->batcher);
}

static batched make_batched(size_t spec)
{
    batched b = {.model = build_model(&specs[spec])};
    b.session = session_options(&(carry_session_options){
        .size = sizeof b.session, .threads = 1, .max_rows = 8, .max_steps = 9});
    return b;
}

Test(alloc, every_allocation_of_a_batcher)
{
    for (size_t i = 0; i < SPECS; i++) {
        batched b = make_batched(i);
        long before = atomic_load(&live);
        long count =
            fail_each(&(attempt){open_batcher, close_batcher, no_batcher, &b, 0});
        cr_assert_geq(count, 10, "%ld allocations", count);
        cr_assert_eq(atomic_load(&live), before, "a closed batcher leaves blocks behind");
        for (long number = 1; number <= 3; number++) {
            atomic_store(&thread_to_refuse, number);
            carry_status status = open_batcher(&b);
            atomic_store(&thread_to_refuse, 0);
            cr_assert_eq(status, CARRY_E_MEMORY, "thread %ld: %s", number,
                         carry_status_name(status));
            cr_assert(strstr(carry_error(), "thread of the batcher") != NULL, "%s",
                      carry_error());
            cr_assert_null(b.batcher);
            cr_assert_eq(atomic_load(&live), before);
        }
        carry_model_close(&b.model);
    }
}

Test(alloc, a_batcher_of_more_steps_than_memory_holds)
{
    batched b = make_batched(0);
    b.session.max_rows = 64;
    carry_batcher_options options = {
        .size = sizeof options, .batch_steps = UINT32_MAX, .session = &b.session};
    long before = atomic_load(&live);
    FAILS(CARRY_E_MEMORY, "bytes for calls of 64 rows of 4294967295 steps",
          carry_batcher_open(&b.batcher, b.model, &options));
    cr_expect_null(b.batcher);
    cr_expect_eq(atomic_load(&live), before);
    carry_model_close(&b.model);
}

static carry_status open_batcher_state(void *argument)
{
    batched *b = argument;
    b->state.id = 42;
    return carry_batcher_state_open(b->batcher, &b->state);
}
static int no_batcher_state(void *argument)
{
    return ((batched *)argument)->state.id == 0;
}

/* The first takes memory for everything, later ones for themselves and where something grows. */
Test(alloc, every_allocation_of_a_state_of_the_batcher)
{
    batched b = make_batched(0);
    OK(open_batcher(&b));
    long most = 0;
    for (uint64_t opens = 0; opens < 300; opens++) {
        long count = fail_each(
            &(attempt){open_batcher_state, keep_state, no_batcher_state, &b, 6});
        cr_assert_gt(count, 0);
        if (count > most) most = count;
        carry_batcher_info info = {.size = sizeof info};
        OK(carry_batcher_get_info(b.batcher, &info));
        cr_assert_eq(info.states, opens + 1, "a state that failed to open was counted");
    }
    cr_assert_geq(most, 3, "%ld allocations", most);
    close_batcher(&b);
    carry_model_close(&b.model);
    cr_assert_eq(atomic_load(&live), 0);
}

static void count_done(void *user, const carry_result *result)
{
    atomic_fetch_add((atomic_long *)user, result->status == CARRY_OK ? 1 : 1000);
}

Test(alloc, the_batcher_allocates_nothing_but_in_opening)
{
    enum { STATES = 20, ROUNDS = 10 };
    batched b = make_batched(0);
    carry_state states[STATES];
    float x[3] = {1, 2, 3};
    static atomic_long done;
    carry_request request = {
        .size = sizeof request,
        .steps = 1,
        .input = {.size = sizeof(carry_array), .data = x, .bytes = sizeof x},
        .on_done = count_done,
        .user = &done};
    OK(open_batcher(&b));
    for (int i = 0; i < STATES; i++)
        OK(carry_batcher_state_open(b.batcher, &states[i]));
    atomic_store(&ours, 0);
    atomic_store(&libc_calls, 0);
    for (int round = 0; round < ROUNDS; round++) {
        carry_ticket ticket;
        for (int i = 0; i < STATES; i++) {
            request.state = states[i];
            OK(carry_batcher_submit(b.batcher, &request, 0, &ticket));
        }
        OK(carry_batcher_wait(b.batcher, ticket));
        OK(carry_batcher_drain(b.batcher));
    }
    long own = atomic_load(&ours), libc = atomic_load(&libc_calls);
    cr_expect_eq(own, 0, "%ld allocations of ours", own);
    if (!on_cuda()) /* the emulated runtime is in this program, and allocates */
        cr_expect_eq(libc, 0, "%ld allocations through the C library", libc);
    cr_expect_eq(atomic_load(&done), STATES * ROUNDS);
    close_batcher(&b);
    carry_model_close(&b.model);
}
