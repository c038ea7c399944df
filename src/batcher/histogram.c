#include "batcher/histogram.h"

/* Values below 16 have a bucket each; those of 2^k .. 2^(k+1) - 1 share 16, each 2^(k-4) wide. */
static unsigned bucket_of(uint64_t value)
{
    if (value < CY_HISTOGRAM_PARTS) return (unsigned)value;
    unsigned power = 63 - (unsigned)__builtin_clzll(value);
    unsigned part = (unsigned)(value >> (power - 4)) & (CY_HISTOGRAM_PARTS - 1);
    unsigned bucket = (power - 3) * CY_HISTOGRAM_PARTS + part;
    return bucket < CY_HISTOGRAM_BUCKETS ? bucket : CY_HISTOGRAM_BUCKETS - 1;
}

static uint64_t largest_of(unsigned bucket)
{
    if (bucket < CY_HISTOGRAM_PARTS) return bucket;
    unsigned shift = bucket / CY_HISTOGRAM_PARTS - 1;
    uint64_t part = CY_HISTOGRAM_PARTS + bucket % CY_HISTOGRAM_PARTS;
    return ((part + 1) << shift) - 1;
}

void cy_histogram_add(cy_histogram *histogram, uint64_t value)
{
    histogram->count[bucket_of(value)]++;
    histogram->total++;
}

uint64_t cy_histogram_quantile(const cy_histogram *histogram, double share)
{
    double wanted = share * (double)histogram->total;
    uint64_t below = 0;
    for (unsigned bucket = 0; bucket < CY_HISTOGRAM_BUCKETS; bucket++) {
        below += histogram->count[bucket];
        if (below > 0 && (double)below >= wanted) return largest_of(bucket);
    }
    return 0;
}
