/* What carry bench --states says: a table, JSON, data and a script for gnuplot. */
#include "load.h"

#include "out_file.h"
#include "report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double per_second(const cy_trial *trial)
{
    return trial->seconds > 0 ? (double)trial->steps / trial->seconds : 0;
}

static double rows_of_call(const cy_trial *trial)
{
    return trial->calls > 0 ? (double)trial->rows / (double)trial->calls : 0;
}

/* ---- table ---------------------------------------------------------------------------------- */

static void print_ways(const cy_load *load, const cy_verdict verdicts[CY_WAYS])
{
    const cy_load_options *options = load->options;
    int search = options->rate == 0 && options->trace == NULL;
    printf("  %-14s %12s %11s %8s %8s %17s %8s %10s\n", search ? "highest rate" : "way",
           "steps/s", "each state", "p50 ms", "p99 ms", "(of all trials)", "p999 ms",
           "rows/call");
    for (int way = 0; way < CY_WAYS; way++) {
        const cy_verdict *verdict = &verdicts[way];
        const cy_trial *trial = &verdict->trial;
        char spread[64];
        if (search && !verdict->found) {
            printf("  %-14s none met %.6g ms; at %.4g steps/s p99 was %.2f ms\n",
                   cy_way_names[way], 1e3 * options->deadline_s, trial->rate,
                   1e3 * trial->p99);
            continue;
        }
        snprintf(spread, sizeof spread, "(%.2f .. %.2f)", 1e3 * verdict->p99_least,
                 1e3 * verdict->p99_most);
        printf("  %-14s %12.0f %11.3f %8.2f %8.2f %17s %8.2f %10.1f\n", cy_way_names[way],
               per_second(trial), per_second(trial) / (double)load->states,
               1e3 * trial->p50, 1e3 * trial->p99, spread, 1e3 * trial->p999,
               rows_of_call(trial));
        if (trial->undone > 0)
            printf("  %-14s overloaded: %" PRIu64 " of %" PRIu64
                   " arrivals were not done by the end\n",
                   "", trial->undone, trial->arrivals);
    }
    printf(
        "\n  latency from the moment a step was due to its answer; windows collect for "
        "%.6g ms\n\n",
        1e3 * options->collect_s);
}

static void print_comparison(const cy_load *load,
                             const cy_comparison results[CY_MEMORY_WAYS])
{
    printf("  %-14s %12s %11s %20s %8s %14s\n", "without waiting", "steps/s", "us/step",
           "(of all slices)", "ratio", "bytes/state");
    for (int way = 0; way < CY_MEMORY_WAYS; way++) {
        const cy_comparison *result = &results[way];
        char spread[64];
        snprintf(spread, sizeof spread, "(%.2f .. %.2f)", result->us_least,
                 result->us_most);
        printf("  %-15s %12.0f %11.2f %20s %8.3f %14.0f\n", cy_memory_way_names[way],
               result->steps_per_s, result->us_per_step, spread,
               result->steps_per_s / results[CY_STATEFUL].steps_per_s,
               result->bytes_per_state);
    }
    printf(
        "\n  one new step of each of %" PRIu64 " sequences a call; window feeds the last "
        "%" PRIu64 " steps again\n"
        "  bytes/state: stateful both versions; window the steps kept; round_trip h and "
        "c at the caller's\n",
        results[0].rows, load->window);
}

int cy_load_table(const cy_load *load, const cy_verdict verdicts[CY_WAYS],
                  const cy_comparison results[CY_MEMORY_WAYS])
{
    const cy_load_options *options = load->options;
    char description[320];
    cy_print_text(stdout, options->model);
    printf(" on %s (%s; %s%s); %" PRIu64 " states, deadline %.6g ms; ", load->info.device,
           cy_device_description(load->info.device, description, sizeof description),
           cy_precision_name(load->info.precision), load->exact ? ", exact" : "",
           load->states, 1e3 * options->deadline_s);
    if (options->trace != NULL) printf("arrivals of %s\n\n", options->trace);
    else if (options->rate > 0)
        printf("%.6g steps/s each, trials of %.6g s\n\n", options->rate,
               options->seconds);
    else printf("trials of %.6g s\n\n", options->seconds);
    print_ways(load, verdicts);
    print_comparison(load, results);
    return cy_finish_stdout();
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static json_t *trial_json(const cy_trial *trial)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:I, s:I, s:I}", "rate",
                     trial->rate, "steps_per_s", per_second(trial), "p50_ms",
                     1e3 * trial->p50, "p99_ms", 1e3 * trial->p99, "p999_ms",
                     1e3 * trial->p999, "rows_per_call", rows_of_call(trial), "met",
                     trial->met, "arrivals", (json_int_t)trial->arrivals, "done",
                     (json_int_t)trial->done, "undone", (json_int_t)trial->undone);
}

static json_t *way_json(const cy_load *load, const cy_verdict *verdict)
{
    json_t *trials = json_array();
    for (size_t i = 0; i < verdict->count; i++)
        json_array_append_new(trials, trial_json(&verdict->trials[i]));
    const cy_trial *trial = &verdict->trial;
    return json_pack(
        "{s:s, s:b, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, "
        "s:I, "
        "s:o}",
        "way", cy_way_keys[verdict->way], "met", verdict->found, "steps_per_s",
        per_second(trial), "steps_per_s_of_a_state",
        per_second(trial) / (double)load->states, "p50_ms", 1e3 * trial->p50, "p99_ms",
        1e3 * trial->p99, "p99_ms_least", 1e3 * verdict->p99_least, "p99_ms_most",
        1e3 * verdict->p99_most, "p999_ms", 1e3 * trial->p999, "rows_per_call",
        rows_of_call(trial), "repeats", (json_int_t)verdict->repeats, "arrivals",
        (json_int_t)verdict->arrivals, "done", (json_int_t)verdict->done, "undone",
        (json_int_t)verdict->undone, "repeated", (json_int_t)verdict->repeated,
        "disordered", (json_int_t)verdict->disordered, "trials", trials);
}

int cy_load_json(const cy_load *load, const cy_verdict verdicts[CY_WAYS],
                 const cy_comparison results[CY_MEMORY_WAYS])
{
    const cy_load_options *options = load->options;
    json_t *ways = json_array(), *memory = json_array();
    /* jansson gives NULL where memory is out, or a number is not finite */
    int failed = 0;
    for (int way = 0; way < CY_WAYS; way++)
        failed |= json_array_append_new(ways, way_json(load, &verdicts[way]));
    for (int way = 0; way < CY_MEMORY_WAYS; way++) {
        const cy_comparison *result = &results[way];
        failed |= json_array_append_new(
            memory, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "mode",
                              cy_memory_way_names[way], "rows", (json_int_t)result->rows,
                              "steps_per_s", result->steps_per_s, "us_per_step",
                              result->us_per_step, "us_per_step_least", result->us_least,
                              "us_per_step_most", result->us_most, "ratio_to_stateful",
                              result->steps_per_s / results[CY_STATEFUL].steps_per_s,
                              "bytes_per_state", result->bytes_per_state, "calls",
                              (json_int_t)result->calls));
    }
    char *model = cy_utf8_text(options->model);
    json_t *all =
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:f, s:f, s:f, s:f, s:I, s:o, s:o}",
                  "model", model, "device", load->info.device, "isa", carry_cpu_isa(),
                  "precision", cy_precision_name(load->info.precision), "exact",
                  load->exact, "states", (json_int_t)load->states, "rate_of_a_state",
                  options->rate, "deadline_ms", 1e3 * options->deadline_s, "collect_ms",
                  1e3 * options->collect_s, "seconds", options->seconds, "window",
                  (json_int_t)load->window, "ways", ways, "memory", memory);
    free(model);
    failed =
        failed || all == NULL || json_dumpf(all, stdout, JSON_REAL_PRECISION(6)) != 0;
    json_decref(all);
    if (failed) return cy_load_memory();
    putchar('\n');
    return cy_finish_stdout();
}

/* ---- plot ----------------------------------------------------------------------------------- */

static int compare_rates(const void *a, const void *b)
{
    double x = ((const cy_trial *)a)->rate, y = ((const cy_trial *)b)->rate;
    return (x > y) - (x < y);
}

static int write_file(const char *prefix, const char *suffix, const char *text,
                      size_t bytes)
{
    char path[4096];
    cy_out_file file = CY_OUT_CLOSED;
    snprintf(path, sizeof path, "%s%s", prefix, suffix);
    int code = cy_out_open(&file, path);
    if (code == CY_EXIT_OK) code = cy_out_append(&file, text, bytes);
    if (code == CY_EXIT_OK) code = cy_out_commit(&file);
    cy_out_discard(&file);
    return code;
}

static void plot_data(FILE *to, const cy_load *load, const cy_verdict verdicts[CY_WAYS])
{
    fprintf(to,
            "# %" PRIu64 " states, deadline %.6g ms; every trial of carry bench, one "
            "block for each way\n"
            "# arrivals/s  steps/s done  p50 ms  p99 ms  p999 ms  rows of a call\n",
            load->states, 1e3 * load->options->deadline_s);
    for (int way = 0; way < CY_WAYS; way++) {
        cy_trial trials[CY_TRIALS_MOST];
        size_t count = verdicts[way].count;
        memcpy(trials, verdicts[way].trials, count * sizeof *trials);
        qsort(trials, count, sizeof *trials, compare_rates);
        fprintf(to, "%s# %s\n", way > 0 ? "\n\n" : "", cy_way_names[way]);
        for (size_t i = 0; i < count; i++)
            fprintf(to, "%.6g %.6g %.4g %.4g %.4g %.3g\n", trials[i].rate,
                    per_second(&trials[i]), 1e3 * trials[i].p50, 1e3 * trials[i].p99,
                    1e3 * trials[i].p999, rows_of_call(&trials[i]));
    }
}

/* In gnuplot's quotes, a quote in the name stands twice. */
static void quote(FILE *to, const char *name, const char *suffix)
{
    fputc('\'', to);
    for (; *name != 0; name++) {
        if (*name == '\'') fputc('\'', to);
        fputc(*name, to);
    }
    fprintf(to, "%s'", suffix);
}

static void plot_ways(FILE *to, const char *name, int column)
{
    for (int way = 0; way < CY_WAYS; way++) {
        quote(to, name, ".dat");
        fprintf(to, " index %d using 1:%d with points pointtype %d title '%s', ", way,
                column, 5 + 2 * way, cy_way_names[way]);
    }
}

static void plot_script(FILE *to, const char *name, const cy_load *load)
{
    fprintf(to,
            "# gnuplot %s.gp, in this folder, draws %s.svg\n"
            "set terminal svg size 900,420 background 'white'\n"
            "set output ",
            name, name);
    quote(to, name, ".svg");
    fprintf(to,
            "\nset multiplot layout 1,2 title '%" PRIu64 " states'\n"
            "set logscale xy\nset grid\nset key left top\n"
            "set xlabel 'steps/s that arrive'\n"
            "set ylabel 'p99 latency, ms'\n"
            "plot ",
            load->states);
    plot_ways(to, name, 4);
    fprintf(to,
            "%.6g with lines dashtype 2 linecolor 'black' title 'deadline'\n"
            "set ylabel 'steps/s done'\nplot ",
            1e3 * load->options->deadline_s);
    plot_ways(to, name, 2);
    fprintf(to, "x with lines dashtype 2 linecolor 'black' title 'all of them'\n");
}

int cy_load_plot(const cy_load *load, const cy_verdict verdicts[CY_WAYS])
{
    const char *prefix = load->options->plot, *slash = strrchr(prefix, '/');
    int code = CY_EXIT_OK;
    for (int script = 0; script < 2 && code == CY_EXIT_OK; script++) {
        char *text = NULL;
        size_t bytes = 0;
        FILE *to = open_memstream(&text, &bytes);
        if (to == NULL) return cy_load_memory();
        if (script) plot_script(to, slash != NULL ? slash + 1 : prefix, load);
        else plot_data(to, load, verdicts);
        int lost = fclose(to) != 0;
        code = lost ? cy_load_memory()
                    : write_file(prefix, script ? ".gp" : ".dat", text, bytes);
        free(text);
    }
    return code;
}
