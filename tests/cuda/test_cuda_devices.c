/* Machines: without a driver, without a device, with too old a one, with two; and what a device cannot do. */
#include "cuda_support.h"

#include <stdlib.h>
#include <string.h>

static const model_spec spec = {.features = 3, .layers = {LSTM_LAYER(4, SEQUENCES)}};

static fake_device machine(int count, int major, int minor, int driver_version)
{
    fake_device device = {count, major, minor, 4, (size_t)1 << 30, driver_version};
    return device;
}

static void no_model_on(const char *device, carry_status code, const char *words)
{
    carry_model *model = (carry_model *)&model;
    FAILS(code, words, try_model(&model, &spec, device, CARRY_COMPUTE_FP32));
    cr_expect_null(model);
}

static carry_device_info device_at(size_t index)
{
    carry_device_info info = {.size = sizeof info};
    OK(carry_device_get_info(index, &info));
    return info;
}

/* No device at all counts as one that cannot be used, and says why. */
static void check_unusable(const fake_device *device, const char *words)
{
    fake_reset(device, 1);
    for (int i = 0; i < 2; i++)
        no_model_on(i ? "cuda:0" : "cuda", CARRY_E_DEVICE, words);
    carry_device_info info = device_at(1);
    cr_expect_eq(info.usable, 0);
    cr_expect(info.trouble && strstr(info.trouble, words), "%s", info.trouble);
    cr_expect_eq(device_at(0).usable, 1, "the CPU is always there");
    carry_device_info untouched = {.size = sizeof untouched, .memory_bytes = 42};
    FAILS(CARRY_E_ARGUMENT, "device 2 of 2", carry_device_get_info(2, &untouched));
    cr_expect_eq(untouched.memory_bytes, 42);
    carry_model *model = model_on(NULL, &spec, CARRY_COMPUTE_FP32);
    carry_model_info facts = {.size = sizeof facts};
    OK(carry_model_get_info(model, &facts));
    cr_expect_str_eq(facts.device, "cpu");
    cr_expect_not_null(facts.device_note);
    carry_model_close(&model);
    cr_expect_eq(fake_open_handles(), 0);
    no_misuse();
}

Test(cuda_devices, no_driver)
{
    fake_device device = machine(0, 9, 0, -1);
    check_unusable(&device, "this machine has no NVIDIA driver");
}

Test(cuda_devices, a_driver_that_is_too_old)
{
    fake_device device = machine(1, 9, 0, 11040);
    check_unusable(&device,
                   "the NVIDIA driver here is for CUDA 11.4, carry was built with");
    check_unusable(&device, "update the driver");
}

Test(cuda_devices, a_driver_without_a_device)
{
    fake_device device = machine(0, 9, 0, 0);
    check_unusable(&device, "shows no CUDA device");
}

Test(cuda_devices, an_architecture_without_kernels)
{
    fake_device device = machine(1, 7, 0, 0);
    check_unusable(&device,
                   "compute capability is 7.0; carry's kernels need 7.5 or later");
    cr_expect_str_eq(device_at(1).name, "cuda:0");
    cr_expect(strstr(device_at(1).description, "7.0"), "%s", device_at(1).description);
}

Test(cuda_devices, devices_by_index)
{
    fake_device device = machine(3, 8, 6, 0);
    fake_reset(&device, 1);
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"cuda:0", "cuda:1", "cuda:2"};
        carry_device_info info = device_at(1 + (size_t)i);
        cr_expect_str_eq(info.name, names[i]);
        cr_expect_str_eq(info.description, "emulated, compute capability 8.6");
        cr_expect_eq(info.usable, 1);
        cr_expect_null(info.trouble);
        cr_expect_eq(info.memory_bytes, (uint64_t)1 << 30);
        cr_expect_eq(info.free_bytes, (uint64_t)1 << 30);
    }
    carry_device_info info = {.size = sizeof info};
    FAILS(CARRY_E_ARGUMENT, "device 4 of 4", carry_device_get_info(4, &info));
    int current;
    CUDA_OK(cudaGetDevice(&current));
    cr_expect_eq(current, 0, "asking left another device current");
}

Test(cuda_devices, words_that_are_no_device)
{
    fake_reset(NULL, 1);
    no_model_on("cuda:5", CARRY_E_DEVICE, "device 'cuda:5'");
    no_model_on("cuda:1", CARRY_E_DEVICE, "no such device here");
    static const char *const wrong[] = {"cuda:",   "cuda:x", "cuda:-1",
                                        "cuda:0 ", "cuda0",  "gpu",
                                        "",        "CUDA",   "cuda:99999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        no_model_on(wrong[i], CARRY_E_DEVICE, "carry knows 'auto', 'cpu', 'cuda' and");
}

/* ---- two devices ---------------------------------------------------------------------------- */

static int current(void)
{
    int device = -1;
    CUDA_OK(cudaGetDevice(&device));
    return device;
}

/* The call, and the caller's device is what it was. */
#define KEEPS(call)                                             \
    do {                                                        \
        int before_ = current();                                \
        OK(call);                                               \
        cr_assert_eq(current(), before_, "%s moved it", #call); \
    } while (0)

Test(cuda_devices, two_in_one_process)
{
    enum { ROWS = 3, STEPS = 4, CALLS = 4 };
    static const carry_graph_shape shape = {3, 2};
    fake_device two = machine(2, 9, 0, 0);
    rig cpu = rig_on("cpu", &spec, NULL);
    carry_state kept[ROWS];
    open_states(&cpu, kept, ROWS);
    float *x = random_input(&cpu, ROWS, STEPS, 1), expected[CALLS][ROWS * STEPS * 4];
    for (int i = 0; i < CALLS; i++)
        OK(run_call(&cpu, &(call_spec){.rows = ROWS,
                                       .max_steps = STEPS,
                                       .states = kept,
                                       .x = x,
                                       .y = expected[i]}));
    for (int mine = 0; mine < 2; mine++) {
        fake_reset(&two, (uint64_t)mine + 1);
        CUDA_OK(cudaSetDevice(mine));
        carry_model *models[2] = {NULL, NULL};
        carry_session *sessions[2] = {NULL, NULL};
        carry_state states[2][ROWS], copy;
        carry_session_options options = {
            .size = sizeof options, .graphs = &shape, .graph_count = 1};
        for (int d = 0; d < 2; d++) {
            carry_model_info info = {.size = sizeof info};
            KEEPS(try_model(&models[d], &spec, d ? "cuda:1" : "cuda:0",
                            CARRY_COMPUTE_FP32));
            KEEPS(carry_model_get_info(models[d], &info));
            cr_assert_str_eq(info.device, d ? "cuda:1" : "cuda:0");
            KEEPS(carry_session_open(&sessions[d], models[d], &options));
            for (int row = 0; row < ROWS; row++)
                KEEPS(carry_state_open(sessions[d], &states[d][row]));
        }
        float y[ROWS * STEPS * 4], h[4];
        for (int i = 0; i < CALLS; i++)
            for (int d = 0; d < 2; d++) {
                rig r = {.session = sessions[d], .in = 3, .out = 4, .out_time = 1};
                call_spec call = {.rows = ROWS,
                                  .max_steps = STEPS,
                                  .states = states[d],
                                  .x = x,
                                  .y = y};
                KEEPS(run_call(&r, &call));
                cr_assert_leq(worst_error(y, expected[i], ROWS * STEPS * 4), 1e-5,
                              "call %d on cuda:%d", i, d);
            }
        for (int d = 0; d < 2; d++) {
            static const carry_graph_shape more = {1, 1};
            carry_plan_info plan = {.size = sizeof plan};
            KEEPS(carry_state_copy(sessions[d], states[d][0], &copy));
            KEEPS(carry_state_read(sessions[d], copy, 0, h, 4));
            KEEPS(carry_state_write(sessions[d], copy, 1, h, 4));
            KEEPS(carry_state_reset(sessions[d], copy));
            KEEPS(carry_state_close(sessions[d], &copy));
            KEEPS(carry_session_warm(sessions[d], &more, 1));
            KEEPS(carry_session_wait(sessions[d]));
            KEEPS(carry_session_get_plan(sessions[d], 0, 1, 1, &plan));
            rig r = {.session = sessions[d]};
            size_t bytes;
            void *saved = save(&r, states[d], ROWS, &bytes);
            KEEPS(carry_states_restore(sessions[d], states[d], ROWS, NULL, saved, bytes));
            free(saved);
        }
        /* a call that fails keeps it as well */
        rig r = {.session = sessions[!mine], .in = 3, .out = 4, .out_time = 1};
        OK(carry_session_wait(r.session));
        for (size_t n = 1; n <= 6; n++) {
            fake_fail_call(fake_seen_now().calls + n, FAKE_ONCE);
            call_spec call = {.rows = 1, .max_steps = 1, .x = x, .y = y};
            cr_assert_eq(run_call(&r, &call), CARRY_E_DEVICE, "call %zu", n);
            cr_assert_eq(current(), mine, "call %zu", n);
        }
        cr_assert_eq(info_of(r.session).dead, 0);
        for (int d = 0; d < 2; d++) {
            carry_session_close(&sessions[d]);
            cr_assert_eq(current(), mine);
            carry_model_close(&models[d]);
            cr_assert_eq(current(), mine);
        }
        no_misuse();
        cr_assert_eq(fake_open_handles(), 0);
    }
    free(x);
    rig_close(&cpu);
}

/* ---- precisions ----------------------------------------------------------------------------- */

static void refuse(const char *device, carry_precision precision, const char *words)
{
    carry_model *model = (carry_model *)&model;
    FAILS(CARRY_E_UNSUPPORTED, words, try_model(&model, &spec, device, precision));
    cr_expect_null(model);
}

Test(cuda_devices, what_an_architecture_cannot_do_is_refused_by_name)
{
    fake_device turing = machine(1, 7, 5, 0);
    fake_reset(&turing, 1);
    refuse("cuda", CARRY_COMPUTE_BF16,
           "bf16 needs compute capability 8.0 or later; cuda:0 has 7.5");
    refuse("cuda", CARRY_COMPUTE_TF32,
           "tf32 needs compute capability 8.0 or later; cuda:0 has 7.5");
    for (int i = 0; i < 2; i++) {
        carry_precision precision = i ? CARRY_COMPUTE_FP16 : CARRY_COMPUTE_FP32;
        carry_model *model = model_on("cuda", &spec, precision);
        carry_model_info info = {.size = sizeof info};
        OK(carry_model_get_info(model, &info));
        cr_expect_eq(info.precision, precision);
        cr_expect_gt(info.device_bytes, 0);
        carry_model_close(&model);
    }
    for (int p = CARRY_COMPUTE_TF32; p <= CARRY_COMPUTE_FP16; p++)
        refuse("cpu", (carry_precision)p, "");
    cr_expect_eq(fake_open_handles(), 0);
}

Test(cuda_devices, exact_and_tf32_exclude_each_other)
{
    fake_reset(NULL, 1);
    carry_model *model = model_on("cuda", &spec, CARRY_COMPUTE_TF32);
    carry_session *session = (carry_session *)&session;
    carry_session_options options = {.size = sizeof options, .exact = 1};
    FAILS(CARRY_E_UNSUPPORTED, "exact and tf32 exclude each other",
          carry_session_open(&session, model, &options));
    cr_expect_null(session);
    carry_model_close(&model);
    cr_expect_eq(fake_open_handles(), 0);
}

Test(cuda_devices, weights_beyond_float16_are_refused_by_name)
{
    fake_reset(NULL, 1);
    model_spec wide = spec;
    wide.scale = 1e6f;
    carry_model *model = NULL;
    FAILS(CARRY_E_UNSUPPORTED, "float16 ends at 65504",
          try_model(&model, &wide, "cuda", CARRY_COMPUTE_FP16));
    cr_expect(strstr(carry_error(), "layer0/kernel"), "%s", carry_error());
    OK(try_model(&model, &wide, "cuda", CARRY_COMPUTE_BF16));
    carry_model_close(&model);
}

/* Kernels index with 32 bits: 2^20 row-steps of 3000 numbers are too many, and that is said before any memory is asked
 * for. */
Test(cuda_devices, more_numbers_than_an_index_holds_are_refused_at_open)
{
    static const model_spec whole = {.features = 2,
                                     .layers = {LSTM_LAYER(4, SEQUENCES | BACKWARDS),
                                                DENSE_LAYER(3000, CY_ACT_LINEAR)}};
    fake_reset(NULL, 1);
    carry_model *model = model_on("cuda", &whole, CARRY_COMPUTE_FP32);
    carry_session_options options = {
        .size = sizeof options, .max_rows = 1024, .max_steps = 1024};
    carry_session *session = NULL;
    size_t allocations = fake_seen_now().allocations;
    FAILS(CARRY_E_ARGUMENT, "1048576 row-steps, with this model's widest layer 715827",
          carry_session_open(&session, model, &options));
    cr_expect_null(session);
    cr_expect_eq(fake_seen_now().allocations, allocations);
    carry_model_close(&model);
}
