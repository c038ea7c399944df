/* Every allocation of carry's own in an import fails once: each time E_MEMORY, no model, nothing lost. */
#include "import_support.h"

#include <criterion/criterion.h>
#include <string.h>

void *__real_cy_alloc(size_t bytes);
void *__wrap_cy_alloc(size_t bytes);

static size_t allocations, failing; /* the failing-th returns NULL; 0: none */

void *__wrap_cy_alloc(size_t bytes)
{
    return ++allocations == failing ? NULL : __real_cy_alloc(bytes);
}

static void fail_each(const char *name)
{
    blob file = golden_read(name);
    void *model;
    size_t bytes;
    char sentence[256];
    failing = allocations = 0;
    cr_assert_eq(carry_import_bytes(file.data, file.bytes, &model, &bytes, sentence,
                                    sizeof sentence),
                 CARRY_OK, "%s: %s", name, sentence);
    carry_import_free(model);
    size_t count = allocations;
    cr_assert_gt(count, 5);
    for (size_t n = 1; n <= count; n++) {
        failing = n;
        allocations = 0;
        carry_status status = carry_import_bytes(file.data, file.bytes, &model, &bytes,
                                                 sentence, sizeof sentence);
        cr_assert_eq(status, CARRY_E_MEMORY, "%s, allocation %zu of %zu: %s '%s'", name,
                     n, count, carry_status_name(status), sentence);
        cr_assert(strstr(sentence, "out of memory"), "%s: '%s'", name, sentence);
        cr_assert_null(model);
        cr_assert_eq(bytes, 0);
    }
    failing = 0;
    blob_free(&file);
}

Test(import_memory, every_allocation_fails_once)
{
    fail_each("k3_sequential.keras");
    fail_each("k3_tree.keras");
    fail_each("k3_ids.keras");
    fail_each("k3_bfloat16.keras");
    fail_each("k2_functional.h5");
    fail_each("k2_0.h5");
}

Test(import_memory, every_allocation_of_a_file_import_fails_once)
{
    void *model;
    size_t bytes;
    char sentence[256];
    size_t count = 1;
    for (size_t n = 1; n <= count; n++) {
        failing = n;
        allocations = 0;
        carry_status status =
            carry_import_file("tests/import/golden/k3_ids.keras", &model, &bytes,
                              sentence, sizeof sentence);
        failing = 0;
        if (status == CARRY_OK) {
            carry_import_free(model);
            cr_assert_gt(n, 5);
            return;
        }
        cr_assert_eq(status, CARRY_E_MEMORY, "%s", sentence);
        cr_assert_null(model);
        count = n + 1;
    }
}
