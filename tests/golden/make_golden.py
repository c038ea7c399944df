#!/usr/bin/env python3
"""Makes the golden models of this folder: real Keras 3 and Keras 2 (tf-keras) on TensorFlow, random
asymmetric weights (biases too), and what model.predict(X, batch_size=S) returned.

    python tests/golden/make_golden.py            # all of them
    python tests/golden/make_golden.py NAME...    # only these; the manifest keeps the others

Each case is a folder: model.keras or model.h5, and per call x.npy, y0.npy, y1.npy ... in the order of
model.outputs (float32, whatever the model computes in). A second call on a stateful model, with other
time steps, is x_1.npy, y0_1.npy and so on. manifest.json lists the cases: file, rows per group S
(batch_size), stateful, tolerance (|error| <= tolerance max(1, |y|)), calls.

Needs tensorflow, keras 3 and tf-keras; the tests need only what is committed.
"""

import json
import os
import pathlib
import sys
import zipfile
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np  # noqa: E402
import keras as keras3  # noqa: E402
import tf_keras as keras2  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
CASES = {}


def case(keras="3", file="keras", x=None, batch=None, more_steps=(), tolerance=1e-5, scale=1.0,
         deflate=False):
    """Registers a case. x: shape of the input, or (shape, ids) for ids; batch: rows per group;
    more_steps: time steps of further predict calls; scale: of the weights; deflate: the archive is
    zipped again, compressed (Keras stores), as people do and to keep this folder small."""

    def register(build):
        CASES[build.__name__] = dict(build=build, keras=keras, file=file, x=x, batch=batch,
                                     more_steps=more_steps, tolerance=tolerance, scale=scale,
                                     deflate=deflate)
        return build

    return register


def chain(K, shape, *layers, dtype=None):
    """A Sequential whose input has batch_shape `shape`."""
    return K.Sequential([K.Input(batch_shape=shape, dtype=dtype), *layers], name="chain")


# ---- units, and the plain case in every file format ----------------------------------------------


@case(x=(2, 6, 1))
def lstm_units_1(K):
    return chain(K, (None, 6, 1), K.layers.LSTM(1))


@case(x=(3, 5, 2))
def lstm_units_3(K):
    return chain(K, (None, None, 2), K.layers.LSTM(3, return_sequences=True))


@case(x=(5, 7, 4))
def lstm_units_17(K):
    return chain(K, (None, 7, 4), K.layers.LSTM(17))


@case(x=(2, 9, 3))
def lstm_units_64(K):
    return chain(K, (None, None, 3), K.layers.LSTM(64, return_sequences=True))


@case(file="h5", x=(3, 5, 2))
def lstm_h5(K):
    return chain(K, (None, 5, 2), K.layers.LSTM(3, return_sequences=True), K.layers.Dense(2))


@case(keras="2", file="h5", x=(3, 5, 2))
def k2_lstm_h5(K):
    return chain(K, (None, 5, 2), K.layers.LSTM(3, return_sequences=True), K.layers.Dense(2))


@case(keras="2", file="keras", x=(3, 5, 2))
def k2_lstm_keras(K):
    return chain(K, (None, 5, 2), K.layers.LSTM(3, return_sequences=True), K.layers.Dense(2))


# ---- constructor arguments of LSTM ---------------------------------------------------------------


@case(x=(2, 5, 3))
def hard_sigmoid_k3(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, recurrent_activation="hard_sigmoid"))


@case(keras="2", file="h5", x=(2, 5, 3))
def hard_sigmoid_k2_h5(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, recurrent_activation="hard_sigmoid"))


@case(keras="2", file="keras", x=(2, 5, 3))
def hard_sigmoid_k2_keras(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, recurrent_activation="hard_sigmoid"))


@case(x=(2, 5, 3), scale=0.5, deflate=True)
def activations_stack(K):
    """Unbounded and odd activations in one stack, each on few steps."""
    names = ["relu", "elu", "softsign", "softplus", "gelu", "selu", "silu"]
    return chain(K, (None, 5, 3),
                 *[K.layers.LSTM(3, activation=a, return_sequences=True) for a in names])


@case(x=(2, 5, 3), scale=0.5, deflate=True)
def activations_more(K):
    names = ["leaky_relu", "mish", "hard_silu", "relu6", "hard_tanh", "tanh_shrink", "celu",
             "log_sigmoid", "softmax"]
    return chain(K, (None, 5, 3),
                 *[K.layers.LSTM(3, activation=a, return_sequences=True) for a in names])


@case(x=(2, 5, 3), scale=1.2, deflate=True)
def recurrent_activations(K):
    names = ["tanh", "hard_sigmoid", "softmax", "linear", "relu"]
    return chain(K, (None, 5, 3),
                 *[K.layers.LSTM(3, recurrent_activation=a, return_sequences=True)
                   for a in names])


@case(keras="2", x=(2, 5, 3), scale=0.5, deflate=True)
def activations_k2(K):
    names = ["relu", "elu", "softsign", "softplus", "selu", "swish", "linear", "exponential",
             "gelu", "hard_sigmoid"]
    return chain(K, (None, 5, 3),
                 *[K.layers.LSTM(2, activation=a, return_sequences=True) for a in names])


@case(x=(2, 5, 3), scale=0.5)
def activation_linear_none(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, activation=None, recurrent_activation=None))


@case(x=(2, 5, 3), deflate=True)
def no_bias(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, use_bias=False),
                 K.layers.Dense(2, use_bias=False))


@case(keras="2", file="h5", x=(2, 5, 3))
def no_bias_k2(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, use_bias=False, unit_forget_bias=False),
                 K.layers.Dense(2, use_bias=False))


@case(x=(2, 6, 3))
def backwards_all(K):
    return chain(K, (None, 6, 3), K.layers.LSTM(4, go_backwards=True, return_sequences=True))


@case(keras="2", file="h5", x=(2, 6, 3))
def backwards_last(K):
    return chain(K, (None, 6, 3), K.layers.LSTM(4, go_backwards=True), K.layers.Dense(1))


@case(x=(3, 6, 2), deflate=True)
def backwards_between(K):
    return chain(K, (None, 6, 2), K.layers.LSTM(3, return_sequences=True),
                 K.layers.LSTM(5, go_backwards=True, return_sequences=True),
                 K.layers.LSTM(2, return_sequences=True))


@case(x=(2, 5, 3), deflate=True)
def unrolled(K):
    return chain(K, (None, 5, 3), K.layers.LSTM(4, unroll=True, return_sequences=True),
                 K.layers.LSTM(2, unroll=True))


@case(keras="2", file="h5", x=(2, 5, 3))
def inert_arguments_k2(K):
    return chain(K, (None, 5, 3),
                 K.layers.LSTM(4, dropout=0.3, recurrent_dropout=0.2, implementation=1,
                               kernel_regularizer="l2", bias_constraint="max_norm"),
                 K.layers.Dropout(0.5), K.layers.Dense(2))


@case(x=(2, 5, 3), deflate=True)
def inert_arguments(K):
    return chain(K, (None, 5, 3),
                 K.layers.LSTM(4, dropout=0.3, recurrent_dropout=0.2, seed=7,
                               kernel_regularizer="l2", bias_constraint="max_norm",
                               kernel_initializer="he_normal", return_sequences=True),
                 K.layers.Dropout(0.5, noise_shape=(None, 1, 4)), K.layers.Dense(2))


# ---- stacks and heads ----------------------------------------------------------------------------


@case(x=(4, 8, 2), deflate=True)
def stacked(K):
    return chain(K, (None, None, 2), K.layers.LSTM(7, return_sequences=True),
                 K.layers.Dropout(0.2), K.layers.LSTM(5, return_sequences=True),
                 K.layers.LSTM(3), K.layers.Dense(2, activation="sigmoid"))


@case(x=(3, 5, 2), deflate=True)
def time_distributed(K):
    return chain(K, (None, None, 2), K.layers.LSTM(5, return_sequences=True),
                 K.layers.TimeDistributed(K.layers.Dense(4, activation="relu")),
                 K.layers.TimeDistributed(K.layers.Dense(3, activation="softmax")))


@case(keras="2", file="h5", x=(3, 5, 2))
def time_distributed_k2_h5(K):
    return chain(K, (None, None, 2), K.layers.LSTM(5, return_sequences=True),
                 K.layers.TimeDistributed(K.layers.Dense(3, activation="softmax")))


@case(keras="2", file="keras", x=(3, 5, 2), deflate=True)
def time_distributed_k2_keras(K):
    return chain(K, (None, None, 2), K.layers.LSTM(5, return_sequences=True),
                 K.layers.TimeDistributed(K.layers.Dense(3, activation="softmax")))


@case(file="h5", x=(3, 5, 2))
def time_distributed_h5(K):
    return chain(K, (None, None, 2), K.layers.LSTM(5, return_sequences=True),
                 K.layers.TimeDistributed(K.layers.Dense(3, activation="softmax")))


@case(x=((4, 6), 11), deflate=True)
def embedding(K):
    return chain(K, (None, None), K.layers.Embedding(11, 5),
                 K.layers.LSTM(6, return_sequences=True), K.layers.Dense(11), dtype="int32")


@case(keras="2", file="h5", x=((4, 6), 11))
def embedding_k2(K):
    return chain(K, (None, 6), K.layers.Embedding(11, 5, input_length=6), K.layers.LSTM(6),
                 K.layers.Dense(11, activation="softmax"))


@case(x=(2, 4, 3), deflate=True)
def activation_layers(K):
    return chain(K, (None, 4, 3), K.layers.Dense(5, activation="tanh"),
                 K.layers.LSTM(4, return_sequences=True), K.layers.Activation("softmax"),
                 K.layers.Dense(3), K.layers.Activation("log_softmax"))


@case(x=(2, 4, 3))
def dense_only(K):
    return chain(K, (None, 4, 3), K.layers.Dense(5, activation="gelu"), K.layers.Dense(2))


# ---- several outputs -----------------------------------------------------------------------------


@case(x=(3, 5, 2))
def seq_h_c(K):
    x = K.Input(shape=(5, 2), name="x_in")
    return K.Model(x, list(K.layers.LSTM(4, return_sequences=True, return_state=True)(x)))


@case(keras="2", file="h5", x=(3, 5, 2))
def seq_h_c_k2_h5(K):
    x = K.Input(shape=(5, 2), name="x_in")
    return K.Model(x, list(K.layers.LSTM(4, return_sequences=True, return_state=True)(x)))


@case(keras="2", file="keras", x=(3, 5, 2), deflate=True)
def seq_h_c_k2_keras(K):
    x = K.Input(shape=(5, 2), name="x_in")
    return K.Model(x, list(K.layers.LSTM(4, return_sequences=True, return_state=True)(x)))


@case(x=(3, 5, 2), deflate=True)
def last_h_c(K):
    """return_state without return_sequences, outputs in another order, one of them twice used."""
    x = K.Input(shape=(None, 2))
    y, h, c = K.layers.LSTM(4, return_state=True)(x)
    return K.Model(x, [c, K.layers.Dense(2)(y), h])


@case(x=(3, 5, 2), deflate=True)
def states_of_two(K):
    """Head plus the states of both layers, h and c, as encoders return them."""
    x = K.Input(shape=(None, 2))
    a, ah, ac = K.layers.LSTM(4, return_sequences=True, return_state=True, name="first")(x)
    b, bh, bc = K.layers.LSTM(3, return_sequences=True, return_state=True, name="second")(a)
    return K.Model(x, [K.layers.TimeDistributed(K.layers.Dense(2), name="head")(b), ah, ac, bh, bc])


@case(x=(3, 5, 2), deflate=True)
def inner_output(K):
    """The sequence inside the model is an output as well as the head."""
    x = K.Input(shape=(None, 2))
    a = K.layers.LSTM(4, return_sequences=True, name="memory")(x)
    return K.Model(x, [K.layers.Dense(2, name="head")(a), a])


@case(x=(3, 5, 2), deflate=True)
def sequential_return_state(K):
    return chain(K, (None, 5, 2), K.layers.LSTM(4, return_sequences=True),
                 K.layers.LSTM(3, return_state=True))


@case(file="h5", x=(3, 5, 2))
def seq_h_c_h5(K):
    x = K.Input(shape=(5, 2), name="x_in")
    return K.Model(x, list(K.layers.LSTM(4, return_sequences=True, return_state=True)(x)))


# ---- stateful ------------------------------------------------------------------------------------


@case(x=(9, 4, 2), batch=3, more_steps=(1, 6), deflate=True)
def stateful(K):
    return chain(K, (3, None, 2), K.layers.LSTM(5, stateful=True, return_sequences=True),
                 K.layers.LSTM(4, stateful=True), K.layers.Dense(2))


@case(keras="2", file="h5", x=(9, 4, 2), batch=3, more_steps=(1, 6))
def stateful_k2_h5(K):
    return chain(K, (3, None, 2), K.layers.LSTM(5, stateful=True, return_sequences=True),
                 K.layers.LSTM(4, stateful=True), K.layers.Dense(2))


@case(keras="2", file="keras", x=(4, 4, 2), batch=1)
def stateful_k2_keras(K):
    return chain(K, (1, 4, 2), K.layers.LSTM(4, stateful=True), K.layers.Dense(1))


@case(file="h5", x=(4, 4, 2), batch=2)
def stateful_h5(K):
    return chain(K, (2, 4, 2), K.layers.LSTM(4, stateful=True), K.layers.Dense(1))


@case(x=(6, 4, 2), batch=2, deflate=True)
def stateful_first_only(K):
    """The first layer carries, the second restarts at each group."""
    return chain(K, (2, 4, 2), K.layers.LSTM(5, stateful=True, return_sequences=True),
                 K.layers.LSTM(4, return_sequences=True), K.layers.Dense(2))


@case(x=(6, 4, 2), batch=2)
def stateful_backwards(K):
    return chain(K, (2, 4, 2), K.layers.LSTM(5, stateful=True, go_backwards=True,
                                             return_sequences=True))


@case(x=(6, 3, 2), batch=2, deflate=True)
def stateful_h_c(K):
    x = K.Input(batch_shape=(2, 3, 2))
    y, h, c = K.layers.LSTM(4, stateful=True, return_sequences=True, return_state=True)(x)
    return K.Model(x, [K.layers.Dense(1)(y), h, c])


@case(x=((6, 5), 7), batch=2, deflate=True)
def stateful_embedding(K):
    return chain(K, (2, None), K.layers.Embedding(7, 4),
                 K.layers.LSTM(6, stateful=True, return_sequences=True),
                 K.layers.TimeDistributed(K.layers.Dense(7)), dtype="int32")


@case(x=(4, 4, 2), batch=2)
def stateful_unrolled(K):
    return chain(K, (2, 4, 2), K.layers.LSTM(3, stateful=True, unroll=True))


# ---- precisions ----------------------------------------------------------------------------------


@case(x=(2, 4, 3), tolerance=5e-3, scale=0.5, deflate=True)
def mixed_float16(K):
    return chain(K, (None, 4, 3), K.layers.LSTM(5, dtype="mixed_float16", return_sequences=True),
                 K.layers.Dense(2, dtype="mixed_float16"))


@case(x=(2, 3, 3), tolerance=5e-3, scale=0.25, deflate=True)
def mixed_bfloat16(K):
    return chain(K, (None, 3, 3), K.layers.LSTM(5, dtype="mixed_bfloat16", return_sequences=True),
                 K.layers.Dense(2, dtype="mixed_bfloat16"))


@case(keras="2", file="h5", x=(2, 4, 3), tolerance=5e-3, scale=0.5)
def mixed_float16_k2(K):
    return chain(K, (None, 4, 3), K.layers.LSTM(5, dtype=K.mixed_precision.Policy("mixed_float16")),
                 K.layers.Dense(2, dtype="float32"))


@case(x=(2, 4, 3), tolerance=5e-3, scale=0.5, deflate=True)
def weights_float16(K):
    return chain(K, (None, 4, 3), K.layers.LSTM(5, dtype="float16"),
                 K.layers.Dense(2, dtype="float16"))


@case(file="h5", x=(2, 3, 3), tolerance=5e-3, scale=0.25)
def weights_bfloat16(K):
    return chain(K, (None, 3, 3), K.layers.LSTM(5, dtype="bfloat16", recurrent_initializer="zeros"),
                 K.layers.Dense(2, dtype="bfloat16"))


@case(x=(2, 4, 3), deflate=True)
def weights_float64(K):
    return chain(K, (None, 4, 3), K.layers.LSTM(5, dtype="float64", return_sequences=True),
                 K.layers.Dense(2, dtype="float64"))


@case(keras="2", file="h5", x=(2, 4, 3))
def weights_float64_k2(K):
    return chain(K, (None, 4, 3), K.layers.LSTM(5, dtype="float64"),
                 K.layers.Dense(2, dtype="float64"))


# ---- making them ---------------------------------------------------------------------------------


def randomise(model, rng, scale):
    """Every weight its own values, no symmetry, nothing zero, biases included."""
    weights = []
    for w in model.get_weights():
        fan = w.shape[0] if w.ndim == 2 else 4
        weights.append((scale * (rng.standard_normal(w.shape) / np.sqrt(fan) +
                                 0.1 * rng.uniform(-1, 2, w.shape))).astype(w.dtype))
    model.set_weights(weights)


def zip_again(path):
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)


def reset(model):
    for layer in model.layers:
        for name in ("reset_state", "reset_states"):
            if getattr(layer, "stateful", False) and hasattr(layer, name):
                getattr(layer, name)()
                break


def inputs(spec, steps, rng):
    shape, ids = spec if isinstance(spec[0], tuple) else (spec, None)
    if steps is not None:
        shape = (shape[0], steps, *shape[2:])
    if ids:
        return rng.integers(0, ids, shape).astype(np.int32)
    return rng.standard_normal(shape).astype(np.float32)


def as_float32(outputs):
    if not isinstance(outputs, (list, tuple)):
        outputs = [outputs]
    return [np.ascontiguousarray(np.asarray(y).astype(np.float32)) for y in outputs]


def make(name, spec):
    K = keras3 if spec["keras"] == "3" else keras2
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    K.backend.clear_session()
    model = spec["build"](K)
    randomise(model, rng, spec["scale"])

    folder = HERE / name
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    file = "model.h5" if spec["file"] == "h5" else "model.keras"
    model.save(folder / file)
    if spec["deflate"]:
        zip_again(folder / file)

    calls = []
    reset(model)
    for k, steps in enumerate([None, *spec["more_steps"]]):
        tail = f"_{k}" if k else ""
        x = inputs(spec["x"], steps, rng)
        outputs = as_float32(model.predict(x, batch_size=spec["batch"] or len(x), verbose=0))
        assert len(outputs) == len(model.outputs)
        assert all(np.isfinite(y).all() and y.std() > 0.015 for y in outputs), name
        np.save(folder / f"x{tail}.npy", x)
        for i, y in enumerate(outputs):
            np.save(folder / f"y{i}{tail}.npy", y)
        calls.append({"input": f"{name}/x{tail}.npy",
                      "outputs": [f"{name}/y{i}{tail}.npy" for i in range(len(outputs))]})

    stateful = any(getattr(layer, "stateful", False) for layer in model.layers)
    return {"name": name, "file": f"{name}/{file}",
            "source": "keras-h5" if spec["file"] == "h5" else "keras",
            "keras": K.__version__, "batch_size": spec["batch"] or 0, "stateful": stateful,
            "tolerance": spec["tolerance"], "calls": calls}


def main():
    wanted = sys.argv[1:] or list(CASES)
    path = HERE / "manifest.json"
    kept = {}
    if sys.argv[1:] and path.exists():
        kept = {c["name"]: c for c in json.loads(path.read_text())["cases"]}
    for name in wanted:
        kept[name] = make(name, CASES[name])
        print(name, flush=True)
    ordered = [kept[name] for name in CASES if name in kept]
    path.write_text(json.dumps({"cases": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
