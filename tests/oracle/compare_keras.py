#!/usr/bin/env python3
"""Compares `carry` with Keras on random models that are not in the repository.

    python tests/oracle/compare_keras.py CARRY [--models N] [--seed S] [--first I] [--keep DIR]
                                         [--rare] [--device cuda] [--precision tf32|bf16|fp16]

CARRY is the built command. Each model is drawn from (seed, index): Sequential or Functional, Keras 3 or
Keras 2 (tf-keras), .keras or .h5, every supported layer with every argument varied. For each one

  * `carry run` must equal model.predict(X, batch_size=S), group after group where it is stateful;
  * runs with --steps, --reset-every, --batch-size, --stateful, --stateless, --chunk, --state-in and
    --state-out must equal Keras fed row by row with explicit states;
  * `carry info --json` must equal what model.summary() shows;
  * a converted file must give the same bits.

|error| <= 1e-5 max(1, |y|) against Keras in float32; a model that Keras computes in float16 or bfloat16 is
held to its own float32 so, and to its low precision by 5e-3. What is over a limit is put to an arbiter that
nobody here wrote: the same weights in Keras with dtype float64 (README.md). With --device cuda half of the
models run with --exact; the others may change bits with a cut. With --precision the models have weights at
Keras' own scale, bounded activations and up to 100 steps, and |error| <= 2e-2 max(1, |y|), without an arbiter.
The last line counts; the exit status is 0 only when nothing failed and nothing is "beyond float32". Needs
tensorflow, keras 3, tf-keras.
"""

import argparse
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

from random_models import (Draw, as_list, build, build_explicit, keras2, keras3, last_lstm, randomise,
                           randomise_biases, reset, structure, tf)
from rare_models import Rare

LIMIT = 1e-5  # of |error| / max(1, |y|) in float32
LOW_LIMIT = 5e-3  # where Keras computes in float16 or bfloat16
NARROW_LIMIT = 2e-2  # where carry computes products in tf32, bf16 or fp16
BEYOND = 3  # times what half an ulp in the weights moves: as far as float32 may be from float64 there


class Failure(Exception):
    pass


def small(arrays):
    return all(np.isfinite(y).all() and np.abs(y).max(initial=0) < 50 for y in arrays)


def distance(a, b):
    """Largest |a - b| / max(1, |b|); infinite where only one of them is a number."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b) / np.maximum(1, np.abs(b))
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return float(np.nan_to_num(error, nan=np.inf, posinf=np.inf).max(initial=0))


# ---- Keras, driven by hand -----------------------------------------------------------------------


class Explicit:
    """Keras fed row by row with explicit states: what every option of `carry run` must equal."""

    def __init__(self, K, plan, weights, dtype):
        self.plan = plan = dict(plan, dtype=dtype)
        self.number = np.float64 if dtype == "float64" else np.float32
        self.model = build_explicit(K, plan, [w.astype(self.number) for w in weights]
                                    if dtype in ("float32", "float64") else weights)
        self.lstms = [k for k, (kind, _) in enumerate(plan["layers"]) if kind == "LSTM"]
        self.units = [plan["layers"][k][1]["units"] for k in self.lstms]

    def zeros(self, rows):
        return [np.zeros((rows, u), self.number) for u in self.units for _ in range(2)]

    def call(self, x, state):
        fed = [tf.cast(v, i.dtype) for v, i in zip([x, *state], self.model.inputs)]
        outputs = as_list(self.model(fed, training=False))
        outputs = [np.asarray(y).astype(self.number) for y in outputs]
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
                full = np.zeros((1, total, y.shape[2]), self.number)
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
    def __init__(self, carry, draw, folder, device, precision):
        self.carry, self.draw, self.folder = carry, draw, folder
        self.plan = draw.model()
        self.on = ["--device", device]  # what says where and how carry computes
        self.same_bits = device == "cpu"  # whatever the cut
        if precision:
            self.on += ["--precision", precision]
        if device != "cpu" and precision != "tf32" and draw.how.random() < 0.5:
            self.on.append("--exact")
            self.same_bits = True
        self.environment = dict(os.environ)
        if self.plan.get("isa"):
            self.environment["CARRY_ISA"] = self.plan["isa"]
        self.limit = NARROW_LIMIT if draw.narrow else LIMIT
        self.worst = 0.0
        self.inexact = []  # comparisons in which Keras, not carry, was over a limit: sentences
        self.beyond = []  # those in which neither can be held to it
        self.left_out = 0  # runs with options in which Keras itself did not stay finite
        self.others = {}  # Explicit of other dtypes
        self.commands = []

    # -- preparing

    def prepare(self):
        plan = self.plan
        self.K = keras3 if plan["keras"] == 3 else keras2
        while not self.weigh():
            # gates that weights near 0 do not bring near 0: log_softmax of n zeros is -log n
            if plan["steps"] == 1:
                raise Failure("the drawn model does not stay finite")
            plan["steps"] //= 2
        self.explicit = Explicit(self.K, plan, self.model.get_weights(), plan["dtype"])
        if plan["compiled"]:
            self.model.compile(optimizer="adam", loss="mse")
        if plan.get("trained"):
            self.train()
        self.path = self.folder / ("model.h5" if plan["file"] == "h5" else "model.keras")
        self.model.save(self.path)
        if plan.get("saved_again"):
            again = self.K.models.load_model(self.path, compile=False)
            self.path = self.folder / f"again.{plan['saved_again']}"
            again.save(self.path)
        self.format = "keras-h5" if self.path.suffix == ".h5" else "keras"
        if plan.get("file_name"):
            self.path = self.path.rename(self.folder / plan["file_name"])
        self.names = self.lstm_names(self.model)

    def weigh(self):
        """The model, its input, weights and answers; False if no weights keep these finite and below 50."""
        plan, draw = self.plan, self.draw
        self.K.backend.clear_session()
        self.K.utils.set_random_seed(draw.initial)  # the weights Keras begins with, where they stay
        self.model = build(self.K, plan)
        self.x = self.input(plan["rows"] * plan["groups"], plan["steps"], draw.rng)
        scale = 0.3 if plan["low"] else 0.6 if plan["unbounded"] else 1.0
        for _ in range(15):
            if draw.narrow:
                randomise_biases(self.model, draw.rng)
            else:
                randomise(self.model, draw.rng, scale)
            self.expected = self.predict(self.model)
            self.others = {}
            if small(self.expected) and self.in_float32(self.predict_again):
                return True
            scale *= 0.6
        return False

    def in_float32(self, again):
        """Whether float32 holds what float64 layers can."""
        wide = {self.plan["dtype"], *[args.get("dtype") for _, args in self.plan["layers"]]}
        return "float64" not in wide or small(again(self.other("float32")))

    def input(self, rows, steps, rng):
        plan = self.plan
        shape = (rows, steps) + (() if plan["ids"] else (plan["features"],))
        if plan["ids"]:
            return rng.integers(0, plan["ids"], shape).astype(np.int32)
        if plan.get("whole_numbers"):
            return rng.integers(-3, 4, shape).astype(np.float32)
        return rng.standard_normal(shape).astype(np.float32)

    def train(self):
        """On one batch at a rate of 0: the weights stay, the optimizer has its variables."""
        weights, plan = self.model.get_weights(), self.plan
        x = self.x[:plan["rows"]]
        wanted = structure(plan, [np.zeros_like(y[:plan["rows"]]) for y in self.expected])
        self.model.compile(optimizer=self.K.optimizers.Adam(0.0),
                           loss=tf.nest.map_structure(lambda _: "mse", wanted))
        self.model.train_on_batch(x, wanted)
        self.model.set_weights(weights)
        reset(self.model)

    def other(self, dtype):
        """The same model and weights in Keras at another precision."""
        if dtype not in self.others:
            self.others[dtype] = Explicit(self.K, self.plan, self.model.get_weights(), dtype)
        return self.others[dtype]

    def predict(self, model):
        reset(model)
        outputs = as_list(model.predict(self.x, batch_size=self.plan["rows"], verbose=0))
        return [np.asarray(y).astype(np.float64) for y in outputs]  # bfloat16 is not NumPy's

    @staticmethod
    def lstm_names(model):
        return [layer.name for layer in model.layers if type(layer).__name__ == "LSTM"]

    # -- running

    def run(self, arguments, ok=True):
        on = self.on if arguments[0] in ("run", "info") else []
        command = [str(self.carry), *[str(a) for a in arguments], *on]
        self.commands.append(" ".join(command))
        done = subprocess.run(command, capture_output=True, text=True, timeout=120,
                              env=self.environment)
        if ok and done.returncode:
            raise Failure(f"exit {done.returncode}: {done.stderr.strip()}")
        return done

    def save_input(self, x):
        """X in one of the forms that mean the same."""
        draw, plan = self.draw, self.plan
        if plan["ids"]:
            x = x.astype(draw.pick(["<i4", "<i8", "<u2", ">i4", "<f4", "u1", "<f8"]))
            if draw.chance(0.25):
                x = x[:, :, None]
            if len(x) == 1 and x.ndim == 2 and draw.chance(0.3):
                x = x[0]
        else:
            types = ["<f4", "<f4", ">f4", "<f8", ">f8"]
            if plan.get("whole_numbers"):
                types = ["i1", ">i2", "<i4", ">i8", "<f2", ">f2", "<f4"]
            x = x.astype(draw.pick(types))
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

    def run_outputs(self, *arguments, model=None, x=None):
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        y = self.folder / "y.npy"
        threads = ["--threads", self.draw.pick([1, 2])] if self.draw.chance(0.5) else []
        given = self.save_input(self.x if x is None else x)
        self.run(["run", model or self.path, "--input", given, "--output", y, "--output-all", out,
                  *threads, *arguments])
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

    def compare(self, got, wanted, what, again):
        """again(explicit): the outputs of the same operation from Keras at another precision."""
        if len(got) != len(wanted):
            raise Failure(f"{what}: {len(got)} outputs, expected {len(wanted)}")
        for i, (a, b) in enumerate(zip(got, wanted)):
            if a.dtype != np.float32:
                raise Failure(f"{what}: output {i} is {a.dtype}")
            if a.shape != b.shape:
                raise Failure(f"{what}: output {i} is {list(a.shape)}, expected {list(b.shape)}")
        if self.plan["low"]:
            single = again(self.other("float32"))
            for i, (a, low, b) in enumerate(zip(got, wanted, single)):
                self.judge_low(a, low, b, f"{what}: output {i}")
            wanted = single
        for i, (a, b) in enumerate(zip(got, wanted)):
            error = distance(a, b)
            if error <= self.limit:
                self.worst = max(self.worst, error)
            elif self.draw.narrow:
                raise Failure(f"{what}: output {i}: |carry - Keras| {error:.3g}")
            else:
                self.judge(a, error, again, i, f"{what}: output {i}")

    def judge_low(self, got, low, single, what):
        """Beyond the limit of low precision: excused where Keras' own rounding is beyond it."""
        error, rounding = distance(got, low), distance(low, single)
        if error <= LOW_LIMIT:
            return
        says = (f"{what}: |carry - {self.plan['dtype']}| {error:.3g}, "
                f"|{self.plan['dtype']} - float32| {rounding:.3g}, "
                f"|carry - float32| {distance(got, single):.3g}")
        if rounding <= LOW_LIMIT:
            raise Failure(says)
        self.inexact.append(says)

    def judge(self, got, error, again, i, what):
        """Over the limit in float32: whoever is farther from float64 is wrong. Not passed, but told apart,
        where float64 itself does not stand still when the weights move by less than float32 can tell."""
        exact, single = again(self.other("float64"))[i], again(self.other("float32"))[i]
        ours, keras = distance(got, exact), distance(single, exact)
        says = (f"{what}: |carry - Keras| {error:.3g}, |carry - float64| {ours:.3g}, "
                f"|float32 - float64| {keras:.3g}")
        if np.isfinite(ours) and (ours <= LIMIT < keras or ours <= keras):
            self.inexact.append(says)
            return
        moved = self.condition(again, i, exact)
        says += f"; half an ulp in the weights moves float64 by {moved:.3g}"
        if not (moved > LIMIT and ours <= BEYOND * moved):
            raise Failure(says)
        self.beyond.append(says)

    def condition(self, again, i, exact):
        """How far Keras' float64 moves when every weight moves by half a float32 ulp: of 16 draws the
        most."""
        weights, moved = self.model.get_weights(), 0.0
        rng = np.random.default_rng(16)  # what is drawn after this stays the same
        for _ in range(16):
            drawn = [w * (1 + rng.choice([-1, 1], w.shape) * 2.0 ** -24) for w in weights]
            moved = max(moved, distance(again(Explicit(self.K, self.plan, drawn, "float64"))[i], exact))
        return moved

    # -- what is checked

    def check_predict(self):
        batch = []
        if not self.plan["stateful"] and self.draw.chance(0.3):
            batch = ["--batch-size", self.draw.int(1, 5)]
        self.compare(self.run_outputs(*batch), self.expected, "predict", self.predict_again)
        # and the explicit driving below means what predict does
        again = self.predict_again
        error = max(map(distance, again(self.explicit), self.expected))
        if error > (LOW_LIMIT if self.plan["low"] else LIMIT):
            model = build(self.K, dict(self.plan, dtype="float64"))
            model.set_weights([w.astype(np.float64) for w in self.model.get_weights()])
            exact = max(map(distance, again(self.other("float64")), self.predict(model)))
            says = f"Keras against itself: {error:.3g}, in float64 {exact:.3g}"
            if exact > LIMIT:
                raise Failure(says)
            self.inexact.append(says)

    def predict_again(self, explicit):
        return explicit.run(self.x, self.plan["rows"], self.declared())[0]

    def declared(self):
        return [bool(a.get("stateful")) for kind, a in self.plan["layers"] if kind == "LSTM"]

    def state_tensors(self, state, keep):
        return {f"{name}/{'hc'[p]}": state[2 * k + p] for k, name in enumerate(self.names)
                for p in range(2) if keep[k]}

    def check_options(self):
        """One random combination of options against Keras driven by hand."""
        draw, plan, x = self.draw, self.plan, self.x
        if plan.get("rare") and draw.maybe(0.4):  # T may differ from the file's
            x = self.input(len(x), draw.number(1, min(2 * plan["steps"], 40)), draw.drawn)
        arguments, rows, total = [], len(x), x.shape[1]
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
            steps = draw.rng.integers(0, total + 1, rows)
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
            arguments += ["--chunk", draw.int(1, total + 2)]

        def drive(explicit):
            return explicit.run(x, group, carries, steps, state, reset_every)

        wanted, final = drive(self.explicit)
        if not small([*wanted, *final]) or \
                not self.in_float32(lambda e: [y for part in drive(e) for y in part]):
            self.left_out += 1  # the drawn states made an unbounded activation explode
            return
        self.compare(self.run_outputs(*arguments, x=x), wanted, "options", lambda e: drive(e)[0])
        if state_out:
            tensors = read_safetensors(state_out)
            expected = self.state_tensors(final, keep)
            if sorted(tensors) != sorted(expected):
                raise Failure(f"--state-out has {sorted(tensors)}, expected {sorted(expected)}")
            def states(final):
                expected = self.state_tensors(final, keep)
                return [expected[n] for n in sorted(expected)]

            self.compare([tensors[n] for n in sorted(tensors)], states(final), "--state-out",
                         lambda e: states(drive(e)[1]))

    def check_same_bits(self):
        """A converted file and any chunk give the very same bits (a chunk where that is promised)."""
        first = self.run_outputs()
        converted = self.folder / "converted.carry"
        self.run(["convert", self.path, converted])
        arguments = []
        if not self.plan["backwards"]:
            arguments = ["--chunk", self.draw.int(1, self.plan["steps"])]
        second = self.run_outputs(*arguments, model=converted)
        if arguments and not self.same_bits:
            self.compare(second, self.expected, "converted and cut", self.predict_again)
            return
        for i, (a, b) in enumerate(zip(first, second)):
            if a.tobytes() != b.tobytes():
                raise Failure(f"output {i} has other bits: converted, {arguments}")
        if self.plan.get("rare") and self.same_bits and self.x.shape[1] > 1 and self.explicit.lstms and \
                not self.plan["backwards"]:
            self.check_two_files(converted)

    def check_two_files(self, converted):
        """What the file computes from the start and the converted one from the state that it leaves, are the
        bits of one run."""
        state, at = self.folder / "between.safetensors", self.draw.number(1, self.x.shape[1] - 1)
        whole = self.run_outputs("--stateless")
        first = self.run_outputs("--stateless", "--state-out", state, x=self.x[:, :at])
        second = self.run_outputs("--stateless", "--state-in", state, x=self.x[:, at:], model=converted)
        for i, (output, y, a, b) in enumerate(zip(self.plan["outputs"], whole, first, second)):
            both = np.concatenate([a, b], axis=1) if self.explicit.has_time(output) else b
            if both.tobytes() != y.tobytes():
                raise Failure(f"output {i} has other bits: cut after step {at}, between two files")

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

        same("format", info["format"], self.format)
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
    parser.add_argument("--rare", action="store_true", help="rarer forms too (rare_models.py)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where carry runs")
    parser.add_argument("--precision", choices=["tf32", "bf16", "fp16"],
                        help="what carry computes products in")
    parser.add_argument("--keep", type=pathlib.Path, help="keep the files of failed models here")
    options = parser.parse_args()
    if options.precision and options.device != "cuda":
        parser.error("--precision needs --device cuda")
    carry = options.carry.resolve()

    counts = dict.fromkeys(["passed", "inexact", "beyond", "failed"], 0)
    left_out, worst = 0, 0.0

    def count():
        return (f"{counts['passed']} passed, {counts['inexact']} with Keras the inexact side, "
                f"{counts['beyond']} beyond float32, {counts['failed']} failed")

    for index in range(options.first, options.first + options.models):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="compare_keras_"))
        draw = (Rare if options.rare else Draw)(options.seed, index, narrow=options.precision is not None)
        case = Case(carry, draw, folder, options.device, options.precision)
        try:
            case.check()
            verdict = "beyond" if case.beyond else "inexact" if case.inexact else "passed"
            if verdict != "passed":
                print(f"model {index}: {'beyond float32' if case.beyond else 'Keras is inexact'}",
                      flush=True)
        except Exception as failure:  # Keras' own exceptions too: such a model has not passed
            verdict = "failed"
            print(f"model {index} FAILED: {type(failure).__name__}: {failure}\n    plan {case.plan}\n"
                  f"    last {case.commands[-1] if case.commands else '(none)'}", flush=True)
            if options.keep:
                shutil.copytree(folder, options.keep / str(index), dirs_exist_ok=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        counts[verdict] += 1
        for says in case.inexact + case.beyond:
            print(f"    {says}", flush=True)
        worst = max(worst, case.worst)
        left_out += case.left_out
        if (index + 1) % 25 == 0:
            print(f"{index + 1 - options.first} models: {count()}; {worst:.3g}", flush=True)
    print(f"{count()}; worst error of what is within the limit {worst:.3g}; {left_out} runs with options "
          "left out, not finite in Keras")
    return 1 if counts["failed"] or counts["beyond"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
