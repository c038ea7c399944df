/* The arrivals through carry_batcher: this thread submits each when it is due, a worker's tells when it is done. */
#include "load.h"

#include "progress.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_S 2e-4 /* how often the end of a trial looks whether all is done */

int cy_batcher_way_open(cy_server *server)
{
    cy_load *load = server->load;
    carry_graph_shape graphs[8];
    carry_session_options session = cy_load_session(load, graphs);
    carry_batcher_options options = {.size = sizeof options, .session = &session};
    if (carry_batcher_open(&server->batcher, load->model, &options) != CARRY_OK)
        return cy_load_failed(load);
    for (uint64_t i = 0; i < load->states; i++)
        if (carry_batcher_state_open(server->batcher, &server->states[i]) != CARRY_OK)
            return cy_load_failed(load);
    server->places = calloc(load->info.outputs + 1, sizeof *server->places);
    server->out = calloc(load->info.outputs + 1, sizeof *server->out);
    if (server->places == NULL || server->out == NULL) return cy_load_memory();
    for (size_t o = 0; o < load->info.outputs; o++) {
        size_t items = load->outputs[o].has_time ? load->most_steps : 1;
        size_t numbers = items * (size_t)load->outputs[o].width;
        server->places[o] = calloc(load->states, numbers * sizeof(float));
        if (server->places[o] == NULL) return cy_load_memory();
        server->out[o] = (carry_array){.size = sizeof server->out[o],
                                       .bytes = numbers * sizeof(float)};
    }
    return CY_EXIT_OK;
}

void cy_batcher_way_close(cy_server *server)
{
    carry_batcher_close(&server->batcher);
    for (size_t o = 0; server->places != NULL && o < server->load->info.outputs; o++)
        free(server->places[o]);
    free(server->places);
    free(server->out);
}

static void on_done(void *user, const carry_result *result)
{
    cy_mark *mark = user;
    cy_server *server = mark->server;
    if (result->status == CARRY_OK)
        cy_server_answer(server, (size_t)(mark - server->marks), cy_clock_seconds());
    else if (result->status != CARRY_E_CANCELLED &&
             atomic_fetch_add(&server->failed, 1) == 0)
        snprintf(server->sentence, sizeof server->sentence, "%s", result->sentence);
}

static int submit(cy_server *server, size_t index)
{
    const cy_load *load = server->load;
    const cy_arrival *arrival = &server->arrivals->items[index];
    for (size_t o = 0; o < load->info.outputs; o++)
        server->out[o].data =
            (char *)server->places[o] + (size_t)arrival->sequence * server->out[o].bytes;
    carry_request request = {
        .size = sizeof request,
        .state = server->states[arrival->sequence],
        .steps = arrival->steps,
        .input = {.size = sizeof request.input,
                  .data = (void *)(uintptr_t)cy_load_input(load, index, arrival->steps),
                  .dtype = load->input.dtype,
                  .bytes = arrival->steps * load->step_bytes},
        .outputs = server->out,
        .output_count = load->info.outputs,
        .on_done = on_done,
        .user = &server->marks[index]};
    if (carry_batcher_submit(server->batcher, &request, CARRY_WAIT_FOR_ROOM, NULL) !=
        CARRY_OK)
        return cy_load_failed(load);
    return CY_EXIT_OK;
}

/* Takes back what no call has begun, and waits for the call in flight. */
static int cancel_all(cy_server *server)
{
    for (uint64_t i = 0; i < server->load->states; i++)
        if (carry_batcher_cancel_state(server->batcher, server->states[i], NULL) !=
            CARRY_OK)
            return cy_load_failed(server->load);
    return CY_EXIT_OK;
}

int cy_batcher_way_serve(cy_server *server)
{
    const cy_arrivals *arrivals = server->arrivals;
    carry_batcher_info before = {.size = sizeof before}, after = {.size = sizeof after};
    int code = CY_EXIT_OK;
    size_t next = 0;
    if (carry_batcher_get_info(server->batcher, &before) != CARRY_OK)
        return cy_load_failed(server->load);
    for (; code == CY_EXIT_OK && next < arrivals->count; next++) {
        double now_s = cy_clock_seconds();
        double due_s = server->start_s + arrivals->items[next].at_s;
        if (cy_server_ends(server, now_s) || due_s >= server->end_s) break;
        if (due_s > now_s) cy_sleep_until(due_s);
        code = submit(server, next);
    }
    while (code == CY_EXIT_OK && atomic_load(&server->answered) < next) {
        double now_s = cy_clock_seconds();
        if (cy_server_ends(server, now_s)) {
            code = cancel_all(server);
            break;
        }
        cy_sleep_until(now_s + LOOK_S);
    }
    /* also after a failure: the marks and inputs are not ours before that */
    if (carry_batcher_drain(server->batcher) != CARRY_OK ||
        carry_batcher_get_info(server->batcher, &after) != CARRY_OK)
        return cy_load_failed(server->load);
    server->calls = after.calls - before.calls;
    server->rows_called = after.rows - before.rows;
    return code;
}
