/* Random histories of a session's states: opened, advanced in any company, forked, reordered, saved, swept ... in thousands,
 * each compared bit for bit with a plain run of its own. A plain program, so that it runs under TSan too.
 *
 *     history [--operations N] [--seed S] [--device D] [--threads N] [--states N] [--begin N] [--seconds T]
 *
 * Each history begins with `begin` states of random values, and never has more than `states`.
 * Every thread has a session of its own on one shared model, and hands states to the others as bytes. Ends after N
 * operations (over all threads) or T seconds, whichever comes first. A failure names the seed and the operation. */
#define _POSIX_C_SOURCE 200809L
#include "mailbox.h"
#include "model_builder.h"
#include "world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const model_spec specs[] = {
    {.features = 3, .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(3, SEQUENCES)}},
    {.features = 1,
     .ids = 11,
     .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(6, SEQUENCES),
                DENSE_LAYER(3, CY_ACT_SOFTMAX)}},
    {.features = 2, .layers = {LSTM_LAYER(17, SEQUENCES), DENSE_LAYER(2, CY_ACT_TANH)}},
};
enum { SPECS = sizeof specs / sizeof *specs, MOST_THREADS = 16 };

typedef struct options {
    unsigned long long operations, seed, threads, states, begin;
    double seconds;
    const char *device;
} options;

typedef struct work {
    pthread_t thread;
    const options *given;
    shared *common;
    uint64_t seed;
    unsigned long long operations, done;
    size_t most;
} work;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *run_history(void *argument)
{
    work *own = argument;
    double until = now() + own->given->seconds;
    world *w = world_open(own->common, own->given->device, (uint32_t)own->given->states,
                          own->seed);
    world_begin(w, own->given->begin);
    while (w->operation < own->operations && (w->operation % 16 || now() < until))
        operate(w);
    world_check_all(w);
    own->done = w->operation;
    own->most = w->most;
    world_close(w);
    return NULL;
}

static carry_model *open_model(int spec, uint64_t weights, const char *device)
{
    size_t bytes;
    model_spec other = specs[spec];
    carry_model *model;
    carry_model_options given = {.size = sizeof given, .device = device};
    other.seed = weights;
    void *data = build_bytes(&other, &bytes);
    if (carry_model_open_bytes(&model, data, bytes, &given) != CARRY_OK) {
        fprintf(stderr, "history: %s\n", carry_error());
        exit(1);
    }
    free(data);
    return model;
}

/* One model after the other, each with its share of the operations. */
static unsigned long long run_spec(const options *given, int spec, size_t *most)
{
    shared common = {.spec = spec, .mailbox = mailbox_open()};
    work works[MOST_THREADS];
    unsigned long long done = 0;
    options own = *given;
    own.seconds /= SPECS;
    /* rounded up: together no fewer than were asked for */
    unsigned long long shares = given->threads * SPECS;
    for (int i = 0; i < 2; i++)
        common.models[i] =
            open_model(spec, 10 * given->seed + (uint64_t)i, given->device);
    for (size_t i = 0; i < given->threads; i++) {
        works[i] = (work){.given = &own,
                          .common = &common,
                          .seed = 1000 * given->seed + 100 * (uint64_t)spec + i,
                          .operations = (given->operations + shares - 1) / shares};
        if (pthread_create(&works[i].thread, NULL, run_history, &works[i])) abort();
    }
    for (size_t i = 0; i < given->threads; i++) {
        pthread_join(works[i].thread, NULL);
        done += works[i].done;
        if (works[i].most > *most) *most = works[i].most;
    }
    for (int i = 0; i < 2; i++)
        carry_model_close(&common.models[i]);
    mailbox_close(common.mailbox);
    return done;
}

static options read_options(int count, char **words)
{
    options o = {.operations = 30000,
                 .seed = 1,
                 .threads = 1,
                 .states = 3000,
                 .seconds = 1e9,
                 .device = "cpu"};
    for (int i = 1; i < count; i += 2) {
        const char *name = words[i], *value = i + 1 < count ? words[i + 1] : "";
        if (!strcmp(name, "--operations")) o.operations = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--seed")) o.seed = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--threads")) o.threads = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--states")) o.states = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--begin")) o.begin = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--seconds")) o.seconds = strtod(value, NULL);
        else if (!strcmp(name, "--device")) o.device = value;
        else {
            fprintf(stderr, "history: unknown option '%s'\n", name);
            exit(2);
        }
    }
    if (o.threads < 1 || o.threads > MOST_THREADS || o.states < 1 || o.begin > o.states)
        exit(2);
    return o;
}

int main(int count, char **words)
{
    options given = read_options(count, words);
    double begun = now();
    unsigned long long done = 0;
    size_t most = 0;
    for (int spec = 0; spec < SPECS; spec++)
        done += run_spec(&given, spec, &most);
    printf(
        "history: %llu operations on %s, %llu threads, up to %zu states open, seed %llu: "
        "equal bit for bit, %.1f s\n",
        done, given.device, given.threads, most, given.seed, now() - begun);
    return done == 0;
}
