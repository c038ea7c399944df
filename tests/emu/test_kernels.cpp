/* The CUDA kernels, through their launchers, against plain loops in double under many schedules: results,
 * and that what must not be touched is not. Then every sync site of theirs is dropped. */
#include "check.h"

#include "kernels/cuda/cuda_kernels.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" {
#include "kernels/cell.h"
}

using check::Scenario;

namespace
{

const float untouched = -12345;
const unsigned not_kept = ~0u;

double in_double(cy_activation activation, double x)
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

void in_double(cy_activation activation, std::vector<double> &row)
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

/* A row of a test call: which slots of the pool it reads and writes. */
struct Row {
    unsigned steps, read, write, flags;
};

/* One layer of `units`, its h and c somewhere inside a state, a pool of slots, and the workspace. */
struct CellTest {
    unsigned units, max_steps;
    cy_cuda_type h_type;
    cy_activation activation, recurrent_activation;
    std::vector<Row> rows;
};

float value_of(cy_cuda_type type, const void *h, size_t i)
{
    switch (type) {
    case CY_CUDA_BF16:
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(h)[i]);
    case CY_CUDA_F16:
        return __half2float(static_cast<const __half *>(h)[i]);
    default:
        return static_cast<const float *>(h)[i];
    }
}

double half_unit_of(cy_cuda_type type)
{
    return type == CY_CUDA_BF16 ? 0x1p-8 : type == CY_CUDA_F16 ? 0x1p-11 : 0;
}

bool near(double got, double expected, double tolerance)
{
    return fabs(got - expected) <= tolerance * fmax(1, fabs(expected));
}

bool cell_good(const CellTest &t)
{
    const double tolerance = 2e-6;
    const unsigned row_count = (unsigned)t.rows.size(), units = t.units, slots = 8;
    const size_t h_offset = 5, c_offset = h_offset + units + 3;
    const size_t state = c_offset + units + 2, z_stride = 4 * units + 8;
    const size_t y_stride = units + 1;
    std::vector<float> pool = check::random_floats(slots * state, 1, -1, 1);
    const std::vector<float> pool_before = pool;
    /* float4 is loaded: a vector's memory is aligned to 16 bytes. */
    std::vector<float> bias = check::random_floats(4 * units, 2, -1, 1);
    std::vector<float> c = check::random_floats(row_count * units, 3, -1, 1);
    std::vector<float> last(row_count * units, untouched);
    std::vector<uint32_t> h(row_count * units, 0x7e017e01); /* room for any type */
    const std::vector<float> c_before = c;

    std::vector<cy_cuda_row> rows(row_count);
    std::vector<std::vector<double>> ref_h(row_count), ref_c(row_count);
    for (unsigned r = 0; r < row_count; r++) {
        const Row &row = t.rows[r];
        rows[r].read = row.read == not_kept ? nullptr : &pool[row.read * state];
        rows[r].write = row.write == not_kept ? nullptr : &pool[row.write * state];
        rows[r].steps = row.steps;
        rows[r].index = row_count - 1 - r;
        rows[r].flags = row.flags;
        for (unsigned u = 0; u < units; u++) {
            bool workspace = row.flags & CY_CUDA_ROW_CONTINUES;
            ref_c[r].push_back(workspace              ? c_before[r * units + u]
                               : row.read == not_kept ? 0
                                                      : rows[r].read[c_offset + u]);
        }
        ref_h[r].resize(units);
    }

    cy_cuda_lstm_gather gather = {rows.data(), h.data(), h_offset,
                                  row_count,   units,    t.h_type};
    if (cy_cuda_lstm_gather_launch(&gather, nullptr)) return WRONG;
    for (unsigned r = 0; r < row_count; r++)
        for (unsigned u = 0; u < units; u++) {
            float got = value_of(t.h_type, h.data(), (size_t)r * units + u);
            std::vector<uint32_t> before(1, 0x7e017e01);
            size_t in_word = t.h_type == CY_CUDA_F32 ? 0 : (r * units + u) % 2;
            float kept = value_of(t.h_type, before.data(), in_word);
            if (t.rows[r].steps == 0 || t.rows[r].flags & CY_CUDA_ROW_CONTINUES) {
                if (memcmp(&got, &kept, sizeof got)) return WRONG;
                continue;
            }
            double expected = rows[r].read ? rows[r].read[h_offset + u] : 0;
            if (!near(got, expected, half_unit_of(t.h_type))) return WRONG;
        }

    for (unsigned step = 0; step < t.max_steps; step++) {
        std::vector<float> z =
            check::random_floats(row_count * z_stride, 10 + step, -3, 3);
        const std::vector<float> z_before = z;
        std::vector<float> y(row_count * y_stride, untouched);
        cy_cuda_lstm_cell cell = {};
        cell.rows = rows.data();
        cell.z = z.data();
        cell.bias = step % 2 ? nullptr : bias.data();
        cell.c = c.data();
        cell.h = h.data();
        cell.y = y.data();
        cell.last = last.data();
        cell.z_stride = z_stride;
        cell.y_stride = y_stride;
        cell.h_offset = h_offset;
        cell.c_offset = c_offset;
        cell.row_count = row_count;
        cell.units = units;
        cell.step = step;
        cell.h_type = t.h_type;
        cell.activation = t.activation;
        cell.recurrent_activation = t.recurrent_activation;
        if (cy_cuda_lstm_cell_launch(&cell, nullptr)) return WRONG;

        for (unsigned r = 0; r < row_count; r++) {
            if (step >= t.rows[r].steps) {
                for (unsigned u = 0; u < units; u++)
                    if (y[r * y_stride + u] != 0) return WRONG;
                continue;
            }
            std::vector<double> gates[4];
            for (unsigned g = 0; g < 4; g++) {
                for (unsigned u = 0; u < units; u++)
                    gates[g].push_back(z_before[r * z_stride + 4 * u + g] +
                                       (step % 2 ? 0 : (double)bias[4 * u + g]));
                in_double(g == 2 ? t.activation : t.recurrent_activation, gates[g]);
            }
            for (unsigned u = 0; u < units; u++)
                ref_c[r][u] = gates[1][u] * ref_c[r][u] + gates[0][u] * gates[2][u];
            std::vector<double> shaped = ref_c[r];
            in_double(t.activation, shaped);
            for (unsigned u = 0; u < units; u++) {
                ref_h[r][u] = gates[3][u] * shaped[u];
                float got = y[r * y_stride + u];
                if (!near(got, ref_h[r][u], tolerance)) return WRONG;
                if (!near(c[r * units + u], ref_c[r][u], tolerance)) return WRONG;
                double operand = value_of(t.h_type, h.data(), (size_t)r * units + u);
                if (fabs(operand - got) > half_unit_of(t.h_type) * fabs(got) + 1e-7)
                    return WRONG;
            }
            if (y[r * y_stride + units] != untouched) return WRONG;
        }
    }

    std::vector<float> expected = pool_before;
    for (unsigned r = 0; r < row_count; r++) {
        const Row &row = t.rows[r];
        bool ended = row.steps > 0 && row.steps <= t.max_steps;
        for (unsigned u = 0; u < units; u++) {
            if (row.steps == 0 && c[r * units + u] != c_before[r * units + u])
                return WRONG;
            float left = last[r * units + u];
            if (ended ? !near(left, ref_h[r][u], tolerance) : left != untouched)
                return WRONG;
            if (!ended || row.write == not_kept) continue;
            float *version = &pool[row.write * state];
            if (!near(version[h_offset + u], ref_h[r][u], tolerance) ||
                !near(version[c_offset + u], ref_c[r][u], tolerance))
                return WRONG;
            expected[row.write * state + h_offset + u] = version[h_offset + u];
            expected[row.write * state + c_offset + u] = version[c_offset + u];
        }
    }
    return pool == expected;
}

/* Rows that rest, begin, are reset, continue, end in this chunk or later, and are not kept. */
std::vector<Row> mixed_rows(unsigned steps)
{
    return {{steps, 3, 0, 0},
            {0, 1, 2, 0},
            {1, not_kept, 4, 0},
            {steps - 1, 5, not_kept, 0},
            {steps + 2, 6, 7, 0},
            {2, not_kept, 1, CY_CUDA_ROW_CONTINUES},
            {0, not_kept, not_kept, CY_CUDA_ROW_CONTINUES}};
}

bool cell_usual_good()
{
    for (cy_cuda_type type : {CY_CUDA_F32, CY_CUDA_BF16, CY_CUDA_F16})
        if (!cell_good({19, 3, type, CY_ACT_TANH, CY_ACT_SIGMOID, mixed_rows(3)}))
            return WRONG;
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

/* Element by element: the bits of the CPU's reference; over a row: double. */
bool activations_good()
{
    std::vector<float> z = check::random_floats(300, 7, -9, 9);
    const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN,
                             100,  -100,  1e-30f,   -1e-30f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        z[i * 3] = special[i];
    for (int a = 0; a < CY_ACT_COUNT; a++) {
        cy_activation activation = (cy_activation)a;
        if (cy_activation_spans_row(activation)) continue;
        std::vector<float> out(300, untouched), expected(300);
        cy_activate_f32_ref(activation, z.data(), expected.data(), 300);
        cy_cuda_dense_output dense = {};
        dense.z = z.data();
        dense.out = out.data();
        dense.row_stride = 100;
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

bool dense_good_as(cy_activation activation, unsigned width)
{
    const unsigned steps = 3, row_count = 4;
    const size_t step_stride = width + 2, row_stride = steps * step_stride + 5;
    std::vector<float> z = check::random_floats(steps * row_count * width, 4, -4, 4);
    std::vector<float> bias = check::random_floats(width, 5, -1, 1);
    std::vector<float> out(row_count * row_stride, untouched);
    std::vector<cy_cuda_row> rows(row_count);
    for (unsigned r = 0; r < row_count; r++) {
        rows[r].steps = r == 2 ? 9 : r;
        rows[r].index = (r + 1) % row_count;
    }
    cy_cuda_dense_output dense = {};
    dense.rows = rows.data();
    dense.z = z.data();
    dense.bias = bias.data();
    dense.out = out.data();
    dense.row_stride = row_stride;
    dense.step_stride = step_stride;
    dense.step_count = steps;
    dense.row_count = row_count;
    dense.width = width;
    dense.activation = activation;
    if (cy_cuda_dense_output_launch(&dense, nullptr)) return WRONG;
    unsigned written = 0;
    for (unsigned s = 0; s < steps; s++)
        for (unsigned r = 0; r < row_count; r++) {
            const float *got = &out[rows[r].index * row_stride + s * step_stride];
            std::vector<double> expected;
            for (unsigned i = 0; i < width; i++)
                expected.push_back((double)z[(s * row_count + r) * width + i] + bias[i]);
            in_double(activation, expected);
            for (unsigned i = 0; i < width; i++, written++)
                if (!near(got[i], s < rows[r].steps ? expected[i] : 0, 2e-6))
                    return WRONG;
        }
    for (float value : out)
        written += value == untouched;
    return written == out.size();
}

bool dense_good()
{
    return dense_good_as(CY_ACT_TANH, 33) && dense_good_as(CY_ACT_SIGMOID, 1);
}

bool dense_rows_good()
{
    return dense_good_as(CY_ACT_SOFTMAX, 70) && dense_good_as(CY_ACT_LOG_SOFTMAX, 129) &&
           dense_good_as(CY_ACT_SOFTMAX, 5);
}

/* exp of the largest would overflow, and of the smallest vanish. */
bool softmax_large_good()
{
    std::vector<float> z = {500, 499, -500, 500}, out(4);
    cy_cuda_dense_output dense = {};
    dense.z = z.data();
    dense.out = out.data();
    dense.row_stride = 4;
    dense.step_count = dense.row_count = 1;
    dense.width = 4;
    dense.activation = CY_ACT_SOFTMAX;
    if (cy_cuda_dense_output_launch(&dense, nullptr)) return WRONG;
    double sum = 2 + exp(-1);
    return near(out[0], 1 / sum, 1e-6) && near(out[1], exp(-1) / sum, 1e-6) &&
           out[2] == 0 && out[3] == out[0];
}

bool embedding_good()
{
    const unsigned steps = 3, row_count = 3, id_count = 6;
    for (unsigned width : {1u, 32u, 45u}) {
        std::vector<float> table = check::random_floats(id_count * width, 6, -1, 1);
        /* Rows 0 and 1 rest after 1 and 0 steps; what they would read is far outside. */
        std::vector<int> ids = {2, 1 << 30, 1 << 30, 0, 5, -1, 1 << 30, 1 << 30, 1 << 30};
        std::vector<cy_cuda_row> rows(row_count);
        const unsigned left[] = {1, 0, 3}, index[] = {0, 2, 1};
        for (unsigned r = 0; r < row_count; r++) {
            rows[r].steps = left[r];
            rows[r].index = index[r];
        }
        std::vector<float> out(steps * row_count * width, untouched);
        unsigned bad = 0;
        cy_cuda_embedding embedding = {};
        embedding.rows = rows.data();
        embedding.ids = ids.data();
        embedding.table = table.data();
        embedding.out = out.data();
        embedding.bad_ids = &bad;
        embedding.ids_stride = 3;
        embedding.id_count = id_count;
        embedding.width = width;
        embedding.step_count = steps;
        embedding.row_count = row_count;
        if (cy_cuda_embedding_launch(&embedding, nullptr)) return WRONG;
        for (unsigned s = 0; s < steps; s++)
            for (unsigned r = 0; r < row_count; r++)
                for (unsigned i = 0; i < width; i++) {
                    float got = out[(s * row_count + r) * width + i];
                    int id = ids[index[r] * 3 + s];
                    if (s >= left[r] ? got != 0
                        : id < 0     ? !isnan(got)
                                     : got != table[(unsigned)id * width + i])
                        return WRONG;
                }
        if (bad != 1) return WRONG;
    }
    return true;
}

void sizes_refused()
{
    cy_cuda_lstm_cell cell = {};
    cell.row_count = 1u << 20;
    cell.units = 1u << 12;
    CHECK(cy_cuda_lstm_cell_launch(&cell, nullptr) == cudaErrorInvalidValue);
    cell.row_count = 1;
    cell.z_stride = 4 * cell.units + 2;
    CHECK(cy_cuda_lstm_cell_launch(&cell, nullptr) == cudaErrorInvalidValue);
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
        {"cell, tanh and sigmoid", cell_usual_good},
        {"cell, other activations", cell_any_good},
        {"cell, softmax", cell_rows_good},
        {"activations", activations_good},
        {"dense output", dense_good},
        {"dense output, softmax", dense_rows_good},
        {"softmax of large numbers", softmax_large_good},
        {"embedding", embedding_good},
    };
    check::under_schedules(scenarios, 24);
    const std::vector<Scenario> with_barriers = {
        {"dense output, softmax", dense_rows_good},
        {"cell, softmax", cell_rows_good},
    };
    check::every_site_matters(with_barriers, 12);
    sizes_refused();
    return check::summary();
}
