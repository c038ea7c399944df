/* Template: the LSTM step, kernels/lstm.h. Included by kernels_<isa>.c after gates_tmpl.h, tile_tmpl.h.
 *
 * Formula: z += h_prev * recurrent; c = sigmoid(z_f) c + sigmoid(z_i) tanh(z_g);
 * h = sigmoid(z_o) tanh(c).
 * Layout: the four vectors of a panel are the gates i f g o of V_LANES units, so when the products
 * are done a unit's gates stand in the same lane of four registers and c and h follow at once: z is
 * read once, c and h are written once, no sum goes back to memory.
 * Why this shape: panels outside, rows inside: at many rows a panel (units * 16 * V_LANES bytes) is read
 * from L2 once and serves all of them; at one row the weights are the traffic and every byte of them
 * is read once, in order.
 * Limits: tanh and sigmoid; other activations take lstm_accumulate and kernels/cell.h.
 * Called by: src/cpu/cpu_run.c through the table. Test: tests/kernels/check_kernels.c. */

V_INLINE void lstm_tile(const int rows, const int panels, const int fused,
                        const cy_lstm_step *s, size_t r, size_t p)
{
    const float *a[V_TILE_ROWS];
    v_f32 acc[2 * V_TILE_ROWS][4];
#pragma GCC unroll 8
    for (int m = 0; m < rows; m++)
        a[m] = s->h_prev + (r + m) * s->h_prev_stride;
#pragma GCC unroll 8
    for (int i = 0; i < rows * panels; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            acc[i][j] = v_set(0);

    multiply(rows, panels, s->units, a, s->recurrent + p * s->units * 4 * V_LANES, acc);

#pragma GCC unroll 8
    for (int i = 0; i < rows * panels; i++) {
        size_t row = r + i / panels, unit = (p + i % panels) * V_LANES;
        float *z = s->z + ((p + i % panels) * s->z_rows + row) * 4 * V_LANES;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            acc[i][j] = v_add(v_load(z + j * V_LANES), acc[i][j]);
        if (fused) {
            float *c = s->c + row * s->c_stride + unit;
            v_f32 written = v_mul(v_sigmoid(acc[i][0]), v_tanh(acc[i][2]));
            v_f32 next = v_fma(v_sigmoid(acc[i][1]), v_load(c), written);
            v_store(c, next);
            v_store(s->h + row * s->h_stride + unit,
                    v_mul(v_sigmoid(acc[i][3]), v_tanh(next)));
        } else {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                v_store(z + j * V_LANES, acc[i][j]);
        }
    }
}

V_INLINE void lstm_tiles(const int fused, const cy_lstm_step *s)
{
    tiles t = split_rows(s->rows);
    for (size_t p = s->first_panel; p < s->end_panel; p++) {
        if (s->rows == 1 && p + 1 < s->end_panel) {
            lstm_tile(1, 2, fused, s, 0, p++);
            continue;
        }
        size_t r = 0;
        for (size_t i = 0; i < t.count; i++) {
            size_t rows = t.rows + (i < t.larger);
            switch (rows) {
#define TILE(n)                          \
    case n:                              \
        lstm_tile(n, 1, fused, s, r, p); \
        break;
                TILES(TILE)
#undef TILE
            }
            r += rows;
        }
    }
}

static void lstm_step(const cy_lstm_step *s)
{
    lstm_tiles(1, s);
}

static void lstm_accumulate(const cy_lstm_step *s)
{
    lstm_tiles(0, s);
}
