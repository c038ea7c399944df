/* What a call costs, counted in the fake runtime: launches, bytes over the bus, allocations on both sides.
 *
 * Linked with --wrap for cy_alloc and the C library's allocators; not for aligned_alloc, which the emulator takes
 * blocks' shared memory from, and the library only in cy_alloc. */
#include "cuda_support.h"

#include "base/mem.h"
#include "kernels/cuda/cuda_kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- allocations of the host ---------------------------------------------------------------- */

static atomic_long host_allocations;

#define COUNTED(type, name, parameters, arguments) \
    type __real_##name parameters;                 \
    type __wrap_##name parameters;                 \
    type __wrap_##name parameters                  \
    {                                              \
        atomic_fetch_add(&host_allocations, 1);    \
        return __real_##name arguments;            \
    }
COUNTED(void *, cy_alloc, (size_t bytes), (bytes))
COUNTED(void *, malloc, (size_t bytes), (bytes))
COUNTED(void *, calloc, (size_t count, size_t bytes), (count, bytes))
COUNTED(void *, realloc, (void *block, size_t bytes), (block, bytes))
COUNTED(int, posix_memalign, (void **block, size_t align, size_t bytes),
        (block, align, bytes))

/* 8.0: cuBLAS takes less workspace there, which is filled and guarded at every turn. */
static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};

static void use_gpu(void)
{
    fake_reset(&gpu, 1);
}

TestSuite(cuda_calls, .init = use_gpu);

/* ---- launches ------------------------------------------------------------------------------- */

/* What one call did. */
typedef struct cost {
    fake_seen seen;
    size_t first_call;
    long host_allocations;
} cost;

/* Copies count when they run: what went before is not part of it. */
static cost begin_cost(void)
{
    CUDA_OK(cudaDeviceSynchronize());
    fake_seen seen = fake_seen_now();
    return (cost){seen, seen.calls, atomic_load(&host_allocations)};
}

static cost end_cost(cost before)
{
    fake_seen now = fake_seen_now();
    no_misuse();
    return (cost){{.calls = now.calls - before.seen.calls,
                   .launches = now.launches - before.seen.launches,
                   .products = now.products - before.seen.products,
                   .graph_launches = now.graph_launches - before.seen.graph_launches,
                   .allocations = now.allocations - before.seen.allocations,
                   .loads = now.loads - before.seen.loads,
                   .bytes_to_device = now.bytes_to_device - before.seen.bytes_to_device,
                   .bytes_to_host = now.bytes_to_host - before.seen.bytes_to_host,
                   .bytes_on_device = now.bytes_on_device - before.seen.bytes_on_device},
                  before.first_call,
                  atomic_load(&host_allocations) - before.host_allocations};
}

/* Launching calls of the host since: of kernels and of products. */
static size_t launch_calls(cost c)
{
    return calls_of("cudaLaunchKernel", c.first_call) +
           calls_of("cublasGemm", c.first_call);
}

static cost cost_of_call(const rig *r, size_t rows, size_t steps,
                         const carry_state *states, carry_mode mode)
{
    float *x = random_input(r, rows, steps, rows + steps);
    float *y = malloc(output_count(r, rows, steps, mode) * sizeof *y);
    cost before = begin_cost();
    OK(run_call(r, &(call_spec){.rows = rows,
                                .max_steps = steps,
                                .states = states,
                                .x = x,
                                .y = y,
                                .mode = mode}));
    cost after = end_cost(before);
    free(x);
    free(y);
    return after;
}

Test(cuda_calls, one_step_of_one_row_is_one_kernel)
{
    for (unsigned flags = 0; flags <= SEQUENCES; flags++)
        for (uint32_t exact = 0; exact <= 1; exact++)
            for (int mode = CARRY_STEPS_AS_MODEL; mode <= CARRY_STEPS_LAST; mode++) {
                if (!flags && mode == CARRY_STEPS_ALL) continue;
                model_spec spec = {.features = 3, .layers = {LSTM_LAYER(5, flags)}};
                rig r =
                    rig_on("cuda", &spec,
                           &(carry_session_options){.size = sizeof(carry_session_options),
                                                    .exact = exact});
                carry_state state;
                open_states(&r, &state, 1);
                for (int call = 0; call < 3; call++) {
                    cost c = cost_of_call(&r, 1, 1, &state, (carry_mode)mode);
                    cr_assert_eq(c.seen.launches, 1, "%zu launches", c.seen.launches);
                    cr_assert_eq(launch_calls(c), 1);
                    cr_assert_eq(c.seen.products, 0);
                    cr_assert_eq(c.seen.graph_launches, 0);
                }
                rig_close(&r);
            }
}

Test(cuda_calls, one_step_of_stacked_layers_is_one_kernel_each)
{
    model_spec spec = {
        .features = 3,
        .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(7, SEQUENCES), LSTM_LAYER(4, 0)}};
    rig r = rig_on("cuda", &spec, NULL);
    carry_state state;
    open_states(&r, &state, 1);
    cr_assert_eq(cost_of_call(&r, 1, 1, &state, CARRY_STEPS_AS_MODEL).seen.launches, 3);
    rig_close(&r);
}

Test(cuda_calls, a_chunk_of_a_captured_shape_is_one_graph_launch)
{
    static const carry_graph_shape shapes[] = {{4, 8}, {2, 8}, {4, 2}};
    model_spec spec = {.features = 3,
                       .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(6, SEQUENCES),
                                  DENSE_LAYER(2, CY_ACT_TANH)}};
    rig r = rig_on("cuda", &spec,
                   &(carry_session_options){.size = sizeof(carry_session_options),
                                            .graphs = shapes,
                                            .graph_count = 3});
    carry_state states[5];
    open_states(&r, states, 5);
    cr_assert_eq(info_of(r.session).graphs, 3);
    /* rows, steps, chunks that are graphs, plain chunks */
    static const size_t cases[][4] = {
        {3, 8, 1, 0},  {4, 8, 1, 0},  {1, 8, 1, 0}, {4, 16, 2, 0}, {3, 2, 1, 0},
        {2, 11, 2, 1}, {4, 19, 3, 1}, {5, 8, 0, 1}, {1, 1, 0, 1},  {5, 9, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        carry_session_info before = info_of(r.session);
        cost c = cost_of_call(&r, cases[i][0], cases[i][1], states, CARRY_STEPS_AS_MODEL);
        carry_session_info after = info_of(r.session);
        cr_assert_eq(c.seen.graph_launches, cases[i][2], "case %zu: %zu graphs", i,
                     c.seen.graph_launches);
        cr_assert_eq(after.graph_chunks - before.graph_chunks, cases[i][2], "case %zu",
                     i);
        cr_assert_eq(after.plain_chunks - before.plain_chunks, cases[i][3], "case %zu",
                     i);
        if (cases[i][3] == 0)
            cr_assert_eq(launch_calls(c), 0, "case %zu: %zu other launches", i,
                         launch_calls(c));
        else cr_assert_gt(launch_calls(c), 0);
    }
    rig_close(&r);
}

/* A graph of many rows would compute them all for a few: it serves a quarter of them and more. One of 32 or fewer
 * serves any. */
Test(cuda_calls, a_graph_of_many_rows_is_not_for_few)
{
    static const carry_graph_shape shapes[] = {{64, 2}, {33, 3}, {32, 4}};
    /* rows, steps, whether a graph runs it */
    static const size_t cases[][3] = {{15, 2, 0}, {16, 2, 1}, {64, 2, 1},
                                      {65, 2, 0}, {8, 3, 0},  {9, 3, 1},
                                      {33, 3, 1}, {1, 4, 1},  {32, 4, 1}};
    model_spec spec = {.features = 2, .layers = {LSTM_LAYER(3, SEQUENCES)}};
    rig r = rig_on("cuda", &spec,
                   &(carry_session_options){.size = sizeof(carry_session_options),
                                            .max_rows = 128,
                                            .graphs = shapes,
                                            .graph_count = 3});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cost c = cost_of_call(&r, cases[i][0], cases[i][1], NULL, CARRY_STEPS_AS_MODEL);
        cr_expect_eq(c.seen.graph_launches, cases[i][2], "%zu rows: %zu graphs",
                     cases[i][0], c.seen.graph_launches);
    }
    rig_close(&r);
}

Test(cuda_calls, what_a_graph_cannot_write_runs_without_one)
{
    static const carry_graph_shape shape = {4, 8};
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES)}};
    rig r = rig_on("cuda", &spec,
                   &(carry_session_options){.size = sizeof(carry_session_options),
                                            .graphs = &shape,
                                            .graph_count = 1});
    cost_of_call(&r, 4, 8, NULL, CARRY_STEPS_LAST);
    cr_assert_eq(info_of(r.session).graph_chunks, 0);
    cr_assert_eq(info_of(r.session).plain_chunks, 1);
    rig_close(&r);
}

Test(cuda_calls, capturing_happens_in_warm_and_never_in_a_call)
{
    static const carry_graph_shape shape = {2, 4};
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES)}};
    rig r = rig_on("cuda", &spec, NULL);
    cost c = cost_of_call(&r, 2, 4, NULL, CARRY_STEPS_AS_MODEL);
    cr_assert_eq(calls_of("cudaStreamBeginCapture", c.first_call), 0);
    cr_assert_eq(c.seen.graph_launches, 0);
    OK(carry_session_warm(r.session, &shape, 1));
    cost before = begin_cost();
    OK(carry_session_warm(r.session, &shape, 1)); /* it is there */
    cr_assert_eq(calls_of("cudaStreamBeginCapture", before.first_call), 0);
    cr_assert_eq(info_of(r.session).graphs, 1);
    c = cost_of_call(&r, 2, 4, NULL, CARRY_STEPS_AS_MODEL);
    cr_assert_eq(c.seen.graph_launches, 1);
    cr_assert_eq(launch_calls(c), 0);
    rig_close(&r);
}

/* ---- the bus -------------------------------------------------------------------------------- */

/* Bytes of a block: small inputs, ports, rows. */
static size_t block_bytes(size_t inline_bytes, size_t outputs, size_t rows)
{
    return cy_round_up(inline_bytes) + cy_round_up((1 + outputs) * sizeof(cy_cuda_port)) +
           rows * sizeof(cy_cuda_row);
}

Test(cuda_calls, only_inputs_outputs_and_the_block_cross_the_bus)
{
    enum { FEATURES = 3, OUT = 2 };
    /* rows, steps, captured steps */
    static const size_t cases[][3] = {{1, 1, 0},
                                      {1, 7, 0},
                                      {9, 1, 0},
                                      {9, 7, 0},
                                      {5, 8, 8},
                                      {5, 16, 8},
                                      {2, FEWER > 1 ? 10 : 260, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t rows = cases[i][0], steps = cases[i][1], captured = cases[i][2];
        carry_graph_shape shape = {8, (uint32_t)captured};
        for (uint32_t units = 4; units <= 12; units += 8) {
            model_spec spec = {.features = FEATURES,
                               .layers = {LSTM_LAYER(units, SEQUENCES),
                                          DENSE_LAYER(OUT, CY_ACT_LINEAR)}};
            rig r = rig_on("cuda", &spec,
                           &(carry_session_options){.size = sizeof(carry_session_options),
                                                    .max_rows = 64,
                                                    .exact = 1,
                                                    .graphs = captured ? &shape : NULL,
                                                    .graph_count = captured ? 1 : 0});
            carry_state states[64];
            open_states(&r, states, 64);
            /* a chunk holds 4096 steps of all rows, or those of the graph */
            size_t chunk = captured ? captured : 4096 / rows < 256 ? 4096 / rows : 256;
            size_t to_device = 0;
            for (size_t first = 0; first < steps; first += chunk) {
                size_t now = steps - first < chunk ? steps - first : chunk;
                size_t input = rows * now * FEATURES * sizeof(float);
                to_device += block_bytes(input, 1, captured ? shape.rows : rows);
                if (input >
                    4096 * FEATURES * sizeof(float)) /* what the block has room for */
                    to_device -= cy_round_up(input) - input;
            }
            for (int call = 0; call < 2; call++) {
                cost c = cost_of_call(&r, rows, steps, states, CARRY_STEPS_AS_MODEL);
                cr_assert_eq(c.seen.bytes_to_device, to_device,
                             "case %zu, %u units: %zu bytes, expected %zu", i, units,
                             c.seen.bytes_to_device, to_device);
                cr_assert_eq(c.seen.bytes_to_host, rows * steps * OUT * sizeof(float));
                cr_assert_eq(c.seen.bytes_on_device, 0);
            }
            rig_close(&r);
        }
    }
}

Test(cuda_calls, an_input_too_large_for_the_block_is_copied_as_it_is)
{
    enum { FEATURES = 100, ROWS = 5, STEPS = 40 };
    model_spec spec = {.features = FEATURES, .layers = {LSTM_LAYER(4, 0)}};
    rig r = rig_on("cuda", &spec, NULL);
    cost c = cost_of_call(&r, ROWS, STEPS, NULL, CARRY_STEPS_AS_MODEL);
    cr_assert_eq(c.seen.bytes_to_device,
                 block_bytes(0, 1, ROWS) + ROWS * STEPS * FEATURES * sizeof(float));
    cr_assert_eq(c.seen.bytes_to_host, ROWS * 4 * sizeof(float));
    rig_close(&r);
}

/* Rows of `steps` steps and room for `more`, packed from step `first` of arrays that are no longer than they need to be. */
static cost cost_of_packed(const rig *r, size_t rows, const uint32_t *steps,
                           uint32_t more, uint64_t first, carry_place place)
{
    uint64_t offsets[65] = {first};
    for (size_t row = 0; row < rows; row++)
        offsets[row + 1] = offsets[row] + steps[row] + more;
    void *numbers = random_input(r, 1, offsets[rows], 1);
    buffer x = buffer_open(place, CARRY_F32, offsets[rows] * r->in);
    buffer y = buffer_open(place, CARRY_F32, offsets[rows] * r->out);
    buffer_write(&x, numbers);
    cost before = begin_cost();
    OK(run_wide(r->session, &(wide_call){.rows = rows,
                                         .steps = steps,
                                         .row_offsets = offsets,
                                         .x = &x,
                                         .y = &y,
                                         .outputs = 1}));
    cost after = end_cost(before);
    free(numbers);
    buffer_close(&x);
    buffer_close(&y);
    return after;
}

/* Of packed rows only the steps that there are cross the bus, however uneven they are. */
Test(cuda_calls, packed_rows_cross_the_bus_without_padding)
{
    enum { ROWS = 5, ALL = 34, FEATURES = 3, UNITS = 6, LARGE = 600 };
    static const uint32_t steps[ROWS] = {1, 0, 30, 1, 2};
    for (uint32_t features = FEATURES; features <= LARGE; features += LARGE - FEATURES) {
        model_spec spec = {.features = features,
                           .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
        rig r = rig_on(
            "cuda", &spec,
            &(carry_session_options){.size = sizeof(carry_session_options), .exact = 1});
        size_t input = ALL * features * sizeof(float);
        for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
            bool in_block = place == CARRY_HOST && features == FEATURES;
            cost c = cost_of_packed(&r, ROWS, steps, 0, 3, place);
            size_t to_device = block_bytes(in_block ? input : 0, 1, ROWS);
            if (!in_block && place != CARRY_DEVICE) to_device += input;
            cr_assert_eq(c.seen.bytes_to_device, to_device,
                         "%u features, place %d: %zu bytes, expected %zu", features,
                         (int)place, c.seen.bytes_to_device, to_device);
            cr_assert_eq(c.seen.bytes_to_host,
                         place == CARRY_DEVICE ? 0 : ALL * UNITS * sizeof(float));
            cr_assert_eq(c.seen.bytes_on_device, 0);
            /* rows that follow one another are one copy, of pinned memory too */
            size_t copies = calls_of("cudaMemcpy", c.first_call);
            cr_assert_eq(copies,
                         place == CARRY_DEVICE ? 1
                         : in_block            ? 2
                                               : 3,
                         "place %d: %zu copies", (int)place, copies);
        }
        rig_close(&r);
    }
}

/* Nor what a row has room for beyond its steps; in an output those are zeros, brought along as far as the longest row. */
Test(cuda_calls, shortened_rows_cross_the_bus_without_their_rest)
{
    enum { ROWS = 3, ALL = 9, MORE = 2, UNITS = 6 };
    static const uint32_t steps[ROWS] = {2, 4, 3};
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
    rig r = rig_on("cuda", &spec, NULL);
    size_t input = ALL * 3 * sizeof(float);
    for (carry_place place = CARRY_HOST; place <= CARRY_PINNED; place++) {
        cost c = cost_of_packed(&r, ROWS, steps, MORE, 0, place);
        cr_assert_eq(c.seen.bytes_to_device, place == CARRY_HOST
                                                 ? block_bytes(input, 1, ROWS)
                                                 : block_bytes(0, 1, ROWS) + input);
        cr_assert_eq(c.seen.bytes_to_host, (4 + 4 + 4) * UNITS * sizeof(float));
    }
    rig_close(&r);
}

Test(cuda_calls, packed_rows_run_in_a_graph)
{
    static const carry_graph_shape shape = {4, 8};
    static const uint32_t one[3] = {8, 3, 0}, other[4] = {1, 8, 8, 5};
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES)}};
    rig r = rig_on("cuda", &spec,
                   &(carry_session_options){.size = sizeof(carry_session_options),
                                            .graphs = &shape,
                                            .graph_count = 1});
    for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
        cr_assert_eq(launch_calls(cost_of_packed(&r, 3, one, 1, 2, place)), 0);
        cr_assert_eq(launch_calls(cost_of_packed(&r, 4, other, 0, 0, place)), 0);
    }
    cr_assert_eq(info_of(r.session).graph_chunks, 6);
    cr_assert_eq(info_of(r.session).plain_chunks, 0);
    rig_close(&r);
}

Test(cuda_calls, device_arrays_leave_only_the_block)
{
    enum { ROWS = 3, STEPS = 6 };
    model_spec spec = {.features = 4, .layers = {LSTM_LAYER(5, SEQUENCES)}};
    rig r = rig_on("cuda", &spec, NULL);
    carry_state states[ROWS];
    open_states(&r, states, ROWS);
    void *numbers = random_input(&r, ROWS, STEPS, 1);
    buffer x = buffer_open(CARRY_DEVICE, CARRY_F32, ROWS * STEPS * 4);
    buffer y = buffer_open(CARRY_DEVICE, CARRY_F32, ROWS * STEPS * 5);
    buffer_write(&x, numbers);
    cost before = begin_cost();
    OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                        .max_steps = STEPS,
                                        .states = states,
                                        .x = &x,
                                        .y = &y,
                                        .outputs = 1}));
    cost c = end_cost(before);
    cr_assert_eq(c.seen.bytes_to_device, block_bytes(0, 1, ROWS));
    cr_assert_eq(c.seen.bytes_to_host, 0);
    cr_assert_eq(c.seen.bytes_on_device, 0);
    free(numbers);
    buffer_close(&x);
    buffer_close(&y);
    rig_close(&r);
}

/* A head behind the last step is a product over rows alone; one with a time axis, over a chunk's steps too. */
Test(cuda_calls, the_plan_of_a_head_says_what_one_product_has)
{
    const model_spec last = {.features = 3,
                             .layers = {LSTM_LAYER(4, 0), DENSE_LAYER(2, CY_ACT_TANH)}},
                     every = {.features = 3,
                              .layers = {LSTM_LAYER(4, SEQUENCES),
                                         DENSE_LAYER(2, CY_ACT_TANH)}};
    rig r = rig_on("cuda", &last, NULL);
    carry_plan_info plan = plan_of(r.session, 1, 8, 100);
    cr_expect_str_eq(plan.reason, "8 rows in one product of 4 by 2");
    rig_close(&r);
    r = rig_on("cuda", &every, NULL);
    plan = plan_of(r.session, 1, 8, 100);
    cr_expect_str_eq(plan.reason, "800 rows and steps in one product of 4 by 2");
    plan = plan_of(r.session, 1, 8, 100000); /* a chunk at a time */
    cr_expect_str_eq(plan.reason, "2048 rows and steps in one product of 4 by 2");
    rig_close(&r);
}

Test(cuda_calls, weights_are_copied_once_for_all_sessions)
{
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(20, SEQUENCES)}};
    cost before = begin_cost();
    carry_model *model = model_on("cuda", &spec, CARRY_COMPUTE_FP32);
    size_t weights = end_cost(before).seen.bytes_to_device;
    cr_assert_geq(weights, (3 + 20 + 1) * 80 * sizeof(float));
    carry_session *sessions[2];
    before = begin_cost();
    for (int i = 0; i < 2; i++)
        OK(carry_session_open(&sessions[i], model, NULL));
    cost c = end_cost(before);
    size_t absent_rows = 17 * sizeof(cy_cuda_row); /* for the first use of the kernels */
    cr_assert_eq(c.seen.bytes_to_device, 2 * absent_rows, "%zu bytes",
                 c.seen.bytes_to_device);
    cr_assert_gt(c.seen.allocations, 0);
    for (int i = 0; i < 2; i++)
        carry_session_close(&sessions[i]);
    carry_model_close(&model);
    cr_assert_eq(fake_open_handles(), 0);
}

/* The copy of the weights is not in the order of the sessions' streams by itself. */
Test(cuda_calls, weights_are_there_when_the_model_is_open)
{
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(4, 0)}};
    rig on_cpu = rig_on("cpu", &spec, NULL);
    float *x = random_input(&on_cpu, 1, 1, 1), expected[4];
    call_spec call = {.rows = 1, .max_steps = 1, .x = x, .y = expected};
    const carry_session_options exact = {.size = sizeof exact, .exact = 1};
    OK(run_call(&on_cpu, &call));
    for (uint64_t seed = 1; seed <= 20; seed++) {
        fake_reset(&gpu, seed);
        cost before = begin_cost();
        carry_model *model = model_on("cuda", &spec, CARRY_COMPUTE_FP32);
        size_t bytes = fake_seen_now().bytes_to_device - before.seen.bytes_to_device;
        cr_assert_geq(bytes, (3 + 4 + 1) * 16 * sizeof(float), "seed %d: %zu bytes",
                      (int)seed, bytes);
        rig r = rig_of(model, &exact);
        float y[4];
        call.y = y;
        OK(run_call(&r, &call));
        cr_assert_leq(worst_error(y, expected, 4), 1e-5, "seed %d", (int)seed);
        rig_close(&r);
    }
    free(x);
    rig_close(&on_cpu);
}

/* ---- allocations ---------------------------------------------------------------------------- */

Test(cuda_calls, nothing_is_allocated_after_open)
{
    enum { ROWS = 9, STEPS = 8 };
    static const carry_graph_shape shapes[] = {{2, 4}, {6, 2}};
    static const model_spec specs[] = {
        {.features = 3,
         .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(9, 0),
                    DENSE_LAYER(2, CY_ACT_TANH)}},
        {.ids = 50,
         .layers = {EMBEDDING_LAYER(8), LSTM_LAYER(6, SEQUENCES),
                    DENSE_LAYER(9, CY_ACT_SOFTMAX)}},
        {.features = 2, .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS)}},
    };
    for (size_t i = 0; i < 3; i++)
        for (uint32_t exact = FEWER > 1; exact <= 1; exact++) {
            bool graphs = i < 2;
            carry_session_options options = {.size = sizeof options,
                                             .max_rows = 6,
                                             .max_steps = STEPS,
                                             .exact = exact,
                                             .graphs = graphs ? shapes : NULL,
                                             .graph_count = graphs ? 2 : 0};
            rig r = rig_on("cuda", &specs[i], &options);
            carry_state states[ROWS];
            open_states(&r, states, ROWS);
            uint32_t steps[ROWS];
            carry_status row_status[ROWS];
            for (int row = 0; row < ROWS; row++)
                steps[row] = (uint32_t)(row * 5) % (STEPS + 1);
            size_t outputs = output_count(&r, ROWS, STEPS, CARRY_STEPS_AS_MODEL);
            carry_dtype type = r.ids ? CARRY_I32 : CARRY_F32;
            void *numbers = random_input(&r, ROWS, STEPS, i);
            for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
                buffer x = buffer_open(place, type, ROWS * STEPS * r.in);
                buffer y = buffer_open(place, CARRY_F32, outputs);
                buffer_write(&x, numbers);
                wide_call call = {.rows = 1,
                                  .max_steps = 1,
                                  .states = states,
                                  .x = &x,
                                  .y = &y,
                                  .outputs = 1};
                cost before = begin_cost();
                for (call.max_steps = 1; call.max_steps <= STEPS; call.max_steps += 5)
                    for (call.rows = 1; call.rows <= ROWS; call.rows += 4)
                        OK(run_wide(r.session, &call));
                call.rows = ROWS;
                call.max_steps = STEPS;
                call.steps = steps;
                call.row_status = row_status;
                OK(run_wide(r.session, &call));
                for (int again = 0; again < 2; again++) {
                    if (place != CARRY_HOST) call.flags = CARRY_ASYNC;
                    OK(run_wide(r.session, &call));
                }
                OK(carry_session_wait(r.session));
                OK(carry_state_reset(r.session, states[0]));
                cost c = end_cost(before);
                cr_assert_eq(c.seen.allocations, 0, "%zu on the device",
                             c.seen.allocations);
                cr_assert_eq(c.host_allocations, 0, "%ld on the host",
                             c.host_allocations);
                cr_assert(!graphs || info_of(r.session).graph_chunks > 0);
                buffer_close(&x);
                buffer_close(&y);
            }
            free(numbers);
            rig_close(&r);
            cr_assert_eq(fake_open_handles(), 0);
        }
}

/* Kernels and cuBLAS's are loaded when they are first used, which is at open: every session here is the first of its
 * process, and what it is asked goes through each way to compute a layer. */
static void loads_nothing(const model_spec *spec, carry_precision precision,
                          uint32_t exact)
{
    static const size_t calls[][2] = {{1, 1},  {3, 1},   {8, 1}, {9, 1}, {17, 1}, {33, 1},
                                      {70, 1}, {100, 1}, {1, 4}, {5, 7}, {70, 4}};
    const carry_session_options options = {
        .size = sizeof options, .max_rows = 70, .max_steps = 7, .exact = exact};
    fake_reset(&gpu, 1);
    rig r = rig_of(model_on("cuda", spec, precision), &options);
    cr_assert_gt(fake_seen_now().loads, 0);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        carry_mode mode = i % 2 ? CARRY_STEPS_LAST : CARRY_STEPS_AS_MODEL;
        cost c = cost_of_call(&r, calls[i][0], calls[i][1], NULL, mode);
        cr_assert_eq(c.seen.loads, 0,
                     "%zu rows of %zu steps, precision %d, exact %u: %zu", calls[i][0],
                     calls[i][1], (int)precision, exact, c.seen.loads);
        cr_assert_eq(calls_of("cudaFuncSetAttribute", c.first_call), 0);
    }
    carry_state states[2];
    size_t bytes, loads = fake_seen_now().loads;
    open_states(&r, states, 2);
    void *saved = save(&r, states, 2, &bytes);
    OK(carry_states_restore(r.session, states, 2, NULL, saved, bytes));
    cr_assert_eq(fake_seen_now().loads, loads, "saving states loads a kernel");
    free(saved);
    rig_close(&r);
}

Test(cuda_calls, nothing_is_loaded_after_open)
{
    static const model_spec specs[] = {
        {.features = 8,
         .layers = {LSTM_LAYER(4, SEQUENCES), LSTM_LAYER(80, 0),
                    DENSE_LAYER(2, CY_ACT_TANH)}},
        {.features = 3,
         .layers = {LSTM_ACT(5, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_SIGMOID),
                    LSTM_ACT(5, SEQUENCES, CY_ACT_RELU, CY_ACT_SIGMOID),
                    DENSE_LAYER(9, CY_ACT_SOFTMAX)}},
        {.features = 2, .layers = {LSTM_LAYER(6, SEQUENCES | BACKWARDS)}},
    };
    for (size_t i = 0; i<sizeof specs / sizeof *specs; i += FEWER> 1 ? 2 : 1)
        for (carry_precision p = CARRY_COMPUTE_FP32; p <= CARRY_COMPUTE_FP16; p++)
            for (uint32_t exact = 0; exact <= (p != CARRY_COMPUTE_TF32); exact++)
                loads_nothing(&specs[i], p, exact);
}

/* The kernel for large products is loaded where a chunk can have one. */
Test(cuda_calls, nothing_is_loaded_for_a_large_exact_product)
{
    model_spec spec = {.features = 2, .layers = {LSTM_LAYER(48, 0)}};
    rig r =
        rig_on("cuda", &spec,
               &(carry_session_options){
                   .size = sizeof(carry_session_options), .max_rows = 1024, .exact = 1});
    cost c = cost_of_call(&r, 700, 4, NULL, CARRY_STEPS_AS_MODEL);
    cr_assert_eq(c.seen.loads, 0);
    rig_close(&r);
}

Test(cuda_calls, the_counters_count)
{
    model_spec spec = {.features = 3, .layers = {LSTM_LAYER(5, 0)}};
    cost before = begin_cost();
    carry_model *model = model_on("cuda", &spec, CARRY_COMPUTE_FP32);
    cost c = end_cost(before);
    cr_assert_gt(c.host_allocations, 0);
    cr_assert_gt(c.seen.allocations, 0);
    cr_assert_gt(c.seen.bytes_to_device, 0);
    carry_session *session;
    before = begin_cost();
    OK(carry_session_open(&session, model, NULL));
    cr_assert_gt(end_cost(before).seen.loads, 0);
    carry_session_close(&session);
    carry_model_close(&model);
}
