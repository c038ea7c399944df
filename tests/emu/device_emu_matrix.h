/* Matrix operations of a warp on the host, with the fragment layouts of the PTX manual. With g = lane / 4
 * and q = lane % 4, elements of two 16-bit values or one 32-bit value:
 *
 *     A [16][K], 16-bit   register r: row g + 8 (r % 2), columns 2q, 2q+1 (+ 8 for r >= 2)
 *     B [K][8], 16-bit    register r: rows 2q, 2q+1 (+ 8 r), column g
 *     A [16][8], tf32     register r: row g + 8 (r % 2), column q (+ 4 for r >= 2)
 *     B [8][8], tf32      register r: row q (+ 4 r), column g
 *     C, D [16][8], f32   register r: row g + 8 (r / 2), column 2q + r % 2
 */
#ifndef CY_TESTS_EMU_DEVICE_EMU_MATRIX_H
#define CY_TESTS_EMU_DEVICE_EMU_MATRIX_H

namespace emu
{

inline float value_bf16(uint32_t bits)
{
    uint32_t wide = bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

inline float value_f16(uint32_t bits)
{
    __half_raw raw;
    raw.x = (unsigned short)bits;
    return __half2float(__half(raw));
}

/* The low 13 bits are not looked at. */
inline float value_tf32(uint32_t bits)
{
    bits &= 0xffffe000u;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* c + the sum of terms[count], as options.numerics says. */
inline float add_terms(const double *terms, int count, float c)
{
    double sum = c, largest = fabs((double)c);
    for (int i = 0; i < count; i++) {
        sum += terms[i];
        largest = fmax(largest, fabs(terms[i]));
    }
    if (options.numerics == Numerics::EXACT || !isfinite(sum) || largest == 0)
        return (float)sum;
    double unit = ldexp(1.0, ilogb(largest) - 25);
    sum = trunc(c / unit) * unit;
    for (int i = 0; i < count; i++)
        sum += trunc(terms[i] / unit) * unit;
    if (sum == 0) return 0;
    unit = ldexp(1.0, ilogb(sum) - 23);
    return (float)(trunc(sum / unit) * unit);
}

enum class Element { BF16, F16, TF32 };

/* Element of a fragment: the lane and the register that hold it, and the half of the register. */
struct Place {
    unsigned lane, reg, half;
};

inline Place place_a(Element element, unsigned row, unsigned k)
{
    unsigned low = row >= 8 ? 1 : 0;
    if (element == Element::TF32) return {row % 8 * 4 + k % 4, low + (k >= 4 ? 2 : 0), 0};
    return {row % 8 * 4 + k % 8 / 2, low + (k >= 8 ? 2 : 0), k % 2};
}

inline Place place_b(Element element, unsigned k, unsigned column)
{
    if (element == Element::TF32) return {column * 4 + k % 4, k / 4, 0};
    return {column * 4 + k % 8 / 2, k / 8, k % 2};
}

template <Element ELEMENT>
inline float fragment_value(const unsigned char *lane, Place at)
{
    uint32_t word;
    memcpy(&word, lane + 4 * at.reg, sizeof word);
    if (ELEMENT == Element::TF32) return value_tf32(word);
    uint32_t bits = word >> 16 * at.half & 0xffff;
    return ELEMENT == Element::BF16 ? value_bf16(bits) : value_f16(bits);
}

template <Element ELEMENT, int K, int A_REGS, int B_REGS>
inline void mma(float (&d)[4], const uint32_t (&a)[A_REGS], const uint32_t (&b)[B_REGS],
                const float (&c)[4], const Site &site)
{
    uint32_t mine[A_REGS + B_REGS];
    memcpy(mine, a, sizeof a);
    memcpy(mine + A_REGS, b, sizeof b);
    const unsigned char *given = warp_exchange(~0u, mine, sizeof mine, site);
    float result[4];
    for (unsigned r = 0; r < 4; r++) {
        unsigned row = lane() / 4 + 8 * (r / 2), column = lane() % 4 * 2 + r % 2;
        double terms[K];
        for (unsigned k = 0; k < K; k++) {
            Place pa = place_a(ELEMENT, row, k), pb = place_b(ELEMENT, k, column);
            terms[k] = (double)fragment_value<ELEMENT>(given + pa.lane * 64, pa) *
                       fragment_value<ELEMENT>(given + pb.lane * 64 + 4 * A_REGS, pb);
        }
        result[r] = add_terms(terms, K, c[r]);
    }
    memcpy(d, result, sizeof result);
}

/* TILES matrices of 8 x 8 16-bit values; lane l gives the address of row l % 8 of matrix l / 8. */
template <int TILES>
inline void load_matrix(uint32_t *registers, const void *row, const Site &site)
{
    if (lane() < 8 * TILES) check_shared(row, 16, 16, site);
    const unsigned char *given = warp_exchange(~0u, &row, sizeof row, site);
    for (unsigned t = 0; t < TILES; t++)
        registers[t] = given_by<const uint32_t *>(given, t * 8 + lane() / 4)[lane() % 4];
}

template <int TILES>
inline void load_matrix_transposed(uint32_t *registers, const void *row, const Site &site)
{
    if (lane() < 8 * TILES) check_shared(row, 16, 16, site);
    const unsigned char *given = warp_exchange(~0u, &row, sizeof row, site);
    for (unsigned t = 0; t < TILES; t++) {
        unsigned first = t * 8 + lane() % 4 * 2, column = lane() / 4;
        uint32_t low = given_by<const uint16_t *>(given, first)[column];
        uint32_t high = given_by<const uint16_t *>(given, first + 1)[column];
        registers[t] = low | high << 16;
    }
}

} // namespace emu

namespace dev
{

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     const float (&c)[4], EMU_SITE)
{
    emu::mma<emu::Element::BF16, 16>(d, a, b, c, EMU_AT(MMA));
}

inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                    const float (&c)[4], EMU_SITE)
{
    emu::mma<emu::Element::F16, 16>(d, a, b, c, EMU_AT(MMA));
}

inline void mma_f16_k8(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1],
                       const float (&c)[4], EMU_SITE)
{
    emu::mma<emu::Element::F16, 8>(d, a, b, c, EMU_AT(MMA));
}

inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     const float (&c)[4], EMU_SITE)
{
    emu::mma<emu::Element::TF32, 8>(d, a, b, c, EMU_AT(MMA));
}

/* To the nearest, ties away from zero. */
inline uint32_t to_tf32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits & 0x7fffffu ? 0x7fffe000u : bits;
    return (bits + 0x1000u) & 0xffffe000u;
}

inline void load_matrix_x1(uint32_t (&r)[1], const void *row, EMU_SITE)
{
    emu::load_matrix<1>(r, row, EMU_AT(LOAD_MATRIX));
}

inline void load_matrix_x2(uint32_t (&r)[2], const void *row, EMU_SITE)
{
    emu::load_matrix<2>(r, row, EMU_AT(LOAD_MATRIX));
}

inline void load_matrix_x4(uint32_t (&r)[4], const void *row, EMU_SITE)
{
    emu::load_matrix<4>(r, row, EMU_AT(LOAD_MATRIX));
}

inline void load_matrix_x2_transposed(uint32_t (&r)[2], const void *row, EMU_SITE)
{
    emu::load_matrix_transposed<2>(r, row, EMU_AT(LOAD_MATRIX));
}

inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void *row, EMU_SITE)
{
    emu::load_matrix_transposed<4>(r, row, EMU_AT(LOAD_MATRIX));
}

/* Lane l holds columns 2 (l % 4) and the next of row l / 4, before and after. */
inline uint32_t transpose_matrix(uint32_t fragment, EMU_SITE)
{
    const unsigned char *given =
        emu::warp_exchange(~0u, &fragment, sizeof fragment, EMU_AT(MOVE_MATRIX));
    unsigned row = emu::lane() / 4, column = emu::lane() % 4 * 2;
    uint32_t low = emu::given_by<uint32_t>(given, column * 4 + row / 2);
    uint32_t high = emu::given_by<uint32_t>(given, (column + 1) * 4 + row / 2);
    return (low >> 16 * (row % 2) & 0xffff) | (high >> 16 * (row % 2) & 0xffff) << 16;
}

} // namespace dev

#endif
