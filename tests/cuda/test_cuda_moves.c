/* States that move: between the backends in a file, and under another model in a session with graphs, streams and calls
 * that are still going on. */
#include "cuda_support.h"
#include "tests/api/scratch_folder.h"

#include <stdlib.h>
#include <string.h>

static const model_spec spec = {.features = 3,
                                .layers = {LSTM_LAYER(5, SEQUENCES),
                                           LSTM_LAYER(6, SEQUENCES),
                                           DENSE_LAYER(2, CY_ACT_TANH)},
                                .seed = 1};
static const fake_device gpu = {2, 8, 0, 4, (size_t)1 << 30, 0};

enum { ROWS = 4, STEPS = 8, WIDTH = 2, COUNT = ROWS * STEPS * WIDTH };

static void set_up(void)
{
    fake_reset(&gpu, 1);
    folder_open();
}

TestSuite(cuda_moves, .init = set_up, .fini = folder_close);

static model_spec retrained(void)
{
    model_spec other = spec;
    other.seed = 77;
    return other;
}

static void advance(const rig *r, const carry_state *states, uint64_t seed, float *y)
{
    float *x = random_input(r, ROWS, STEPS, seed);
    OK(run_call(r,
                &(call_spec){
                    .rows = ROWS, .max_steps = STEPS, .states = states, .x = x, .y = y}));
    free(x);
}

/* ---- between the backends ------------------------------------------------------------------- */

static const int64_t keys[ROWS] = {3, 1, 4, 1};

static void same_file(const char *path, const void *data, size_t bytes)
{
    size_t found;
    void *file = file_read(path, &found);
    cr_assert(found == bytes && memcmp(file, data, bytes) == 0, "%s differs", path);
    free(file);
}

/* Saved on one device, loaded and saved on the other, loaded and saved on the first: the same bytes, every time. */
static void there_and_back(const char *here, const char *there)
{
    char path[PATH_BYTES];
    size_t bytes, count;
    float y[COUNT];
    carry_state states[ROWS], loaded[ROWS];
    int64_t back[ROWS];
    folder_path(path, "pool");
    carry_session_options exact = {.size = sizeof exact, .exact = 1};
    rig r = rig_on(here, &spec, &exact);
    open_states(&r, states, ROWS);
    advance(&r, states, 1, y);
    OK(carry_state_reset(r.session, states[2])); /* zeros that no memory holds */
    OK(carry_pool_save(r.session, path, states, keys, ROWS));
    void *file = file_read(path, &bytes);
    for (int turn = 0; turn < 2; turn++) {
        rig other = rig_on(turn == 0 ? there : here, &spec, &exact);
        OK(carry_pool_load(other.session, path, loaded, back, ROWS, &count));
        cr_assert_eq(memcmp(back, keys, sizeof keys), 0);
        OK(carry_pool_save(other.session, path, loaded, back, ROWS));
        same_file(path, file, bytes);
        if (turn == 1) { /* and the sequences go on as if nothing had been */
            float expected[COUNT];
            advance(&r, states, 2, expected);
            advance(&other, loaded, 2, y);
            SAME_BITS(expected, y, COUNT);
        }
        rig_close(&other);
    }
    free(file);
    rig_close(&r);
}

Test(cuda_moves, from_the_cpu_to_cuda_and_back)
{
    there_and_back("cpu", "cuda");
}

Test(cuda_moves, from_cuda_to_the_cpu_and_back)
{
    there_and_back("cuda", "cpu");
    there_and_back("cuda", "cuda:1");
    no_misuse();
}

/* States of any precision are float32. */
Test(cuda_moves, between_precisions)
{
    char path[PATH_BYTES];
    carry_state states[ROWS], loaded[ROWS];
    float y[COUNT];
    size_t count, numbers;
    folder_path(path, "pool");
    rig half = rig_of(model_on("cuda", &spec, CARRY_COMPUTE_BF16), NULL);
    rig cpu = rig_on("cpu", &spec, NULL);
    open_states(&half, states, ROWS);
    advance(&half, states, 1, y);
    OK(carry_pool_save(half.session, path, NULL, NULL, 0));
    OK(carry_pool_load(cpu.session, path, loaded, NULL, ROWS, &count));
    for (int i = 0; i < ROWS; i++) {
        float *a = read_state(&half, states[i], &numbers);
        float *b = read_state(&cpu, loaded[i], &numbers);
        SAME_BITS(a, b, numbers);
        free(a);
        free(b);
    }
    rig_close(&half);
    rig_close(&cpu);
}

/* What moving states has cost since call number `first`. */
static void costs(fake_seen before, size_t launches, size_t to_device, size_t to_host)
{
    fake_seen now = fake_seen_now();
    cr_assert_eq(now.launches - before.launches, launches, "%zu kernels",
                 now.launches - before.launches);
    cr_assert_eq(now.bytes_to_device - before.bytes_to_device, to_device,
                 "%zu bytes to the device", now.bytes_to_device - before.bytes_to_device);
    cr_assert_eq(now.bytes_to_host - before.bytes_to_host, to_host,
                 "%zu bytes to the host", now.bytes_to_host - before.bytes_to_host);
    cr_assert_eq(now.allocations, before.allocations);
}

/* About a MiB of states is one kernel and one copy, beside that of their addresses. Those that are zeros come along. */
Test(cuda_moves, a_thousand_states_are_two_copies_each_way)
{
    enum { MANY = 1000, STATE_BYTES = 4 * 16 * sizeof(float), ADDRESS = sizeof(float *) };
    char path[PATH_BYTES];
    static carry_state states[MANY], loaded[MANY];
    size_t count, numbers, more, bytes;
    folder_path(path, "pool");
    rig r = rig_on("cuda", &spec, NULL);
    open_states(&r, states, MANY);
    for (int i = 0; i < MANY; i++) {
        const float h[5] = {(float)i, 1, 2, 3, 4}, c[6] = {5, 6, 7, 8, 9, (float)-i};
        if (i % 7 == 0) continue;
        OK(carry_state_write(r.session, states[i], 0, h, 5));
        OK(carry_state_write(r.session, states[i], 3, c, 6));
    }
    /* room for those that are loaded, so that loading opens no memory */
    open_states(&r, loaded, MANY);
    for (int i = 0; i < MANY; i++)
        OK(carry_state_close(r.session, &loaded[i]));

    fake_seen before = fake_seen_now();
    OK(carry_pool_save(r.session, path, states, NULL, MANY));
    cr_assert_eq(calls_of("cudaMemcpyAsync", before.calls), 2);
    costs(before, 1, MANY * ADDRESS, MANY * STATE_BYTES);
    before = fake_seen_now();
    OK(carry_pool_load(r.session, path, loaded, NULL, MANY, &count));
    cr_assert_eq(calls_of("cudaMemcpyAsync", before.calls), 2);
    costs(before, 1, MANY * (ADDRESS + STATE_BYTES), 0);
    before = fake_seen_now();
    void *saved = save(&r, states, MANY, &bytes);
    costs(before, 1, MANY * ADDRESS, MANY * STATE_BYTES); /* asked for the length first */
    before = fake_seen_now();
    OK(carry_states_restore(r.session, loaded, MANY, NULL, saved, bytes));
    costs(before, 1, MANY * (ADDRESS + STATE_BYTES), 0);
    free(saved);
    for (int i = 0; i < MANY; i++) {
        float *a = read_state(&r, states[i], &numbers);
        float *b = read_state(&r, loaded[i], &more);
        cr_assert(numbers == more && memcmp(a, b, numbers * sizeof *a) == 0 &&
                      a[0] == (i % 7 ? (float)i : 0),
                  "state %d", i);
        free(a);
        free(b);
    }
    rig_close(&r);
    no_misuse();
}

/* Where a session's workspace is so small that two states fit into it. */
Test(cuda_moves, more_states_than_the_workspace_holds)
{
    enum { MANY = 7 };
    const model_spec backwards = {.features = 2, .layers = {LSTM_LAYER(3, BACKWARDS)}};
    const carry_session_options options = {
        .size = sizeof options, .max_rows = 1, .max_steps = 1, .exact = 1};
    rig r = rig_on("cuda", &backwards, &options), cpu = rig_on("cpu", &backwards, NULL);
    carry_state states[MANY], there[MANY], back[MANY];
    size_t bytes, again_bytes;
    open_states(&r, states, MANY);
    open_states(&r, back, MANY);
    open_states(&cpu, there, MANY);
    for (int i = 0; i < MANY; i++)
        for (size_t tensor = 0; tensor < 2; tensor++) {
            const float values[3] = {(float)i, (float)tensor, -1};
            OK(carry_state_write(r.session, states[i], tensor, values, 3));
            OK(carry_state_write(cpu.session, there[i], tensor, values, 3));
        }
    size_t first = fake_seen_now().calls;
    void *saved = save(&r, states, MANY, &bytes);
    cr_assert_eq(calls_of("cudaMemcpyAsync", first), 2 * 4);
    void *expected = save(&cpu, there, MANY, &again_bytes);
    cr_assert(bytes == again_bytes && memcmp(saved, expected, bytes) == 0);
    first = fake_seen_now().calls;
    OK(carry_states_restore(r.session, back, MANY, NULL, saved, bytes));
    cr_assert_eq(calls_of("cudaMemcpyAsync", first), 2 * 4);
    void *again = save(&r, back, MANY, &again_bytes);
    cr_assert(bytes == again_bytes && memcmp(saved, again, bytes) == 0);
    free(saved);
    free(expected);
    free(again);
    rig_close(&r);
    rig_close(&cpu);
    no_misuse();
}

/* ---- another model -------------------------------------------------------------------------- */

static const carry_graph_shape at_open[] = {{4, 8}, {2, 8}}, warmed[] = {{1, 3}};

/* Every shape is captured again, those of carry_session_warm too; a call captures nothing. */
Test(cuda_moves, the_shapes_of_a_session_are_captured_again)
{
    carry_session_options options = {
        .size = sizeof options, .exact = 1, .graphs = at_open, .graph_count = 2};
    model_spec other_spec = retrained();
    rig r = rig_on("cuda", &spec, &options),
        fresh = rig_on("cuda", &other_spec, &options);
    carry_state states[ROWS], restored[ROWS];
    float y[COUNT], expected[COUNT], got[COUNT];
    open_states(&r, states, ROWS);
    OK(carry_session_warm(r.session, warmed, 1));
    advance(&r, states, 1, y);
    size_t bytes;
    void *saved = save(&r, states, ROWS, &bytes);
    open_states(&fresh, restored, ROWS);
    OK(carry_states_restore(fresh.session, restored, ROWS, NULL, saved, bytes));
    free(saved);

    carry_model *model = model_on("cuda", &other_spec, CARRY_COMPUTE_FP32);
    carry_session_info before = info_of(r.session);
    size_t handles = fake_open_handles();
    OK(carry_session_set_model(r.session, model));
    carry_model_close(&r.model);
    r.model = model;
    cr_assert_lt(fake_open_handles(), handles, "the old model is still there");
    carry_session_info after = info_of(r.session);
    cr_assert_eq(after.graphs, 3);
    cr_assert_eq(after.graph_chunks, before.graph_chunks);
    cr_assert_eq(after.plain_chunks, before.plain_chunks);
    cr_assert_eq(after.workspace_bytes, before.workspace_bytes);
    size_t first = fake_seen_now().calls;
    advance(&r, states, 2, got);
    advance(&fresh, restored, 2, expected);
    SAME_BITS(expected, got, COUNT);
    cr_assert_eq(info_of(r.session).graph_chunks, before.graph_chunks + 1);
    cr_assert_eq(calls_of("cudaStreamBeginCapture", first), 0);
    OK(carry_session_warm(r.session, warmed, 1)); /* it is there */
    cr_assert_eq(calls_of("cudaStreamBeginCapture", first), 0);
    rig_close(&r);
    rig_close(&fresh);
    no_misuse();
    cr_assert_eq(fake_open_handles(), 0);
}

/* What CARRY_ASYNC began is waited for, with the old weights; the caller's stream goes on being the session's. */
Test(cuda_moves, calls_that_are_still_going_on)
{
    model_spec other_spec = retrained();
    for (uint64_t seed = 1; seed <= 12 / FEWER; seed++) {
        fake_reset(&gpu, seed);
        cudaStream_t stream;
        CUDA_OK(cudaStreamCreate(&stream));
        carry_session_options options = {
            .size = sizeof options, .exact = 1, .cuda_stream = seed % 2 ? stream : NULL};
        rig r = rig_on("cuda", &spec, &options);
        rig plain = rig_on("cuda", &spec, &options);
        carry_state states[ROWS], twins[ROWS];
        open_states(&r, states, ROWS);
        open_states(&plain, twins, ROWS);
        float expected[2][COUNT];
        carry_model *model = model_on("cuda", &other_spec, CARRY_COMPUTE_FP32);
        advance(&plain, twins, 1, expected[0]);
        OK(carry_session_set_model(plain.session, model));
        advance(&plain, twins, 2, expected[1]);

        buffer x[2], y[2];
        for (int i = 0; i < 2; i++) {
            x[i] = buffer_open(CARRY_PINNED, CARRY_F32, ROWS * STEPS * 3);
            y[i] = buffer_open(CARRY_PINNED, CARRY_F32, COUNT);
            float *values = random_input(&r, ROWS, STEPS, (uint64_t)i + 1);
            buffer_write(&x[i], values);
            free(values);
            OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                                .max_steps = STEPS,
                                                .states = states,
                                                .x = &x[i],
                                                .y = &y[i],
                                                .outputs = 1,
                                                .flags = CARRY_ASYNC}));
            if (i == 0) {
                OK(carry_session_set_model(r.session, model));
                SAME_BITS(expected[0], (const float *)y[0].data, COUNT);
            }
        }
        carry_model_close(&model); /* two sessions hold it */
        if (seed % 2) CUDA_OK(cudaStreamSynchronize(stream));
        else OK(carry_session_wait(r.session));
        SAME_BITS(expected[1], (const float *)y[1].data, COUNT);
        for (int i = 0; i < 2; i++) {
            buffer_close(&x[i]);
            buffer_close(&y[i]);
        }
        rig_close(&r);
        rig_close(&plain);
        CUDA_OK(cudaStreamDestroy(stream));
        no_misuse();
        cr_assert_eq(fake_open_handles(), 0);
    }
}

Test(cuda_moves, another_device_or_precision_is_named)
{
    rig r = rig_on("cuda", &spec, NULL), cpu = rig_on("cpu", &spec, NULL);
    carry_model *second = model_on("cuda:1", &spec, CARRY_COMPUTE_FP32);
    carry_model *half = model_on("cuda", &spec, CARRY_COMPUTE_BF16);
    carry_state states[ROWS];
    float y[COUNT];
    open_states(&r, states, ROWS);
    FAILS(CARRY_E_MISMATCH, "is on device 'cpu', the session on 'cuda:0'",
          carry_session_set_model(r.session, cpu.model));
    FAILS(CARRY_E_MISMATCH, "is on device 'cuda:1', the session on 'cuda:0'",
          carry_session_set_model(r.session, second));
    FAILS(CARRY_E_MISMATCH, "is on device 'cuda:0', the session on 'cpu'",
          carry_session_set_model(cpu.session, r.model));
    FAILS(CARRY_E_MISMATCH, "computes in bf16, the session's in fp32",
          carry_session_set_model(r.session, half));
    advance(&r, states, 1, y);
    carry_model_close(&second);
    carry_model_close(&half);
    rig_close(&r);
    rig_close(&cpu);
    no_misuse();
    cr_assert_eq(fake_open_handles(), 0);
}

/* Two workspaces at once do not fit: the old one stays in force, and its states where they were. */
Test(cuda_moves, no_memory_for_a_second_workspace)
{
    fake_device small = gpu;
    carry_session_options options = {.size = sizeof options, .exact = 1};
    model_spec other_spec = retrained();
    size_t left, total;
    rig r = rig_on("cuda", &spec, &options);
    carry_model *model = model_on("cuda", &other_spec, CARRY_COMPUTE_FP32);
    CUDA_OK(cudaMemGetInfo(&left, &total));
    carry_model_close(&model);
    rig_close(&r);
    small.memory_bytes = total - left + 4096 + ((size_t)2 << 20); /* and the states */
    fake_reset(&small, 1);

    r = rig_on("cuda", &spec, &options);
    model = model_on("cuda", &other_spec, CARRY_COMPUTE_FP32);
    carry_state states[ROWS];
    float y[COUNT], before[COUNT], after[COUNT];
    open_states(&r, states, ROWS);
    advance(&r, states, 1, y);
    size_t bytes, handles = fake_open_handles();
    void *saved = save(&r, states, ROWS, &bytes);
    advance(&r, states, 2, before);
    OK(carry_states_restore(r.session, states, ROWS, NULL, saved, bytes));
    FAILS(CARRY_E_MEMORY, "bytes", carry_session_set_model(r.session, model));
    cr_assert_eq(fake_open_handles(), handles);
    advance(&r, states, 2, after);
    SAME_BITS(before, after, COUNT);
    free(saved);
    carry_model_close(&model);
    rig_close(&r);
    no_misuse();
    cr_assert_eq(fake_open_handles(), 0);
}
