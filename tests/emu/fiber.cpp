/* The context switch and the stacks of fibers.
 *
 * The switch saves the six registers that the x86-64 calling convention asks a callee to keep, and
 * changes stacks; other processors take ucontext, four times slower. TSan is told about every switch
 * with no_sync: being scheduled after somebody orders nothing. Compiled without TSan. */
#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef EMU_SWITCH_UCONTEXT
extern "C" void emu_switch(void **save, void *stack_pointer);
__asm__(".text\n"
        ".globl emu_switch\n"
        ".hidden emu_switch\n"
        ".type emu_switch, @function\n"
        "emu_switch:\n"
        "    pushq %rbx\n"
        "    pushq %rbp\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbp\n"
        "    popq %rbx\n"
        "    ret\n"
        ".size emu_switch, . - emu_switch\n"
        ".section .note.GNU-stack, \"\", @progbits\n"
        ".text\n");
#endif

namespace emu
{
namespace
{

#if defined(EMU_ASAN)
const size_t stack_bytes = 256 << 10;
#elif defined(EMU_TSAN)
const size_t stack_bytes = 128 << 10;
#else
const size_t stack_bytes = 64 << 10;
#endif
const size_t guard_bytes = 4096;

std::vector<char *> *free_stacks; /* kept for the life of the process */

#ifdef EMU_SWITCH_UCONTEXT
ucontext_t scheduler_context;
#else
void *scheduler_stack_pointer;
#endif
#ifdef EMU_ASAN
void *scheduler_fake_stack;
const void *scheduler_bottom;
size_t scheduler_bytes;
#endif
#ifdef EMU_TSAN
void *scheduler_tsan;
const unsigned no_sync = 1;
#endif

char *stack_take()
{
    if (free_stacks && !free_stacks->empty()) {
        char *stack = free_stacks->back();
        free_stacks->pop_back();
        return stack;
    }
    void *block = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED || mprotect(block, guard_bytes, PROT_NONE)) {
        perror("emu: a fiber's stack");
        abort();
    }
    return static_cast<char *>(block) + guard_bytes;
}

void stack_give(char *stack)
{
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(stack, stack_bytes);
#endif
#ifdef EMU_TSAN
    /* A stack used again would look like a race with its last owner. */
    munmap(stack - guard_bytes, guard_bytes + stack_bytes);
#else
    if (!free_stacks) free_stacks = new std::vector<char *>;
    free_stacks->push_back(stack);
#endif
}

} // namespace

void fiber_scheduler_begin()
{
#ifdef EMU_TSAN
    scheduler_tsan = __tsan_get_current_fiber();
#endif
}

void fiber_open(Fiber *fiber, void (*entry)(), void *tsan)
{
    fiber->stack = stack_take();
#ifdef EMU_TSAN
    fiber->owns_tsan = !tsan;
    fiber->tsan = tsan ? tsan : __tsan_create_fiber(0);
#else
    (void)tsan;
#endif
#ifdef EMU_SWITCH_UCONTEXT
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = stack_bytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, entry, 0);
#else
    /* What emu_switch pops: six registers and entry's address; one word more keeps the stack where
     * a called function expects it, 8 past a multiple of 16. */
    void **top = reinterpret_cast<void **>(fiber->stack + stack_bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    fiber->stack_pointer = top;
#endif
}

void fiber_close(Fiber *fiber, FiberEnd end)
{
    if (!fiber->stack) return;
    stack_give(fiber->stack);
    fiber->stack = nullptr;
#ifdef EMU_TSAN
    if (fiber->owns_tsan) {
        if (end == FiberEnd::ABANDONED) {
            /* What it did comes before what the host does next. */
            __tsan_switch_to_fiber(fiber->tsan, 0);
            __tsan_switch_to_fiber(scheduler_tsan, 0);
        }
        __tsan_destroy_fiber(fiber->tsan);
    }
    fiber->tsan = nullptr;
#else
    (void)end;
#endif
}

void fiber_enter(Fiber *fiber)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber->stack, stack_bytes);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(fiber->tsan, no_sync);
#endif
#ifdef EMU_SWITCH_UCONTEXT
    swapcontext(&scheduler_context, &fiber->context);
#else
    emu_switch(&scheduler_stack_pointer, fiber->stack_pointer);
#endif
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

void fiber_leave(Fiber *fiber, Leave leave)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(leave == Leave::FINISHED ? nullptr
                                                            : &fiber->fake_stack,
                                   scheduler_bottom, scheduler_bytes);
#else
    (void)leave;
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(scheduler_tsan, no_sync);
#endif
#ifdef EMU_SWITCH_UCONTEXT
    swapcontext(&fiber->context, &scheduler_context);
#else
    emu_switch(&fiber->stack_pointer, scheduler_stack_pointer);
#endif
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &scheduler_bottom,
                                    &scheduler_bytes);
#endif
}

void fiber_arrived()
{
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_bytes);
#endif
}

void fiber_detached(void (*call)(void *), void *argument, void *token)
{
#ifdef EMU_TSAN
    void *context = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(context, no_sync);
    __tsan_acquire(token);
    call(argument);
    __tsan_switch_to_fiber(scheduler_tsan, no_sync);
    __tsan_destroy_fiber(context);
#else
    (void)token;
    call(argument);
#endif
}

} // namespace emu
