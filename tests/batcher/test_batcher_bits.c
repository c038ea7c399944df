/* What a request gives does not depend on its company: random traffic of several threads through batchers of every
 * kind, each sequence compared bit for bit with a plain run of its own. And the histogram of the statistics. */
#include "batcher/histogram.h"
#include "twin.h"

#include <stdlib.h>

enum { PRODUCERS = 3, SEQUENCES_EACH = 6, MOST_JOBS = 40, MOST_STEPS = 20 };

/* An emulated CUDA call takes milliseconds. */
static int job_count(void)
{
    return on_cuda() ? 12 : MOST_JOBS;
}

static const model_spec specs[] = {
    {.features = 3,
     .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(17, SEQUENCES | STATES)},
     .outputs = {{1, CY_PORT_Y}, {1, CY_PORT_H}, {0, CY_PORT_C}},
     .output_count = 3},
    {.ids = 20,
     .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(9, SEQUENCES),
                DENSE_LAYER(7, CY_ACT_SOFTMAX)}},
    {.features = 2, .layers = {LSTM_LAYER(6, 0), DENSE_LAYER(3, CY_ACT_TANH)}},
    {.features = 3,
     .steps = MOST_STEPS,
     .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS), LSTM_LAYER(4, SEQUENCES)}},
};
#define SPECS (sizeof specs / sizeof *specs)

typedef struct producer {
    pthread_t thread;
    const twin *t;
    uint64_t seed;
    sequence sequences[SEQUENCES_EACH];
    job jobs[MOST_JOBS];
    carry_status status;
} producer;

static void make_job(producer *p, int i)
{
    uint64_t random = random_u64(&p->seed);
    job *j = &p->jobs[i];
    job_make(j, p->t, &p->sequences[random % SEQUENCES_EACH],
             1 + (uint32_t)(random >> 8) % MOST_STEPS, random);
    j->reset = (random >> 16) % 8 == 0;
    j->unwanted = (unsigned)(random >> 24) % 8;
    if ((random >> 32) % 4 == 0) j->mode = CARRY_STEPS_LAST;
}

/* Nothing is asserted here: a test fails on its own thread only. */
static void *produce(void *argument)
{
    producer *p = argument;
    for (int i = 0; i < job_count() && p->status == CARRY_OK; i++) {
        p->status = job_submit(&p->jobs[i], CARRY_WAIT_FOR_ROOM);
        if (i % 5 == 4) carry_batcher_wait(p->t->batcher, p->jobs[i].ticket);
    }
    return NULL;
}

static void run_traffic(const model_spec *spec, const carry_batcher_options *options)
{
    static producer producers[PRODUCERS];
    twin t = twin_open(spec, options);
    for (int n = 0; n < PRODUCERS; n++) {
        producer *p = &producers[n];
        *p = (producer){.t = &t, .seed = 7 + (uint64_t)n};
        for (int i = 0; i < SEQUENCES_EACH; i++)
            p->sequences[i] = sequence_open(&t);
        for (int i = 0; i < job_count(); i++)
            make_job(p, i);
    }
    for (int n = 0; n < PRODUCERS; n++)
        cr_assert_eq(pthread_create(&producers[n].thread, NULL, produce, &producers[n]),
                     0);
    for (int n = 0; n < PRODUCERS; n++) {
        pthread_join(producers[n].thread, NULL);
        cr_assert_eq(producers[n].status, CARRY_OK, "%s",
                     carry_status_name(producers[n].status));
    }
    for (int n = 0; n < PRODUCERS; n++) {
        for (int i = 0; i < job_count(); i++)
            job_check(&producers[n].jobs[i]);
        for (int i = 0; i < job_count(); i++)
            job_free(&producers[n].jobs[i]);
        for (int i = 0; i < SEQUENCES_EACH; i++)
            sequence_close(&t, &producers[n].sequences[i]);
    }
    carry_batcher_info info = batcher_info(&t);
    cr_expect_eq(info.done, PRODUCERS * (uint64_t)job_count());
    cr_expect_eq(info.queued + info.in_flight + info.failed + info.cancelled, 0);
    uint64_t calls = 0;
    for (int i = 0; i < CARRY_BATCH_BUCKETS; i++)
        calls += info.calls_of_rows[i];
    cr_expect_eq(calls, info.calls);
    cr_expect_leq(info.wait_us_p50, info.wait_us_p99);
    cr_expect_leq(info.wait_us_p99, info.wait_us_p999);
    cr_expect_leq(info.run_us_p50, info.run_us_p99);
    cr_expect_leq(info.run_us_p99, info.run_us_p999);
    twin_close(&t);
}

Test(batcher_bits, random_traffic_gives_what_plain_runs_give)
{
    static const struct {
        uint32_t workers, batch_rows, batch_steps, max_delay_us, queue_limit, threads;
    } kinds[] = {
        {1, 0, 0, 0, 0, 1},   {1, 1, 1, 0, 5, 1},     {2, 5, 3, 100, 0, 1},
        {3, 64, 7, 0, 12, 1}, {1, 16, 64, 500, 7, 2},
    };
    size_t count = on_cuda() ? 3 : sizeof kinds / sizeof *kinds;
    for (size_t m = 0; m < SPECS; m++)
        for (size_t k = 0; k < count; k++) {
            carry_session_options session = {.size = sizeof session,
                                             .threads = kinds[k].threads};
            run_traffic(&specs[m],
                        &(carry_batcher_options){.size = sizeof(carry_batcher_options),
                                                 .workers = kinds[k].workers,
                                                 .batch_rows = kinds[k].batch_rows,
                                                 .batch_steps = kinds[k].batch_steps,
                                                 .max_delay_us = kinds[k].max_delay_us,
                                                 .queue_limit = kinds[k].queue_limit,
                                                 .session = &session});
        }
}

/* ---- the histogram -------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

Test(batcher_bits, quantiles_are_known_to_a_sixteenth)
{
    enum { VALUES = 5000 };
    static uint64_t values[VALUES];
    static cy_histogram histogram;
    const double shares[] = {0, 0.001, 0.5, 0.9, 0.99, 0.999, 1};
    uint64_t seed = 3;
    for (int i = 0; i < VALUES; i++) {
        values[i] = random_u64(&seed) >> (24 + random_u64(&seed) % 40);
        cy_histogram_add(&histogram, values[i]);
    }
    qsort(values, VALUES, sizeof *values, by_size);
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        double rank = shares[s] * VALUES; /* so many values are at most the quantile */
        size_t index = rank <= 1 ? 0 : (size_t)rank - ((double)(size_t)rank == rank);
        uint64_t exact = values[index],
                 got = cy_histogram_quantile(&histogram, shares[s]);
        cr_expect(got >= exact && got <= exact + exact / 16,
                  "share %g: %llu, exactly %llu", shares[s], (unsigned long long)got,
                  (unsigned long long)exact);
    }
}

Test(batcher_bits, quantiles_of_few_values)
{
    static cy_histogram none, one, huge;
    cr_expect_eq(cy_histogram_quantile(&none, 0.5), 0);
    cy_histogram_add(&one, 7);
    cr_expect_eq(cy_histogram_quantile(&one, 0), 7);
    cr_expect_eq(cy_histogram_quantile(&one, 0.999), 7);
    cy_histogram_add(&huge,
                     UINT64_MAX); /* beyond the last bucket, not beyond the array */
    cr_expect_gt(cy_histogram_quantile(&huge, 0.5), (uint64_t)1 << 42);
}
