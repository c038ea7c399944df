/* How well does a character model predict a text, with its memory and without?
 *
 *     charlm_score [options] MODEL.carry VOCAB.json TEXT
 *
 *     -r, --rows N       -c, --chunk N     -w, --window N     -k, --every N
 *     -p, --passes N (5)
 *     -n, --characters N of the text, from its beginning: the others are left out
 *     -t, --threads N    of the CPU
 *     --device auto|cpu|cuda|cuda:N  --precision fp32|tf32|bf16|fp16  --exact
 *
 * The text is cut into `rows` equal parts (lanes) that one call advances together, and scored in
 * bits per character, -log2 of the probability the model gave to the character that came:
 *
 *   stateful    every lane keeps its state from call to call; a call feeds `chunk` new characters
 *   windows     no state: every `window` characters the network starts again from zeros
 *   fed again   no state: before each character its last `window` characters are fed again, and
 *               only the last answer counts; `every` > 1 scores each every-th character only
 *
 * All three see the same lanes with the same number of rows in a call. The rate counts characters
 * scored per second of carry_run. The first two take a fraction of a second, so they are run in turns:
 * once to warm up, then for the median of some more. */
#define _GNU_SOURCE /* getopt_long */
#include <carry/carry.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum way { STATEFUL, WINDOWS, FED_AGAIN };
enum { MOST_PASSES = 99 };

struct job {
    carry_session *session;
    carry_state *states; /* [rows] */
    const int32_t
        *ids; /* [rows * length + 1]: the text, and what follows its last character */
    size_t rows, length; /* length: characters fed per lane */
    size_t chunk, window, every, passes;
    size_t width;         /* characters in the vocabulary */
    int32_t *input;       /* [rows, steps of one call] */
    float *probabilities; /* [rows, steps of one call, width] */
};

struct score {
    double bits, seconds;
    size_t characters;
};

static void fail(const char *subject, const char *what)
{
    fprintf(stderr, "charlm_score: %s: %s\n", subject, what);
    exit(1);
}

static void check(carry_status status)
{
    if (status != CARRY_OK) fail(carry_status_name(status), carry_error());
}

static void *get(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (!memory) fail("memory", "there is not enough");
    return memory;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Fills id_of[byte]; -1: not in the vocabulary. Returns the number of characters in it. */
static size_t read_vocabulary(const char *path, int32_t id_of[256])
{
    json_error_t error;
    json_t *array = json_load_file(path, 0, &error);
    if (!array) fail(path, error.text);
    if (!json_is_array(array)) fail(path, "is not a JSON array of strings");
    for (int i = 0; i < 256; i++)
        id_of[i] = -1;
    size_t count = json_array_size(array);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text || strlen(text) != 1)
            fail(path, "holds something other than single bytes");
        id_of[(unsigned char)text[0]] = (int32_t)i;
    }
    json_decref(array);
    return count;
}

/* Returns the text as ids, [*count]. */
static int32_t *read_text(const char *path, const int32_t id_of[256], size_t *count)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail(path, "cannot be opened");
    size_t n = 0, capacity = 1 << 16;
    int32_t *ids = get(capacity, sizeof *ids);
    for (int c; (c = getc(file)) != EOF; n++) {
        if (n == capacity) {
            int32_t *more = realloc(ids, (capacity *= 2) * sizeof *ids);
            if (!more) fail("memory", "there is not enough");
            ids = more;
        }
        if ((ids[n] = id_of[c]) < 0) {
            fprintf(stderr,
                    "charlm_score: %s: byte %zu (0x%02x) is not in the vocabulary\n",
                    path, n, c);
            exit(1);
        }
    }
    if (ferror(file)) fail(path, "cannot be read");
    fclose(file);
    *count = n;
    return ids;
}

static struct score run(const struct job *job, enum way way)
{
    struct score score = {0};
    for (size_t r = 0; way == STATEFUL && r < job->rows; r++)
        check(carry_state_reset(job->session, job->states[r]));
    size_t stride = way == STATEFUL  ? job->chunk
                    : way == WINDOWS ? job->window
                                     : job->every;
    for (size_t t = 0; t < job->length; t += stride) {
        /* feed [from, from + steps) of each lane and score its last `scored` answers */
        size_t from = t, steps, scored;
        if (way == FED_AGAIN) {
            steps = smaller(job->window, t + 1);
            from = t + 1 - steps;
            scored = 1;
        } else {
            scored = steps = smaller(stride, job->length - t);
        }
        for (size_t r = 0; r < job->rows; r++)
            memcpy(job->input + r * steps, job->ids + r * job->length + from,
                   steps * sizeof *job->input);

        carry_array in = {.size = sizeof in,
                          .data = job->input,
                          .dtype = CARRY_I32,
                          .bytes = job->rows * steps * sizeof *job->input};
        carry_array out = {.size = sizeof out,
                           .data = job->probabilities,
                           .bytes = job->rows * scored * job->width * sizeof(float)};
        carry_batch batch = {.size = sizeof batch,
                             .rows = job->rows,
                             .states = way == STATEFUL ? job->states : NULL,
                             .max_steps = steps,
                             .inputs = &in,
                             .input_count = 1,
                             .outputs = &out,
                             .output_count = 1,
                             .mode =
                                 way == FED_AGAIN ? CARRY_STEPS_LAST : CARRY_STEPS_ALL};
        double began = now();
        check(carry_run(job->session, &batch));
        score.seconds += now() - began;

        for (size_t r = 0; r < job->rows; r++)
            for (size_t s = 0; s < scored; s++) {
                size_t came = (size_t)job->ids[r * job->length + t + s + 1];
                score.bits -=
                    log2(job->probabilities[(r * scored + s) * job->width + came]);
            }
        score.characters += job->rows * scored;
    }
    return score;
}

static double rate_of(const struct score *score)
{
    return (double)score->characters / score->seconds;
}

static int by_rate(const void *a, const void *b)
{
    double x = rate_of(a), y = rate_of(b);
    return (x > y) - (x < y);
}

/* The scores are the same in every pass; what is wanted is the one of median rate. */
static void run_all(const struct job *job, struct score scores[3])
{
    struct score passes[2][MOST_PASSES + 1]; /* the first is not counted */
    for (size_t pass = 0; pass <= job->passes; pass++)
        for (enum way way = STATEFUL; way <= WINDOWS; way++)
            passes[way][pass] = run(job, way);
    for (enum way way = STATEFUL; way <= WINDOWS; way++) {
        qsort(passes[way] + 1, job->passes, sizeof *passes[way], by_rate);
        scores[way] = passes[way][1 + job->passes / 2];
    }
    scores[FED_AGAIN] = run(job, FED_AGAIN);
}

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: charlm_score [--rows N] [--chunk N] [--window N] [--every N] "
                    "[--passes N]\n"
                    "                    [--characters N] [--threads N] [--device D] "
                    "[--precision P] [--exact] "
                    "MODEL.carry VOCAB.json TEXT\n");
    exit(2);
}

static size_t positive(const char *text, char option)
{
    char *end, name[] = {'-', option, '\0'};
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < 1 || value > 1000000) {
        fprintf(stderr, "charlm_score: %s needs a whole number from 1 on, not \"%s\"\n",
                name, text);
        exit(2);
    }
    return (size_t)value;
}

static carry_precision precision_of(const char *word)
{
    static const char *const words[] = {"fp32", "tf32", "bf16", "fp16"};
    for (int i = 0; i < 4; i++)
        if (strcmp(word, words[i]) == 0) return (carry_precision)i;
    fprintf(stderr,
            "charlm_score: unknown precision %s; it is one of fp32, tf32, bf16, fp16\n",
            word);
    exit(2);
}

/* A GPU runs a whole call of a captured shape by one launch: the shapes of the two ways that want every answer. */
static void open_session(struct job *job, carry_model *model,
                         carry_session_options *options)
{
    carry_model_info info = {.size = sizeof info};
    check(carry_model_get_info(model, &info));
    size_t rows = smaller(job->rows, strcmp(info.device, "cpu") == 0 ? 64 : 1024);
    size_t most = 4096 / rows; /* steps for which the session has room anyway */
    const carry_graph_shape shapes[] = {
        {(uint32_t)rows, (uint32_t)smaller(job->chunk, smaller(most, 1024))},
        {(uint32_t)rows, (uint32_t)smaller(job->window, smaller(most, 1024))}};
    options->max_rows = (uint32_t)rows;
    options->graphs = shapes;
    options->graph_count = 2;
    check(carry_session_open(&job->session, model, options));
}

int main(int argc, char **argv)
{
    struct job job = {.rows = 8, .chunk = 64, .window = 32, .every = 1, .passes = 5};
    size_t most_characters = SIZE_MAX;
    carry_model_options on = {.size = sizeof on};
    carry_session_options options = {.size = sizeof options};
    enum { DEVICE = 256, PRECISION, EXACT };
    static const struct option names_of[] = {{"rows", 1, NULL, 'r'},
                                             {"chunk", 1, NULL, 'c'},
                                             {"window", 1, NULL, 'w'},
                                             {"every", 1, NULL, 'k'},
                                             {"characters", 1, NULL, 'n'},
                                             {"threads", 1, NULL, 't'},
                                             {"passes", 1, NULL, 'p'},
                                             {"device", 1, NULL, DEVICE},
                                             {"precision", 1, NULL, PRECISION},
                                             {"exact", 0, NULL, EXACT},
                                             {NULL, 0, NULL, 0}};
    for (int option;
         (option = getopt_long(argc, argv, "r:c:w:k:n:p:t:", names_of, NULL)) != -1;)
        switch (option) {
        case 'r':
            job.rows = positive(optarg, 'r');
            break;
        case 'c':
            job.chunk = positive(optarg, 'c');
            break;
        case 'w':
            job.window = positive(optarg, 'w');
            break;
        case 'k':
            job.every = positive(optarg, 'k');
            break;
        case 'p':
            job.passes = smaller(positive(optarg, 'p'), MOST_PASSES);
            break;
        case 'n':
            most_characters = positive(optarg, 'n');
            break;
        case 't':
            options.threads = (uint32_t)positive(optarg, 't');
            break;
        case DEVICE:
            on.device = optarg;
            break;
        case PRECISION:
            on.precision = precision_of(optarg);
            break;
        case EXACT:
            options.exact = 1;
            break;
        default:
            usage();
        }
    if (argc - optind != 3) usage();
    const char *path = argv[optind];
    int32_t id_of[256];
    size_t characters;
    job.width = read_vocabulary(argv[optind + 1], id_of);
    int32_t *ids = read_text(argv[optind + 2], id_of, &characters);
    characters = smaller(characters, most_characters);
    if (characters < job.rows + 1)
        fail(argv[optind + 2], "has fewer characters than rows");
    job.ids = ids;
    job.length = (characters - 1) / job.rows;

    carry_model *model = NULL;
    carry_port_info in = {.size = sizeof in}, out = {.size = sizeof out};
    carry_model_info info = {.size = sizeof info};
    check(carry_model_open(&model, path, &on));
    check(carry_model_get_info(model, &info));
    check(carry_model_get_input(model, 0, &in));
    check(carry_model_get_output(model, 0, &out));
    if (info.inputs != 1 || (size_t)in.ids != job.width ||
        (size_t)out.width != job.width || !out.has_time)
        fail(path, "does not give one answer per character of this vocabulary");

    open_session(&job, model, &options);
    job.states = get(job.rows, sizeof *job.states);
    for (size_t r = 0; r < job.rows; r++)
        check(carry_state_open(job.session, &job.states[r]));
    size_t most = smaller(job.chunk > job.window ? job.chunk : job.window, job.length);
    job.input = get(job.rows * most, sizeof *job.input);
    job.probabilities = get(job.rows * most * job.width, sizeof *job.probabilities);

    static const char *const names[] = {"stateful", "windows", "fed again"};
    char fed[48];
    struct score scores[3];
    printf("%zu characters, %zu rows of %zu, %s on %s\n\n", characters, job.rows,
           job.length, info.name, info.device);
    printf("%-10s  %-34s  %9s  %12s  %9s\n", "", "fed in one call, per row", "bits/char",
           "characters/s", "of first");
    fflush(stdout);
    run_all(&job, scores);
    for (enum way way = STATEFUL; way <= FED_AGAIN; way++) {
        double rate = rate_of(&scores[way]);
        if (way == STATEFUL) {
            snprintf(fed, sizeof fed, "the next %zu, memory kept", job.chunk);
        } else if (way == WINDOWS) {
            snprintf(fed, sizeof fed, "the next %zu, from zeros", job.window);
        } else {
            snprintf(fed, sizeof fed, "the last %zu, for one more", job.window);
        }
        printf("%-10s  %-34s  %9.4f  %12.0f  %9.3f\n", names[way], fed,
               scores[way].bits / (double)scores[way].characters, rate,
               rate / rate_of(&scores[STATEFUL]));
    }

    free(job.probabilities);
    free(job.input);
    free(job.states);
    free(ids);
    carry_session_close(&job.session);
    carry_model_close(&model);
    return 0;
}
