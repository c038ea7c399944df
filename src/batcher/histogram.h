/* Times in a histogram of fixed size: buckets of equal width within each power of two, so that a quantile is known to a
 * sixteenth of itself. */
#ifndef CY_BATCHER_HISTOGRAM_H
#define CY_BATCHER_HISTOGRAM_H

#include <stdint.h>

#define CY_HISTOGRAM_PARTS   16 /* of a power of two */
#define CY_HISTOGRAM_BUCKETS (40 * CY_HISTOGRAM_PARTS)

typedef struct cy_histogram {
    uint64_t total;
    uint64_t count[CY_HISTOGRAM_BUCKETS];
} cy_histogram;

void cy_histogram_add(cy_histogram *histogram, uint64_t value);

/* The least upper bound of a bucket below which at least `share` (0 .. 1) of the values lie; 0 without any. */
uint64_t cy_histogram_quantile(const cy_histogram *histogram, double share);

#endif
