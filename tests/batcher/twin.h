/* What the suites of the batcher share: a batcher with a plain session of the same model beside it; requests that know
 * what they must give; a gate that holds a worker back, so that a test decides what is queued when a call begins. */
#ifndef TESTS_BATCHER_TWIN_H
#define TESTS_BATCHER_TWIN_H

#include "support.h"

#include <carry/carry_batcher.h>
#include <pthread.h>
#include <stdatomic.h>

enum { MOST_OUTPUTS = 4 };

typedef struct twin {
    rig plain; /* the model, and a session of one row */
    carry_batcher *batcher;
    size_t outputs;
    size_t width[MOST_OUTPUTS];
    int has_time[MOST_OUTPUTS];
} twin;

#define OPTIONS(...) \
    (&(carry_batcher_options){.size = sizeof(carry_batcher_options), __VA_ARGS__})

/* `options`: NULL for defaults. The sessions of the batcher have one thread, and `exact` where the device needs it. */
twin twin_open(const model_spec *spec, const carry_batcher_options *options);
void twin_close(twin *t);

/* One sequence, in the batcher and in the plain session. */
typedef struct sequence {
    carry_state state, shadow;
} sequence;
sequence sequence_open(const twin *t);
void sequence_close(const twin *t, sequence *s);
void sequences_open(const twin *t, sequence *s, int count);

/* One request: set what it should be between job_make and job_submit. */
typedef struct job {
    sequence *of;
    uint32_t steps, reset;
    carry_mode mode;
    unsigned unwanted; /* bit o: output o is not asked for */
    size_t given;      /* outputs given; job_make: all of the model's */
    void *x;           /* [steps, in] */
    float *y[MOST_OUTPUTS];
    carry_ticket ticket;
    carry_result result;
    atomic_int answers;           /* calls of on_done */
    atomic_int turn;              /* the how-manieth of all jobs it was, from 1 */
    atomic_ullong calls;          /* of the batcher, when it was answered */
    void (*again)(struct job *j); /* called by on_done, NULL: nothing */
    const twin *t;
} job;

void job_make(job *j, const twin *t, sequence *of, uint32_t steps, uint64_t seed);
void job_free(job *j);

/* Of one sequence each. */
void jobs_make(job *jobs, const twin *t, sequence *s, int count, uint32_t steps);
void jobs_free(job *jobs, int count);
carry_request job_request(job *j, carry_array *outputs /* [MOST_OUTPUTS] */);
carry_status job_submit(job *j, uint32_t flags);

/* Submits; the test fails if it is refused. */
void job_send(job *j);

/* Waits until the job is done, which it must be once, with CARRY_OK, all its steps, and the bits of the plain session,
 * whose sequence advances too. So jobs of a sequence are checked in the order of their submission. */
void job_check(job *j);

/* Waits; the job must have ended with this code, and these words in its sentence. The plain session advances by the
 * steps that were done. */
void job_check_failed(job *j, carry_status status, const char *words);

/* A closed gate holds a worker's session, so that the worker begins no call. */
typedef struct gate {
    pthread_t thread;
    carry_batcher *batcher;
    size_t worker;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside, open;
} gate;
void gate_shut(gate *g, carry_batcher *batcher, size_t worker);
void gate_open(gate *g);

carry_batcher_info batcher_info(const twin *t);

#endif
