/* The arithmetic of the fake cuBLAS: one product, summed in an order that its shape decides. */
#ifndef CY_TESTS_EMU_FAKE_PRODUCT_H
#define CY_TESTS_EMU_FAKE_PRODUCT_H

#include <stddef.h>

namespace fake
{

enum class Operand {
    F32,
    TF32,
    BF16,
    F16
};                                       /* TF32: float memory, rounded on its way in */
enum class Layout { PLAIN, TRANSPOSED }; /* column by column, as Fortran has it */

struct Matrix {
    const void *data;
    size_t stride; /* between columns, in elements */
    Layout layout;
};

/* c = alpha a b + beta c, with a [m][k], b [k][n], c [m][n]; c is not read where beta is 0. */
struct Product {
    unsigned m, n, k, batch; /* batch: only decides the order */
    Operand operand;
    Matrix a, b;
    float alpha, beta;
    float *c;
    size_t c_stride;
};
void product(const Product &product);

/* As cuBLAS picks a kernel by shape: how many parts k is cut into, which part is added first, and
 * whether a product is rounded before it is added. */
struct SumOrder {
    unsigned slices, first;
    bool fused;
};
SumOrder sum_order(unsigned m, unsigned n, unsigned k, unsigned batch);

size_t operand_bytes(Operand operand);

} // namespace fake

#endif
