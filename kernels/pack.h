/* Packing: weights as a model holds them, row-major [k][columns], into panels as kernels read them.
 *
 *     cy_pack_columns_f32   dense:  [k][width]   -> [panels][k][4 * lanes]
 *     cy_pack_gates_f32     LSTM:   [k][4 units] -> [panels][k][4 gates][lanes]
 *
 * lanes = 2, units = 3, one k, columns named gate and unit; "." is a zero:
 *
 *     [k]   i0 i1 i2 f0 f1 f2 g0 g1 g2 o0 o1 o2
 *     panel 0 [k]   i0 i1  f0 f1  g0 g1  o0 o1
 *     panel 1 [k]   i2 .   f2 .   g2 .   o2 .
 *
 * A kernel walks one panel from end to end: four vector loads a k, no stride. A bias is packed like a
 * matrix of one k. */
#ifndef CY_KERNELS_PACK_H
#define CY_KERNELS_PACK_H

#include <stddef.h>

/* Panels that hold `columns` columns (dense: columns = width, per = 4 * lanes) or units (per = lanes). */
static inline size_t cy_pack_panels(size_t columns, size_t per)
{
    return columns / per + (columns % per != 0);
}

void cy_pack_columns_f32(const float *source, /* [k_count][width] */
                         float *panels,       /* [panels][k_count][4 * lanes] */
                         size_t k_count, size_t width, size_t lanes);

void cy_pack_gates_f32(const float *source, /* [k_count][4][units] */
                       float *panels,       /* [panels][k_count][4][lanes] */
                       size_t k_count, size_t units, size_t lanes);

#endif
