#include "base/sized.h"

#include <string.h>

static carry_status check_size(size_t stated, const char *name)
{
    /* Every struct has at least one field behind its size. 64 KiB: an uninitialised size. */
    CY_CHECK(stated > sizeof(size_t) && stated < 65536, CARRY_E_ARGUMENT,
             "%s.size is %zu; write sizeof(%s) there", name, stated, name);
    return CARRY_OK;
}

carry_status cy_sized_read(void *known, size_t known_bytes, const void *given,
                           const char *name)
{
    memset(known, 0, known_bytes);
    if (!given) return CARRY_OK;
    size_t stated;
    memcpy(&stated, given, sizeof stated);
    CY_TRY(check_size(stated, name));
    memcpy(known, given, stated < known_bytes ? stated : known_bytes);
    return CARRY_OK;
}

carry_status cy_sized_write(void *given, const void *known, size_t known_bytes,
                            const char *name)
{
    CY_CHECK(given, CARRY_E_ARGUMENT, "%s is NULL", name);
    size_t stated;
    memcpy(&stated, given, sizeof stated);
    CY_TRY(check_size(stated, name));
    size_t bytes = stated < known_bytes ? stated : known_bytes;
    memcpy((char *)given + sizeof stated, (const char *)known + sizeof stated,
           bytes - sizeof stated);
    return CARRY_OK;
}
