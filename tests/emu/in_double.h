/* Activations in double: what the kernels' results are held against. */
#ifndef CY_TESTS_EMU_IN_DOUBLE_H
#define CY_TESTS_EMU_IN_DOUBLE_H

#include "kernels/activation.h"

#include <math.h>
#include <stdlib.h>
#include <vector>

namespace check
{

inline double in_double(cy_activation activation, double x)
{
    switch (activation) {
    case CY_ACT_TANH:
        return tanh(x);
    case CY_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case CY_ACT_RELU:
        return x > 0 ? x : 0;
    case CY_ACT_HARD_SIGMOID_6TH:
        return fmin(fmax(x / 6 + 0.5, 0), 1);
    default:
        abort();
    }
}

inline void in_double(cy_activation activation, std::vector<double> &row)
{
    double sum = 0;
    bool spans = activation == CY_ACT_SOFTMAX || activation == CY_ACT_LOG_SOFTMAX;
    if (spans)
        for (double x : row)
            sum += exp(x);
    for (double &x : row)
        x = activation == CY_ACT_SOFTMAX       ? exp(x) / sum
            : activation == CY_ACT_LOG_SOFTMAX ? x - log(sum)
                                               : in_double(activation, x);
}

} // namespace check

#endif
