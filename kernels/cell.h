/* Contract of the cell: the arithmetic of the gates, in scalar form, and activations over a vector.
 *
 * cy_activate_f32_ref   y = activation(x) over a vector; softmax and log_softmax normalise over it
 * cy_lstm_cell_f32_ref  everything of an LSTM step behind the products
 *
 * The formulas are those of kernels/activate.h; the vector variants have tanh and sigmoid fused (cpu/lstm_tmpl.h) and
 * leave the rest to these. */
#ifndef CY_KERNELS_CELL_H
#define CY_KERNELS_CELL_H

#include "kernels/activate.h"
#include "kernels/lstm.h"

#include <stddef.h>

/* y[n] = activation(x[n]); y may be x. */
void cy_activate_f32_ref(cy_activation activation, const float *x, float *y, size_t n);

/* Gates, c and h of panels first_panel .. end_panel-1 from the finished sums in step->z, which it
 * uses as scratch. With an activation that spans the row the panels must be all of them. */
void cy_lstm_cell_f32_ref(const cy_lstm_step *step, size_t lanes,
                          cy_activation activation, cy_activation recurrent_activation);

#endif
