/* lstm_step: the bits that product, product and lstm_cell leave, in everything that they leave, under many
 * schedules. What those are worth is test_product.cpp's and test_cell.cpp's to say. */
#include "step_data.h"

using namespace check;

namespace
{

bool multiplied(void *a, void *b, float *out, unsigned rows, unsigned columns,
                unsigned depth, unsigned accumulate, cy_cuda_type type)
{
    cy_cuda_product product = {a, b, out, rows, columns, depth, accumulate, type};
    return cy_cuda_product_launch(&product, nullptr) == cudaSuccess;
}

bool step_good(const StepTest &t)
{
    const unsigned row_count = (unsigned)t.rows.size(), units = t.units;
    const size_t all = row_count * units;
    Numbers recurrent(t.h_type, random_floats(4 * units * units, 5, -0.5f, 0.5f));
    Numbers kernel(t.h_type, random_floats(4 * units * t.features, 6, -0.5f, 0.5f));
    std::vector<float> bias = random_floats(4 * units, 7, -1, 1);
    CallersArray x_array(t.port_type, row_count, t.step_count, t.features);
    x_array.by(t.x_by).fill(8);
    CallersArray y_array(t.port_type, row_count, t.step_count, units);
    y_array.by(t.y_by);
    Side three(t), exact_h(t), one(t);
    Numbers h_before(t.h_type, all), h_now(t.h_type, all);
    cy_cuda_lstm_begin begin = {
        three.rows.data(), h_before.data(), three.last.data(), three.pool.h_offset,
        row_count,         units,           t.h_type};
    if (cy_cuda_lstm_begin_launch(&begin, nullptr)) return WRONG;

    for (unsigned step = 0; step < t.step_count; step++) {
        Numbers x(t.h_type, row_count * t.features);
        cy_cuda_gather gather = {};
        cy_cuda_port port = x_array.port;
        port.data = x_array.numbers.data(x_array.place(0, step, 0));
        std::vector<cy_cuda_row> now = three.rows;
        for (cy_cuda_row &row : now)
            row.steps = row.steps > step;
        gather.rows = now.data();
        gather.port = &port;
        gather.out = x.data();
        gather.step_count = 1;
        gather.row_count = row_count;
        gather.width = t.features;
        gather.out_type = t.h_type;
        if (cy_cuda_gather_launch(&gather, nullptr)) return WRONG;
        std::vector<float> z(4 * all);
        if (!multiplied(x.data(), kernel.data(), z.data(), row_count, 4 * units,
                        t.features, 0, t.h_type))
            return WRONG;
        const std::vector<float> z_of_x = z;
        if (!multiplied(h_before.data(), recurrent.data(), z.data(), row_count, 4 * units,
                        units, 1, t.h_type))
            return WRONG;
        cy_cuda_lstm_cell cell = three.cell(t, step, h_now.data(), z.data());
        cell.bias = step % 2 ? nullptr : bias.data();
        if (cy_cuda_lstm_cell_launch(&cell, nullptr)) return WRONG;
        /* And once more for h before it was rounded. */
        Numbers h_float(CY_CUDA_F32, all);
        cell = exact_h.cell(t, step, h_float.data(), z.data());
        cell.bias = step % 2 ? nullptr : bias.data();
        cell.h_type = CY_CUDA_F32;
        if (cy_cuda_lstm_cell_launch(&cell, nullptr)) return WRONG;
        for (size_t i = 0; i < all; i++) /* NaN on both sides would say nothing */
            if (!isfinite(h_float.at(i))) return WRONG;

        Numbers h_one(t.h_type, all);
        std::vector<float> z_given = z_of_x;
        cy_cuda_lstm_step fused = {};
        fused.cell = one.cell(t, step, h_one.data(),
                              t.input == Input::Z ? z_given.data() : nullptr);
        fused.cell.bias = step % 2 ? nullptr : bias.data();
        fused.h_prev = step > 0 || t.begins ? h_before.data() : nullptr;
        fused.recurrent = recurrent.data();
        if (t.input != Input::Z) {
            fused.x = t.input == Input::X ? x.data() : nullptr;
            fused.x_port = t.input == Input::PORT ? &x_array.port : nullptr;
            fused.kernel = kernel.data();
            fused.features = t.features;
        }
        fused.y_port = step % 2 && t.step_count > 2 ? nullptr : &y_array.port;
        fused.y_rounded = t.y_rounded;
        const size_t y_before = y_array.numbers.touched();
        if (cy_cuda_lstm_step_launch(&fused, nullptr)) return WRONG;

        if (!same_bits(z_given, z_of_x)) return WRONG;
        if (!(h_one == h_now) || !one.same(three)) return WRONG;
        size_t put = 0;
        for (unsigned i = 0; fused.y_port && i < all; i++) {
            const cy_cuda_row &row = one.rows[i / units];
            if (t.y_by != CY_CUDA_BY_INDEX && step >= row.room) continue;
            put++;
            if (!same_bits(
                    y_array.at(begin_of(row, t.y_by), step, i % units),
                    rounded(t.port_type, t.y_rounded ? h_now.at(i) : h_float.at(i))))
                return WRONG;
        }
        if (y_array.numbers.touched() != y_before + put) return WRONG;
        h_before = h_now;
    }
    return true;
}

bool from_z_good()
{
    for (cy_cuda_type type : all_types)
        if (!step_good({33, 5, type, Input::Z, CY_CUDA_F32, CY_ACT_TANH, CY_ACT_SIGMOID,
                        true, many_rows(3), 3}))
            return false;
    return step_good({1, 3, CY_CUDA_F32, Input::Z, CY_CUDA_BF16, CY_ACT_TANH,
                      CY_ACT_SIGMOID, true, mixed_rows(2), 2});
}

bool from_x_good()
{
    for (cy_cuda_type type : all_types)
        if (!step_good({18, 7, type, Input::X, type, CY_ACT_TANH, CY_ACT_SIGMOID, false,
                        first_rows(2), 2}))
            return false;
    return step_good({2, 1, CY_CUDA_F32, Input::X, CY_CUDA_F32, CY_ACT_TANH,
                      CY_ACT_SIGMOID, true, mixed_rows(2), 2});
}

bool from_port_good()
{
    for (cy_cuda_type type : all_types)
        for (cy_cuda_type port_type : all_types)
            for (unsigned y_rounded = 0; y_rounded <= 1; y_rounded++)
                if (!step_good({6, 9, type, Input::PORT, port_type, CY_ACT_TANH,
                                CY_ACT_SIGMOID, false, first_rows(1), 1, y_rounded}))
                    return false;
    for (cy_cuda_by x_by : {CY_CUDA_BY_FIRST, CY_CUDA_BY_STAGED_IN})
        for (cy_cuda_by y_by : {CY_CUDA_BY_FIRST, CY_CUDA_BY_STAGED_OUT})
            if (!step_good({6, 9, CY_CUDA_F32, Input::PORT, CY_CUDA_F32, CY_ACT_TANH,
                            CY_ACT_SIGMOID, false, first_rows(1), 1, 0, x_by, y_by}))
                return false;
    return true;
}

bool other_activations_good()
{
    for (cy_cuda_type type : all_types)
        if (!step_good({9, 4, type, Input::X, CY_CUDA_F32, CY_ACT_SOFTSIGN,
                        CY_ACT_HARD_SIGMOID_02, true, mixed_rows(3), 2}))
            return false;
    return true;
}

/* Slices of more than four numbers, and of more than are staged at a time. */
bool deep_good()
{
    return step_good({3, 1100, CY_CUDA_F32, Input::X, CY_CUDA_F32, CY_ACT_TANH,
                      CY_ACT_SIGMOID, false, first_rows(1), 1}) &&
           step_good({140,
                      150,
                      CY_CUDA_BF16,
                      Input::X,
                      CY_CUDA_F32,
                      CY_ACT_TANH,
                      CY_ACT_SIGMOID,
                      false,
                      {{1, 2, 3, 0}},
                      1});
}

/* Blocks of eight units. */
bool wide_good()
{
    return step_good({1027,
                      2,
                      CY_CUDA_F16,
                      Input::X,
                      CY_CUDA_F32,
                      CY_ACT_TANH,
                      CY_ACT_SIGMOID,
                      false,
                      {{1, 2, 3, 0}},
                      1});
}

void refused()
{
    float x = 0;
    const cy_cuda_port port = {};
    cy_cuda_lstm_step good = {};
    good.cell.row_count = good.cell.units = good.features = 1;
    good.cell.activation = CY_ACT_TANH;
    good.cell.recurrent_activation = CY_ACT_SIGMOID;
    const auto refuses =
        [&](void (*spoil)(cy_cuda_lstm_step &, float *, const cy_cuda_port *)) {
            cy_cuda_lstm_step step = good;
            spoil(step, &x, &port);
            return cy_cuda_lstm_step_launch(&step, nullptr) == cudaErrorInvalidValue;
        };
    /* Neither z nor an input; both; no h after step 0. */
    CHECK(refuses([](cy_cuda_lstm_step &, float *, const cy_cuda_port *) {}));
    CHECK(refuses([](cy_cuda_lstm_step &s, float *x, const cy_cuda_port *port) {
        s.cell.z = x;
        s.x_port = port;
    }));
    CHECK(refuses([](cy_cuda_lstm_step &s, float *x, const cy_cuda_port *) {
        s.cell.z = x;
        s.cell.step = 1;
    }));
    CHECK(refuses([](cy_cuda_lstm_step &s, float *x, const cy_cuda_port *) {
        s.x = x;
        s.features = 0;
    }));
    CHECK(refuses([](cy_cuda_lstm_step &s, float *x, const cy_cuda_port *) {
        s.cell.z = x;
        s.cell.activation = CY_ACT_SOFTMAX;
    }));
    CHECK(refuses([](cy_cuda_lstm_step &s, float *x, const cy_cuda_port *) {
        s.cell.z = x;
        s.cell.row_count = 300000;
    }));
    CHECK(refuses([](cy_cuda_lstm_step &s, float *x, const cy_cuda_port *) {
        s.cell.z = x;
        s.cell.units = 1u << 15;
    }));
}

} // namespace

int main()
{
    under_schedules({{"step, z given", from_z_good},
                     {"step, x given", from_x_good},
                     {"step, the caller's x", from_port_good},
                     {"step, other activations", other_activations_good}},
                    8);
    under_schedules({{"step, deep", deep_good}}, 4);
    under_schedules({{"step, wide", wide_good}}, 1);
    const std::vector<Scenario> with_barriers = {{"deep", [] {
                                                      return step_good({3,
                                                                        1100,
                                                                        CY_CUDA_F32,
                                                                        Input::X,
                                                                        CY_CUDA_F32,
                                                                        CY_ACT_TANH,
                                                                        CY_ACT_SIGMOID,
                                                                        false,
                                                                        {{1, 2, 3, 0}},
                                                                        1});
                                                  }}};
    every_site_matters(with_barriers, 12);
    refused();
    return summary();
}
