/* carry bench --states: many sequences at once, under load. What its files share.
 *
 *   load_arrivals.c   when which sequence gets how many steps: a Poisson process, or a recorded file
 *   load_model.c      what every way of serving needs: the model, its sessions' options, inputs
 *   load_trial.c      the record of a trial: what the ways say of it while it runs, and what it comes to
 *   load_server.c     one way of serving: opened once, run for every trial
 *   load_direct.c     one call per arrival, and fixed windows: one thread that waits, calls, waits
 *   load_batcher.c    the same arrivals through carry_batcher
 *   load_search.c     which rates are tried, how often, and what is said of them
 *   load_compare.c    stateful against stateless windows and round trips, without waiting
 *   load_report.c     table, JSON, plot
 *   load_bench.c      all of it, one after the other
 *
 * Latency is counted from the moment an arrival was due, whether or not anyone had time to take it then: a
 * server that falls behind cannot hide it by being asked less. */
#ifndef CY_CLI_LOAD_H
#define CY_CLI_LOAD_H

#include "device_options.h"
#include "load_arrivals.h"

#include <carry/carry.h>
#include <carry/carry_batcher.h>

#include <stdatomic.h>

/* What was asked for. */
typedef struct cy_load_options {
    const char *model, *trace, *plot; /* NULL: none */
    uint64_t states;                  /* 0: as many as the trace names */
    double rate;                      /* steps/s of each state; 0: search */
    double deadline_s, collect_s;     /* collect_s: of the fixed windows */
    double seconds;                   /* of a trial */
    uint64_t window, threads, seed;
    int json;
    cy_device_options on;
} cy_load_options;

/* The model, and what all ways share. */
typedef struct cy_load {
    const cy_load_options *options;
    carry_model *model;
    carry_model_info info;
    carry_port_info input;
    carry_port_info *outputs; /* [info.outputs] */
    uint64_t states, window;
    uint32_t most_steps; /* of one arrival */
    uint32_t max_rows;   /* of the sessions */
    size_t step_bytes;   /* of the input */
    size_t pool_steps;
    unsigned char *pool; /* [pool_steps][step_bytes]: steps that arrivals are fed from */
    int exact;           /* what the sessions promise */
} cy_load;

typedef enum cy_way { CY_BATCHER, CY_EACH, CY_WINDOWS, CY_WAYS } cy_way;
extern const char
    *const cy_way_names[CY_WAYS];              /* "batcher", "one call each", "windows" */
extern const char *const cy_way_keys[CY_WAYS]; /* the same in JSON */

/* One stretch of arrivals served in one way. */
typedef struct cy_trial {
    cy_way way;
    double rate;           /* arrivals per second over all states, as planned */
    uint64_t arrivals;     /* due by the end */
    uint64_t done, undone; /* of these */
    uint64_t repeated;     /* told more than once: must be 0 */
    uint64_t disordered;   /* done before an earlier one of their sequence: must be 0 */
    uint64_t steps;        /* done */
    uint64_t calls, rows;  /* what was called, a row for each part of a cut arrival */
    double seconds;        /* from the first moment to the last answer */
    double p50, p99, p999; /* seconds; an undone arrival counts with its age */
    int met;               /* p99 within the deadline, and nothing undone */
} cy_trial;

/* What is known of one arrival. */
typedef struct cy_mark {
    struct cy_server *server;
    float latency_s; /* negative: not done */
    uint32_t answers;
} cy_mark;

/* One way of serving, with its session or batcher and all states. */
typedef struct cy_server {
    cy_load *load;
    cy_way way;
    carry_session *session; /* direct */
    carry_batcher *batcher;
    carry_state *states; /* [load->states] */

    /* of the trial under way */
    const cy_arrivals *arrivals;
    cy_mark *marks;     /* [arrivals->count] */
    size_t room;        /* of marks */
    uint32_t *last;     /* [states]: the number, from 1, of the last arrival done */
    double start_s;     /* on the clock */
    double end_s;       /* nothing is taken after it */
    uint64_t most_late; /* more late answers than this end the trial; UINT64_MAX: never */
    double deadline_s;
    atomic_ullong answered, late, repeated, disordered, failed;
    uint64_t calls, rows_called;
    char sentence[256]; /* of the first failure */

    /* direct: of one call */
    uint32_t call_rows; /* most of a call */
    size_t call_steps;  /* steps there is room for */
    uint32_t
        *taken; /* [states]: the call that has the state, so that none is in it twice */
    uint32_t call;
    size_t *pending; /* [pending_room]: arrivals collected, not yet in a call */
    size_t pending_room;
    size_t *rows; /* [call_rows]: the arrivals of the call */
    carry_state *states_of_rows;
    uint64_t *offsets; /* [call_rows + 1] */
    unsigned char *fed;
    carry_array *out; /* direct: [outputs] */

    /* batcher: an output place for each state, whose answers come one after the other */
    float **places; /* [outputs], each [states][most_steps or 1][width] */
} cy_server;

/* All return CY_EXIT_OK, or an exit code after a sentence. */

int cy_load_prepare(cy_load *load); /* model, inputs; options and most_steps are set */
void cy_load_release(cy_load *load);
int cy_load_failed(const cy_load *load); /* says carry_error() of the model */
int cy_load_memory(void);
carry_session_options cy_load_session(const cy_load *load, carry_graph_shape graphs[8]);
/* The steps that arrival number `index` brings. */
const void *cy_load_input(const cy_load *load, size_t index, uint32_t steps);

int cy_server_open(cy_server *server, cy_load *load, cy_way way);
void cy_server_close(cy_server *server);

/* Serves the arrivals until all are done, or `limit_s` after the start; with `stops` not 0 also as soon as p99
 * cannot be within the deadline any more. */
enum { CY_TRIAL_WHOLE = 0, CY_TRIAL_STOPS = 1 };
int cy_server_run(cy_server *server, const cy_arrivals *arrivals, double limit_s,
                  int stops, cy_trial *trial);

/* For the ways: an arrival was answered; sleeps until a time of the clock; whether the trial is over early. */
void cy_server_answer(cy_server *server, size_t index, double now_s);
void cy_sleep_until(double clock_s);
int cy_server_ends(cy_server *server, double now_s);

/* When the trial is over: what it came to. */
int cy_server_conclude(cy_server *server, double now_s, cy_trial *trial);

int cy_direct_open(cy_server *server);
int cy_direct_serve(cy_server *server);
void cy_direct_close(cy_server *server);
int cy_batcher_way_open(cy_server *server);
int cy_batcher_way_serve(cy_server *server);
void cy_batcher_way_close(cy_server *server);

/* One way, all rates that were tried. */
enum { CY_TRIALS_MOST = 64 };
typedef struct cy_verdict {
    cy_way way;
    int found;      /* the search: some rate met the deadline */
    cy_trial trial; /* the one of median p99 at that rate */
    double p99_least, p99_most;
    uint64_t repeats;
    cy_trial trials[CY_TRIALS_MOST]; /* all */
    size_t count;
    uint64_t arrivals, done, undone, repeated, disordered; /* over all trials */
} cy_verdict;

/* The highest rate under the deadline, for one way; the given rate or the trace for all of them, in turns. */
int cy_load_search(cy_load *load, cy_way way, cy_verdict *verdict);
int cy_load_measure(cy_load *load, const cy_arrivals *trace,
                    cy_verdict verdicts[CY_WAYS]);

typedef enum cy_memory_way {
    CY_STATEFUL,
    CY_WINDOW,
    CY_ROUND_TRIP,
    CY_MEMORY_WAYS
} cy_memory_way;
extern const char *const cy_memory_way_names[CY_MEMORY_WAYS];

typedef struct cy_comparison {
    uint64_t rows; /* of a call */
    double steps_per_s, us_per_step, us_least, us_most;
    uint64_t calls;
    double bytes_per_state;
} cy_comparison;

int cy_load_compare(cy_load *load, cy_comparison results[CY_MEMORY_WAYS]);

int cy_load_table(const cy_load *load, const cy_verdict verdicts[CY_WAYS],
                  const cy_comparison results[CY_MEMORY_WAYS]);
int cy_load_json(const cy_load *load, const cy_verdict verdicts[CY_WAYS],
                 const cy_comparison results[CY_MEMORY_WAYS]);
int cy_load_plot(const cy_load *load, const cy_verdict verdicts[CY_WAYS]);

/* The whole: prints what was asked for. */
int cy_load_bench(const cy_load_options *options);

#endif
