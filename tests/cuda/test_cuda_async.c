/* CARRY_ASYNC: calls that return before their work is done, on the session's stream and on the caller's, and what
 * becomes of a session whose work fails after the return. The fake runs queued work when its seed says so, so each
 * case runs under many seeds. */
#include "cuda_support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, STEPS = 4, FEATURES = 3, UNITS = 4, SEEDS = 12 / FEWER };

/* Steps of a call of several chunks: more than a plain chunk has; sanitized, of graphs of two. */
enum { LONG = FEWER > 1 ? 9 : 257 };

static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};
static const carry_graph_shape shape = {4, 2};

static const model_spec spec = {
    .features = FEATURES,
    .layers = {LSTM_LAYER(UNITS, SEQUENCES), LSTM_LAYER(UNITS, SEQUENCES)}};

/* exact, so that results can be held to each other bit for bit */
static const carry_session_options exact = {.size = sizeof(carry_session_options),
                                            .exact = 1};
static const carry_session_options with_graphs = {.size = sizeof(carry_session_options),
                                                  .exact = 1,
                                                  .graphs = &shape,
                                                  .graph_count = 1};
static const carry_session_options in_groups = {
    .size = sizeof(carry_session_options), .exact = 1, .max_rows = 2};
static const carry_session_options *const in_chunks = FEWER > 1 ? &with_graphs : &exact;
static const carry_session_options *const sessions[] = {&exact, &with_graphs, &in_groups};

/* One array for all calls of a test. */
typedef struct arrays {
    buffer x, y;
} arrays;

static arrays open_arrays(carry_place place, size_t rows, size_t steps, uint64_t seed)
{
    arrays a = {buffer_open(place, CARRY_F32, rows * steps * FEATURES),
                buffer_open(place, CARRY_F32, rows * steps * UNITS)};
    float *x = malloc(a.x.count * sizeof *x);
    for (size_t i = 0; i < a.x.count; i++)
        x[i] = random_float(&seed);
    buffer_write(&a.x, x);
    free(x);
    return a;
}

static void close_arrays(arrays *a)
{
    buffer_close(&a->x);
    buffer_close(&a->y);
}

static wide_call call_of(const arrays *a, const carry_state *states, size_t rows,
                         size_t steps)
{
    return (wide_call){.rows = rows,
                       .max_steps = steps,
                       .states = states,
                       .x = &a->x,
                       .y = &a->y,
                       .outputs = 1,
                       .flags = CARRY_ASYNC};
}

/* What the same calls, one after another, give without CARRY_ASYNC. */
static float *answers(size_t calls, size_t rows, size_t steps, float **state,
                      size_t *state_count)
{
    fake_reset(&gpu, 1);
    rig r = rig_on("cuda", &spec, &exact);
    carry_state *states = calloc(rows, sizeof *states);
    open_states(&r, states, rows);
    size_t count = rows * steps * UNITS;
    float *all = malloc(calls * count * sizeof *all);
    for (size_t i = 0; i < calls; i++) {
        arrays a = open_arrays(CARRY_HOST, rows, steps, i);
        wide_call call = call_of(&a, states, rows, steps);
        call.flags = 0;
        OK(run_wide(r.session, &call));
        memcpy(all + i * count, a.y.data, count * sizeof *all);
        close_arrays(&a);
    }
    *state = read_state(&r, states[rows - 1], state_count);
    free(states);
    rig_close(&r);
    return all;
}

/* ---- returning ------------------------------------------------------------------------------ */

Test(cuda_async, a_call_returns_before_its_work_is_done)
{
    int unfinished = 0;
    for (uint64_t seed = 1; seed <= 2 * SEEDS; seed++) {
        fake_reset(&gpu, seed);
        rig r = rig_on("cuda", &spec, seed % 2 ? &exact : &with_graphs);
        arrays a = open_arrays(CARRY_PINNED, ROWS, STEPS, seed);
        wide_call call = call_of(&a, NULL, ROWS, STEPS);
        const float *y = a.y.data;
        size_t first = fake_seen_now().calls;
        OK(run_wide(r.session, &call));
        cr_assert_eq(calls_of("cudaStreamSynchronize", first), 0);
        cr_assert_eq(calls_of("cudaDeviceSynchronize", first), 0);
        cr_assert_eq(calls_of("cudaMemcpy2D", first),
                     calls_of("cudaMemcpy2DAsync", first));
        unfinished += isnan(y[a.y.count - 1]);
        OK(carry_session_wait(r.session));
        for (size_t i = 0; i < a.y.count; i++)
            cr_assert(!isnan(y[i]), "seed %d: %zu", (int)seed, i);
        no_misuse();
        close_arrays(&a);
        rig_close(&r);
    }
    cr_assert_gt(unfinished, 0, "every call had finished when it returned");
}

/* The host's side of a block is used again only when its copy has been read. */
Test(cuda_async, more_calls_than_blocks_in_flight)
{
    enum { CALLS = FEWER > 1 ? 10 : 21 };
    float *state;
    size_t count;
    float *expected = answers(CALLS, ROWS, STEPS, &state, &count);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fake_reset(&gpu, seed);
        rig r = rig_on("cuda", &spec, sessions[seed % 3]);
        carry_state states[ROWS];
        open_states(&r, states, ROWS);
        arrays a[CALLS];
        for (uint64_t i = 0; i < CALLS; i++)
            a[i] = open_arrays(seed & 4 ? CARRY_PINNED : CARRY_DEVICE, ROWS, STEPS, i);
        for (uint64_t i = 0; i < CALLS; i++) {
            wide_call call = call_of(&a[i], states, ROWS, STEPS);
            OK(run_wide(r.session, &call));
        }
        if (seed & 1) OK(carry_session_wait(r.session));
        float *after = read_state(&r, states[ROWS - 1], &count); /* waits by itself */
        SAME_BITS(after, state, count);
        OK(carry_session_wait(r.session));
        for (size_t i = 0; i < CALLS; i++) {
            float *y = buffer_read(&a[i].y);
            SAME_BITS(y, expected + i * a[i].y.count, a[i].y.count);
            free(y);
            close_arrays(&a[i]);
        }
        free(after);
        no_misuse();
        rig_close(&r);
    }
    free(state);
    free(expected);
}

/* Chunks of one call, and calls of several groups, use the same staging buffers. */
Test(cuda_async, calls_of_several_chunks)
{
    enum { CALLS = 2 };
    float *state;
    size_t count;
    float *expected = answers(CALLS, 1, LONG, &state, &count);
    for (int place = CARRY_PINNED; place <= CARRY_DEVICE; place++) {
        fake_reset(&gpu, (uint64_t)place);
        rig r = rig_on("cuda", &spec, in_chunks);
        carry_state one;
        open_states(&r, &one, 1);
        arrays a[CALLS];
        for (uint64_t i = 0; i < CALLS; i++)
            a[i] = open_arrays((carry_place)place, 1, LONG, i);
        for (uint64_t i = 0; i < CALLS; i++) {
            wide_call call = call_of(&a[i], &one, 1, LONG);
            OK(run_wide(r.session, &call));
        }
        OK(carry_session_wait(r.session));
        carry_session_info info = info_of(r.session);
        cr_assert_geq(info.plain_chunks + info.graph_chunks, 2 * CALLS);
        for (size_t i = 0; i < CALLS; i++) {
            float *y = buffer_read(&a[i].y);
            SAME_BITS(y, expected + i * a[i].y.count, a[i].y.count);
            free(y);
            close_arrays(&a[i]);
        }
        no_misuse();
        rig_close(&r);
    }
    free(state);
    free(expected);
}

/* Synchronous calls and functions on states between the asynchronous ones see what those began. */
Test(cuda_async, states_between_calls)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        float *state[2];
        size_t count;
        for (int async = 0; async < 2; async++) {
            fake_reset(&gpu, seed);
            rig r = rig_on("cuda", &spec, sessions[seed % 3]);
            carry_state states[ROWS], copy;
            open_states(&r, states, ROWS);
            arrays a = open_arrays(CARRY_PINNED, ROWS, STEPS, seed);
            wide_call call = call_of(&a, states, ROWS, STEPS);
            if (!async) call.flags = 0;
            OK(run_wide(r.session, &call));
            OK(carry_state_copy(r.session, states[1], &copy));
            OK(carry_state_close(r.session, &states[0]));
            OK(carry_state_open(r.session, &states[0])); /* in the same slot */
            OK(run_wide(r.session, &call));
            OK(carry_state_reset(r.session, states[2]));
            float h[UNITS] = {1, 2, 3, 4};
            OK(carry_state_write(r.session, states[1], 0, h, UNITS));
            OK(run_wide(r.session, &call));
            states[0] = copy;
            call.flags = 0;
            OK(run_wide(r.session, &call));
            size_t bytes;
            void *saved = save(&r, states, ROWS, &bytes);
            state[async] = calloc(1, bytes);
            memcpy(state[async], saved, bytes);
            count = bytes / sizeof(float);
            free(saved);
            no_misuse();
            close_arrays(&a);
            rig_close(&r);
        }
        SAME_BITS(state[1], state[0], count);
        free(state[0]);
        free(state[1]);
    }
}

/* ---- the caller's stream -------------------------------------------------------------------- */

/* Input made by the caller's work before the call, output taken by its work behind it, and buffers used again behind
 * that, all without a wait in between. */
static void check_stream(size_t rows, size_t steps, uint64_t seed)
{
    enum { CALLS = 3 };
    float *state;
    size_t state_count, count = rows * steps * UNITS, in = rows * steps * FEATURES;
    float *expected = answers(CALLS, rows, steps, &state, &state_count);
    fake_reset(&gpu, seed);
    cudaStream_t stream;
    CUDA_OK(seed & 1 ? cudaStreamCreate(&stream)
                     : cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    carry_session_options options = steps == LONG ? *in_chunks : *sessions[seed % 3];
    options.cuda_stream = stream;
    rig r = rig_on("cuda", &spec, &options);
    carry_state states[ROWS];
    open_states(&r, states, rows);
    arrays a = open_arrays(CARRY_DEVICE, rows, steps, 99);
    arrays from[CALLS];
    for (uint64_t i = 0; i < CALLS; i++)
        from[i] = open_arrays(CARRY_PINNED, rows, steps, i);
    for (size_t i = 0; i < CALLS; i++) {
        CUDA_OK(cudaMemcpyAsync(a.x.data, from[i].x.data, in * sizeof(float),
                                cudaMemcpyHostToDevice, stream));
        wide_call call = call_of(&a, states, rows, steps);
        OK(run_wide(r.session, &call));
        CUDA_OK(cudaMemcpyAsync(from[i].y.data, a.y.data, count * sizeof(float),
                                cudaMemcpyDeviceToHost, stream));
        CUDA_OK(cudaMemsetAsync(a.y.data, 0xff, count * sizeof(float), stream));
    }
    CUDA_OK(cudaStreamSynchronize(stream));
    for (size_t i = 0; i < CALLS; i++) {
        SAME_BITS((float *)from[i].y.data, expected + i * count, count);
        close_arrays(&from[i]);
    }
    close_arrays(&a);
    rig_close(&r);
    no_misuse();
    cr_assert_eq(fake_open_handles(), 1, "the caller's stream is the caller's");
    CUDA_OK(cudaStreamDestroy(stream));
    free(state);
    free(expected);
}

Test(cuda_async, work_of_the_caller_before_and_behind)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        check_stream(ROWS, STEPS, seed);
}

Test(cuda_async, work_of_the_caller_around_calls_of_several_chunks)
{
    check_stream(1, LONG, 1);
}

/* Pinned arrays go through the copying streams, which come after what the caller enqueued before the call and before
 * what it enqueues behind. A short call uses the same staging buffers without those streams. */
Test(cuda_async, pinned_arrays_on_the_stream_of_the_caller)
{
    float *state[2];
    size_t count;
    float *few = answers(1, ROWS, STEPS, &state[0], &count);
    float *many = answers(1, 1, LONG, &state[1], &count);
    for (uint64_t seed = 1; seed <= 5 / FEWER; seed++) {
        fake_reset(&gpu, seed);
        cudaStream_t stream;
        CUDA_OK(cudaStreamCreate(&stream));
        carry_session_options options = *in_chunks;
        options.cuda_stream = stream;
        rig r = rig_on("cuda", &spec, &options);
        arrays a = open_arrays(CARRY_PINNED, ROWS, STEPS, 9);
        arrays b = open_arrays(CARRY_PINNED, 1, LONG, 9);
        arrays from_a = open_arrays(CARRY_DEVICE, ROWS, STEPS, 0);
        arrays from_b = open_arrays(CARRY_DEVICE, 1, LONG, 0);
        CUDA_OK(cudaMemcpyAsync(a.x.data, from_a.x.data, a.x.count * sizeof(float),
                                cudaMemcpyDeviceToHost, stream));
        wide_call call = call_of(&a, NULL, ROWS, STEPS);
        OK(run_wide(r.session, &call));
        CUDA_OK(cudaMemcpyAsync(b.x.data, from_b.x.data, b.x.count * sizeof(float),
                                cudaMemcpyDeviceToHost, stream));
        call = call_of(&b, NULL, 1, LONG);
        OK(run_wide(r.session, &call));
        CUDA_OK(cudaMemcpyAsync(from_b.y.data, b.y.data, b.y.count * sizeof(float),
                                cudaMemcpyHostToDevice, stream));
        CUDA_OK(cudaStreamSynchronize(stream));
        SAME_BITS((float *)a.y.data, few, a.y.count);
        SAME_BITS((float *)b.y.data, many, b.y.count);
        float *taken = buffer_read(&from_b.y);
        SAME_BITS(taken, many, b.y.count);
        free(taken);
        close_arrays(&a);
        close_arrays(&b);
        close_arrays(&from_a);
        close_arrays(&from_b);
        rig_close(&r);
        CUDA_OK(cudaStreamDestroy(stream));
        no_misuse();
    }
    free(state[0]);
    free(state[1]);
    free(few);
    free(many);
}

/* ---- failing after the return --------------------------------------------------------------- */

/* Every function says that the session is dead, whether it would reach the device or not. */
static void check_dead(const rig *r, const arrays *a, const carry_state *states,
                       const void *saved, size_t bytes)
{
    static const char words[] = "the session is dead and its states are lost";
    float h[UNITS];
    carry_state copy;
    size_t more;
    wide_call call = call_of(a, states, ROWS, STEPS);
    cr_assert_eq(info_of(r->session).dead, 1);
    for (int flags = 0; flags <= 1; flags++) {
        call.flags = (uint32_t)flags;
        FAILS(CARRY_E_DEVICE, words, run_wide(r->session, &call));
    }
    FAILS(CARRY_E_DEVICE, words, carry_session_wait(r->session));
    FAILS(CARRY_E_DEVICE, words, carry_session_warm(r->session, &shape, 1));
    FAILS(CARRY_E_DEVICE, words, carry_state_read(r->session, states[0], 0, h, UNITS));
    FAILS(CARRY_E_DEVICE, words, carry_state_write(r->session, states[0], 0, h, UNITS));
    FAILS(CARRY_E_DEVICE, words, carry_state_copy(r->session, states[0], &copy));
    cr_expect_eq(copy.id, 0);
    FAILS(CARRY_E_DEVICE, words,
          carry_states_save(r->session, states, ROWS, NULL, NULL, 0, &more));
    FAILS(CARRY_E_DEVICE, words,
          carry_states_restore(r->session, states, ROWS, NULL, saved, bytes));
    FAILS(CARRY_E_DEVICE, words, carry_state_open(r->session, &copy));
    FAILS(CARRY_E_DEVICE, words, carry_state_reset(r->session, states[0]));
    copy = states[0];
    FAILS(CARRY_E_DEVICE, words, carry_state_close(r->session, &copy));
    FAILS(CARRY_E_DEVICE, words,
          carry_run(r->session, &(carry_batch){.size = sizeof(carry_batch)}));
}

typedef carry_status later(const rig *r, const arrays *a, const carry_state *states);

static carry_status wait_for(const rig *r, const arrays *a, const carry_state *states)
{
    (void)a;
    (void)states;
    return carry_session_wait(r->session);
}

static carry_status call_again(const rig *r, const arrays *a, const carry_state *states)
{
    wide_call call = call_of(a, states, ROWS, STEPS);
    return run_wide(r->session, &call);
}

static carry_status read_one(const rig *r, const arrays *a, const carry_state *states)
{
    float h[UNITS];
    (void)a;
    return carry_state_read(r->session, states[0], 0, h, UNITS);
}

/* A call that is not asynchronous, behind one that was. */
static carry_status call_and_wait(const rig *r, const arrays *a,
                                  const carry_state *states)
{
    wide_call call = call_of(a, states, ROWS, STEPS);
    call.flags = 0;
    return run_wide(r->session, &call);
}

/* The same one again is another as good as any. */
static carry_status set_model(const rig *r, const arrays *a, const carry_state *states)
{
    (void)a, (void)states;
    return carry_session_set_model(r->session, r->model);
}

/* A device that fails for good behind a call that has returned, noticed by one function or another. */
Test(cuda_async, a_failure_after_the_return_kills_the_session)
{
    static later *const laters[] = {wait_for, call_again, read_one, set_model};
    for (size_t i = 0; i < 4; i++) {
        fake_reset(&gpu, i + 1);
        carry_model *model = model_on("cuda", &spec, CARRY_COMPUTE_FP32);
        rig r = rig_of(model, &exact);
        carry_state states[ROWS];
        open_states(&r, states, ROWS);
        arrays a = open_arrays(CARRY_PINNED, ROWS, STEPS, 0),
               second = open_arrays(CARRY_PINNED, ROWS, STEPS, 1);
        wide_call call = call_of(&a, states, ROWS, STEPS),
                  next = call_of(&second, states, ROWS, STEPS);
        OK(run_wide(r.session, &call));
        size_t bytes;
        void *saved = save(&r, states, ROWS, &bytes);
        OK(run_wide(r.session, &next));
        OK(carry_session_wait(r.session));
        float *expected = buffer_read(&second.y);
        OK(run_wide(r.session, &call));
        fake_fail_call(fake_seen_now().calls + 1, FAKE_STICKY);
        cr_assert_eq(laters[i](&r, &a, states), CARRY_E_DEVICE);
        cr_assert(strlen(carry_error()) > 20, "%s", carry_error());
        check_dead(&r, &a, states, saved, bytes);
        fake_fail_call(0, FAKE_ONCE);
        check_dead(&r, &a, states, saved, bytes); /* it stays so */
        carry_session_close(&r.session);

        /* what was saved before lives on in another session */
        OK(carry_session_open(&r.session, model, &exact));
        open_states(&r, states, ROWS);
        OK(carry_states_restore(r.session, states, ROWS, NULL, saved, bytes));
        OK(run_wide(r.session, &next));
        OK(carry_session_wait(r.session));
        SAME_BITS((float *)second.y.data, expected, second.y.count);
        free(saved);
        free(expected);
        close_arrays(&a);
        close_arrays(&second);
        rig_close(&r);
        no_misuse();
        cr_assert_eq(fake_open_handles(), 0);
    }
}

/* The calls in which such a failure shows: each of them failing once is enough, since nobody knows what was lost. */
Test(cuda_async, one_failing_wait_is_enough)
{
    static later *const laters[] = {wait_for, read_one, call_and_wait, set_model};
    for (size_t i = 0; i < 4; i++) {
        fake_reset(&gpu, 3);
        rig r = rig_on("cuda", &spec, &exact);
        carry_state states[ROWS];
        open_states(&r, states, ROWS);
        arrays a = open_arrays(CARRY_PINNED, ROWS, STEPS, 0);
        wide_call call = call_of(&a, states, ROWS, STEPS);
        OK(run_wide(r.session, &call));
        size_t bytes;
        void *saved = save(&r, states, ROWS, &bytes);
        OK(run_wide(r.session, &call));
        size_t first = fake_seen_now().calls;
        OK(laters[i](&r, &a, states));
        size_t n = 1;
        while (strcmp(fake_call_name(first + n), "cudaStreamSynchronize") != 0)
            n++;
        OK(run_wide(r.session, &call));
        fake_fail_call(fake_seen_now().calls + n, FAKE_ONCE);
        cr_assert_eq(laters[i](&r, &a, states), CARRY_E_DEVICE, "%zu", i);
        check_dead(&r, &a, states, saved, bytes);
        free(saved);
        close_arrays(&a);
        rig_close(&r);
        cr_assert_eq(fake_open_handles(), 0);
    }
}

/* A call that cannot be begun is not one that failed after its return. */
Test(cuda_async, a_failure_before_the_return_moves_nothing)
{
    fake_reset(&gpu, 4);
    rig r = rig_on("cuda", &spec, &exact);
    carry_state states[ROWS];
    open_states(&r, states, ROWS);
    arrays a = open_arrays(CARRY_PINNED, ROWS, STEPS, 0);
    wide_call call = call_of(&a, states, ROWS, STEPS);
    OK(run_wide(r.session, &call));
    OK(carry_session_wait(r.session));
    size_t count;
    float *before = read_state(&r, states[0], &count);
    size_t first = fake_seen_now().calls;
    OK(run_wide(r.session, &call)); /* counts, and advances once */
    free(before);
    before = read_state(&r, states[0], &count);
    size_t n = 1;
    while (strncmp(fake_call_name(first + n), "cudaLaunchKernel", 16) != 0)
        n++;
    OK(carry_session_wait(r.session));
    fake_fail_call(fake_seen_now().calls + n, FAKE_ONCE);
    FAILS(CARRY_E_DEVICE, "launching", run_wide(r.session, &call));
    cr_assert_eq(info_of(r.session).dead, 0);
    float *after = read_state(&r, states[0], &count);
    SAME_BITS(after, before, count);
    OK(run_wide(r.session, &call));
    OK(carry_session_wait(r.session));
    free(before);
    free(after);
    close_arrays(&a);
    rig_close(&r);
}
