/* The toolkit's own conversions between floats and halves, on the host. */
#ifndef TESTS_CUDA_HALF_TOOLKIT_H
#define TESTS_CUDA_HALF_TOOLKIT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint16_t toolkit_to_bf16(float value);
uint16_t toolkit_to_f16(float value);
float toolkit_from_bf16(uint16_t bits);
float toolkit_from_f16(uint16_t bits);

#ifdef __cplusplus
}
#endif

#endif
