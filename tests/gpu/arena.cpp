/* See arena.h. Sizes are rounded up to powers of two, and blocks given back are kept by size. */
#include "arena.h"

#include <mutex>
#include <new>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

namespace
{

const size_t heap_bytes = (size_t)192 << 20, stack_bytes = (size_t)16 << 20;
const size_t head_bytes = 64; /* so that what new returns is aligned to 64 */

/* Before every block that new returned. */
struct Head {
    size_t bytes;
    Head *next;
    unsigned size_class;
};

unsigned char *block;
size_t used = stack_bytes; /* the stack lies first */
Head *given_back[48];
std::mutex one_at_a_time;

void begin()
{
    static bool begun;
    if (begun) return;
    begun = true;
    block = static_cast<unsigned char *>(arena::reserve(stack_bytes + heap_bytes));
}

void *take(size_t bytes)
{
    std::lock_guard<std::mutex> lock(one_at_a_time);
    begin();
    unsigned size_class = 6;
    while ((size_t)1 << size_class < bytes)
        size_class++;
    Head *head = given_back[size_class];
    if (head) {
        given_back[size_class] = head->next;
    } else {
        size_t whole = head_bytes + ((size_t)1 << size_class);
        if (whole > stack_bytes + heap_bytes - used) {
            fprintf(stderr, "the arena of %zu MiB is full\n", heap_bytes >> 20);
            abort();
        }
        head = reinterpret_cast<Head *>(block + used);
        used += whole;
    }
    *head = {bytes, nullptr, size_class};
    return reinterpret_cast<unsigned char *>(head) + head_bytes;
}

void give_back(void *pointer)
{
    if (!pointer) return;
    std::lock_guard<std::mutex> lock(one_at_a_time);
    Head *head =
        reinterpret_cast<Head *>(static_cast<unsigned char *>(pointer) - head_bytes);
    head->bytes = 0;
    head->next = given_back[head->size_class];
    given_back[head->size_class] = head;
}

struct Main {
    int argc;
    char **argv;
    int status;
};

} // namespace

namespace arena
{

bool holds(const void *address)
{
    const unsigned char *at = static_cast<const unsigned char *>(address);
    return block && at >= block && at < block + stack_bytes + heap_bytes;
}

size_t bytes_behind(const void *address)
{
    const unsigned char *at = static_cast<const unsigned char *>(address);
    for (size_t place = stack_bytes; at >= block + stack_bytes && place < used;) {
        const Head *head = reinterpret_cast<const Head *>(block + place);
        const unsigned char *data = block + place + head_bytes;
        if (at >= data && at < data + head->bytes)
            return head->bytes - (size_t)(at - data);
        place += head_bytes + ((size_t)1 << head->size_class);
    }
    return 0;
}

} // namespace arena

void *operator new(size_t bytes)
{
    return take(bytes);
}

void *operator new[](size_t bytes)
{
    return take(bytes);
}

void operator delete(void *pointer) noexcept
{
    give_back(pointer);
}

void operator delete[](void *pointer) noexcept
{
    give_back(pointer);
}

void operator delete(void *pointer, size_t) noexcept
{
    give_back(pointer);
}

void operator delete[](void *pointer, size_t) noexcept
{
    give_back(pointer);
}

extern "C" {

int __real_main(int argc, char **argv);

static void *main_on_thread(void *given)
{
    Main *m = static_cast<Main *>(given);
    m->status = arena::before_main();
    if (m->status == 0) m->status = __real_main(m->argc, m->argv);
    return nullptr;
}

int __wrap_main(int argc, char **argv)
{
    Main m = {argc, argv, 1};
    pthread_t thread;
    pthread_attr_t attributes;
    begin();
    if (pthread_attr_init(&attributes) ||
        pthread_attr_setstack(&attributes, block, stack_bytes) ||
        pthread_create(&thread, &attributes, main_on_thread, &m) ||
        pthread_join(thread, nullptr)) {
        fprintf(stderr, "no thread on a stack in the arena\n");
        return 1;
    }
    return m.status;
}

} // extern "C"
