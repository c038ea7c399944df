/* See step_reference.h. */
#include "step_reference.h"

#include "probe.h"

#include <math.h>
#include <string.h>

namespace probe
{

uint16_t bf16_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double bf16_value(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

StepData::StepData(unsigned units_, unsigned rows_, unsigned z_steps_, unsigned seed)
    : units(units_), rows(rows_), z_steps(z_steps_)
{
    const float scale = 1.7f / sqrtf((float)units);
    for (float value : random_floats((size_t)4 * units * units, seed, -scale, scale))
        recurrent.push_back(bf16_bits(value));
    z = random_floats((size_t)z_steps * rows * units * 4, seed + 1, -1.5f, 1.5f);
    h = random_floats((size_t)rows * units, seed + 2, -1, 1);
    c = random_floats((size_t)rows * units, seed + 3, -1, 1);
}

std::string wrong_steps(const StepData &data, unsigned steps, const std::vector<float> &c,
                        const std::vector<float> &y)
{
    const unsigned units = data.units, last = (steps - 1) % data.z_steps;
    std::vector<float> have;
    std::vector<double> expected;
    const unsigned every = data.rows > 3 ? data.rows - 1 : 1; /* the first and the last */
    for (unsigned row = 0; row < data.rows; row += every) {
        const size_t of_row = (size_t)row * units;
        std::vector<double> h(units), cell(units), next(units);
        for (unsigned u = 0; u < units; u++) {
            h[u] = data.h[of_row + u];
            cell[u] = data.c[of_row + u];
        }
        for (unsigned t = 0; t < steps; t++) {
            for (double &value : h)
                value = bf16_value(bf16_bits((float)value));
            for (unsigned u = 0; u < units; u++) {
                size_t in_z = ((size_t)(t % data.z_steps) * data.rows + row) * units + u;
                double z[4];
                for (unsigned g = 0; g < 4; g++) {
                    const uint16_t *weights =
                        &data.recurrent[((size_t)g * units + u) * units];
                    z[g] = data.z[in_z * 4 + g];
                    for (unsigned k = 0; k < units; k++)
                        z[g] += bf16_value(weights[k]) * h[k];
                }
                cell[u] = cell[u] / (1 + exp(-z[1])) + tanh(z[2]) / (1 + exp(-z[0]));
                next[u] = tanh(cell[u]) / (1 + exp(-z[3]));
            }
            h = next;
        }
        for (unsigned u = 0; u < units; u++) {
            have.push_back(y[((size_t)last * data.rows + row) * units + u]);
            expected.push_back(h[u]);
            have.push_back(c[of_row + u]);
            expected.push_back(cell[u]);
        }
    }
    /* Rounding h to bf16 is in both; a number that falls to the other side grows little. */
    double off = distance(have, expected);
    return off < 2e-3 ? ""
                      : "off by " + std::to_string(off) + " of float64, 0.002 is allowed";
}

} // namespace probe
