/* lstm_step_mma beside lstm_step, whose bits test_step.cpp vouches for: the same but for the order of the sums, in
 * double and as tensor cores truncate; nothing else touched; and a row's bits alone and among others. */
#include "step_data.h"

using namespace check;

namespace
{

const double tolerance = 1e-5;

bool fused_launch(cudaError_t (*launch)(const cy_cuda_lstm_step *, cudaStream_t),
                  Side &side, const StepTest &t, unsigned step, Numbers &h, float *z,
                  Numbers &x, Numbers &kernel, Numbers &recurrent, float *bias,
                  Numbers *h_prev, const cy_cuda_port *x_port, const cy_cuda_port *y_port)
{
    cy_cuda_lstm_step fused = {};
    fused.cell = side.cell(t, step, h.data(), t.input == Input::Z ? z : nullptr);
    fused.cell.bias = bias;
    fused.h_prev = h_prev ? h_prev->data() : nullptr;
    fused.recurrent = recurrent.data();
    if (t.input != Input::Z) {
        fused.x = t.input == Input::X ? x.data() : nullptr;
        fused.x_port = t.input == Input::PORT ? x_port : nullptr;
        fused.kernel = kernel.data();
        fused.features = t.features;
    }
    fused.y_port = y_port;
    fused.y_rounded = t.y_rounded;
    return launch(&fused, nullptr) == cudaSuccess;
}

/* Near where lstm_step wrote, the same where it did not. */
bool alike(const std::vector<float> &got, const std::vector<float> &expected,
           const std::vector<float> &before)
{
    for (size_t i = 0; i < expected.size(); i++)
        if (same_bits(expected[i], before[i]) ? !same_bits(got[i], before[i])
                                              : !near(got[i], expected[i], tolerance))
            return WRONG;
    return true;
}

bool alike(const Numbers &got, const Numbers &expected, cy_cuda_type type)
{
    for (size_t i = 0; i < expected.count(); i++) {
        float e = expected.at(i);
        bool exact = e == untouched || e == 0;
        if (exact ? !same_bits(got.at(i), e)
                  : !near(got.at(i), e, tolerance + 2 * half_unit_of(type)))
            return WRONG;
    }
    return true;
}

bool mma_good(const StepTest &t)
{
    const unsigned row_count = (unsigned)t.rows.size(), units = t.units;
    const unsigned some_count = row_count < 8 ? row_count : 8;
    const size_t all = row_count * units;
    Numbers recurrent(t.h_type, random_floats(4 * units * units, 5, -0.5f, 0.5f));
    Numbers kernel(t.h_type, random_floats(4 * units * t.features, 6, -0.2f, 0.2f));
    std::vector<float> bias = random_floats(4 * units, 7, -1, 1);
    CallersArray x_array(t.port_type, row_count, t.step_count, t.features);
    x_array.by(t.x_by).fill(8);
    CallersArray y_plain(t.port_type, row_count, t.step_count, units);
    CallersArray y_mma(t.port_type, row_count, t.step_count, units);
    y_plain.by(t.y_by);
    y_mma.by(t.y_by);
    StepTest of_some = t;
    of_some.rows.resize(some_count);
    Side plain(t), mma(t), some(of_some);
    for (unsigned r = 0; r < some_count; r++) {
        some.rows[r].index = plain.rows[r].index;
        some.rows[r].first = plain.rows[r].first;
    }
    std::vector<float> h_first = random_floats(all, 11, -1, 1);
    for (unsigned i = 0; i < all; i++) /* what lstm_begin does not write */
        if (t.rows[i / units].steps == 0) h_first[i] = NAN;
    Numbers h_before(t.h_type, h_first);

    for (unsigned step = 0; step < t.step_count; step++) {
        Numbers x(t.h_type, random_floats(row_count * t.features, 12, -1, 1));
        std::vector<float> z = random_floats(4 * all, 13, -2, 2);
        const Side before = plain;
        Numbers h_plain(t.h_type, all), h_mma(t.h_type, all);
        Numbers h_some(t.h_type, some_count * units);
        float *b = step % 2 ? nullptr : bias.data();
        Numbers *h_prev = step > 0 || t.begins ? &h_before : nullptr;
        if (!fused_launch(cy_cuda_lstm_step_launch, plain, t, step, h_plain, z.data(), x,
                          kernel, recurrent, b, h_prev, &x_array.port, &y_plain.port) ||
            !fused_launch(cy_cuda_lstm_step_mma_launch, mma, t, step, h_mma, z.data(), x,
                          kernel, recurrent, b, h_prev, &x_array.port, &y_mma.port) ||
            !fused_launch(cy_cuda_lstm_step_mma_launch, some, of_some, step, h_some,
                          z.data(), x, kernel, recurrent, b, h_prev, &x_array.port,
                          nullptr))
            return WRONG;
        for (size_t i = 0; i < all; i++) /* NaN on both sides would say nothing */
            if (!isfinite(h_plain.at(i))) return WRONG;
        if (!alike(h_mma, h_plain, t.h_type) ||
            !alike(y_mma.numbers, y_plain.numbers, t.port_type) ||
            !alike(mma.c, plain.c, before.c) || !alike(mma.last, plain.last, before.last))
            return false;
        for (unsigned i = 0; t.y_rounded && i < all; i++) /* ports of h's type */
            if (!same_bits(y_mma.at(mma.rows[i / units].index, step, i % units),
                           h_mma.at(i)))
                return WRONG;
        for (unsigned i = 0; i < some_count * units; i++)
            if (!same_bits(h_some.at(i), h_mma.at(i)) || !same_bits(some.c[i], mma.c[i]))
                return WRONG;
        /* Both go on from the same. */
        h_before = h_plain;
        mma.c = plain.c;
        mma.last = plain.last;
        some.c.assign(plain.c.begin(), plain.c.begin() + some_count * units);
    }
    return alike(mma.pool.values, plain.pool.values, Pool(units).values);
}

/* So many rows, of which the last eight rest. */
std::vector<Row> rows_and_rest(std::vector<Row> rows, unsigned count)
{
    for (unsigned r = (unsigned)rows.size(); r < count; r++)
        rows.push_back(
            {r + 8 < count ? r % 4 : 0, r % 7 ? r % 8 : not_kept, not_kept, 0});
    return rows;
}

bool from_z_good()
{
    for (cy_cuda_type type : {CY_CUDA_BF16, CY_CUDA_F16})
        if (!mma_good({40, 8, type, Input::Z, CY_CUDA_F32, CY_ACT_TANH, CY_ACT_SIGMOID,
                       true, mixed_rows(3), 3}))
            return false;
    return true;
}

bool from_x_good()
{
    for (cy_cuda_type type : {CY_CUDA_BF16, CY_CUDA_F16})
        if (!mma_good({16, 24, type, Input::X, type, CY_ACT_TANH, CY_ACT_SIGMOID, false,
                       rows_and_rest(first_rows(2), 15), 2, 1}))
            return false;
    return true;
}

bool from_port_good()
{
    for (cy_cuda_type type : {CY_CUDA_BF16, CY_CUDA_F16})
        for (cy_cuda_type port_type : all_types)
            if (!mma_good({8, 40, type, Input::PORT, port_type, CY_ACT_TANH,
                           CY_ACT_SIGMOID, false, first_rows(1), 1}))
                return false;
    return mma_good({8, 40, CY_CUDA_BF16, Input::PORT, CY_CUDA_BF16, CY_ACT_TANH,
                     CY_ACT_SIGMOID, false, first_rows(1), 1, 0, CY_CUDA_BY_FIRST,
                     CY_CUDA_BY_FIRST});
}

/* Two groups of 32 rows, the second of which rests. */
bool many_good()
{
    return mma_good({16, 8, CY_CUDA_BF16, Input::X, CY_CUDA_F32, CY_ACT_TANH,
                     CY_ACT_SIGMOID, true, rows_and_rest(mixed_rows(2), 40), 2});
}

/* More tiles a warp than are under way at once. */
bool deep_good()
{
    return mma_good({8, 1104, CY_CUDA_F16, Input::X, CY_CUDA_F32, CY_ACT_TANH,
                     CY_ACT_SIGMOID, true, mixed_rows(2), 1});
}

void refused()
{
    float x = 0;
    cy_cuda_lstm_step good = {};
    good.cell.z = &x;
    good.cell.row_count = 1;
    good.cell.units = 8;
    good.cell.h_type = CY_CUDA_BF16;
    good.cell.activation = CY_ACT_TANH;
    good.cell.recurrent_activation = CY_ACT_SIGMOID;
    const auto refuses = [&](void (*spoil)(cy_cuda_lstm_step &)) {
        cy_cuda_lstm_step step = good;
        spoil(step);
        return cy_cuda_lstm_step_mma_launch(&step, nullptr) == cudaErrorInvalidValue;
    };
    CHECK(cy_cuda_lstm_step_mma_prepare(CY_CUDA_F32) == cudaErrorInvalidValue);
    CHECK(refuses([](cy_cuda_lstm_step &s) { s.cell.h_type = CY_CUDA_F32; }));
    CHECK(refuses([](cy_cuda_lstm_step &s) { s.cell.units = 12; }));
    CHECK(refuses([](cy_cuda_lstm_step &s) { s.cell.step = 1; }));
    CHECK(refuses([](cy_cuda_lstm_step &s) { s.cell.activation = CY_ACT_RELU; }));
    CHECK(refuses([](cy_cuda_lstm_step &s) {
        s.x = s.cell.z;
        s.cell.z = nullptr;
        s.features = 12;
    }));
}

} // namespace

int main()
{
    CHECK(!cy_cuda_lstm_step_mma_prepare(CY_CUDA_BF16));
    CHECK(!cy_cuda_lstm_step_mma_prepare(CY_CUDA_F16));
    under_schedules({{"step, mma, z given", from_z_good},
                     {"step, mma, x given", from_x_good},
                     {"step, mma, the caller's x", from_port_good},
                     {"step, mma, many rows", many_good},
                     {"step, mma, deep", deep_good}},
                    8);
    every_site_matters({{"deep", deep_good}}, 12, emu::SYNC_WARP);
    refused();
    return summary();
}
