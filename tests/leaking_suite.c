/* Leaks on purpose: in builds with the address sanitizer, running this must fail. */
#include <criterion/criterion.h>

#include <stdlib.h>

Test(leaking, a_leak_fails_the_test)
{
    char *volatile block = malloc(37);
    cr_assert_not_null(block);
    block = NULL;
}
