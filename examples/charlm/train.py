#!/usr/bin/env python3
"""Train the character model of this folder with Keras, and score it on a text it has not seen.

    KERAS_BACKEND=tensorflow python train.py            # trains, then writes every file below
    KERAS_BACKEND=tensorflow python train.py --score    # scores the charlm.keras that is here

Writes charlm.keras, charlm.vocab.json, heldout-MPL-2.0.txt, heldout-ids.npy, keras-scores.json.

The texts are the licences every Debian and Ubuntu base system has in /usr/share/common-licenses.
MPL-2.0 is held out: it takes no part in training or in the choice of the epoch. That choice is made
by two other texts that are not trained on either (VALIDATION).

The vocabulary is printable ASCII and the newline, 96 characters. Line breaks and runs of spaces stay
as they are: where a line ends and how deep it is indented are things the model has to remember, and
text that needs no clean-up can be read by a C program in one fread. Of the training texts, a tab
becomes one space and a form feed disappears; the held-out text has neither.
"""

import argparse
import datetime
import hashlib
import json
import math
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # other backends carry no state between calls
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")     # one device, one order of sums
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

HERE = Path(__file__).resolve().parent
LICENCES = Path("/usr/share/common-licenses")
HELD_OUT = "MPL-2.0"
VALIDATION = ["BSD", "CC0-1.0"]
TRAINING = ["Apache-2.0", "Artistic", "GFDL-1.2", "GFDL-1.3", "GPL-1", "GPL-2", "GPL-3",
            "LGPL-2", "LGPL-2.1", "LGPL-3", "MPL-1.1"]

SEED = 20261121
VOCAB = ["\n"] + [chr(c) for c in range(32, 127)]
EMBEDDING = 32
UNITS = 160
DROPOUT = 0.25
LANES = 16          # streams read side by side, each a contiguous part of the training texts
STEPS = 64          # characters between two updates (truncated back-propagation)
EPOCHS = 20
RATE_FIRST, RATE_LAST = 3e-3, 1e-4
RESTART = 1.0 / 32  # chance, per lane and update, that a lane starts again from zeros
SCORE_LANES = 8     # rows of heldout-ids.npy
WINDOWS = [16, 32, 64, 128]


# ---- text -------------------------------------------------------------------------------------

def encode(text):
    index = {c: i for i, c in enumerate(VOCAB)}
    return np.array([index[c] for c in text], dtype=np.int32)  # KeyError: not in the vocabulary


def read_licence(name):
    text = (LICENCES / name).read_bytes().decode("ascii")
    return text.replace("\t", " ").replace("\f", "")


# ---- model ------------------------------------------------------------------------------------

def build(batch, stateful, dropout=DROPOUT):
    return keras.Sequential([
        keras.Input(batch_shape=(batch, None), dtype="int32", name="characters"),
        keras.layers.Embedding(len(VOCAB), EMBEDDING, name="embedding"),
        keras.layers.LSTM(UNITS, return_sequences=True, stateful=stateful, name="lstm_1"),
        keras.layers.Dropout(dropout, name="dropout_1"),
        keras.layers.LSTM(UNITS, return_sequences=True, stateful=stateful, name="lstm_2"),
        keras.layers.Dropout(dropout, name="dropout_2"),
        keras.layers.TimeDistributed(
            keras.layers.Dense(len(VOCAB), activation="softmax"), name="next_character"),
    ], name="charlm")


def reset(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()


def restart_some(model, rng):
    """Zero the states of a few lanes, so that the model also learns to start without a past.

    Without it zeros would be seen once per lane and epoch, and the stateless scores below would be
    bad for a reason that has nothing to do with memory."""
    keep = (rng.random(LANES) >= RESTART).astype(np.float32)[:, None]
    if keep.all():
        return
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            for state in layer.states:
                state.assign(state * keep)


# ---- scores, all in bits per character ----------------------------------------------------------

def bits(probabilities, targets):
    """Sum of -log2 p(target)."""
    p = np.take_along_axis(probabilities, targets[..., None], axis=-1)
    return float(-np.log2(np.maximum(p.astype(np.float64), 1e-30)).sum())


def runner(weights, batch, stateful):
    """A function ids -> probabilities, traced anew for every shape.

    Not model.predict: it relaxes the time axis as soon as two calls differ in it, and with an unknown
    time axis the TimeDistributed of Keras 3.15.1 maps over the batch size instead of the steps, so
    only the first `batch` steps come out."""
    model = build(batch, stateful)
    model.set_weights(weights)
    return tf.function(lambda ids: model(ids, training=False))


def score_stateful(weights, ids, lanes, chunk=STEPS):
    """The text in `lanes` equal parts advanced together, the state carried from chunk to chunk."""
    length = (len(ids) - 1) // lanes
    x = ids[:lanes * length].reshape(lanes, length)
    y = ids[1:lanes * length + 1].reshape(lanes, length)
    run = runner(weights, lanes, stateful=True)
    total = 0.0
    for t in range(0, length, chunk):
        total += bits(run(x[:, t:t + chunk]).numpy(), y[:, t:t + chunk])
    return total / (lanes * length)


def score_windows(weights, ids, window):
    """Stateless: the text cut into windows of `window` characters, each from zeros."""
    run = runner(weights, None, stateful=False)
    n = len(ids) - 1
    whole = n // window * window
    x, y = ids[:whole].reshape(-1, window), ids[1:whole + 1].reshape(-1, window)
    total = sum(bits(run(x[i:i + 256]).numpy(), y[i:i + 256]) for i in range(0, len(x), 256))
    if whole < n:
        total += bits(run(ids[None, whole:n]).numpy(), ids[None, whole + 1:n + 1])
    return total / n


def score_refed(weights, ids, window):
    """Stateless, dearest: before each character the last `window` characters are fed again."""
    run = runner(weights, None, stateful=False)
    n = len(ids) - 1
    head = min(window - 1, n)  # the first characters have a shorter past: one window covers them
    total = bits(run(ids[None, :head]).numpy(), ids[None, 1:head + 1]) if head else 0.0
    view = np.lib.stride_tricks.sliding_window_view(ids[:n], window)
    for i in range(0, len(view), 512):
        last = run(view[i:i + 512]).numpy()[:, -1]
        total += bits(last, ids[window + i:window + i + len(last)])
    return total / n


# ---- training ---------------------------------------------------------------------------------

def train():
    train_ids = np.concatenate([encode(read_licence(n)) for n in TRAINING])
    valid_ids = np.concatenate([encode(read_licence(n)) for n in VALIDATION])
    length = (len(train_ids) - 1) // LANES // STEPS * STEPS
    updates = EPOCHS * (length // STEPS)
    print(f"training {len(train_ids)} characters, validation {len(valid_ids)}, "
          f"{LANES} lanes of {length}, {updates} updates", flush=True)

    model = build(LANES, stateful=True)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(RATE_FIRST, updates, RATE_LAST / RATE_FIRST),
            clipnorm=1.0),
        loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(SEED)
    best, best_epoch, best_weights = math.inf, 0, None
    began = time.monotonic()
    for epoch in range(1, EPOCHS + 1):
        reset(model)
        # another cut into lanes each epoch: the texts as a ring, begun at a random place
        ring = np.roll(train_ids, -int(rng.integers(len(train_ids))))
        x = ring[:LANES * length].reshape(LANES, length)
        y = ring[1:LANES * length + 1].reshape(LANES, length)
        total = 0.0
        for t in range(0, length, STEPS):
            restart_some(model, rng)
            model.reset_metrics()  # Keras reports a running mean over calls
            total += float(model.train_on_batch(x[:, t:t + STEPS], y[:, t:t + STEPS]))
        weights = model.get_weights()
        valid = score_stateful(weights, valid_ids, lanes=4)
        if valid < best:
            best, best_epoch, best_weights = valid, epoch, weights
        print(f"epoch {epoch:2}  training {total / (length // STEPS) / math.log(2):.3f}  "
              f"validation {valid:.3f} bits/char  {time.monotonic() - began:5.0f} s", flush=True)

    final = build(1, stateful=True)
    final.set_weights(best_weights)
    final.save(HERE / "charlm.keras")  # never compiled, so there is no optimizer in it
    return {"epochs": EPOCHS, "best_epoch": best_epoch,
            "validation_bits_per_character": round(best, 4),
            "training_characters": len(train_ids), "validation_characters": len(valid_ids),
            "seconds": round(time.monotonic() - began),
            "training_texts": {n: hashlib.sha256((LICENCES / n).read_bytes()).hexdigest()
                               for n in TRAINING},
            "validation_texts": VALIDATION}


def write_held_out():
    text = (LICENCES / HELD_OUT).read_bytes()
    (HERE / f"heldout-{HELD_OUT}.txt").write_bytes(text)
    ids = encode(text.decode("ascii"))
    length = len(ids) // SCORE_LANES
    np.save(HERE / "heldout-ids.npy", ids[:SCORE_LANES * length].reshape(SCORE_LANES, length))


def score(training):
    weights = keras.models.load_model(HERE / "charlm.keras", compile=False).get_weights()
    text = (HERE / f"heldout-{HELD_OUT}.txt").read_bytes()
    ids = encode(text.decode("ascii"))
    scores = {
        "text": f"heldout-{HELD_OUT}.txt", "characters": len(ids), "scored": len(ids) - 1,
        "sha256": hashlib.sha256(text).hexdigest(),
        "bits_per_character": {
            "stateful": round(score_stateful(weights, ids, 1), 5),
            f"stateful_{SCORE_LANES}_rows": round(score_stateful(weights, ids, SCORE_LANES), 5),
            "windows": {str(w): round(score_windows(weights, ids, w), 5) for w in WINDOWS},
            "windows_fed_again": {str(w): round(score_refed(weights, ids, w), 5) for w in WINDOWS},
        },
        "seed": SEED, "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "keras": keras.__version__,
                     "tensorflow": tf.__version__, "numpy": np.__version__},
        "training": training,
    }
    print(json.dumps(scores["bits_per_character"], indent=2))
    (HERE / "keras-scores.json").write_text(json.dumps(scores, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--score", action="store_true", help="score only, train nothing")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    tf.get_logger().setLevel("ERROR")  # one trace per shape is meant; it warns of each
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()

    if args.score:
        training = json.loads((HERE / "keras-scores.json").read_text())["training"]
    else:
        (HERE / "charlm.vocab.json").write_text(json.dumps(VOCAB) + "\n")
        write_held_out()
        training = train()
    score(training)


if __name__ == "__main__":
    main()
