/* Random arrays, and how far two lie apart; see probe.h. */
#include "probe.h"

#include <math.h>

namespace probe
{

std::vector<uint32_t> random_words(size_t count, unsigned seed)
{
    std::mt19937 generator(seed);
    std::vector<uint32_t> words(count);
    for (uint32_t &word : words)
        word = generator();
    return words;
}

std::vector<float> random_floats(size_t count, unsigned seed, float low, float high)
{
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> between(low, high);
    std::vector<float> values(count);
    for (float &value : values)
        value = between(generator);
    return values;
}

double distance(const std::vector<float> &a, const std::vector<double> &b)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < b.size(); i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    double d = sqrt(difference / norm);
    return isnan(d) || a.size() != b.size() ? INFINITY : d;
}

} // namespace probe
