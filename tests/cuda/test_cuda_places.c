/* Where arrays lie: inputs and outputs in ordinary, pinned and device memory, of every type, in every kind of call, held
 * to what the CPU backend answers to the same call. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "cuda_support.h"

#include "cuda/cuda_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

/* ---- long calls ----------------------------------------------------------------------------- */

/* Rows of pinned arrays may lie further apart than a two-dimensional copy can step. */
Test(cuda_places, pinned_rows_two_gigabytes_apart)
{
    enum { ROWS = 3, FEATURES = 2, UNITS = 3, MOST = 5 };
    static const uint32_t steps[ROWS] = {1, MOST, 2};
    const size_t apart = ((size_t)1 << 31) / (FEATURES * sizeof(float)) + 1;
    const model_spec spec = {.features = FEATURES, .layers = {LSTM_LAYER(UNITS, 0)}};
    fake_reset(&gpu, 1);
    rig r = rig_on("cuda", &spec, NULL), cpu = rig_on("cpu", &spec, NULL);
    buffer x = {.count = ROWS * apart * FEATURES, .place = CARRY_PINNED};
    size_t bytes = x.count * sizeof(float);
    x.data = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(x.data, MAP_FAILED);
    CUDA_OK(cudaHostRegister(x.data, bytes, cudaHostRegisterDefault));
    float *near = random_input(&cpu, ROWS, MOST, 7), expected[ROWS * UNITS];
    for (size_t row = 0; row < ROWS; row++)
        memcpy((float *)x.data + row * apart * FEATURES, near + row * MOST * FEATURES,
               MOST * FEATURES * sizeof(float));
    OK(run_call(
        &cpu,
        &(call_spec){
            .rows = ROWS, .max_steps = MOST, .steps = steps, .x = near, .y = expected}));
    buffer y = buffer_open(CARRY_HOST, CARRY_F32, ROWS * UNITS);
    OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                        .max_steps = apart,
                                        .steps = steps,
                                        .x = &x,
                                        .y = &y,
                                        .outputs = 1}));
    cr_assert_leq(worst_error(y.data, expected, y.count), 1e-5);
    no_misuse();
    CUDA_OK(cudaHostUnregister(x.data));
    munmap(x.data, bytes);
    free(near);
    buffer_close(&y);
    rig_close(&r);
    rig_close(&cpu);
}

/* A plain chunk has 256 steps at most, so these calls have three: staging buffers are used again. Sanitized, the chunks
 * are those of a graph. */
Test(cuda_places, a_call_of_several_chunks)
{
    enum { ROWS = 2, STEPS = FEWER > 1 ? 20 : 520, UNITS = 4 };
    static const uint32_t steps[ROWS] = {STEPS * 3 / 5, STEPS};
    static const carry_graph_shape shape = {ROWS, 8};
    const carry_session_options options = {
        .size = sizeof options, .graphs = &shape, .graph_count = FEWER > 1};
    const model_spec spec = {.features = 2, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
    rig cpu = rig_on("cpu", &spec, NULL);
    float *x = random_input(&cpu, ROWS, STEPS, 5);
    float *expected = malloc(ROWS * STEPS * UNITS * sizeof *expected);
    OK(run_call(
        &cpu,
        &(call_spec){
            .rows = ROWS, .max_steps = STEPS, .steps = steps, .x = x, .y = expected}));
    for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
        fake_reset(&gpu, (uint64_t)place + 3);
        rig r = rig_on("cuda", &spec, &options);
        buffer in = buffer_open(place, CARRY_F32, ROWS * STEPS * 2);
        buffer out = buffer_open(place, CARRY_F32, ROWS * STEPS * UNITS);
        buffer_write(&in, x);
        OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                            .max_steps = STEPS,
                                            .steps = steps,
                                            .x = &in,
                                            .y = &out,
                                            .outputs = 1}));
        carry_session_info info = info_of(r.session);
        cr_assert_eq(info.plain_chunks + info.graph_chunks, 3);
        float *y = buffer_read(&out);
        cr_assert_leq(worst_error(y, expected, out.count), 1e-5, "place %d", (int)place);
        free(y);
        buffer_close(&in);
        buffer_close(&out);
        rig_close(&r);
        no_misuse();
    }
    free(x);
    free(expected);
    rig_close(&cpu);
}

/* Where all rows end early nothing is computed behind them: one chunk of three, and zeros in the caller's array. */
Test(cuda_places, steps_that_no_row_has_are_only_cleared)
{
    enum { ROWS = 3, STEPS = 520, UNITS = 3, MOST = ROWS * STEPS * UNITS };
    static const uint32_t steps[] = {5, 0, 7}, none[] = {0, 0, 0};
    static const carry_dtype dtypes[] = {CARRY_F32, CARRY_F32, CARRY_F32, CARRY_BF16};
    const model_spec spec = {.features = 2, .layers = {LSTM_LAYER(UNITS, SEQUENCES)}};
    for (int kind = 0; kind < 8; kind++) {
        const bool asynchronous = kind % 2;
        const carry_place place = kind / 2 < 3 ? (carry_place)(kind / 2) : CARRY_DEVICE;
        if (asynchronous && place == CARRY_HOST) continue;
        fake_reset(&gpu, (uint64_t)kind + 1);
        rig r = rig_on("cuda", &spec, NULL);
        float *x = random_input(&r, ROWS, STEPS, 5);
        buffer in = buffer_open(place, CARRY_F32, ROWS * STEPS * 2);
        buffer out = buffer_open(place, dtypes[kind / 2], MOST);
        buffer_write(&in, x);
        for (int all_rest = 0; all_rest < 2; all_rest++) {
            const uint32_t *of_rows = all_rest ? none : steps;
            float ones[MOST];
            for (int i = 0; i < MOST; i++)
                ones[i] = 1;
            buffer_write(&out, ones);
            carry_session_info before = info_of(r.session);
            OK(run_wide(r.session,
                        &(wide_call){.rows = ROWS,
                                     .max_steps = STEPS,
                                     .steps = of_rows,
                                     .x = &in,
                                     .y = &out,
                                     .outputs = 1,
                                     .flags = asynchronous ? CARRY_ASYNC : 0}));
            OK(carry_session_wait(r.session));
            cr_assert_eq(info_of(r.session).plain_chunks, before.plain_chunks + 1);
            float *y = buffer_read(&out);
            for (size_t i = 0; i < MOST; i++) {
                bool rests = i / UNITS % STEPS >= of_rows[i / UNITS / STEPS];
                cr_assert(rests ? y[i] == 0 : y[i] != 0 && y[i] != 1,
                          "kind %d, element %zu: %g", kind, i, (double)y[i]);
            }
            free(y);
        }
        buffer_close(&in);
        buffer_close(&out);
        free(x);
        rig_close(&r);
        no_misuse();
    }
}

/* A chunk of many rows ends when half of them have: what ended is not computed on. In packed arrays the few that go on
 * have the buffers to themselves. */
Test(cuda_places, many_rows_of_which_few_go_on)
{
    enum { ROWS = 65, SHORT = 2, LONG = FEWER > 1 ? 70 : 120, UNITS = 3, MAX_ROWS = 65 };
    const model_spec spec = {.features = 2,
                             .layers = {LSTM_LAYER(UNITS, SEQUENCES)},
                             .outputs = {{0, CY_PORT_Y}, {0, CY_PORT_H}},
                             .output_count = 2};
    const carry_session_options options = {
        .size = sizeof options, .max_rows = MAX_ROWS, .exact = 1};
    uint32_t steps[ROWS];
    uint64_t offsets[ROWS + 1] = {0};
    for (size_t row = 0; row < ROWS; row++) {
        steps[row] = row % 40 == 7 ? LONG : row % 5 ? SHORT : 0;
        offsets[row + 1] = offsets[row] + steps[row];
    }
    rig cpu = rig_on("cpu", &spec, NULL);
    for (int packed = 0; packed <= 1; packed++)
        for (carry_place place = CARRY_HOST; place <= CARRY_DEVICE; place++) {
            fake_reset(&gpu, (uint64_t)place + 1);
            rig r = rig_on("cuda", &spec, &options);
            size_t all = packed ? offsets[ROWS] : ROWS * LONG;
            void *x = random_input(&cpu, 1, all, 5);
            buffer in[2], out[2][2]; /* [cuda, cpu], of the latter y and h */
            for (int side = 0; side < 2; side++) {
                carry_place there = side ? CARRY_HOST : place;
                in[side] = buffer_open(there, CARRY_F32, all * 2);
                out[side][0] = buffer_open(there, CARRY_F32, all * UNITS);
                out[side][1] = buffer_open(there, CARRY_F32, ROWS * UNITS);
                buffer_write(&in[side], x);
                OK(run_wide(side ? cpu.session : r.session,
                            &(wide_call){.rows = ROWS,
                                         .max_steps = LONG,
                                         .steps = packed ? NULL : steps,
                                         .row_offsets = packed ? offsets : NULL,
                                         .x = &in[side],
                                         .y = out[side],
                                         .outputs = 2}));
            }
            /* 2 steps of 53 rows; then 2 rows, in 4096 / 65 steps at a time where the arrays have room for all */
            cr_assert_eq(info_of(r.session).plain_chunks,
                         packed ? 2 : 1 + (LONG - SHORT + 62) / 63);
            for (int o = 0; o < 2; o++) {
                float *got = buffer_read(&out[0][o]);
                cr_assert_leq(worst_error(got, out[1][o].data, out[0][o].count), 1e-5,
                              "packed %d, place %d, output %d", packed, (int)place, o);
                free(got);
            }
            for (int side = 0; side < 2; side++) {
                buffer_close(&in[side]);
                buffer_close(&out[side][0]);
                buffer_close(&out[side][1]);
            }
            free(x);
            no_misuse();
            rig_close(&r);
        }
    rig_close(&cpu);
}

/* ---- halves --------------------------------------------------------------------------------- */

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

/* ---- ids ------------------------------------------------------------------------------------ */

static const model_spec words = {
    .ids = 7, .layers = {EMBEDDING_LAYER(3), LSTM_LAYER(4, SEQUENCES)}};

Test(cuda_places, a_bad_id_in_device_memory_fails_the_call)
{
    enum { ROWS = 3, STEPS = 4 };
    static const int32_t bad[] = {7, -1, INT32_MAX, INT32_MIN};
    static const carry_graph_shape shape = {2, 2};
    for (int i = 0; i < 8; i++) {
        carry_session_options options = {.size = sizeof options,
                                         .max_rows = 2,
                                         .graphs = &shape,
                                         .graph_count = i & 1};
        rig r = rig_on("cuda", &words, &options);
        carry_state states[ROWS];
        open_states(&r, states, ROWS);
        int32_t ids[ROWS * STEPS] = {1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
        buffer x = buffer_open(CARRY_DEVICE, CARRY_I32, ROWS * STEPS);
        buffer y = buffer_open(CARRY_DEVICE, CARRY_F32, ROWS * STEPS * 4);
        wide_call call = {.rows = ROWS,
                          .max_steps = STEPS,
                          .states = states,
                          .x = &x,
                          .y = &y,
                          .outputs = 1};
        buffer_write(&x, ids);
        OK(run_wide(r.session, &call));
        size_t count;
        float *before[ROWS];
        for (int row = 0; row < ROWS; row++)
            before[row] = read_state(&r, states[row], &count);
        int32_t kept = ids[9];
        ids[9] = bad[i / 2]; /* of the last row, in the second group */
        buffer_write(&x, ids);
        FAILS(CARRY_E_INPUT, "1 ids in device memory are not in 0 .. 6",
              run_wide(r.session, &call));
        for (int row = 0; row < ROWS; row++) {
            float *after = read_state(&r, states[row], &count);
            SAME_BITS(after, before[row], count);
            free(after);
            free(before[row]);
        }
        cr_assert_eq(info_of(r.session).dead, 0);
        uint32_t steps[ROWS] = {4, 4, 1}; /* behind a row's steps it is not read */
        call.steps = steps;
        OK(run_wide(r.session, &call));
        call.steps = NULL;
        ids[9] = kept;
        buffer_write(&x, ids);
        OK(run_wide(r.session, &call)); /* the count starts again */
        buffer_close(&x);
        buffer_close(&y);
        no_misuse();
        rig_close(&r);
    }
}

Test(cuda_places, a_bad_id_of_an_asynchronous_call_gives_its_row_nan)
{
    enum { ROWS = 3, STEPS = 4, UNITS = 4 };
    rig r = rig_on("cuda", &words, NULL), cpu = rig_on("cpu", &words, NULL);
    int32_t ids[ROWS * STEPS] = {1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5};
    float expected[ROWS * STEPS * UNITS];
    OK(run_call(&cpu,
                &(call_spec){.rows = ROWS, .max_steps = STEPS, .x = ids, .y = expected}));
    ids[6] = 99; /* row 1, step 2 */
    buffer x = buffer_open(CARRY_DEVICE, CARRY_I32, ROWS * STEPS);
    buffer y = buffer_open(CARRY_PINNED, CARRY_F32, ROWS * STEPS * UNITS);
    buffer_write(&x, ids);
    OK(run_wide(r.session, &(wide_call){.rows = ROWS,
                                        .max_steps = STEPS,
                                        .x = &x,
                                        .y = &y,
                                        .outputs = 1,
                                        .flags = CARRY_ASYNC}));
    OK(carry_session_wait(r.session));
    const float *got = y.data;
    for (size_t i = 0; i < ROWS * STEPS * UNITS; i++) {
        size_t row = i / UNITS / STEPS, step = i / UNITS % STEPS;
        if (row == 1 && step >= 2) cr_assert(isnan(got[i]), "%zu: %g", i, (double)got[i]);
        else cr_assert_float_eq(got[i], expected[i], 1e-5, "%zu", i);
    }
    buffer_close(&x);
    buffer_close(&y);
    rig_close(&r);
    rig_close(&cpu);
}

/* ---- refusals ------------------------------------------------------------------------------- */

/* A word model's output of each step: not 4096 of them at a time. */
Test(cuda_places, a_wide_head_does_not_ask_for_gigabytes)
{
    enum { WORDS = 20000 };
    const model_spec spec = {.ids = WORDS,
                             .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(4, SEQUENCES),
                                        DENSE_LAYER(WORDS, CY_ACT_LINEAR)}};
    fake_reset(&gpu, 1);
    rig r = rig_on(
        "cuda", &spec,
        &(carry_session_options){.size = sizeof(carry_session_options), .max_rows = 8});
    uint64_t bytes = info_of(r.session).workspace_bytes;
    cr_assert_lt(bytes, (uint64_t)400 << 20, "%zu bytes", (size_t)bytes);
    rig_close(&r);
}

Test(cuda_places, graphs_that_cannot_be_are_refused_with_a_sentence)
{
    static const carry_graph_shape shapes[] = {{2, 3}, {64, 64}, {64, 65}};
    const model_spec backwards = {.features = 3, .layers = {LSTM_LAYER(3, BACKWARDS)}},
                     forwards = {.features = 3, .layers = {LSTM_LAYER(3, 0)}};
    carry_session_options options = {
        .size = sizeof options, .max_rows = 64, .graphs = shapes, .graph_count = 1};
    carry_model *model = model_on("cuda", &backwards, CARRY_COMPUTE_FP32);
    carry_session *session;
    FAILS(CARRY_E_UNSUPPORTED, "graphs are of causal models",
          carry_session_open(&session, model, &options));
    cr_assert_null(session);
    rig r = rig_of(model, NULL);
    FAILS(CARRY_E_UNSUPPORTED, "graphs are of causal models",
          carry_session_warm(r.session, shapes, 1));
    OK(carry_session_warm(r.session, shapes, 0));
    rig_close(&r);

    r = rig_on("cuda", &forwards, &options);
    FAILS(CARRY_E_ARGUMENT, "64 rows of 65 steps are 4160 row-steps",
          carry_session_warm(r.session, shapes, 3));
    cr_assert_eq(info_of(r.session).graphs, 2); /* those before it stay */
    cr_assert_eq(info_of(r.session).dead, 0);
    rig_close(&r);
    options.graph_count = 3; /* but at open there is room for what is asked for */
    r = rig_on("cuda", &forwards, &options);
    cr_assert_eq(info_of(r.session).graphs, 3);
    rig_close(&r);
    no_misuse();
    cr_assert_eq(fake_open_handles(), 0);
}

Test(cuda_places, what_cannot_be_is_refused_with_a_sentence)
{
    enum { COUNT = 12 };
    const model_spec spec = {.features = 3, .layers = {LSTM_LAYER(3, SEQUENCES)}};
    rig r = rig_on("cuda", &spec, NULL), cpu = rig_on("cpu", &spec, NULL);
    buffer host = buffer_open(CARRY_HOST, CARRY_F32, COUNT);
    buffer pinned = buffer_open(CARRY_PINNED, CARRY_F32, COUNT);
    buffer device = buffer_open(CARRY_DEVICE, CARRY_F32, COUNT), wrong;
    float zeros[COUNT] = {0};
    buffer_write(&host, zeros);
    buffer_write(&pinned, zeros);
    buffer_write(&device, zeros);
    wide_call call = {.rows = 2,
                      .max_steps = 2,
                      .x = &host,
                      .y = &device,
                      .outputs = 1,
                      .flags = CARRY_ASYNC};
    size_t first = fake_seen_now().calls;
    FAILS(CARRY_E_ARGUMENT,
          "input 0 is in ordinary host memory; CARRY_ASYNC takes pinned",
          run_wide(r.session, &call));
    call.x = &pinned;
    call.y = &host;
    FAILS(CARRY_E_ARGUMENT, "output 0 is in ordinary host memory; CARRY_ASYNC",
          run_wide(r.session, &call));
    call.flags = 0;
    for (int half = CARRY_F16; half <= CARRY_BF16; half++) {
        const char *name = half == CARRY_F16 ? "CARRY_F16" : "CARRY_BF16";
        for (int place = CARRY_HOST; place <= CARRY_PINNED; place++) {
            wrong = place == CARRY_HOST ? host : pinned;
            wrong.dtype = (carry_dtype)half;
            call.x = &wrong;
            call.y = &device;
            FAILS(CARRY_E_ARGUMENT, name, run_wide(r.session, &call));
            cr_expect(
                strstr(carry_error(), "in host memory; only device memory takes it"));
            call.x = &device;
            call.y = &wrong;
            FAILS(CARRY_E_ARGUMENT, name, run_wide(r.session, &call));
        }
    }
    wrong = device;
    wrong.dtype = CARRY_I32;
    call.x = &wrong;
    FAILS(CARRY_E_ARGUMENT, "input 0 has dtype 1, expected CARRY_F32",
          run_wide(r.session, &call));
    call.x = &host;
    call.y = &wrong;
    FAILS(CARRY_E_ARGUMENT, "output 0 has dtype 1", run_wide(r.session, &call));
    wrong = device;
    wrong.place = (carry_place)3;
    FAILS(CARRY_E_ARGUMENT, "output 0 has place 3", run_wide(r.session, &call));
    wrong = device;
    wrong.count--;
    FAILS(CARRY_E_CAPACITY, "output 0 has 44 bytes", run_wide(r.session, &call));
    call.y = &host;
    call.flags = 2;
    FAILS(CARRY_E_ARGUMENT, "flags", run_wide(r.session, &call));
    cr_assert_eq(fake_seen_now().calls, first, "a refused call reached the device");

    call.flags = 0;
    call.x = &device;
    FAILS(CARRY_E_ARGUMENT, "input 0 is in device memory, the model is on 'cpu'",
          run_wide(cpu.session, &call));
    call.x = &pinned;
    call.y = &device;
    FAILS(CARRY_E_ARGUMENT, "output 0 is in device memory, the model is on 'cpu'",
          run_wide(cpu.session, &call));
    call.y = &host;
    call.flags = CARRY_ASYNC; /* no effect */
    OK(run_wide(cpu.session, &call));
    buffer_close(&host);
    buffer_close(&pinned);
    buffer_close(&device);
    rig_close(&r);
    rig_close(&cpu);
}
