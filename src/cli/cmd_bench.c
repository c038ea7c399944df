/* carry bench: the same model over the same steps, stateful, in stateless windows, by round trips. */
#include "commands.h"

#include "load.h"
#include "model_source.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "sampler.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench_options {
    const char *model;
    cy_uint_list rows;
    uint64_t chunk, window, steps, threads; /* window 0: what the file says, or 64 */
    int json;
    cy_device_options on;
} bench_options;

typedef enum bench_mode { STATEFUL, WINDOW, ROUND_TRIP, MODES } bench_mode;
static const char *const mode_names[MODES] = {"stateful", "window", "round_trip"};

typedef struct bench_result {
    bench_mode mode;
    uint64_t rows, chunk;
    double steps_per_s, us_p50, us_p99, ratio;
} bench_result;

/* What one mode at one number of rows works with. */
typedef struct bench_job {
    const bench_options *options;
    carry_model *model;
    carry_model_info info;
    carry_port_info input;
    uint64_t window;

    uint64_t rows;
    carry_session *session;
    carry_state *states; /* [rows] */
    void *fed; /* rows * max(chunk, window) steps: every call feeds the same ones */
    carry_array in;
    carry_array *out; /* [info.outputs] */
    float *
        carried; /* [rows, state_bytes / 4]: the states at the caller's, between round trips */
    size_t *widths; /* of the state's tensors */
    double *call_us;
    int exact;                           /* what the sessions promise */
    uint64_t graph_chunks, plain_chunks; /* of all sessions */
} bench_job;

static int out_of_memory(void)
{
    return cy_report(CY_EXIT_FAILED, "out of memory for the bench");
}

static int model_failed(const bench_job *job)
{
    return cy_report(CY_EXIT_FAILED, "%s: %s", job->options->model, carry_error());
}

static uint64_t longest_call(const bench_job *job)
{
    return job->options->chunk > job->window ? job->options->chunk : job->window;
}

/* Numbers between -1 and 1, or any id: the time of a step does not depend on them. */
static void fill(bench_job *job, uint64_t steps)
{
    cy_random random;
    cy_random_seed(&random, 1);
    for (uint64_t i = 0; i < steps * (uint64_t)job->input.width; i++) {
        double unit = cy_random_unit(&random);
        if (job->input.dtype == CARRY_I32)
            ((int32_t *)job->fed)[i] = (int32_t)(unit * (double)job->input.ids);
        else ((float *)job->fed)[i] = (float)(2 * unit - 1);
    }
}

static int open_rows(bench_job *job)
{
    uint64_t steps = job->rows * longest_call(job), width = (uint64_t)job->input.width;
    /* New steps and windows alike, lest one way be measured at its best and another not. */
    carry_graph_shape graphs[2 * CY_DEVICE_GRAPHS];
    size_t count = cy_device_graphs(&job->info, job->rows, job->options->chunk, graphs);
    count += cy_device_graphs(&job->info, job->rows, job->window, graphs + count);
    carry_session_options wants = {.size = sizeof wants,
                                   .threads = (uint32_t)job->options->threads,
                                   .max_rows = cy_device_max_rows(&job->info, job->rows),
                                   .exact = (uint32_t)job->options->on.exact,
                                   .graphs = graphs,
                                   .graph_count = count};
    if (job->info.whole_sequence) wants.max_steps = (uint32_t)longest_call(job);
    if (carry_session_open(&job->session, job->model, &wants) != CARRY_OK)
        return model_failed(job);

    job->states = calloc(job->rows, sizeof *job->states);
    job->fed = calloc(steps, width * 4);
    job->out = calloc(job->info.outputs + 1, sizeof *job->out);
    job->carried = calloc(job->rows, job->info.state_bytes + 4);
    if (job->states == NULL || job->fed == NULL || job->out == NULL ||
        job->carried == NULL)
        return out_of_memory();
    for (uint64_t r = 0; r < job->rows; r++)
        if (carry_state_open(job->session, &job->states[r]) != CARRY_OK)
            return model_failed(job);
    fill(job, steps);
    job->in = (carry_array){.size = sizeof job->in,
                            .data = job->fed,
                            .dtype = job->input.dtype,
                            .bytes = steps * width * 4};
    for (size_t i = 0; i < job->info.outputs; i++) {
        carry_port_info port = {.size = sizeof port};
        if (carry_model_get_output(job->model, i, &port) != CARRY_OK)
            return model_failed(job);
        uint64_t bytes = (port.has_time ? steps : job->rows) * (uint64_t)port.width * 4;
        job->out[i] = (carry_array){
            .size = sizeof job->out[i], .data = malloc(bytes), .bytes = bytes};
        if (job->out[i].data == NULL) return out_of_memory();
    }
    return CY_EXIT_OK;
}

static void close_rows(bench_job *job)
{
    carry_session_info info = {.size = sizeof info};
    if (job->session != NULL && carry_session_get_info(job->session, &info) == CARRY_OK) {
        job->exact = (int)info.exact;
        job->graph_chunks += info.graph_chunks;
        job->plain_chunks += info.plain_chunks;
    }
    carry_session_close(&job->session);
    for (size_t i = 0; job->out != NULL && i < job->info.outputs; i++)
        free(job->out[i].data);
    free(job->states);
    free(job->fed);
    free(job->out);
    free(job->carried);
    job->states = NULL, job->fed = NULL, job->out = NULL, job->carried = NULL;
}

/* The states to the caller or back, as a server does that keeps them somewhere else. */
static carry_status move_states(bench_job *job, int back)
{
    size_t floats = job->info.state_bytes / 4;
    for (uint64_t r = 0; r < job->rows; r++) {
        float *at = job->carried + r * floats;
        for (size_t k = 0; k < job->info.state_tensors; k++) {
            carry_status status = back ? carry_state_write(job->session, job->states[r],
                                                           k, at, job->widths[k])
                                       : carry_state_read(job->session, job->states[r], k,
                                                          at, job->widths[k]);
            if (status != CARRY_OK) return status;
            at += job->widths[k];
        }
    }
    return CARRY_OK;
}

static carry_status one_call(bench_job *job, bench_mode mode)
{
    carry_batch batch = {.size = sizeof batch,
                         .rows = job->rows,
                         .states = mode == WINDOW ? NULL : job->states,
                         .max_steps = mode == WINDOW ? job->window : job->options->chunk,
                         .inputs = &job->in,
                         .input_count = 1,
                         .outputs = job->out,
                         .output_count = job->info.outputs};
    carry_status status = CARRY_OK;
    if (mode == ROUND_TRIP) status = move_states(job, 1);
    if (status == CARRY_OK) status = carry_run(job->session, &batch);
    if (status == CARRY_OK && mode == ROUND_TRIP) status = move_states(job, 0);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A tenth of the calls, two at least, warm caches and threads up and are not counted. The rate is
 * that of the median call, so that a disturbance of the machine does not move it. */
static int measure(bench_job *job, bench_mode mode, uint64_t *done, bench_result *result)
{
    uint64_t calls =
        (job->options->steps + job->options->chunk - 1) / job->options->chunk;
    uint64_t warm = calls / 10 > 2 ? calls / 10 : 2;
    for (uint64_t i = 0; i < warm + calls; i++) {
        double start = cy_clock_seconds();
        if (one_call(job, mode) != CARRY_OK) return model_failed(job);
        if (i >= warm) job->call_us[i - warm] = 1e6 * (cy_clock_seconds() - start);
        if (i >= warm) cy_progress_set(++*done);
    }
    qsort(job->call_us, calls, sizeof *job->call_us, compare_doubles);
    double p50 = job->call_us[(calls - 1) / 2],
           p99 = job->call_us[(calls * 99 + 99) / 100 - 1];
    *result = (bench_result){.mode = mode,
                             .rows = job->rows,
                             .chunk = job->options->chunk,
                             .us_p50 = p50,
                             .us_p99 = p99};
    if (p50 <= 0) p50 = 1e-3; /* below the clock's resolution */
    result->steps_per_s = 1e6 * (double)(job->rows * job->options->chunk) / p50;
    return CY_EXIT_OK;
}

static int measure_all(bench_job *job, bench_result *results)
{
    const bench_options *options = job->options;
    uint64_t calls = (options->steps + options->chunk - 1) / options->chunk, done = 0;
    int code = CY_EXIT_OK;
    job->call_us = calloc(calls, sizeof *job->call_us);
    job->widths = calloc(job->info.state_tensors + 1, sizeof *job->widths);
    if (job->call_us == NULL || job->widths == NULL) return out_of_memory();
    for (size_t k = 0; k < job->info.state_tensors; k++) {
        carry_state_info tensor = {.size = sizeof tensor};
        if (carry_model_get_state_tensor(job->model, k, &tensor) != CARRY_OK)
            return model_failed(job);
        job->widths[k] = (size_t)tensor.width;
    }
    cy_progress_start(calls * MODES * options->rows.count, "calls");
    for (size_t i = 0; i < options->rows.count && code == CY_EXIT_OK; i++) {
        bench_result *of_rows = results + i * MODES;
        job->rows = options->rows.items[i];
        code = open_rows(job);
        for (int mode = 0; mode < MODES && code == CY_EXIT_OK; mode++) {
            code = measure(job, (bench_mode)mode, &done, &of_rows[mode]);
            of_rows[mode].ratio = of_rows[mode].steps_per_s / of_rows[0].steps_per_s;
        }
        close_rows(job);
    }
    cy_progress_clear();
    return code;
}

static int print_json(const bench_job *job, const bench_result *results, size_t count)
{
    const char *precision = cy_precision_name(job->info.precision);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const bench_result *result = &results[i];
        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:s, s:s, s:b}", "mode",
                      mode_names[result->mode], "rows", (json_int_t)result->rows, "chunk",
                      (json_int_t)result->chunk, "steps_per_s", result->steps_per_s,
                      "us_per_call_p50", result->us_p50, "us_per_call_p99",
                      result->us_p99, "ratio_to_stateful", result->ratio, "device",
                      job->info.device, "precision", precision, "exact", job->exact));
    }
    int failed = list == NULL || json_dumpf(list, stdout, JSON_REAL_PRECISION(6)) != 0;
    json_decref(list);
    if (failed) return out_of_memory();
    putchar('\n');
    return cy_finish_stdout();
}

static int print_table(const bench_job *job, const bench_result *results, size_t count)
{
    char description[320];
    cy_print_text(stdout, job->options->model);
    printf(" on %s (%s; %s%s); window %" PRIu64 ", %" PRIu64
           " steps, medians of calls\n\n",
           job->info.device,
           cy_device_description(job->info.device, description, sizeof description),
           cy_precision_name(job->info.precision), job->exact ? ", exact" : "",
           job->window, job->options->steps);
    printf("  %-10s %6s %6s %14s %14s %14s %10s\n", "mode", "rows", "chunk", "steps/s",
           "us/call p50", "us/call p99", "ratio");
    for (size_t i = 0; i < count; i++) {
        const bench_result *result = &results[i];
        printf("  %-10s %6" PRIu64 " %6" PRIu64 " %14.0f %14.1f %14.1f %10.3f\n",
               mode_names[result->mode], result->rows, result->chunk, result->steps_per_s,
               result->us_p50, result->us_p99, result->ratio);
    }
    printf("\n  stateful    the state stays; a call feeds the new steps alone\n"
           "  window      stateless; every call feeds the last %" PRIu64 " steps again\n"
           "  round_trip  h and c go out to the caller and come back each call\n"
           "  steps/s counts new steps over all rows; ratio is to stateful at the same "
           "rows\n",
           job->window);
    if (job->graph_chunks > 0)
        printf("  %" PRIu64 " chunks of steps were launched as a captured graph, %" PRIu64
               " kernel by kernel\n",
               job->graph_chunks, job->plain_chunks);
    return cy_finish_stdout();
}

static int bench(bench_job *job)
{
    const bench_options *options = job->options;
    size_t count = options->rows.count * MODES;
    int code = cy_model_load(options->model, &options->on, &job->model, NULL);
    if (code != CY_EXIT_OK) return code;
    job->info.size = sizeof job->info;
    job->input.size = sizeof job->input;
    if (carry_model_get_info(job->model, &job->info) != CARRY_OK ||
        carry_model_get_input(job->model, 0, &job->input) != CARRY_OK)
        return model_failed(job);
    int64_t fixed = job->input.shape.rank > 1 ? job->input.shape.dim[1] : CARRY_FREE;
    job->window = options->window != 0 ? options->window
                  : fixed > 0          ? (uint64_t)fixed
                                       : 64;
    if (options->window == 0 && job->window < options->chunk)
        job->window = options->chunk;
    bench_result *results = calloc(count, sizeof *results);
    if (results == NULL) return out_of_memory();
    code = measure_all(job, results);
    if (code == CY_EXIT_OK)
        code = options->json ? print_json(job, results, count)
                             : print_table(job, results, count);
    free(results);
    return code;
}

/* ---- the command line ----------------------------------------------------------------------- */

#define NOT_GIVEN (-1.0) /* of numbers, which are at least 0 */

/* The two benches of this command have their own options; what is of the wrong one is refused, not overlooked. */
static int check_which(const bench_options *given, const cy_load_options *load)
{
    int under_load = load->states > 0 || load->trace != NULL;
    const struct {
        const char *name;
        int given, of_load;
    } each[] = {{"rate", load->rate != NOT_GIVEN, 1},
                {"deadline-ms", load->deadline_s != NOT_GIVEN, 1},
                {"collect-ms", load->collect_s != NOT_GIVEN, 1},
                {"seconds", load->seconds != NOT_GIVEN, 1},
                {"seed", load->seed != 0, 1},
                {"plot", load->plot != NULL, 1},
                {"rows", given->rows.count != 0, 0},
                {"chunk", given->chunk != 0, 0},
                {"steps", given->steps != 0, 0}};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        if (!each[i].given || each[i].of_load == under_load) continue;
        if (each[i].of_load)
            return cy_report(CY_EXIT_USAGE, "--%s needs --states or --trace",
                             each[i].name);
        return cy_report(CY_EXIT_USAGE, "--%s and --%s exclude each other", each[i].name,
                         load->trace != NULL ? "trace" : "states");
    }
    if (load->trace != NULL && load->rate != NOT_GIVEN)
        return cy_report(CY_EXIT_USAGE, "--rate and --trace exclude each other");
    if (load->plot != NULL && (load->trace != NULL || load->rate != NOT_GIVEN))
        return cy_report(CY_EXIT_USAGE,
                         "--plot and --%s exclude each other: a plot shows many loads",
                         load->trace != NULL ? "trace" : "rate");
    return -1;
}

#define MOST_SECONDS 86400.0

/* NOT_GIVEN becomes the default; 0 is no time and no rate. */
static int settle_number(const char *name, double *value, double or_else, double most)
{
    if (*value == NOT_GIVEN) *value = or_else;
    else if (*value == 0)
        return cy_report(CY_EXIT_USAGE, "--%s takes a number above 0, not 0", name);
    else if (*value > most)
        return cy_report(CY_EXIT_USAGE, "--%s takes a number up to %.9g, not %.9g", name,
                         most, *value);
    return -1;
}

static int bench_under_load(const bench_options *given, cy_load_options *load)
{
    const double most_ms = 1e3 * MOST_SECONDS;
    int code = settle_number("rate", &load->rate, 0, HUGE_VAL);
    if (code < 0) code = settle_number("deadline-ms", &load->deadline_s, 10, most_ms);
    if (code < 0)
        code =
            settle_number("collect-ms", &load->collect_s, load->deadline_s / 4, most_ms);
    if (code < 0) code = settle_number("seconds", &load->seconds, 1, MOST_SECONDS);
    if (code >= 0) return code;
    load->deadline_s *= 1e-3;
    load->collect_s *= 1e-3;
    load->model = given->model;
    load->window = given->window;
    load->threads = given->threads;
    load->json = given->json;
    load->on = given->on;
    return cy_load_bench(load);
}

static int bench_alone(bench_options *given)
{
    if (given->rows.count == 0)
        given->rows = (cy_uint_list){.count = 3, .items = {1, 8, 64}};
    if (given->chunk == 0) given->chunk = 1;
    if (given->steps == 0) given->steps = 200;
    if (given->window != 0 && given->window < given->chunk)
        return cy_report(CY_EXIT_USAGE,
                         "--window %" PRIu64 " is shorter than --chunk %" PRIu64
                         ", and holds the new steps too",
                         given->window, given->chunk);
    bench_job job = {.options = given};
    int code = bench(&job);
    carry_model_close(&job.model);
    free(job.call_us);
    free(job.widths);
    return code;
}

static const char notes[] =
    "With --states or --trace the same three are measured over N sequences, and then\n"
    "the latency of steps that arrive at random times (a Poisson process each), from\n"
    "the moment a step is due to its answer: through carry_batcher, by one call per\n"
    "arrival, and in windows that collect for a fixed time. --rate measures there,\n"
    "three trials of each way. Without it the highest rate is searched at which p99\n"
    "meets the deadline: at most 29 trials of --seconds for each way, mostly 15, so\n"
    "about a minute by default and two at most.";

int cy_cmd_bench(int argc, char **argv)
{
    bench_options given = {0};
    cy_load_options load = {.rate = NOT_GIVEN,
                            .deadline_s = NOT_GIVEN,
                            .collect_s = NOT_GIVEN,
                            .seconds = NOT_GIVEN};
    const cy_argument arguments[] = {{"MODEL", &given.model}};
    const cy_option options[] = {
        {"rows", CY_OPTION_LIST, &given.rows, "1,8,64", "sequences advanced by a call", 1,
         1 << 20},
        {"chunk", CY_OPTION_UINT, &given.chunk, "N", "new steps of a call; default: 1", 1,
         1 << 20},
        {"window", CY_OPTION_UINT, &given.window, "W",
         "steps a stateless call is fed; default: the file's time steps, else 64", 1,
         1 << 20},
        {"steps", CY_OPTION_UINT, &given.steps, "N",
         "new steps a row is timed over; default: 200", 1, 100000000},
        {"states", CY_OPTION_UINT, &load.states, "N",
         "under load: sequences that receive steps at random times", 1,
         CY_SEQUENCES_MOST},
        {"rate", CY_OPTION_FLOAT, &load.rate, "R",
         "steps/s of each state; default: search the highest one", 0, 0},
        {"deadline-ms", CY_OPTION_FLOAT, &load.deadline_s, "D",
         "what p99 of the latency is held against; default: 10", 0, 0},
        {"trace", CY_OPTION_STRING, &load.trace, "FILE",
         "replay recorded arrivals: lines TIME_SECONDS SEQUENCE STEPS", 0, 0},
        {"collect-ms", CY_OPTION_FLOAT, &load.collect_s, "C",
         "of the fixed windows; default: a quarter of the deadline", 0, 0},
        {"seconds", CY_OPTION_FLOAT, &load.seconds, "S", "of a trial; default: 1", 0, 0},
        {"seed", CY_OPTION_UINT, &load.seed, "N", "of arrivals and inputs", 0,
         UINT32_MAX},
        {"plot", CY_OPTION_STRING, &load.plot, "PREFIX",
         "writes PREFIX.dat, and PREFIX.gp for gnuplot", 0, 0},
        {"threads", CY_OPTION_UINT, &given.threads, "N",
         "of the CPU; default: as many as affinity and quota allow", 1, 1024},
        CY_DEVICE_OPTION_ROWS(given.on),
        {"json", CY_OPTION_FLAG, &given.json, NULL, "JSON instead of a table", 0, 0},
    };
    const cy_command_line line = {
        .command = "bench",
        .synopsis = "MODEL [options]",
        .summary =
            "Measures the same model over the same steps in three ways: stateful, in\n"
            "stateless windows, and with the state going out and back each call.",
        .arguments = arguments,
        .argument_count = 1,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .notes = notes,
    };
    int code = cy_command_line_read(&line, argc, argv);
    if (code < 0) code = cy_device_options_check(&given.on);
    if (code < 0) code = check_which(&given, &load);
    if (code >= 0) return code;
    if (load.states > 0 || load.trace != NULL) return bench_under_load(&given, &load);
    return bench_alone(&given);
}
