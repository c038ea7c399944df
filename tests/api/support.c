#include "support.h"

#include <carry/carry_import.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rig rig_of(carry_model *model, const carry_session_options *options)
{
    rig r = {.model = model};
    carry_port_info port = {.size = sizeof port};
    OK(carry_model_get_input(model, 0, &port));
    r.in = (size_t)port.width;
    r.ids = (size_t)port.ids;
    OK(carry_model_get_output(model, 0, &port));
    r.out = (size_t)port.width;
    r.out_time = port.has_time;
    carry_model_info info = {.size = sizeof info};
    OK(carry_model_get_info(model, &info));
    r.state_tensors = info.state_tensors;
    cr_assert_leq(r.state_tensors, 32);
    for (size_t i = 0; i < r.state_tensors; i++) {
        carry_state_info state = {.size = sizeof state};
        OK(carry_model_get_state_tensor(model, i, &state));
        r.state[i] = (size_t)state.width;
    }
    OK(carry_session_open(&r.session, model, options));
    return r;
}

rig rig_open(const model_spec *spec, const carry_session_options *options)
{
    return rig_of(build_model(spec), options);
}

void rig_close(rig *r)
{
    carry_session_close(&r->session);
    carry_model_close(&r->model);
}

carry_model *open_foreign(const char *path)
{
    void *data = NULL;
    size_t bytes = 0;
    char sentence[512] = "";
    carry_status status =
        carry_import_file(path, &data, &bytes, sentence, sizeof sentence);
    cr_assert_eq(status, CARRY_OK, "%s: %s", path, sentence);
    carry_model *model = NULL;
    OK(carry_model_open_bytes(&model, data, bytes, NULL));
    carry_import_free(data);
    return model;
}

void *random_input(const rig *r, size_t rows, size_t steps, uint64_t seed)
{
    size_t count = rows * steps * r->in;
    float *x = calloc(count + 1, sizeof *x);
    int32_t *ids = (int32_t *)x;
    for (size_t i = 0; i < count; i++) {
        if (r->ids) ids[i] = (int32_t)(random_u64(&seed) % r->ids);
        else x[i] = 1.5f * random_float(&seed);
    }
    return x;
}

size_t output_count(const rig *r, size_t rows, size_t steps, carry_mode mode)
{
    return rows * (r->out_time && mode != CARRY_STEPS_LAST ? steps : 1) * r->out;
}

carry_status run_call(const rig *r, const call_spec *call)
{
    carry_array in = {.size = sizeof in,
                      .data = (void *)call->x,
                      .dtype = r->ids ? CARRY_I32 : CARRY_F32,
                      .bytes = call->rows * call->max_steps * r->in * sizeof(float)};
    size_t count = output_count(r, call->rows, call->max_steps, call->mode);
    carry_array out = {
        .size = sizeof out, .data = call->y, .bytes = count * sizeof(float)};
    carry_batch batch = {.size = sizeof batch,
                         .rows = call->rows,
                         .states = call->states,
                         .max_steps = call->max_steps,
                         .steps = call->steps,
                         .reset = call->reset,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = &out,
                         .output_count = 1,
                         .mode = call->mode,
                         .row_status = call->row_status};
    return carry_run(r->session, &batch);
}

void open_states(const rig *r, carry_state *states, size_t count)
{
    for (size_t i = 0; i < count; i++)
        OK(carry_state_open(r->session, &states[i]));
}

void *save(const rig *r, const carry_state *states, size_t count, size_t *bytes)
{
    OK(carry_states_save(r->session, states, count, NULL, NULL, 0, bytes));
    void *data = malloc(*bytes);
    OK(carry_states_save(r->session, states, count, NULL, data, *bytes, bytes));
    return data;
}

size_t first_difference(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) return i;
    return count;
}

double worst_error(const float *a, const float *b, size_t count)
{
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        if (a[i] == b[i]) continue; /* infinities */
        double error = fabs((double)a[i] - b[i]) / fmax(1.0, fabs((double)b[i]));
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
    }
    return worst;
}

static size_t read_shape(const char *header, size_t *shape)
{
    const char *at = strstr(header, "'shape': (");
    cr_assert(at != NULL, "%s", header);
    at += strlen("'shape': (");
    size_t rank = 0;
    while (rank < 4 && *at >= '0' && *at <= '9') {
        char *end;
        shape[rank++] = strtoull(at, &end, 10);
        at = end;
        while (*at == ',' || *at == ' ')
            at++;
    }
    return rank;
}

npy npy_read(const char *path)
{
    npy array = {.count = 1};
    FILE *file = fopen(path, "rb");
    cr_assert(file != NULL, "%s", path);
    unsigned char head[10];
    cr_assert_eq(fread(head, 1, 10, file), 10, "%s", path);
    cr_assert_eq(memcmp(head, "\x93NUMPY\x01\x00", 8), 0, "%s", path);
    size_t bytes = head[8] | (size_t)head[9] << 8;
    char *header = calloc(1, bytes + 1);
    cr_assert_eq(fread(header, 1, bytes, file), bytes, "%s", path);
    cr_assert(strstr(header, "'fortran_order': False") != NULL, "%s", path);
    array.is_int = strstr(header, "'<i4'") != NULL;
    cr_assert(array.is_int || strstr(header, "'<f4'") != NULL, "%s: %s", path, header);
    array.rank = read_shape(header, array.shape);
    for (size_t i = 0; i < array.rank; i++)
        array.count *= array.shape[i];
    free(header);
    array.data = malloc(array.count * 4 + 4);
    cr_assert_eq(fread(array.data, 4, array.count, file), array.count, "%s", path);
    fclose(file);
    return array;
}
