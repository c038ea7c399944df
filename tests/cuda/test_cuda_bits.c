/* The promise of `exact`: a row's bits depend on no neighbour, batch, cut, graph or group, whichever algorithm the plan
 * takes; and that without it they do, since the fake cuBLAS orders its sums by the shape, as the real one may.
 *
 * The device has one multiprocessor, so that the plan leaves the fused step at few rows already. */
#include "cuda_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 4, FEATURES = 3, OUT = 3, MOST_ROWS = 40 };

static const fake_device small_gpu = {1, 8, 0, 1, (size_t)1 << 30, 0};

static const char step_x[] = "fused step with x", fused[] = "exact product, fused step",
                  cell[] = "exact product + cell";

typedef struct subject {
    model_spec spec;
    carry_precision precision;
    bool switches; /* the plan leaves the fused step as rows grow */
} subject;

static const subject subjects[] = {
    {.spec = {.features = FEATURES,
              .layers = {LSTM_LAYER(48, SEQUENCES), DENSE_LAYER(OUT, CY_ACT_TANH)}},
     .switches = true},
    {.spec = {.features = FEATURES,
              .layers = {LSTM_LAYER(80, SEQUENCES), DENSE_LAYER(OUT, CY_ACT_TANH)}},
     .precision = CARRY_COMPUTE_BF16,
     .switches = true},
    {.spec = {.features = FEATURES,
              .layers = {LSTM_LAYER(80, SEQUENCES), DENSE_LAYER(OUT, CY_ACT_SOFTMAX)}},
     .precision = CARRY_COMPUTE_FP16,
     .switches = true},
    /* gates over the whole row never have a fused step */
    {.spec = {.features = FEATURES,
              .layers = {LSTM_ACT(9, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_SIGMOID),
                         LSTM_LAYER(7, SEQUENCES), DENSE_LAYER(OUT, CY_ACT_LINEAR)}}},
    {.spec = {.ids = 11,
              .layers = {EMBEDDING_LAYER(5), LSTM_LAYER(6, SEQUENCES),
                         DENSE_LAYER(OUT, CY_ACT_LINEAR)}}},
    /* h itself is the output: of one step from the step kernel, of more from where the next layer would read it */
    {.spec = {.features = FEATURES, .layers = {LSTM_LAYER(OUT, SEQUENCES)}},
     .precision = CARRY_COMPUTE_BF16},
    {.spec = {.features = FEATURES, .layers = {LSTM_LAYER(OUT, SEQUENCES)}},
     .precision = CARRY_COMPUTE_FP16},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

/* One way to run the same rows. */
typedef struct way {
    size_t rows;
    size_t cuts[STEPS + 1]; /* steps of each call; 0 ends */
    uint32_t max_rows;
    carry_graph_shape graph; /* steps 0: none */
    bool others_differ; /* the neighbours have other inputs, fewer steps and no state */
} way;

/* What row 0 got: its outputs, then its state. */
typedef struct answer {
    float numbers[STEPS * OUT + 2 * 128];
    size_t count;
} answer;

static answer run_way(carry_model *model, const way *w, uint32_t exact)
{
    carry_session_options options = {.size = sizeof options,
                                     .max_rows = w->max_rows,
                                     .exact = exact,
                                     .graphs = w->graph.steps ? &w->graph : NULL,
                                     .graph_count = w->graph.steps ? 1 : 0};
    rig r = rig_of(model, &options);
    carry_state states[MOST_ROWS] = {{0}};
    uint32_t steps[MOST_ROWS];
    open_states(&r, states, w->others_differ ? 1 : w->rows);
    answer a = {.count = STEPS * OUT};
    void *first = random_input(&r, 1, STEPS, 42);
    size_t done = 0;
    for (int i = 0; w->cuts[i]; done += w->cuts[i++]) {
        size_t now = w->cuts[i], width = r.in * sizeof(float);
        char *x = random_input(&r, w->rows, now, w->others_differ ? done + 7 : 1);
        float *y = malloc(w->rows * now * OUT * sizeof *y);
        memcpy(x, (char *)first + done * width, now * width);
        for (size_t row = 0; row < w->rows; row++)
            steps[row] =
                row && w->others_differ ? (uint32_t)(row % (now + 1)) : (uint32_t)now;
        OK(run_call(&r, &(call_spec){.rows = w->rows,
                                     .max_steps = now,
                                     .states = states,
                                     .steps = steps,
                                     .x = x,
                                     .y = y}));
        memcpy(a.numbers + done * OUT, y, now * OUT * sizeof *y);
        free(x);
        free(y);
    }
    cr_assert_eq(done, STEPS);
    if (w->graph.steps) cr_assert_gt(info_of(r.session).graph_chunks, 0);
    size_t count;
    float *state = read_state(&r, states[0], &count);
    cr_assert_leq(a.count + count, sizeof a.numbers / sizeof *a.numbers);
    memcpy(a.numbers + a.count, state, count * sizeof *state);
    a.count += count;
    free(state);
    free(first);
    carry_session_close(&r.session);
    no_misuse();
    return a;
}

/* The fewest rows for which the layer is computed in the given way; 0: none. */
static size_t rows_with(carry_model *model, size_t layer, size_t steps,
                        const char *algorithm)
{
    carry_session_options options = {.size = sizeof options, .exact = 1};
    carry_session *session = NULL;
    OK(carry_session_open(&session, model, &options));
    size_t rows = 1;
    while (rows <= MOST_ROWS &&
           strcmp(plan_of(session, layer, rows, steps).algorithm, algorithm) != 0)
        rows++;
    carry_session_close(&session);
    return rows <= MOST_ROWS ? rows : 0;
}

static void check_exact(const subject *s)
{
    fake_reset(&small_gpu, 5);
    carry_model *model = model_on("cuda", &s->spec, s->precision);
    size_t many = 6;
    if (s->switches) { /* row 0 goes through all three below */
        cr_assert_eq(rows_with(model, 0, 1, step_x), 1);
        cr_assert_eq(rows_with(model, 0, STEPS, fused), 1);
        many = rows_with(model, 0, STEPS, cell);
        cr_assert_gt(many, 1, "no number of rows up to %d leaves the fused step",
                     MOST_ROWS);
        cr_assert_eq(rows_with(model, 0, 1, cell), many);
    }
    const way alone = {.rows = 1, .cuts = {STEPS}};
    const uint32_t half = (uint32_t)(many + 1) / 2;
    const way ways[] = {
        {.rows = 1, .cuts = {1, 1, 1, 1}},
        {.rows = 1, .cuts = {1, 3}},
        {.rows = 1, .cuts = {STEPS}, .graph = {1, 2}},
        {.rows = 2, .cuts = {2, 2}, .graph = {3, 2}, .others_differ = true},
        {.rows = 3, .cuts = {STEPS}, .others_differ = true},
        {.rows = 5, .cuts = {3, 1}, .max_rows = 2},
        {.rows = many, .cuts = {STEPS}},
        {.rows = many, .cuts = {1, 1, 2}, .others_differ = true},
        {.rows = many, .cuts = {STEPS}, .max_rows = half},
        {.rows = many, .cuts = {STEPS}, .graph = {(uint32_t)many, 2}},
        {.rows = many, .cuts = {3, 1}, .graph = {(uint32_t)many, 1}},
        /* a graph of many rows for one: computed as many */
        {.rows = 1, .cuts = {STEPS}, .graph = {(uint32_t)many, STEPS}},
    };
    answer expected = run_way(model, &alone, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        answer a = run_way(model, &ways[i], 1);
        cr_assert_eq(a.count, expected.count);
        size_t at = first_difference(a.numbers, expected.numbers, a.count);
        cr_assert_eq(at, a.count, "way %zu: number %zu is %.9g, alone %.9g", i, at,
                     (double)a.numbers[at], (double)expected.numbers[at]);
    }
    carry_model_close(&model);
    cr_assert_eq(fake_open_handles(), 0);
}

#define SUBJECT(number)                                         \
    Test(cuda_bits, exact_rows_depend_on_nothing_else_##number) \
    {                                                           \
        check_exact(&subjects[number]);                         \
    }
SUBJECT(0)
SUBJECT(1)
SUBJECT(2)
SUBJECT(3)
SUBJECT(4)
SUBJECT(5)
SUBJECT(6)

/* Row 0 alone and among others: in how many of the batch sizes do its bits differ? */
static int count_different(carry_model *model, uint32_t exact)
{
    answer alone = run_way(model, &(way){.rows = 1, .cuts = {STEPS}}, exact);
    int different = 0;
    for (size_t rows = 2; rows <= 9; rows++) {
        answer a = run_way(model, &(way){.rows = rows, .cuts = {STEPS}}, exact);
        different += first_difference(a.numbers, alone.numbers, a.count) < a.count;
        cr_assert_leq(worst_error(a.numbers, alone.numbers, a.count), 1e-5);
    }
    return different;
}

Test(cuda_bits, without_exact_bits_depend_on_the_batch)
{
    fake_reset(&small_gpu, 6);
    model_spec spec = {.features = FEATURES,
                       .layers = {LSTM_ACT(13, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_SIGMOID),
                                  DENSE_LAYER(OUT, CY_ACT_LINEAR)}};
    carry_model *model = model_on("cuda", &spec, CARRY_COMPUTE_FP32);
    cr_assert_gt(count_different(model, 0), 0);
    cr_assert_eq(count_different(model, 1), 0);
    carry_session_info info = {.size = sizeof info};
    for (uint32_t exact = 0; exact <= 1; exact++) {
        carry_session *session = NULL;
        OK(carry_session_open(
            &session, model,
            &(carry_session_options){.size = sizeof(carry_session_options),
                                     .exact = exact}));
        info = info_of(session);
        cr_assert_eq(info.exact, exact);
        carry_session_close(&session);
    }
    carry_model_close(&model);
}
