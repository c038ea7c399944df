/* Template: the inner loop of every product. Included by kernels_<isa>.c after vec_<isa>.h.
 *
 * Formula: acc[row][panel][j] += sum over k of a[row][k] * w[panel][k][j], j = 0 .. 3 vectors.
 * Layout: a panel is [k][4][V_LANES], so a k is four loads in one line of memory.
 * Why this shape: rows x 4 accumulators keep both FMA units busy (V_TILE_ROWS rows fill the register
 * file), and each load of weights serves all rows. k is never split: an accumulator sees its
 * k in order, so a row's bits do not depend on the tile it fell into. A lone row has only four
 * accumulators, too few to hide the latency of the FMA; it takes two panels at once instead.
 * Limits: rows and panels are constants where it is inlined. Called by: dense_tmpl.h, lstm_tmpl.h. */

V_INLINE void multiply(const int rows, const int panels, size_t k_count,
                       const float *const *a, /* [rows] pointers to [k_count] */
                       const float *w,        /* [panels][k_count][4][V_LANES] */
                       v_f32 (*acc)[4])       /* [rows * panels][4] */
{
    const size_t panel = k_count * 4 * V_LANES;
    for (size_t k = 0; k < k_count; k++, w += 4 * V_LANES) {
        v_f32 value[V_TILE_ROWS];
#pragma GCC unroll 8
        for (int m = 0; m < rows; m++)
            value[m] = v_set(a[m][k]);
#pragma GCC unroll 8
        for (int p = 0; p < panels; p++) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                v_f32 weight = v_load(w + p * panel + j * V_LANES);
#pragma GCC unroll 8
                for (int m = 0; m < rows; m++)
                    acc[m * panels + p][j] =
                        v_fma(value[m], weight, acc[m * panels + p][j]);
            }
        }
    }
}

/* Rows split into tiles as even as can be: 7 rows are 4 + 3 (of 6) or 3 + 2 + 2 (of 3), never a lone
 * row behind full tiles. */
typedef struct tiles {
    size_t count, rows,
        larger; /* the first `larger` tiles have one row more than `rows` */
} tiles;

V_INLINE tiles split_rows(size_t rows)
{
    size_t count = (rows + V_TILE_ROWS - 1) / V_TILE_ROWS;
    return count ? (tiles){count, rows / count, rows % count} : (tiles){0, 0, 0};
}
