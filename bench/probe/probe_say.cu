/* How figures are said, compared and timed; see probe.h. */
#include "probe.h"

#include "bench/bench_clock.h"

#include <stdio.h>

namespace probe
{

Machine machine;
cudaStream_t cuda_stream;
unsigned repeats = 21;

namespace
{

const char *part = "";
unsigned wrongs, rights;

/* Text for JSON: what it could not hold becomes a space. */
std::string quoted(const std::string &text)
{
    std::string q = "\"";
    for (char c : text)
        q += c == '"' || c == '\\' || (unsigned char)c < ' ' ? ' ' : c;
    return q + "\"";
}

void say_kind(const char *kind, const std::string &what, const char *field,
              const std::string &value)
{
    printf("{\"kind\":\"%s\",\"program\":\"probe\",\"part\":\"%s\",\"what\":%s", kind,
           part, quoted(what).c_str());
    if (field) printf(",\"%s\":%s", field, quoted(value).c_str());
    printf("}\n");
    fflush(stdout);
}

} // namespace

void begin_part(const char *name)
{
    part = name;
    fprintf(stderr, "\n%-58s %-8s %10s %21s %15s %7s\n", name, "unit", "median",
            "p10 to p90", "expected", "ratio");
}

void say(const std::string &what, const char *unit, std::vector<double> values,
         Expected expected)
{
    bench_sort(values.data(), values.size());
    double median = bench_percentile(values.data(), values.size(), 50);
    double p10 = bench_percentile(values.data(), values.size(), 10);
    double p90 = bench_percentile(values.data(), values.size(), 90);
    printf("{\"kind\":\"probe\",\"program\":\"probe\",\"part\":\"%s\",\"what\":%s,"
           "\"unit\":\"%s\",\"median\":%.5g,\"p10\":%.5g,\"p90\":%.5g,\"repeats\":%zu",
           part, quoted(what).c_str(), unit, median, p10, p90, values.size());
    fprintf(stderr, "%-58s %-8s %10.4g %10.4g %10.4g", what.c_str(), unit, median, p10,
            p90);
    if (expected.high > 0) {
        /* of the middle of what was expected */
        double ratio = 2 * median / (expected.low + expected.high);
        printf(",\"expected_low\":%.5g,\"expected_high\":%.5g,\"ratio\":%.3f",
               expected.low, expected.high, ratio);
        fprintf(stderr, " %7.4g-%-7.4g %7.2f", expected.low, expected.high, ratio);
    }
    printf("}\n");
    fprintf(stderr, "\n");
    fflush(stdout);
}

void say_not_measured(const std::string &what, const std::string &reason)
{
    say_kind("not_measured", what, "reason", reason);
    fprintf(stderr, "%-58s not measured: %s\n", what.c_str(), reason.c_str());
}

void say_wrong(const std::string &what, const std::string &how)
{
    wrongs++;
    say_kind("wrong", what, "how", how);
    fprintf(stderr, "%-58s WRONG: %s\n", what.c_str(), how.c_str());
}

void say_right(const std::string &what)
{
    rights++;
    say_kind("right", what, nullptr, "");
}

unsigned wrong_count()
{
    return wrongs;
}

unsigned right_count()
{
    return rights;
}

bool tried(cudaError_t error, const std::string &what)
{
    if (!error) return true;
    cudaGetLastError();
    /* In emulation nothing may fail but what is not emulated. */
    if (!machine.is_gpu && error != cudaErrorNotSupported)
        say_wrong(what, reason_of(error));
    else if (!machine.is_gpu)
        say_not_measured(what, "not emulated: compiled only, no GPU has run it");
    else if (error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure)
        say_wrong(what, reason_of(error));
    else say_not_measured(what, reason_of(error));
    return false;
}

bool found_right(const std::string &what, const std::string &wrong)
{
    if (wrong.empty()) say_right(what);
    else say_wrong(what, wrong);
    return wrong.empty();
}

bool ran(const std::string &what, const Launch &launch)
{
    return tried(launch(), what) && tried(cudaStreamSynchronize(cuda_stream), what);
}

void time_events(const std::string &what, const char *unit, Expected expected,
                 const Launch &launch, const std::function<double(double)> &from_us)
{
    if (!machine.is_gpu) {
        if (ran(what, launch)) say_not_measured(what, "no GPU here");
        return;
    }
    cudaEvent_t before = nullptr, after = nullptr;
    if (!tried(cudaEventCreate(&before), what) || !tried(cudaEventCreate(&after), what))
        return;
    std::vector<double> values;
    bool good = ran(what, launch) && ran(what, launch); /* warm */
    for (unsigned i = 0; good && i < repeats; i++) {
        float ms = 0;
        good = tried(cudaEventRecord(before, cuda_stream), what) &&
               tried(launch(), what) &&
               tried(cudaEventRecord(after, cuda_stream), what) &&
               tried(cudaEventSynchronize(after), what) &&
               tried(cudaEventElapsedTime(&ms, before, after), what);
        values.push_back(from_us(ms * 1e3));
    }
    cudaEventDestroy(before);
    cudaEventDestroy(after);
    if (good) say(what, unit, values, expected);
}

void time_rounds(const std::string &what, double rounds, Expected expected,
                 const Launch &launch)
{
    time_events(what, "us", expected, launch, [=](double us) { return us / rounds; });
}

void time_host(const std::string &what, Expected expected, unsigned count,
               const Launch &call)
{
    std::vector<double> us;
    if (!tried(call(), what)) return;
    if (!machine.is_gpu) {
        say_not_measured(what, "no GPU here");
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        double start = bench_now_us();
        if (!tried(call(), what)) return;
        us.push_back(bench_now_us() - start);
    }
    say(what, "us", us, expected);
}

} // namespace probe
