/* Several threads, each with a session of its own on one CUDA model, beside threads with sessions on a second device
 * and one that only asks what there is. Every thread must get the same bits. A plain program, because Criterion does not
 * start under TSan. */
#include "tests/api/model_builder.h"
#include "tests/emu/fake_control.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 3, ROWS = 3, STEPS = 4, FEATURES = 3, WIDTH = 2 };

static const model_spec spec = {
    .features = FEATURES,
    .layers = {LSTM_LAYER(5, SEQUENCES), DENSE_LAYER(WIDTH, CY_ACT_SOFTMAX)}};
static const carry_graph_shape shape = {ROWS, 2};
static float input[ROWS * STEPS * FEATURES];

typedef struct worker {
    pthread_t thread;
    carry_model *model;
    float output[ROWS * STEPS * WIDTH];
    char failure[256];
} worker;

static void run_session(worker *w, carry_session *session)
{
    carry_state states[ROWS], copy;
    for (int i = 0; i < ROWS; i++)
        if (carry_state_open(session, &states[i]) != CARRY_OK) goto failed;
    carry_array in = {.size = sizeof in, .data = input, .bytes = sizeof input};
    carry_array out = {.size = sizeof out, .data = w->output, .bytes = sizeof w->output};
    carry_batch batch = {.size = sizeof batch,
                         .rows = ROWS,
                         .states = states,
                         .max_steps = STEPS,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1};
    for (int call = 0; call < 2; call++)
        if (carry_run(session, &batch) != CARRY_OK) goto failed;
    if (carry_session_warm(session, &shape, 1) != CARRY_OK) goto failed;
    if (carry_run(session, &batch) != CARRY_OK) goto failed;
    if (carry_state_copy(session, states[0], &copy) != CARRY_OK) goto failed;
    if (carry_session_wait(session) != CARRY_OK) goto failed;
    if (carry_state_close(session, &states[1]) != CARRY_OK) goto failed;
    if (carry_state_reset(session, (carry_state){1}) != CARRY_E_FOREIGN) goto failed;
    if (!strstr(carry_error(), "session")) goto failed; /* this thread's own sentence */
    return;
failed:
    snprintf(w->failure, sizeof w->failure, "%.200s", carry_error());
}

static void *work(void *argument)
{
    worker *w = argument;
    for (int round = 0; round < ROUNDS && !*w->failure; round++) {
        carry_session_options options = {
            .size = sizeof options, .max_rows = 4, .exact = 1};
        carry_session *session = NULL;
        if (carry_session_open(&session, w->model, &options) != CARRY_OK) {
            snprintf(w->failure, sizeof w->failure, "%.200s", carry_error());
            return NULL;
        }
        run_session(w, session);
        carry_session_close(&session);
    }
    return NULL;
}

static atomic_int stop;

static void *keep_asking(void *argument)
{
    (void)argument;
    while (!atomic_load(&stop)) {
        carry_device_info info = {.size = sizeof info};
        for (size_t i = 0; carry_device_get_info(i, &info) == CARRY_OK; i++)
            if (!info.usable) return "a device became unusable";
    }
    return NULL;
}

static carry_model *open_on(const char *device)
{
    size_t bytes;
    void *data = build_bytes(&spec, &bytes);
    carry_model_options options = {.size = sizeof options, .device = device};
    carry_model *model = NULL;
    if (carry_model_open_bytes(&model, data, bytes, &options) != CARRY_OK) {
        fprintf(stderr, "%s: %s\n", device, carry_error());
        exit(1);
    }
    cy_free(data);
    return model;
}

int main(void)
{
    const fake_device two = {2, 8, 0, 4, (size_t)1 << 30, 0};
    fake_reset(&two, 5);
    uint64_t seed = 3;
    for (size_t i = 0; i < sizeof input / sizeof *input; i++)
        input[i] = random_float(&seed);
    static worker workers[THREADS];
    carry_model *models[2] = {open_on("cuda:0"), open_on("cuda:1")};
    pthread_t asking;
    if (pthread_create(&asking, NULL, keep_asking, NULL) != 0) abort();
    for (int i = 0; i < THREADS; i++) {
        workers[i].model = models[i % 4 == 3];
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
    }
    int failures = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        if (*workers[i].failure) {
            fprintf(stderr, "thread %d: %s\n", i, workers[i].failure);
            failures++;
        }
        if (memcmp(workers[0].output, workers[i].output, sizeof workers[i].output) != 0) {
            fprintf(stderr, "thread %d: other bits\n", i);
            failures++;
        }
    }
    atomic_store(&stop, 1);
    void *said;
    pthread_join(asking, &said);
    if (said) fprintf(stderr, "%s\n", (char *)said);
    for (int i = 0; i < 2; i++)
        carry_model_close(&models[i]);
    fake_seen seen = fake_seen_now();
    if (seen.misuses) fprintf(stderr, "%s\n", fake_last_misuse());
    if (fake_open_handles()) fprintf(stderr, "%zu handles left\n", fake_open_handles());
    failures += said != NULL || seen.misuses > 0 || fake_open_handles() > 0;
    return failures != 0;
}
