/* What the tests of the fused steps work on. */
#ifndef CY_TESTS_EMU_STEP_DATA_H
#define CY_TESTS_EMU_STEP_DATA_H

#include "kernel_data.h"

namespace check
{

/* How the input gets in. */
enum class Input { Z, X, PORT };

struct StepTest {
    unsigned units, features;
    cy_cuda_type h_type;
    Input input;
    cy_cuda_type port_type; /* of x and y */
    cy_activation activation, recurrent_activation;
    bool begins; /* lstm_begin goes before the first step; else the step finds h itself */
    std::vector<Row> rows;
    unsigned step_count;
    unsigned y_rounded = 0;
    cy_cuda_by x_by = CY_CUDA_BY_INDEX, y_by = CY_CUDA_BY_INDEX; /* the ports' */
};

/* What a call changes: one for each way of getting there. */
struct Side {
    Side(const StepTest &t)
        : pool(t.units), rows(pool.rows(t.rows)),
          c(random_floats(t.rows.size() * t.units, 3, -1, 1)),
          last(random_floats(t.rows.size() * t.units, 4, -1, 1))
    {
    }
    cy_cuda_lstm_cell cell(const StepTest &t, unsigned step, void *h, float *z)
    {
        cy_cuda_lstm_cell cell = {};
        cell.rows = rows.data();
        cell.z = z;
        cell.c = c.data();
        cell.h = h;
        cell.last = last.data();
        cell.h_offset = pool.h_offset;
        cell.c_offset = pool.c_offset;
        cell.row_count = (unsigned)rows.size();
        cell.units = t.units;
        cell.step = step;
        cell.step_count = t.step_count;
        cell.h_type = t.h_type;
        cell.activation = t.activation;
        cell.recurrent_activation = t.recurrent_activation;
        return cell;
    }
    bool same(const Side &other) const
    {
        return same_bits(pool.values, other.pool.values) && same_bits(c, other.c) &&
               same_bits(last, other.last);
    }

    Pool pool;
    std::vector<cy_cuda_row> rows;
    std::vector<float> c, last;
};

/* Rows of more than one group, one group of which rests, with those of mixed_rows. */
inline std::vector<Row> many_rows(unsigned steps)
{
    std::vector<Row> rows = mixed_rows(steps);
    rows.insert(rows.begin() + 4, 4, {0, not_kept, not_kept, 0});
    return rows;
}

/* Rows of a call's first chunk: none continues. */
inline std::vector<Row> first_rows(unsigned steps)
{
    std::vector<Row> rows = mixed_rows(steps);
    rows.resize(5);
    return rows;
}

} // namespace check

#endif
