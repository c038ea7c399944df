/* Fibers: one stack each, switched by hand, with the notes that ASan and TSan need. */
#ifndef CY_TESTS_EMU_FIBER_H
#define CY_TESTS_EMU_FIBER_H

#include <stddef.h>

#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#define EMU_SWITCH_UCONTEXT
#include <ucontext.h>
#endif

/* EMU_ASAN and EMU_TSAN say how the kernels are compiled. */
#ifdef EMU_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);
}
#define EMU_RELEASE(token) __tsan_release(token)
#define EMU_ACQUIRE(token) __tsan_acquire(token)
#else
#define EMU_RELEASE(token) ((void)(token))
#define EMU_ACQUIRE(token) ((void)(token))
#endif

namespace emu
{

struct Fiber {
    char *stack = nullptr; /* lowest usable byte; a guard page lies below */
    void *fake_stack = nullptr;
    void *tsan = nullptr;
    bool owns_tsan = false;
#ifdef EMU_SWITCH_UCONTEXT
    ucontext_t context;
#else
    void *stack_pointer = nullptr;
#endif
};

/* Called once per launch by the thread that schedules. */
void fiber_scheduler_begin();

/* entry runs on the fiber's first turn and must not return. tsan: the context of another fiber to
 * share, or NULL for one of its own. */
void fiber_open(Fiber *fiber, void (*entry)(), void *tsan);

enum class FiberEnd { FINISHED, ABANDONED };
void fiber_close(Fiber *fiber, FiberEnd end);

/* The scheduler's side: runs the fiber until it leaves. */
void fiber_enter(Fiber *fiber);

/* The fiber's side; FINISHED never comes back. */
enum class Leave { PAUSED, FINISHED };
void fiber_leave(Fiber *fiber, Leave leave);

/* First statement of every entry. */
void fiber_arrived();

/* Runs call(argument) in a TSan context of its own, which knows only what token released. */
void fiber_detached(void (*call)(void *), void *argument, void *token);

} // namespace emu

#endif
