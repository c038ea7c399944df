/* Contract of the LSTM's operations. Gates stand in the order i f g o.
 *
 *     z  = bias + x * kernel            input product: cy_dense, for many steps at once
 *     z += h_prev * recurrent_kernel    cy_lstm_step, one step of many rows
 *     i, f, o = recurrent_activation(z_i, z_f, z_o);  g = activation(z_g)
 *     c  = f * c + i * g
 *     h  = o * activation(c)
 *
 * Words: a panel is `lanes` units with their four gates, so that a vector variant holds all four
 * gates of its units in registers when the products are done. panels = ceil(units / lanes).
 *
 * Order, the same in every variant: an accumulator starts at 0, takes one fused multiply-add for each
 * k = 0 .. units-1, and the sum is added to z (dense.h says why); c is fma(f, c, i * g). Units past
 * `units` in the last panel are computed like any other and never read as a k: what stands there, NaN
 * included, reaches nothing. */
#ifndef CY_KERNELS_LSTM_H
#define CY_KERNELS_LSTM_H

#include "kernels/activation.h"

#include <stddef.h>

typedef struct cy_lstm_step {
    float *z;            /* [panels][z_rows][4][lanes], pointing at the first row of the
                                   step; lstm_accumulate leaves the sum there */
    size_t z_rows;       /* rows between two panels of z */
    const float *h_prev; /* [rows][units], rows h_prev_stride apart */
    const float *recurrent; /* [panels][units][4][lanes] */
    float *c; /* [rows][panels * lanes], rows c_stride apart; read and written */
    float *h; /* [rows][panels * lanes], rows h_stride apart; not h_prev */
    size_t h_prev_stride, c_stride, h_stride; /* in floats */
    size_t rows;
    size_t units;
    size_t first_panel; /* computes panels first_panel .. end_panel-1 of every row */
    size_t end_panel;
} cy_lstm_step;

#endif
