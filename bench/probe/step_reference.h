/* What the kernels of a recurrence compute on, and the same in float64, row by row. */
#ifndef BENCH_STEP_REFERENCE_H
#define BENCH_STEP_REFERENCE_H

#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

namespace probe
{

struct StepData {
    unsigned units, rows, z_steps;
    std::vector<uint16_t>
        recurrent;           /* [4][units][units] (gate i f g o, unit, k), bits of bf16 */
    std::vector<float> z;    /* [z_steps][rows][units][4] */
    std::vector<float> h, c; /* [rows][units] */

    StepData(unsigned units, unsigned rows, unsigned z_steps, unsigned seed);
};

/* Bits of bf16, rounded to nearest. */
uint16_t bf16_bits(float value);

/* Compares some rows with float64 (products of h rounded to bf16) after `steps` steps from data.h and data.c: c and the
 * last y [z_steps][rows][units]. "" or what is wrong. */
std::string wrong_steps(const StepData &data, unsigned steps, const std::vector<float> &c,
                        const std::vector<float> &y);

} // namespace probe

#endif
