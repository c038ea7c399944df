#include "world.h"

#include "device.h"
#include "model_builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fail(const world *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "seed %llu, operation %llu: ", (unsigned long long)w->first_seed,
            w->operation);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

uint64_t pick(world *w, uint64_t below)
{
    return random_u64(&w->seed) % below;
}

float number(world *w)
{
    return random_float(&w->seed);
}

static void learn_model(world *w)
{
    const carry_model *model = w->common->models[0];
    carry_model_info info = {.size = sizeof info};
    carry_port_info in = {.size = sizeof in}, out = {.size = sizeof out};
    MUST(w, carry_model_get_info(model, &info));
    MUST(w, carry_model_get_input(model, 0, &in));
    MUST(w, carry_model_get_output(model, 0, &out));
    w->in = (size_t)in.width;
    w->ids = in.dtype == CARRY_I32 ? (size_t)in.ids : 0;
    w->out = (size_t)out.width;
    w->tensors = info.state_tensors;
    for (size_t k = 0; k < w->tensors; k++) {
        carry_state_info tensor = {.size = sizeof tensor};
        MUST(w, carry_model_get_state_tensor(model, k, &tensor));
        w->offset[k] = w->state_floats;
        w->width[k] = (size_t)tensor.width;
        w->state_floats += w->width[k];
    }
}

world *world_open(shared *common, const char *device, uint32_t max_states, uint64_t seed)
{
    world *w = calloc(1, sizeof *w);
    if (!w) abort();
    bool cuda = device && strncmp(device, "cuda", 4) == 0;
    *w = (world){
        .common = common, .max_states = max_states, .seed = seed, .first_seed = seed};
    learn_model(w);
    w->open = calloc(max_states, sizeof *w->open);
    snprintf(w->path, sizeof w->path, "%s/carry-history-%d-%llu",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid(),
             (unsigned long long)seed);
    carry_session_options options = {.size = sizeof options,
                                     .threads = 1 + (uint32_t)(seed % 2),
                                     .max_rows = 7 + (uint32_t)(seed % 11),
                                     .max_states = max_states,
                                     .exact = cuda};
    carry_session_options alone = {
        .size = sizeof alone, .threads = 1, .max_rows = 1, .exact = cuda};
    MUST(w, carry_session_open(&w->session, common->models[0], &options));
    MUST(w, carry_session_open(&w->plain, common->models[0], &alone));
    MUST(w, carry_state_open(w->plain, &w->plain_state));
    return w;
}

void world_close(world *w)
{
    carry_session_close(&w->session);
    carry_session_close(&w->plain);
    while (w->count > 0)
        free(w->open[--w->count].values);
    free(w->open);
    remove(w->path);
    free(w);
}

sequence *world_add(world *w, carry_state state, const float *values)
{
    if (w->count == w->max_states) fail(w, "more states than max_states were opened");
    for (size_t i = 0; i < w->stale_count && i < STALE; i++)
        if (w->stale[i].id == state.id) fail(w, "a stale handle was given out again");
    sequence *s = &w->open[w->count++];
    s->state = state;
    s->values = calloc(w->state_floats, sizeof(float));
    if (values) memcpy(s->values, values, w->state_floats * sizeof(float));
    s->used_run = w->runs;
    s->number = ++w->opened;
    if (w->count > w->most) w->most = w->count;
    return s;
}

void world_remove(world *w, sequence *s)
{
    w->stale[w->stale_count++ % STALE] = s->state;
    free(s->values);
    *s = w->open[--w->count];
    w->closed++;
}

void world_use(world *w, sequence *s)
{
    s->used_run = w->runs;
}

void world_begin(world *w, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        carry_state state;
        MUST(w, carry_state_open(w->session, &state));
        sequence *s = world_add(w, state, NULL);
        for (size_t k = 0; k < w->state_floats; k++)
            s->values[k] = number(w);
        for (size_t k = 0; k < w->tensors; k++)
            MUST(w, carry_state_write(w->session, state, k, s->values + w->offset[k],
                                      w->width[k]));
    }
}

void plain_run(world *w, float *values, const void *x, size_t steps, float *y)
{
    if (values)
        for (size_t k = 0; k < w->tensors; k++)
            MUST(w, carry_state_write(w->plain, w->plain_state, k, values + w->offset[k],
                                      w->width[k]));
    else MUST(w, carry_state_reset(w->plain, w->plain_state));
    for (size_t t = 0; t < steps; t++) {
        size_t bytes = (w->ids ? 1 : w->in) * sizeof(float);
        carry_array in = {.size = sizeof in,
                          .data = (char *)x + t * bytes,
                          .dtype = w->ids ? CARRY_I32 : CARRY_F32,
                          .bytes = bytes};
        carry_array out = {
            .size = sizeof out, .data = y + t * w->out, .bytes = w->out * sizeof(float)};
        carry_batch batch = {.size = sizeof batch,
                             .rows = 1,
                             .states = &w->plain_state,
                             .max_steps = 1,
                             .inputs = &in,
                             .input_count = 1,
                             .outputs = &out,
                             .output_count = 1};
        MUST(w, carry_run(w->plain, &batch));
    }
    for (size_t k = 0; values && k < w->tensors; k++)
        MUST(w, carry_state_read(w->plain, w->plain_state, k, values + w->offset[k],
                                 w->width[k]));
}

void world_compare(world *w, carry_session *session, carry_state state,
                   const float *values)
{
    float held[512];
    for (size_t k = 0; k < w->tensors; k++) {
        MUST(w, carry_state_read(session, state, k, held, w->width[k]));
        if (memcmp(held, values + w->offset[k], w->width[k] * sizeof(float)) != 0)
            fail(w, "state %016llx: tensor %zu is not what the plain run gives",
                 (unsigned long long)state.id, k);
    }
}

void world_check(world *w, const sequence *s)
{
    world_compare(w, w->session, s->state, s->values);
}

void world_check_pool(world *w)
{
    carry_pool_info info = {.size = sizeof info};
    MUST(w, carry_session_get_pool(w->session, &info));
    if (info.open != w->count || info.opened != w->opened || info.closed != w->closed ||
        info.swept != w->swept || info.rejected != w->rejected)
        fail(
            w,
            "statistics: open %llu, opened %llu, closed %llu, swept %llu, rejected %llu; "
            "expected %zu, %llu, %llu, %llu, %llu",
            (unsigned long long)info.open, (unsigned long long)info.opened,
            (unsigned long long)info.closed, (unsigned long long)info.swept,
            (unsigned long long)info.rejected, w->count, (unsigned long long)w->opened,
            (unsigned long long)w->closed, (unsigned long long)w->swept,
            (unsigned long long)w->rejected);
    if (info.open + info.free > info.max_states || info.max_states != w->max_states)
        fail(w, "statistics: %llu open and %llu free of %llu",
             (unsigned long long)info.open, (unsigned long long)info.free,
             (unsigned long long)info.max_states);
}

void world_check_all(world *w)
{
    for (size_t i = 0; i < w->count; i++)
        world_check(w, &w->open[i]);
    world_check_pool(w);
}
