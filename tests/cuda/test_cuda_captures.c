/* Captures of other threads: a program may be capturing a stream of its own, as other libraries do it, in global mode,
 * while carry opens, runs and closes on another thread. Neither may notice the other. */
#include "cuda_support.h"

#include <pthread.h>
#include <stdlib.h>

static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};
static const carry_graph_shape shape = {2, 3};

typedef struct work {
    carry_precision precision;
    enum cudaStreamCaptureMode mode_left; /* the thread's, when all was done */
} work;

/* All that a program does with carry. */
static void *use_carry(void *argument)
{
    work *w = argument;
    model_spec spec = {.features = 8,
                       .layers = {LSTM_LAYER(8, SEQUENCES), DENSE_LAYER(2, CY_ACT_TANH)}};
    rig r = rig_of(model_on("cuda", &spec, w->precision),
                   &(carry_session_options){.size = sizeof(carry_session_options),
                                            .graphs = &shape,
                                            .graph_count = 1});
    carry_state states[2];
    open_states(&r, states, 2);
    float *x = random_input(&r, 2, 5, 1), *y = malloc(2 * 5 * 2 * sizeof *y);
    for (size_t steps = 3; steps <= 5; steps++) /* in a graph, and not */
        OK(run_call(
            &r, &(call_spec){
                    .rows = 2, .max_steps = steps, .states = states, .x = x, .y = y}));
    OK(carry_session_warm(r.session, &(carry_graph_shape){1, 2}, 1));
    size_t count;
    free(read_state(&r, states[0], &count));
    OK(carry_state_copy(r.session, states[0], &(carry_state){0}));
    OK(carry_session_wait(r.session));
    free(x);
    free(y);
    rig_close(&r);
    carry_device_info info = {.size = sizeof info};
    for (size_t i = 0; carry_device_get_info(i, &info) == CARRY_OK; i++)
        cr_assert(info.usable, "%s: %s", info.name, info.trouble);
    w->mode_left = cudaStreamCaptureModeRelaxed;
    CUDA_OK(cudaThreadExchangeStreamCaptureMode(&w->mode_left));
    return NULL;
}

Test(cuda_captures, carry_beside_a_capture_in_global_mode)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        fake_reset(&gpu, seed);
        work w = {.precision = seed % 2 ? CARRY_COMPUTE_FP32 : CARRY_COMPUTE_BF16};
        cudaStream_t stream;
        void *memory;
        CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CUDA_OK(cudaMalloc(&memory, 64));
        CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        CUDA_OK(cudaMemsetAsync(memory, 0, 64, stream));
        pthread_t other;
        cr_assert_eq(pthread_create(&other, NULL, use_carry, &w), 0);
        pthread_join(other, NULL);
        cudaGraph_t graph;
        CUDA_OK(cudaMemsetAsync(memory, 1, 64, stream));
        CUDA_OK(cudaStreamEndCapture(stream, &graph));
        no_misuse();
        cr_assert_eq(w.mode_left, cudaStreamCaptureModeGlobal, "it is as it was");
        CUDA_OK(cudaGraphDestroy(graph));
        CUDA_OK(cudaFree(memory));
        CUDA_OK(cudaStreamDestroy(stream));
        cr_assert_eq(fake_open_handles(), 0);
    }
}
