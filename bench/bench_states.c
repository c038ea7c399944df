/* Many sequences under load: runs `carry bench --states N` for N = 1, 64, 4096, 65536 on a model of random weights, and
 * writes what it says beside the machine it was said on.
 *
 *     bench_states --carry build/release/carry --out bench/results/states-NAME [--layers L] [--features I] [--units H]
 *                  [--states N]... [--deadline-ms D] [--seconds S] [--threads N] [--device D] [--note TEXT]
 *
 * Writes OUT.json: the machine, the model, and the command's JSON for each N, every trial of its searches included.
 * bench/states_report.py makes tables and plots of them, bench/README.md says how it is measured. */
#include "random_lstm.h"

#include <carry/carry.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct options {
    const char *carry, *out, *seconds, *deadline, *threads, *device, *note;
    size_t layers, features, units;
    const char *states[16];
    size_t count;
} options;

static char model[] = "/tmp/bench_states.XXXXXX"; /* gone when this program ends */

static void fail(const char *what, const char *why)
{
    unlink(model);
    fprintf(stderr, "bench_states: %s: %s\n", what, why);
    exit(1);
}

static void usage(void)
{
    fprintf(
        stderr,
        "usage: bench_states --carry PROGRAM --out PREFIX [--layers L] [--features I] "
        "[--units H] [--states N]... [--deadline-ms D] [--seconds S] [--threads N] "
        "[--device D] [--note TEXT]\n");
    exit(2);
}

static options read_options(int argc, char **argv)
{
    options o = {.seconds = "1",
                 .deadline = "10",
                 .device = "cpu",
                 .note = "",
                 .layers = 2,
                 .features = 32,
                 .units = 256};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--carry") == 0) o.carry = value;
        else if (strcmp(name, "--out") == 0) o.out = value;
        else if (strcmp(name, "--layers") == 0) o.layers = strtoul(value, NULL, 10);
        else if (strcmp(name, "--features") == 0) o.features = strtoul(value, NULL, 10);
        else if (strcmp(name, "--units") == 0) o.units = strtoul(value, NULL, 10);
        else if (strcmp(name, "--seconds") == 0) o.seconds = value;
        else if (strcmp(name, "--deadline-ms") == 0) o.deadline = value;
        else if (strcmp(name, "--threads") == 0) o.threads = value;
        else if (strcmp(name, "--device") == 0) o.device = value;
        else if (strcmp(name, "--note") == 0) o.note = value;
        else if (strcmp(name, "--states") == 0 && o.count < 16)
            o.states[o.count++] = value;
        else usage();
    }
    if (argc % 2 == 0 || !o.carry || !o.out || !o.layers || !o.features || !o.units)
        usage();
    static const char *const all[] = {"1", "64", "4096", "65536"};
    if (o.count == 0) memcpy(o.states, all, sizeof all), o.count = 4;
    return o;
}

static void write_model(const options *o)
{
    size_t bytes;
    void *data = bench_random_lstm(o->layers, o->features, o->units, &bytes);
    FILE *file = fopen(model, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0)
        fail(model, strerror(errno));
    free(data);
}

/* What the command prints, to the end of `to`; its progress bar stays on this terminal. */
static void run_carry(const options *o, const char *states, FILE *to)
{
    char buffer[4096];
    int ends[2], status = 0;
    if (pipe(ends) != 0) fail("pipe", strerror(errno));
    pid_t child = fork();
    if (child < 0) fail("fork", strerror(errno));
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(o->carry, o->carry, "bench", model, "--states", states, "--seconds",
              o->seconds, "--deadline-ms", o->deadline, "--device", o->device, "--json",
              o->threads ? "--threads" : (char *)NULL, o->threads, (char *)NULL);
        fail(o->carry, strerror(errno));
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
        fwrite(buffer, 1, (size_t)got, to);
    close(ends[0]);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0)
        fail(o->carry, "the bench of this many states failed");
}

/* The processor's name, without what JSON would not take. */
static void processor(char *text, size_t room)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(text, room, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", 10) != 0 || !strchr(line, ':')) continue;
        snprintf(text, room, "%s", strchr(line, ':') + 2);
        text[strcspn(text, "\n\"\\")] = 0;
        break;
    }
    if (file) fclose(file);
}

int main(int argc, char **argv)
{
    options o = read_options(argc, argv);
    char path[4096], name[256], day[16];
    time_t now = time(NULL);
    int fd = mkstemp(model);
    if (fd < 0) fail(model, strerror(errno));
    close(fd);
    write_model(&o);
    snprintf(path, sizeof path, "%s.json", o.out);
    FILE *file = fopen(path, "w");
    if (!file) fail(path, strerror(errno));
    processor(name, sizeof name);
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&now));
    fprintf(file,
            "{\"machine\": {\"processor\": \"%s\", \"cores\": %ld, \"isa\": \"%s\", "
            "\"date\": \"%s\", \"note\": \"%s\"},\n"
            "\"lstm\": {\"layers\": %zu, \"features\": %zu, \"units\": %zu}, "
            "\"threads\": %s,\n"
            "\"results\": [\n",
            name, sysconf(_SC_NPROCESSORS_ONLN), carry_cpu_isa(), day, o.note, o.layers,
            o.features, o.units, o.threads ? o.threads : "0");
    for (size_t i = 0; i < o.count; i++) {
        fprintf(stderr, "%s states\n", o.states[i]);
        if (i > 0) fputs(",", file);
        fflush(file);
        run_carry(&o, o.states[i], file);
    }
    fputs("]}\n", file);
    unlink(model);
    if (fclose(file) != 0) fail(path, strerror(errno));
    return 0;
}
