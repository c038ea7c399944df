/* lstm_begin and lstm_cell against plain loops in double under many schedules: results, and that what must not
 * be touched is not. */
#include "in_double.h"
#include "kernel_data.h"

using namespace check;

namespace
{

/* One layer, some steps of a chunk. */
struct CellTest {
    unsigned units, step_count;
    cy_cuda_type h_type;
    cy_activation activation, recurrent_activation;
    std::vector<Row> rows;
};

bool cell_good(const CellTest &t)
{
    const double tolerance = 2e-6, h_tolerance = tolerance + half_unit_of(t.h_type);
    const unsigned row_count = (unsigned)t.rows.size(), units = t.units;
    const size_t all = row_count * units;
    Pool pool(units);
    const std::vector<float> pool_before = pool.values;
    std::vector<cy_cuda_row> rows = pool.rows(t.rows);
    std::vector<float> bias = random_floats(4 * units, 2, -1, 1);
    std::vector<float> c = random_floats(all, 3, -1, 1), last(all, untouched);
    const std::vector<float> c_first = c;

    std::vector<std::vector<double>> ref_h(row_count), ref_c(row_count);
    for (unsigned r = 0; r < row_count; r++) {
        bool continues = rows[r].flags & CY_CUDA_ROW_CONTINUES;
        for (unsigned u = 0; u < units; u++)
            ref_c[r].push_back(continues      ? c_first[r * units + u]
                               : rows[r].read ? rows[r].read[pool.c_offset + u]
                                              : 0);
        ref_h[r].resize(units);
    }

    for (unsigned step = 0; step < t.step_count; step++) {
        std::vector<float> z = random_floats(4 * all, 10 + step, -3, 3);
        const std::vector<float> z_before = z, c_before = c, last_before = last;
        Numbers h(t.h_type, all);
        cy_cuda_lstm_cell cell = {};
        cell.rows = rows.data();
        cell.z = z.data();
        cell.bias = step % 2 ? nullptr : bias.data();
        cell.c = c.data();
        cell.h = h.data();
        cell.last = last.data();
        cell.h_offset = pool.h_offset;
        cell.c_offset = pool.c_offset;
        cell.row_count = row_count;
        cell.units = units;
        cell.step = step;
        cell.step_count = t.step_count;
        cell.h_type = t.h_type;
        cell.activation = t.activation;
        cell.recurrent_activation = t.recurrent_activation;
        if (cy_cuda_lstm_cell_launch(&cell, nullptr)) return WRONG;

        for (unsigned r = 0; r < row_count; r++) {
            const unsigned first = r * units, steps = t.rows[r].steps;
            if (step >= steps) {
                for (unsigned i = first; i < first + units; i++)
                    if (!same_bits(h.at(i), 0) || c[i] != c_before[i] ||
                        last[i] != last_before[i])
                        return WRONG;
                continue;
            }
            std::vector<double> gates[4];
            for (unsigned g = 0; g < 4; g++) {
                for (unsigned u = 0; u < units; u++)
                    gates[g].push_back(z_before[4 * (first + u) + g] +
                                       (step % 2 ? 0 : (double)bias[4 * u + g]));
                in_double(g == 2 ? t.activation : t.recurrent_activation, gates[g]);
            }
            for (unsigned u = 0; u < units; u++)
                ref_c[r][u] = gates[1][u] * ref_c[r][u] + gates[0][u] * gates[2][u];
            std::vector<double> shaped = ref_c[r];
            in_double(t.activation, shaped);
            bool is_last = step + 1 == steps || step + 1 == t.step_count;
            for (unsigned u = 0; u < units; u++) {
                ref_h[r][u] = gates[3][u] * shaped[u];
                if (!near(c[first + u], ref_c[r][u], tolerance)) return WRONG;
                if (!near(h.at(first + u), ref_h[r][u], h_tolerance)) return WRONG;
                float left = last[first + u];
                if (is_last ? rounded(t.h_type, left) != h.at(first + u)
                            : left != untouched)
                    return WRONG;
                if (is_last && !near(left, ref_h[r][u], tolerance)) return WRONG;
            }
        }
    }

    std::vector<float> expected = pool_before;
    for (unsigned r = 0; r < row_count; r++) {
        const Row &row = t.rows[r];
        if (row.steps == 0 || row.steps > t.step_count || row.write == not_kept) continue;
        float *version = &expected[row.write * pool.state];
        for (unsigned u = 0; u < units; u++) {
            version[pool.h_offset + u] = last[r * units + u];
            version[pool.c_offset + u] = c[r * units + u];
        }
    }
    return pool.values == expected ? true : WRONG;
}

bool cell_usual_good()
{
    for (cy_cuda_type type : all_types)
        if (!cell_good({19, 3, type, CY_ACT_TANH, CY_ACT_SIGMOID, mixed_rows(3)}))
            return false;
    return cell_good({1, 2, CY_CUDA_F32, CY_ACT_TANH, CY_ACT_SIGMOID, mixed_rows(2)}) &&
           cell_good({130, 2, CY_CUDA_F32, CY_ACT_TANH, CY_ACT_SIGMOID, mixed_rows(2)});
}

bool cell_any_good()
{
    return cell_good(
        {19, 3, CY_CUDA_F32, CY_ACT_RELU, CY_ACT_HARD_SIGMOID_6TH, mixed_rows(3)});
}

bool cell_rows_good()
{
    return cell_good(
               {70, 2, CY_CUDA_F32, CY_ACT_SOFTMAX, CY_ACT_SIGMOID, mixed_rows(2)}) &&
           cell_good({7, 2, CY_CUDA_BF16, CY_ACT_TANH, CY_ACT_SOFTMAX, mixed_rows(2)}) &&
           cell_good(
               {150, 1, CY_CUDA_F32, CY_ACT_SOFTMAX, CY_ACT_SOFTMAX, {{1, 2, 3, 0}}});
}

bool begin_good()
{
    const std::vector<Row> test_rows = mixed_rows(3);
    const unsigned units = 37, row_count = (unsigned)test_rows.size();
    for (cy_cuda_type type : all_types) {
        Pool pool(units);
        std::vector<cy_cuda_row> rows = pool.rows(test_rows);
        std::vector<float> last = random_floats(row_count * units, 3, -1, 1);
        Numbers h(type, row_count * units);
        cy_cuda_lstm_begin begin = {rows.data(), h.data(), last.data(), pool.h_offset,
                                    row_count,   units,    type};
        if (cy_cuda_lstm_begin_launch(&begin, nullptr)) return WRONG;
        for (unsigned i = 0; i < row_count * units; i++) {
            const cy_cuda_row &row = rows[i / units];
            float expected = row.flags & CY_CUDA_ROW_CONTINUES ? last[i]
                             : row.read ? row.read[pool.h_offset + i % units]
                                        : 0;
            if (!same_bits(h.at(i), row.steps ? rounded(type, expected) : untouched))
                return WRONG;
        }
    }
    return true;
}

void sizes_refused()
{
    cy_cuda_lstm_cell cell = {};
    cell.row_count = 1u << 20;
    cell.units = 1u << 12;
    CHECK(cy_cuda_lstm_cell_launch(&cell, nullptr) == cudaErrorInvalidValue);
    cell.units = 0;
    CHECK(cy_cuda_lstm_cell_launch(&cell, nullptr) == cudaErrorInvalidValue);
    cy_cuda_lstm_begin begin = {};
    CHECK(cy_cuda_lstm_begin_launch(&begin, nullptr) == cudaErrorInvalidValue);
}

} // namespace

int main()
{
    const std::vector<Scenario> scenarios = {
        {"cell, tanh and sigmoid", cell_usual_good},
        {"cell, other activations", cell_any_good},
        {"cell, softmax", cell_rows_good},
        {"begin", begin_good},
    };
    under_schedules(scenarios, 24);
    every_site_matters({{"cell, softmax", cell_rows_good}}, 12);
    sizes_refused();
    return summary();
}
