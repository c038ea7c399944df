/* Arrivals: a seeded Poisson process, or a recorded file. */
#include "load_arrivals.h"

#include "report.h"
#include "sampler.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TIME_S 1e9 /* beside it, a clock in double still tells microseconds */

static int add(cy_arrivals *arrivals, double at_s, uint64_t sequence, uint64_t steps)
{
    if (arrivals->count == arrivals->room) {
        size_t room = arrivals->room ? 2 * arrivals->room : 1024;
        cy_arrival *items = realloc(arrivals->items, room * sizeof *items);
        if (items == NULL)
            return cy_report(CY_EXIT_FAILED, "out of memory for %zu arrivals", room);
        arrivals->items = items;
        arrivals->room = room;
    }
    arrivals->items[arrivals->count++] = (cy_arrival){
        .at_s = at_s, .sequence = (uint32_t)sequence, .steps = (uint32_t)steps};
    if (sequence >= arrivals->sequences) arrivals->sequences = (uint32_t)sequence + 1;
    if (steps > arrivals->most_steps) arrivals->most_steps = (uint32_t)steps;
    return CY_EXIT_OK;
}

static void empty(cy_arrivals *arrivals)
{
    arrivals->count = 0;
    arrivals->sequences = arrivals->most_steps = 0;
}

void cy_arrivals_free(cy_arrivals *arrivals)
{
    free(arrivals->items);
    memset(arrivals, 0, sizeof *arrivals);
}

/* The sum of independent Poisson processes is one of the sum of their rates, each of whose arrivals belongs to any of
 * them alike: so one generator does for all sequences. */
int cy_arrivals_poisson(cy_arrivals *arrivals, uint64_t sequences, double rate,
                        double seconds, uint64_t seed)
{
    cy_random random;
    cy_random_seed(&random, seed);
    empty(arrivals);
    int code = CY_EXIT_OK;
    double at_s = 0;
    while (code == CY_EXIT_OK && arrivals->count < CY_ARRIVALS_MOST) {
        at_s -= log1p(-cy_random_unit(&random)) / rate;
        if (at_s >= seconds) break;
        double sequence = cy_random_unit(&random) * (double)sequences;
        code = add(arrivals, at_s, (uint64_t)sequence, 1);
    }
    return code;
}

int cy_arrivals_burst(cy_arrivals *arrivals, uint64_t sequences, size_t count,
                      uint64_t seed)
{
    cy_random random;
    cy_random_seed(&random, seed);
    empty(arrivals);
    int code = CY_EXIT_OK;
    while (code == CY_EXIT_OK && arrivals->count < count)
        code =
            add(arrivals, 0, (uint64_t)(cy_random_unit(&random) * (double)sequences), 1);
    return code;
}

/* ---- a recorded file ------------------------------------------------------------------------ */

typedef struct trace_line {
    const char *path;
    uint64_t number;
    char *text;
} trace_line;

static int refuse(const trace_line *line, const char *why)
{
    return cy_report(CY_EXIT_FAILED, "%s, line %llu: %s", line->path,
                     (unsigned long long)line->number, why);
}

/* A whole number at *text, which moves behind it; -1: there is none, or it has more than 15 digits. */
static int64_t whole_number(char **text)
{
    *text += strspn(*text, " \t");
    size_t digits = strspn(*text, "0123456789");
    if (digits == 0 || digits > 15) return -1;
    int64_t number = strtoll(*text, text, 10);
    return strchr(" \t\r\n", **text) != NULL ? number : -1; /* the end, too */
}

/* Reads one line; *at_s is the time of the arrival before. */
static int read_line(cy_arrivals *arrivals, const trace_line *line, double *at_s,
                     uint64_t sequences)
{
    char *text = line->text + strspn(line->text, " \t\r\n"), why[160];
    if (*text == 0 || *text == '#') return CY_EXIT_OK;
    char *end = text;
    double time_s = strtod(text, &end);
    if (end == text || strspn(text, "0123456789.eE+-") != (size_t)(end - text) ||
        (*end != ' ' && *end != '\t') || !isfinite(time_s) || time_s < 0)
        return refuse(line, "the time is no number of at least 0; a line is "
                            "TIME_SECONDS SEQUENCE STEPS");
    if (time_s > MOST_TIME_S)
        return refuse(line, "the time is more than 1e9 s, some 30 years");
    if (time_s < *at_s) {
        snprintf(why, sizeof why, "time %.9g is before %.9g of an earlier line", time_s,
                 *at_s);
        return refuse(line, why);
    }
    int64_t sequence = whole_number(&end);
    if (sequence < 0 || (uint64_t)sequence >= sequences) {
        snprintf(why, sizeof why, "the sequence is no whole number from 0 to %llu",
                 (unsigned long long)sequences - 1);
        return refuse(line, why);
    }
    int64_t steps = whole_number(&end);
    if (steps < 1 || steps > 1 << 20)
        return refuse(line, "the steps are no whole number from 1 to 1048576");
    end += strspn(end, " \t\r\n");
    if (*end != 0 && *end != '#')
        return refuse(line, "more than TIME_SECONDS SEQUENCE STEPS");
    *at_s = time_s;
    if (arrivals->count == CY_ARRIVALS_MOST)
        return refuse(line, "more than 8388608 arrivals");
    return add(arrivals, time_s, (uint64_t)sequence, (uint64_t)steps);
}

int cy_arrivals_read(cy_arrivals *arrivals, const char *path, uint64_t sequences)
{
    char *text = NULL;
    size_t room = 0;
    double at_s = 0;
    int code = CY_EXIT_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return cy_report(CY_EXIT_FAILED, "%s could not be opened: %s", path,
                         strerror(errno));
    empty(arrivals);
    if (sequences == 0) sequences = CY_SEQUENCES_MOST;
    trace_line line = {.path = path};
    errno = 0;
    for (ssize_t length;
         code == CY_EXIT_OK && (length = getline(&text, &room, file)) >= 0;) {
        line.number++;
        line.text = text;
        if (strlen(text) != (size_t)length) code = refuse(&line, "a zero byte");
        else code = read_line(arrivals, &line, &at_s, sequences);
    }
    if (code == CY_EXIT_OK && ferror(file))
        code =
            cy_report(CY_EXIT_FAILED, "%s could not be read: %s", path, strerror(errno));
    if (code == CY_EXIT_OK && arrivals->count == 0)
        code = cy_report(CY_EXIT_FAILED, "%s has no arrivals", path);
    free(text);
    fclose(file);
    return code;
}
