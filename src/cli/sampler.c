/* Drawing the next token from a model's output. */
#include "sampler.h"

#include <math.h>

void cy_random_seed(cy_random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        random->state[i] = z ^ z >> 31;
    }
}

static uint64_t rotated(uint64_t x, int left)
{
    return x << left | x >> (64 - left);
}

uint64_t cy_random_next(cy_random *random)
{
    uint64_t *s = random->state, result = rotated(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotated(s[3], 45);
    return result;
}

double cy_random_unit(cy_random *random)
{
    return (double)(cy_random_next(random) >> 11) * 0x1p-53;
}

int64_t cy_sample(cy_random *random, const float *scores, size_t count, cy_scores kind,
                  double temperature, double *weights)
{
    size_t best = 0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(scores[i])) return -1;
        if (scores[i] > scores[best]) best = i;
    }
    if (kind == CY_SCORES_PROBABILITIES && !(scores[best] > 0)) return -1;
    if (scores[best] == -INFINITY) return -1;
    if (temperature == 0 || scores[best] == INFINITY) return (int64_t)best;

    /* Relative to the likeliest, so that nothing overflows: its weight is 1. */
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double apart =
            kind == CY_SCORES_LOGITS
                ? (double)scores[i] - scores[best]
                : (scores[i] > 0 ? log((double)scores[i] / scores[best]) : -INFINITY);
        sum += weights[i] = exp(apart / temperature);
    }
    double draw = cy_random_unit(random) * sum;
    size_t last = best;
    for (size_t i = 0; i < count; i++) {
        if (weights[i] == 0) continue;
        last = i;
        if (draw < weights[i]) return (int64_t)i;
        draw -= weights[i];
    }
    return (int64_t)last; /* rounding left a little over */
}
