/* Drawing the next token from a model's output; the same seed gives the same draws everywhere. */
#ifndef CY_CLI_SAMPLER_H
#define CY_CLI_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

/* xoshiro256** of Blackman and Vigna, its state filled from the seed by splitmix64. */
typedef struct cy_random {
    uint64_t state[4];
} cy_random;

void cy_random_seed(cy_random *random, uint64_t seed);
uint64_t cy_random_next(cy_random *random);

/* In [0, 1): the upper 53 bits of the next number. */
double cy_random_unit(cy_random *random);

typedef enum cy_scores {
    CY_SCORES_LOGITS,       /* token i has weight exp(scores[i] / temperature) */
    CY_SCORES_PROBABILITIES /* token i has weight scores[i] to the power 1 / temperature */
} cy_scores;

/* The token drawn; temperature 0: the likeliest, of equals the first. `weights` is room for `count`
 * numbers. -1 when the scores are no distribution (a NaN, or none above zero). */
int64_t cy_sample(cy_random *random, const float *scores, size_t count, cy_scores kind,
                  double temperature, double *weights);

#endif
