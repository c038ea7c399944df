/* Calls of every kind one behind another on one session, asynchronous ones among them, with graphs of several shapes,
 * states copied and reset in between and nothing waited for: staging buffers, blocks and versions are used again while
 * earlier work may still be queued. Held to what the CPU backend answers, and with exact to a session of another shape. */
#include "cuda_support.h"

#include <stdlib.h>
#include <string.h>

enum { CALLS = 7, MOST_ROWS = 6, MOST_STEPS = 11, POOL = 8, OUTPUTS = 4 };

static const fake_device gpu = {1, 8, 0, 4, (size_t)1 << 30, 0};

static const model_spec specs[] = {
    {.features = 3,
     .layers = {LSTM_LAYER(5, SEQUENCES), LSTM_LAYER(4, 0),
                DENSE_LAYER(3, CY_ACT_SOFTMAX)},
     .outputs = {{0, CY_PORT_Y}, {2, CY_PORT_Y}, {0, CY_PORT_H}, {1, CY_PORT_C}},
     .output_count = 4},
    {.ids = 9,
     .layers = {EMBEDDING_LAYER(4), LSTM_LAYER(6, SEQUENCES),
                DENSE_LAYER(2, CY_ACT_TANH)},
     .outputs = {{2, CY_PORT_Y}, {1, CY_PORT_C}, {0, CY_PORT_Y}, {1, CY_PORT_Y}},
     .output_count = 4},
    {.features = 2,
     .layers = {LSTM_LAYER(3, SEQUENCES | BACKWARDS), LSTM_LAYER(4, SEQUENCES)},
     .outputs = {{1, CY_PORT_Y}, {0, CY_PORT_H}, {0, CY_PORT_Y}, {1, CY_PORT_C}},
     .output_count = 4},
};

enum { SPECS = sizeof specs / sizeof *specs };

static unsigned below(uint64_t *seed, unsigned n)
{
    return (unsigned)(random_u64(seed) >> 33) % n;
}

/* One call, the same for both sides but for places. */
typedef struct turn {
    size_t rows, max_steps;
    uint32_t steps[MOST_ROWS];
    uint8_t reset[MOST_ROWS];
    size_t state[MOST_ROWS]; /* POOL: none */
    carry_mode mode;
    unsigned wanted, async;
    carry_place x_place, y_place[OUTPUTS];
    int copy_from, copy_to, clear; /* states, before the call; -1: not */
} turn;

static turn random_turn(uint64_t *seed)
{
    turn t = {.rows = 1 + below(seed, MOST_ROWS),
              .max_steps = below(seed, 3) == 0 ? 1 : 1 + below(seed, MOST_STEPS),
              .mode = below(seed, 3) == 0 ? CARRY_STEPS_LAST : CARRY_STEPS_AS_MODEL,
              .wanted = below(seed, 3) ? 15 : below(seed, 16),
              .async = below(seed, 3) > 0};
    unsigned first = below(seed, POOL), least = t.async ? 1 : 0;
    bool ragged = below(seed, 2);
    for (size_t row = 0; row < t.rows; row++) {
        t.steps[row] =
            ragged ? below(seed, (unsigned)t.max_steps + 1) : (uint32_t)t.max_steps;
        t.reset[row] = below(seed, 4) == 0;
        t.state[row] = below(seed, 8) == 0 ? POOL : (first + row) % POOL;
    }
    t.x_place = (carry_place)(least + below(seed, 3 - least));
    for (int o = 0; o < OUTPUTS; o++)
        t.y_place[o] = (carry_place)(least + below(seed, 3 - least));
    t.copy_from = below(seed, 2) ? (int)below(seed, POOL) : -1;
    t.copy_to = (int)below(seed, POOL);
    t.clear = below(seed, 3) == 0 ? (int)below(seed, POOL) : -1;
    return t;
}

typedef struct side {
    rig r;
    bool cuda;
    carry_state states[POOL];
    buffer x[CALLS], y[CALLS][OUTPUTS];
} side;

static void take_turn(side *s, const turn *t, size_t call, const void *x)
{
    carry_state states[MOST_ROWS];
    if (t->copy_from >= 0 && t->copy_from != t->copy_to) {
        OK(carry_state_close(s->r.session, &s->states[t->copy_to]));
        OK(carry_state_copy(s->r.session, s->states[t->copy_from],
                            &s->states[t->copy_to]));
    }
    if (t->clear >= 0) OK(carry_state_reset(s->r.session, s->states[t->clear]));
    for (size_t row = 0; row < t->rows; row++)
        states[row] = t->state[row] < POOL ? s->states[t->state[row]] : (carry_state){0};
    s->x[call] =
        buffer_open(s->cuda ? t->x_place : CARRY_HOST, s->r.ids ? CARRY_I32 : CARRY_F32,
                    t->rows * t->max_steps * s->r.in);
    for (size_t o = 0; o < OUTPUTS; o++) {
        carry_port_info port = {.size = sizeof port};
        OK(carry_model_get_output(s->r.model, o, &port));
        bool time = port.has_time && t->mode != CARRY_STEPS_LAST;
        s->y[call][o] =
            buffer_open(s->cuda ? t->y_place[o] : CARRY_HOST, CARRY_F32,
                        t->rows * (time ? t->max_steps : 1) * (size_t)port.width);
    }
    buffer_write(&s->x[call], x);
    buffer wanted[OUTPUTS];
    for (size_t o = 0; o < OUTPUTS; o++) {
        wanted[o] = s->y[call][o];
        if (!(t->wanted >> o & 1)) wanted[o].data = NULL;
    }
    OK(run_wide(s->r.session, &(wide_call){.rows = t->rows,
                                           .max_steps = t->max_steps,
                                           .states = states,
                                           .steps = t->steps,
                                           .reset = t->reset,
                                           .x = &s->x[call],
                                           .y = wanted,
                                           .outputs = OUTPUTS,
                                           .mode = t->mode,
                                           .flags = t->async ? CARRY_ASYNC : 0}));
}

static side open_side(const model_spec *spec, const char *device,
                      carry_precision precision, const carry_session_options *options)
{
    side s = {.r = rig_of(model_on(device, spec, precision), options),
              .cuda = strcmp(device, "cuda") == 0};
    open_states(&s.r, s.states, POOL);
    return s;
}

static void close_side(side *s)
{
    rig_close(&s->r);
    for (size_t call = 0; call < CALLS; call++) {
        buffer_close(&s->x[call]);
        for (size_t o = 0; o < OUTPUTS; o++)
            buffer_close(&s->y[call][o]);
    }
}

/* Outputs and states of two sides, as far from each other as they may be; 0: the same bits. */
static void compare(const side *a, const side *b, const turn *turns, double most,
                    uint64_t which)
{
    for (size_t i = 0; i < CALLS * OUTPUTS + POOL; i++) {
        size_t call = i / OUTPUTS, o = i % OUTPUTS, count;
        bool output = call < CALLS;
        if (output && !(turns[call].wanted >> o & 1)) continue;
        float *x = output ? buffer_read(&a->y[call][o])
                          : read_state(&a->r, a->states[i - CALLS * OUTPUTS], &count);
        float *y = output ? buffer_read(&b->y[call][o])
                          : read_state(&b->r, b->states[i - CALLS * OUTPUTS], &count);
        if (output) count = a->y[call][o].count;
        double error = worst_error(x, y, count);
        cr_assert_leq(error, most, "sequence %d, %s %zu, output %zu: %g", (int)which,
                      output ? "call" : "state", output ? call : i - CALLS * OUTPUTS, o,
                      error);
        if (most == 0) SAME_BITS(x, y, count);
        free(x);
        free(y);
    }
}

/* With exact, a second session of another width and without graphs has the same bits. */
static void check_sequence(uint64_t which)
{
    uint64_t seed = which;
    const model_spec *spec = &specs[which % SPECS];
    static const carry_precision precisions[] = {CARRY_COMPUTE_FP32, CARRY_COMPUTE_BF16,
                                                 CARRY_COMPUTE_FP16};
    carry_precision precision = precisions[which / SPECS % 3];
    carry_graph_shape shapes[3];
    carry_session_options options = {.size = sizeof options,
                                     .threads = 1,
                                     .max_rows = 1 + below(&seed, MOST_ROWS),
                                     .max_steps = MOST_STEPS,
                                     .exact = below(&seed, 2),
                                     .graphs = shapes};
    if (spec != &specs[2]) options.graph_count = below(&seed, 4);
    for (size_t g = 0; g < options.graph_count; g++)
        shapes[g] =
            (carry_graph_shape){1 + below(&seed, options.max_rows), 1 + below(&seed, 4)};
    fake_reset(&gpu, which);
    carry_session_options plain = options;
    plain.max_rows = 1 + below(&seed, MOST_ROWS);
    plain.graph_count = 0;
    cudaStream_t stream = NULL;
    if (below(&seed, 2)) CUDA_OK(cudaStreamCreate(&stream));
    options.cuda_stream = stream;
    side sides[] = {open_side(spec, "cuda", precision, &options),
                    open_side(spec, "cpu", CARRY_COMPUTE_FP32, &plain),
                    open_side(spec, "cuda", precision, &plain)};
    turn turns[CALLS];
    for (size_t call = 0; call < CALLS; call++) {
        turns[call] = random_turn(&seed);
        void *x =
            random_input(&sides[0].r, turns[call].rows, turns[call].max_steps, seed);
        for (int i = 0; i < 3; i++)
            take_turn(&sides[i], &turns[call], call, x);
        free(x);
    }
    for (int i = 0; i < 3; i++)
        OK(carry_session_wait(sides[i].r.session));
    compare(&sides[0], &sides[1], turns, precision == CARRY_COMPUTE_FP32 ? 1e-5 : 2e-2,
            which);
    if (options.exact) compare(&sides[0], &sides[2], turns, 0, which);
    no_misuse();
    for (int i = 0; i < 3; i++)
        close_side(&sides[i]);
    if (stream) CUDA_OK(cudaStreamDestroy(stream));
    cr_assert_eq(fake_open_handles(), 0);
}

Test(cuda_sequences, answer_as_on_the_cpu)
{
    for (uint64_t which = 0; which < 45 / FEWER; which++)
        check_sequence(which);
}
