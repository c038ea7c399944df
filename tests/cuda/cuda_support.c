#include "cuda_support.h"

#include "base/mem.h"
#include "cuda/cuda_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

carry_status try_model(carry_model **model, const model_spec *spec, const char *device,
                       carry_precision precision)
{
    size_t bytes;
    void *data = build_bytes(spec, &bytes);
    carry_model_options options = {
        .size = sizeof options, .device = device, .precision = precision};
    carry_status status = carry_model_open_bytes(model, data, bytes, &options);
    cy_free(data);
    return status;
}

carry_model *model_on(const char *device, const model_spec *spec,
                      carry_precision precision)
{
    carry_model *model = NULL;
    OK(try_model(&model, spec, device, precision));
    return model;
}

rig rig_on(const char *device, const model_spec *spec,
           const carry_session_options *options)
{
    return rig_of(model_on(device, spec, CARRY_COMPUTE_FP32), options);
}

void no_misuse(void)
{
    cr_assert_eq(fake_seen_now().misuses, 0, "%s", fake_last_misuse());
    cr_assert_str_empty(fake_kernel_error());
}

size_t calls_of(const char *beginning, size_t first)
{
    size_t count = 0, last = fake_seen_now().calls;
    cr_assert_leq(last, 65536, "the fake keeps no more names");
    for (size_t n = first + 1; n <= last; n++)
        count += strncmp(fake_call_name(n), beginning, strlen(beginning)) == 0;
    return count;
}

/* ---- buffers -------------------------------------------------------------------------------- */

size_t dtype_bytes_of(carry_dtype dtype)
{
    return dtype == CARRY_F16 || dtype == CARRY_BF16 ? 2 : 4;
}

buffer buffer_open(carry_place place, carry_dtype dtype, size_t count)
{
    buffer b = {.count = count, .dtype = dtype, .place = place};
    size_t bytes = count * dtype_bytes_of(dtype);
    if (place == CARRY_HOST) {
        b.data = malloc(bytes);
        memset(b.data, 0xff, bytes);
    } else if (place == CARRY_PINNED) {
        CUDA_OK(cudaHostAlloc(&b.data, bytes, cudaHostAllocDefault));
    } else {
        CUDA_OK(cudaMalloc(&b.data, bytes));
    }
    return b;
}

void buffer_close(buffer *b)
{
    if (b->place == CARRY_HOST) free(b->data);
    else if (b->place == CARRY_PINNED) CUDA_OK(cudaFreeHost(b->data));
    else CUDA_OK(cudaFree(b->data));
    b->data = NULL;
}

void buffer_write(const buffer *b, const void *values)
{
    size_t bytes = b->count * dtype_bytes_of(b->dtype);
    uint16_t *halves = malloc(b->count * sizeof *halves);
    for (size_t i = 0; i < b->count && dtype_bytes_of(b->dtype) == 2; i++) {
        float value = ((const float *)values)[i];
        halves[i] =
            b->dtype == CARRY_F16 ? cy_cuda_to_f16(value) : cy_cuda_to_bf16(value);
    }
    const void *from = dtype_bytes_of(b->dtype) == 2 ? halves : values;
    if (b->place == CARRY_DEVICE) {
        CUDA_OK(cudaMemcpy(b->data, from, bytes, cudaMemcpyHostToDevice));
        CUDA_OK(cudaDeviceSynchronize()); /* sessions' streams do not wait for this one */
    } else {
        memcpy(b->data, from, bytes);
    }
    free(halves);
}

float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float from_f16(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                  : exponent == 0 ? ldexpf((float)fraction, -24)
                                  : ldexpf((float)(fraction + 1024), exponent - 25);
    return half & 0x8000 ? -value : value;
}

float *buffer_read(const buffer *b)
{
    size_t bytes = b->count * dtype_bytes_of(b->dtype);
    void *raw = malloc(bytes);
    float *values = malloc(b->count * sizeof *values);
    if (b->place == CARRY_DEVICE)
        CUDA_OK(cudaMemcpy(raw, b->data, bytes, cudaMemcpyDeviceToHost));
    else memcpy(raw, b->data, bytes);
    for (size_t i = 0; i < b->count; i++)
        values[i] = b->dtype == CARRY_F16    ? from_f16(((const uint16_t *)raw)[i])
                    : b->dtype == CARRY_BF16 ? from_bf16(((const uint16_t *)raw)[i])
                                             : ((const float *)raw)[i];
    free(raw);
    return values;
}

carry_array array_of(const buffer *b)
{
    return (carry_array){.size = sizeof(carry_array),
                         .data = b->data,
                         .dtype = b->dtype,
                         .bytes = b->count * dtype_bytes_of(b->dtype),
                         .place = b->place};
}

/* ---- calls ---------------------------------------------------------------------------------- */

carry_status run_wide(carry_session *session, const wide_call *call)
{
    carry_array in = array_of(call->x), out[8];
    cr_assert_leq(call->outputs, 8);
    for (size_t o = 0; o < call->outputs; o++)
        out[o] = array_of(&call->y[o]);
    carry_batch batch = {.size = sizeof batch,
                         .rows = call->rows,
                         .states = call->states,
                         .max_steps = call->max_steps,
                         .steps = call->steps,
                         .reset = call->reset,
                         .row_offsets = call->row_offsets,
                         .inputs = &in,
                         .input_count = 1,
                         .outputs = out,
                         .output_count = call->outputs,
                         .mode = call->mode,
                         .row_status = call->row_status,
                         .flags = call->flags};
    return carry_run(session, &batch);
}

float *read_state(const rig *r, carry_state state, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < r->state_tensors; i++)
        *count += r->state[i];
    float *values = malloc(*count * sizeof *values), *at = values;
    for (size_t i = 0; i < r->state_tensors; at += r->state[i++])
        OK(carry_state_read(r->session, state, i, at, r->state[i]));
    return values;
}

carry_session_info info_of(carry_session *session)
{
    carry_session_info info = {.size = sizeof info};
    OK(carry_session_get_info(session, &info));
    return info;
}

carry_plan_info plan_of(carry_session *session, size_t layer, size_t rows, size_t steps)
{
    carry_plan_info plan = {.size = sizeof plan};
    OK(carry_session_get_plan(session, layer, rows, steps, &plan));
    return plan;
}
