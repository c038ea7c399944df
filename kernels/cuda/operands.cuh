/* Where a fused step's operands lie, row by row: x in the caller's array or packed, h of the step before or of the
 * state. Shared by the kernels that do a whole step. */
#ifndef CY_KERNELS_CUDA_OPERANDS_CUH
#define CY_KERNELS_CUDA_OPERANDS_CUH

#include "kernels/cuda/activate.cuh"
#include "kernels/cuda/ports.cuh"

namespace cy
{

/* One row's numbers, from its first; no data: zeros. */
struct operand {
    const void *data;
    cy_cuda_type type;
};

template <class H>
__device__ __forceinline__ operand row_of(const void *values, unsigned r, unsigned width,
                                          cy_cuda_type type)
{
    return {static_cast<const H *>(values) + (size_t)r * width, type};
}

template <class H>
__device__ __forceinline__ operand input_of(const cy_cuda_lstm_step &s,
                                            const cy_cuda_row &row, unsigned r)
{
    if (!s.x_port) return row_of<H>(s.x, r, s.features, s.cell.h_type);
    const cy_cuda_port port = *s.x_port;
    size_t at = in_port(port, row, s.cell.step);
    return {static_cast<const char *>(port.data) +
                (port.type == CY_CUDA_F32 ? 4 : 2) * at,
            port.type};
}

template <class H>
__device__ __forceinline__ operand h_of(const cy_cuda_lstm_step &s,
                                        const cy_cuda_row &row, unsigned r)
{
    if (s.h_prev) return row_of<H>(s.h_prev, r, s.cell.units, s.cell.h_type);
    return {row.read ? row.read + s.cell.h_offset : nullptr, CY_CUDA_F32};
}

/* What a step leaves of h beside cell.h. */
template <class H>
__device__ __forceinline__ void put_y(const cy_cuda_lstm_step &s, const cy_cuda_row &row,
                                      unsigned unit, float h)
{
    if (!s.y_port) return;
    const cy_cuda_port port = *s.y_port;
    if (!has_place(port, row, s.cell.step)) return;
    H rounded;
    put(&rounded, h);
    store(port.type, port.data, in_port(port, row, s.cell.step) + unit,
          s.y_rounded ? to_float(rounded) : h);
}

/* What every fused step asks for: sizes that can be indexed, either z or an input, an h from somewhere. */
inline bool step_possible(const cy_cuda_lstm_step &s)
{
    const cy_cuda_lstm_cell &cell = s.cell;
    bool input = s.x || s.x_port;
    return flat_blocks(1, cell.row_count, cell.units, 4) &&
           flat_blocks(1, cell.units, cell.units, 4) && (cell.z != nullptr) != input &&
           (!input || flat_blocks(1, s.features, cell.units, 4)) &&
           (cell.step == 0 || s.h_prev) && !cy_activation_spans_row(cell.activation) &&
           !cy_activation_spans_row(cell.recurrent_activation);
}

} // namespace cy

#endif
