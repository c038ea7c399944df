/* Errors inside carry: a code to return and one sentence per thread to read. */
#ifndef CY_BASE_STATUS_H
#define CY_BASE_STATUS_H

#include <carry/carry.h>

/* Room for a sentence, its end included; a longer one is cut. */
#define CY_SENTENCE_BYTES 1024

/* Sets this thread's sentence and returns `code`, so that failing is one statement:
 *     return cy_fail(CARRY_E_FORMAT, "%s is [%lld], expected [%lld]", name, got, wanted);
 * An argument may be the present sentence itself (cy_error()): it is formatted before it is replaced. */
carry_status cy_fail(carry_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* This thread's sentence; never NULL. */
const char *cy_error(void);

#define CY_TRY(call)                             \
    do {                                         \
        carry_status cy_try_ = (call);           \
        if (cy_try_ != CARRY_OK) return cy_try_; \
    } while (0)

#define CY_CHECK(condition, code, ...)                         \
    do {                                                       \
        if (!(condition)) return cy_fail((code), __VA_ARGS__); \
    } while (0)

#endif
