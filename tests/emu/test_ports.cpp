/* gather, embedding, scatter and the two of whole states, all types and both directions, against plain loops under many schedules; they
 * compute nothing, so results are exact, and every number outside stays what it was. */
#include "kernel_data.h"

using namespace check;

namespace
{

const unsigned STEPS = 4;

/* What a row's step becomes: the step of the caller's, backwards or not. */
unsigned turned(unsigned backwards, unsigned steps, unsigned step)
{
    return backwards ? steps - 1 - step : step;
}

bool gather_good_as(cy_cuda_type in_type, cy_cuda_type out_type, unsigned width,
                    unsigned backwards, cy_cuda_by by = CY_CUDA_BY_INDEX)
{
    std::vector<cy_cuda_row> rows = plain_rows({STEPS, 0, 2, backwards ? STEPS : 9, 1});
    const unsigned row_count = (unsigned)rows.size(), all = STEPS * row_count * width;
    CallersArray array(in_type, row_count, STEPS, width);
    array.by(by).fill(3);
    Numbers packed(in_type, random_floats(all, 4, -2, 2));
    for (const cy_cuda_port *port :
         {(const cy_cuda_port *)nullptr, (const cy_cuda_port *)&array.port}) {
        Numbers out(out_type, all);
        cy_cuda_gather gather = {};
        gather.rows = rows.data();
        gather.port = port;
        gather.in = port ? nullptr : packed.data();
        gather.out = out.data();
        gather.step_count = STEPS;
        gather.row_count = row_count;
        gather.width = width;
        gather.backwards = backwards;
        gather.in_type = in_type;
        gather.out_type = out_type;
        if (cy_cuda_gather_launch(&gather, nullptr)) return WRONG;
        for (unsigned s = 0; s < STEPS; s++)
            for (unsigned r = 0; r < row_count; r++)
                for (unsigned i = 0; i < width; i++) {
                    float expected = 0;
                    if (s < rows[r].steps) {
                        unsigned from = turned(backwards, rows[r].steps, s);
                        expected = port ? array.at(begin_of(rows[r], by), from, i)
                                        : packed.at((from * row_count + r) * width + i);
                    }
                    if (!same_bits(out.at((s * row_count + r) * width + i),
                                   rounded(out_type, expected)))
                        return WRONG;
                }
    }
    return true;
}

bool gather_good()
{
    for (cy_cuda_type in_type : all_types)
        for (cy_cuda_type out_type : all_types)
            if (!gather_good_as(in_type, out_type, 7, out_type == CY_CUDA_F16))
                return false;
    for (cy_cuda_by by : {CY_CUDA_BY_FIRST, CY_CUDA_BY_STAGED_IN})
        if (!gather_good_as(CY_CUDA_F16, CY_CUDA_F32, 5, 0, by) ||
            !gather_good_as(CY_CUDA_F32, CY_CUDA_BF16, 9, 1, by))
            return false;
    return gather_good_as(CY_CUDA_F32, CY_CUDA_F32, 1, 0) &&
           gather_good_as(CY_CUDA_F32, CY_CUDA_F32, 1, 1) &&
           gather_good_as(CY_CUDA_BF16, CY_CUDA_F32, 130, 1);
}

bool embedding_good_as(cy_cuda_type type, unsigned width, bool counted,
                       cy_cuda_by by = CY_CUDA_BY_INDEX)
{
    const unsigned id_count = 6, row_count = 3, gap = 5;
    std::vector<float> table = random_floats(id_count * width, 6, -1, 1);
    std::vector<cy_cuda_row> rows = plain_rows({1, 0, 3});
    /* Rows 0 and 1 rest after 1 and 0 steps; what they would read is far outside. */
    const int far = 1 << 30;
    std::vector<int> ids = {0,   5,   -1,  far, far, /* row 2 */
                            far, far, far, far, far, /* row 1 */
                            2,   far, far};          /* row 0 */
    cy_cuda_port port = {ids.data(), gap, 1, CY_CUDA_F32, by};
    if (by == CY_CUDA_BY_FIRST) { /* packed: no ids but those that are read */
        ids = {0, 5, -1, 2};
        port.data = ids.data();
        port.row_stride = 1;
        rows[0].first = rows[1].first = 3;
        rows[2].first = 0;
    }
    Numbers out(type, 3 * row_count * width);
    unsigned bad = 0;
    cy_cuda_embedding embedding = {};
    embedding.rows = rows.data();
    embedding.port = &port;
    embedding.table = table.data();
    embedding.out = out.data();
    embedding.bad_ids = counted ? &bad : nullptr;
    embedding.id_count = id_count;
    embedding.width = width;
    embedding.step_count = 3;
    embedding.row_count = row_count;
    embedding.out_type = type;
    if (cy_cuda_embedding_launch(&embedding, nullptr)) return WRONG;
    for (unsigned s = 0; s < 3; s++)
        for (unsigned r = 0; r < row_count; r++)
            for (unsigned i = 0; i < width; i++) {
                float got = out.at((s * row_count + r) * width + i);
                if (s >= rows[r].steps) {
                    if (!same_bits(got, 0)) return WRONG;
                    continue;
                }
                int id = ids[begin_of(rows[r], by) * port.row_stride + s];
                if (id < 0 ? !isnan(got)
                           : got != rounded(type, table[(unsigned)id * width + i]))
                    return WRONG;
            }
    return bad == counted ? true : WRONG;
}

bool embedding_good()
{
    for (cy_cuda_type type : all_types)
        if (!embedding_good_as(type, 45, true) || !embedding_good_as(type, 32, false))
            return false;
    return embedding_good_as(CY_CUDA_F32, 1, true) &&
           embedding_good_as(CY_CUDA_F32, 33, true, CY_CUDA_BY_FIRST);
}

/* Rows that end, go on, rest from the start and rest since the chunk before. */
std::vector<cy_cuda_row> leaving_rows(const std::vector<float> &state)
{
    std::vector<cy_cuda_row> rows = plain_rows({STEPS, 0, 1, 9, 0, 2, 0, 0});
    rows[7].flags = CY_CUDA_ROW_ABSENT;
    rows[4].flags = rows[5].flags = CY_CUDA_ROW_CONTINUES;
    rows[5].read = rows[6].read = rows[4].read = state.data();
    return rows;
}

bool scatter_good_as(cy_cuda_which which, cy_cuda_type in_type, cy_cuda_type type,
                     unsigned width, size_t state_offset,
                     cy_cuda_by by = CY_CUDA_BY_INDEX)
{
    std::vector<float> state = random_floats(2 * width + 3, 8, -2, 2);
    std::vector<cy_cuda_row> rows = leaving_rows(state);
    const unsigned row_count = (unsigned)rows.size();
    const unsigned in_rows = which == CY_CUDA_AFTER ? row_count : row_count - 2;
    const unsigned steps_in = which == CY_CUDA_AFTER ? 1 : STEPS;
    const unsigned steps_out = which == CY_CUDA_EVERY_STEP ? STEPS : 1;
    Numbers in(in_type, random_floats(steps_in * in_rows * width, 9, -2, 2));
    CallersArray out(type, row_count, STEPS, width);
    out.by(by);
    cy_cuda_scatter scatter = {};
    scatter.rows = rows.data();
    scatter.in = in.data();
    scatter.port = &out.port;
    scatter.state_offset = state_offset;
    scatter.step_count = STEPS;
    scatter.row_count = row_count;
    scatter.in_row_count = in_rows;
    scatter.width = width;
    scatter.in_type = in_type;
    scatter.which = which;
    if (cy_cuda_scatter_launch(&scatter, nullptr)) return WRONG;
    size_t written = 0;
    for (unsigned s = 0; s < steps_out; s++)
        for (unsigned r = 0; r < row_count; r++) {
            const cy_cuda_row &row = rows[r];
            bool continues = row.flags & CY_CUDA_ROW_CONTINUES;
            if (row.flags & CY_CUDA_ROW_ABSENT) continue;
            if (which == CY_CUDA_LAST_STEP &&
                (row.steps > STEPS || (row.steps == 0 && continues)))
                continue;
            if (by != CY_CUDA_BY_INDEX && s >= row.room) continue;
            for (unsigned i = 0; i < width; i++, written++) {
                float expected = 0;
                if (which == CY_CUDA_EVERY_STEP) {
                    if (s < row.steps) expected = in.at((s * in_rows + r) * width + i);
                } else if (which == CY_CUDA_LAST_STEP) {
                    if (row.steps)
                        expected = in.at(((row.steps - 1) * in_rows + r) * width + i);
                } else if (continues || row.steps > 0) {
                    expected = in.at(r * width + i);
                } else if (row.read && state_offset != CY_CUDA_NO_STATE) {
                    expected = state[state_offset + i];
                }
                if (!same_bits(out.at(begin_of(row, by), s, i), rounded(type, expected)))
                    return WRONG;
            }
        }
    return out.numbers.touched() == written ? true : WRONG;
}

bool scatter_good()
{
    for (cy_cuda_which which : {CY_CUDA_EVERY_STEP, CY_CUDA_LAST_STEP, CY_CUDA_AFTER}) {
        for (cy_cuda_type in_type : all_types)
            for (cy_cuda_type type : all_types)
                if (!scatter_good_as(which, in_type, type, 9, 4)) return false;
        for (unsigned width : {1u, 9u})
            if (!scatter_good_as(which, CY_CUDA_F32, CY_CUDA_F32, width,
                                 CY_CUDA_NO_STATE))
                return false;
        if (!scatter_good_as(which, CY_CUDA_BF16, CY_CUDA_F32, 131, 0)) return false;
    }
    for (cy_cuda_by by : {CY_CUDA_BY_FIRST, CY_CUDA_BY_STAGED_OUT})
        for (cy_cuda_type type : all_types)
            if (!scatter_good_as(CY_CUDA_EVERY_STEP, CY_CUDA_F16, type, 7,
                                 CY_CUDA_NO_STATE, by))
                return false;
    return true;
}

/* States in any order in one memory, two of them the same, one without memory. */
bool states_good_as(unsigned count, unsigned width)
{
    Numbers pool(CY_CUDA_F32, random_floats((count + 1) * width, 10, -2, 2));
    Numbers packed(CY_CUDA_F32, (count + 1) * width), before = pool;
    std::vector<float *> states(count);
    for (unsigned i = 0; i < count; i++)
        states[i] = static_cast<float *>(pool.data((i * 7 + 3) % count * width));
    if (count > 2) states[1] = nullptr, states[2] = states[0];
    cy_cuda_states all = {};
    all.states = states.data();
    all.packed = static_cast<float *>(packed.data());
    all.count = count;
    all.width = width;
    if (cy_cuda_states_gather_launch(&all, nullptr)) return WRONG;
    if (!(pool == before)) return WRONG;
    for (unsigned i = 0; i < (count + 1) * width; i++) {
        float expected = i >= count * width   ? untouched
                         : !states[i / width] ? 0
                                              : states[i / width][i % width];
        if (!same_bits(packed.at(i), expected)) return WRONG;
    }

    std::vector<float> values = random_floats(count * width, 11, -2, 2);
    for (unsigned i = 0; i < count * width; i++)
        packed.set(i, values[i]);
    if (count > 2) states[2] = nullptr; /* none is named twice */
    if (cy_cuda_states_scatter_launch(&all, nullptr)) return WRONG;
    std::vector<bool> written(count + 1);
    for (unsigned i = 0; i < count; i++) {
        if (!states[i]) continue;
        size_t place = (states[i] - static_cast<float *>(pool.data())) / width;
        written[place] = true;
        for (unsigned k = 0; k < width; k++)
            if (!same_bits(states[i][k], values[i * width + k])) return WRONG;
    }
    for (unsigned i = 0; i < (count + 1) * width; i++)
        if (!written[i / width] && !same_bits(pool.at(i), before.at(i))) return WRONG;
    return true;
}

bool states_good()
{
    return states_good_as(1, 4) && states_good_as(1, 128) && states_good_as(9, 16) &&
           states_good_as(40, 52);
}

void sizes_refused()
{
    cy_cuda_gather gather = {};
    gather.step_count = gather.row_count = 1u << 15;
    gather.width = 2;
    CHECK(cy_cuda_gather_launch(&gather, nullptr) == cudaErrorInvalidValue);
    cy_cuda_embedding embedding = {};
    embedding.step_count = embedding.row_count = 1u << 15;
    embedding.width = 2;
    CHECK(cy_cuda_embedding_launch(&embedding, nullptr) == cudaErrorInvalidValue);
    cy_cuda_scatter scatter = {};
    scatter.step_count = scatter.row_count = scatter.in_row_count = 1u << 15;
    scatter.width = 2;
    for (cy_cuda_which which : {CY_CUDA_EVERY_STEP, CY_CUDA_LAST_STEP}) {
        scatter.which = which;
        CHECK(cy_cuda_scatter_launch(&scatter, nullptr) == cudaErrorInvalidValue);
    }
    cy_cuda_states states = {};
    states.count = 1u << 16;
    for (unsigned width : {1u << 15, 6u}) {
        states.width = width;
        CHECK(cy_cuda_states_gather_launch(&states, nullptr) == cudaErrorInvalidValue);
        CHECK(cy_cuda_states_scatter_launch(&states, nullptr) == cudaErrorInvalidValue);
    }
}

} // namespace

int main()
{
    under_schedules({{"gather", gather_good},
                     {"embedding", embedding_good},
                     {"scatter", scatter_good},
                     {"states", states_good}},
                    8);
    sizes_refused();
    return summary();
}
