/* The product: the bits of a plain loop in the order that its contract names, for every shape, type and kernel;
 * and that a row's bits are the same alone and among a thousand. */
#include "kernel_data.h"

using namespace check;

namespace
{

/* What the header promises, and nothing else. */
std::vector<float> in_order(const Numbers &a, const Numbers &b, std::vector<float> out,
                            unsigned rows, unsigned columns, unsigned depth)
{
    const unsigned length = cy_cuda_slice(depth);
    for (unsigned r = 0; r < rows; r++)
        for (unsigned c = 0; c < columns; c++) {
            float &element = out[r * columns + c];
            for (unsigned first = 0; first < depth; first += length) {
                float slice = 0;
                for (unsigned k = first; k < depth && k < first + length; k++)
                    slice = fmaf(a.at(r * depth + k), b.at(k * columns + c), slice);
                element += slice;
            }
        }
    return out;
}

struct Shape {
    unsigned rows, columns, depth;
};

bool launched(const Shape &s, cy_cuda_type type, unsigned accumulate, void *a, void *b,
              float *out)
{
    cy_cuda_product product = {a, b, out, s.rows, s.columns, s.depth, accumulate, type};
    return cy_cuda_product_launch(&product, nullptr) == cudaSuccess;
}

bool product_good(const Shape &s, cy_cuda_type type)
{
    Numbers a(type, random_floats(s.rows * s.depth, 1, -1, 1));
    Numbers b(type, random_floats(s.depth * s.columns, 2, -1, 1));
    for (unsigned accumulate : {0u, 1u}) {
        std::vector<float> before = accumulate
                                        ? random_floats(s.rows * s.columns, 3, -1, 1)
                                        : std::vector<float>(s.rows * s.columns, NAN);
        std::vector<float> out = before;
        if (!launched(s, type, accumulate, a.data(), b.data(), out.data())) return WRONG;
        if (!accumulate) std::fill(before.begin(), before.end(), 0.0f);
        if (!same_bits(out, in_order(a, b, before, s.rows, s.columns, s.depth)))
            return WRONG;
    }
    return true;
}

bool few_good()
{
    const Shape shapes[] = {{1, 1, 1},   {1, 8, 4},    {2, 9, 5},
                            {3, 33, 3},  {8, 12, 37},  {5, 68, 129},
                            {4, 7, 140}, {1, 4, 1100}, {7, 1, 257}};
    for (const Shape &shape : shapes)
        for (cy_cuda_type type : all_types)
            if (!product_good(shape, type)) return false;
    return true;
}

bool tiled_good()
{
    const Shape shapes[] = {{9, 1, 1},    {33, 65, 16}, {40, 64, 15}, {70, 3, 17},
                            {32, 66, 33}, {9, 5, 130},  {12, 70, 263}};
    for (const Shape &shape : shapes)
        for (cy_cuda_type type : all_types)
            if (!product_good(shape, type)) return false;
    return true;
}

/* Enough of them for the larger tile. */
bool tiled_large_good()
{
    for (cy_cuda_type type : all_types)
        if (!product_good({66, 65 * 64 + 5, type == CY_CUDA_F32 ? 21u : 3u}, type))
            return false;
    return true;
}

/* A row alone, among a few, among a thousand, and at an odd address. */
bool rows_independent()
{
    const unsigned rows = 1000, columns = 6;
    for (unsigned depth : {37u, 150u})
        for (cy_cuda_type type : all_types) {
            std::vector<float> values = random_floats(rows * depth + 1, 5, -1, 1);
            Numbers a(type, values);
            Numbers b(type, random_floats(depth * columns, 6, -1, 1));
            std::vector<float> all(rows * columns, untouched);
            if (!launched({rows, columns, depth}, type, 0, a.data(1), b.data(),
                          all.data()))
                return WRONG;
            for (unsigned first : {0u, 1u, 499u, 993u})
                for (unsigned some : {1u, 4u, 7u}) {
                    std::vector<float> out(some * columns, untouched);
                    if (!launched({some, columns, depth}, type, 0,
                                  a.data(1 + first * depth), b.data(), out.data()))
                        return WRONG;
                    if (memcmp(out.data(), &all[first * columns],
                               out.size() * sizeof out[0]))
                        return WRONG;
                }
        }
    return true;
}

/* An infinity, or a NaN, stays in its row and its column. */
bool special_stays_put()
{
    const unsigned rows = 10, columns = 5, depth = 35;
    std::vector<float> values = random_floats(rows * depth, 1, -1, 1);
    values[3 * depth + 34] = INFINITY;
    values[7 * depth] = NAN;
    Numbers a(CY_CUDA_F32, values);
    Numbers b(CY_CUDA_F32, random_floats(columns * depth, 2, 0.5f, 1));
    for (unsigned some : {rows, 8u}) {
        std::vector<float> out(some * columns, untouched);
        if (!launched({some, columns, depth}, CY_CUDA_F32, 0, a.data(), b.data(),
                      out.data()))
            return WRONG;
        for (unsigned i = 0; i < out.size(); i++)
            if (i / columns == 3   ? out[i] != INFINITY
                : i / columns == 7 ? !isnan(out[i])
                                   : !isfinite(out[i]))
                return WRONG;
    }
    return true;
}

void sizes_refused()
{
    float x = 0;
    CHECK(!launched({0, 1, 1}, CY_CUDA_F32, 0, &x, &x, &x));
    CHECK(!launched({1, 0, 1}, CY_CUDA_F32, 0, &x, &x, &x));
    CHECK(!launched({1, 1, 0}, CY_CUDA_F32, 0, &x, &x, &x));
    CHECK(!launched({1u << 16, 1u << 15, 1}, CY_CUDA_F32, 0, &x, &x, &x));
    CHECK(!launched({1u << 16, 1, 1u << 15}, CY_CUDA_F32, 0, &x, &x, &x));
    CHECK(!launched({1, 1u << 16, 1u << 15}, CY_CUDA_F32, 0, &x, &x, &x));
    CHECK(!launched({9, 65536 * 64, 1}, CY_CUDA_F32, 0, &x, &x, &x));
    for (unsigned depth = 1; depth < 20000; depth++) {
        unsigned length = cy_cuda_slice(depth);
        if (length % 4 || (depth + length - 1) / length > 32) {
            CHECK(!"a slice is a multiple of 4, and there are 32 at most");
            break;
        }
    }
}

} // namespace

int main()
{
    under_schedules({{"product, few rows", few_good},
                     {"product, tiled", tiled_good},
                     {"product, infinities", special_stays_put}},
                    8);
    under_schedules({{"product, large tiles", tiled_large_good},
                     {"product, rows independent", rows_independent}},
                    2);
    const std::vector<Scenario> with_barriers = {
        {"few",
         [] {
             return product_good({3, 4, 1100}, CY_CUDA_F32);
         }},
        {"tiled",
         [] {
             return product_good({12, 20, 50}, CY_CUDA_F32);
         }},
    };
    every_site_matters(with_barriers, 12);
    sizes_refused();
    return summary();
}
