#!/usr/bin/env python3
"""Compares `carry` with Keras on random models that are not in the repository.

    python tests/oracle/compare_keras.py CARRY [--models N] [--seed S] [--first I] [--keep DIR]
                                         [--device cuda] [--precision tf32|bf16|fp16]

CARRY is the built command. Each model is drawn from (seed, index): Sequential or Functional, Keras 3 or
Keras 2 (tf-keras), .keras or .h5, every supported layer with every argument varied. For each one

  * `carry run` must equal model.predict(X, batch_size=S), group after group where it is stateful;
  * runs with --steps, --reset-every, --batch-size, --stateful, --stateless, --chunk, --state-in and
    --state-out must equal Keras fed row by row with explicit states;
  * `carry info --json` must equal what model.summary() shows;
  * a converted file must give the same bits.

|error| <= 1e-5 max(1, |y|), 5e-3 under float16 and bfloat16 in Keras. With --device cuda half of the models run with
--exact; the others may change bits with a cut. With --precision the models have weights at Keras' own scale, bounded
activations and up to 100 steps, and |error| <= 2e-2 max(1, |y|). Prints N passed, M failed, the worst error;
exits non-zero when anything failed. Needs tensorflow, keras 3, tf-keras.
"""

import argparse
import json
import logging
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np  # noqa: E402
import keras as keras3  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras as keras2  # noqa: E402

tf.get_logger().setLevel("ERROR")
logging.getLogger("absl").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

COMMON = ["tanh", "sigmoid", "relu", "linear", "elu", "selu", "softplus", "softsign", "exponential",
          "hard_sigmoid", "softmax", "gelu", "swish"]
ONLY_3 = ["silu", "relu6", "leaky_relu", "mish", "hard_silu", "hard_swish", "celu", "log_sigmoid",
          "hard_tanh", "tanh_shrink", "log_softmax"]
BOUNDED = {"tanh", "sigmoid", "softsign", "hard_sigmoid", "softmax", "hard_tanh", "relu6"}


class Failure(Exception):
    pass


# ---- drawing a model -----------------------------------------------------------------------------


class Draw:
    """Random choices, and the plan of a model: plain data, from which models are built twice."""

    def __init__(self, seed, index, narrow=False):
        self.rng = np.random.default_rng([seed, index])
        self.how = np.random.default_rng([seed, index, 1])  # the plan is the same on every device
        self.narrow = narrow  # carry computes products with fewer bits than float32

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def int(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def activation(self, default, p):
        names = COMMON + (ONLY_3 if self.plan["keras"] == 3 else [])
        if self.plan["low"] or self.narrow:  # without a bound rounding exceeds any tolerance
            names = [n for n in names if n in BOUNDED]
        return default if self.chance(1 - p) else self.pick(names)

    def lstm(self, last, stateful_model):
        plan = self.plan
        args = dict(units=self.int(1, 20) if self.chance(0.85) else self.int(21, 70))
        activation = self.activation("tanh", 0.35)
        recurrent = self.activation("sigmoid", 0.35)
        if activation not in BOUNDED or recurrent not in BOUNDED:
            plan["unbounded"] = True
        if activation != "tanh" or self.chance(0.2):
            args["activation"] = None if activation == "linear" and self.chance(0.5) else activation
        if recurrent != "sigmoid" or self.chance(0.2):
            args["recurrent_activation"] = recurrent
        if self.chance(0.25):
            args["use_bias"] = False
        if self.chance(0.2):
            args["unit_forget_bias"] = False
        args["return_sequences"] = self.chance(0.5) if last else True
        if plan["functional"] and self.chance(0.5):
            args["return_state"] = True
        if last and not plan["functional"] and plan["keras"] == 3 and self.chance(0.15):
            args["return_state"] = plan["ends_in_state"] = True
        if self.chance(0.15):
            args["go_backwards"] = plan["backwards"] = True
        if stateful_model and self.chance(0.75):
            args["stateful"] = True
        if plan["fixed_time"] and self.chance(0.3):
            args["unroll"] = True
        if self.chance(0.2):
            args["dropout"] = 0.25
        if self.chance(0.2):
            args["recurrent_dropout"] = 0.25
        if self.chance(0.2):
            args["kernel_regularizer"] = "l2"
        if self.chance(0.2):
            args["recurrent_initializer"] = "glorot_uniform"
        if self.chance(0.2):
            args["bias_constraint"] = "max_norm"
        if plan["keras"] == 2 and self.chance(0.3):
            args["implementation"] = self.pick([1, 2])
        if plan["keras"] == 2 and self.chance(0.3):
            args["time_major"] = False
        return ("LSTM", args)

    def other(self, sequence):
        kind = self.pick(["Dense", "Dense", "TimeDistributed", "Activation", "Dropout"])
        if kind == "TimeDistributed" and not sequence:
            kind = "Dense"
        if kind in ("Dense", "TimeDistributed"):
            args = dict(units=self.int(1, 9))
            activation = self.activation("linear", 0.5)
            if activation != "linear" or self.chance(0.3):
                args["activation"] = activation
            if self.chance(0.25):
                args["use_bias"] = False
            if activation not in BOUNDED and activation != "linear":
                self.plan["unbounded"] = True
            return (kind, args)
        if kind == "Activation":
            return (kind, dict(activation=self.activation("tanh", 0.8)))
        args = dict(rate=0.4)
        if self.chance(0.3):
            args["seed"] = 3
        return (kind, args)

    def model(self):
        plan = self.plan = {"keras": self.pick([2, 3, 3]), "functional": self.chance(0.5),
                            "file": self.pick(["keras", "h5"]), "fixed_time": self.chance(0.5),
                            "unbounded": False, "backwards": False, "ends_in_state": False}
        stateful = self.chance(0.45)
        plan["ids"] = self.int(2, 30) if self.chance(0.2) else 0
        plan["features"] = 0 if plan["ids"] else self.pick([1, 1, 2, 3, 5, 8])
        plan["rows"] = self.int(1, 4)
        plan["groups"] = self.int(1, 4) if stateful else 1
        plan["steps"] = self.int(1, 12)
        plan["dtype"] = None
        if self.chance(0.06):  # beyond one chunk of steps, or one group of rows
            plan["groups"] = 1
            plan["rows"], plan["steps"] = self.pick([(2, 200), (1, 310), (70, 9), (130, 3)])
        if self.chance(0.12):
            plan["dtype"] = self.pick(["mixed_float16", "mixed_bfloat16", "float64", "float16"])
        if self.narrow:
            plan["dtype"] = None
            if self.chance(0.4):
                plan["rows"], plan["steps"], plan["groups"] = self.int(1, 2), 100, 1
        plan["low"] = plan["dtype"] in ("mixed_float16", "mixed_bfloat16", "float16")
        if plan["low"]:
            plan["steps"] = min(plan["steps"], 3)
            plan["groups"] = min(plan["groups"], 2)

        layers = []
        if plan["ids"]:
            layers.append(("Embedding", dict(input_dim=plan["ids"], output_dim=self.int(1, 9))))
        elif self.chance(0.25):
            layers.append(self.other(True))
        count = 0 if self.chance(0.04) else self.pick([1, 1, 1, 2, 2, 3])
        if plan["low"]:
            count = min(count, 1)
        for k in range(count):
            layers.append(self.lstm(k == count - 1, stateful))
            if k < count - 1 and self.chance(0.25):
                layers.append(self.other(True))
        sequence = count == 0 or layers[-1][1]["return_sequences"]
        plan["port"] = 0  # of the last LSTM: what the layers behind it take; 1: h, 2: c
        if plan["functional"] and count and layers[-1][1].get("return_state"):
            plan["port"] = self.pick([0, 0, 0, 1, 2])
            sequence = sequence and not plan["port"]
        if not plan["ends_in_state"]:
            for _ in range(self.pick([0, 1, 1, 2])):
                layers.append(self.other(sequence))
        if not layers:
            layers.append(("Dense", dict(units=3)))
        named = self.chance(0.3)
        for k, (kind, args) in enumerate(layers):
            if named:
                args["name"] = self.pick(["a", "layer.", "Memory_", "out-"]) + str(k)
                if plan["keras"] == 2 and self.chance(0.2):
                    args["name"] = "part/" + args["name"]
        plan["layers"] = layers
        plan["stateful"] = any(a.get("stateful") for _, a in layers)
        if not plan["stateful"]:
            plan["groups"] = 1
        plan["input_on_layer"] = not plan["functional"] and self.chance(0.25)
        plan["int_input"] = self.chance(0.5)
        plan["compiled"] = self.chance(0.15)
        plan["fixed_batch"] = plan["stateful"] or self.chance(0.2)

        plan["outputs"] = [(len(layers) - 1, 0)]
        if plan["functional"]:
            choices = []
            for k, (kind, args) in enumerate(layers):
                choices.append((k, 0))
                if kind == "LSTM" and args.get("return_state"):
                    choices += [(k, 1), (k, 2)]
            last_is_used = [c for c in choices if c[0] == len(layers) - 1]
            extra = [c for c in choices if self.chance(0.3)]
            outputs = list(dict.fromkeys([self.pick(last_is_used), *extra]))
            self.rng.shuffle(outputs)
            plan["outputs"] = [tuple(int(v) for v in o) for o in outputs]
        elif plan["ends_in_state"]:
            plan["outputs"] = [(len(layers) - 1, p) for p in range(3)]
        return plan


def policy(K, name):
    if name is None:
        return {}
    if K is keras2:
        return {"dtype": keras2.mixed_precision.Policy(name)}
    return {"dtype": name}


def make_layer(K, plan, kind, args, first_shape=None):
    args = dict(args)
    args.update(policy(K, plan["dtype"]))
    if first_shape is not None:
        if K is keras2:
            args["batch_input_shape"] = first_shape
        else:
            args["input_shape"] = first_shape[1:]
    if kind == "TimeDistributed":
        outer = {k: args.pop(k) for k in ("name", "batch_input_shape", "input_shape", "dtype")
                 if k in args}
        inner = dict(args)
        if "dtype" in outer:
            inner["dtype"] = outer["dtype"]
        return K.layers.TimeDistributed(K.layers.Dense(**inner), **outer)
    return getattr(K.layers, kind)(**args)


def last_lstm(plan):
    return max((k for k, (kind, _) in enumerate(plan["layers"]) if kind == "LSTM"), default=None)


def input_shape(plan):
    batch = plan["rows"] if plan["fixed_batch"] else None
    time = plan["steps"] if plan["fixed_time"] else None
    return (batch, time) if plan["ids"] else (batch, time, plan["features"])


def input_dtype(plan):
    return "int32" if plan["ids"] and plan["int_input"] else None


def build(K, plan):
    shape = input_shape(plan)
    if not plan["functional"]:
        layers, first = [], None
        # Keras 3 takes no batch in a layer's arguments
        on_layer = plan["input_on_layer"] and (K is keras2 or not plan["fixed_batch"])
        if on_layer and plan["layers"][0][0] != "TimeDistributed":
            first = shape
        else:
            layers.append(K.Input(batch_shape=shape, dtype=input_dtype(plan)))
        for k, (kind, args) in enumerate(plan["layers"]):
            layers.append(make_layer(K, plan, kind, args, first if k == 0 else None))
        return K.Sequential(layers)
    x = K.Input(batch_shape=shape, dtype=input_dtype(plan))
    value, tensors = x, {}
    for k, (kind, args) in enumerate(plan["layers"]):
        y = make_layer(K, plan, kind, args)(value)
        if kind == "LSTM" and args.get("return_state"):
            for port, tensor in enumerate(y):
                tensors[k, port] = tensor
            value = y[plan["port"] if k == last_lstm(plan) else 0]
        else:
            value = tensors[k, 0] = y
    outputs = [tensors[o] for o in plan["outputs"]]
    return K.Model(x, outputs[0] if len(outputs) == 1 else outputs)


def build_explicit(K, plan, weights):
    """The same network, free in time and batch, with h and c of every LSTM as inputs and outputs."""
    # Keras 2 casts neither the input nor a state of an LSTM that is given one
    dtype = (plan["dtype"] or "float32").replace("mixed_", "") if K is keras2 else None
    if plan["ids"]:
        x = K.Input(batch_shape=(None, None), dtype=input_dtype(plan))
    else:
        x = K.Input(batch_shape=(None, None, plan["features"]), dtype=dtype)
    inputs, finals, tensors, value = [x], [], {}, x
    for k, (kind, args) in enumerate(plan["layers"]):
        args = dict(args)
        if "name" in args:
            args["name"] = args["name"].replace("/", "_")
        if kind != "LSTM":
            value = tensors[k, 0] = make_layer(K, plan, kind, args)(value)
            continue
        args.update(stateful=False, unroll=False, return_state=True)
        state = [K.Input(shape=(args["units"],), dtype=dtype) for _ in range(2)]
        y, h, c = make_layer(K, plan, kind, args)(value, initial_state=state)
        tensors[k, 0], tensors[k, 1], tensors[k, 2] = y, h, c
        value = (y, h, c)[plan["port"] if k == last_lstm(plan) else 0]
        inputs += state
        finals += [h, c]
    model = K.Model(inputs, [tensors[o] for o in plan["outputs"]] + finals)
    if weights is not None:
        model.set_weights(weights)
    return model


def randomise(model, rng, scale):
    weights = []
    for w in model.get_weights():
        fan = w.shape[0] if w.ndim == 2 else 4
        values = scale * (rng.standard_normal(w.shape) / np.sqrt(fan) +
                          0.1 * rng.uniform(-1, 2, w.shape))
        weights.append(values.astype(w.dtype))
    model.set_weights(weights)


def randomise_biases(model, rng):
    model.set_weights([w if w.ndim > 1 else rng.uniform(-0.1, 0.2, w.shape).astype(w.dtype) + w
                       for w in model.get_weights()])


def reset(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            (layer.reset_state if hasattr(layer, "reset_state") else layer.reset_states)()


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def as_f32(value):
    return np.asarray(value).astype(np.float32)


# ---- Keras, driven by hand -----------------------------------------------------------------------


class Explicit:
    """Keras fed row by row with explicit states: what every option of `carry run` must equal."""

    def __init__(self, K, plan, weights):
        self.plan = plan
        self.model = build_explicit(K, plan, weights)
        self.lstms = [k for k, (kind, _) in enumerate(plan["layers"]) if kind == "LSTM"]
        self.units = [plan["layers"][k][1]["units"] for k in self.lstms]

    def zeros(self, rows):
        return [np.zeros((rows, u), np.float32) for u in self.units for _ in range(2)]

    def call(self, x, state):
        fed = [tf.cast(v, i.dtype) for v, i in zip([x, *state], self.model.inputs)]
        outputs = as_list(self.model(fed, training=False))
        outputs = [as_f32(y) for y in outputs]
        count = len(self.plan["outputs"])
        return outputs[:count], outputs[count:]

    def has_time(self, output):
        layer, port = output
        if port or (self.plan["port"] and layer > last_lstm(self.plan)):
            return False
        return all(args["return_sequences"] for kind, args in self.plan["layers"][:layer + 1]
                   if kind == "LSTM")

    def row(self, x, state, steps):
        """One row of `steps` steps, outputs padded with zeros to the whole time axis."""
        total = x.shape[1]
        if steps == total:
            return self.call(x, state)
        if steps:
            outputs, state = self.call(x[:, :steps], state)
        else:
            outputs, _ = self.call(x[:, :1], state)
        padded = []
        for output, y in zip(self.plan["outputs"], outputs):
            if output[1]:
                if not steps:
                    y = state[2 * self.lstms.index(output[0]) + output[1] - 1]
            elif self.has_time(output):
                full = np.zeros((1, total, y.shape[2]), np.float32)
                full[:, :steps] = y[:, :steps]
                y = full
            elif not steps:
                y = np.zeros_like(y)
            padded.append(y)
        return padded, state

    def run(self, x, group, carries, steps=None, state=None, reset_every=None):
        """carries: for each LSTM, whether it goes on from group to group. Returns outputs, state."""
        state = [s.copy() for s in (state or self.zeros(group))]
        parts = []
        for g in range(len(x) // group):
            for k, carry in enumerate(carries):
                if g and (not carry or (reset_every and g % reset_every == 0)):
                    state[2 * k][:] = 0
                    state[2 * k + 1][:] = 0
            rows = slice(g * group, (g + 1) * group)
            if steps is None:
                outputs, state = self.call(x[rows], state)
            else:
                results = [self.row(x[r:r + 1], [s[i:i + 1] for s in state], int(steps[r]))
                           for i, r in enumerate(range(g * group, (g + 1) * group))]
                outputs = [np.concatenate(y) for y in zip(*[o for o, _ in results])]
                state = [np.concatenate(s) for s in zip(*[s for _, s in results])]
            state = [np.array(s) for s in state]
            parts.append(outputs)
        return [np.concatenate(y) for y in zip(*parts)], state


# ---- the command ---------------------------------------------------------------------------------


def write_safetensors(path, tensors):
    header, at, data = {}, 0, b""
    for name, value in tensors.items():
        raw = np.ascontiguousarray(value, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape),
                        "data_offsets": [at, at + len(raw)]}
        at, data = at + len(raw), data + raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    raw = path.read_bytes()
    size, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(raw[8 + size:][t["data_offsets"][0]:t["data_offsets"][1]],
                                "<f4").reshape(t["shape"]) for name, t in header.items()}


class Case:
    def __init__(self, carry, draw, folder, device=None, precision=None):
        self.carry, self.draw, self.folder = carry, draw, folder
        self.plan = draw.model()
        self.on = []  # what says where and how carry computes
        self.same_bits = device is None
        if device:
            self.on += ["--device", device]
            if precision != "tf32" and draw.how.random() < 0.5:
                self.on.append("--exact")
                self.same_bits = True
        if precision:
            self.on += ["--precision", precision]
        self.worst = 0.0
        self.commands = []

    # -- preparing

    def prepare(self):
        plan, draw = self.plan, self.draw
        self.K = keras3 if plan["keras"] == 3 else keras2
        self.K.backend.clear_session()
        self.model = build(self.K, plan)
        rows = plan["rows"] * plan["groups"]
        shape = (rows, plan["steps"]) + (() if plan["ids"] else (plan["features"],))
        self.x = (draw.rng.integers(0, plan["ids"], shape).astype(np.int32) if plan["ids"]
                  else draw.rng.standard_normal(shape).astype(np.float32))
        scale = 0.3 if plan["low"] else 0.6 if plan["unbounded"] else 1.0
        self.explicit = Explicit(self.K, plan, None)
        exact = Explicit(self.K, dict(plan, dtype="float64"), None)
        for _ in range(15):
            if draw.narrow:
                randomise_biases(self.model, draw.rng)
            else:
                randomise(self.model, draw.rng, scale)
            self.expected = self.predict()
            if self.is_fair(exact):
                break
            scale *= 0.6
        else:
            raise Failure("no weights make the drawn model a fair one")
        self.explicit.model.set_weights(self.model.get_weights())
        self.tolerance = 2e-2 if draw.narrow else 5e-3 if plan["low"] else 1e-5
        self.path = self.folder / ("model.h5" if plan["file"] == "h5" else "model.keras")
        if plan["compiled"]:
            self.model.compile(optimizer="adam", loss="mse")
        self.model.save(self.path)
        self.names = self.lstm_names(self.model)

    def is_fair(self, exact):
        """Keras' own float32 is near its float64: else the model's condition would be measured."""
        if not all(np.isfinite(y).all() and np.abs(y).max() < 50 for y in self.expected):
            return False
        if self.plan["low"]:
            return True
        exact.model.set_weights([w.astype(np.float64) for w in self.model.get_weights()])
        wanted, _ = exact.run(self.x, self.plan["rows"], self.declared())
        return all((np.abs(a - b) <= 2e-6 * np.maximum(1, np.abs(b))).all()
                   for a, b in zip(self.expected, wanted))

    def predict(self):
        reset(self.model)
        outputs = as_list(self.model.predict(self.x, batch_size=self.plan["rows"], verbose=0))
        return [as_f32(y) for y in outputs]

    @staticmethod
    def lstm_names(model):
        return [layer.name for layer in model.layers if type(layer).__name__ == "LSTM"]

    # -- running

    def run(self, arguments, ok=True):
        on = self.on if arguments[0] in ("run", "info") else []
        command = [str(self.carry), *[str(a) for a in arguments], *on]
        self.commands.append(" ".join(command))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if ok and done.returncode:
            raise Failure(f"exit {done.returncode}: {done.stderr.strip()}")
        return done

    def save_input(self):
        """X in one of the forms that mean the same."""
        draw, plan, x = self.draw, self.plan, self.x
        if plan["ids"]:
            x = x.astype(draw.pick(["<i4", "<i8", "<u2", ">i4", "<f4", "u1", "<f8"]))
            if draw.chance(0.25):
                x = x[:, :, None]
            if len(x) == 1 and x.ndim == 2 and draw.chance(0.3):
                x = x[0]
        else:
            x = x.astype(draw.pick(["<f4", "<f4", ">f4", "<f8", ">f8"]))
            if plan["features"] == 1 and draw.chance(0.4):
                x = x[:, :, 0]
                if len(x) == 1 and draw.chance(0.4):
                    x = x[0]
            elif len(x) == 1 and plan["features"] > 1 and draw.chance(0.3):
                x = x[0]
        if draw.chance(0.25):
            x = np.asfortranarray(x)
        np.save(self.folder / "x.npy", x)
        return self.folder / "x.npy"

    def run_outputs(self, *arguments, model=None):
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        y = self.folder / "y.npy"
        threads = ["--threads", self.draw.pick([1, 2])] if self.draw.chance(0.5) else []
        self.run(["run", model or self.path, "--input", self.save_input(), "--output", y,
                  "--output-all", out, *threads, *arguments])
        names = self.output_names()
        found = sorted(p.name for p in out.iterdir())
        wanted = sorted(f"{i}_{n.replace('/', '_')}.npy" for i, n in enumerate(names))
        if found != wanted:
            raise Failure(f"--output-all wrote {found}, expected {wanted}")
        outputs = [np.load(out / f"{i}_{n.replace('/', '_')}.npy") for i, n in enumerate(names)]
        if outputs[0].tobytes() != np.load(y).tobytes():
            raise Failure("--output and --output-all differ in output 0")
        return outputs

    def output_names(self):
        names = [layer.name for layer in self.model.layers
                 if type(layer).__name__ != "InputLayer"]
        return [names[layer] for layer, _ in self.plan["outputs"]]

    def compare(self, got, wanted, what):
        if len(got) != len(wanted):
            raise Failure(f"{what}: {len(got)} outputs, expected {len(wanted)}")
        for i, (a, b) in enumerate(zip(got, wanted)):
            if a.dtype != np.float32:
                raise Failure(f"{what}: output {i} is {a.dtype}")
            if a.shape != b.shape:
                raise Failure(f"{what}: output {i} is {list(a.shape)}, expected {list(b.shape)}")
            error = np.abs(a.astype(np.float64) - b) / np.maximum(1, np.abs(b))
            worst = float(error.max(initial=0))
            if not worst <= self.tolerance:
                raise Failure(f"{what}: output {i} is wrong by {worst:.3g}")
            if not self.plan["low"]:
                self.worst = max(self.worst, worst)

    # -- what is checked

    def check_predict(self):
        batch = []
        if not self.plan["stateful"] and self.draw.chance(0.3):
            batch = ["--batch-size", self.draw.int(1, 5)]
        self.compare(self.run_outputs(*batch), self.expected, "predict")
        carries = self.declared()
        wanted, _ = self.explicit.run(self.x, self.plan["rows"], carries)
        try:
            self.compare(wanted, self.expected, "reference")
        except Failure as failure:
            raise Failure(f"Keras disagrees with itself: {failure}") from None

    def declared(self):
        return [bool(a.get("stateful")) for kind, a in self.plan["layers"] if kind == "LSTM"]

    def state_tensors(self, state, keep):
        return {f"{name}/{'hc'[p]}": state[2 * k + p] for k, name in enumerate(self.names)
                for p in range(2) if keep[k]}

    def check_options(self):
        """One random combination of options against Keras driven by hand."""
        draw, plan = self.draw, self.plan
        arguments, rows = [], len(self.x)
        carries, stateful = self.declared(), plan["stateful"]
        if self.explicit.lstms and draw.chance(0.3):
            if draw.chance(0.5):
                arguments.append("--stateful")
                stateful, carries = True, [True] * len(carries)
            else:
                arguments.append("--stateless")
                stateful, carries = False, [False] * len(carries)
        group = plan["rows"] if plan["fixed_batch"] else rows
        if stateful and draw.chance(0.4):
            group = draw.pick([d for d in range(1, rows + 1) if rows % d == 0])
            arguments += ["--batch-size", group]
        if not stateful:
            group = rows
        keep = carries if stateful else [True] * len(carries)

        steps = None
        if draw.chance(0.4):
            steps = draw.rng.integers(0, plan["steps"] + 1, rows)
            np.save(self.folder / "steps.npy", steps.astype(draw.pick(["<i4", "<i8", "<u2"])))
            arguments += ["--steps", self.folder / "steps.npy"]
        reset_every = None
        if stateful and draw.chance(0.4):
            reset_every = draw.int(1, 3)
            arguments += ["--reset-every", reset_every]
        state = self.explicit.zeros(group)
        if any(keep) and draw.chance(0.5):
            for k, kept in enumerate(keep):
                for p in range(2):
                    if kept:
                        state[2 * k + p] = draw.rng.uniform(
                            -0.9, 0.9, state[2 * k + p].shape).astype(np.float32)
            tensors = self.state_tensors(state, keep)
            write_safetensors(self.folder / "in.safetensors", tensors)
            arguments += ["--state-in", self.folder / "in.safetensors"]
        state_out = None
        if any(keep) and draw.chance(0.6):
            state_out = self.folder / "out.safetensors"
            state_out.unlink(missing_ok=True)
            arguments += ["--state-out", state_out]
        if not plan["backwards"] and draw.chance(0.4):
            arguments += ["--chunk", draw.int(1, plan["steps"] + 2)]

        wanted, final = self.explicit.run(self.x, group, carries, steps, state, reset_every)
        if not all(np.isfinite(y).all() and np.abs(y).max(initial=0) < 50
                   for y in [*wanted, *final]):
            return  # the drawn states made an unbounded activation explode
        self.compare(self.run_outputs(*arguments), wanted, "options")
        if state_out:
            tensors = read_safetensors(state_out)
            expected = self.state_tensors(final, keep)
            if sorted(tensors) != sorted(expected):
                raise Failure(f"--state-out has {sorted(tensors)}, expected {sorted(expected)}")
            names = sorted(expected)
            self.compare([tensors[n] for n in names], [expected[n] for n in names], "--state-out")

    def check_same_bits(self):
        """A converted file and any chunk give the very same bits (a chunk where that is promised)."""
        first = self.run_outputs()
        converted = self.folder / "converted.carry"
        self.run(["convert", self.path, converted])
        arguments = []
        if not self.plan["backwards"]:
            arguments = ["--chunk", self.draw.int(1, self.plan["steps"])]
        second = self.run_outputs(*arguments, model=converted)
        if not self.same_bits and arguments:
            self.compare(second, first, "converted and cut")
            return
        for i, (a, b) in enumerate(zip(first, second)):
            if a.tobytes() != b.tobytes():
                raise Failure(f"output {i} has other bits: converted, {arguments}")

    def check_info(self):
        info = json.loads(self.run(["info", self.path, "--json"]).stdout)
        layers = [x for x in self.model.layers if type(x).__name__ != "InputLayer"]

        def same(what, got, wanted):
            if got != wanted:
                raise Failure(f"info: {what} is {got}, expected {wanted}")

        def shape_of(value):
            if value and isinstance(value[0], (list, tuple)):
                return [list(v) for v in value]
            return list(value)

        same("format", info["format"], "keras-h5" if self.plan["file"] == "h5" else "keras")
        same("parameters", info["parameters"], self.model.count_params())
        same("weight_bytes", info["weight_bytes"], 4 * self.model.count_params())
        same("whole_sequence", info["whole_sequence"], self.plan["backwards"])
        same("layers", [x["name"] for x in info["layers"]], [x.name for x in layers])
        same("inputs", [x["shape"] for x in info["inputs"]],
             [list(x.shape) for x in self.model.inputs])
        same("outputs", [x["shape"] for x in info["outputs"]],
             [list(x.shape) for x in self.model.outputs])
        for entry, layer in zip(info["layers"], layers):
            name = layer.name
            same(f"{name} class", entry["class"], type(layer).__name__)
            same(f"{name} parameters", entry["parameters"], layer.count_params())
            if self.K is keras2:
                wanted = shape_of(layer.output_shape)
            else:
                output = layer.output
                wanted = (list(output.shape) if not isinstance(output, (list, tuple))
                          else [list(o.shape) for o in output])
            same(f"{name} output_shape", entry["output_shape"], wanted)
            same(f"{name} weights", [w["shape"] for w in entry["weights"]],
                 [list(w.shape) for w in layer.get_weights()])
        state = [(n, t, [u]) for n, u in zip(self.names, self.explicit.units) for t in "hc"]
        same("state", [(s["layer"], s["tensor"], s["shape"]) for s in info["state"]], state)
        same("state_bytes_per_sequence", info["state_bytes_per_sequence"],
             sum(8 * u for u in self.explicit.units))

    def check(self):
        self.prepare()
        self.check_info()
        self.check_predict()
        for _ in range(3):
            self.check_options()
        self.check_same_bits()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("carry", type=pathlib.Path)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="index of the first model")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where carry runs")
    parser.add_argument("--precision", choices=["tf32", "bf16", "fp16"],
                        help="what carry computes products in")
    parser.add_argument("--keep", type=pathlib.Path, help="keep the files of failed models here")
    options = parser.parse_args()
    carry = options.carry.resolve()

    passed, failed, worst = 0, 0, 0.0
    for index in range(options.first, options.first + options.models):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="compare_keras_"))
        draw = Draw(options.seed, index, narrow=options.precision is not None)
        case = Case(carry, draw, folder, options.device, options.precision)
        try:
            case.check()
            passed += 1
            worst = max(worst, case.worst)
        except Exception as failure:  # Keras' own exceptions too: such a model has not passed
            failed += 1
            print(f"model {index} FAILED: {type(failure).__name__}: {failure}\n    plan {case.plan}\n"
                  f"    last {case.commands[-1] if case.commands else '(none)'}", flush=True)
            if options.keep:
                shutil.copytree(folder, options.keep / str(index), dirs_exist_ok=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if (index + 1) % 25 == 0:
            print(f"{index + 1 - options.first} models: {passed} passed, {failed} failed",
                  flush=True)
    print(f"{passed} passed, {failed} failed, worst error {worst:.3g}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
