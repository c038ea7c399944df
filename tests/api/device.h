/* The device that the suites run on, and how large their cases are there. The environment says it, so that one
 * program tests every device:
 *     CARRY_TEST_DEVICE   what carry_model_options.device takes; unset: the default
 *     CARRY_TEST_EXACT    0: sessions on CUDA without `exact`; else with it, since most suites compare bits */
#ifndef TESTS_API_DEVICE_H
#define TESTS_API_DEVICE_H

#include <carry/carry.h>

#include <stdbool.h>

/* Sizes of cases, by backend and sanitizer. An emulated CUDA thread costs about what a hundred steps of a unit do on
 * the CPU. */
typedef struct test_sizes {
    size_t long_steps; /* of the run that must stay bounded */
    size_t cut_steps;  /* of a row that is cut in many ways ... */
    size_t beyond;     /* ... and of one that is longer */
    size_t mix_rows;   /* of a large batch of rows of all lengths */
    size_t many;       /* rows of a very large batch */
    size_t most_units; /* models with wider layers are left out */
} test_sizes;

const test_sizes *sizes(void);

bool on_cuda(void);

/* Options for opening a model on the device of the tests. */
const carry_model_options *model_options(void);

/* `given` (NULL: defaults), with `exact` where the device needs it for the promise of same bits. */
carry_session_options session_options(const carry_session_options *given);

#endif
