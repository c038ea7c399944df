/* All headers twice, in two orders, under the strictest warnings, as C11 and as C++17. */
#include <carry/carry.h>
#include <carry/carry_batcher.h>
#include <carry/carry_import.h>

int main(void)
{
    carry_batch batch = {sizeof(carry_batch), 0, 0, 0, 0, 0, 0, 0, 0, 0,
                         CARRY_STEPS_ALL,     0, 0, 0};
    return batch.mode == CARRY_STEPS_ALL ? CARRY_OK : CARRY_E_ARGUMENT;
}
