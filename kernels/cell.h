/* Contract of the cell: the arithmetic of the gates, and of every activation, in scalar form.
 *
 * cy_activate_f32_ref   y = activation(x) over a vector; softmax and log_softmax normalise over it
 * cy_lstm_cell_f32_ref  everything of an LSTM step behind the products
 *
 * These are the only places where an activation other than tanh and sigmoid is written down; the
 * vector variants have those two fused (cpu/lstm_tmpl.h) and leave the rest to these. */
#ifndef CY_KERNELS_CELL_H
#define CY_KERNELS_CELL_H

#include "kernels/activation.h"
#include "kernels/lstm.h"

#include <stdbool.h>
#include <stddef.h>

/* True if a unit's result depends on the whole vector: such a step waits for all panels. */
static inline bool cy_activation_spans_row(cy_activation activation)
{
    return activation == CY_ACT_SOFTMAX || activation == CY_ACT_LOG_SOFTMAX;
}

/* y[n] = activation(x[n]); y may be x. */
void cy_activate_f32_ref(cy_activation activation, const float *x, float *y, size_t n);

/* Gates, c and h of panels first_panel .. end_panel-1 from the finished sums in step->z, which it
 * uses as scratch. With an activation that spans the row the panels must be all of them. */
void cy_lstm_cell_f32_ref(const cy_lstm_step *step, size_t lanes,
                          cy_activation activation, cy_activation recurrent_activation);

#endif
