/* What the suites of the API share: a model with a session, calls in one line, golden files. */
#ifndef TESTS_API_SUPPORT_H
#define TESTS_API_SUPPORT_H

#include "device.h"
#include "model_builder.h"

#include <criterion/criterion.h>

/* A model, a session, and the widths a caller needs. */
typedef struct rig {
    carry_model *model;
    carry_session *session;
    size_t in;        /* numbers per step of the input */
    size_t out;       /* width of output 0 */
    size_t ids;       /* 0: numbers */
    int out_time;     /* output 0 has a time axis */
    size_t state[32]; /* widths of the state tensors */
    size_t state_tensors;
} rig;

#define OK(call)                                                                 \
    do {                                                                         \
        carry_status ok_ = (call);                                               \
        cr_assert_eq(ok_, CARRY_OK, "%s: %s: %s", #call, carry_status_name(ok_), \
                     carry_error());                                             \
    } while (0)

/* The call fails with `code` and leaves a sentence that holds `words`. */
#define FAILS(code, words, call)                                                     \
    do {                                                                             \
        carry_status got_ = (call);                                                  \
        cr_expect_eq(got_, (code), "%s: got %s (%s), expected %s", #call,            \
                     carry_status_name(got_), carry_error(), #code);                 \
        cr_expect(strstr(carry_error(), (words)) != NULL,                            \
                  "%s: sentence is '%s', expected '%s' in it", #call, carry_error(), \
                  (words));                                                          \
    } while (0)

rig rig_open(const model_spec *spec, const carry_session_options *options);
rig rig_of(carry_model *model, const carry_session_options *options);
void rig_close(rig *r);

/* A model out of a foreign file of tests/golden. */
carry_model *open_foreign(const char *path);

/* Random input for rows x steps of the model (float32, or int32 ids); free it. */
void *random_input(const rig *r, size_t rows, size_t steps, uint64_t seed);

/* A batch over output 0; every pointer but x and y may be NULL. */
typedef struct call_spec {
    size_t rows, max_steps;
    const carry_state *states;
    const uint32_t *steps;
    const uint8_t *reset;
    const void *x;
    float *y;
    carry_mode mode;
    carry_status *row_status;
} call_spec;
carry_status run_call(const rig *r, const call_spec *call);

/* Numbers of output 0 for rows x steps in `mode`. */
size_t output_count(const rig *r, size_t rows, size_t steps, carry_mode mode);

/* Opens `count` states. */
void open_states(const rig *r, carry_state *states, size_t count);

/* Saves states into a fresh block; free it. */
void *save(const rig *r, const carry_state *states, size_t count, size_t *bytes);

/* The same bits? Names the first place that differs. */
#define SAME_BITS(a, b, count)                                                        \
    do {                                                                              \
        size_t at_ = first_difference((a), (b), (count));                             \
        cr_assert_eq(at_, (size_t)(count), "%s and %s differ at %zu: %.9g, %.9g", #a, \
                     #b, at_, (double)(a)[at_], (double)(b)[at_]);                    \
    } while (0)
size_t first_difference(const float *a, const float *b, size_t count);

/* Largest |a - b| / max(1, |b|); infinite where only one of them is a NaN. */
double worst_error(const float *a, const float *b, size_t count);

/* A .npy file as NumPy writes it (C order, little-endian, f4 or i4). */
typedef struct npy {
    size_t rank, shape[4], count;
    int is_int;
    void *data; /* float or int32_t; free it */
} npy;
npy npy_read(const char *path);

#endif
