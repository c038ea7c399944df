/* Packed batches: rows that lie one behind another give the bits that the same rows give in padded arrays, and nothing
 * but their own places is written. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 40, MOST_STEPS = 12, MOST_OUTPUTS = 5, CALLS = 3, GAP = 5 };

static const model_spec specs[] = {
    /* every kind of output */
    {.features = 3,
     .layers = {LSTM_LAYER(9, SEQUENCES), LSTM_LAYER(4, 0),
                DENSE_LAYER(3, CY_ACT_SOFTMAX)},
     .outputs = {{0, CY_PORT_Y}, {1, CY_PORT_Y}, {0, CY_PORT_H}, {1, CY_PORT_C}, {2, 0}},
     .output_count = 5},
    {.ids = 11,
     .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(17, SEQUENCES),
                DENSE_LAYER(5, CY_ACT_TANH)},
     .outputs = {{2, CY_PORT_Y}, {1, CY_PORT_H}, {0, CY_PORT_Y}},
     .output_count = 3},
    {.features = 2,
     .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS), LSTM_LAYER(3, SEQUENCES)},
     .outputs = {{1, CY_PORT_Y}, {0, CY_PORT_C}, {0, CY_PORT_Y}},
     .output_count = 3},
    {.features = 4, .layers = {LSTM_LAYER(6, SEQUENCES)}},
};
#define SPECS (sizeof specs / sizeof *specs)

static unsigned below(uint64_t *seed, unsigned n)
{
    return (unsigned)(random_u64(seed) >> 33) % n;
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* Rows of one call, however they lie. */
typedef struct ragged {
    size_t rows, longest;
    uint32_t steps[MOST_ROWS];
    uint64_t offsets[MOST_ROWS + 1];
    uint8_t reset[MOST_ROWS];
    bool shortened, resets, statuses;
    carry_mode mode;
    unsigned wanted; /* a bit for each output */
} ragged;

static ragged random_ragged(const model_spec *spec, size_t rows, uint64_t seed)
{
    ragged g = {.rows = rows, .longest = 0};
    unsigned most = 1 + below(&seed, on_cuda() ? 6 : MOST_STEPS);
    unsigned none = below(&seed, 8); /* in eight rows, of no steps; 7: mostly */
    g.offsets[0] = below(&seed, 2) ? below(&seed, GAP) : 0;
    g.shortened = below(&seed, 3) == 0;
    g.resets = below(&seed, 2);
    g.statuses = below(&seed, 2);
    g.mode = below(&seed, 3)                        ? CARRY_STEPS_AS_MODEL
             : spec == &specs[3] && below(&seed, 2) ? CARRY_STEPS_ALL
                                                    : CARRY_STEPS_LAST;
    g.wanted = below(&seed, 3) ? (1u << MOST_OUTPUTS) - 1 : below(&seed, 32);
    for (size_t row = 0; row < rows; row++) {
        uint32_t room = below(&seed, 8) < none ? 0 : 1 + below(&seed, most);
        g.steps[row] = g.shortened ? below(&seed, room + 1) : room;
        g.offsets[row + 1] = g.offsets[row] + room;
        g.reset[row] = below(&seed, 3) == 0;
        if (room > g.longest) g.longest = room;
    }
    return g;
}

typedef enum layout { PADDED, PACKED } layout;

static size_t time_of(const ragged *g)
{
    return g->longest > 0 ? g->longest : 1;
}

/* Where a row begins in arrays of a layout, and how many steps they hold. */
static size_t first_of(const ragged *g, layout l, size_t row)
{
    return l == PACKED ? g->offsets[row] : row * time_of(g);
}

static size_t steps_in(const ragged *g, layout l)
{
    return l == PACKED ? g->offsets[g->rows] : g->rows * time_of(g);
}

/* One of the two sides: exactly as much memory as the call may touch, in a sanitizer's sight. */
typedef struct side {
    rig r;
    layout l;
    carry_state states[MOST_ROWS];
    carry_status status[MOST_ROWS];
    size_t outputs, width[MOST_OUTPUTS], count[MOST_OUTPUTS];
    int has_time[MOST_OUTPUTS];
    float *y[MOST_OUTPUTS];
} side;

static side open_side(const model_spec *spec, layout l, uint64_t seed)
{
    const carry_session_options options = {.size = sizeof options,
                                           .threads = on_cuda() ? 1 : 1 + below(&seed, 3),
                                           .max_rows =
                                               below(&seed, 3) ? 1 + below(&seed, 20) : 0,
                                           .max_steps = MOST_STEPS};
    side s = {.r = rig_open(spec, &options), .l = l};
    open_states(&s.r, s.states, MOST_ROWS);
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(s.r.model, &info));
    s.outputs = info.outputs;
    for (size_t o = 0; o < s.outputs; o++) {
        carry_port_info port = {.size = sizeof port};
        OK(carry_model_get_output(s.r.model, o, &port));
        s.width[o] = (size_t)port.width;
        s.has_time[o] = port.has_time;
    }
    return s;
}

static void free_outputs(side *s)
{
    for (size_t o = 0; o < s->outputs; o++) {
        free(s->y[o]);
        s->y[o] = NULL;
    }
}

static void close_side(side *s)
{
    free_outputs(s);
    rig_close(&s->r);
}

static bool every_step(const side *s, const ragged *g, size_t o)
{
    return s->has_time[o] && g->mode != CARRY_STEPS_LAST;
}

/* `dense` holds every row's steps, MOST_STEPS apart; between the rows lies what must not be read. */
static float *lay_out(const side *s, const ragged *g, const float *dense)
{
    size_t in = s->r.in, count = steps_in(g, s->l) * in;
    float *x = malloc(count ? count * sizeof *x : 1);
    for (size_t i = 0; i < count; i++) {
        x[i] = NAN;
        if (s->r.ids) ((int32_t *)x)[i] = 1 << 30;
    }
    for (size_t row = 0; row < g->rows; row++)
        memcpy(x + first_of(g, s->l, row) * in, dense + row * MOST_STEPS * in,
               g->steps[row] * in * sizeof *x);
    return x;
}

static carry_status call_side(side *s, const ragged *g, const float *dense,
                              size_t max_steps)
{
    float *x = lay_out(s, g, dense);
    carry_array in = {.size = sizeof in,
                      .data = x,
                      .dtype = s->r.ids ? CARRY_I32 : CARRY_F32,
                      .bytes = steps_in(g, s->l) * s->r.in * sizeof *x};
    carry_array out[MOST_OUTPUTS];
    free_outputs(s);
    for (size_t o = 0; o < s->outputs; o++) {
        s->count[o] = (every_step(s, g, o) ? steps_in(g, s->l) : g->rows) * s->width[o];
        size_t bytes = s->count[o] * sizeof(float);
        s->y[o] = malloc(bytes ? bytes : 1);
        memset(s->y[o], 0xff, bytes); /* a NaN that nothing computes */
        out[o] = (carry_array){.size = sizeof *out,
                               .data = g->wanted >> o & 1 ? s->y[o] : NULL,
                               .bytes = bytes};
    }
    carry_batch batch = {.size = sizeof batch,
                         .rows = g->rows,
                         .states = s->states,
                         .max_steps = max_steps,
                         .steps = g->shortened || s->l == PADDED ? g->steps : NULL,
                         .reset = g->resets ? g->reset : NULL,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = s->outputs,
                         .mode = g->mode,
                         .row_status = g->statuses ? s->status : NULL,
                         .row_offsets = s->l == PACKED ? g->offsets : NULL};
    carry_status status = carry_run(s->r.session, &batch);
    free(x);
    return status;
}

/* ---- what both sides gave ------------------------------------------------------------------- */

static bool is_untouched(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits == UINT32_MAX;
}

static void compare_output(const side *packed, const side *padded, const ragged *g,
                           size_t o)
{
    size_t width = packed->width[o];
    if (!(g->wanted >> o & 1)) {
        for (size_t i = 0; i < packed->count[o]; i++)
            cr_assert(is_untouched(packed->y[o][i]));
        return;
    }
    if (!every_step(packed, g, o)) {
        SAME_BITS(packed->y[o], padded->y[o], g->rows * width);
        return;
    }
    for (size_t i = 0; i < g->offsets[0] * width; i++)
        cr_assert(is_untouched(packed->y[o][i]), "output %zu, number %zu", o, i);
    for (size_t row = 0; row < g->rows; row++) {
        size_t room = g->offsets[row + 1] - g->offsets[row];
        const float *got = packed->y[o] + g->offsets[row] * width;
        const float *expected = padded->y[o] + row * time_of(g) * width;
        SAME_BITS(got, expected, room * width);
        bool ran = !g->statuses || packed->status[row] == CARRY_OK;
        for (size_t i = ran ? g->steps[row] * width : 0; i < room * width; i++)
            cr_assert(got[i] == 0, "output %zu, row %zu, number %zu", o, row, i);
    }
}

static void compare_states(const side *a, const side *b, size_t first)
{
    for (size_t i = first; i < MOST_ROWS; i++)
        for (size_t tensor = 0; tensor < a->r.state_tensors; tensor++) {
            float of_a[64], of_b[64];
            size_t width = a->r.state[tensor];
            OK(carry_state_read(a->r.session, a->states[i], tensor, of_a, width));
            OK(carry_state_read(b->r.session, b->states[i], tensor, of_b, width));
            SAME_BITS(of_a, of_b, width);
        }
}

/* ---- tests ---------------------------------------------------------------------------------- */

/* Three calls, so that states and used buffers go on. Of the second one row is stale, if that is not an error. */
static void check_seed(uint64_t seed)
{
    const model_spec *spec = &specs[seed % SPECS];
    side packed = open_side(spec, PACKED, seed + 1),
         padded = open_side(spec, PADDED, seed + 2);
    size_t first_open = 0;
    for (uint64_t call = 0; call < CALLS; call++) {
        uint64_t of_call = seed * CALLS + call;
        size_t rows = 1 + below(&of_call, on_cuda() ? 9 : MOST_ROWS);
        ragged g = random_ragged(spec, rows, of_call);
        if (call == 1 && g.statuses) {
            for (side *s = &packed; s; s = s == &packed ? &padded : NULL) {
                carry_state copy = s->states[0];
                OK(carry_state_close(s->r.session, &copy));
            }
            first_open = 1;
        }
        g.statuses = g.statuses || first_open;
        float *dense = random_input(&packed.r, rows, MOST_STEPS, of_call);
        OK(call_side(&padded, &g, dense, time_of(&g)));
        OK(call_side(&packed, &g, dense,
                     of_call % 3 == 0 ? 0 : g.longest + of_call % 3 - 1));
        for (size_t row = 0; g.statuses && row < rows; row++)
            cr_assert_eq(packed.status[row], padded.status[row]);
        if (first_open) cr_assert_eq(packed.status[0], CARRY_E_STALE);
        for (size_t o = 0; o < packed.outputs; o++)
            compare_output(&packed, &padded, &g, o);
        compare_states(&packed, &padded, first_open);
        free(dense);
    }
    close_side(&packed);
    close_side(&padded);
}

Test(ragged, random_packed_batches_are_the_padded_ones)
{
    for (uint64_t seed = 0; seed < (on_cuda() ? 24 : 400); seed++)
        check_seed(seed);
}

Test(ragged, rows_that_are_all_empty)
{
    for (size_t i = 0; i < SPECS; i++) {
        side s = open_side(&specs[i], PACKED, 1);
        ragged some = random_ragged(&specs[i], 3, 7), none = some;
        some.mode = none.mode = CARRY_STEPS_AS_MODEL;
        some.wanted = none.wanted = (1u << MOST_OUTPUTS) - 1;
        none.shortened = none.statuses = some.statuses = false;
        memset(none.steps, 0, sizeof none.steps);
        for (int row = 0; row <= 3; row++)
            none.offsets[row] = 4;
        float *dense = random_input(&s.r, 3, MOST_STEPS, 3);
        OK(call_side(&s, &some, dense, 0)); /* so that states are not zeros */
        size_t bytes, bytes_after;
        void *before = save(&s.r, s.states, 3, &bytes);
        OK(call_side(&s, &none, dense, 0));
        void *after = save(&s.r, s.states, 3, &bytes_after);
        cr_assert(bytes == bytes_after && memcmp(before, after, bytes) == 0);
        for (size_t o = 0; o < s.outputs; o++)
            for (size_t n = 0; n < s.count[o]; n++)
                if (s.has_time[o]) cr_assert(is_untouched(s.y[o][n]));
                else cr_assert(!is_untouched(s.y[o][n]));
        free(before);
        free(after);
        free(dense);
        close_side(&s);
    }
}

/* Its room is written, and only with zeros, whatever is wrong with it. */
Test(ragged, a_bad_row_leaves_zeros_in_its_room)
{
    rig r = rig_open(&specs[1], NULL);
    enum { ROWS = 5, ALL = 13, WIDTH = 5 };
    static const uint64_t offsets[ROWS + 1] = {1, 4, 4, 7, 9, 13};
    static const uint32_t steps[ROWS] = {2, 0, 4, 2, 3}; /* row 2 has room for 3 */
    static const carry_status wanted[ROWS] = {CARRY_OK, CARRY_OK, CARRY_E_ARGUMENT,
                                              CARRY_E_INPUT, CARRY_E_DUPLICATE};
    carry_state states[ROWS] = {{0}};
    open_states(&r, states, ROWS - 1);
    states[ROWS - 1] = states[0];
    int32_t x[ALL];
    for (int i = 0; i < ALL; i++)
        x[i] = i % 11;
    x[8] = 11; /* the last step of row 3 */
    float y[(ALL + 2) * WIDTH];
    for (int i = 0; i < (ALL + 2) * WIDTH; i++)
        y[i] = 77;
    carry_status status[ROWS];
    carry_array in = {
        .size = sizeof in, .data = x, .dtype = CARRY_I32, .bytes = sizeof x};
    carry_array out = {
        .size = sizeof out, .data = y, .bytes = ALL * WIDTH * sizeof(float)};
    OK(carry_run(r.session, &(carry_batch){.size = sizeof(carry_batch),
                                           .rows = ROWS,
                                           .states = states,
                                           .steps = steps,
                                           .inputs = &in,
                                           .input_count = 1,
                                           .outputs = &out,
                                           .output_count = 1,
                                           .row_status = status,
                                           .row_offsets = offsets}));
    for (int row = 0; row < ROWS; row++)
        cr_expect_eq(status[row], wanted[row], "row %d: %s", row,
                     carry_status_name(status[row]));
    for (int i = 0; i < (ALL + 2) * WIDTH; i++) {
        int step = i / WIDTH;
        if (step < 1 || step >= ALL) cr_expect_eq(y[i], 77, "step %d", step);
        else if (step < 3) cr_expect(y[i] != 0 && y[i] != 77, "step %d", step);
        else cr_expect_eq(y[i], 0, "step %d", step);
    }
    rig_close(&r);
}

/* max_steps of the caller's only bounds; a whole sequence's bound is the session's. */
Test(ragged, the_longest_row_of_a_whole_sequence_model)
{
    side s = open_side(&specs[2], PACKED, 5);
    ragged g = {.rows = 2,
                .longest = MOST_STEPS + 1,
                .steps = {MOST_STEPS + 1, 1},
                .offsets = {0, MOST_STEPS + 1, MOST_STEPS + 2},
                .wanted = 7};
    float *dense = random_input(&s.r, 3, MOST_STEPS, 3);
    FAILS(CARRY_E_ARGUMENT, "13 steps, but this whole-sequence model",
          call_side(&s, &g, dense, 0));
    g.steps[0] = MOST_STEPS;
    g.offsets[1] = MOST_STEPS;
    g.offsets[2] = MOST_STEPS + 1;
    OK(call_side(&s, &g, dense, 1000));
    free(dense);
    close_side(&s);
}
