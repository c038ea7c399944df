/* A bar with rate and time left on stderr: only on a terminal, and only when the run is long. */
#ifndef CY_CLI_PROGRESS_H
#define CY_CLI_PROGRESS_H

#include <stdint.h>

/* Starts a bar over `total` of `unit` ("steps"); nothing is drawn for the first second. */
void cy_progress_start(uint64_t total, const char *unit);

/* `done` of total so far; draws at most ten times a second. */
void cy_progress_set(uint64_t done);

/* Wipes the bar off the line; fine when there is none. */
void cy_progress_clear(void);

/* Seconds on a clock that only goes forward. */
double cy_clock_seconds(void);

#endif
