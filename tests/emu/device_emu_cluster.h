/* Clusters on the host: distributed shared memory, mbarriers, stores that arrive later.
 *
 * An mbarrier is one 64-bit word, changed by real atomics in instrumented code, so that TSan sees who
 * releases to whom:  pending arrivals [0, 20), arrivals of a phase [20, 40), bytes expected less bytes
 * come, as a two's complement of 23 bits [40, 63), phase parity [63]. */
#ifndef CY_TESTS_EMU_DEVICE_EMU_CLUSTER_H
#define CY_TESTS_EMU_DEVICE_EMU_CLUSTER_H

namespace emu
{

struct Mbarrier {
    uint32_t pending, arrivals;
    int32_t bytes;
    unsigned phase;
};

const uint32_t mbarrier_max = (1u << 20) - 1;

inline Mbarrier mbarrier_unpack(uint64_t word)
{
    /* The shift up and down extends the sign of a 23-bit field. */
    int32_t bytes = (int32_t)((uint32_t)(word >> 40) << 9) >> 9;
    return {(uint32_t)word & mbarrier_max, (uint32_t)(word >> 20) & mbarrier_max, bytes,
            (unsigned)(word >> 63)};
}

inline uint64_t mbarrier_pack(const Mbarrier &b)
{
    return (uint64_t)b.pending | (uint64_t)b.arrivals << 20 |
           (uint64_t)((uint32_t)b.bytes & 0x7fffff) << 40 | (uint64_t)b.phase << 63;
}

/* Arrives and expects bytes in one step; NULL or what is wrong. */
inline const char *mbarrier_update(uint64_t *word, uint32_t arrive, int32_t bytes)
{
    if (!mbarrier_known(word)) return "an mbarrier that was never initialised";
    uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED), next;
    bool exchanged;
    do {
        Mbarrier b = mbarrier_unpack(old);
        if (arrive > b.pending) return "more arrivals than the mbarrier's count";
        b.pending -= arrive;
        b.bytes += bytes;
        if (b.bytes > (int32_t)mbarrier_max || b.bytes < -(int32_t)mbarrier_max)
            return "an mbarrier's byte count is out of range";
        if (b.pending == 0 && b.bytes == 0) {
            b.pending = b.arrivals;
            b.phase ^= 1;
        }
        next = mbarrier_pack(b);
        exchanged = order_of_release() == __ATOMIC_RELEASE
                        ? __atomic_compare_exchange_n(word, &old, next, false,
                                                      __ATOMIC_RELEASE, __ATOMIC_RELAXED)
                        : __atomic_compare_exchange_n(word, &old, next, false,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    } while (!exchanged);
    progress();
    return nullptr;
}

inline void mbarrier_do(uint64_t *word, uint32_t arrive, int32_t bytes, const Site &site)
{
    if (!visit(site)) return;
    maybe_yield();
    const char *wrong = mbarrier_update(word, arrive, bytes);
    if (wrong) fail("%s at %s:%d: %s", kind_name(site.kind), site.file, site.line, wrong);
    maybe_yield();
}

/* Runs in the scheduler, in a context of its own; no calls that the compiler might turn into libc's. */
inline const char *async_store_apply(AsyncStore *store)
{
    uint64_t *to = static_cast<uint64_t *>(store->to);
    to[0] = store->data[0];
    to[1] = store->data[1];
    return mbarrier_update(store->barrier, 0, -16);
}

} // namespace emu

namespace dev
{

using cluster_address = emu::ClusterAddress;

inline unsigned cluster_rank()
{
    return emu::cluster_rank();
}

inline unsigned cluster_size()
{
    return emu::cluster_size();
}

inline void sync_cluster(EMU_SITE)
{
    emu::sync_cluster(EMU_AT(SYNC_CLUSTER));
}

inline cluster_address map_shared(const void *shared, unsigned rank, EMU_SITE)
{
    return emu::cluster_map(shared, rank, EMU_AT(SYNC_CLUSTER));
}

inline cluster_address advance(cluster_address address, unsigned bytes)
{
    return {address.rank, address.offset + bytes};
}

inline uint32_t load_cluster(cluster_address from, EMU_SITE)
{
    emu::maybe_yield();
    return *static_cast<const uint32_t *>(emu::cluster_resolve(from, 4, 4, EMU_AT(NONE)));
}

inline void store_cluster(cluster_address to, const uint32_t (&words)[4], EMU_SITE)
{
    emu::maybe_yield();
    uint32_t *p = static_cast<uint32_t *>(emu::cluster_resolve(to, 16, 16, EMU_AT(NONE)));
    for (int i = 0; i < 4; i++)
        p[i] = words[i];
}

inline void mbarrier_init(uint64_t *barrier, unsigned arrivals, EMU_SITE)
{
    emu::mbarrier_born(barrier, EMU_AT(MBARRIER_ARRIVE));
    if (arrivals == 0 || arrivals > emu::mbarrier_max)
        emu::fail("an mbarrier for %u arrivals at %s:%d", arrivals, file_, line_);
    /* A plain store: a barrier must order it before anybody's first use. */
    *barrier = emu::mbarrier_pack({arrivals, arrivals, 0, 0});
}

inline void fence_mbarrier_init()
{
}

inline void mbarrier_arrive(uint64_t *barrier, EMU_SITE)
{
    emu::check_shared(barrier, 8, 8, EMU_AT(MBARRIER_ARRIVE));
    emu::mbarrier_do(barrier, 1, 0, EMU_AT(MBARRIER_ARRIVE));
}

inline void mbarrier_arrive_expect(uint64_t *barrier, unsigned bytes, EMU_SITE)
{
    emu::check_shared(barrier, 8, 8, EMU_AT(MBARRIER_ARRIVE));
    emu::mbarrier_do(barrier, 1, (int32_t)bytes, EMU_AT(MBARRIER_ARRIVE));
}

inline void mbarrier_expect(uint64_t *barrier, unsigned bytes, EMU_SITE)
{
    emu::check_shared(barrier, 8, 8, EMU_AT(MBARRIER_ARRIVE));
    emu::mbarrier_do(barrier, 0, (int32_t)bytes, EMU_AT(MBARRIER_ARRIVE));
}

inline void mbarrier_arrive_cluster(cluster_address barrier, EMU_SITE)
{
    emu::Site site = EMU_AT(MBARRIER_ARRIVE);
    emu::mbarrier_do(static_cast<uint64_t *>(emu::cluster_resolve(barrier, 8, 8, site)),
                     1, 0, site);
}

/* False: the phase of this parity still runs; the caller asks again. */
inline bool mbarrier_try_wait(uint64_t *barrier, unsigned parity, EMU_SITE)
{
    emu::Site site = EMU_AT(MBARRIER_WAIT);
    if (!emu::visit(site)) return true;
    emu::check_shared(barrier, 8, 8, site);
    if (!emu::mbarrier_known(barrier))
        emu::fail("mbarrier_wait at %s:%d: an mbarrier that was never initialised", file_,
                  line_);
    if (emu::mbarrier_unpack(emu::load_acquire(barrier)).phase != parity) {
        emu::maybe_yield();
        return true;
    }
    emu::poll(site);
    return emu::mbarrier_unpack(emu::load_acquire(barrier)).phase != parity;
}

inline void mbarrier_wait(uint64_t *barrier, unsigned parity, EMU_SITE)
{
    while (!mbarrier_try_wait(barrier, parity, file_, line_)) {
    }
}

inline bool mbarrier_try_wait_cluster(uint64_t *barrier, unsigned parity, EMU_SITE)
{
    return mbarrier_try_wait(barrier, parity, file_, line_);
}

inline void mbarrier_wait_cluster(uint64_t *barrier, unsigned parity, EMU_SITE)
{
    mbarrier_wait(barrier, parity, file_, line_);
}

inline void store_async(cluster_address to, const uint32_t (&words)[4],
                        cluster_address barrier, EMU_SITE)
{
    emu::Site site = EMU_AT(STORE_ASYNC);
    if (!emu::visit(site)) return;
    if (emu::cluster_block(to) != emu::cluster_block(barrier))
        emu::fail("store_async at %s:%d: data and mbarrier lie in different blocks",
                  file_, line_);
    emu::AsyncStore store = {
        emu::cluster_resolve(to, 16, 16, site),
        static_cast<uint64_t *>(emu::cluster_resolve(barrier, 8, 8, site)),
        {words[0] | (uint64_t)words[1] << 32, words[2] | (uint64_t)words[3] << 32},
        emu::cluster_block(to),
        emu::async_store_apply};
    emu::async_push(store);
    emu::maybe_yield();
}

} // namespace dev

#endif
