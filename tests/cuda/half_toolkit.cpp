/* The toolkit's own conversions, for C. */
#include "half_toolkit.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

uint16_t toolkit_to_bf16(float value)
{
    return __nv_bfloat16_raw(__float2bfloat16_rn(value)).x;
}

uint16_t toolkit_to_f16(float value)
{
    return __half_raw(__float2half_rn(value)).x;
}

float toolkit_from_bf16(uint16_t bits)
{
    __nv_bfloat16_raw raw;
    raw.x = bits;
    return __bfloat162float(raw);
}

float toolkit_from_f16(uint16_t bits)
{
    __half_raw raw;
    raw.x = bits;
    return __half2float(raw);
}
