/* Data of the kernels' tests: arrays of any type, poisoned so that what nobody wrote shows, and the caller's arrays
 * with strides that leave gaps. */
#ifndef CY_TESTS_EMU_KERNEL_DATA_H
#define CY_TESTS_EMU_KERNEL_DATA_H

#include "check.h"

#include "kernels/cuda/cuda_kernels.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace check
{

const float untouched = -12288; /* the same in every type */
const unsigned not_kept = ~0u;
const cy_cuda_type all_types[] = {CY_CUDA_F32, CY_CUDA_BF16, CY_CUDA_F16};

/* Exactly `count` numbers of a type, so that a sanitizer sees the first one beyond. */
class Numbers
{
  public:
    Numbers(cy_cuda_type type, size_t count)
        : type_(type), count_(count), bytes_(count * (type == CY_CUDA_F32 ? 4 : 2))
    {
        for (size_t i = 0; i < count; i++)
            set(i, untouched);
    }
    Numbers(cy_cuda_type type, const std::vector<float> &values)
        : Numbers(type, values.size())
    {
        for (size_t i = 0; i < count_; i++)
            set(i, values[i]);
    }

    /* From number `first` on. */
    void *data(size_t first = 0)
    {
        return bytes_.data() + first * (type_ == CY_CUDA_F32 ? 4 : 2);
    }
    size_t count() const
    {
        return count_;
    }
    float at(size_t i) const
    {
        const void *all = bytes_.data();
        if (type_ == CY_CUDA_BF16)
            return __bfloat162float(static_cast<const __nv_bfloat16 *>(all)[i]);
        if (type_ == CY_CUDA_F16)
            return __half2float(static_cast<const __half *>(all)[i]);
        return static_cast<const float *>(all)[i];
    }
    void set(size_t i, float value)
    {
        void *all = bytes_.data();
        if (type_ == CY_CUDA_BF16)
            static_cast<__nv_bfloat16 *>(all)[i] = __float2bfloat16(value);
        else if (type_ == CY_CUDA_F16)
            static_cast<__half *>(all)[i] = __float2half(value);
        else static_cast<float *>(all)[i] = value;
    }
    size_t touched() const
    {
        size_t n = 0;
        for (size_t i = 0; i < count_; i++)
            n += at(i) != untouched;
        return n;
    }
    bool operator==(const Numbers &other) const
    {
        return bytes_ == other.bytes_;
    }

  private:
    cy_cuda_type type_;
    size_t count_;
    std::vector<unsigned char> bytes_; /* of malloc: aligned to 16 */
};

inline float rounded(cy_cuda_type type, float value)
{
    return Numbers(type, std::vector<float>{value}).at(0);
}

/* Half a unit in the last place, relative. */
inline double half_unit_of(cy_cuda_type type)
{
    return type == CY_CUDA_BF16 ? 0x1p-8 : type == CY_CUDA_F16 ? 0x1p-11 : 0;
}

inline bool near(double got, double expected, double tolerance)
{
    return fabs(got - expected) <= tolerance * fmax(1, fabs(expected));
}

inline bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

inline bool same_bits(const std::vector<float> &a, const std::vector<float> &b)
{
    return a.size() == b.size() && !memcmp(a.data(), b.data(), a.size() * sizeof a[0]);
}

/* A caller's array of rows x steps vectors, with gaps between them. */
struct CallersArray {
    CallersArray(cy_cuda_type type, unsigned rows, unsigned steps, unsigned width)
        : step_stride(width + 3), row_stride(steps * step_stride + 5),
          numbers(type, rows * row_stride), port{numbers.data(), row_stride, step_stride,
                                                 type, CY_CUDA_BY_INDEX}
    {
    }
    CallersArray(const CallersArray &) = delete;

    /* What follows, by another of a row's numbers. */
    CallersArray &by(cy_cuda_by number)
    {
        port.by = number;
        return *this;
    }

    size_t place(unsigned index, unsigned step, unsigned i) const
    {
        return index * row_stride + step * step_stride + i;
    }
    float at(unsigned index, unsigned step, unsigned i) const
    {
        return numbers.at(place(index, step, i));
    }
    void fill(unsigned seed)
    {
        std::vector<float> values = random_floats(numbers.count(), seed, -2, 2);
        for (size_t i = 0; i < values.size(); i++)
            numbers.set(i, values[i]);
    }

    const size_t step_stride, row_stride;
    Numbers numbers;
    cy_cuda_port port;
};

/* Places of their own in packed arrays, another in each, and room for none or some more steps. */
inline void pack(std::vector<cy_cuda_row> *rows)
{
    const unsigned count = (unsigned)rows->size();
    for (unsigned r = 0; r < count; r++) {
        cy_cuda_row &row = (*rows)[r];
        row.first = (row.index + 1) % count;
        row.staged_in = (row.index + 2) % count;
        row.staged_out = (row.index + 3) % count;
        row.room = row.steps + r % 3;
    }
}

/* Where a row begins in an array. */
inline unsigned begin_of(const cy_cuda_row &row, cy_cuda_by by)
{
    return by == CY_CUDA_BY_INDEX       ? row.index
           : by == CY_CUDA_BY_FIRST     ? (unsigned)row.first
           : by == CY_CUDA_BY_STAGED_IN ? row.staged_in
                                        : row.staged_out;
}

/* Rows that only have steps and a place, in the caller's order turned round. */
inline std::vector<cy_cuda_row> plain_rows(const std::vector<unsigned> &steps)
{
    std::vector<cy_cuda_row> rows(steps.size());
    for (unsigned r = 0; r < rows.size(); r++) {
        rows[r].steps = steps[r];
        rows[r].index = (unsigned)rows.size() - 1 - r;
    }
    pack(&rows);
    return rows;
}

/* A row of a test call: which slots of a pool of states it reads and writes. */
struct Row {
    unsigned steps, read, write, flags;
};

/* Rows that rest, begin, are reset, continue, end in this chunk or later, and are not kept. */
inline std::vector<Row> mixed_rows(unsigned steps)
{
    return {{steps, 3, 0, 0},
            {0, 1, 2, 0},
            {1, not_kept, 4, 0},
            {steps - 1, 5, not_kept, 0},
            {steps + 2, 6, 7, 0},
            {2, not_kept, 1, CY_CUDA_ROW_CONTINUES},
            {0, not_kept, not_kept, CY_CUDA_ROW_CONTINUES}};
}

/* One layer's h and c somewhere inside each of eight states. */
struct Pool {
    explicit Pool(unsigned units)
        : h_offset(5), c_offset(h_offset + units + 3), state(c_offset + units + 2),
          values(random_floats(8 * state, 1, -1, 1))
    {
    }
    std::vector<cy_cuda_row> rows(const std::vector<Row> &test_rows)
    {
        std::vector<cy_cuda_row> rows(test_rows.size());
        for (unsigned r = 0; r < rows.size(); r++) {
            const Row &row = test_rows[r];
            rows[r].read = row.read == not_kept ? nullptr : &values[row.read * state];
            rows[r].write = row.write == not_kept ? nullptr : &values[row.write * state];
            rows[r].steps = row.steps;
            rows[r].index = (unsigned)rows.size() - 1 - r;
            rows[r].flags = row.flags;
        }
        pack(&rows);
        return rows;
    }

    const size_t h_offset, c_offset, state;
    std::vector<float> values;
};

} // namespace check

#endif
