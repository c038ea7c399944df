/* Every public function of carry.h from many threads at once, in legal use: a session for each thread, all on two models
 * of the same shapes, which take each other's place; sessions that go from thread to thread; models that come and go.
 * Then illegal use: two threads on one session, where every function either works or says that the session is in use. A
 * plain program, so that it runs under TSan. */
#define _POSIX_C_SOURCE 200809L /* access */
#include "device.h"
#include "model_builder.h"
#include "scratch_folder.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 12, HANDLES = 6, STEPS = 4, FEATURES = 3, UNITS = 5 };

static const model_spec spec = {
    .features = FEATURES,
    .layers = {LSTM_LAYER(7, SEQUENCES), LSTM_LAYER(UNITS, SEQUENCES)},
    .seed = 1};

static carry_model *models[2];
static void *model_bytes[2];
static size_t model_length[2];
static atomic_int failures;

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, carry_error());
    atomic_fetch_add(&failures, 1);
}

/* `call` gives CARRY_OK or, where two threads use one session, says which function was refused. */
#define TRY(s, call)                                                       \
    do {                                                                   \
        carry_status got_ = (call);                                        \
        if (got_ == CARRY_E_BUSY && (s)->shared) {                         \
            static const char name_[] = #call;                             \
            if (strncmp(carry_error(), name_, strcspn(name_, "(")) != 0 || \
                !strstr(carry_error(), "in use by another thread"))        \
                fail("the sentence of E_BUSY does not name " #call);       \
            atomic_fetch_add(&(s)->refused, 1);                            \
        } else if (got_ != CARRY_OK) fail(#call);                          \
        else atomic_fetch_add(&(s)->worked, 1);                            \
    } while (0)

typedef struct seat { /* a session and whoever sits there */
    carry_session *session;
    bool shared; /* by two threads at once */
    atomic_int worked, refused;
} seat;

static carry_session *open_session(uint32_t threads)
{
    carry_session *session = NULL;
    carry_session_options options = session_options(&(carry_session_options){
        .size = sizeof options, .threads = threads, .max_rows = 4});
    if (carry_session_open(&session, models[0], &options) != CARRY_OK)
        fail("carry_session_open");
    return session;
}

/* ---- functions that any thread may call ----------------------------------------------------- */

static void ask_the_library(void)
{
    carry_device_info device = {.size = sizeof device};
    if (carry_device_get_info(0, &device) != CARRY_OK) fail("carry_device_get_info");
    if (carry_device_get_info(1000, &device) != CARRY_E_ARGUMENT) fail("device 1000");
    if (!carry_backend_name(0) || carry_backend_name(1000)) fail("carry_backend_name");
    if (!*carry_version() || !*carry_cpu_isa()) fail("carry_version, carry_cpu_isa");
    if (!carry_status_text(CARRY_E_FULL) || !carry_status_name(CARRY_E_FULL))
        fail("carry_status_text");
}

static void ask_the_model(const carry_model *model)
{
    carry_model_info info = {.size = sizeof info};
    carry_layer_info layer = {.size = sizeof layer};
    carry_weight_info weight = {.size = sizeof weight};
    carry_port_info port = {.size = sizeof port};
    carry_state_info state = {.size = sizeof state};
    if (carry_model_get_info(model, &info) != CARRY_OK ||
        carry_model_get_layer(model, 1, &layer) != CARRY_OK ||
        carry_model_get_weight(model, 0, &weight) != CARRY_OK ||
        carry_model_get_input(model, 0, &port) != CARRY_OK ||
        carry_model_get_output(model, 0, &port) != CARRY_OK ||
        carry_model_get_state_tensor(model, 3, &state) != CARRY_OK)
        fail("a function on a model");
    if (state.width != UNITS || layer.units != UNITS) fail("what a model is");
}

static void *models_come_and_go(void *argument)
{
    char path[PATH_BYTES];
    folder_path(path, "model.carry");
    file_write(path, model_bytes[0], model_length[0]);
    (void)argument;
    for (int round = 0; round < ROUNDS; round++) {
        carry_model *own = NULL, *of_file = NULL;
        const carry_model_options *options = model_options();
        if (carry_model_open_bytes(&own, model_bytes[1], model_length[1], options) ||
            carry_model_open(&of_file, path, options)) {
            fail("opening a model");
            break;
        }
        ask_the_model(own);
        ask_the_model(models[0]);
        ask_the_library();
        /* a session that outlives the caller's hold on its model, and gives it up for another */
        carry_session *session = NULL;
        carry_session_options small = {.size = sizeof small, .threads = 1, .max_rows = 1};
        if (carry_session_open(&session, own, &small) != CARRY_OK) fail("a session");
        carry_model_close(&own);
        if (carry_session_set_model(session, of_file) != CARRY_OK) fail("another model");
        carry_model_close(&of_file);
        carry_session_close(&session);
    }
    return NULL;
}

/* ---- a session's ---------------------------------------------------------------------------- */

/* At last, however often it is refused. */
static void close_state(seat *s, carry_state *state)
{
    while (state->id && !atomic_load(&failures)) {
        carry_status status = carry_state_close(s->session, state);
        if (status == CARRY_E_STALE && !s->shared) break; /* swept */
        if (status != CARRY_OK && status != CARRY_E_BUSY) fail("carry_state_close");
    }
}

static int keep_first(void *user, carry_session *session, carry_state state)
{
    float h[7];
    (void)carry_state_read(session, state, 0, h,
                           7); /* the session is free now, or taken */
    return ++*(int *)user == 1;
}

static void advance(seat *s, const carry_state *states, size_t rows)
{
    static const float x[HANDLES * STEPS * FEATURES] = {0.5f, -1, 2, 0.25f};
    float y[HANDLES * STEPS * UNITS];
    const uint64_t offsets[HANDLES + 1] = {0, 1, 3, 3, 7, 9, 10};
    carry_array in = {.size = sizeof in, .data = (void *)x, .bytes = sizeof x};
    carry_array out = {.size = sizeof out, .data = y, .bytes = sizeof y};
    carry_batch batch = {.size = sizeof batch,
                         .rows = rows,
                         .states = states,
                         .max_steps = STEPS,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1};
    TRY(s, carry_run(s->session, &batch));
    batch.row_offsets = offsets;
    TRY(s, carry_run(s->session, &batch));
}

static void to_bytes_and_back(seat *s, const carry_state *states)
{
    static _Thread_local char bytes[16384];
    size_t length = 0;
    TRY(s, carry_states_save(s->session, states, 3, NULL, bytes, sizeof bytes, &length));
    if (length) TRY(s, carry_states_restore(s->session, states, 3, NULL, bytes, length));
    float h[7];
    TRY(s, carry_state_read(s->session, states[0], 0, h, 7));
    TRY(s, carry_state_write(s->session, states[1], 0, h, 7));
}

static void to_a_file_and_back(seat *s, const carry_state *states, unsigned number)
{
    char name[32], path[PATH_BYTES];
    int64_t keys[HANDLES] = {5, 4, 3, 2, 1, 0}, back[2 * HANDLES];
    carry_state loaded[2 * HANDLES] = {{0}};
    size_t count = 0;
    snprintf(name, sizeof name, "pool-%u", number);
    folder_path(path, name);
    TRY(s, carry_pool_save(s->session, path, states, keys, HANDLES));
    if (access(path, R_OK) == 0)
        TRY(s, carry_pool_load(s->session, path, loaded, back, 2 * HANDLES, &count));
    unlink(path);
    for (size_t i = 0; i < count; i++)
        close_state(s, &loaded[i]);
}

static void fork_and_reorder(seat *s, const carry_state *states)
{
    carry_state copies[3] = {{0}}, copy = {0}, parents[2] = {states[1], states[0]};
    TRY(s, carry_state_fork(s->session, states[0], copies, 3));
    TRY(s, carry_state_copy(s->session, states[1], &copy));
    TRY(s, carry_states_reorder(s->session, states, parents, 2));
    TRY(s, carry_state_reset(s->session, states[2]));
    for (int i = 0; i < 3; i++)
        close_state(s, &copies[i]);
    close_state(s, &copy);
}

static void ask_the_session(seat *s)
{
    carry_session_info info = {.size = sizeof info};
    carry_pool_info pool = {.size = sizeof pool};
    carry_plan_info plan = {.size = sizeof plan};
    carry_graph_shape shape = {2, 2};
    TRY(s, carry_session_get_info(s->session, &info));
    TRY(s, carry_session_get_pool(s->session, &pool));
    TRY(s, carry_session_get_plan(s->session, 0, 3, 2, &plan));
    TRY(s, carry_session_warm(s->session, &shape, 1));
    TRY(s, carry_session_wait(s->session));
}

static void sweep(seat *s)
{
    int shown = 0;
    carry_sweep_options options = {
        .size = sizeof options, .idle_calls = 4, .on_idle = keep_first, .user = &shown};
    TRY(s, carry_session_sweep(s->session, &options, NULL));
}

/* One round of everything with states of its own. */
static void use(seat *s, unsigned number)
{
    carry_state states[HANDLES] = {{0}};
    int open = 0;
    for (int i = 0; i < HANDLES; i++) {
        while (!states[i].id && !atomic_load(&failures))
            TRY(s, carry_state_open(s->session, &states[i]));
        open += states[i].id != 0;
    }
    if (open < HANDLES) return;
    advance(s, states, HANDLES);
    to_bytes_and_back(s, states);
    fork_and_reorder(s, states);
    TRY(s, carry_session_set_model(s->session, models[number % 2]));
    advance(s, states, 2);
    to_a_file_and_back(s, states, number);
    ask_the_session(s);
    if (!s->shared) sweep(s); /* would close the other's states */
    for (int i = 0; i < HANDLES; i++)
        close_state(s, &states[i]);
}

/* ---- sessions side by side, and from hand to hand -------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    seat seat;
} table = {.lock =
               PTHREAD_MUTEX_INITIALIZER}; /* one session that everyone takes in turn */

static void *work(void *argument)
{
    unsigned number = (unsigned)(size_t)argument;
    seat own = {.session = open_session(1 + number % 2)};
    for (int round = 0; round < ROUNDS && !atomic_load(&failures); round++) {
        use(&own, number + 10 * (unsigned)round);
        pthread_mutex_lock(&table.lock);
        use(&table.seat, number);
        pthread_mutex_unlock(&table.lock);
    }
    if (atomic_load(&own.refused)) fail("a session of one thread was in use");
    carry_session_close(&own.session);
    return NULL;
}

/* ---- illegal: two threads on one session ----------------------------------------------------- */

typedef struct rival {
    seat *seat;
    unsigned number;
} rival;

static void *quarrel(void *argument)
{
    rival *r = argument;
    for (int round = 0; round < 5 * ROUNDS && !atomic_load(&failures); round++)
        use(r->seat, r->number);
    return NULL;
}

static void two_on_one(void)
{
    seat shared = {.session = open_session(1), .shared = true};
    rival rivals[2] = {{&shared, 1000}, {&shared, 2001}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, quarrel, &rivals[i])) abort();
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("two threads on one session: %d calls worked, %d were refused\n",
           atomic_load(&shared.worked), atomic_load(&shared.refused));
    if (!atomic_load(&shared.worked)) fail("nothing worked");
    carry_session_info info = {.size = sizeof info};
    if (carry_session_get_info(shared.session, &info) != CARRY_OK || info.states != 0)
        fail("states are left over");
    carry_session_close(&shared.session);
}

int main(void)
{
    pthread_t threads[THREADS + 1];
    folder_open();
    for (int i = 0; i < 2; i++) {
        model_spec own = spec;
        own.seed += (uint64_t)i;
        models[i] = build_model(&own);
        model_bytes[i] = build_bytes(&own, &model_length[i]);
    }
    table.seat.session = open_session(1);
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i)) abort();
    if (pthread_create(&threads[THREADS], NULL, models_come_and_go, NULL)) abort();
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    carry_session_close(&table.seat.session);
    two_on_one();
    for (int i = 0; i < 2; i++) {
        carry_model_close(&models[i]);
        cy_free(model_bytes[i]);
    }
    folder_close();
    return atomic_load(&failures) != 0;
}
