/* Calls of more than one chunk: staging buffers that are used again, rows that end early or lie far apart, and how large a
 * chunk is. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "cuda_support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};

/* Rows of pinned arrays may lie further apart than a two-dimensional copy can step. */
Test(cuda_chunks, pinned_rows_two_gigabytes_apart)
{
    enum { ROWS = 3, FEATURES = 2, UNITS = 3, MOST = 5 };
    static const uint32_t steps[ROWS] = {1, MOST, 2};
    const size_t apart = ((size_t)1 << 31) / (FEATURES * sizeof(float)) + 1;
    const model_spec spec = {.features = FEATURES, .layers = {LSTM_LAYER(UNITS, 0)}};
    fake_reset(&gpu, 1);
    rig r = rig_on("cuda", &spec, NULL), cpu = rig_on("cpu", &spec, NULL);
    buffer x = {.count = ROWS * apart * FEATURES, .place = CARRY_PINNED};
    size_t bytes = x.count * sizeof(float);
    x.data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(x.data, MAP_FAILED);
    CUDA_OK(cudaHostRegister(x.data, bytes, cudaHostRegisterDefault));
    float *near = random_input(&cpu, ROWS, MOST, 7), expected[ROWS * UNITS];
    for (size_t row = 0; row < ROWS; row++)
        memcpy((float *)x.data + row * apart * FEATURES, near + row * MOST * FEATURES,
               MOST * FEATURES * sizeof(float));
    OK(run_call(
        &cpu,
        &(call_spec){
            .rows = ROWS, .max_steps = MOST, .steps = steps, .x = near, .y = expected}));
    buffer y = buffer_open(CARRY_HOST, CARRY_F32, ROWS * UNITS);
    OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                        .max_steps = apart,
                                        .steps = steps,
                                        .x = &x,
                                        .y = &y,
                                        .outputs = 1}));
    cr_assert_leq(worst_error(y.data, expected, y.count), 1e-5);
    no_misuse();
    CUDA_OK(cudaHostUnregister(x.data));
    munmap(x.data, bytes);
    free(near);
    buffer_close(&y);
    rig_close(&r);
    rig_close(&cpu);
}

/* A plain chunk has 256 steps at most, so these calls have three: staging buffers are used again. Sanitized, the chunks
 * are those of a graph. */
Test(cuda_chunks, a_call_of_several_chunks)
{
    enum { ROWS = 2, STEPS = FEWER > 1 ? 20 : 520, UNITS = 4 };
    static const uint32_t steps[ROWS] = {STEPS * 3 / 5, STEPS};
    static const carry_graph_shape shape = {ROWS, 8};
    const carry_session_options options = {
        .size = sizeof options, .graphs = &shape, .graph_count = FEWER > 1};
    const model_spec spec = {.features = 2, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
    rig cpu = rig_on("cpu", &spec, NULL);
    float *x = random_input(&cpu, ROWS, STEPS, 5);
    float *expected = malloc(ROWS * STEPS * UNITS * sizeof *expected);
    OK(run_call(
        &cpu,
        &(call_spec){
            .rows = ROWS, .max_steps = STEPS, .steps = steps, .x = x, .y = expected}));
    for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
        fake_reset(&gpu, (uint64_t)place + 3);
        rig r = rig_on("cuda", &spec, &options);
        buffer in = buffer_open(place, CARRY_F32, ROWS * STEPS * 2);
        buffer out = buffer_open(place, CARRY_F32, ROWS * STEPS * UNITS);
        buffer_write(&in, x);
        OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                            .max_steps = STEPS,
                                            .steps = steps,
                                            .x = &in,
                                            .y = &out,
                                            .outputs = 1}));
        carry_session_info info = info_of(r.session);
        cr_assert_eq(info.plain_chunks + info.graph_chunks, 3);
        float *y = buffer_read(&out);
        cr_assert_leq(worst_error(y, expected, out.count), 1e-5, "place %d", (int)place);
        free(y);
        buffer_close(&in);
        buffer_close(&out);
        rig_close(&r);
        no_misuse();
    }
    free(x);
    free(expected);
    rig_close(&cpu);
}

/* Where all rows end early nothing is computed behind them: one chunk of three, and zeros in the caller's array. */
Test(cuda_chunks, steps_that_no_row_has_are_only_cleared)
{
    enum { ROWS = 3, STEPS = 520, UNITS = 3, MOST = ROWS * STEPS * UNITS };
    static const uint32_t steps[] = {5, 0, 7}, none[] = {0, 0, 0};
    static const carry_dtype dtypes[] = {CARRY_F32, CARRY_F32, CARRY_F32, CARRY_BF16};
    const model_spec spec = {.features = 2, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
    for (int kind = 0; kind < 8; kind++) {
        const bool asynchronous = kind % 2;
        const carry_place place = kind / 2 < 3 ? (carry_place)(kind / 2) : CARRY_DEVICE;
        if (asynchronous && place == CARRY_HOST) continue;
        fake_reset(&gpu, (uint64_t)kind + 1);
        rig r = rig_on("cuda", &spec, NULL);
        float *x = random_input(&r, ROWS, STEPS, 5);
        buffer in = buffer_open(place, CARRY_F32, ROWS * STEPS * 2);
        buffer out = buffer_open(place, dtypes[kind / 2], MOST);
        buffer_write(&in, x);
        for (int all_rest = 0; all_rest < 2; all_rest++) {
            const uint32_t *of_rows = all_rest ? none : steps;
            float ones[MOST];
            for (int i = 0; i < MOST; i++)
                ones[i] = 1;
            buffer_write(&out, ones);
            carry_session_info before = info_of(r.session);
            OK(run_wide(r.session,
                        &(wide_call){.rows = ROWS,
                                     .max_steps = STEPS,
                                     .steps = of_rows,
                                     .x = &in,
                                     .y = &out,
                                     .outputs = 1,
                                     .flags = asynchronous ? CARRY_ASYNC : 0}));
            OK(carry_session_wait(r.session));
            cr_assert_eq(info_of(r.session).plain_chunks, before.plain_chunks + 1);
            float *y = buffer_read(&out);
            for (size_t i = 0; i < MOST; i++) {
                bool rests = i / UNITS % STEPS >= of_rows[i / UNITS / STEPS];
                cr_assert(rests ? y[i] == 0 : y[i] != 0 && y[i] != 1,
                          "kind %d, element %zu: %g", kind, i, (double)y[i]);
            }
            free(y);
        }
        buffer_close(&in);
        buffer_close(&out);
        free(x);
        rig_close(&r);
        no_misuse();
    }
}

/* A chunk of many rows ends when half of them have: what ended is not computed on. In packed arrays the few that go on
 * have the buffers to themselves. */
Test(cuda_chunks, many_rows_of_which_few_go_on)
{
    enum { ROWS = 65, SHORT = 2, LONG = FEWER > 1 ? 70 : 120, UNITS = 3, MAX_ROWS = 65 };
    const model_spec spec = {.features = 2,
                             .layers = {LSTM_LAYER(UNITS, SEQUENCES)},
                             .outputs = {{0, CY_PORT_Y}, {0, CY_PORT_H}},
                             .output_count = 2};
    const carry_session_options options = {
        .size = sizeof options, .max_rows = MAX_ROWS, .exact = 1};
    uint32_t steps[ROWS];
    uint64_t offsets[ROWS + 1] = {0};
    for (size_t row = 0; row < ROWS; row++) {
        steps[row] = row % 40 == 7 ? LONG : row % 5 ? SHORT : 0;
        offsets[row + 1] = offsets[row] + steps[row];
    }
    rig cpu = rig_on("cpu", &spec, NULL);
    for (int packed = 0; packed <= 1; packed++)
        for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
            fake_reset(&gpu, (uint64_t)place + 1);
            rig r = rig_on("cuda", &spec, &options);
            size_t all = packed ? offsets[ROWS] : ROWS * LONG;
            void *x = random_input(&cpu, 1, all, 5);
            buffer in[2], out[2][2]; /* [cuda, cpu], of the latter y and h */
            for (int side = 0; side < 2; side++) {
                carry_place there = side ? CARRY_HOST : place;
                in[side] = buffer_open(there, CARRY_F32, all * 2);
                out[side][0] = buffer_open(there, CARRY_F32, all * UNITS);
                out[side][1] = buffer_open(there, CARRY_F32, ROWS * UNITS);
                buffer_write(&in[side], x);
                OK(run_wide(side ? cpu.session : r.session,
                            &(wide_call){.rows = ROWS,
                                         .max_steps = LONG,
                                         .steps = packed ? NULL : steps,
                                         .row_offsets = packed ? offsets : NULL,
                                         .x = &in[side],
                                         .y = out[side],
                                         .outputs = 2}));
            }
            /* 2 steps of 53 rows; then 2 rows, in 4096 / 65 steps at a time where the arrays have room for all */
            cr_assert_eq(info_of(r.session).plain_chunks,
                         packed ? 2 : 1 + (LONG - SHORT + 62) / 63);
            for (int o = 0; o < 2; o++) {
                float *got = buffer_read(&out[0][o]);
                cr_assert_leq(worst_error(got, out[1][o].data, out[0][o].count), 1e-5,
                              "packed %d, place %d, output %d", packed, (int)place, o);
                free(got);
            }
            for (int side = 0; side < 2; side++) {
                buffer_close(&in[side]);
                buffer_close(&out[side][0]);
                buffer_close(&out[side][1]);
            }
            free(x);
            no_misuse();
            rig_close(&r);
        }
    rig_close(&cpu);
}

/* A word model's output of each step: not 4096 of them at a time. */
Test(cuda_chunks, a_wide_head_does_not_ask_for_gigabytes)
{
    enum { WORDS = 20000 };
    const model_spec spec = {.ids = WORDS,
                             .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(4, SEQUENCES),
                                        DENSE_LAYER(WORDS, CY_ACT_LINEAR)}};
    fake_reset(&gpu, 1);
    rig r = rig_on(
        "cuda", &spec,
        &(carry_session_options){.size = sizeof(carry_session_options), .max_rows = 8});
    uint64_t bytes = info_of(r.session).workspace_bytes;
    cr_assert_lt(bytes, (uint64_t)400 << 20, "%zu bytes", (size_t)bytes);
    rig_close(&r);
}
