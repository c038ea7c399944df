#include "device.h"

#include <stdlib.h>
#include <string.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* [device][sanitized] */
static const test_sizes table[2][2] = {
    {{100000, 37, 300, 71, 3000, 1000}, {100000, 37, 300, 71, 3000, 1000}},
    {{500, 17, 40, 12, 1500, 64}, {100, 7, 12, 9, 1100, 33}},
};

bool on_cuda(void)
{
    const char *device = getenv("CARRY_TEST_DEVICE");
    return device && strncmp(device, "cuda", 4) == 0;
}

const test_sizes *sizes(void)
{
    return &table[on_cuda()][SANITIZED];
}

const carry_model_options *model_options(void)
{
    static carry_model_options options = {.size = sizeof options};
    options.device = getenv("CARRY_TEST_DEVICE");
    return &options;
}

carry_session_options session_options(const carry_session_options *given)
{
    carry_session_options options = {.size = sizeof options};
    const char *exact = getenv("CARRY_TEST_EXACT");
    if (given) options = *given;
    if (!on_cuda()) return options;
    options.exact = !exact || strcmp(exact, "0") != 0;
    if (options.max_rows == 0)
        options.max_rows = 64; /* as on the CPU: workspaces stay small */
    return options;
}
