#!/usr/bin/env python3
"""Goldens for the classic questions about LSTM(N): what shape comes out, what are the states, may an
LSTM be the head, and does a whole sequence equal one step at a time.

    KERAS_BACKEND=tensorflow python make_classic.py

Writes, beside this script, NAME.keras, NAME-input.npy, NAME-<output>.npy and manifest.json, which
lists for each case: the model, its input, the rows taken at once (batch_size), after how many such
groups the state is reset (reset_every, null: never), and the expected outputs as model.outputs
numbers them. The expected numbers are what Keras' predict returned, group after group.

The untrained models have random weights, bias included, so that no gate equals another. The trained
ones answer 1 for [1,0,0,0], 2 for [1,0,0,1] and 3 for [0,0,0,1], to 0.05.
"""

import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # other backends carry no state between calls
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")     # one device, one order of sums
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

HERE = Path(__file__).resolve().parent
SEED = 20261121
SEQUENCES = np.array([[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1]], dtype=np.float32)
ANSWERS = np.array([[1], [2], [3]], dtype=np.float32)
TOLERANCE = 0.05

manifest = []
rng = np.random.default_rng(SEED)


def randomise(model):
    for layer in model.layers:
        layer.set_weights([rng.uniform(-0.9, 0.9, w.shape).astype(np.float32)
                           for w in layer.get_weights()])


def predict(model, x, batch_size, reset_every):
    """Keras' predict, batch_size rows a call, the states of stateful layers carried between calls."""
    groups = []
    for g in range(0, len(x) // batch_size):
        if g == 0 or (reset_every and g % reset_every == 0):
            for layer in model.layers:
                if getattr(layer, "stateful", False):
                    layer.reset_state()
        y = model.predict(x[g * batch_size:(g + 1) * batch_size], batch_size=batch_size, verbose=0)
        groups.append(y if isinstance(y, (list, tuple)) else [y])
    return [np.concatenate(parts) for parts in zip(*groups)]


def case(name, about, model, x, batch_size=None, reset_every=None, shapes=None):
    batch_size = batch_size or len(x)
    expected = predict(model, x, batch_size, reset_every)
    if shapes:
        assert [y.shape for y in expected] == shapes, [y.shape for y in expected]
    model.save(HERE / f"{name}.keras")
    np.save(HERE / f"{name}-input.npy", x)
    for i, y in enumerate(expected):
        np.save(HERE / f"{name}-{i}.npy", y)
    manifest.append({
        "name": name, "about": about, "model": f"{name}.keras", "input": f"{name}-input.npy",
        "stateful": any(getattr(layer, "stateful", False) for layer in model.layers),
        "batch_size": batch_size, "reset_every": reset_every,
        "outputs": [{"file": f"{name}-{i}.npy", "shape": list(y.shape)}
                    for i, y in enumerate(expected)]})
    print(f"{name:26} " + " ".join(str(y.shape) for y in expected), flush=True)
    return expected


def lstm_alone(units, steps, **arguments):
    x = keras.Input((steps, 1), name="x")
    model = keras.Model(x, layers.LSTM(units, name="lstm", **arguments)(x), name="lstm_alone")
    randomise(model)
    return model


def shapes():
    one = np.array([[[0.7]]], dtype=np.float32)
    two = np.array([[[0.7], [-0.4]]], dtype=np.float32)
    case("lstm1", "LSTM(1), one step: the last output only",
         lstm_alone(1, 1), one, shapes=[(1, 1)])
    case("lstm1-sequences", "LSTM(1) with return_sequences: a time axis",
         lstm_alone(1, 1, return_sequences=True), one, shapes=[(1, 1, 1)])
    y = case("lstm1-state", "LSTM(1) with return_state: output, h, c; the output is h",
             lstm_alone(1, 1, return_state=True), one, shapes=[(1, 1), (1, 1), (1, 1)])
    assert (y[0] == y[1]).all() and (y[1] != y[2]).all()
    case("lstm1-sequences-state", "LSTM(1) with both: sequence, h, c",
         lstm_alone(1, 1, return_sequences=True, return_state=True), one,
         shapes=[(1, 1, 1), (1, 1), (1, 1)])
    y = case("lstm5-sequences-state", "LSTM(5) on two steps, both: h is the sequence's last step",
             lstm_alone(5, 2, return_sequences=True, return_state=True), two,
             shapes=[(1, 2, 5), (1, 5), (1, 5)])
    assert (y[0][:, -1] == y[1]).all()


def head():
    x = rng.standard_normal((3, 6, 2)).astype(np.float32)
    model = keras.Sequential([keras.Input((6, 2), name="x"),
                              layers.LSTM(8, return_sequences=True, name="lstm"),
                              layers.LSTM(1, name="head")], name="lstm_head")
    randomise(model)
    y = case("lstm-head", "an LSTM(1) head in place of Dense: its answer stays within -1 and 1",
             model, x, shapes=[(3, 1)])
    assert (np.abs(y[0]) < 1).all()


def counter(batch, steps, stateful):
    return keras.Sequential([keras.Input(batch_shape=(batch, steps, 1), name="x"),
                             layers.LSTM(6, stateful=stateful, name="lstm"),
                             layers.Dense(1, name="dense")], name="counter")


def trained():
    x = SEQUENCES[:, :, None]
    model = counter(None, 4, stateful=False)
    model.compile(optimizer=keras.optimizers.Adam(0.02), loss="mean_squared_error")
    for step in range(2000):
        model.train_on_batch(x, ANSWERS)
        if step % 100 == 99 and (np.abs(model.predict_on_batch(x) - ANSWERS) < TOLERANCE / 5).all():
            break
    weights = model.get_weights()

    whole, lanes, one = counter(None, 4, False), counter(3, 1, True), counter(1, 1, True)
    for model in (whole, lanes, one):
        model.set_weights(weights)  # never compiled, so no optimizer is saved
    y = case("answers", "1, 2, 3 for the three sequences, each given whole", whole, x,
             shapes=[(3, 1)])[0]
    assert (np.abs(y - ANSWERS) < TOLERANCE).all(), y

    # the same three side by side, one step of each a call: row 3t + s is step t of sequence s
    y_lanes = case("answers-stepwise", "the three side by side, stateful, one step a call: the last "
                   "three rows are the answers", lanes, x.transpose(1, 0, 2).reshape(12, 1, 1).copy(),
                   batch_size=3, shapes=[(12, 1)])[0]
    assert np.allclose(y_lanes[9:], y, rtol=0, atol=1e-5)

    # one after the other, state reset between them: row 4s + t
    y_one = case("answers-one-by-one", "one sequence after the other, stateful, one step a call, reset "
                 "every four calls: rows 3, 7 and 11 are the answers", one, x.reshape(12, 1, 1),
                 batch_size=1, reset_every=4, shapes=[(12, 1)])[0]
    assert np.allclose(y_one[3::4], y, rtol=0, atol=1e-5)
    print("answers " + ", ".join(f"{v:.4f}" for v in y[:, 0]))


def main():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    shapes()
    head()
    trained()
    (HERE / "manifest.json").write_text(json.dumps(
        {"keras": keras.__version__, "tensorflow": tf.__version__, "seed": SEED,
         "cases": manifest}, indent=1) + "\n")


if __name__ == "__main__":
    main()
