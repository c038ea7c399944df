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

/* A state is one copy, whatever its layers, and those that are zeros are none. */
Test(cuda_moves, a_state_is_one_copy_each_way)
{
    char path[PATH_BYTES];
    carry_state states[ROWS], loaded[ROWS];
    float y[COUNT];
    size_t count;
    folder_path(path, "pool");
    rig r = rig_on("cuda", &spec, NULL);
    open_states(&r, states, ROWS);
    advance(&r, states, 1, y);
    OK(carry_state_reset(r.session, states[1]));
    size_t before = fake_seen_now().calls;
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    cr_assert_eq(calls_of("cudaMemcpyAsync", before), ROWS - 1);
    before = fake_seen_now().calls;
    OK(carry_pool_load(r.session, path, loaded, NULL, ROWS, &count));
    cr_assert_eq(calls_of("cudaMemcpyAsync", before), ROWS);
    rig_close(&r);
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
