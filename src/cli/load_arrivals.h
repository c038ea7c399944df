/* Arrivals: when which sequence gets how many steps. */
#ifndef CY_CLI_LOAD_ARRIVALS_H
#define CY_CLI_LOAD_ARRIVALS_H

#include <stddef.h>
#include <stdint.h>

typedef struct cy_arrival {
    double at_s; /* after the start; never falls */
    uint32_t sequence, steps;
} cy_arrival;

typedef struct cy_arrivals {
    cy_arrival *items;
    size_t count, room;
    uint32_t sequences;  /* the highest number and one */
    uint32_t most_steps; /* of one arrival */
} cy_arrivals;

enum { CY_ARRIVALS_MOST = 1 << 23, CY_SEQUENCES_MOST = (1 << 24) - 1 };

/* One step each, `rate` of them a second over all `sequences`, for `seconds`, at most CY_ARRIVALS_MOST: the same for
 * the same seed. Each sequence's own arrivals are a Poisson process of rate / sequences. Reuses the items. */
int cy_arrivals_poisson(cy_arrivals *arrivals, uint64_t sequences, double rate,
                        double seconds, uint64_t seed);

/* All due at once: what measures how fast a server is when it never waits. */
int cy_arrivals_burst(cy_arrivals *arrivals, uint64_t sequences, size_t count,
                      uint64_t seed);

/* A recorded file: on each line the time in seconds, the number of the sequence from 0, the number of steps; '#' begins
 * a comment; times never fall. Sequences must be below `sequences` (0: CY_SEQUENCES_MOST). A wrong line
 * is refused with its number. */
int cy_arrivals_read(cy_arrivals *arrivals, const char *path, uint64_t sequences);

void cy_arrivals_free(cy_arrivals *arrivals);

#endif
