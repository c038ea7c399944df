/* Which rates are tried, how often, and what is said of them.
 *
 * A machine that others use stops a process for some milliseconds now and then, and one such stop spoils p99 of a short
 * trial: so a rate counts as met, or as missed, when two trials out of three say so. */
#include "load.h"

#include "progress.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RATES_MOST     10   /* tried in a search */
#define NEAR_ENOUGH    1.05 /* the rate that was missed over the one that was met */
#define REPEATS        3
#define FEW_ARRIVALS   20 /* a trial that expects fewer says nothing */
#define BURST_ARRIVALS 200000

static const double curve[] = {0.1, 0.3, 0.6}; /* of the rate found, for the plot */
enum { CURVE = sizeof curve / sizeof curve[0] };

/* Of one way: the burst, the rates, what is missing to three at the one found, the curve. */
#define SEARCH_TRIALS (1 + REPEATS * RATES_MOST + 1 + CURVE)

static double search_limit_s(const cy_load_options *options)
{
    return options->seconds + 2 * options->deadline_s + 0.1;
}

static uint64_t progress_done;

static void trial_is_over(void)
{
    cy_progress_set(++progress_done);
}

static void keep(cy_verdict *verdict, const cy_trial *trial)
{
    if (verdict->count < CY_TRIALS_MOST) verdict->trials[verdict->count++] = *trial;
    verdict->arrivals += trial->arrivals;
    verdict->done += trial->done;
    verdict->undone += trial->undone;
    verdict->repeated += trial->repeated;
    verdict->disordered += trial->disordered;
}

static int compare_p99(const void *a, const void *b)
{
    double x = ((const cy_trial *)a)->p99, y = ((const cy_trial *)b)->p99;
    return (x > y) - (x < y);
}

/* The median of all trials at a rate. */
static void settle(cy_verdict *verdict, double rate)
{
    cy_trial same[CY_TRIALS_MOST];
    size_t count = 0;
    for (size_t i = 0; i < verdict->count; i++)
        if (verdict->trials[i].rate == rate) same[count++] = verdict->trials[i];
    if (count == 0) return;
    qsort(same, count, sizeof *same, compare_p99);
    verdict->trial = same[(count - 1) / 2];
    verdict->p99_least = same[0].p99;
    verdict->p99_most = same[count - 1].p99;
    verdict->repeats = count;
}

/* ---- the search ----------------------------------------------------------------------------- */

typedef struct search {
    cy_load *load;
    cy_server server;
    cy_arrivals arrivals;
    cy_verdict *verdict;
    double least; /* rate that is worth a trial */
} search;

static int try_rate(search *s, double rate, int stops, cy_trial *trial)
{
    const cy_load_options *options = s->load->options;
    int code = cy_arrivals_poisson(&s->arrivals, s->load->states, rate, options->seconds,
                                   options->seed + s->verdict->count);
    if (code == CY_EXIT_OK)
        code = cy_server_run(&s->server, &s->arrivals, search_limit_s(options), stops,
                             trial);
    if (code != CY_EXIT_OK) return code;
    trial->rate = rate;
    keep(s->verdict, trial);
    trial_is_over();
    return CY_EXIT_OK;
}

/* How many arrivals a second it serves when all of them are due: where to begin. */
static int find_start(search *s, double *rate)
{
    cy_trial trial;
    double limit_s = s->load->options->seconds / 4;
    int code = cy_arrivals_burst(&s->arrivals, s->load->states, BURST_ARRIVALS,
                                 s->load->options->seed);
    if (code == CY_EXIT_OK)
        code = cy_server_run(&s->server, &s->arrivals, limit_s, CY_TRIAL_WHOLE, &trial);
    if (code != CY_EXIT_OK) return code;
    trial_is_over();
    double seconds = trial.seconds > 0 ? trial.seconds : limit_s;
    *rate = 0.8 * (double)trial.done / seconds;
    if (*rate < s->least) *rate = s->least;
    return CY_EXIT_OK;
}

static int search_rates(search *s)
{
    double rate, met = 0, missed = 0;
    cy_trial trial;
    int code = find_start(s, &rate);
    for (int k = 0; code == CY_EXIT_OK && k < RATES_MOST; k++) {
        int passes = 0, fails = 0;
        while (code == CY_EXIT_OK && passes < 2 && fails < 2) {
            code = try_rate(s, rate, CY_TRIAL_STOPS, &trial);
            if (trial.met) passes++;
            else fails++;
        }
        if (passes == 2) met = rate;
        else missed = rate;
        if (met > 0 && missed > 0 && missed / met < NEAR_ENOUGH) break;
        rate = met == 0 ? missed / 2 : missed == 0 ? met * 1.3 : sqrt(met * missed);
        if (rate < s->least) break;
    }
    s->verdict->found = met > 0;
    settle(s->verdict, met > 0 ? met : missed);
    while (code == CY_EXIT_OK && met > 0 && s->verdict->repeats < REPEATS) {
        code = try_rate(s, met, CY_TRIAL_STOPS, &trial);
        settle(s->verdict, met);
    }
    for (size_t i = 0; code == CY_EXIT_OK && met > 0 && i < CURVE; i++)
        if (curve[i] * met >= s->least)
            code = try_rate(s, curve[i] * met, CY_TRIAL_WHOLE, &trial);
    return code;
}

int cy_load_search(cy_load *load, cy_way way, cy_verdict *verdict)
{
    search s = {
        .load = load, .verdict = verdict, .least = FEW_ARRIVALS / load->options->seconds};
    memset(verdict, 0, sizeof *verdict);
    verdict->way = way;
    progress_done = (uint64_t)way * SEARCH_TRIALS;
    if (way == 0) cy_progress_start((uint64_t)CY_WAYS * SEARCH_TRIALS, "trials");
    int code = cy_server_open(&s.server, load, way);
    if (code == CY_EXIT_OK) code = search_rates(&s);
    cy_server_close(&s.server);
    cy_arrivals_free(&s.arrivals);
    return code;
}

/* ---- one load for all ways ------------------------------------------------------------------ */

static int measure_once(cy_load *load, cy_way way, const cy_arrivals *arrivals,
                        double limit_s, cy_verdict *verdict)
{
    cy_server server;
    cy_trial trial;
    cy_arrivals burst = {0};
    int code = cy_server_open(&server, load, way);
    /* caches and threads warm up */
    if (code == CY_EXIT_OK)
        code = cy_arrivals_burst(&burst, load->states, 1000, load->options->seed);
    if (code == CY_EXIT_OK)
        code = cy_server_run(&server, &burst, load->options->seconds / 4, CY_TRIAL_WHOLE,
                             &trial);
    if (code == CY_EXIT_OK)
        code = cy_server_run(&server, arrivals, limit_s, CY_TRIAL_WHOLE, &trial);
    if (code == CY_EXIT_OK) {
        trial.rate = (double)load->states * load->options->rate; /* a trace: 0 */
        verdict->found = trial.met;
        keep(verdict, &trial);
        trial_is_over();
    }
    cy_server_close(&server);
    cy_arrivals_free(&burst);
    return code;
}

int cy_load_measure(cy_load *load, const cy_arrivals *trace, cy_verdict verdicts[CY_WAYS])
{
    const cy_load_options *options = load->options;
    cy_arrivals poisson = {0};
    int repeats = trace != NULL ? 1 : REPEATS, code = CY_EXIT_OK;
    double seconds =
        trace != NULL ? trace->items[trace->count - 1].at_s : options->seconds;
    double limit_s = 2 * seconds + 2 * options->deadline_s + 0.1;
    progress_done = 0;
    cy_progress_start((uint64_t)(CY_WAYS * repeats), "trials");
    for (int way = 0; way < CY_WAYS; way++) {
        memset(&verdicts[way], 0, sizeof verdicts[way]);
        verdicts[way].way = (cy_way)way;
    }
    for (int round = 0; round < repeats && code == CY_EXIT_OK; round++) {
        const cy_arrivals *arrivals = trace;
        if (trace == NULL) {
            code = cy_arrivals_poisson(&poisson, load->states,
                                       (double)load->states * options->rate,
                                       options->seconds, options->seed + (uint64_t)round);
            if (code == CY_EXIT_OK && poisson.count == 0)
                code = cy_report(CY_EXIT_FAILED,
                                 "no step arrives within %.6g s at %.6g steps/s; give a "
                                 "longer --seconds or a higher --rate",
                                 options->seconds, (double)load->states * options->rate);
            arrivals = &poisson;
        }
        for (int way = 0; way < CY_WAYS && code == CY_EXIT_OK; way++)
            code = measure_once(load, (cy_way)way, arrivals, limit_s, &verdicts[way]);
    }
    for (int way = 0; way < CY_WAYS && code == CY_EXIT_OK; way++) {
        settle(&verdicts[way], verdicts[way].trials[0].rate);
        verdicts[way].found = verdicts[way].trial.met;
    }
    cy_arrivals_free(&poisson);
    return code;
}
