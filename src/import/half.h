/* 16-bit floating-point numbers widened to float32, exactly. */
#ifndef CY_IMPORT_HALF_H
#define CY_IMPORT_HALF_H

#include <stdint.h>
#include <string.h>

static inline float cy_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float cy_bfloat16_float(uint16_t bits)
{
    return cy_bits_float((uint32_t)bits << 16);
}

static inline float cy_float16_float(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = (bits >> 10) & 0x1f, fraction = bits & 0x3ff;
    if (exponent == 0x1f) return cy_bits_float(sign | 0x7f800000 | fraction << 13);
    if (exponent) return cy_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    float value = (float)fraction / 16777216.0f; /* fraction * 2^-24 */
    return sign ? -value : value;
}

#endif
