/* copy_async on the host. The destination becomes NaN when the copy is issued and gets its bytes at the
 * wait; the source is read at one or the other, as a coin says, so that writing it too early shows. */
#ifndef CY_TESTS_EMU_DEVICE_EMU_COPY_H
#define CY_TESTS_EMU_DEVICE_EMU_COPY_H

namespace emu
{

/* In words, not bytes: TSan remembers four accesses to eight bytes. */
inline void copy_words(void *to, const void *from, unsigned bytes)
{
    unsigned i = 0;
    for (; i + 4 <= bytes; i += 4) {
        uint32_t word = *reinterpret_cast<const uint32_t *>(
            static_cast<const unsigned char *>(from) + i);
        *reinterpret_cast<uint32_t *>(static_cast<unsigned char *>(to) + i) = word;
    }
    for (; i < bytes; i++)
        static_cast<unsigned char *>(to)[i] = static_cast<const unsigned char *>(from)[i];
}

} // namespace emu

namespace dev
{

template <int BYTES>
inline void copy_async(void *to_shared, const void *from_global,
                       unsigned source_bytes = BYTES, EMU_SITE)
{
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "copy_async moves 4, 8 or 16");
    emu::check_shared(to_shared, BYTES, BYTES, EMU_AT(COPY_WAIT));
    emu::Copy copy = {to_shared, from_global, BYTES, source_bytes, emu::coin(), {0}, 0};
    if (source_bytes > BYTES)
        emu::fail("copy_async at %s:%d reads %u of %d bytes", file_, line_, source_bytes,
                  BYTES);
    if (source_bytes > 0) {
        emu::check_global(from_global, BYTES, EMU_AT(COPY_WAIT));
        emu::copy_words(copy.data, from_global, source_bytes);
    }
    for (int i = 0; i < BYTES / 4; i++)
        static_cast<uint32_t *>(to_shared)[i] = ~0u;
    emu::copy_push(copy);
}

inline void copy_async_commit()
{
    emu::copy_commit();
}

template <int PENDING> inline void copy_async_wait(EMU_SITE)
{
    if (!emu::visit(EMU_AT(COPY_WAIT))) {
        emu::copy_forget(PENDING);
        return;
    }
    emu::maybe_yield();
    emu::Copy copy;
    while (emu::copy_pop(PENDING, &copy)) {
        if (!copy.sampled) emu::copy_words(copy.data, copy.from, copy.source_bytes);
        emu::copy_words(copy.to, copy.data, copy.bytes);
    }
}

} // namespace dev

#endif
