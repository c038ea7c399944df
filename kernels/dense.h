/* Contract of dense: out = bias + x * kernel, without activation.
 *
 * Serves two callers: a Dense layer, and the input product of an LSTM, whose columns are packed so
 * that one panel is four gates of `lanes` units (lstm.h). The two differ only in where a panel of a
 * row is stored, hence the two strides of `out`.
 *
 * Words: a panel is 4 * lanes columns; lanes is the variant's (cpu/cpu_kernels.h).
 *
 * Order, the same in every variant: an accumulator starts at 0, takes one fused multiply-add for each
 * k = 0 .. features-1, and the bias is added to the sum. So an element's bits depend on nothing but its
 * row and its column, and all instruction sets give the same bits. The bias comes last because every
 * addition rounds to the size of its sum: from a forget gate's bias of 1 on, all of them would. */
#ifndef CY_KERNELS_DENSE_H
#define CY_KERNELS_DENSE_H

#include <stddef.h>

typedef struct cy_dense {
    const float *const *x; /* [rows] pointers to [features], no alignment asked */
    const float
        *kernel; /* [panels][features][4 * lanes], zeros in columns past the width */
    const float *bias; /* [panels][4 * lanes], likewise */
    float *out;        /* panel p of row r: 4 * lanes floats at
                              out + r * row_stride + p * panel_stride */
    size_t row_stride;
    size_t panel_stride;
    size_t rows;
    size_t features;
    size_t first_panel; /* computes panels first_panel .. end_panel-1 */
    size_t end_panel;
} cy_dense;

#endif
