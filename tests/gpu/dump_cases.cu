/* See dump_cases.h. Host code, but for nvcc: it launches kernels. */
#include "dump_cases.h"
#include "dump_kernels.h"

#include <math.h>
#include <random>
#include <string.h>

namespace
{

typedef std::vector<uint32_t> Words;
typedef std::mt19937 Random;

uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Multiples of 2^-bits below 1 in magnitude. */
float fraction(Random &random, unsigned bits)
{
    int32_t range = 1 << bits;
    return ldexpf((float)((int32_t)(random() % (2u * range - 1)) - range + 1),
                  -(int)bits);
}

void fill_words(Words &in, Random &random)
{
    for (uint32_t &word : in)
        word = (uint32_t)random();
}

/* Of many sizes, so that the order of a sum shows. */
void fill_floats(Words &in, Random &random)
{
    for (uint32_t &word : in)
        word = bits_of(ldexpf(fraction(random, 23), (int)(random() % 16)));
}

/* Of every size but subnormal, one in four halfway between two TF32 numbers, and the special ones. */
void fill_to_round(Words &in, Random &random)
{
    for (size_t i = 0; i < in.size(); i++) {
        uint32_t sign = (uint32_t)(random() & 1) << 31;
        uint32_t exponent = 1 + (uint32_t)random() % 253;
        uint32_t bits = (uint32_t)random() & 0x7fffff;
        if (i % 4 == 0) bits = (bits & 0x7fe000) | 0x1000;
        in[i] = sign | exponent << 23 | bits;
    }
    const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1.0f, 0x1.fffffep0f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        in[11 * i] = bits_of(special[i]);
}

uint32_t bf16_of(float value)
{
    uint16_t half;
    __nv_bfloat16 rounded = __float2bfloat16(value);
    memcpy(&half, &rounded, sizeof half);
    return half;
}

uint32_t f16_of(float value)
{
    uint16_t half;
    __half rounded = __float2half(value);
    memcpy(&half, &rounded, sizeof half);
    return half;
}

uint32_t tf32_of(float value)
{
    return bits_of(value) & 0xffffe000u;
}

typedef uint32_t Rounding(float value);

/* Fragments a and b in the first 192 words, c behind; `bits`: so few that every sum is exact. */
void fill_fragments(Words &in, Random &random, Rounding *rounding, unsigned bits)
{
    for (size_t i = 0; i < in.size(); i++) {
        float value = fraction(random, bits);
        if (i >= 192) in[i] = bits_of(value);
        else in[i] = rounding(value);
        if (i < 192 && rounding != tf32_of)
            in[i] |= rounding(fraction(random, bits)) << 16;
    }
}

const unsigned few_bits = 5, all_bits = 23;

void fill_bf16(Words &in, Random &random)
{
    fill_fragments(in, random, bf16_of, few_bits);
}

void fill_f16(Words &in, Random &random)
{
    fill_fragments(in, random, f16_of, few_bits);
}

void fill_tf32(Words &in, Random &random)
{
    fill_fragments(in, random, tf32_of, few_bits);
}

void fill_bf16_any(Words &in, Random &random)
{
    fill_fragments(in, random, bf16_of, all_bits);
}

void fill_f16_any(Words &in, Random &random)
{
    fill_fragments(in, random, f16_of, all_bits);
}

void fill_tf32_any(Words &in, Random &random)
{
    fill_fragments(in, random, tf32_of, all_bits);
}

/* Exact sums, but the 13 bits that TF32 has not are set at random. */
void fill_tf32_low_bits(Words &in, Random &random)
{
    fill_tf32(in, random);
    for (size_t i = 0; i < 192; i++)
        in[i] |= (uint32_t)random() & 0x1fff;
}

void fill_subnormal(Words &in, Random &random)
{
    for (uint32_t &word : in)
        word = (uint32_t)random() & 0x807fffff;
}

enum { CLUSTER_16 = 256 }; /* beside the launch flags: may be refused */

struct Case {
    const char *name, *covers;
    dump_kernel *kernel;
    unsigned blocks, threads, cluster, flags, shared_bytes;
    unsigned in_words, out_words;
    int architecture;
    void (*fill)(Words &in, Random &random);
    bool exact;
};

const unsigned all = dev::LAUNCH_COOPERATIVE;

#define CASE(kernel, covers, ...)                         \
    {                                                     \
#kernel, covers, dump_##kernel, __VA_ARGS__, true \
    }
#define INFORMATION(name, kernel, ...)              \
    {                                               \
        name, "", dump_##kernel, __VA_ARGS__, false \
    }
const Case cases[] = {
    CASE(shuffle, "shuffle", 1, 32, 0, 0, 0, 96, 416, 75, fill_words),
    CASE(shuffle_xor, "shuffle_xor", 1, 32, 0, 0, 0, 96, 416, 75, fill_words),
    CASE(shuffle_up, "shuffle_up", 1, 32, 0, 0, 0, 96, 416, 75, fill_words),
    CASE(shuffle_down, "shuffle_down", 1, 32, 0, 0, 0, 96, 416, 75, fill_words),
    CASE(ballot, "ballot", 1, 32, 0, 0, 0, 32, 160, 75, fill_words),
    CASE(warp_sum, "warp_sum", 1, 320, 0, 0, 0, 320, 320, 75, fill_floats),
    CASE(warp_max, "warp_max", 1, 320, 0, 0, 0, 320, 320, 75, fill_floats),
    CASE(sync_warp, "sync_warp", 1, 32, 0, 0, 0, 32, 32, 75, fill_words),
    CASE(sync_block, "sync_block", 1, 160, 0, 0, 0, 160, 160, 75, fill_words),
    CASE(sync_named, "sync_named", 1, 128, 0, 0, 0, 128, 128, 75, fill_words),
    CASE(shared_dynamic, "launch", 1, 96, 0, 0, 1536, 96, 384, 75, fill_words),
    CASE(store_release, "store_release load_acquire", 2, 64, 0, all, 0, 64, 129, 75,
         fill_words),
    CASE(add_release, "add_release load_acquire", 5, 32, 0, all, 0, 160, 193, 75,
         fill_words),
    CASE(grid_barrier, "grid_barrier expect_cooperative", 5, 32, 0, all, 0, 160, 321, 75,
         fill_words),
    CASE(atomic_add, "atomic_add", 3, 40, 0, 0, 0, 120, 122, 75, fill_words),
    CASE(atomic_add_float, "atomic_add", 3, 40, 0, 0, 0, 120, 122, 75, fill_words),
    CASE(load_read_only, "load_read_only prefetch_l2", 2, 32, 0, 0, 0, 256, 256, 75,
         fill_words),
    CASE(copy_async_16, "copy_async copy_async_commit copy_async_wait", 1, 64, 0, 0, 0,
         1280, 1280, 75, fill_words),
    CASE(copy_async_8, "copy_async copy_async_commit copy_async_wait", 1, 64, 0, 0, 0,
         640, 640, 75, fill_words),
    CASE(copy_async_4, "copy_async copy_async_commit copy_async_wait", 1, 64, 0, 0, 0,
         320, 320, 75, fill_words),
    CASE(mma_bf16, "mma_bf16", 1, 32, 0, 0, 0, 320, 128, 80, fill_bf16),
    CASE(mma_f16, "mma_f16", 1, 32, 0, 0, 0, 320, 128, 80, fill_f16),
    CASE(mma_f16_k8, "mma_f16_k8", 1, 32, 0, 0, 0, 320, 128, 75, fill_f16),
    CASE(mma_tf32, "mma_tf32", 1, 32, 0, 0, 0, 320, 128, 80, fill_tf32),
    CASE(to_tf32, "to_tf32", 1, 96, 0, 0, 0, 96, 96, 80, fill_to_round),
    CASE(load_matrix_x1, "load_matrix_x1", 1, 32, 0, 0, 0, 160, 32, 75, fill_words),
    CASE(load_matrix_x2, "load_matrix_x2", 1, 32, 0, 0, 0, 160, 64, 75, fill_words),
    CASE(load_matrix_x4, "load_matrix_x4", 1, 32, 0, 0, 0, 160, 128, 75, fill_words),
    CASE(load_matrix_x2_transposed, "load_matrix_x2_transposed", 1, 32, 0, 0, 0, 160, 64,
         75, fill_words),
    CASE(load_matrix_x4_transposed, "load_matrix_x4_transposed", 1, 32, 0, 0, 0, 160, 128,
         75, fill_words),
    CASE(transpose_matrix, "transpose_matrix", 1, 32, 0, 0, 0, 32, 32, 75, fill_words),
    CASE(cluster_rank, "cluster_rank cluster_size", 8, 32, 4, 0, 0, 1, 16, 90,
         fill_words),
    CASE(load_cluster, "map_shared advance load_cluster sync_cluster", 8, 32, 4, 0, 0,
         256, 256, 90, fill_words),
    CASE(load_cluster_16, "allow_cluster_16 cluster_rank load_cluster", 16, 32, 16,
         CLUSTER_16, 0, 512, 512, 90, fill_words),
    CASE(store_cluster, "map_shared store_cluster sync_cluster", 4, 32, 2, 0, 0, 512, 512,
         90, fill_words),
    CASE(mbarrier,
         "mbarrier_init mbarrier_arrive mbarrier_wait mbarrier_try_wait "
         "mbarrier_try_wait_cluster",
         1, 64, 0, 0, 0, 160, 166, 90, fill_words),
    CASE(mbarrier_arrive_cluster,
         "fence_mbarrier_init mbarrier_arrive_cluster mbarrier_wait_cluster", 4, 32, 4, 0,
         0, 512, 512, 90, fill_words),
    CASE(mbarrier_expect, "mbarrier_expect", 4, 32, 2, 0, 0, 512, 512, 90, fill_words),
    CASE(store_async, "store_async mbarrier_arrive_expect", 4, 32, 4, 0, 0, 512, 512, 90,
         fill_words),
    INFORMATION("mma_bf16 sums", mma_bf16, 1, 32, 0, 0, 0, 320, 128, 80, fill_bf16_any),
    INFORMATION("mma_f16 sums", mma_f16, 1, 32, 0, 0, 0, 320, 128, 80, fill_f16_any),
    INFORMATION("mma_f16_k8 sums", mma_f16_k8, 1, 32, 0, 0, 0, 320, 128, 75,
                fill_f16_any),
    INFORMATION("mma_tf32 sums", mma_tf32, 1, 32, 0, 0, 0, 320, 128, 80, fill_tf32_any),
    INFORMATION("mma_tf32 low bits", mma_tf32, 1, 32, 0, 0, 0, 320, 128, 80,
                fill_tf32_low_bits),
    INFORMATION("to_tf32 subnormal", to_tf32, 1, 96, 0, 0, 0, 96, 96, 80, fill_subnormal),
};

uint64_t hash_of(const Words &words)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (uint32_t word : words)
        hash = (hash ^ word) * UINT64_C(1099511628211);
    return hash;
}

/* Device memory that frees itself. */
struct Memory {
    void *at = nullptr;
    explicit Memory(size_t bytes)
    {
        if (cudaMalloc(&at, bytes)) at = nullptr;
    }
    ~Memory()
    {
        if (at) cudaFree(at);
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
};

cudaError_t run_on(const Case &c, const Words &in, Words &out)
{
    Memory in_memory(in.size() * 4), out_memory(out.size() * 4);
    if (!in_memory.at || !out_memory.at) return cudaErrorMemoryAllocation;
    if (cudaError_t error =
            cudaMemcpy(in_memory.at, in.data(), in.size() * 4, cudaMemcpyHostToDevice))
        return error;
    if (cudaError_t error =
            cudaMemcpy(out_memory.at, out.data(), out.size() * 4, cudaMemcpyHostToDevice))
        return error;
    if (c.flags & CLUSTER_16)
        if (cudaError_t error = dev::allow_cluster_16(c.kernel)) return error;
    dev::launch_shape shape = {dim3(c.blocks), dim3(c.threads), c.shared_bytes, c.cluster,
                               c.flags & ~(unsigned)CLUSTER_16};
    if (cudaError_t error =
            dev::launch(c.kernel, shape, nullptr, static_cast<uint32_t *>(in_memory.at),
                        static_cast<uint32_t *>(out_memory.at)))
        return error;
    if (cudaError_t error = cudaDeviceSynchronize()) return error;
    return cudaMemcpy(out.data(), out_memory.at, out.size() * 4, cudaMemcpyDeviceToHost);
}

} // namespace

namespace dump
{

size_t case_count()
{
    return sizeof cases / sizeof *cases;
}

const char *case_name(size_t index)
{
    return cases[index].name;
}

const char *case_covers(size_t index)
{
    return cases[index].covers;
}

int case_architecture(size_t index)
{
    return cases[index].architecture;
}

bool case_is_exact(size_t index)
{
    return cases[index].exact;
}

Result run(size_t index)
{
    const Case &c = cases[index];
    Random random((uint32_t)(index + 1));
    Words in(c.in_words), out(c.out_words, DUMP_POISON);
    c.fill(in, random);
    Result result;
    result.input_hash = hash_of(in);
    if (cudaError_t error = run_on(c, in, out)) {
        result.error = cudaGetErrorName(error);
        cudaGetLastError();
    } else {
        result.words = out;
    }
    return result;
}

} // namespace dump
