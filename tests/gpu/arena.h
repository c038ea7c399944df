/* All memory of a kernel test, its stack included, in one block that a GPU can reach, so that the tests of tests/emu,
 * whose kernels work on std::vector and on local variables, run on a GPU as they are: operator new takes from the
 * block, and main runs on a thread whose stack is a part of it (linked with --wrap=main). */
#ifndef CY_TESTS_GPU_ARENA_H
#define CY_TESTS_GPU_ARENA_H

#include <stddef.h>

namespace arena
{

/* The block: on_device.cpp takes it from CUDA, as_if_on_device.cpp from the system. Exits if there is none. */
void *reserve(size_t bytes);

/* Called on that thread before main; an exit status, or 0 to go on. */
int before_main();

bool holds(const void *address);
/* Bytes from `address` on that belong to what new returned; 0 for the stack. */
size_t bytes_behind(const void *address);

} // namespace arena

#endif
