/* A process saves its pool to one path, again and again, and is killed at a random moment. Whenever that is, the file
 * must load whole, and be the last version that was reported as saved, or the one after it.
 *
 *     kill_pool_save KILLS SECONDS [SEED]    so many, or as many as so many seconds allow
 *
 * A version fills every number of every state, so that pieces of two versions are noticed; and saving takes most of the
 * child's time, so that most kills hit a save. */
#define _GNU_SOURCE
#include "device.h"
#include "model_builder.h"
#include "scratch_folder.h"

#include <carry/carry.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                    carry_error());                                            \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

enum { MANY = 3000, UNITS = 16 };

static const model_spec spec = {.features = 1, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
static char path[PATH_BYTES];
static carry_model *model;

typedef struct kept {
    carry_session *session;
    carry_state states[MANY];
    int64_t keys[MANY];
} kept;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static float number_of(int64_t version, size_t state, size_t unit)
{
    return (float)((version * 31 + (int64_t)(state * UNITS + unit)) % 1000003);
}

/* ---- the child ------------------------------------------------------------------------------ */

static void save_version(kept *k, int64_t version)
{
    for (size_t i = 0; i < MANY; i++) {
        float values[UNITS];
        for (size_t unit = 0; unit < UNITS; unit++)
            values[unit] = number_of(version, i, unit);
        for (size_t tensor = 0; tensor < 2; tensor++)
            MUST(carry_state_write(k->session, k->states[i], tensor, values, UNITS) ==
                 CARRY_OK);
        k->keys[i] = version;
    }
    MUST(carry_pool_save(k->session, path, k->states, k->keys, MANY) == CARRY_OK);
}

/* Saves for ever, and reports each version that is saved. */
static void child(kept *k, int64_t version, int report)
{
    carry_session_options options = {.size = sizeof options, .threads = 1};
    MUST(carry_session_open(&k->session, model, &options) == CARRY_OK);
    for (size_t i = 0; i < MANY; i++)
        MUST(carry_state_open(k->session, &k->states[i]) == CARRY_OK);
    for (;; version++) {
        save_version(k, version);
        MUST(write(report, &version, sizeof version) == sizeof version);
    }
}

/* ---- the parent ----------------------------------------------------------------------------- */

/* The version that the file is, all of it. */
static int64_t load_version(kept *k)
{
    carry_session_options options = {.size = sizeof options, .threads = 1};
    size_t count;
    MUST(carry_session_open(&k->session, model, &options) == CARRY_OK);
    MUST(carry_pool_load(k->session, path, k->states, k->keys, MANY, &count) == CARRY_OK);
    MUST(count == MANY);
    int64_t version = k->keys[0];
    for (size_t i = 0; i < MANY; i++) {
        MUST(k->keys[i] == version);
        for (size_t tensor = 0; tensor < 2; tensor++) {
            float values[UNITS];
            MUST(carry_state_read(k->session, k->states[i], tensor, values, UNITS) ==
                 CARRY_OK);
            for (size_t unit = 0; unit < UNITS; unit++)
                MUST(values[unit] == number_of(version, i, unit));
        }
    }
    carry_session_close(&k->session);
    return version;
}

/* Starts a child, and kills it some time after its first save. Returns the last version that it has reported. */
static int64_t kill_one(kept *k, int64_t first, uint64_t *seed, double *save_seconds)
{
    int ends[2];
    int64_t version = -1, last;
    MUST(pipe(ends) == 0);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        child(k, first, ends[1]);
    }
    close(ends[1]);
    MUST(read(ends[0], &version, sizeof version) == sizeof version);
    double began = seconds();
    if (*save_seconds == 0) { /* one more, to see how long it takes */
        MUST(read(ends[0], &version, sizeof version) == sizeof version);
        *save_seconds = seconds() - began;
    }
    double wait = *save_seconds * 2 * ((double)(random_u64(seed) % 10000) / 10000);
    struct timespec pause = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
    nanosleep(&pause, NULL);
    MUST(kill(pid, SIGKILL) == 0);
    int status;
    MUST(waitpid(pid, &status, 0) == pid);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    while (read(ends[0], &last, sizeof last) == sizeof last)
        version = last;
    close(ends[0]);
    return version;
}

int main(int count, char **arguments)
{
    MUST(count >= 3);
    long kills = atol(arguments[1]), done = 0, hit = 0, newer = 0;
    double end = seconds() + atof(arguments[2]), save_seconds = 0;
    uint64_t seed = count > 3 ? strtoull(arguments[3], NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    model = build_model(&spec);
    folder_open();
    folder_path(path, "pool");
    kept *k = calloc(1, sizeof *k);
    MUST(k);
    int64_t first = 1;
    while (done < kills && (done < 20 || seconds() < end)) {
        int64_t reported = kill_one(k, first, &seed, &save_seconds);
        int64_t found = load_version(k);
        if (found != reported && found != reported + 1) {
            fprintf(stderr,
                    "kill %ld: version %lld was saved, the file is version %lld\n", done,
                    (long long)reported, (long long)found);
            return 1;
        }
        done++;
        newer += found == reported + 1;
        hit += folder_count("pool.tmp-") > 0; /* in the middle of a save */
        folder_remove("pool.tmp-");
        first = found + 1;
    }
    free(k);
    folder_close();
    carry_model_close(&model);
    printf("%ld kills, %ld of them in the middle of a save, %ld between renaming and "
           "reporting; %lld versions\n",
           done, hit, newer, (long long)first - 1);
    if (hit < done / 10) {
        fprintf(stderr, "too few kills hit a save: nothing was tested\n");
        return 1;
    }
    return 0;
}
