/* A session under test, and beside it what each of its states must hold: values in host memory that a plain run (one row,
 * one step a call, in a session of its own) moves on. */
#ifndef TESTS_SOAK_WORLD_H
#define TESTS_SOAK_WORLD_H

#include <carry/carry.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_TENSORS = 8, STALE = 64 };

typedef struct sequence {
    carry_state state;
    float *values; /* [state_floats], all tensors, what the state must hold */
    uint64_t used_run;
    uint64_t number; /* of its opening */
} sequence;

/* What several worlds share: models of the same shapes, and a place to hand saved states over. */
typedef struct shared shared;

typedef struct world {
    shared *common;
    size_t in, out,
        ids; /* widths; ids: size of the vocabulary, 0: the input is numbers */
    size_t tensors, width[MOST_TENSORS], offset[MOST_TENSORS], state_floats;
    uint32_t max_states;
    int model; /* of common->models that is in force */

    carry_session *session, *plain;
    carry_state plain_state;
    sequence *open;           /* [max_states], the first `count` */
    size_t count, most;       /* most: that were open at once */
    carry_state stale[STALE]; /* handles that were closed */
    size_t stale_count;

    uint64_t seed, first_seed;
    unsigned long long operation;
    uint64_t runs, opened, closed, swept, rejected;
    char path[128]; /* for pool files */
} world;

struct shared {
    carry_model *models[2]; /* of one spec, other weights */
    int spec;
    struct mailbox *mailbox;
};

/* Prints the seed, the operation and the sentence, and ends the process with 1. */
void fail(const world *w, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

#define MUST(w, call)                                                     \
    do {                                                                  \
        carry_status must_ = (call);                                      \
        if (must_ != CARRY_OK) fail((w), "%s: %s", #call, carry_error()); \
    } while (0)

/* The call must fail with `code`. */
#define MUST_FAIL(w, code, call)                                                 \
    do {                                                                         \
        carry_status got_ = (call);                                              \
        if (got_ != (code))                                                      \
            fail((w), "%s gave %s, expected %s", #call, carry_status_name(got_), \
                 carry_status_name(code));                                       \
    } while (0)

uint64_t pick(world *w, uint64_t below); /* 0 .. below - 1 */
float number(world *w);                  /* in [-1, 1) */

world *world_open(shared *common, const char *device, uint32_t max_states, uint64_t seed);
void world_close(world *w);

/* Notes that a state was opened; its values are a copy of `values`, or zeros. */
sequence *world_add(world *w, carry_state state, const float *values);
void world_remove(world *w,
                  sequence *s);        /* the state is closed: its handle is stale now */
void world_use(world *w, sequence *s); /* it was used just now */

/* Opens `count` states of random values, as the history's beginning. */
void world_begin(world *w, size_t count);

/* Moves `values` (NULL: from zeros, not kept) on by `steps` steps of x, one at a time; y: [steps][out]. */
void plain_run(world *w, float *values, const void *x, size_t steps, float *y);

/* The state of `session` holds `values`. */
void world_compare(world *w, carry_session *session, carry_state state,
                   const float *values);

/* The state holds what it must. */
void world_check(world *w, const sequence *s);

/* So do all, and the statistics add up. */
void world_check_all(world *w);
void world_check_pool(world *w);

/* One operation, chosen by the seed. */
void operate(world *w);

#endif
