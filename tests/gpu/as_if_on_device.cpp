/* What on_device.cpp would meet, in emulation: the arena is ordinary memory, and a kernel argument that points to
 * memory outside it ends the program, since a GPU could not follow it. Looks through the arguments and, one
 * level deep, through what of new's they point to; not through the stack, where old addresses lie in between.
 * Linked with --wrap=cudaLaunchKernelExC. */
#include "arena.h"
#include "calls.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace
{

unsigned long launches, pointers;

bool is_mapped(uintptr_t address)
{
    unsigned char resident;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    /* A small number beside four bytes of padding, which hold anything, is no address. */
    if ((uint32_t)address < 0x10000) return false;
    return address >= page && address < (uintptr_t)1 << 47 &&
           mincore((void *)(address / page * page), page, &resident) == 0;
}

/* True if `at` holds an address in the arena; ends the program at any other address. */
bool follow(const unsigned char *at, const char *where, uintptr_t *address)
{
    memcpy(address, at, sizeof *address);
    if (arena::holds((void *)*address)) {
        pointers++;
        return true;
    }
    if (is_mapped(*address)) {
        fprintf(stderr,
                "launch %lu: a kernel would be given the address %p, %s, which no GPU "
                "can reach\n",
                launches, (void *)*address, where);
        exit(1);
    }
    return false;
}

void look_through(const unsigned char *argument, size_t bytes)
{
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uintptr_t target, beyond;
        if (!follow(argument + i, "in an argument", &target)) continue;
        size_t there = arena::bytes_behind((void *)target);
        for (size_t j = 0; j + 8 <= there && target % 8 == 0; j += 8)
            follow((const unsigned char *)target + j, "behind an argument", &beyond);
    }
}

void report()
{
    printf("%lu launches, %lu addresses, all within a GPU's reach\n", launches, pointers);
}

} // namespace

namespace arena
{

void *reserve(size_t bytes)
{
    void *block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block != MAP_FAILED) return block;
    perror("mmap");
    exit(1);
}

int before_main()
{
    atexit(report);
    return 0;
}

} // namespace arena

extern "C" {

cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                       const void *kernel, void **arguments);

cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t *config,
                                       const void *kernel, void **arguments)
{
    launches++;
    const emu::Kernel *how = emu::kernel_find(kernel);
    for (unsigned i = 0; how && i < how->argument_count; i++)
        look_through(static_cast<const unsigned char *>(arguments[i]),
                     how->argument_bytes[i]);
    return __real_cudaLaunchKernelExC(config, kernel, arguments);
}

} // extern "C"
