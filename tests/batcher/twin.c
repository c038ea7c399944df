#include "twin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the batcher and its plain twin --------------------------------------------------------- */

static void read_outputs(twin *t)
{
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(t->plain.model, &info));
    cr_assert_leq(info.outputs, MOST_OUTPUTS);
    t->outputs = info.outputs;
    for (size_t o = 0; o < info.outputs; o++) {
        carry_port_info port = {.size = sizeof port};
        OK(carry_model_get_output(t->plain.model, o, &port));
        t->width[o] = (size_t)port.width;
        t->has_time[o] = port.has_time;
    }
}

twin twin_open(const model_spec *spec, const carry_batcher_options *options)
{
    twin t = {.plain = rig_open(
                  spec, &(carry_session_options){.size = sizeof(carry_session_options),
                                                 .threads = 1,
                                                 .max_rows = 1})};
    carry_batcher_options chosen = {.size = sizeof chosen};
    if (options) chosen = *options;
    carry_session_options session = session_options(chosen.session);
    if (session.threads == 0) session.threads = 1;
    chosen.session = &session;
    OK(carry_batcher_open(&t.batcher, t.plain.model, &chosen));
    read_outputs(&t);
    return t;
}

void twin_close(twin *t)
{
    carry_batcher_close(&t->batcher);
    cr_expect_null(t->batcher);
    rig_close(&t->plain);
}

sequence sequence_open(const twin *t)
{
    sequence s;
    OK(carry_batcher_state_open(t->batcher, &s.state));
    OK(carry_state_open(t->plain.session, &s.shadow));
    return s;
}

void sequences_open(const twin *t, sequence *s, int count)
{
    for (int i = 0; i < count; i++)
        s[i] = sequence_open(t);
}

void sequence_close(const twin *t, sequence *s)
{
    OK(carry_batcher_state_close(t->batcher, &s->state));
    OK(carry_state_close(t->plain.session, &s->shadow));
    cr_expect_eq(s->state.id, 0);
}

carry_batcher_info batcher_info(const twin *t)
{
    carry_batcher_info info = {.size = sizeof info};
    OK(carry_batcher_get_info(t->batcher, &info));
    return info;
}

/* ---- requests ------------------------------------------------------------------------------- */

static size_t numbers(const job *j, size_t o)
{
    bool every_step = j->t->has_time[o] && j->mode != CARRY_STEPS_LAST;
    return (every_step ? j->steps : 1) * j->t->width[o];
}

static bool is_wanted(const job *j, size_t o)
{
    return o < j->given && !(j->unwanted >> o & 1);
}

void job_make(job *j, const twin *t, sequence *of, uint32_t steps, uint64_t seed)
{
    memset(j, 0, sizeof *j);
    j->t = t;
    j->of = of;
    j->steps = steps;
    j->given = t->outputs;
    j->result.size = sizeof j->result;
    j->x = random_input(&t->plain, 1, steps, seed);
    for (size_t o = 0; o < t->outputs; o++) {
        size_t most = steps * t->width[o];
        j->y[o] = malloc(most * sizeof(float));
        for (size_t i = 0; i < most; i++)
            j->y[o][i] = NAN;
    }
}

void job_free(job *j)
{
    free(j->x);
    for (size_t o = 0; o < MOST_OUTPUTS; o++)
        free(j->y[o]);
}

void jobs_make(job *jobs, const twin *t, sequence *s, int count, uint32_t steps)
{
    for (int i = 0; i < count; i++)
        job_make(&jobs[i], t, &s[i], steps, 100 + (uint64_t)i);
}

void jobs_free(job *jobs, int count)
{
    for (int i = 0; i < count; i++)
        job_free(&jobs[i]);
}

static void answered(void *user, const carry_result *result)
{
    static atomic_int turns;
    job *j = user;
    carry_batcher_info info = {.size = sizeof info};
    carry_batcher_get_info(j->t->batcher, &info);
    atomic_store(&j->calls, info.calls);
    atomic_store(&j->turn, atomic_fetch_add(&turns, 1) + 1);
    /* not the caller's own: it must be filled before anyone is told */
    if (result != &j->result || result->size == sizeof *result)
        atomic_fetch_add(&j->answers, 1);
    if (j->again) j->again(j);
}

carry_request job_request(job *j, carry_array *outputs)
{
    const rig *plain = &j->t->plain;
    for (size_t o = 0; o < j->given; o++) {
        outputs[o] = (carry_array){.size = sizeof *outputs};
        if (!is_wanted(j, o)) continue;
        outputs[o].data = j->y[o];
        outputs[o].bytes = numbers(j, o) * sizeof(float);
    }
    return (carry_request){.size = sizeof(carry_request),
                           .state = j->of->state,
                           .steps = j->steps,
                           .reset = j->reset,
                           .input = {.size = sizeof(carry_array),
                                     .data = j->x,
                                     .dtype = plain->ids ? CARRY_I32 : CARRY_F32,
                                     .bytes = j->steps * plain->in * sizeof(float)},
                           .outputs = outputs,
                           .output_count = j->given,
                           .mode = j->mode,
                           .result = &j->result,
                           .on_done = answered,
                           .user = j};
}

carry_status job_submit(job *j, uint32_t flags)
{
    carry_array outputs[MOST_OUTPUTS];
    carry_request request = job_request(j, outputs);
    return carry_batcher_submit(j->t->batcher, &request, flags, &j->ticket);
}

void job_send(job *j)
{
    OK(job_submit(j, 0));
}

/* The same steps in the plain session; y: [MOST_OUTPUTS]. */
static void run_plain(const job *j, uint32_t steps, float *const *y)
{
    const rig *plain = &j->t->plain;
    uint8_t reset = j->reset != 0;
    carry_array in = {.size = sizeof in,
                      .data = j->x,
                      .dtype = plain->ids ? CARRY_I32 : CARRY_F32,
                      .bytes = steps * plain->in * sizeof(float)};
    carry_array out[MOST_OUTPUTS];
    for (size_t o = 0; o < j->t->outputs; o++)
        out[o] = (carry_array){.size = sizeof *out,
                               .data = y ? y[o] : NULL,
                               .bytes = numbers(j, o) * sizeof(float)};
    OK(carry_run(plain->session, &(carry_batch){.size = sizeof(carry_batch),
                                                .rows = 1,
                                                .states = &j->of->shadow,
                                                .max_steps = steps,
                                                .reset = &reset,
                                                .inputs = &in,
                                                .input_count = 1,
                                                .outputs = out,
                                                .output_count = j->t->outputs,
                                                .mode = y ? j->mode : 0}));
}

static void check_told(job *j)
{
    OK(carry_batcher_wait(j->t->batcher, j->ticket));
    cr_assert_eq(atomic_load(&j->answers), 1, "told %d times", atomic_load(&j->answers));
}

void job_check(job *j)
{
    float *expected[MOST_OUTPUTS] = {0};
    check_told(j);
    cr_assert_eq(j->result.status, CARRY_OK, "%s: %s",
                 carry_status_name(j->result.status), j->result.sentence);
    cr_assert_eq(j->result.steps, j->steps, "%u of %u steps", j->result.steps, j->steps);
    cr_assert_str_eq(j->result.sentence, "");
    for (size_t o = 0; o < j->t->outputs; o++)
        if (is_wanted(j, o))
            expected[o] = malloc(j->steps * j->t->width[o] * sizeof(float));
    run_plain(j, j->steps, expected);
    for (size_t o = 0; o < j->t->outputs; o++) {
        if (is_wanted(j, o)) SAME_BITS(j->y[o], expected[o], numbers(j, o));
        else cr_assert(isnan(j->y[o][0]), "output %zu was not wanted", o);
        free(expected[o]);
    }
}

void job_check_failed(job *j, carry_status status, const char *words)
{
    check_told(j);
    cr_assert_eq(j->result.status, status, "got %s (%s), expected %s",
                 carry_status_name(j->result.status), j->result.sentence,
                 carry_status_name(status));
    cr_assert(strstr(j->result.sentence, words), "sentence is '%s', expected '%s' in it",
              j->result.sentence, words);
    cr_assert_leq(j->result.steps, j->steps);
    if (j->result.steps > 0) run_plain(j, j->result.steps, NULL);
}

/* ---- the gate ------------------------------------------------------------------------------- */

static carry_status stand_in(void *user, carry_session *session)
{
    gate *g = user;
    (void)session;
    pthread_mutex_lock(&g->lock);
    g->inside = 1;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return CARRY_OK;
}

static void *hold(void *argument)
{
    gate *g = argument;
    carry_batcher_visit(g->batcher, g->worker, stand_in, g);
    return NULL;
}

void gate_shut(gate *g, carry_batcher *batcher, size_t worker)
{
    *g = (gate){.batcher = batcher, .worker = worker};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    cr_assert_eq(pthread_create(&g->thread, NULL, hold, g), 0);
    pthread_mutex_lock(&g->lock);
    while (!g->inside)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

void gate_open(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = 1;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
}
