/* fake_control.h for C++. */
#ifndef CY_TESTS_EMU_FAKE_H
#define CY_TESTS_EMU_FAKE_H

#include "fake_control.h"

namespace fake
{

struct Device : fake_device {
    Device() : fake_device FAKE_DEVICE_DEFAULT
    {
    }
};

inline void reset(const Device &device, uint64_t seed)
{
    fake_reset(&device, seed);
}

enum class Failure { ONCE = FAKE_ONCE, STICKY = FAKE_STICKY };
inline void fail_call(size_t n, Failure failure)
{
    fake_fail_call(n, static_cast<fake_failure>(failure));
}

inline void fail_work(size_t n)
{
    fake_fail_work(n);
}

inline fake_seen seen()
{
    return fake_seen_now();
}

inline const char *last_misuse()
{
    return fake_last_misuse();
}

inline const char *call_name(size_t n)
{
    return fake_call_name(n);
}

inline size_t open_handles()
{
    return fake_open_handles();
}

} // namespace fake

#endif
