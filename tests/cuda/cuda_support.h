/* What the suites of the CUDA backend share: models on either device, buffers in any place, batches over them. All of
 * it runs on the fake runtime (tests/emu/fake_control.h). */
#ifndef TESTS_CUDA_CUDA_SUPPORT_H
#define TESTS_CUDA_CUDA_SUPPORT_H

#include "tests/api/support.h"
#include "tests/emu/fake_control.h"

#include <cuda_runtime_api.h>

/* Sanitized, the emulator is ten times slower: cases that only repeat others under more seeds are divided by this. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { FEWER = 4 };
#else
enum { FEWER = 1 };
#endif

/* A model of `spec` on a device, by the words of carry_model_options. */
carry_status try_model(carry_model **model, const model_spec *spec, const char *device,
                       carry_precision precision);
carry_model *model_on(const char *device, const model_spec *spec,
                      carry_precision precision);
rig rig_on(const char *device, const model_spec *spec,
           const carry_session_options *options);

/* The call succeeds: for CUDA's own functions. */
#define CUDA_OK(call)                                        \
    do {                                                     \
        cudaError_t cuda_ok_ = (call);                       \
        cr_assert_eq(cuda_ok_, cudaSuccess, "%s: %s", #call, \
                     cudaGetErrorName(cuda_ok_));            \
    } while (0)

/* The fake saw nothing that CUDA may let pass and we must not do. */
void no_misuse(void);

/* How often a function of CUDA or cuBLAS whose name begins so was called, after call number `first` up to now. */
size_t calls_of(const char *beginning, size_t first);

/* Numbers in one place. */
typedef struct buffer {
    void *data;
    size_t count;
    carry_dtype dtype;
    carry_place place;
} buffer;
size_t dtype_bytes_of(carry_dtype dtype);
buffer buffer_open(carry_place place, carry_dtype dtype, size_t count);
void buffer_close(buffer *b);
/* `values` are float32, or int32 if the buffer is of ids; halves are rounded to nearest even. */
void buffer_write(const buffer *b, const void *values);
float *buffer_read(const buffer *b); /* as float32; free it */
carry_array array_of(const buffer *b);

float from_bf16(uint16_t bits);
float from_f16(uint16_t bits);

/* A batch over any buffers; what is NULL or 0 is left out. */
typedef struct wide_call {
    size_t rows, max_steps;
    const carry_state *states;
    const uint32_t *steps;
    const uint8_t *reset;
    const uint64_t *row_offsets;
    const buffer *x;
    const buffer *y; /* [outputs]; data NULL: not wanted */
    size_t outputs;
    carry_mode mode;
    carry_status *row_status;
    uint32_t flags;
} wide_call;
carry_status run_wide(carry_session *session, const wide_call *call);

/* All state tensors of a state, one behind another; free it. */
float *read_state(const rig *r, carry_state state, size_t *count);

carry_session_info info_of(carry_session *session);
carry_plan_info plan_of(carry_session *session, size_t layer, size_t rows, size_t steps);

#endif
