/* What the parts of the probe share: how a figure is checked, timed and said.
 *
 * Every figure goes the same way. Its arrays are poisoned or random; one launch runs and its result is compared with a
 * computation on the host; then it is timed by device events and the median said beside what was expected. The
 * emulator (tests/gpu/probe_machine_emu.cpp) goes that way too, with small sizes, as far as the comparison. */
#ifndef BENCH_PROBE_H
#define BENCH_PROBE_H

#include "kernels/cuda/device.cuh"

#include <functional>
#include <random>
#include <string>
#include <vector>

namespace probe
{

/* ---- the machine: probe_machine.cu, or the emulator's ---- */

struct Machine {
    std::string name;
    int major = 0, minor = 0;
    unsigned multiprocessors = 0;
    size_t l2_bytes = 0, memory_bytes = 0;
    bool is_gpu = false; /* false: kernels are emulated, and no time means anything */
};
extern Machine machine;

/* False, with a sentence on stderr: there is none. */
bool machine_open();

/* Why a call failed, as the machine says it. */
std::string reason_of(cudaError_t error);

/* How many clusters of this shape run at the same time. */
cudaError_t clusters_at_once(const void *kernel, const dev::launch_shape &shape,
                             int *clusters);

/* A size on a GPU, and one that the emulator runs in a moment. */
template <class T> T size(T on_gpu, T emulated)
{
    return machine.is_gpu ? on_gpu : emulated;
}

/* ---- saying: lines of JSON on stdout, a table on stderr ---- */

/* What was expected before anybody measured, in the figure's unit; 0: nothing was. */
struct Expected {
    double low, high;
};

void begin_part(const char *name);
void say(const std::string &what, const char *unit, std::vector<double> values,
         Expected expected);
void say_not_measured(const std::string &what, const std::string &reason);
/* Counts as a failure of the program. */
void say_wrong(const std::string &what, const std::string &how);
void say_right(const std::string &what);
unsigned wrong_count();
unsigned right_count();

/* False, and said: the call failed, so there is no figure. */
bool tried(cudaError_t error, const std::string &what);

/* True, and said, if `wrong` is "". */
bool found_right(const std::string &what, const std::string &wrong);

/* ---- memory ---- */

/* An array on the device, every byte 0xff until something is put there. */
template <class T> struct Array {
    T *at = nullptr;
    size_t count;

    explicit Array(size_t n) : count(n)
    {
        if (cudaMalloc((void **)&at, n * sizeof(T))) at = nullptr;
        cudaGetLastError();
        if (at) poison();
    }
    explicit Array(const std::vector<T> &values) : Array(values.size())
    {
        put(values);
    }
    ~Array()
    {
        cudaFree(at);
    }
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;

    void poison()
    {
        cudaMemset(at, 0xff, count * sizeof(T));
        cudaDeviceSynchronize();
    }
    void put(const std::vector<T> &values)
    {
        if (!at) return;
        cudaMemcpy(at, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
        /* It may be under way still, and cuda_stream does not wait for it. */
        cudaDeviceSynchronize();
    }
    std::vector<T> get() const
    {
        std::vector<T> values(count);
        if (at) cudaMemcpy(values.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost);
        return values;
    }
};

std::vector<uint32_t> random_words(size_t count, unsigned seed);
std::vector<float> random_floats(size_t count, unsigned seed, float low, float high);

/* ||a - b|| / ||b||; NaN counts as infinite. */
double distance(const std::vector<float> &a, const std::vector<double> &b);

/* ---- timing ---- */

extern cudaStream_t cuda_stream;
extern unsigned repeats;

typedef std::function<cudaError_t()> Launch;

/* Launches once and waits; false, and said, if that fails. */
bool ran(const std::string &what, const Launch &launch);

/* Device events around each of `repeats` launches; the figure is from_us(a launch's microseconds). Without a GPU
 * says that it was not measured. */
void time_events(const std::string &what, const char *unit, Expected expected,
                 const Launch &launch, const std::function<double(double)> &from_us);
/* The figure is the microseconds by `rounds`. */
void time_rounds(const std::string &what, double rounds, Expected expected,
                 const Launch &launch);
/* Host clock around something that waits itself; `count` times. */
void time_host(const std::string &what, Expected expected, unsigned count,
               const Launch &call);

/* ---- the parts ---- */

void part_launch();
void part_barriers();
void part_clusters();
void part_memory();
void part_arithmetic();
void part_recurrent();
void part_grid();

} // namespace probe

#endif
