/* What the command says when something fails: one sentence on stderr, and the exit code for it. */
#ifndef CY_CLI_REPORT_H
#define CY_CLI_REPORT_H

#include <stdio.h>

/* Exit codes of the command. */
enum { CY_EXIT_OK = 0, CY_EXIT_FAILED = 1, CY_EXIT_USAGE = 2 };

/* Prints "carry: sentence" on stderr and returns `code`, so that failing is one statement:
 *     return cy_report(CY_EXIT_FAILED, "%s: %s", path, strerror(errno));
 * Control characters, which names out of a file may hold, come out as '?'. */
int cy_report(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text out of a file, fit for a terminal: control characters as '?'. */
void cy_print_text(FILE *stream, const char *text);

/* `text` as UTF-8, as JSON has to be and a file's name need not: U+FFFD for each byte that is no part of a
 * character. The caller frees it; NULL without memory. */
char *cy_utf8_text(const char *text);

/* Flushes stdout. CY_EXIT_OK, or CY_EXIT_FAILED with a sentence when what was printed got lost. */
int cy_finish_stdout(void);

#endif
