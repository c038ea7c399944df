/* Activations and what follows a dense product, against the CPU's reference and plain loops in double under many
 * schedules. The other kernels: test_cell.cpp, test_ports.cpp, test_product.cpp, test_step.cpp. */
#include "in_double.h"
#include "kernel_data.h"

extern "C" {
#include "kernels/cell.h"
}

using namespace check;

namespace
{

/* Element by element: the bits of the CPU's reference; over a row: double. */
bool activations_good()
{
    std::vector<float> z = random_floats(300, 7, -9, 9);
    const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN,
                             100,  -100,  1e-30f,   -1e-30f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        z[i * 3] = special[i];
    std::vector<cy_cuda_row> rows = plain_rows({1, 1, 1});
    for (int a = 0; a < CY_ACT_COUNT; a++) {
        cy_activation activation = (cy_activation)a;
        if (cy_activation_spans_row(activation)) continue;
        std::vector<float> out = z, expected(300);
        cy_activate_f32_ref(activation, z.data(), expected.data(), 300);
        cy_cuda_dense_output dense = {};
        dense.rows = rows.data();
        dense.z = out.data();
        dense.step_count = 1;
        dense.row_count = 3;
        dense.width = 100;
        dense.activation = activation;
        if (cy_cuda_dense_output_launch(&dense, nullptr)) return WRONG;
        for (unsigned i = 0; i < 300; i++) {
            if (isnan(expected[i]) && isnan(out[i])) continue;
            if (memcmp(&out[i], &expected[i], sizeof(float))) return WRONG;
        }
    }
    return true;
}

enum class Bias { NONE, GIVEN };

bool dense_good_as(cy_activation activation, unsigned width, Bias given)
{
    const unsigned steps = 3, row_count = 4, all = steps * row_count * width;
    std::vector<float> z = random_floats(all, 4, -4, 4),
                       bias = random_floats(width, 5, -1, 1);
    const std::vector<float> before = z;
    std::vector<cy_cuda_row> rows = plain_rows({0, 1, 9, 3});
    cy_cuda_dense_output dense = {};
    dense.rows = rows.data();
    dense.z = z.data();
    dense.bias = given == Bias::GIVEN ? bias.data() : nullptr;
    dense.step_count = steps;
    dense.row_count = row_count;
    dense.width = width;
    dense.activation = activation;
    if (cy_cuda_dense_output_launch(&dense, nullptr)) return WRONG;
    for (unsigned s = 0; s < steps; s++)
        for (unsigned r = 0; r < row_count; r++) {
            const unsigned first = (s * row_count + r) * width;
            std::vector<double> expected;
            for (unsigned i = 0; i < width; i++)
                expected.push_back((double)before[first + i] +
                                   (dense.bias ? bias[i] : 0));
            in_double(activation, expected);
            for (unsigned i = 0; i < width; i++)
                if (!near(z[first + i], s < rows[r].steps ? expected[i] : 0, 2e-6))
                    return WRONG;
        }
    return true;
}

bool dense_both(cy_activation activation, unsigned width)
{
    return dense_good_as(activation, width, Bias::NONE) &&
           dense_good_as(activation, width, Bias::GIVEN);
}

bool dense_good()
{
    return dense_both(CY_ACT_TANH, 33) && dense_both(CY_ACT_SIGMOID, 1);
}

bool dense_rows_good()
{
    return dense_both(CY_ACT_SOFTMAX, 70) && dense_both(CY_ACT_LOG_SOFTMAX, 129) &&
           dense_both(CY_ACT_SOFTMAX, 5);
}

/* exp of the largest would overflow, and of the smallest vanish. */
bool softmax_large_good()
{
    std::vector<float> out = {500, 499, -500, 500};
    std::vector<cy_cuda_row> rows = plain_rows({1});
    cy_cuda_dense_output dense = {};
    dense.rows = rows.data();
    dense.z = out.data();
    dense.step_count = dense.row_count = 1;
    dense.width = 4;
    dense.activation = CY_ACT_SOFTMAX;
    if (cy_cuda_dense_output_launch(&dense, nullptr)) return WRONG;
    double sum = 2 + exp(-1);
    return near(out[0], 1 / sum, 1e-6) && near(out[1], exp(-1) / sum, 1e-6) &&
           out[2] == 0 && out[3] == out[0];
}

void sizes_refused()
{
    cy_cuda_dense_output dense = {};
    CHECK(cy_cuda_dense_output_launch(&dense, nullptr) == cudaErrorInvalidValue);
    dense.step_count = dense.row_count = 1u << 16;
    dense.width = 1;
    CHECK(cy_cuda_dense_output_launch(&dense, nullptr) == cudaErrorInvalidValue);
}

} // namespace

int main()
{
    const std::vector<Scenario> scenarios = {
        {"activations", activations_good},
        {"dense output", dense_good},
        {"dense output, softmax", dense_rows_good},
        {"softmax of large numbers", softmax_large_good},
    };
    under_schedules(scenarios, 24);
    every_site_matters({{"dense output, softmax", dense_rows_good}}, 12);
    sizes_refused();
    return summary();
}
