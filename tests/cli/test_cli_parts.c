/* Parts of the command that are pure: the plan of a run, the nearest word, the draw. */
#include "src/cli/load_arrivals.h"
#include "src/cli/options.h"
#include "src/cli/run_plan.h"
#include "src/cli/sampler.h"

#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

/* ---- the plan of a run ---- */

static void check_plan(const cy_run_work *work)
{
    cy_run_block block = cy_run_plan(work);
    uint64_t longest = work->steps < work->chunk ? work->steps : work->chunk;
    cr_assert(block.rows >= 1 && block.rows <= work->rows);
    cr_assert(block.steps >= 1 &&
              block.steps <= (work->whole_sequence ? work->steps : longest));
    if (work->whole_sequence) cr_assert_eq(block.steps, work->steps);
    /* In order: whole rows, or parts of one. */
    if (work->in_order) cr_assert(block.steps == work->steps || block.rows == 1);
    uint64_t bytes = block.rows * block.steps * work->step_bytes;
    uint64_t least = work->step_bytes * (work->whole_sequence ? work->steps : 256);
    cr_assert(bytes <= (16 << 20) || bytes <= least,
              "%zu rows, %zu steps, %llu bytes a step", block.rows, block.steps,
              (unsigned long long)work->step_bytes);
    if (block.steps < work->steps)
        cr_assert(block.rows * work->state_bytes <= (16 << 20) || block.rows <= 256);
}

Test(run_plan, is_bounded_and_in_order)
{
    static const uint64_t rows[] = {1, 2, 63, 1000, 5000000},
                          steps[] = {1, 7, 300, 100000, 40000000},
                          chunks[] = {1, 5, 4096, UINT32_MAX},
                          bytes[] = {4, 12, 4000, 1 << 22},
                          parameters[] = {0, 12, 100000, 400000000};
    for (size_t r = 0; r < 5; r++)
        for (size_t t = 0; t < 5; t++)
            for (size_t c = 0; c < 4; c++)
                for (size_t b = 0; b < 4; b++)
                    for (size_t p = 0; p < 4; p++)
                        for (int flags = 0; flags < 8; flags++) {
                            cy_run_work work = {.rows = rows[r],
                                                .steps = steps[t],
                                                .chunk = chunks[c],
                                                .step_bytes = bytes[b],
                                                .state_bytes = bytes[p],
                                                .parameters = parameters[p],
                                                .whole_sequence = flags & 1,
                                                .in_order = flags >> 1 & 1,
                                                .rows_first = flags >> 2 & 1};
                            if (work.whole_sequence) work.chunk = UINT32_MAX;
                            check_plan(&work);
                        }
}

Test(run_plan, keeps_small_work_whole)
{
    cy_run_work work = {.rows = 32,
                        .steps = 50,
                        .chunk = UINT32_MAX,
                        .step_bytes = 100,
                        .parameters = 5000};
    cy_run_block block = cy_run_plan(&work);
    cr_assert_eq(block.rows, 32);
    cr_assert_eq(block.steps, 50);
}

/* ---- the nearest word ---- */

Test(nearest, finds_slips_and_beginnings_only)
{
    static const char *const names[] = {"input", "output", "output-all", "stateful",
                                        "stateless"};
#define NEAREST(word) cy_nearest(word, names, 5)
    cr_assert_str_eq(NEAREST("ouput"), "output");
    cr_assert_str_eq(NEAREST("uotput"), "output");
    cr_assert_str_eq(NEAREST("outputall"), "output-all");
    cr_assert_str_eq(NEAREST("statful"), "stateful");
    cr_assert_str_eq(NEAREST("in"), "input");
    cr_assert_str_eq(NEAREST("Input"), "input");
    cr_assert_null(NEAREST("temperature"));
    cr_assert_null(NEAREST(""));
    cr_assert_null(NEAREST("x"));
    char endless[4096];
    memset(endless, 'o', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    cr_assert_null(NEAREST(endless));
}

/* ---- the draw ---- */

Test(sampler, is_xoshiro256starstar_seeded_by_splitmix64)
{
    /* splitmix64 of 0 begins so in its authors' code. */
    cy_random random;
    cy_random_seed(&random, 0);
    cr_assert_eq(random.state[0], UINT64_C(0xe220a8397b1dcdaf));
    cr_assert_eq(random.state[1], UINT64_C(0x6e789e6aa1b965f4));
    /* And xoshiro256** from the state 1, 2, 3, 4. */
    random = (cy_random){{1, 2, 3, 4}};
    cr_assert_eq(cy_random_next(&random), UINT64_C(11520));
    cr_assert_eq(cy_random_next(&random), UINT64_C(0));
    cr_assert_eq(cy_random_next(&random), UINT64_C(1509978240));
    cr_assert_eq(cy_random_next(&random), UINT64_C(1215971899390074240));
}

/* Draws follow the weights: 100 000 of them, each share within five standard deviations. */
static void check_shares(const float *scores, cy_scores kind, double temperature,
                         const double *shares)
{
    enum { DRAWS = 100000 };
    cy_random random;
    double weights[4];
    size_t counts[4] = {0};
    cy_random_seed(&random, 3);
    for (int i = 0; i < DRAWS; i++)
        counts[cy_sample(&random, scores, 4, kind, temperature, weights)]++;
    for (int i = 0; i < 4; i++) {
        double spread = sqrt(DRAWS * shares[i] * (1 - shares[i]));
        cr_assert(fabs((double)counts[i] - DRAWS * shares[i]) <= 5 * spread,
                  "token %d: %zu", i, counts[i]);
    }
}

Test(sampler, follows_the_weights)
{
    const float probabilities[4] = {0.5f, 0.25f, 0, 0.25f};
    const float logits[4] = {1000, 1000 - (float)log(2), -INFINITY, 1000 - (float)log(2)};
    const double as_they_are[4] = {0.5, 0.25, 0, 0.25};
    const double colder[4] = {4.0 / 6, 1.0 / 6, 0, 1.0 / 6};
    check_shares(probabilities, CY_SCORES_PROBABILITIES, 1, as_they_are);
    check_shares(logits, CY_SCORES_LOGITS, 1, as_they_are);
    check_shares(probabilities, CY_SCORES_PROBABILITIES, 0.5, colder);
    check_shares(logits, CY_SCORES_LOGITS, 0.5, colder);
}

Test(sampler, takes_the_first_of_the_likeliest_and_refuses_nonsense)
{
    cy_random random = {{1, 2, 3, 4}};
    double weights[4];
#define SAMPLE(kind, temperature, ...) \
    cy_sample(&random, (const float[4]){__VA_ARGS__}, 4, kind, temperature, weights)
    cr_assert_eq(SAMPLE(CY_SCORES_LOGITS, 0, -2, 7, 7, 1), 1);
    cr_assert_eq(SAMPLE(CY_SCORES_PROBABILITIES, 0, 0, 0, 0.6f, 0.4f), 2);
    cr_assert_eq(SAMPLE(CY_SCORES_LOGITS, 1e-30, -2, 3, 7, 1), 2);
    cr_assert_eq(SAMPLE(CY_SCORES_LOGITS, 1, 0, NAN, 0, 0), -1);
    cr_assert_eq(SAMPLE(CY_SCORES_PROBABILITIES, 1, 0, 0, 0, 0), -1);
    cr_assert_eq(SAMPLE(CY_SCORES_LOGITS, 1, -INFINITY, -INFINITY, -INFINITY, -INFINITY),
                 -1);
    cr_assert_eq(SAMPLE(CY_SCORES_LOGITS, 1, 0, INFINITY, 0, 0), 1);
}

/* A Poisson process of 1000 a second: in 100 s 100000 arrivals give or take 316, gaps that are exponential, counts in
 * equal times whose variance is their mean, and no sequence with more than its share. */
Test(arrivals, are_a_poisson_process)
{
    enum { SEQUENCES = 8, BINS = 10000 };
    static double count_of_bin[BINS];
    double count_of[SEQUENCES] = {0}, longer = 0, before_s = 0, squares = 0;
    cy_arrivals arrivals = {0};
    cr_assert_eq(cy_arrivals_poisson(&arrivals, SEQUENCES, 1000, 100, 7), 0);
    double count = (double)arrivals.count, mean = count / BINS;
    cr_assert_float_eq(count, 100000, 5 * 316);
    for (size_t i = 0; i < arrivals.count; i++) {
        const cy_arrival *arrival = &arrivals.items[i];
        cr_assert(arrival->at_s >= before_s && arrival->at_s < 100 &&
                  arrival->sequence < SEQUENCES && arrival->steps == 1);
        count_of[arrival->sequence]++;
        count_of_bin[(size_t)(arrival->at_s * BINS / 100)]++;
        if (arrival->at_s - before_s > 1e-3) longer++;
        before_s = arrival->at_s;
    }
    cr_assert_float_eq(longer / count, exp(-1), 5 * 0.0015);
    for (int i = 0; i < SEQUENCES; i++)
        cr_assert_float_eq(count_of[i] / count, 1.0 / SEQUENCES, 5 * 0.0011);
    for (int i = 0; i < BINS; i++)
        squares += (count_of_bin[i] - mean) * (count_of_bin[i] - mean);
    cr_assert_float_eq(squares / BINS / mean, 1, 5 * sqrt(2.0 / BINS));
    cy_arrivals_free(&arrivals);
}

Test(arrivals, are_the_same_for_the_same_seed)
{
    cy_arrivals a = {0}, b = {0}, c = {0};
    cr_assert_eq(cy_arrivals_poisson(&a, 5, 300, 1, 3), 0);
    cr_assert_eq(cy_arrivals_poisson(&b, 5, 300, 1, 3), 0);
    cr_assert_eq(cy_arrivals_poisson(&c, 5, 300, 1, 4), 0);
    cr_assert_eq(a.count, b.count);
    cr_assert_eq(memcmp(a.items, b.items, a.count * sizeof *a.items), 0);
    cr_assert_neq(a.items[0].at_s, c.items[0].at_s);
    cy_arrivals_free(&a);
    cy_arrivals_free(&b);
    cy_arrivals_free(&c);
}
