/* Where arrays lie: inputs and outputs in ordinary, pinned and device memory, of every type, in every kind of call, held
 * to what the CPU backend answers to the same call. */
#include "cuda_support.h"

#include "cuda/cuda_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 7, MOST_STEPS = 9, MOST_OUTPUTS = 5 };

static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};

static const model_spec specs[] = {
    /* every kind of output */
    {.features = 3,
     .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(4, 0),
                DENSE_LAYER(3, CY_ACT_SOFTMAX)},
     .outputs = {{0, CY_PORT_Y}, {1, CY_PORT_Y}, {0, CY_PORT_H}, {1, CY_PORT_C}, {2, 0}},
     .output_count = 5},
    {.ids = 11,
     .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(6, SEQUENCES),
                DENSE_LAYER(5, CY_ACT_TANH)},
     .outputs = {{2, CY_PORT_Y}, {1, CY_PORT_H}, {0, CY_PORT_Y}},
     .output_count = 3},
    {.features = 2,
     .layers = {LSTM_LAYER(5, SEQUENCES | BACKWARDS), LSTM_LAYER(3, SEQUENCES)},
     .outputs = {{1, CY_PORT_Y}, {0, CY_PORT_C}, {0, CY_PORT_Y}},
     .output_count = 3},
    {.features = 4,
     .layers = {DROPOUT_LAYER, LSTM_LAYER(9, SEQUENCES | NO_BIAS),
                ACTIVATION_LAYER(CY_ACT_RELU),
                LSTM_ACT(3, SEQUENCES, CY_ACT_SOFTMAX, CY_ACT_HARD_SIGMOID_02)},
     .outputs = {{0, CY_PORT_Y}, {2, CY_PORT_Y}, {3, CY_PORT_Y}},
     .output_count = 3},
};
#define SPECS (sizeof specs / sizeof *specs)

/* One kind of call. */
typedef struct kind {
    const model_spec *spec;
    size_t rows, steps;
    uint32_t max_rows, exact;
    carry_graph_shape graph; /* steps 0: none */
    carry_mode mode;
    carry_place x_place, y_place[MOST_OUTPUTS];
    carry_dtype x_type, y_type[MOST_OUTPUTS];
    unsigned wanted; /* a bit for each output */
    bool ragged, states, resets, statuses, stale;
    bool packed, asynchronous;
    uint64_t seed;
} kind;

static unsigned below(uint64_t *seed, unsigned n)
{
    return (unsigned)(random_u64(seed) >> 33) % n;
}

static kind random_kind(uint64_t seed)
{
    static const carry_dtype types[] = {CARRY_F32, CARRY_F16, CARRY_BF16};
    kind k = {.spec = &specs[seed % SPECS], .seed = seed};
    k.rows = 1 + below(&seed, MOST_ROWS);
    k.steps = below(&seed, 4) == 0 ? 1 : 1 + below(&seed, MOST_STEPS);
    k.max_rows = 1 + below(&seed, MOST_ROWS);
    k.exact = below(&seed, 2);
    if (k.spec != &specs[2] && below(&seed, 2))
        k.graph = (carry_graph_shape){1 + below(&seed, k.max_rows), 1 + below(&seed, 3)};
    k.mode = below(&seed, 3) == 0 ? CARRY_STEPS_LAST : CARRY_STEPS_AS_MODEL;
    k.x_place = (carry_place)below(&seed, 3);
    k.x_type = k.spec->ids                 ? CARRY_I32
               : k.x_place == CARRY_DEVICE ? types[below(&seed, 3)]
                                           : CARRY_F32;
    carry_place all = (carry_place)below(&seed, 3);
    bool mixed = below(&seed, 2);
    for (int o = 0; o < MOST_OUTPUTS; o++) {
        k.y_place[o] = mixed ? (carry_place)below(&seed, 3) : all;
        k.y_type[o] = k.y_place[o] == CARRY_DEVICE ? types[below(&seed, 3)] : CARRY_F32;
    }
    k.wanted = below(&seed, 3) ? (1u << MOST_OUTPUTS) - 1 : below(&seed, 32);
    k.ragged = below(&seed, 2);
    k.states = below(&seed, 4) > 0;
    k.resets = below(&seed, 2);
    k.statuses = below(&seed, 2);
    k.stale = k.statuses && k.states && below(&seed, 2);
    return k;
}

/* Ordinary memory is for calls that wait. */
static bool can_be_asynchronous(const kind *k)
{
    bool can = k->x_place != CARRY_HOST;
    for (size_t o = 0; o < k->spec->output_count; o++)
        can = can && (!(k->wanted >> o & 1) || k->y_place[o] != CARRY_HOST);
    return can;
}

/* Rows of one call: where they begin, and how many steps they have. */
typedef struct lengths {
    uint32_t steps[MOST_ROWS];
    uint64_t offsets[MOST_ROWS + 1]; /* padded: multiples of T */
} lengths;

/* Packed: gaps before the first row and behind the last; a row has room for its steps, ragged for some more. */
static lengths random_lengths(const kind *k, uint64_t seed)
{
    lengths l = {{0}, {0}};
    uint32_t most = (uint32_t)k->steps;
    if (k->packed) l.offsets[0] = below(&seed, 3);
    for (size_t row = 0; row < k->rows; row++) {
        uint32_t room = most;
        if (k->packed && below(&seed, 4) > 0)
            room = below(&seed, 3) ? below(&seed, most + 1) : 0;
        l.steps[row] = k->ragged ? below(&seed, room + 1) : room;
        l.offsets[row + 1] = l.offsets[row] + room;
    }
    return l;
}

/* Steps that the arrays have room for: more than there are, if they are packed. */
static size_t room_of(const kind *k)
{
    return k->rows * k->steps + (k->packed ? 4 : 0);
}

/* A model on one device, and what its calls answered. */
typedef struct side {
    rig r;
    carry_state states[MOST_ROWS];
    buffer x, y[MOST_OUTPUTS];
    size_t outputs, width[MOST_OUTPUTS];
    bool time[MOST_OUTPUTS]; /* every step of every row */
    carry_status status[MOST_ROWS];
} side;

static side open_side(const kind *k, const char *device)
{
    bool cuda = strcmp(device, "cuda") == 0;
    carry_session_options options = {.size = sizeof options,
                                     .threads = 1,
                                     .max_rows = k->max_rows,
                                     .max_steps = MOST_STEPS,
                                     .exact = k->exact,
                                     .graphs = k->graph.steps ? &k->graph : NULL,
                                     .graph_count = k->graph.steps ? 1 : 0};
    side s = {.r = rig_on(device, k->spec, &options), .outputs = k->spec->output_count};
    open_states(&s.r, s.states, MOST_ROWS);
    s.x = buffer_open(cuda ? k->x_place : CARRY_HOST,
                      cuda || k->spec->ids ? k->x_type : CARRY_F32, room_of(k) * s.r.in);
    for (size_t o = 0; o < s.outputs; o++) {
        carry_port_info port = {.size = sizeof port};
        OK(carry_model_get_output(s.r.model, o, &port));
        s.time[o] = port.has_time && k->mode != CARRY_STEPS_LAST;
        s.width[o] = (size_t)port.width;
        size_t count = (s.time[o] ? room_of(k) : k->rows) * s.width[o];
        s.y[o] = buffer_open(cuda ? k->y_place[o] : CARRY_HOST,
                             cuda ? k->y_type[o] : CARRY_F32, count);
    }
    return s;
}

static void close_side(side *s)
{
    rig_close(&s->r);
    buffer_close(&s->x);
    for (size_t o = 0; o < s->outputs; o++)
        buffer_close(&s->y[o]);
}

/* Input that both sides can hold, and what must not be read before, behind and between the rows' steps. */
static void *input_of(const kind *k, const rig *r, const lengths *l, uint64_t seed)
{
    float *x = random_input(r, 1, room_of(k), seed);
    bool there[MOST_ROWS * MOST_STEPS + 4] = {false};
    for (size_t row = 0; row < k->rows; row++)
        for (uint32_t s = 0; s < l->steps[row]; s++)
            there[l->offsets[row] + s] = true;
    for (size_t i = 0; i < room_of(k) * r->in; i++) {
        bool rests = !there[i / r->in];
        if (r->ids && rests) ((int32_t *)x)[i] = 1 << 30;
        else if (r->ids) continue;
        else if (rests) x[i] = NAN;
        else if (k->x_type == CARRY_F16) x[i] = from_f16(cy_cuda_to_f16(x[i]));
        else if (k->x_type == CARRY_BF16) x[i] = from_bf16(cy_cuda_to_bf16(x[i]));
    }
    return x;
}

/* What nobody writes stays a NaN: packed arrays are compared from end to end. */
static void poison(const buffer *y)
{
    float *nothing = malloc(y->count * sizeof *nothing);
    for (size_t i = 0; i < y->count; i++)
        nothing[i] = NAN;
    buffer_write(y, nothing);
    free(nothing);
}

static void call_side(const kind *k, side *s, const lengths *l, const void *x)
{
    uint8_t reset[MOST_ROWS] = {1, 0, 0, 1, 0, 1, 0};
    buffer wanted[MOST_OUTPUTS];
    for (size_t o = 0; o < s->outputs; o++) {
        wanted[o] = s->y[o];
        if (!(k->wanted >> o & 1)) wanted[o].data = NULL;
    }
    buffer_write(&s->x, x);
    for (size_t o = 0; o < s->outputs; o++)
        poison(&s->y[o]);
    OK(run_wide(s->r.session,
                &(wide_call){.rows = k->rows,
                             .max_steps = k->packed && k->seed % 2 ? 0 : k->steps,
                             .states = k->states ? s->states : NULL,
                             .steps = k->ragged ? l->steps : NULL,
                             .row_offsets = k->packed ? l->offsets : NULL,
                             .flags = k->asynchronous ? CARRY_ASYNC : 0,
                             .reset = k->resets ? reset : NULL,
                             .x = &s->x,
                             .y = wanted,
                             .outputs = s->outputs,
                             .mode = k->mode,
                             .row_status = k->statuses ? s->status : NULL}));
    if (k->asynchronous) OK(carry_session_wait(s->r.session));
}

/* How far a float may be from what it was rounded to. */
static double rounding(carry_dtype dtype)
{
    return dtype == CARRY_BF16 ? 0x1p-8 : dtype == CARRY_F16 ? 0x1p-11 : 0;
}

static const char *name_of(const kind *k)
{
    static char text[200];
    snprintf(
        text, sizeof text,
        "kind %d%s: model %d, %zu rows in %u of %zu steps, graph %u x %u, exact %u, mode "
        "%d, x %d/%d",
        (int)k->seed, k->packed ? ", packed" : "", (int)(k->spec - specs), k->rows,
        k->max_rows, k->steps, k->graph.rows, k->graph.steps, k->exact, (int)k->mode,
        (int)k->x_place, (int)k->x_type);
    return text;
}

static void compare(const kind *k, const side *cuda, const side *cpu)
{
    for (size_t o = 0; o < cpu->outputs; o++) {
        if (!(k->wanted >> o & 1)) continue;
        float *a = buffer_read(&cuda->y[o]), *b = buffer_read(&cpu->y[o]);
        double error = worst_error(a, b, cpu->y[o].count);
        cr_assert_leq(error, 1e-5 + rounding(k->y_type[o]), "%s, output %zu (%d/%d): %g",
                      name_of(k), o, (int)k->y_place[o], (int)k->y_type[o], error);
        free(a);
        free(b);
    }
    for (size_t row = 0; row < k->rows; row++) {
        if (k->statuses) cr_assert_eq(cuda->status[row], cpu->status[row]);
        if (k->stale && row == 0) continue;
        size_t count;
        float *a = read_state(&cuda->r, cuda->states[row], &count);
        float *b = read_state(&cpu->r, cpu->states[row], &count);
        cr_assert_leq(worst_error(a, b, count), 1e-5, "%s, state %zu", name_of(k), row);
        free(a);
        free(b);
    }
}

/* Two calls, so that the second continues from states and from used buffers. */
static void check_kind(const kind *k)
{
    fake_reset(&gpu, k->seed);
    side cuda = open_side(k, "cuda"), cpu = open_side(k, "cpu");
    if (k->stale)
        for (side *s = &cuda; s; s = s == &cuda ? &cpu : NULL) {
            carry_state copy = s->states[0];
            OK(carry_state_close(s->r.session, &copy));
        }
    for (uint64_t call = 0; call < 2; call++) {
        uint64_t seed = k->seed * 2 + call;
        lengths l = random_lengths(k, seed);
        void *x = input_of(k, &cpu.r, &l, seed);
        call_side(k, &cpu, &l, x);
        call_side(k, &cuda, &l, x);
        free(x);
        compare(k, &cuda, &cpu);
    }
    no_misuse();
    close_side(&cuda);
    close_side(&cpu);
    cr_assert_eq(fake_open_handles(), 0);
}

/* In parts, so that they run beside each other. */
static void check_kinds(uint64_t first, uint64_t count)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        kind k = random_kind(seed);
        check_kind(&k);
    }
}

static void check_packed_kinds(uint64_t first, uint64_t count)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        kind k = random_kind(seed);
        k.packed = true;
        k.asynchronous = can_be_asynchronous(&k) && seed % 3 > 0;
        check_kind(&k);
    }
}

Test(cuda_places, any_kind_of_call_answers_as_the_cpu_does_1)
{
    check_kinds(0, 80 / FEWER);
}

Test(cuda_places, any_kind_of_call_answers_as_the_cpu_does_2)
{
    check_kinds(80, 80 / FEWER);
}

Test(cuda_places, any_kind_of_packed_call_answers_as_the_cpu_does_1)
{
    check_packed_kinds(1000, 100 / FEWER);
}

Test(cuda_places, any_kind_of_packed_call_answers_as_the_cpu_does_2)
{
    check_packed_kinds(1100, 100 / FEWER);
}

/* The rows of a packed call as a padded one. */
static lengths unpacked(const kind *k, const lengths *packed)
{
    lengths l = *packed;
    for (size_t row = 0; row <= k->rows; row++)
        l.offsets[row] = row * k->steps;
    return l;
}

static void compare_packed(const kind *k, const side *packed, const side *padded,
                           const lengths *l)
{
    for (size_t o = 0; o < packed->outputs; o++) {
        if (!(k->wanted >> o & 1)) continue;
        float *a = buffer_read(&packed->y[o]), *b = buffer_read(&padded->y[o]);
        size_t width = packed->width[o];
        if (!packed->time[o]) SAME_BITS(a, b, k->rows * width);
        for (size_t row = 0; packed->time[o] && row < k->rows; row++) {
            const float *of_packed = a + l->offsets[row] * width,
                        *of_padded = b + row * k->steps * width;
            SAME_BITS(of_packed, of_padded,
                      (l->offsets[row + 1] - l->offsets[row]) * width);
        }
        free(a);
        free(b);
    }
    for (size_t row = k->stale; row < MOST_ROWS; row++) {
        size_t count;
        float *a = read_state(&packed->r, packed->states[row], &count);
        float *b = read_state(&padded->r, padded->states[row], &count);
        SAME_BITS(a, b, count);
        free(a);
        free(b);
    }
}

/* With `exact`, the bits of the same rows in padded arrays. */
static void check_packed_bits(uint64_t seed)
{
    fake_reset(&gpu, seed);
    kind k = random_kind(seed);
    k.exact = 1;
    k.stale = false;
    kind as_padded = k;
    as_padded.ragged = k.packed = true;
    side padded = open_side(&as_padded, "cuda"), packed = open_side(&k, "cuda");
    for (uint64_t call = 0; call < 2; call++) {
        lengths l = random_lengths(&k, seed + call), far = unpacked(&k, &l);
        size_t step = padded.r.in;
        float *x = input_of(&as_padded, &padded.r, &far, seed);
        float *near = input_of(&k, &padded.r, &l, seed);
        for (size_t row = 0; row < k.rows; row++)
            memcpy(near + l.offsets[row] * step, x + far.offsets[row] * step,
                   l.steps[row] * step * sizeof *x);
        call_side(&as_padded, &padded, &far, x);
        call_side(&k, &packed, &l, near);
        free(x);
        free(near);
        compare_packed(&k, &packed, &padded, &l);
    }
    no_misuse();
    close_side(&padded);
    close_side(&packed);
}

Test(cuda_places, packed_rows_have_the_bits_of_padded_ones)
{
    for (uint64_t seed = 2000; seed < 2000 + 60 / FEWER; seed++)
        check_packed_bits(seed);
}

/* Every place and type of input with every place and type of output, in one model. */
Test(cuda_places, every_place_with_every_other)
{
    static const struct {
        carry_place place;
        carry_dtype dtype;
    } all[] = {{CARRY_HOST, CARRY_F32},
               {CARRY_PINNED, CARRY_F32},
               {CARRY_DEVICE, CARRY_F32},
               {CARRY_DEVICE, CARRY_F16},
               {CARRY_DEVICE, CARRY_BF16}};
    for (size_t i = 0; i < 25; i++) {
        kind k = random_kind(4 * i);
        k.packed = i % 2;
        k.x_place = all[i % 5].place;
        k.x_type = all[i % 5].dtype;
        k.wanted = 31;
        for (int o = 0; o < MOST_OUTPUTS; o++) {
            k.y_place[o] = all[i / 5].place;
            k.y_type[o] = all[i / 5].dtype;
        }
        check_kind(&k);
    }
}

Test(cuda_places, halves_are_the_floats_rounded)
{
    enum { ROWS = 3, STEPS = 5, UNITS = 6 };
    const model_spec spec = {
        .features = 3,
        .layers = {LSTM_LAYER(UNITS, SEQUENCES), DENSE_LAYER(UNITS, CY_ACT_LINEAR)},
        .scale = 40};
    rig r = rig_on(
        "cuda", &spec,
        &(carry_session_options){.size = sizeof(carry_session_options), .exact = 1});
    void *numbers = random_input(&r, ROWS, STEPS, 2);
    buffer x = buffer_open(CARRY_DEVICE, CARRY_F32, ROWS * STEPS * 3);
    buffer_write(&x, numbers);
    static const carry_dtype types[] = {CARRY_F32, CARRY_F16, CARRY_BF16};
    float *values[3];
    for (int i = 0; i < 3; i++) {
        buffer y = buffer_open(CARRY_DEVICE, types[i], ROWS * STEPS * UNITS);
        OK(run_wide(
            r.session,
            &(wide_call){
                .rows = ROWS, .max_steps = STEPS, .x = &x, .y = &y, .outputs = 1}));
        values[i] = buffer_read(&y);
        buffer_close(&y);
    }
    for (size_t i = 0; i < ROWS * STEPS * UNITS; i++) {
        cr_assert_eq(values[1][i], from_f16(cy_cuda_to_f16(values[0][i])));
        cr_assert_eq(values[2][i], from_bf16(cy_cuda_to_bf16(values[0][i])));
    }
    for (int i = 0; i < 3; i++)
        free(values[i]);
    free(numbers);
    buffer_close(&x);
    rig_close(&r);
}
