/* carry bench --states: the order in which things are measured. */
#include "load.h"

#include "progress.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

/* The arrivals decide how many states there are, and how long the longest of them is. */
static int read_arrivals(cy_load *load, cy_arrivals *trace)
{
    const cy_load_options *options = load->options;
    load->states = options->states;
    load->most_steps = 1;
    if (options->trace == NULL) {
        double count = options->rate * (double)options->states * options->seconds;
        if (count > CY_ARRIVALS_MOST)
            return cy_report(CY_EXIT_FAILED,
                             "%.6g steps/s for %.6g s are more than %d arrivals; give a "
                             "shorter --seconds",
                             options->rate * (double)options->states, options->seconds,
                             CY_ARRIVALS_MOST);
        return CY_EXIT_OK;
    }
    int code = cy_arrivals_read(trace, options->trace, options->states);
    if (load->states == 0) load->states = trace->sequences;
    load->most_steps = trace->most_steps;
    return code;
}

/* Said of all trials together: an answer too many or out of turn is an error of carry, not a figure. */
static int check(const cy_verdict *verdict)
{
    if (verdict->repeated == 0 && verdict->disordered == 0 &&
        verdict->done + verdict->undone == verdict->arrivals)
        return CY_EXIT_OK;
    return cy_report(
        CY_EXIT_FAILED,
        "%s: of %llu arrivals %llu were done and %llu not, %llu answered "
        "twice, %llu out of their order",
        cy_way_names[verdict->way], (unsigned long long)verdict->arrivals,
        (unsigned long long)verdict->done, (unsigned long long)verdict->undone,
        (unsigned long long)verdict->repeated, (unsigned long long)verdict->disordered);
}

static int measure(cy_load *load, const cy_arrivals *trace, cy_verdict *verdicts)
{
    const cy_load_options *options = load->options;
    cy_comparison results[CY_MEMORY_WAYS];
    int code = cy_load_compare(load, results);
    if (code != CY_EXIT_OK) return code;
    if (options->rate > 0 || options->trace != NULL)
        code = cy_load_measure(load, options->trace != NULL ? trace : NULL, verdicts);
    else
        for (int way = 0; way < CY_WAYS && code == CY_EXIT_OK; way++)
            code = cy_load_search(load, (cy_way)way, &verdicts[way]);
    cy_progress_clear();
    for (int way = 0; way < CY_WAYS && code == CY_EXIT_OK; way++)
        code = check(&verdicts[way]);
    if (code == CY_EXIT_OK && options->plot != NULL) code = cy_load_plot(load, verdicts);
    if (code == CY_EXIT_OK)
        code = options->json ? cy_load_json(load, verdicts, results)
                             : cy_load_table(load, verdicts, results);
    return code;
}

int cy_load_bench(const cy_load_options *options)
{
    cy_load load = {.options = options};
    cy_arrivals trace = {0};
    cy_verdict *verdicts = calloc(CY_WAYS, sizeof *verdicts);
    int code = verdicts != NULL ? read_arrivals(&load, &trace) : cy_load_memory();
    if (code == CY_EXIT_OK) code = cy_load_prepare(&load);
    if (code == CY_EXIT_OK) code = measure(&load, &trace, verdicts);
    cy_progress_clear();
    cy_load_release(&load);
    cy_arrivals_free(&trace);
    free(verdicts);
    return code;
}
