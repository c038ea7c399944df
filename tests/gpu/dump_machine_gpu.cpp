/* The first GPU, as the machine of the dump (dump_cases.h). */
#include "dump_cases.h"

#include <cuda_runtime_api.h>
#include <stdio.h>

namespace dump
{

static cudaDeviceProp properties;

bool machine_begin(unsigned)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (!error && count > 0) error = cudaGetDeviceProperties(&properties, 0);
    if (!error && count > 0) return true;
    fprintf(stderr, "dialect_dump: no GPU: %s\n",
            error ? cudaGetErrorString(error) : "the driver knows none");
    return false;
}

int machine_architecture()
{
    return properties.major * 10 + properties.minor;
}

std::string machine_name()
{
    return properties.name;
}

size_t machine_numerics_count()
{
    return 1;
}

const char *machine_numerics(size_t)
{
    return "device";
}

void machine_use_numerics(size_t)
{
}

} // namespace dump
