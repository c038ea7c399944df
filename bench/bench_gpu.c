/* The scoreboard: LSTM layers on a GPU through the public API, as lines of JSON (bench/README.md says how we
 * measure).
 *
 *     bench_gpu [--device cuda|cuda:N|cpu] [--shapes FILE] [--only H,B,T,LAYERS,PRECISION]... [--budget SECONDS]
 *               [--repeats N] [--exact] [--no-graphs] [--list]
 *
 * --only        a subset; 0 or "any" in a place takes everything there. --list prints the shapes and measures none
 * --budget      what was not reached by then is listed as not run; 0: no limit
 *
 * features = units. Inputs and outputs lie on the device, in the type of the precision's operands, and rotate over
 * more memory than the last cache holds; states live on from call to call. Before a model is timed its outputs are
 * compared with the CPU's. A call of one step is also timed as its caller sees it, returned outputs and all. */
#include "bench_clock.h"
#include "bench_device.h"
#include "bench_shapes.h"
#include "random_lstm.h"

#include <carry/carry.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_REPEATS = BENCH_MARKS - 1,
    MOST_INPUTS = 64,
    MOST_CALLS = 2000,
    MOST_ONLY = 64
};

typedef struct options {
    const char *device, *shapes;
    bench_shape only[MOST_ONLY];
    int any_precision[MOST_ONLY];
    size_t only_count;
    double budget_s;
    unsigned repeats, exact, graphs, list;
} options;

/* The model that is open, and with what. */
typedef struct opened {
    bench_shape key; /* rows and steps are not looked at */
    carry_model *model;
    double error;      /* of its outputs, relative to the CPU's */
    char trouble[400]; /* why it cannot be measured, or "" */
} opened;

static void must(carry_status status)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "bench_gpu: %s\n", carry_error());
    exit(1);
}

static void *take_host(size_t bytes)
{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        fprintf(stderr, "bench_gpu: out of memory: %zu bytes\n", bytes);
        exit(1);
    }
    return memory;
}

static float uniform(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*seed >> 40) / (float)(1 << 23) - 1;
}

/* Rounded to bf16 or, what it makes of numbers too small for fp16 apart (0), fp16. |value| < 65504. */
static uint16_t half_of(float value, carry_dtype dtype)
{
    uint32_t bits, sign;
    memcpy(&bits, &value, sizeof bits);
    if (dtype == CARRY_BF16) return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    sign = bits >> 16 & 0x8000;
    int exponent = (int)(bits >> 23 & 0xff) - 127 + 15;
    if (exponent <= 0) return (uint16_t)sign;
    uint32_t half = (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff);
    return (uint16_t)(sign | (half + (bits >> 12 & 1)));
}

/* ---- JSON -------------------------------------------------------------------------------- */

static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar(*text == '\n' ? ' ' : *text);
    }
    putchar('"');
}

static void print_shape(const char *kind, const bench_shape *s)
{
    printf("{\"kind\":\"%s\",\"program\":\"carry\",\"H\":%u,\"B\":%u,\"T\":%u,"
           "\"layers\":%u,\"precision\":\"%s\"",
           kind, s->units, s->rows, s->steps, s->layers,
           bench_precision_name(s->precision));
}

static void print_not_run(const bench_shape *s, const char *reason)
{
    print_shape("not_run", s);
    printf(",\"reason\":");
    print_text(reason);
    printf("}\n");
}

static void print_header(const options *o, int argc, char **argv)
{
    printf("{\"kind\":\"header\",\"program\":\"carry\",\"version\":\"%s\",\"cpu_isa\":\"%"
           "s\","
           "\"arrays\":\"%s\",\"devices\":[",
           carry_version(), carry_cpu_isa(),
           bench_device_place() == CARRY_DEVICE ? "device" : "host");
    carry_device_info info = {.size = sizeof info};
    for (size_t i = 0; carry_device_get_info(i, &info) == CARRY_OK; i++) {
        printf("%s{\"name\":", i ? "," : "");
        print_text(info.name);
        printf(",\"description\":");
        print_text(info.description ? info.description : "");
        printf(",\"usable\":%d}", info.usable);
    }
    printf("],\"device\":");
    print_text(o->device);
    printf(",\"exact\":%u,\"graphs\":%u,\"command\":", o->exact, o->graphs);
    putchar('"');
    for (int i = 0; i < argc; i++)
        printf("%s%s", i ? " " : "", argv[i]);
    printf("\"}\n");
}

/* ---- one model --------------------------------------------------------------------------- */

static carry_model *open_model(const bench_shape *s, const char *device,
                               carry_precision precision)
{
    size_t bytes;
    void *file = bench_random_lstm(s->layers, s->units, s->units, &bytes);
    carry_model_options o = {.size = sizeof o, .device = device, .precision = precision};
    carry_model *model = NULL;
    carry_status status = carry_model_open_bytes(&model, file, bytes, &o);
    free(file);
    return status == CARRY_OK ? model : NULL;
}

/* Outputs of two calls of 4 steps and 2 rows, the state carried on between them. */
enum { CHECK_ROWS = 2, CHECK_STEPS = 4, CHECK_CALLS = 2 };

static int run_check(carry_model *model, const options *o, int on_device, unsigned units,
                     float *y)
{
    size_t count = (size_t)CHECK_ROWS * CHECK_STEPS * units,
           bytes = count * sizeof(float);
    carry_session_options so = {.size = sizeof so,
                                .max_rows = CHECK_ROWS,
                                .exact = o->exact,
                                .cuda_stream = on_device ? bench_device_stream() : NULL};
    carry_session *session = NULL;
    if (carry_session_open(&session, model, &so) != CARRY_OK) return 0;
    carry_state states[CHECK_ROWS];
    int good = 1;
    for (int r = 0; r < CHECK_ROWS; r++)
        good = good && carry_state_open(session, &states[r]) == CARRY_OK;
    float *x = take_host(bytes);
    void *x_there = on_device ? bench_device_take(bytes) : x;
    void *y_there = on_device ? bench_device_take(bytes) : NULL;
    uint64_t seed = 5;
    for (int call = 0; call < CHECK_CALLS && good; call++) {
        float *y_here = y + (size_t)call * count;
        for (size_t i = 0; i < count; i++) {
            x[i] = uniform(&seed);
            y_here[i] = NAN; /* what is not written shows */
        }
        if (on_device) {
            bench_device_fill(x_there, x, bytes);
            bench_device_fill(y_there, y_here, bytes);
        }
        carry_place place = on_device ? bench_device_place() : CARRY_HOST;
        carry_array in = {
            .size = sizeof in, .data = x_there, .bytes = bytes, .place = place};
        carry_array out = {.size = sizeof out,
                           .data = on_device ? y_there : y_here,
                           .bytes = bytes,
                           .place = place};
        carry_batch batch = {.size = sizeof batch,
                             .rows = CHECK_ROWS,
                             .states = states,
                             .max_steps = CHECK_STEPS,
                             .inputs = &in,
                             .input_count = 1,
                             .outputs = &out,
                             .output_count = 1};
        good = carry_run(session, &batch) == CARRY_OK;
        if (good && on_device) bench_device_read(y_here, y_there, bytes);
    }
    if (on_device) {
        bench_device_give_back(x_there);
        bench_device_give_back(y_there);
    }
    free(x);
    carry_session_close(&session);
    return good;
}

/* ||outputs - the CPU's|| / ||the CPU's||; infinite with a NaN among them. */
static double error_against_cpu(carry_model *model, const bench_shape *s,
                                const options *o, char trouble[400])
{
    size_t count = (size_t)CHECK_CALLS * CHECK_ROWS * CHECK_STEPS * s->units;
    float *there = take_host(count * sizeof *there),
          *here = take_host(count * sizeof *here);
    carry_model *cpu = open_model(s, "cpu", CARRY_COMPUTE_FP32);
    double error = INFINITY;
    if (!cpu || !run_check(cpu, o, 0, s->units, here) ||
        !run_check(model, o, 1, s->units, there)) {
        snprintf(trouble, 400, "%s", carry_error());
    } else {
        double difference = 0, size = 0;
        for (size_t i = 0; i < count; i++) {
            double d = (double)there[i] - (double)here[i];
            difference += d * d;
            size += (double)here[i] * (double)here[i];
        }
        if (isfinite(difference)) error = sqrt(difference / size);
    }
    carry_model_close(&cpu);
    free(there);
    free(here);
    return error;
}

/* What rounding explains. */
static double error_allowed(carry_precision precision)
{
    switch (precision) {
    case CARRY_COMPUTE_BF16:
        return 2e-2;
    case CARRY_COMPUTE_FP16:
    case CARRY_COMPUTE_TF32:
        return 4e-3;
    default:
        return 1e-5;
    }
}

static void open_for(opened *now, const bench_shape *s, const options *o)
{
    if (now->key.units == s->units && now->key.layers == s->layers &&
        now->key.precision == s->precision)
        return;
    carry_model_close(&now->model);
    now->key = *s;
    now->trouble[0] = 0;
    now->model = open_model(s, o->device, s->precision);
    if (!now->model) {
        snprintf(now->trouble, sizeof now->trouble, "%s", carry_error());
        return;
    }
    now->error = error_against_cpu(now->model, s, o, now->trouble);
    if (!now->trouble[0] && !(now->error <= error_allowed(s->precision)))
        snprintf(now->trouble, sizeof now->trouble,
                 "WRONG: outputs differ from the CPU's by %.3g, %.3g is allowed",
                 now->error, error_allowed(s->precision));
}

/* ---- one shape --------------------------------------------------------------------------- */

typedef struct job {
    const bench_shape *shape;
    carry_session *session;
    carry_state *states;
    void *inputs[MOST_INPUTS], *output;
    unsigned input_count;
    size_t bytes; /* of one array */
    carry_dtype dtype;
} job;

static void job_close(job *j)
{
    for (unsigned i = 0; i < j->input_count; i++)
        bench_device_give_back(j->inputs[i]);
    if (j->output) bench_device_give_back(j->output);
    free(j->states);
    carry_session_close(&j->session);
}

static carry_dtype operand_type(carry_precision precision)
{
    if (bench_device_place() != CARRY_DEVICE) return CARRY_F32;
    return precision == CARRY_COMPUTE_BF16   ? CARRY_BF16
           : precision == CARRY_COMPUTE_FP16 ? CARRY_F16
                                             : CARRY_F32;
}

/* "" or why the shape cannot be measured. */
static const char *job_open(job *j, const bench_shape *s, const opened *now,
                            const options *o)
{
    static char reason[400];
    memset(j, 0, sizeof *j);
    j->shape = s;
    j->dtype = operand_type(s->precision);
    size_t count = (size_t)s->rows * s->steps * s->units;
    j->bytes = count * (j->dtype == CARRY_F32 ? 4 : 2);
    carry_graph_shape graph = {s->rows, s->steps < 1024 ? s->steps : 1024};
    carry_session_options so = {.size = sizeof so,
                                .max_rows = s->rows,
                                .exact = o->exact,
                                .cuda_stream = bench_device_stream(),
                                .graphs = &graph,
                                .graph_count = o->graphs};
    if (carry_session_open(&j->session, now->model, &so) != CARRY_OK) {
        snprintf(reason, sizeof reason, "%s", carry_error());
        return reason;
    }
    j->states = take_host(s->rows * sizeof *j->states);
    for (unsigned r = 0; r < s->rows; r++)
        if (carry_state_open(j->session, &j->states[r]) != CARRY_OK) {
            snprintf(reason, sizeof reason, "%s", carry_error());
            return reason;
        }
    /* Twice the cache, so that a call's input was evicted since its last turn. */
    size_t wanted = 2 * bench_device_cache_bytes() / j->bytes + 2;
    if (wanted > MOST_INPUTS) wanted = MOST_INPUTS;
    size_t room = bench_device_free_bytes() / 10 * 8;
    while (wanted > 2 && (wanted + 1) * j->bytes > room)
        wanted--;
    snprintf(reason, sizeof reason, "needs %zu bytes of arrays, %zu are free",
             (wanted + 1) * j->bytes, room);
    if ((wanted + 1) * j->bytes > room || !(j->output = bench_device_take(j->bytes)))
        return reason;
    /* Random numbers once, 2^22 of them at most; each array starts elsewhere among them. */
    size_t some = count < (size_t)1 << 22 ? count : (size_t)1 << 22;
    size_t number = j->bytes / count;
    unsigned char *values = take_host(some * number);
    uint64_t seed = 11;
    for (size_t i = 0; i < some; i++) {
        float value = uniform(&seed);
        uint16_t half = half_of(value, j->dtype);
        if (number == 4) memcpy(values + 4 * i, &value, 4);
        else memcpy(values + 2 * i, &half, 2);
    }
    for (; j->input_count < wanted; j->input_count++) {
        unsigned char *array = bench_device_take(j->bytes);
        if (!array) break;
        size_t from = (size_t)j->input_count * 7919 % some;
        for (size_t at = 0, part; at < count; at += part, from = 0) {
            part = some - from < count - at ? some - from : count - at;
            bench_device_fill(array + at * number, values + from * number, part * number);
        }
        j->inputs[j->input_count] = array;
    }
    free(values);
    return j->input_count >= 2 ? "" : reason;
}

static void call(job *j, unsigned turn, uint32_t flags)
{
    carry_array in = {.size = sizeof in,
                      .data = j->inputs[turn % j->input_count],
                      .dtype = j->dtype,
                      .bytes = j->bytes,
                      .place = bench_device_place()};
    carry_array out = {.size = sizeof out,
                       .data = j->output,
                       .dtype = j->dtype,
                       .bytes = j->bytes,
                       .place = bench_device_place()};
    carry_batch batch = {.size = sizeof batch,
                         .rows = j->shape->rows,
                         .states = j->states,
                         .max_steps = j->shape->steps,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1,
                         .flags = flags};
    must(carry_run(j->session, &batch));
}

/* How many calls of `us` each fit half a second: 5 at least, but never more than `most`. */
static unsigned calls_for(double us, unsigned most)
{
    double fit = 5e5 / (us > 1 ? us : 1);
    if (fit < 5) fit = 5;
    return fit > most ? most : (unsigned)fit;
}

static void measure(job *j, const opened *now, const options *o)
{
    static double us[MOST_CALLS];
    const uint32_t flags = bench_device_place() == CARRY_DEVICE ? CARRY_ASYNC : 0;
    unsigned turn = 0;
    double start = bench_now_us();
    call(j, turn++, 0);
    call(j, turn++, 0);
    unsigned repeats = calls_for((bench_now_us() - start) / 2, o->repeats);
    for (unsigned i = 0; i < repeats / 4; i++)
        call(j, turn++, flags);
    bench_device_mark(0);
    for (unsigned i = 0; i < repeats; i++) {
        call(j, turn++, flags);
        bench_device_mark((int)i + 1);
    }
    must(carry_session_wait(j->session));
    for (unsigned i = 0; i < repeats; i++)
        us[i] = bench_device_us((int)i, (int)i + 1) / j->shape->steps;
    bench_sort(us, repeats);

    print_shape("result", j->shape);
    printf(",\"repeats\":%u,\"inputs\":%u,\"us_per_step\":{\"median\":%.4f,\"p10\":%.4f,"
           "\"p90\":%.4f},\"relative_error\":%.3g",
           repeats, j->input_count, bench_percentile(us, repeats, 50),
           bench_percentile(us, repeats, 10), bench_percentile(us, repeats, 90),
           now->error);
    if (j->shape->steps == 1) {
        unsigned calls = calls_for(us[repeats / 2], MOST_CALLS);
        for (unsigned i = 0; i < calls; i++) {
            start = bench_now_us();
            call(j, turn++, 0);
            us[i] = bench_now_us() - start;
        }
        bench_sort(us, calls);
        printf(",\"calls\":%u,\"call_us\":{\"p50\":%.3f,\"p99\":%.3f}", calls,
               bench_percentile(us, calls, 50), bench_percentile(us, calls, 99));
    }
    carry_plan_info plan = {.size = sizeof plan};
    carry_session_info info = {.size = sizeof info};
    must(carry_session_get_info(j->session, &info));
    if (carry_session_get_plan(j->session, 0, j->shape->rows, j->shape->steps, &plan) ==
        CARRY_OK) {
        printf(",\"algorithm\":");
        print_text(plan.algorithm);
    }
    printf(",\"graph_chunks\":%llu,\"plain_chunks\":%llu}\n",
           (unsigned long long)info.graph_chunks, (unsigned long long)info.plain_chunks);
}

/* ---- the list ---------------------------------------------------------------------------- */

static void usage(void)
{
    fprintf(stderr,
            "usage: bench_gpu [--device NAME] [--shapes FILE] [--only "
            "H,B,T,LAYERS,PRECISION]... "
            "[--budget SECONDS] [--repeats N] [--exact] [--no-graphs] [--list]\n");
    exit(2);
}

static void parse_only(options *o, const char *text)
{
    char name[8];
    bench_shape *s = &o->only[o->only_count];
    if (o->only_count == MOST_ONLY || sscanf(text, "%u,%u,%u,%u,%7s", &s->units, &s->rows,
                                             &s->steps, &s->layers, name) != 5)
        usage();
    o->any_precision[o->only_count] = strcmp(name, "any") == 0;
    if (!o->any_precision[o->only_count] && !bench_precision_parse(name, &s->precision))
        usage();
    o->only_count++;
}

static int wanted(const options *o, const bench_shape *s)
{
    for (size_t i = 0; i < o->only_count; i++) {
        const bench_shape *w = &o->only[i];
        if ((!w->units || w->units == s->units) && (!w->rows || w->rows == s->rows) &&
            (!w->steps || w->steps == s->steps) &&
            (!w->layers || w->layers == s->layers) &&
            (o->any_precision[i] || w->precision == s->precision))
            return 1;
    }
    return o->only_count == 0;
}

static options parse(int argc, char **argv)
{
    options o = {.device = "cuda", .repeats = 100, .graphs = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--exact") == 0) o.exact = 1;
        else if (strcmp(name, "--no-graphs") == 0) o.graphs = 0;
        else if (strcmp(name, "--list") == 0) o.list = 1;
        else if (++i == argc) usage();
        else if (strcmp(name, "--device") == 0) o.device = argv[i];
        else if (strcmp(name, "--shapes") == 0) o.shapes = argv[i];
        else if (strcmp(name, "--budget") == 0) o.budget_s = atof(argv[i]);
        else if (strcmp(name, "--repeats") == 0) o.repeats = (unsigned)atoi(argv[i]);
        else if (strcmp(name, "--only") == 0) parse_only(&o, argv[i]);
        else usage();
    }
    if (o.repeats < 1 || o.repeats > MOST_REPEATS) usage();
    return o;
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    bench_shape *shapes;
    size_t all =
        o.shapes ? bench_shapes_read(o.shapes, &shapes) : bench_shapes_all(&shapes);
    size_t count = 0;
    for (size_t i = 0; i < all; i++)
        if (wanted(&o, &shapes[i])) shapes[count++] = shapes[i];
    if (o.list) {
        bench_shapes_print(shapes, count);
        free(shapes);
        return 0;
    }
    bench_device_open(o.device);
    print_header(&o, argc, argv);
    opened now = {.model = NULL};
    size_t done = 0, wrong = 0;
    double start = bench_now_us();
    for (size_t i = 0; i < count; i++) {
        if (o.budget_s > 0 && bench_now_us() - start > o.budget_s * 1e6) {
            print_not_run(&shapes[i], "the time was up");
            continue;
        }
        open_for(&now, &shapes[i], &o);
        job j = {0};
        const char *reason = now.trouble;
        if (!reason[0]) reason = job_open(&j, &shapes[i], &now, &o);
        if (reason[0]) {
            print_not_run(&shapes[i], reason);
            wrong += strncmp(reason, "WRONG", 5) == 0;
        } else {
            measure(&j, &now, &o);
            done++;
        }
        job_close(&j);
        fflush(stdout);
    }
    carry_model_close(&now.model);
    bench_device_close();
    free(shapes);
    fprintf(stderr, "%zu of %zu shapes measured in %.0f s, %zu with wrong outputs\n",
            done, count, (bench_now_us() - start) * 1e-6, wrong);
    return wrong > 0 || (done == 0 && count > 0);
}
