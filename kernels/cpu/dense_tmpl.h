/* Template: dense, kernels/dense.h. Included by kernels_<isa>.c after tile_tmpl.h.
 *
 * Formula: out = bias + x * kernel.
 * Why this shape: panels outside, tiles of rows inside: the panel comes from L2 or beyond once and
 * serves all rows of the call, which is at most a block of rows whose x stays in L2 (ROW_BLOCK in
 * src/cpu/cpu_run.c). Rows are addresses, because an input may lie anywhere: in the caller's array,
 * in a table, in a buffer, backwards.
 * Called by: src/cpu/cpu_run.c through the table. Test: tests/kernels/check_kernels.c. */

V_INLINE void dense_tile(const int rows, const int panels, const cy_dense *d, size_t r,
                         size_t p)
{
    const float *a[V_TILE_ROWS];
    v_f32 acc[2 * V_TILE_ROWS][4];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
        a[m] = d->x[r + m];
#pragma GCC unroll 8
    for (int i = 0; i < rows * panels; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            acc[i][j] = v_set(0);

    multiply(rows, panels, d->features, a, d->kernel + p * d->features * 4 * V_LANES,
             acc);

#pragma GCC unroll 8
    for (int i = 0; i < rows * panels; i++) {
        float *out = d->out + (r + i / panels) * d->row_stride +
                     (p + i % panels) * d->panel_stride;
        const float *bias = d->bias + (p + i % panels) * 4 * V_LANES;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            v_store(out + j * V_LANES, v_add(acc[i][j], v_load(bias + j * V_LANES)));
    }
}

static void dense(const cy_dense *d)
{
    tiles t = split_rows(d->rows);
    for (size_t p = d->first_panel; p < d->end_panel; p++) {
        if (d->rows == 1 && p + 1 < d->end_panel) {
            dense_tile(1, 2, d, 0, p++);
            continue;
        }
        size_t r = 0;
        for (size_t i = 0; i < t.count; i++) {
            size_t rows = t.rows + (i < t.larger);
            switch (rows) {
#define TILE(n)                    \
    case n:                        \
        dense_tile(n, 1, d, r, p); \
        break;
                TILES(TILE)
#undef TILE
            }
            r += rows;
        }
    }
}
