/* Packing, kernels/pack.h. Once per model, so plain loops.
 * Called by: src/cpu/cpu_model.c. Test: tests/kernels/check_kernels.c. */
#include "kernels/pack.h"

void cy_pack_columns_f32(const float *source, float *panels, size_t k_count, size_t width,
                         size_t lanes)
{
    size_t per = 4 * lanes;
    for (size_t first = 0; first < width; first += per) {
        for (size_t k = 0; k < k_count; k++) {
            for (size_t j = 0; j < per; j++) {
                size_t column = first + j;
                *panels++ = column < width ? source[k * width + column] : 0;
            }
        }
    }
}

void cy_pack_gates_f32(const float *source, float *panels, size_t k_count, size_t units,
                       size_t lanes)
{
    for (size_t first = 0; first < units; first += lanes) {
        for (size_t k = 0; k < k_count; k++) {
            for (size_t g = 0; g < 4; g++) {
                for (size_t lane = 0; lane < lanes; lane++) {
                    size_t unit = first + lane;
                    *panels++ = unit < units ? source[(k * 4 + g) * units + unit] : 0;
                }
            }
        }
    }
}
