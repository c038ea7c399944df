/* The promise of the header: a row's bits do not depend on the other rows, on B, on max_rows, on the
 * threads, nor (causal models) on how its steps are cut into calls. */
#define _GNU_SOURCE
#include "support.h"

#include <fenv.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static const model_spec causal[] = {
    {.features = 1, .layers = {LSTM_LAYER(1, SEQUENCES)}},
    {.features = 2, .layers = {LSTM_LAYER(3, SEQUENCES), DENSE_LAYER(2, CY_ACT_LINEAR)}},
    {.features = 5, .layers = {LSTM_LAYER(17, SEQUENCES | NO_BIAS)}},
    {.features = 3, .layers = {LSTM_LAYER(64, SEQUENCES), LSTM_LAYER(17, SEQUENCES)}},
    {.features = 130,
     .layers = {LSTM_LAYER(200, SEQUENCES), DENSE_LAYER(7, CY_ACT_SOFTMAX)}},
    {.ids = 11,
     .layers = {EMBEDDING_LAYER(8), LSTM_LAYER(33, SEQUENCES), DROPOUT_LAYER,
                DENSE_LAYER(11, CY_ACT_SOFTMAX)}},
    {.features = 4,
     .layers = {DENSE_LAYER(6, CY_ACT_TANH), LSTM_LAYER(5, SEQUENCES),
                ACTIVATION_LAYER(CY_ACT_LOG_SOFTMAX)}},
    {.features = 3,
     .layers = {LSTM_ACT(19, SEQUENCES, CY_ACT_SOFTSIGN, CY_ACT_HARD_SIGMOID_02),
                LSTM_ACT(4, SEQUENCES, CY_ACT_GELU, CY_ACT_HARD_SIGMOID_6TH)}},
    {.features = 3, .layers = {LSTM_ACT(6, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_SOFTMAX)}},
};

static const model_spec backwards[] = {
    {.features = 3, .layers = {LSTM_LAYER(17, SEQUENCES | BACKWARDS)}},
    {.features = 2,
     .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(9, SEQUENCES | BACKWARDS),
                LSTM_LAYER(4, SEQUENCES)}},
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Models that are too wide for the device's emulation are left out there. */
static bool fits(const model_spec *spec)
{
    for (size_t i = 0; i < 8 && spec->layers[i].present; i++)
        if (spec->layers[i].units > sizes()->most_units) return false;
    return true;
}

/* One row's steps in one call, with a state; *state_bytes: what it saves afterwards. */
static float *run_alone(const rig *r, const void *x, size_t steps, void **saved,
                        size_t *saved_bytes)
{
    carry_state state;
    open_states(r, &state, 1);
    float *y = calloc(output_count(r, 1, steps, CARRY_STEPS_ALL) + 1, sizeof *y);
    OK(run_call(r, &(call_spec){
                       .rows = 1, .max_steps = steps, .states = &state, .x = x, .y = y}));
    *saved = save(r, &state, 1, saved_bytes);
    OK(carry_state_close(r->session, &state));
    return y;
}

static const float *at_step(const rig *r, const void *x, size_t row_steps)
{
    return (const float *)x + row_steps * r->in;
}

static void check_cuts(const rig *r, size_t steps, size_t most, uint64_t seed)
{
    float *x = random_input(r, 1, steps, seed);
    void *saved, *cut_saved;
    size_t bytes, cut_bytes;
    float *whole = run_alone(r, x, steps, &saved, &bytes);
    float *cut = calloc(steps * r->out, sizeof *cut);
    carry_state state;
    open_states(r, &state, 1);
    for (size_t t = 0; t < steps;) {
        size_t n = 1 + random_u64(&seed) % most;
        if (n > steps - t) n = steps - t;
        OK(run_call(r, &(call_spec){.rows = 1,
                                    .max_steps = n,
                                    .states = &state,
                                    .x = at_step(r, x, t),
                                    .y = cut + t * r->out}));
        t += n;
    }
    SAME_BITS(whole, cut, steps * r->out);
    cut_saved = save(r, &state, 1, &cut_bytes);
    cr_assert_eq(bytes, cut_bytes);
    cr_assert_eq(memcmp(saved, cut_saved, bytes), 0, "the states differ");
    OK(carry_state_close(r->session, &state));
    free(x);
    free(saved);
    free(cut_saved);
    free(whole);
    free(cut);
}

Test(same_bits, any_cut_into_calls)
{
    for (size_t m = 0; m < COUNT(causal); m++) {
        if (!fits(&causal[m])) continue;
        rig r = rig_open(&causal[m], NULL);
        size_t steps = sizes()->cut_steps, beyond = sizes()->beyond;
        check_cuts(&r, steps, 1, m);
        check_cuts(&r, steps, 2, m);
        check_cuts(&r, steps, steps - 1, m);
        check_cuts(&r, beyond, beyond / 4,
                   m); /* the CPU: beyond one chunk of its hoisted products */
        rig_close(&r);
    }
}

/* Rows of all lengths in one call, in any company, against each row alone. */
static void check_mix(const rig *r, size_t rows, size_t max_steps, uint64_t seed)
{
    float *x = random_input(r, rows, max_steps, seed);
    uint32_t *steps = calloc(rows, sizeof *steps);
    carry_state *states = calloc(rows, sizeof *states);
    for (size_t i = 0; i < rows; i++) {
        steps[i] = (uint32_t)(random_u64(&seed) % (max_steps + 1));
        if (i % 3 != 2) open_states(r, &states[i], 1);
    }
    size_t row_count = max_steps * r->out;
    float *y = malloc(rows * row_count * sizeof *y);
    memset(y, 0x7f, rows * row_count * sizeof *y);
    OK(run_call(r, &(call_spec){.rows = rows,
                                .max_steps = max_steps,
                                .states = states,
                                .steps = steps,
                                .x = x,
                                .y = y}));
    for (size_t i = 0; i < rows; i++) {
        const float *got = y + i * row_count;
        if (steps[i] > 0) {
            void *saved;
            size_t bytes;
            float *alone =
                run_alone(r, at_step(r, x, i * max_steps), steps[i], &saved, &bytes);
            SAME_BITS(alone, got, steps[i] * r->out);
            if (states[i].id) {
                size_t mixed_bytes;
                void *mixed = save(r, &states[i], 1, &mixed_bytes);
                cr_assert(mixed_bytes == bytes && memcmp(mixed, saved, bytes) == 0,
                          "row %zu: the states differ", i);
                free(mixed);
            }
            free(alone);
            free(saved);
        }
        for (size_t k = steps[i] * r->out; k < row_count; k++)
            cr_assert(memcmp(&got[k], &(float){0}, 4) == 0,
                      "row %zu: %g behind its %u steps", i, (double)got[k], steps[i]);
    }
    for (size_t i = 0; i < rows; i++)
        OK(carry_state_close(r->session, &states[i]));
    free(x);
    free(y);
    free(steps);
    free(states);
}

Test(same_bits, any_company)
{
    for (size_t m = 0; m < COUNT(causal); m++) {
        if (!fits(&causal[m])) continue;
        rig r = rig_open(&causal[m], NULL);
        check_mix(&r, 1, 5, m);
        check_mix(&r, 7, 9, m);
        check_mix(&r, sizes()->mix_rows, 6,
                  m); /* the CPU: more than the default max_rows */
        rig_close(&r);
    }
}

Test(same_bits, any_company_in_whole_sequence_models)
{
    for (size_t m = 0; m < COUNT(backwards); m++) {
        rig r = rig_open(&backwards[m], NULL);
        check_mix(&r, 1, 5, m);
        check_mix(&r, 9, 12, m);
        check_mix(&r, sizes()->mix_rows, 7, m);
        rig_close(&r);
    }
}

/* Two calls over `rows` rows of different lengths; returns both outputs and all saved states. */
static float *run_under(const model_spec *spec, const carry_session_options *options,
                        size_t rows, size_t max_steps, size_t *count)
{
    rig r = rig_open(spec, options);
    uint64_t seed = 99;
    float *x = random_input(&r, rows, max_steps, seed);
    uint32_t *steps = calloc(rows, sizeof *steps);
    for (size_t i = 0; i < rows; i++)
        steps[i] = (uint32_t)(random_u64(&seed) % (max_steps + 1));
    carry_state *states = calloc(rows, sizeof *states);
    open_states(&r, states, rows);
    size_t each = rows * max_steps * r.out, state_floats = 0;
    for (size_t k = 0; k < r.state_tensors; k++)
        state_floats += r.state[k];
    *count = 2 * each + rows * state_floats;
    float *y = calloc(*count, sizeof *y);
    for (int call = 0; call < 2; call++)
        OK(run_call(&r, &(call_spec){.rows = rows,
                                     .max_steps = max_steps,
                                     .states = states,
                                     .steps = call ? steps : NULL,
                                     .x = x,
                                     .y = y + call * each}));
    float *at = y + 2 * each;
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < r.state_tensors; k++) {
            OK(carry_state_read(r.session, states[i], k, at, r.state[k]));
            at += r.state[k];
        }
    free(x);
    free(steps);
    free(states);
    rig_close(&r);
    return y;
}

static void check_options(const model_spec *spec, const carry_session_options *options,
                          size_t rows, size_t steps)
{
    carry_session_options plain = {.size = sizeof plain, .threads = 1, .max_rows = 0};
    size_t count, other_count;
    float *expected = run_under(spec, &plain, rows, steps, &count);
    float *got = run_under(spec, options, rows, steps, &other_count);
    cr_assert_eq(count, other_count);
    SAME_BITS(expected, got, count);
    free(expected);
    free(got);
}

Test(same_bits, any_number_of_threads)
{
    for (size_t m = 0; m < COUNT(causal); m++)
        for (uint32_t threads = 0; threads <= (on_cuda() ? 0 : 5) && fits(&causal[m]);
             threads++) {
            carry_session_options options = {.size = sizeof options, .threads = threads};
            check_options(&causal[m], &options, 1, 40);
            check_options(&causal[m], &options, 13, 11);
            check_options(&causal[m], &options, sizes()->mix_rows + 9, 5);
        }
}

Test(same_bits, any_number_of_threads_in_whole_sequence_models)
{
    for (size_t m = 0; m < COUNT(backwards); m++)
        for (uint32_t threads = 2; threads <= (on_cuda() ? 2 : 4); threads++) {
            carry_session_options options = {.size = sizeof options, .threads = threads};
            check_options(&backwards[m], &options, 13, 11);
        }
}

Test(same_bits, any_max_rows)
{
    static const uint32_t max_rows[] = {1, 2, 3, 7, 16, 31, 1000};
    for (size_t m = 0; m < COUNT(causal); m++)
        for (size_t k = on_cuda() ? 2 : 0; k < COUNT(max_rows) && fits(&causal[m]); k++) {
            carry_session_options options = {
                .size = sizeof options, .max_rows = max_rows[k], .threads = 1 + k % 3};
            check_options(&causal[m], &options, 33, 6);
        }
}

Test(same_bits, the_length_of_the_time_axis_is_nothing)
{
    for (size_t m = 0; m < COUNT(causal) + COUNT(backwards); m++) {
        rig r = rig_open(m < COUNT(causal) ? &causal[m] : &backwards[m - COUNT(causal)],
                         NULL);
        enum { STEPS = 6, AXIS = 90 };
        float *x = random_input(&r, 1, AXIS, m);
        float *y = calloc(AXIS * r.out, sizeof *y),
              *long_y = calloc(AXIS * r.out, sizeof *y);
        OK(run_call(&r, &(call_spec){.rows = 1, .max_steps = STEPS, .x = x, .y = y}));
        /* behind the row's steps: what must never be read */
        memset(x + STEPS * r.in, 0xff, (AXIS - STEPS) * r.in * sizeof *x);
        uint32_t steps = STEPS;
        OK(run_call(
            &r, &(call_spec){
                    .rows = 1, .max_steps = AXIS, .steps = &steps, .x = x, .y = long_y}));
        SAME_BITS(y, long_y, AXIS * r.out);
        free(x);
        free(y);
        free(long_y);
        rig_close(&r);
    }
}

Test(same_bits, last_is_the_last_of_all)
{
    for (size_t m = 0; m < COUNT(causal); m++) {
        if (!fits(&causal[m])) continue;
        rig r = rig_open(&causal[m], NULL);
        enum { ROWS = 4, STEPS = 7 };
        uint32_t steps[ROWS] = {7, 1, 0, 4};
        float *x = random_input(&r, ROWS, STEPS, m);
        float *all = calloc(ROWS * STEPS * r.out, sizeof *all);
        float *last = calloc(ROWS * r.out, sizeof *last);
        call_spec call = {
            .rows = ROWS, .max_steps = STEPS, .steps = steps, .x = x, .y = all};
        OK(run_call(&r, &call));
        call.y = last;
        call.mode = CARRY_STEPS_LAST;
        OK(run_call(&r, &call));
        float *zeros = calloc(r.out, sizeof *zeros);
        for (size_t i = 0; i < ROWS; i++) {
            const float *expected =
                steps[i] ? all + (i * STEPS + steps[i] - 1) * r.out : zeros;
            const float *got = last + i * r.out;
            SAME_BITS(expected, got, r.out);
        }
        free(zeros);
        free(x);
        free(all);
        free(last);
        rig_close(&r);
    }
}

Test(same_bits, one_not_a_number_stays_in_its_row)
{
    for (size_t m = 0; m < COUNT(causal); m++) {
        if (!fits(&causal[m])) continue;
        if (causal[m].ids) continue;
        rig r = rig_open(&causal[m], NULL);
        enum { ROWS = 9, STEPS = 5 };
        float *x = random_input(&r, ROWS, STEPS, m);
        size_t row_count = STEPS * r.out;
        float *clean = calloc(ROWS * row_count, sizeof *clean);
        float *dirty = calloc(ROWS * row_count, sizeof *dirty);
        OK(run_call(&r,
                    &(call_spec){.rows = ROWS, .max_steps = STEPS, .x = x, .y = clean}));
        const float poison[2] = {0.0f / 0.0f, 1.0f / 0.0f};
        x[(4 * STEPS + 2) * r.in] = poison[0];
        x[(7 * STEPS + 1) * r.in] = poison[1];
        OK(run_call(&r,
                    &(call_spec){.rows = ROWS, .max_steps = STEPS, .x = x, .y = dirty}));
        for (size_t i = 0; i < ROWS; i++) {
            const float *a = clean + i * row_count, *b = dirty + i * row_count;
            if (i == 4) {
                SAME_BITS(a, b, 2 * r.out);
                for (size_t k = 2 * r.out; k < row_count; k++)
                    cr_assert(b[k] != b[k],
                              "model %zu: the NaN of row 4 got lost at %zu: %g", m, k,
                              (double)b[k]);
            } else if (i != 7) {
                SAME_BITS(a, b, row_count);
            }
        }
        free(x);
        free(clean);
        free(dirty);
        rig_close(&r);
    }
}

/* ---- the caller's floating-point control word ----------------------------------------------- */

/* Inputs and weights so small that products are denormal numbers, and an output that shows them. */
static const model_spec tiny = {
    .features = 3,
    .scale = 1e-20f,
    .layers = {LSTM_LAYER(9, SEQUENCES),
               {CY_OP_DENSE, 4, NO_BIAS, CY_ACT_LINEAR, CY_ACT_LINEAR, true}}};

static float *run_tiny(uint32_t threads, size_t *count)
{
    carry_session_options options = {.size = sizeof options, .threads = threads};
    return run_under(&tiny, &options, 40, 9, count);
}

Test(same_bits, whatever_the_callers_rounding)
{
    for (uint32_t threads = 1; threads <= 2; threads++) {
        static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
        carry_session_options options = {.size = sizeof options, .threads = threads};
        for (size_t k = 0; k < COUNT(modes); k++) {
            rig r = rig_open(&causal[3], &options);
            float *x = random_input(&r, 5, 9, 1);
            float *a = calloc(45 * r.out, sizeof *a), *b = calloc(45 * r.out, sizeof *b);
            call_spec call = {.rows = 5, .max_steps = 9, .x = x, .y = a};
            OK(run_call(&r, &call));
            call.y = b;
            fesetround(modes[k]);
            carry_status status = run_call(&r, &call);
            int after = fegetround();
            fesetround(FE_TONEAREST);
            cr_assert_eq(status, CARRY_OK);
            cr_assert_eq(after, modes[k], "the caller's rounding was not restored");
            SAME_BITS(a, b, 45 * r.out);
            free(x);
            free(a);
            free(b);
            rig_close(&r);
        }
    }
}

Test(same_bits, whatever_the_callers_flush_to_zero)
{
#if defined(__x86_64__)
    enum { FLUSH = 0x8040 };
    for (uint32_t threads = 1; threads <= 2; threads++) {
        size_t count;
        float *plain = run_tiny(threads, &count);
        size_t denormals = 0;
        for (size_t i = 0; i < count; i++)
            denormals += plain[i] != 0 && plain[i] < 1e-38f && plain[i] > -1e-38f;
        cr_assert_gt(denormals, 0,
                     "the model makes no denormal numbers: nothing was tested");
        unsigned before = _mm_getcsr();
        _mm_setcsr(before | FLUSH);
        size_t flushed_count;
        float *flushed = run_tiny(threads, &flushed_count);
        unsigned after = _mm_getcsr();
        _mm_setcsr(before);
        cr_assert_eq(after & FLUSH, FLUSH, "the caller's control word was not restored");
        SAME_BITS(plain, flushed, count);
        free(plain);
        free(flushed);
    }
#else
    cr_skip("flush-to-zero is set through x86's MXCSR here");
#endif
}

Test(same_bits, whatever_traps_the_caller_has_set)
{
#if defined(__GLIBC__) && defined(__x86_64__)
    for (uint32_t threads = 1; threads <= 2; threads++) {
        carry_session_options options = {.size = sizeof options, .threads = threads};
        rig r = rig_open(&causal[3], &options);
        float *x = random_input(&r, 5, 9, 1);
        x[4] = 0.0f / 0.0f;
        x[40] = 1e38f;
        float *a = calloc(45 * r.out, sizeof *a), *b = calloc(45 * r.out, sizeof *b);
        call_spec call = {.rows = 5, .max_steps = 9, .x = x, .y = a};
        OK(run_call(&r, &call));
        call.y = b;
        int traps = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW;
        feclearexcept(FE_ALL_EXCEPT);
        feenableexcept(traps);
        carry_status status = run_call(&r, &call); /* no SIGFPE */
        int after = fegetexcept();
        fedisableexcept(traps);
        cr_assert_eq(status, CARRY_OK);
        cr_assert_eq(after & traps, traps, "the caller's traps were not restored");
        SAME_BITS(a, b, 45 * r.out);
        free(x);
        free(a);
        free(b);
        rig_close(&r);
    }
#else
    cr_skip("traps are set through glibc on x86-64 here");
#endif
}
