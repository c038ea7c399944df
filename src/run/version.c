/* Codes, names and texts; what this build and this machine are. */
#include "backend.h"
#include "base/sized.h"

#define TEXT2(x) #x
#define TEXT(x)  TEXT2(x)

const char *carry_error(void)
{
    return cy_error();
}

const char *carry_status_text(carry_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case CARRY_##name:          \
        return text;
        CARRY_STATUS_LIST(CASE)
#undef CASE
    }
    return "unknown status";
}

const char *carry_status_name(carry_status status)
{
    switch (status) {
#define CASE(name, value, text) \
    case CARRY_##name:          \
        return #name;
        CARRY_STATUS_LIST(CASE)
#undef CASE
    }
    return "unknown status";
}

const char *carry_version(void)
{
    return TEXT(CARRY_VERSION_MAJOR) "." TEXT(CARRY_VERSION_MINOR) "." TEXT(
        CARRY_VERSION_PATCH);
}

carry_status carry_device_get_info(size_t index, carry_device_info *info)
{
    carry_device_info known = {0};
    CY_TRY(cy_device_at(index, &known));
    return cy_sized_write(info, &known, sizeof known, "carry_device_info");
}
