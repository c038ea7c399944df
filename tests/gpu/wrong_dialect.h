/* The dialect with one mistake at a time: dump_wrong names the function that does something wrong. Included by
 * dump_kernels.cu in the emulated test only, to show that the dump of that function's case would differ. Functions
 * that only order things are not here: test_dialect.cpp drops those. */
#ifndef CY_TESTS_GPU_WRONG_DIALECT_H
#define CY_TESTS_GPU_WRONG_DIALECT_H

#include <string.h>
#include <utility>

extern const char *dump_wrong; /* "": none */

const char *const wrong_names[] = {"shuffle",
                                   "shuffle_xor",
                                   "shuffle_up",
                                   "shuffle_down",
                                   "ballot",
                                   "warp_sum",
                                   "warp_max",
                                   "atomic_add",
                                   "load_read_only",
                                   "copy_async",
                                   "mma_bf16",
                                   "mma_f16",
                                   "mma_f16_k8",
                                   "mma_tf32",
                                   "to_tf32",
                                   "load_matrix_x1",
                                   "load_matrix_x2",
                                   "load_matrix_x4",
                                   "load_matrix_x2_transposed",
                                   "load_matrix_x4_transposed",
                                   "transpose_matrix",
                                   "cluster_rank",
                                   "cluster_size",
                                   "map_shared",
                                   "advance",
                                   "load_cluster",
                                   "store_cluster",
                                   "mbarrier_try_wait",
                                   "mbarrier_try_wait_cluster",
                                   "store_async"};

namespace wrong
{

inline bool is(const char *name)
{
    return !strcmp(dump_wrong, name);
}

} // namespace wrong

namespace dev
{

/* Lanes beside the right ones. */
#define WRONG_SHUFFLE(name)                                                            \
    template <class T> inline T wrong_##name(T value, unsigned n, unsigned mask = ~0u) \
    {                                                                                  \
        return name(value, wrong::is(#name) && n == 13 ? 12 : n, mask);                \
    }
WRONG_SHUFFLE(shuffle)
WRONG_SHUFFLE(shuffle_xor)
WRONG_SHUFFLE(shuffle_up)
WRONG_SHUFFLE(shuffle_down)

inline unsigned wrong_ballot(int predicate, unsigned mask = ~0u)
{
    unsigned votes = ballot(predicate, mask);
    return wrong::is("ballot") ? votes | ~mask : votes;
}

/* The same numbers in another order. */
inline float wrong_warp_sum(float value)
{
    if (!wrong::is("warp_sum")) return warp_sum(value);
    for (unsigned bits = 1; bits < 32; bits *= 2)
        value += shuffle_xor(value, bits);
    return value;
}

/* Of magnitudes. */
inline float wrong_warp_max(float value)
{
    return warp_max(wrong::is("warp_max") && value < 0 ? -value : value);
}

template <class T> inline T wrong_atomic_add(T *p, T value)
{
    T before = atomic_add(p, value);
    return wrong::is("atomic_add") ? before + value : before;
}

template <class T> inline T wrong_load_read_only(const T *p)
{
    return load_read_only(wrong::is("load_read_only") && sizeof(T) == 4 ? p - threadIdx.x
                                                                        : p);
}

/* Does not fill with zeros. */
template <int BYTES>
inline void wrong_copy_async(void *to, const void *from, unsigned source_bytes = BYTES)
{
    copy_async<BYTES>(to, from, wrong::is("copy_async") ? BYTES : source_bytes);
}

/* Two registers of a fragment change places. */
template <size_t A>
inline const uint32_t (&fragment(const char *name, const uint32_t (&a)[A],
                                 uint32_t (&swapped)[A]))[A]
{
    memcpy(swapped, a, sizeof a);
    if (wrong::is(name)) std::swap(swapped[A / 2 - 1], swapped[A / 2]);
    return swapped;
}
#define WRONG_MMA(name, a_count, b_count)                                     \
    inline void wrong_##name(float(&d)[4], const uint32_t(&a)[a_count],       \
                             const uint32_t(&b)[b_count], const float(&c)[4]) \
    {                                                                         \
        uint32_t swapped[a_count];                                            \
        name(d, fragment(#name, a, swapped), b, c);                           \
    }
WRONG_MMA(mma_bf16, 4, 2)
WRONG_MMA(mma_f16, 4, 2)
WRONG_MMA(mma_f16_k8, 2, 1)
WRONG_MMA(mma_tf32, 4, 2)

/* Truncates. */
inline uint32_t wrong_to_tf32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return wrong::is("to_tf32") ? bits & 0xffffe000u : to_tf32(x);
}

/* The last lane's row, the order of the registers, or the other orientation. */
inline void wrong_load_matrix_x1(uint32_t (&r)[1], const void *row)
{
    load_matrix_x1(r, row);
    if (wrong::is("load_matrix_x1")) r[0] = r[0] >> 16 | r[0] << 16;
}

inline void wrong_load_matrix_x2(uint32_t (&r)[2], const void *row)
{
    if (wrong::is("load_matrix_x2")) load_matrix_x2_transposed(r, row);
    else load_matrix_x2(r, row);
}

inline void wrong_load_matrix_x4(uint32_t (&r)[4], const void *row)
{
    load_matrix_x4(r, row);
    if (wrong::is("load_matrix_x4")) std::swap(r[1], r[2]);
}

inline void wrong_load_matrix_x2_transposed(uint32_t (&r)[2], const void *row)
{
    if (wrong::is("load_matrix_x2_transposed")) load_matrix_x2(r, row);
    else load_matrix_x2_transposed(r, row);
}

inline void wrong_load_matrix_x4_transposed(uint32_t (&r)[4], const void *row)
{
    load_matrix_x4_transposed(r, row);
    if (wrong::is("load_matrix_x4_transposed")) std::swap(r[2], r[3]);
}

inline uint32_t wrong_transpose_matrix(uint32_t fragment)
{
    return wrong::is("transpose_matrix") ? fragment : transpose_matrix(fragment);
}

inline unsigned wrong_cluster_rank()
{
    return wrong::is("cluster_rank") ? cluster_size() - 1 - cluster_rank()
                                     : cluster_rank();
}

inline unsigned wrong_cluster_size()
{
    return wrong::is("cluster_size") ? gridDim.x : cluster_size();
}

inline cluster_address wrong_map_shared(const void *shared, unsigned rank)
{
    return map_shared(shared, wrong::is("map_shared") ? cluster_rank() : rank);
}

inline cluster_address wrong_advance(cluster_address address, unsigned bytes)
{
    return advance(address, wrong::is("advance") ? bytes / 2 / 4 * 4 : bytes);
}

inline uint32_t wrong_load_cluster(cluster_address from)
{
    return load_cluster(from) & (wrong::is("load_cluster") ? 0xffffu : ~0u);
}

inline void wrong_store_cluster(cluster_address to, const uint32_t (&words)[4])
{
    uint32_t swapped[4] = {words[1], words[0], words[2], words[3]};
    if (wrong::is("store_cluster")) store_cluster(to, swapped);
    else store_cluster(to, words);
}

inline bool wrong_mbarrier_try_wait(uint64_t *barrier, unsigned parity)
{
    return mbarrier_try_wait(barrier, parity ^ wrong::is("mbarrier_try_wait"));
}

inline bool wrong_mbarrier_try_wait_cluster(uint64_t *barrier, unsigned parity)
{
    return mbarrier_try_wait_cluster(barrier,
                                     parity ^ wrong::is("mbarrier_try_wait_cluster"));
}

inline void wrong_store_async(cluster_address to, const uint32_t (&words)[4],
                              cluster_address barrier)
{
    uint32_t swapped[4] = {words[0], words[1], words[3], words[2]};
    if (wrong::is("store_async")) store_async(to, swapped, barrier);
    else store_async(to, words, barrier);
}

} // namespace dev

/* Only calls are replaced: the kernels' names hold these words, but not alone. */
#define shuffle(...)                   wrong_shuffle(__VA_ARGS__)
#define shuffle_xor(...)               wrong_shuffle_xor(__VA_ARGS__)
#define shuffle_up(...)                wrong_shuffle_up(__VA_ARGS__)
#define shuffle_down(...)              wrong_shuffle_down(__VA_ARGS__)
#define ballot(...)                    wrong_ballot(__VA_ARGS__)
#define warp_sum(...)                  wrong_warp_sum(__VA_ARGS__)
#define warp_max(...)                  wrong_warp_max(__VA_ARGS__)
#define atomic_add(...)                wrong_atomic_add(__VA_ARGS__)
#define load_read_only(...)            wrong_load_read_only(__VA_ARGS__)
#define copy_async                     wrong_copy_async
#define mma_bf16(...)                  wrong_mma_bf16(__VA_ARGS__)
#define mma_f16(...)                   wrong_mma_f16(__VA_ARGS__)
#define mma_f16_k8(...)                wrong_mma_f16_k8(__VA_ARGS__)
#define mma_tf32(...)                  wrong_mma_tf32(__VA_ARGS__)
#define to_tf32(...)                   wrong_to_tf32(__VA_ARGS__)
#define load_matrix_x1(...)            wrong_load_matrix_x1(__VA_ARGS__)
#define load_matrix_x2(...)            wrong_load_matrix_x2(__VA_ARGS__)
#define load_matrix_x4(...)            wrong_load_matrix_x4(__VA_ARGS__)
#define load_matrix_x2_transposed(...) wrong_load_matrix_x2_transposed(__VA_ARGS__)
#define load_matrix_x4_transposed(...) wrong_load_matrix_x4_transposed(__VA_ARGS__)
#define transpose_matrix(...)          wrong_transpose_matrix(__VA_ARGS__)
#define cluster_rank(...)              wrong_cluster_rank(__VA_ARGS__)
#define cluster_size(...)              wrong_cluster_size(__VA_ARGS__)
#define map_shared(...)                wrong_map_shared(__VA_ARGS__)
#define advance(...)                   wrong_advance(__VA_ARGS__)
#define load_cluster(...)              wrong_load_cluster(__VA_ARGS__)
#define store_cluster(...)             wrong_store_cluster(__VA_ARGS__)
#define mbarrier_try_wait(...)         wrong_mbarrier_try_wait(__VA_ARGS__)
#define mbarrier_try_wait_cluster(...) wrong_mbarrier_try_wait_cluster(__VA_ARGS__)
#define store_async(...)               wrong_store_async(__VA_ARGS__)

#endif
