/* The emulator behind the fake runtime, as the machine of the probe (bench/probe/probe.h): kernels run and are
 * compared with the host, nothing is timed; what is beyond the dialect is not supported. */
#include "bench/probe/probe.h"
#include "bench/probe/probe_raw.h"
#include "emu.h"
#include "fake.h"

namespace probe
{

bool machine_open()
{
    fake::Device device;
    fake::reset(device, 1);
    emu::options.shared_limit_bytes = 232448;
    machine.name = "emulated";
    machine.major = device.major;
    machine.minor = device.minor;
    machine.multiprocessors = (unsigned)device.multiprocessors;
    machine.l2_bytes = 0;
    machine.memory_bytes = device.memory_bytes;
    machine.is_gpu = false;
    return true;
}

std::string reason_of(cudaError_t error)
{
    std::string reason = cudaGetErrorString(error);
    for (const char *more : {fake_kernel_error(), fake_last_misuse()})
        if (*more) reason += std::string("; ") + more;
    return reason;
}

cudaError_t clusters_at_once(const void *, const dev::launch_shape &, int *clusters)
{
    *clusters = 0;
    return cudaSuccess;
}

cudaError_t raw_dependent(cudaStream_t, unsigned *)
{
    return cudaErrorNotSupported;
}

cudaError_t raw_doorbell(cudaStream_t, const unsigned *, unsigned *)
{
    return cudaErrorNotSupported;
}

cudaError_t raw_grid_sync(cudaStream_t, unsigned, unsigned *, unsigned)
{
    return cudaErrorNotSupported;
}

cudaError_t raw_wgmma(cudaStream_t, raw_type, unsigned, const uint32_t *,
                      const uint32_t *, float *, unsigned)
{
    return cudaErrorNotSupported;
}

} // namespace probe
