/* carry: trained recurrent networks with a memory that lives on between calls.
 *
 *   model    the weights of one network, packed once for one device; immutable, shared
 *   session  a pool of states, a workspace, threads; used by one thread at a time
 *   state    h and c of every recurrent layer for ONE sequence
 *   batch    an argument of the call: which sequences, how many steps, which buffers
 *
 * The shortest useful program:
 *
 *     carry_model *model = NULL;
 *     carry_session *session = NULL;
 *     carry_state state;
 *     carry_model_open(&model, "model.carry", NULL);
 *     carry_session_open(&session, model, NULL);
 *     carry_state_open(session, &state);
 *     float x[3] = {1, 2, 3}, y[1];
 *     carry_array in = {.size = sizeof in, .data = x, .bytes = sizeof x};
 *     carry_array out = {.size = sizeof out, .data = y, .bytes = sizeof y};
 *     carry_batch batch = {.size = sizeof batch, .rows = 1, .states = &state, .max_steps = 1,
 *                          .inputs = &in, .input_count = 1, .outputs = &out, .output_count = 1};
 *     carry_run(session, &batch);              // state now remembers x
 *
 * Words. B rows: sequences advanced by one call. T time steps given in one call. I features: width
 * of one input step. H units: width of h and of c. Arrays are row-major, batch axis first.
 *
 * Errors. Everything that can fail returns a carry_status; CARRY_OK is 0. On failure carry_error()
 * gives one sentence with the names and numbers in it. Unless a function says otherwise, a failed
 * call has changed nothing, and an object that could not be opened is NULL (or the zero state).
 *
 * Structs. Every struct starts with `size`: write sizeof the struct there, so that a program built
 * against an older header keeps working with a newer library. 0 in any other field means its default.
 *
 * Threads. Functions on a model may be called from any number of threads. A session, its states
 * included, belongs to one thread at a time; two calls at once on one session give CARRY_E_BUSY.
 * Nothing here prints, exits, or installs a signal handler.
 */
#ifndef CARRY_CARRY_H
#define CARRY_CARRY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CARRY_VERSION_MAJOR 0
#define CARRY_VERSION_MINOR 1
#define CARRY_VERSION_PATCH 0

#if defined(__GNUC__)
#define CARRY_API __attribute__((visibility("default")))
#else
#define CARRY_API
#endif

/* ---- errors --------------------------------------------------------------------------------- */

/* X(name, value, text): the one list that codes, names and texts are made from. It only grows. */
#define CARRY_STATUS_LIST(X)                                               \
    X(OK, 0, "ok")                                                         \
    X(E_ARGUMENT, 1, "an argument is missing or out of its range")         \
    X(E_MEMORY, 2, "out of memory")                                        \
    X(E_FILE, 3, "a file could not be opened, read or written")            \
    X(E_FORMAT, 4, "the data is not a valid file of this format")          \
    X(E_UNSUPPORTED, 5, "the model needs something that is not supported") \
    X(E_MISMATCH, 6, "the saved state does not fit the model")             \
    X(E_STALE, 7, "the state was closed before")                           \
    X(E_DUPLICATE, 8, "the state is given twice in one batch")             \
    X(E_FOREIGN, 9, "the state belongs to another session")                \
    X(E_FULL, 10, "no room for one more")                                  \
    X(E_BUSY, 11, "in use: another call is not over")                      \
    X(E_CAPACITY, 12, "a buffer is too small")                             \
    X(E_DEVICE, 13, "the device is missing or failed")                     \
    X(E_INPUT, 14, "an input value is out of its range")                   \
    X(E_CANCELLED, 15, "the request was cancelled before it was done")

typedef enum carry_status {
#define CARRY_STATUS_ENUM(name, value, text) CARRY_##name = value,
    CARRY_STATUS_LIST(CARRY_STATUS_ENUM)
#undef CARRY_STATUS_ENUM
} carry_status;

/* The sentence of this thread's last failure in this library, "" before the first. Valid until the
 * thread's next failing call; a call that succeeds leaves it as it is. Never NULL. */
CARRY_API const char *carry_error(void);

/* The general text of a code ("the state was closed before"), and its name ("E_STALE"). Static
 * strings; an unknown code gives "unknown status". */
CARRY_API const char *carry_status_text(carry_status status);
CARRY_API const char *carry_status_name(carry_status status);

/* "0.1.0" */
CARRY_API const char *carry_version(void);

/* The backends this library was built with, by index from 0 ("cpu", "cuda"); NULL past the end. */
CARRY_API const char *carry_backend_name(size_t index);

/* The instruction set of the CPU kernels in use: "reference", "avx2" or "avx512". Chosen once, from
 * what the processor offers; the environment variable CARRY_ISA (one of the three words; any other is passed over)
 * caps it. */
CARRY_API const char *carry_cpu_isa(void);

/* One device of this machine. */
typedef struct carry_device_info {
    size_t size;
    const char *name; /* what carry_model_options.device takes: "cpu", "cuda:0" */
    const char *
        description; /* "NVIDIA H200, compute capability 9.0"; the CPU's instruction set */
    uint64_t memory_bytes, free_bytes; /* of its own; 0 for the CPU */
    int usable;                        /* 0: carry cannot run on it */
    const char *trouble; /* why it is not usable, one sentence; NULL if it is */
} carry_device_info;

/* The devices here, by index from 0: the CPU, then every CUDA device the driver shows. A CUDA backend that
 * finds no device at all counts as one, "cuda", not usable, with the reason as its trouble. Strings live
 * until this thread's next call. Errors: E_ARGUMENT (index past the last, *info is then untouched). */
CARRY_API carry_status carry_device_get_info(size_t index, carry_device_info *info);

/* ---- model ---------------------------------------------------------------------------------- */

typedef struct carry_model carry_model;

/* What products are computed in. Sums, gates, c and saved states are float32 always. */
typedef enum carry_precision {
    CARRY_COMPUTE_FP32 = 0, /* true float32: no TF32 */
    CARRY_COMPUTE_TF32 =
        1, /* CUDA, compute capability 8.0 and later: large products on tensor cores, operands of 10
                       bits of fraction; small ones stay float32 */
    CARRY_COMPUTE_BF16 =
        2, /* CUDA, 8.0 and later: weights, x and h of products as bfloat16 */
    CARRY_COMPUTE_FP16 = 3 /* CUDA: as float16 */
} carry_precision;

typedef struct carry_model_options {
    size_t size;
    const char *
        device; /* "auto" (NULL: the same): "cuda:0" where it can be used, else "cpu"; "cpu"; "cuda"
                           ("cuda:0"), "cuda:1" ... An emulated CUDA device is taken by name only. */
    carry_precision precision;
} carry_model_options;

/* Opens carry's own file (a safetensors file that `carry convert` or libcarry_import made) and packs
 * its weights for a device. Blocks while reading and packing.
 *   *model   receives the model; NULL on failure. The caller owns it: carry_model_close.
 *   path     a readable regular file; it is not needed any more when the call returns
 *   data     `bytes` bytes of such a file; not kept
 *   options  NULL for defaults
 * Errors: E_ARGUMENT; E_FILE; E_FORMAT (not such a file, or damaged: the sentence names the tensor
 * or key); E_UNSUPPORTED (written by a newer carry, or another framework's file: the sentence says
 * to convert it; or the device cannot do the precision); E_DEVICE (no such device here, or it cannot
 * be used: the sentence says why); E_MEMORY (on a device: with the bytes wanted and free). */
CARRY_API carry_status carry_model_open(carry_model **model, const char *path,
                                        const carry_model_options *options);
CARRY_API carry_status carry_model_open_bytes(carry_model **model, const void *data,
                                              size_t bytes,
                                              const carry_model_options *options);

/* Gives the caller's hold back and sets *model to NULL. Sessions opened from the model keep it
 * alive until the last of them closes. NULL or *model == NULL is fine. */
CARRY_API void carry_model_close(carry_model **model);

/* What a model is. The info functions below fill *info up to its `size`, are safe from any thread,
 * and fail only with E_ARGUMENT (NULL, size not set, index out of range). Strings belong to the
 * model and live as long as the caller's hold on it. */

#define CARRY_FREE     (-1) /* in a shape: the axis may have any length */
#define CARRY_MAX_RANK 4

typedef struct carry_shape {
    int32_t rank;
    int64_t dim[CARRY_MAX_RANK]; /* CARRY_FREE where any length is accepted */
} carry_shape;

typedef enum carry_dtype {
    CARRY_F32 = 0,
    CARRY_I32 = 1,
    CARRY_F16 = 2, /* in device memory only */
    CARRY_BF16 = 3 /* likewise */
} carry_dtype;

typedef struct carry_model_info {
    size_t size;
    const char *source; /* the format it was converted from: "keras", "keras-h5" */
    const char *name;
    const char *device; /* where its weights lie: "cpu", "cuda:0" */
    const char *
        fingerprint; /* 16 hex digits over layers, state tensors and widths, not weights */
    int whole_sequence; /* 1: some layer needs the last step before it can give the first */
    int stateful;       /* 1: some layer of the file was declared stateful */
    size_t layers, weights, inputs, outputs, state_tensors;
    uint64_t parameters;   /* numbers learned, over all layers */
    uint64_t weight_bytes; /* parameters as float32 */
    uint64_t state_bytes;  /* of one sequence, h and c counted once */
    carry_precision precision;
    const char *
        device_note; /* "auto" took the CPU: why no other device, one sentence; else NULL */
    uint64_t
        device_bytes; /* taken by the packed weights, on the device or in host memory */
} carry_model_info;

typedef struct carry_layer_info {
    size_t size;
    const char *name;       /* as in the source file */
    const char *class_name; /* as the source spells it: "LSTM", "TimeDistributed" */
    const char *activation; /* "tanh", "softmax"; "linear" where the layer has none */
    const char *recurrent_activation; /* NULL where the layer has none */
    int64_t input_width; /* width of one step of its input; Embedding: number of ids */
    int64_t
        units; /* width of its main output made by weights; -1 for Dropout, Activation */
    uint64_t parameters;
    size_t first_weight,
        weights;         /* its weights are first_weight .. first_weight+weights-1 */
    size_t output_count; /* 1, or 3 for an LSTM with return_state */
    carry_shape output_shapes[3]; /* [batch, time, width] or [batch, width] */
    int recurrent, stateful, go_backwards, return_sequences;
} carry_layer_info;

typedef struct carry_weight_info {
    size_t size;
    size_t layer;     /* index of its layer */
    const char *name; /* "kernel", "recurrent_kernel", "bias", "embeddings" */
    carry_shape
        shape; /* LSTM: kernel [I, 4H], recurrent_kernel [H, 4H], bias [4H]; blocks i f c o */
} carry_weight_info;

typedef struct carry_port_info { /* one input or one output of the model */
    size_t size;
    const char *
        name; /* input: its name in the file; output: the name of the layer it comes from */
    carry_dtype dtype; /* CARRY_I32: ids */
    carry_shape
        shape;     /* as the file states it: [batch, time, width], [batch, time] for ids,
                          [batch, width] without a time axis */
    int64_t width; /* numbers per step; 1 for ids */
    int64_t ids;   /* inputs of ids: legal ids are 0 .. ids-1; otherwise 0 */
    int has_time;  /* 0: one value per row, after its last step */
    size_t layer;  /* output: index of its layer; input: 0 */
    char tensor; /* output: 'y' the layer's output, 'h' or 'c' its state after the call */
} carry_port_info;

typedef struct carry_state_info { /* one tensor of a state */
    size_t size;
    const char *layer; /* name of the layer that keeps it */
    const char *name;  /* "h" or "c" */
    int64_t width;     /* float32 numbers */
    size_t layer_index;
    int stateful; /* what the file declared for the layer */
} carry_state_info;

CARRY_API carry_status carry_model_get_info(const carry_model *model,
                                            carry_model_info *info);
CARRY_API carry_status carry_model_get_layer(const carry_model *model, size_t index,
                                             carry_layer_info *info);
CARRY_API carry_status carry_model_get_weight(const carry_model *model, size_t index,
                                              carry_weight_info *info);
CARRY_API carry_status carry_model_get_input(const carry_model *model, size_t index,
                                             carry_port_info *info);
CARRY_API carry_status carry_model_get_output(const carry_model *model, size_t index,
                                              carry_port_info *info);
CARRY_API carry_status carry_model_get_state_tensor(const carry_model *model,
                                                    size_t index, carry_state_info *info);

/* ---- session -------------------------------------------------------------------------------- */

typedef struct carry_session carry_session;

/* CUDA: a shape whose kernels are captured as a graph, so that one launch runs a whole chunk of steps of up
 * to `rows` rows; a shape of more than 32 rows serves calls of at least a quarter of them. */
typedef struct carry_graph_shape {
    uint32_t rows;  /* 1 .. max_rows */
    uint32_t steps; /* 1 .. 1024 */
} carry_graph_shape;

typedef struct carry_session_options {
    size_t size;
    uint32_t
        threads; /* 1: the calling thread alone; 0: what affinity and cgroup quota allow. CUDA: ignored */
    uint32_t
        max_rows; /* rows computed together; larger batches are split. 0: 64 on the CPU, 1024 on CUDA, there of a
                     whole-sequence model so many that max_rows times max_steps is at most 65536 */
    uint32_t max_states; /* states open at once, 0: no limit but memory (and 2^24 - 1) */
    uint32_t
        max_steps; /* whole-sequence models: most steps of a row in one call; 0: the time
                            steps the file states, 1024 if it states none. Causal models: ignored */
    uint32_t
        exact; /* 1: a row's bits depend on no neighbour, batch or cut (see carry_run). The CPU
                          always does that. CUDA: no cuBLAS, products in an order of carry's own; not with
                          CARRY_COMPUTE_TF32 */
    void *
        cuda_stream; /* CUDA: the cudaStream_t that calls run on, of the model's device; the caller keeps it
                          until the session is closed. NULL: one of the session's own */
    const carry_graph_shape
        *graphs;        /* [graph_count], captured at open; NULL: none. CPU: ignored */
    size_t graph_count; /* up to 64 */
} carry_session_options;

/* Opens a session on a model: workspace, threads, an empty pool. After this, carry_run and
 * carry_state_reset allocate nothing; only opening a state, carry_session_warm and carry_session_set_model may
 * grow the session.
 *   *session  receives it; NULL on failure. The caller owns it: carry_session_close.
 * Errors: E_ARGUMENT, E_MEMORY (the sentence says how many bytes; on a device, also how many are free),
 * E_UNSUPPORTED (exact with CARRY_COMPUTE_TF32, graphs of a whole-sequence model), E_DEVICE. */
CARRY_API carry_status carry_session_open(carry_session **session, carry_model *model,
                                          const carry_session_options *options);

/* Closes the session with all its states and sets *session to NULL. Must not run beside another
 * call on the session. NULL or *session == NULL is fine. */
CARRY_API void carry_session_close(carry_session **session);

typedef struct carry_session_info {
    size_t size;
    uint32_t threads;         /* in use, the calling one counted */
    uint32_t max_rows;        /* as in force */
    uint32_t max_steps;       /* whole-sequence models: in force; causal models: 0 */
    size_t states;            /* open now */
    uint64_t workspace_bytes; /* fixed at open */
    uint64_t pool_bytes;      /* memory held for states, both versions */
    uint32_t exact;           /* 1: the exact promise holds */
    uint32_t graphs;          /* shapes captured */
    uint64_t graph_chunks;    /* chunks of steps run so far by launching a graph ... */
    uint64_t plain_chunks;    /* ... and without one: their shape was not captured */
    int dead; /* 1: the device failed and took the states with it; every call but this one and close gives E_DEVICE */
} carry_session_info;

/* What the session has in force and holds now. A call like any other: the states are counted while
 * nothing opens or closes one. Errors: E_ARGUMENT, E_BUSY; *info is then as it was. */
CARRY_API carry_status carry_session_get_info(carry_session *session,
                                              carry_session_info *info);

/* Captures graphs for more shapes, as at open; shapes that are there already are left alone. May take
 * milliseconds a shape, and device memory. Never happens inside carry_run. CPU: does nothing. At most 64 shapes a
 * call, each of no more rows times steps than the session's buffers hold, which are made for the shapes named at open.
 * Errors: E_ARGUMENT, E_BUSY, E_MEMORY, E_UNSUPPORTED (a whole-sequence model), E_DEVICE; shapes before the failing
 * one stay. */
CARRY_API carry_status carry_session_warm(carry_session *session,
                                          const carry_graph_shape *shapes, size_t count);

/* Waits for everything that calls with CARRY_ASYNC began. Returns the first failure since the last wait: the
 * session is then dead, its states are lost except what was saved before. CPU: returns at once.
 * Errors: E_ARGUMENT, E_BUSY, E_DEVICE. */
CARRY_API carry_status carry_session_wait(carry_session *session);

/* How a layer would be computed in a call of `rows` rows and `steps` steps. */
typedef struct carry_plan_info {
    size_t size;
    const char *
        algorithm; /* short: "vector", "gemm + cell", "fused step", "fused step with x" ... */
    char reason
        [240]; /* one sentence, with the numbers that decided; estimates are marked so */
} carry_plan_info;

/* What the session would do with layer `layer`, and why. Runs nothing. Errors: E_ARGUMENT, E_BUSY. */
CARRY_API carry_status carry_session_get_plan(carry_session *session, size_t layer,
                                              size_t rows, size_t steps,
                                              carry_plan_info *info);

/* Lets another model take over: states, handles, options and statistics stay, the next call computes with the
 * new weights. `model` must be on the session's device, of the session's precision, and have its fingerprint
 * (same layers, state tensors and widths) and outputs. Waits for what CARRY_ASYNC began; allocates a workspace before the
 * old one goes, captures the graphs of the session's shapes again. The session holds the new model and gives
 * the old one back. Errors: E_ARGUMENT, E_MISMATCH (the sentence names the difference), E_BUSY, E_MEMORY,
 * E_DEVICE; the old model then stays in force. */
CARRY_API carry_status carry_session_set_model(carry_session *session,
                                               carry_model *model);

/* ---- state ---------------------------------------------------------------------------------- */

/* One sequence's memory: session, slot and generation in one number, so that a handle which outlives
 * its state is recognised (E_STALE), never followed. {0} is no state: in a batch it means that the
 * row starts from zeros and is not kept. A value: copy it freely, it owns nothing.
 * On CUDA every function on states may also give E_DEVICE: the device failed, or the session is dead. */
typedef struct carry_state {
    uint64_t id;
} carry_state;

/* Opens a state of zeros, in constant time but for a call now and then that takes more memory.
 * Errors: E_ARGUMENT, E_FULL, E_MEMORY, E_BUSY; *state is then {0}. */
CARRY_API carry_status carry_state_open(carry_session *session, carry_state *state);

/* Closes a state and sets *state to {0}; {0} is fine. Errors: E_ARGUMENT, E_STALE, E_FOREIGN, E_BUSY. */
CARRY_API carry_status carry_state_close(carry_session *session, carry_state *state);

/* Sets a state to zeros, as if just opened. Allocates nothing. Errors: as close. */
CARRY_API carry_status carry_state_reset(carry_session *session, carry_state state);

/* Opens a new state that continues from where `source` stands now; the two then go their own ways.
 * Errors: those of open (*copy is then {0}) and E_STALE, E_FOREIGN for the source. */
CARRY_API carry_status carry_state_copy(carry_session *session, carry_state source,
                                        carry_state *copy);

/* Opens `count` new states that all continue from where `source` stands now: all of them or, on failure, none.
 * Nothing is copied: they share the source's memory until each is advanced for the first time.
 *   copies  [count], receives the handles; all {0} on failure
 * Errors: as copy. */
CARRY_API carry_status carry_state_fork(carry_session *session, carry_state source,
                                        carry_state *copies, size_t count);

/* State i continues from where state parents[i] stands now, as a beam search needs after it has chosen which
 * candidates live on; all at once, so parents may be any mixture, cycles included. Nothing is copied and nothing
 * is allocated.
 *   states   [count], all different
 *   parents  [count], states of the session, each as often as wanted; they need not be among `states`
 * Errors: E_ARGUMENT, E_STALE, E_FOREIGN, E_DUPLICATE (a state given twice), E_BUSY. */
CARRY_API carry_status carry_states_reorder(carry_session *session,
                                            const carry_state *states,
                                            const carry_state *parents, size_t count);

/* What carry_session_sweep shows a state to, before it is closed. The session may be used inside (carry_states_save,
 * carry_state_read ...), but for sweeping and closing it. Returns 0: close the state; else it stays, and counts as
 * used now. */
typedef int (*carry_idle_function)(void *user, carry_session *session, carry_state state);

typedef struct carry_sweep_options {
    size_t size;
    uint64_t
        idle_calls; /* close what this many carry_run of the session did not advance; 0: whatever the number */
    uint64_t
        idle_ms; /* and nothing has used for this long; 0: however short. Not both 0. */
    size_t most; /* close at most so many in this call; 0: no limit */
    carry_idle_function on_idle; /* NULL: none is asked */
    void *user;
} carry_sweep_options;

/* Closes the states that have been idle: not opened (as a fork too), advanced, reset, written, restored or given
 * a parent by a reorder for `idle_calls` calls and for `idle_ms` milliseconds, longest idle first. Takes time for the
 * states it closes, not for those it leaves. Their handles are stale afterwards.
 *   *swept  receives how many were closed; may be NULL
 * Errors: E_ARGUMENT, E_BUSY, E_DEVICE; what was closed before stays closed. */
CARRY_API carry_status carry_session_sweep(carry_session *session,
                                           const carry_sweep_options *options,
                                           size_t *swept);

typedef struct carry_pool_info {
    size_t size;
    uint64_t open;           /* states open now */
    uint64_t free;           /* more that can be opened without taking memory */
    uint64_t max_states;     /* in force */
    uint64_t bytes;          /* held for states, both versions and the table */
    uint64_t opened, closed; /* ever; swept states are among the closed */
    uint64_t swept;
    uint64_t rejected; /* opens refused with E_FULL or E_MEMORY */
} carry_pool_info;

/* Errors: E_ARGUMENT, E_BUSY; *info is then as it was. */
CARRY_API carry_status carry_session_get_pool(carry_session *session,
                                              carry_pool_info *info);

/* Reads or writes one tensor of a state: `tensor` counts as in carry_model_get_state_tensor, `values`
 * holds exactly `count` = width float32 numbers in host memory.
 * Errors: E_ARGUMENT (index, count), E_STALE, E_FOREIGN, E_BUSY. */
CARRY_API carry_status carry_state_read(carry_session *session, carry_state state,
                                        size_t tensor, float *values, size_t count);
CARRY_API carry_status carry_state_write(carry_session *session, carry_state state,
                                         size_t tensor, const float *values,
                                         size_t count);

/* Saving and restoring. The bytes are a safetensors file: tensors `LAYER/h`, `LAYER/c`, float32
 * [count, units], state i in row i; metadata with format, version, the model's fingerprint and
 * layers, and a checksum that names its kind (XXH3; files from before, with FNV-1a, are read too).
 *
 * save: writes `count` states into `buffer` of `capacity` bytes and the length into *bytes. With
 * buffer == NULL only *bytes is set. Allocates.
 * restore: overwrites `count` open states; either all of them or, on failure, none.
 *   tensors  NULL for all state tensors, or one byte for each: 0 leaves that tensor out of the file
 *            (restore: as it is)
 * Bytes of a saved state come from anywhere, so restore checks everything before it believes it.
 * Metadata is checked where present; a plain safetensors file with the right tensors is accepted, and so is a file of
 * carry_pool_save, whose keys are left aside.
 * Errors: E_ARGUMENT; E_CAPACITY (*bytes says what is needed); E_FORMAT (not such a file, damaged,
 * checksum); E_MISMATCH (of another model, another number of states, tensor missing, extra or
 * misshapen: the sentence names the difference); E_STALE, E_FOREIGN, E_DUPLICATE (restore), E_BUSY,
 * E_MEMORY. */
CARRY_API carry_status carry_states_save(carry_session *session,
                                         const carry_state *states, size_t count,
                                         const uint8_t *tensors, void *buffer,
                                         size_t capacity, size_t *bytes);
CARRY_API carry_status carry_states_restore(carry_session *session,
                                            const carry_state *states, size_t count,
                                            const uint8_t *tensors, const void *data,
                                            size_t bytes);

/* Many states to a file and back, without holding them in memory: both take a few megabytes and the file's header,
 * whatever the number. The file is what carry_states_save makes, with one more tensor `carry.keys`, int64 [count], if
 * keys are given; each function reads what the other wrote.
 *
 * save: replaces `path` at once or not at all: whenever the process dies, the old file or the new one is there,
 * whole. Written beside it as PATH.tmp-XXXXXX, synchronised, renamed; the file keeps its mode. A symbolic link stays
 * one: the file that it names is replaced, or made where there is none yet. A process that was killed may leave a
 * PATH.tmp-XXXXXX behind, which nobody reads: remove it when no save is going on.
 * After E_FILE the old file is there, whole, with one exception, whose sentence says "was replaced, but a crash of the
 * machine may undo it": the new file is in place, whole, and only its folder could not be synchronised. Who must know
 * that the new one stays saves again; both are files that load.
 *   states  [count] to save, up to 2^24 - 1, each as often as wanted; NULL: all open states of the session, in the
 *           order of their opening (count: 0)
 *   keys    [count], numbers of the caller's by which it will know the states again; NULL: none
 *           (needs states)
 * load: opens a state for each one saved, all or none. The file is read twice, checked and then loaded: a save may
 * replace it meanwhile, nobody may write into it.
 *   states  [capacity], receives the handles in the order of the file, {0} behind them and on failure; NULL: only
 *           *count is set, and nothing but the header is read
 *   keys    [capacity], receives the keys (E_MISMATCH if the file has none), or NULL; undefined on failure
 *   *count  receives how many the file has, with E_CAPACITY too; otherwise 0 on failure
 * Errors: E_ARGUMENT (a model that keeps no state needs keys); E_FILE (the sentence names the path and the system's
 * reason); E_CAPACITY (load); E_FULL; those of carry_states_restore. */
CARRY_API carry_status carry_pool_save(carry_session *session, const char *path,
                                       const carry_state *states, const int64_t *keys,
                                       size_t count);
CARRY_API carry_status carry_pool_load(carry_session *session, const char *path,
                                       carry_state *states, int64_t *keys,
                                       size_t capacity, size_t *count);

/* ---- run ------------------------------------------------------------------------------------ */

/* Where a buffer lies: stated, never guessed. */
typedef enum carry_place {
    CARRY_HOST = 0, /* ordinary memory */
    CARRY_PINNED =
        1, /* host memory that the driver has pinned (cudaHostAlloc, cudaHostRegister) */
    CARRY_DEVICE = 2 /* memory of the model's CUDA device */
} carry_place;

/* A buffer of the caller's. Inputs are CARRY_F32, or CARRY_I32 for ids, outputs CARRY_F32; numbers in device
 * memory may also be CARRY_F16 or CARRY_BF16, whatever the model's precision. A model on the CPU takes CARRY_HOST
 * and CARRY_PINNED alike, and refuses CARRY_DEVICE. */
typedef struct carry_array {
    size_t size;
    void *data; /* an input is only read */
    carry_dtype dtype;
    size_t bytes; /* capacity; checked against what the call needs */
    carry_place place;
} carry_array;

/* carry_batch.flags */
#define CARRY_ASYNC 1u /* CUDA: return without waiting; see carry_run. CPU: no effect */

typedef enum carry_mode {
    CARRY_STEPS_AS_MODEL = 0, /* every output as the model declares it */
    CARRY_STEPS_ALL = 1, /* every step; an error on a wanted output without a time axis */
    CARRY_STEPS_LAST = 2 /* of outputs with a time axis only the row's last step */
} carry_mode;

typedef struct carry_batch {
    size_t size;
    size_t rows; /* B; 0 does nothing */
    const carry_state
        *states;           /* [B]; NULL: every row starts from zeros and is not kept */
    size_t max_steps;      /* T >= 1: length of the time axis of inputs and outputs */
    const uint32_t *steps; /* [B], 0 .. T: steps of each row; NULL: T for every row */
    const uint8_t *reset;  /* [B], not 0: the row starts from zeros; NULL: none does */
    const carry_array *inputs; /* [input_count]: numbers [B, T, I], or int32 ids [B, T] */
    size_t input_count;        /* the model's number of inputs */
    carry_array *outputs; /* [output_count]; data == NULL: this output is not wanted */
    size_t output_count;  /* up to the model's number of outputs */
    carry_mode mode;
    carry_status *row_status; /* [B] or NULL; see below */
    uint32_t flags;           /* CARRY_ASYNC */
    const uint64_t *
        row_offsets; /* [B + 1] or NULL: packed arrays. Row r's steps are number row_offsets[r] ..
                        row_offsets[r + 1] - 1 of arrays [row_offsets[B], width]: no padding anywhere */
} carry_batch;

/* Advances B sequences by up to T steps each. Blocks; returns when the outputs are written.
 *
 * Packed arrays (row_offsets): inputs are [row_offsets[B], I], outputs of every step [row_offsets[B], W], other
 * outputs [B, W]. row_offsets begins anywhere and never falls; a row may have no steps. `steps` may shorten a row
 * (its last places are then zeros in the output), max_steps may be 0: the longest row. The cost of a call follows
 * the sum of its steps, packed or not.
 *
 * Outputs are [B, T, W] with a time axis, zeros from a row's own number of steps on;
 * [B, W] without one or with CARRY_STEPS_LAST: the value after the row's last step, zeros for a row
 * of no steps. A state output ('h', 'c') is the layer's state after the row's steps. Input beyond a
 * row's steps may be copied, and is never looked at. A row of no steps is untouched: its state stays as it is, whatever
 * `reset` says. Inputs and outputs must not overlap.
 *
 * A row's numbers do not depend on the other rows, on B, on max_rows, on the threads, nor (causal
 * models) on how its steps are cut into calls: the bits are the same on the CPU, and on CUDA in a session opened
 * with `exact`. Without it cuBLAS sums in an order that depends on the number of rows.
 *
 * On success every row's state has advanced. On failure no state has moved, and outputs are
 * undefined. A bad row (stale, foreign or duplicate state, steps > T, an id outside the vocabulary)
 * fails the call; with row_status it gets its code there instead, its state stays, its outputs are
 * zeros, the other rows run, and the call returns CARRY_OK. Rows that ran get CARRY_OK.
 *
 * Device memory must be ready when the call is made, or be written by work that was enqueued on the
 * session's cuda_stream before it. Ids in host memory, pinned or not, are checked before anything runs, and must be
 * there when the call is made. Ids in device memory are checked by the device: one outside the vocabulary fails the
 * call (E_INPUT, no state has moved); with CARRY_ASYNC it gives its row NaN instead.
 *
 * CARRY_ASYNC. Inputs and outputs must be pinned or device memory, and stay valid and untouched until
 * carry_session_wait, or until the caller's own cuda_stream has come to what it enqueued behind the call; states,
 * steps and reset are copied before the call returns. States advance at once, for later calls on this session. A
 * failure after the return loses the states: the session is dead, wait and every later call say so.
 * The call itself waits only where more than eight chunks of steps are still under way: for the first of them.
 *
 * Allocates nothing. Sets the floating-point control word (round to nearest, denormals kept) on its
 * threads and restores the caller's.
 * Errors: E_ARGUMENT (NULL, counts, T = 0, T > max_steps of a whole-sequence model, mode, place, flags), E_CAPACITY,
 * E_INPUT, E_STALE, E_FOREIGN, E_DUPLICATE, E_BUSY, E_DEVICE and E_MEMORY (CUDA: the device failed, or has no memory
 * left for what its driver wants; if the session is not dead now, no state has moved). */
CARRY_API carry_status carry_run(carry_session *session, const carry_batch *batch);

#ifdef __cplusplus
}
#endif

#endif
