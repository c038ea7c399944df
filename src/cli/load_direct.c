/* One call per arrival, and fixed windows: one thread that waits, calls, waits.
 *
 * Each:     wait until the next arrival is due, run it alone.
 * Windows:  every collect_s take all that is due, run it together; what has a second arrival of the same sequence
 *           goes into a second call right after, so that every arrival has an answer of its own. */
#include "load.h"

#include "progress.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CALL_ROWS \
    4096 /* a call of more is cut into several, as the session would do inside */
#define CALL_STEPS 16384

static int make_arrays(cy_server *server)
{
    const cy_load *load = server->load;
    uint64_t rows = server->way == CY_EACH ? 1 : CALL_ROWS;
    server->call_rows = (uint32_t)(load->states < rows ? load->states : rows);
    server->call_steps = load->most_steps > CALL_STEPS ? load->most_steps : CALL_STEPS;
    if ((uint64_t)server->call_rows * load->most_steps < server->call_steps)
        server->call_steps = (size_t)server->call_rows * load->most_steps;
    server->taken = calloc(load->states, sizeof *server->taken);
    server->rows = calloc(server->call_rows, sizeof *server->rows);
    server->states_of_rows = calloc(server->call_rows, sizeof *server->states_of_rows);
    server->offsets = calloc((size_t)server->call_rows + 1, sizeof *server->offsets);
    server->fed = calloc(server->call_steps, load->step_bytes);
    server->out = calloc(load->info.outputs + 1, sizeof *server->out);
    if (server->taken == NULL || server->rows == NULL || server->states_of_rows == NULL ||
        server->offsets == NULL || server->fed == NULL || server->out == NULL)
        return cy_load_memory();
    for (size_t o = 0; o < load->info.outputs; o++) {
        size_t items = load->outputs[o].has_time ? server->call_steps : server->call_rows;
        size_t bytes = items * (size_t)load->outputs[o].width * sizeof(float);
        server->out[o] = (carry_array){
            .size = sizeof server->out[o], .data = malloc(bytes), .bytes = bytes};
        if (server->out[o].data == NULL) return cy_load_memory();
    }
    return CY_EXIT_OK;
}

int cy_direct_open(cy_server *server)
{
    cy_load *load = server->load;
    carry_graph_shape graphs[8];
    carry_session_info info = {.size = sizeof info};
    carry_session_options wants = cy_load_session(load, graphs);
    if (carry_session_open(&server->session, load->model, &wants) != CARRY_OK ||
        carry_session_get_info(server->session, &info) != CARRY_OK)
        return cy_load_failed(load);
    load->exact = (int)info.exact;
    for (uint64_t i = 0; i < load->states; i++)
        if (carry_state_open(server->session, &server->states[i]) != CARRY_OK)
            return cy_load_failed(load);
    return make_arrays(server);
}

void cy_direct_close(cy_server *server)
{
    carry_session_close(&server->session);
    for (size_t o = 0; server->out != NULL && o < server->load->info.outputs; o++)
        free(server->out[o].data);
    free(server->out);
    free(server->taken);
    free(server->pending);
    free(server->rows);
    free(server->states_of_rows);
    free(server->offsets);
    free(server->fed);
}

/* Takes of the pending arrivals what one call can have: each sequence once, its earliest. Keeps the order of the rest. */
static size_t take_call(cy_server *server, size_t *pending_count)
{
    const cy_load *load = server->load;
    size_t rows = 0, kept = 0;
    server->call++;
    server->offsets[0] = 0;
    for (size_t i = 0; i < *pending_count; i++) {
        size_t index = server->pending[i];
        const cy_arrival *arrival = &server->arrivals->items[index];
        uint64_t end = server->offsets[rows] + arrival->steps;
        if (rows == server->call_rows || end > server->call_steps) {
            /* full: the rest stays as it is */
            memmove(server->pending + kept, server->pending + i,
                    (*pending_count - i) * sizeof *server->pending);
            kept += *pending_count - i;
            break;
        }
        if (server->taken[arrival->sequence] == server->call) {
            server->pending[kept++] = index;
            continue;
        }
        server->taken[arrival->sequence] = server->call;
        memcpy(server->fed + server->offsets[rows] * load->step_bytes,
               cy_load_input(load, index, arrival->steps),
               arrival->steps * load->step_bytes);
        server->states_of_rows[rows] = server->states[arrival->sequence];
        server->rows[rows++] = index;
        server->offsets[rows] = end;
    }
    *pending_count = kept;
    return rows;
}

static int run_call(cy_server *server, size_t rows)
{
    const cy_load *load = server->load;
    carry_array in = {.size = sizeof in,
                      .data = server->fed,
                      .dtype = load->input.dtype,
                      .bytes = server->offsets[rows] * load->step_bytes};
    carry_batch batch = {.size = sizeof batch,
                         .rows = rows,
                         .states = server->states_of_rows,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = server->out,
                         .output_count = load->info.outputs,
                         .row_offsets = server->offsets};
    if (carry_run(server->session, &batch) != CARRY_OK) return cy_load_failed(load);
    server->calls++;
    server->rows_called += rows;
    double now_s = cy_clock_seconds();
    for (size_t r = 0; r < rows; r++)
        cy_server_answer(server, server->rows[r], now_s);
    return CY_EXIT_OK;
}

/* The first end of a window that has something in it, and is not past already. */
static double next_end(const cy_server *server, double end_s, double due_s, double now_s)
{
    double collect_s = server->load->options->collect_s;
    if (end_s < due_s) end_s += ceil((due_s - end_s) / collect_s) * collect_s;
    return end_s > now_s ? end_s : now_s;
}

int cy_direct_serve(cy_server *server)
{
    const cy_arrivals *arrivals = server->arrivals;
    size_t next = 0, pending = 0;
    double window_end_s = server->start_s;
    int code = CY_EXIT_OK;
    if (server->pending_room < arrivals->count) {
        free(server->pending);
        server->pending = malloc(arrivals->count * sizeof *server->pending);
        server->pending_room = server->pending != NULL ? arrivals->count : 0;
        if (server->pending == NULL) return cy_load_memory();
    }
    while (code == CY_EXIT_OK && next < arrivals->count) {
        double now_s = cy_clock_seconds();
        double until_s = server->start_s + arrivals->items[next].at_s;
        if (server->way == CY_WINDOWS)
            until_s = window_end_s = next_end(server, window_end_s, until_s, now_s);
        if (cy_server_ends(server, now_s) || until_s >= server->end_s) break;
        if (until_s > now_s) {
            cy_sleep_until(until_s);
            now_s = cy_clock_seconds();
        }
        do
            server->pending[pending++] = next++;
        while (server->way == CY_WINDOWS && next < arrivals->count &&
               server->start_s + arrivals->items[next].at_s <= now_s);
        while (code == CY_EXIT_OK && pending > 0 &&
               !cy_server_ends(server, cy_clock_seconds())) {
            size_t rows = take_call(server, &pending);
            code = run_call(server, rows);
        }
        window_end_s += server->load->options->collect_s;
        if (pending > 0) break;
    }
    return code;
}
