/* One way of serving: opened once, run for every trial. */
#include "load.h"

#include "progress.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

const char *const cy_way_names[CY_WAYS] = {"batcher", "one call each", "windows"};
const char *const cy_way_keys[CY_WAYS] = {"batcher", "each", "windows"};

int cy_server_open(cy_server *server, cy_load *load, cy_way way)
{
    memset(server, 0, sizeof *server);
    server->load = load;
    server->way = way;
    server->states = calloc(load->states, sizeof *server->states);
    server->last = calloc(load->states, sizeof *server->last);
    if (server->states == NULL || server->last == NULL) return cy_load_memory();
    prctl(PR_SET_TIMERSLACK, 1000ul); /* sleeps end within a microsecond, not fifty */
    return way == CY_BATCHER ? cy_batcher_way_open(server) : cy_direct_open(server);
}

void cy_server_close(cy_server *server)
{
    if (server->way == CY_BATCHER) cy_batcher_way_close(server);
    else cy_direct_close(server);
    free(server->states);
    free(server->last);
    free(server->marks);
    memset(server, 0, sizeof *server);
}

int cy_server_run(cy_server *server, const cy_arrivals *arrivals, double limit_s,
                  int stops, cy_trial *trial)
{
    if (server->room < arrivals->count) {
        free(server->marks);
        server->marks = malloc(arrivals->count * sizeof *server->marks);
        server->room = server->marks != NULL ? arrivals->count : 0;
        if (server->marks == NULL) return cy_load_memory();
    }
    for (size_t i = 0; i < arrivals->count; i++)
        server->marks[i] = (cy_mark){.server = server, .latency_s = -1};
    memset(server->last, 0, server->load->states * sizeof *server->last);
    server->arrivals = arrivals;
    server->deadline_s = server->load->options->deadline_s;
    server->most_late = stops == CY_TRIAL_STOPS ? arrivals->count / 100 : UINT64_MAX;
    server->calls = server->rows_called = 0;
    atomic_store(&server->answered, 0);
    atomic_store(&server->late, 0);
    atomic_store(&server->repeated, 0);
    atomic_store(&server->disordered, 0);
    atomic_store(&server->failed, 0);
    server->start_s =
        cy_clock_seconds() + 1e-3; /* the first arrival is not late already */
    server->end_s = server->start_s + limit_s;

    int code = server->way == CY_BATCHER ? cy_batcher_way_serve(server)
                                         : cy_direct_serve(server);
    double now_s = cy_clock_seconds();
    *trial = (cy_trial){.way = server->way};
    if (code == CY_EXIT_OK && atomic_load(&server->failed) > 0)
        code = cy_report(CY_EXIT_FAILED, "%s: %s", server->load->options->model,
                         server->sentence);
    if (code == CY_EXIT_OK) code = cy_server_conclude(server, now_s, trial);
    return code;
}
