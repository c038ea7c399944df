/* Every 16-bit number there is, widened. */
#include "import/half.h"

#include <criterion/criterion.h>
#include <math.h>

static float float16_slowly(uint16_t bits)
{
    int exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
    float sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexpf((float)fraction, -24);
    return sign * ldexpf((float)(1024 + fraction), exponent - 25);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

Test(import_half, every_float16)
{
    for (uint32_t i = 0; i <= UINT16_MAX; i++) {
        float got = cy_float16_float((uint16_t)i), expected = float16_slowly((uint16_t)i);
        if (isnan(expected)) cr_assert(isnan(got), "0x%04x", i);
        else
            cr_assert_eq(bits_of(got), bits_of(expected), "0x%04x is %g", i, (double)got);
    }
}

/* The upper half of a float32. */
Test(import_half, every_bfloat16)
{
    for (uint32_t i = 0; i <= UINT16_MAX; i++)
        cr_assert_eq(bits_of(cy_bfloat16_float((uint16_t)i)), i << 16, "0x%04x", i);
}
