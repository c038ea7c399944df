/* Activations on the device: the formulas of kernels/activate.h, element by element, and softmax and log_softmax over a row
 * by a whole block. */
#ifndef CY_KERNELS_CUDA_ACTIVATE_CUH
#define CY_KERNELS_CUDA_ACTIVATE_CUH

#include "kernels/activate.h"
#include "kernels/cuda/device.cuh"

#include <math.h>

namespace cy
{

enum reduction { REDUCE_SUM, REDUCE_MAX };

/* Over all threads of a block of whole warps; everybody gets the result. The order depends on the
 * number of threads alone. */
__device__ inline float block_reduce(reduction how, float value)
{
    DEV_SHARED(float, partial, [32]);
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = how == REDUCE_SUM ? dev::warp_sum(value) : dev::warp_max(value);
    if (lane == 0) partial[warp] = value;
    dev::sync_block();
    float mine = how == REDUCE_SUM ? 0 : -INFINITY;
    if (lane < blockDim.x / 32) mine = partial[lane];
    dev::sync_block(); /* before the next reduction writes partial */
    return how == REDUCE_SUM ? dev::warp_sum(mine) : dev::warp_max(mine);
}

/* put(i, activation(get(i))) over i < n, by a whole block; thread t keeps to i = t, t + blockDim, ... so that
 * callers which do the same need no barrier around it. get is asked up to three times, each time before put. */
template <class Get, class Put>
__device__ __forceinline__ void activate_row(cy_activation activation, unsigned n,
                                             Get get, Put put)
{
    if (!cy_activation_spans_row(activation)) {
        for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
            put(i, cy_activate(activation, get(i)));
        return;
    }
    float most = -INFINITY;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        float value = get(i);
        most = value > most ? value : most;
    }
    most = block_reduce(REDUCE_MAX, most);
    float sum = 0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
        sum += expf(get(i) - most);
    sum = block_reduce(REDUCE_SUM, sum);
    double log_sum = log((double)sum); /* one rounding, as in cell_ref.c */
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        double shifted = (double)get(i) - most;
        put(i, activation == CY_ACT_SOFTMAX ? expf((float)shifted) / sum
                                            : (float)(shifted - log_sum));
    }
}

} // namespace cy

#endif
