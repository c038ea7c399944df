/* Several sessions on one model from several threads, each session with one thread and with two, while
 * the model's info is read beside them. Every thread must get the same bits. Then one session from two. A plain program, because
 * Criterion does not start under TSan. */
#include "model_builder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 12, ROWS = 9, STEPS = 7, FEATURES = 3, WIDTH = 4 };

static const model_spec spec = {.features = FEATURES,
                                .layers = {LSTM_LAYER(17, SEQUENCES),
                                           LSTM_LAYER(9, SEQUENCES),
                                           DENSE_LAYER(WIDTH, CY_ACT_SOFTMAX)}};
static float input[ROWS * STEPS * FEATURES];

typedef struct worker {
    pthread_t thread;
    carry_model *model;
    uint32_t session_threads;
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
    for (int call = 0; call < 3; call++)
        if (carry_run(session, &batch) != CARRY_OK) goto failed;
    if (carry_state_copy(session, states[0], &copy) != CARRY_OK) goto failed;
    if (carry_state_reset(session, copy) != CARRY_OK) goto failed;
    if (carry_state_close(session, &states[3]) != CARRY_OK) goto failed;
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
        carry_model_info info = {.size = sizeof info};
        carry_session_options options = {
            .size = sizeof options, .threads = w->session_threads, .max_rows = 4};
        carry_session *session = NULL;
        if (carry_model_get_info(w->model, &info) != CARRY_OK ||
            carry_session_open(&session, w->model, &options) != CARRY_OK) {
            snprintf(w->failure, sizeof w->failure, "%.200s", carry_error());
            return NULL;
        }
        run_session(w, session);
        carry_session_close(&session);
    }
    return NULL;
}

static int run_all(uint32_t session_threads, float *expected)
{
    static worker workers[THREADS];
    carry_model *model = build_model(&spec);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.model = model, .session_threads = session_threads};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
    }
    int failures = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        if (*workers[i].failure) {
            fprintf(stderr, "thread %d: %s\n", i, workers[i].failure);
            failures++;
        }
        if (i == 0 && session_threads == 1)
            memcpy(expected, workers[0].output, sizeof workers[0].output);
        if (memcmp(expected, workers[i].output, sizeof workers[i].output) != 0) {
            fprintf(stderr, "thread %d of sessions with %u threads: other bits\n", i,
                    session_threads);
            failures++;
        }
    }
    carry_model_close(&model); /* the last hold: no session is left */
    return failures;
}

/* A model whose owner closes it while sessions of other threads still use it. */
static int close_early(const float *expected)
{
    worker one = {.model = build_model(&spec), .session_threads = 2};
    carry_session *session = NULL;
    carry_session_options options = {.size = sizeof options, .threads = 2, .max_rows = 4};
    if (carry_session_open(&session, one.model, &options) != CARRY_OK) return 1;
    carry_model_close(&one.model);
    run_session(&one, session);
    carry_session_close(&session);
    return *one.failure || memcmp(expected, one.output, sizeof one.output) != 0;
}

/* ---- one session, two threads: what one opens and closes the other must not see half done ------- */

typedef struct pair {
    carry_session *session;
    atomic_int stop;
    char failure[256];
} pair;

static void *keep_asking(void *argument)
{
    pair *p = argument;
    while (!atomic_load(&p->stop)) {
        carry_session_info info = {.size = sizeof info};
        carry_status status = carry_session_get_info(p->session, &info);
        if (status == CARRY_E_BUSY || (status == CARRY_OK && info.states <= 1)) continue;
        snprintf(p->failure, sizeof p->failure, "%s, %zu states: %.200s",
                 carry_status_name(status), info.states, carry_error());
    }
    return NULL;
}

static int info_beside_states(void)
{
    pair p = {0};
    carry_model *model = build_model(&spec);
    carry_session_options options = {.size = sizeof options, .threads = 1};
    if (carry_session_open(&p.session, model, &options) != CARRY_OK) return 1;
    pthread_t thread;
    if (pthread_create(&thread, NULL, keep_asking, &p) != 0) abort();
    int done = 0;
    while (done < 2000) { /* the other thread may be inside: then once more */
        carry_state state;
        carry_status status = carry_state_open(p.session, &state);
        while (status == CARRY_OK && state.id != 0) {
            status = carry_state_close(p.session, &state);
            if (status == CARRY_E_BUSY) status = CARRY_OK;
            else if (status == CARRY_OK) done++;
        }
        if (status == CARRY_OK || status == CARRY_E_BUSY) continue;
        snprintf(p.failure, sizeof p.failure, "%.200s", carry_error());
        break;
    }
    atomic_store(&p.stop, 1);
    pthread_join(thread, NULL);
    carry_session_close(&p.session);
    carry_model_close(&model);
    if (*p.failure) fprintf(stderr, "info beside states: %s\n", p.failure);
    return *p.failure != 0;
}

int main(void)
{
    uint64_t seed = 3;
    for (size_t i = 0; i < sizeof input / sizeof *input; i++)
        input[i] = random_float(&seed);
    static float expected[ROWS * STEPS * WIDTH];
    int failures = run_all(1, expected) + run_all(2, expected) + close_early(expected) +
                   info_beside_states();
    if (failures) fprintf(stderr, "%d failures\n", failures);
    return failures != 0;
}
