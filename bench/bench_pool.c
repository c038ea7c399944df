/* What saving and loading a pool costs, beside writing and reading as many bytes.
 *
 *     bench_pool FOLDER [--device WORD] [--states N] [--units H] [--layers L] [--rounds N]
 *
 * N states of a model with L layers of H units, every tensor with values of its own, saved to FOLDER/bench.pool and
 * loaded from it into a session without states; and a plain file of the same length, written in pieces of 4 MiB from
 * memory, synchronised and renamed, and read. All of it once a round, after one round that is not counted. In a folder of
 * tmpfs what is left is carry's own work. */
#define _POSIX_C_SOURCE 200809L
#include "bench_clock.h"
#include "random_lstm.h"

#include <carry/carry.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 4 << 20, MOST_ROUNDS = 1000, PATH_BYTES = 4096 };

typedef enum way { SAVE, LOAD, PLAIN_WRITE, PLAIN_READ, WAYS } way;
static const char *const way_names[WAYS] = {"carry_pool_save", "carry_pool_load",
                                            "plain write", "plain read"};

typedef struct settings {
    const char *folder, *device;
    size_t states, units, layers;
    int rounds;
} settings;

typedef struct pool {
    carry_model *model;
    carry_session *session;
    carry_state *states;
} pool;

static void must(carry_status status)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "bench_pool: %s\n", carry_error());
    exit(1);
}

static void must_do(int done, const char *what)
{
    if (done) return;
    perror(what);
    exit(1);
}

static pool open_pool(const settings *set)
{
    pool p = {0};
    size_t bytes;
    void *file = bench_random_lstm(set->layers, 8, set->units, &bytes);
    carry_model_options options = {.size = sizeof options, .device = set->device};
    must(carry_model_open_bytes(&p.model, file, bytes, &options));
    free(file);
    must(carry_session_open(&p.session, p.model, NULL));
    p.states = calloc(set->states, sizeof *p.states);
    must_do(p.states != NULL, "states");
    return p;
}

static void fill(const pool *p, const settings *set)
{
    float *values = calloc(set->units, sizeof *values);
    must_do(values != NULL, "values");
    unsigned word = 1;
    for (size_t i = 0; i < set->states; i++) {
        must(carry_state_open(p->session, &p->states[i]));
        for (size_t tensor = 0; tensor < 2 * set->layers; tensor++) {
            for (size_t k = 0; k < set->units; k++)
                values[k] = (float)(word = word * 1664525u + 1013904223u) * 0x1p-32f;
            must(carry_state_write(p->session, p->states[i], tensor, values, set->units));
        }
    }
    free(values);
}

static size_t file_bytes(const char *path)
{
    struct stat facts;
    must_do(stat(path, &facts) == 0, path);
    return (size_t)facts.st_size;
}

static void write_plainly(const char *path, char *piece, size_t bytes)
{
    char beside[PATH_BYTES + 8];
    snprintf(beside, sizeof beside, "%s.beside", path);
    int file = open(beside, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must_do(file >= 0, beside);
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        must_do(write(file, piece, n) == (ssize_t)n, beside);
    }
    must_do(fsync(file) == 0 && close(file) == 0 && rename(beside, path) == 0, path);
}

static void read_plainly(const char *path, char *piece)
{
    int file = open(path, O_RDONLY);
    must_do(file >= 0, path);
    ssize_t got;
    while ((got = read(file, piece, PIECE_BYTES)) > 0)
        ;
    must_do(got == 0 && close(file) == 0, path);
}

static void load(const settings *set, const pool *p, const char *path)
{
    size_t count;
    must(carry_pool_load(p->session, path, p->states, NULL, set->states, &count));
    must_do(count == set->states, path);
}

static void measure(const settings *set)
{
    static double times[WAYS][MOST_ROUNDS];
    char path[PATH_BYTES], plain[PATH_BYTES];
    snprintf(path, sizeof path, "%s/bench.pool", set->folder);
    snprintf(plain, sizeof plain, "%s/bench.plain", set->folder);
    char *piece = malloc(PIECE_BYTES);
    must_do(piece != NULL, "a piece of a file");
    memset(piece, 1, PIECE_BYTES);
    pool from = open_pool(set), to = open_pool(set);
    fill(&from, set);
    size_t bytes = 0;
    for (int round = -1; round < set->rounds; round++) {
        double at[WAYS + 1];
        at[SAVE] = bench_now_us();
        must(carry_pool_save(from.session, path, from.states, NULL, set->states));
        at[LOAD] = bench_now_us();
        load(set, &to, path);
        at[PLAIN_WRITE] = bench_now_us();
        bytes = file_bytes(path);
        write_plainly(plain, piece, bytes);
        at[PLAIN_READ] = bench_now_us();
        read_plainly(plain, piece);
        at[WAYS] = bench_now_us();
        for (int w = 0; w < WAYS && round >= 0; w++)
            times[w][round] = at[w + 1] - at[w];
        for (size_t i = 0; i < set->states; i++)
            must(carry_state_close(to.session, &to.states[i]));
    }
    printf("%zu states of %zu layers of %zu units, %.1f MiB, %d rounds\n", set->states,
           set->layers, set->units, (double)bytes / (1 << 20), set->rounds);
    for (int w = 0; w < WAYS; w++) {
        bench_sort(times[w], (size_t)set->rounds);
        double median = bench_percentile(times[w], (size_t)set->rounds, 50);
        printf("%-16s %9.1f ms median, %9.1f least, %9.1f p90, %6.2f GB/s\n",
               way_names[w], median / 1e3, times[w][0] / 1e3,
               bench_percentile(times[w], (size_t)set->rounds, 90) / 1e3,
               (double)bytes / median / 1e3);
    }
    unlink(path);
    unlink(plain);
    free(piece);
    for (pool *p = &from; p; p = p == &from ? &to : NULL) {
        carry_session_close(&p->session);
        carry_model_close(&p->model);
        free(p->states);
    }
}

int main(int count, char **words)
{
    settings set = {
        .device = "cpu", .states = 65536, .units = 256, .layers = 2, .rounds = 15};
    if (count > 1 && words[1][0] != '-') set.folder = words[1];
    for (int i = 2; i + 1 < count; i += 2) {
        const char *word = words[i], *value = words[i + 1];
        if (strcmp(word, "--device") == 0) set.device = value;
        else if (strcmp(word, "--states") == 0) set.states = strtoul(value, NULL, 10);
        else if (strcmp(word, "--units") == 0) set.units = strtoul(value, NULL, 10);
        else if (strcmp(word, "--layers") == 0) set.layers = strtoul(value, NULL, 10);
        else if (strcmp(word, "--rounds") == 0) set.rounds = atoi(value);
        else set.folder = NULL;
    }
    if (!set.folder || count % 2 || set.states < 1 || set.rounds < 1 ||
        set.rounds > MOST_ROUNDS) {
        fprintf(stderr, "bench_pool FOLDER [--device WORD] [--states N] [--units H] "
                        "[--layers L] [--rounds N]\n");
        return 2;
    }
    measure(&set);
    return 0;
}
