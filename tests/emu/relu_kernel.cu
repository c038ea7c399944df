/* See relu_kernel.h. */
#include "relu_kernel.h"

namespace
{

__global__ void relu(float *values, unsigned count)
{
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
        if (values[i] < 0) values[i] = 0;
}

} // namespace

cudaError_t relu_launch(float *values, unsigned count, cudaStream_t cuda_stream)
{
    return dev::launch(relu, {dim3(1), dim3(32), 0, 0, 0}, cuda_stream, values, count);
}
