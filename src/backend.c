/* The list of backends: the only file that names them. */
#include "backend.h"

#include "cpu/cpu.h"

#include <string.h>

static const cy_backend *const backends[] = {&cy_backend_cpu};
#define BACKEND_COUNT (sizeof backends / sizeof *backends)

const char *carry_backend_name(size_t index)
{
    return index < BACKEND_COUNT ? backends[index]->name : NULL;
}

const char *carry_cpu_isa(void)
{
    return cy_cpu_isa();
}

carry_status cy_backend_find(const char *device, const cy_backend **backend)
{
    *backend = backends[0];
    if (!device || strcmp(device, "auto") == 0) return CARRY_OK;
    for (size_t i = 0; i < BACKEND_COUNT; i++)
        if (strcmp(device, backends[i]->name) == 0) {
            *backend = backends[i];
            return CARRY_OK;
        }
    return cy_fail(CARRY_E_DEVICE, "device '%s': this build of carry has 'cpu' only",
                   device);
}
