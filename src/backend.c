/* The list of backends: the only file that names them. */
#include "backend.h"

#include "cpu/cpu.h"
#ifdef CY_HAVE_CUDA
#include "cuda/cuda.h"
#endif

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const cy_backend *const backends[] = {
    &cy_backend_cpu,
#ifdef CY_HAVE_CUDA
    &cy_backend_cuda,
#endif
};
#define BACKEND_COUNT (sizeof backends / sizeof *backends)

const char *carry_backend_name(size_t index)
{
    return index < BACKEND_COUNT ? backends[index]->name : NULL;
}

const char *carry_cpu_isa(void)
{
    return cy_cpu_isa();
}

carry_status cy_device_at(size_t index, carry_device_info *info)
{
    size_t count = 0;
    for (size_t i = 0; i < BACKEND_COUNT; i++)
        for (uint32_t device = 0; backends[i]->device_info(device, info); device++)
            if (count++ == index) return CARRY_OK;
    return cy_fail(CARRY_E_ARGUMENT, "device %zu of %zu", index, count);
}

/* "cuda" and "cuda:3" of the backend "cuda": which device; false for other words. */
static bool is_device_of(const char *word, const char *backend, uint32_t *index)
{
    size_t length = strlen(backend);
    *index = 0;
    if (strncmp(word, backend, length) != 0) return false;
    if (word[length] == 0) return true;
    const char *digits = word + length + 1;
    if (word[length] != ':' || strlen(digits) > 4 ||
        strspn(digits, "0123456789") != strlen(digits) || !*digits)
        return false;
    *index = (uint32_t)strtoul(digits, NULL, 10);
    return true;
}

/* The best device: a CUDA device that can be used, unless it is emulated, else the CPU. */
static void choose_best(cy_device *device)
{
    *device = (cy_device){.backend = &cy_backend_cpu};
#if defined CY_CUDA_EMULATED
    device->note =
        "the CUDA device of this build is emulated, for tests: it is used when named";
#elif defined CY_HAVE_CUDA
    carry_device_info info = {0};
    cy_backend_cuda.device_info(0, &info);
    if (info.usable) *device = (cy_device){.backend = &cy_backend_cuda};
    else device->note = info.trouble;
#else
    device->note = "this build of carry has no CUDA backend";
#endif
}

carry_status cy_device_find(const char *word, cy_device *device)
{
    if (!word || strcmp(word, "auto") == 0) {
        choose_best(device);
        return CARRY_OK;
    }
    for (size_t i = 0; i < BACKEND_COUNT; i++)
        if (is_device_of(word, backends[i]->name, &device->index)) {
            carry_device_info info = {0};
            device->backend = backends[i];
            device->note = NULL;
            bool there = device->backend->device_info(device->index, &info);
            CY_CHECK(there, CARRY_E_DEVICE, "device '%s': there is no such device here",
                     word);
            CY_CHECK(info.usable, CARRY_E_DEVICE, "device '%s': %s", word, info.trouble);
            return CARRY_OK;
        }
#ifdef CY_HAVE_CUDA
    return cy_fail(CARRY_E_DEVICE,
                   "device '%s': carry knows 'auto', 'cpu', 'cuda' and 'cuda:N'", word);
#else
    return cy_fail(
        CARRY_E_DEVICE, "device '%s': this build of carry has 'cpu' only%s", word,
        strncmp(word, "cuda", 4) == 0 ? "; build it with -DCARRY_CUDA=ON" : "");
#endif
}
