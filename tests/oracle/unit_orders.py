#!/usr/bin/env python3
"""How far carry and Keras in float32 are from float64 when a model's units are listed in other orders.

    python tests/oracle/unit_orders.py CARRY --seed S --model I [--rare] [--orders N] [--rows N]
                                       [--device cuda]

Model I of seed S is drawn as compare_keras.py draws it. With the units of its layers in another order it is
the same function of other roundings, so N orders of N rows of input are a sample of the errors of both
sides. Every row starts from zeros; rows in which an output of the model passes 50 are left out. Of
max |error| / max(1, |y|) in a row, one line for each output of each layer:

    whole    the layer where it stands, behind the errors of the layers before it
    alone    an LSTM by itself, fed what the layers before it return in float64: its own errors
    lasting  the same of the error's mean over the orders: what no order changes, such as the rounding of
             the input's own products in the first step, or a function that is off
    ratio    carry's median over the orders to Keras' in the same row: of all rows the median
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from compare_keras import Case, Explicit
from random_models import Draw, build
from rare_models import Rare


def every_output(plan):
    """The plan without fixed rows and without memory, that returns every output of every layer."""
    layers, outputs = [], []
    for k, (kind, args) in enumerate(plan["layers"]):
        args = {name: value for name, value in args.items() if name not in ("stateful", "name", "dtype")}
        outputs.append((k, 0))
        if kind == "LSTM":
            args["return_state"] = True
            outputs += [(k, 1), (k, 2)]
        layers.append((kind, args))
    return dict(plan, layers=layers, outputs=outputs, functional=True, fixed_batch=False,
                stateful=False, ends_in_state=False, dtype=None, outputs_as=None, inner_input=False,
                input_dtype="int32" if plan["ids"] else None)


def only(plan, k, features):
    """Layer k of it as a model."""
    return every_output(dict(plan, layers=[plan["layers"][k]], features=features, ids=0, port=0))


def weights_of(plan, weights, k):
    counts = [{"LSTM": 2, "Dense": 1, "TimeDistributed": 1, "Embedding": 1}.get(kind, 0) +
              (kind not in ("Embedding", "Activation", "Dropout") and args.get("use_bias", True))
              for kind, args in plan["layers"]]
    return weights[sum(counts[:k]):sum(counts[:k + 1])]


def reordered(plan, weights, rng):
    """Weights of the same function with the units of every layer in another order; the orders."""
    weights, result, order, orders = list(weights), [], slice(None), []
    for kind, args in plan["layers"]:
        if kind in ("LSTM", "Dense", "TimeDistributed"):
            before, order = order, rng.permutation(args["units"])
            blocks = range(4 if kind == "LSTM" else 1)
            columns = np.concatenate([order + b * len(order) for b in blocks])
            result.append(weights.pop(0)[before][:, columns])
            if kind == "LSTM":
                result.append(weights.pop(0)[order][:, columns])
            if args.get("use_bias", True):
                result.append(weights.pop(0)[columns])
        elif kind == "Embedding":
            order = rng.permutation(args["output_dim"])
            result.append(weights.pop(0)[:, order])
        orders.append(order)
    return result, orders


class Sample:
    """Errors of both sides, for each output, over the orders of one plan."""

    def __init__(self, K, plan, weights, x, run, counted):
        self.K, self.plan, self.weights, self.x, self.run = K, plan, weights, x, run
        explicit = Explicit(K, plan, weights, "float64")
        self.exact, _ = explicit.call(x, explicit.zeros(len(x)))
        small = [self.of_rows(y, np.max) < 50 for y, output in zip(self.exact, plan["outputs"])
                 if output in counted]  # NaN is not
        self.kept = np.all([np.ones(len(x), bool), *small], axis=0)

    @staticmethod
    def of_rows(y, what):
        return what(np.abs(y).reshape(len(y), -1), axis=1)

    def draw(self, orders, rng):
        self.errors = {"carry": [], "Keras": []}
        for _ in range(orders):
            weights, units = reordered(self.plan, self.weights, rng)
            explicit = Explicit(self.K, self.plan, weights, "float32")
            keras, _ = explicit.call(self.x, explicit.zeros(len(self.x)))
            model = build(self.K, self.plan)
            model.set_weights(weights)
            for side, outputs in (("carry", self.run(model, self.x)), ("Keras", keras)):
                self.errors[side].append([self.error(y, units[k], i) for i, (y, (k, _)) in
                                          enumerate(zip(outputs, self.plan["outputs"]))])

    def error(self, y, order, i):
        """Signed, per element, in the units' own order, of the rows that count."""
        exact = self.exact[i]
        back = np.empty_like(y)
        back[..., order] = y
        return ((back.astype(np.float64) - exact) / np.maximum(1, np.abs(exact)))[self.kept]

    def lines(self, what, first=0):
        for i, (k, port) in enumerate(self.plan["outputs"]):
            numbers, in_rows = [np.median(self.of_rows(self.exact[i], np.max)[self.kept])], []
            for side in ("carry", "Keras"):
                e = np.stack([errors[i] for errors in self.errors[side]])  # [orders, rows, ...]
                e = e.reshape(*e.shape[:2], -1)
                largest = np.abs(e).max(2)
                numbers += [np.median(largest), np.percentile(largest, 90), largest.max(),
                            np.median(np.abs(e.mean(0)).max(1))]
                in_rows.append(np.median(largest, axis=0))
            with np.errstate(invalid="ignore", divide="ignore"):
                numbers.append(np.nanmedian(in_rows[0] / in_rows[1]))
            kind = self.plan["layers"][k][0]
            print(f"{what:6} {first + k} {kind:16.16} {'yhc'[port]}",
                  *[f"{n:9.2e}" for n in numbers])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("carry", type=pathlib.Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--model", type=int, required=True)
    parser.add_argument("--rare", action="store_true", help="as compare_keras.py draws it with --rare")
    parser.add_argument("--orders", type=int, default=64)
    parser.add_argument("--rows", type=int, default=64, help="drawn inputs; the model's own come first")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where carry runs")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="unit_orders_"))

    def run(model, x):
        shutil.rmtree(folder / "out", ignore_errors=True)
        model.save(folder / "model.keras")
        np.save(folder / "x.npy", x)
        subprocess.run([options.carry, "run", folder / "model.keras", "--stateless", "--device",
                        options.device, "--input", folder / "x.npy", "--output-all", folder / "out"],
                       check=True, capture_output=True)
        paths = sorted((folder / "out").iterdir(), key=lambda p: int(p.name.split("_")[0]))
        return [np.load(p) for p in paths]

    try:
        draw = (Rare if options.rare else Draw)(options.seed, options.model)
        case = Case(options.carry, draw, folder, "cpu", None)
        case.prepare()
        weights, rng = case.model.get_weights(), np.random.default_rng(options.model)
        plan, x = every_output(case.plan), case.x[:case.plan["rows"]]
        more = (options.rows, *x.shape[1:])
        x = np.concatenate([x, rng.integers(0, plan["ids"], more).astype(np.int32) if plan["ids"]
                            else rng.standard_normal(more).astype(np.float32)])[:options.rows]
        for kind, args in plan["layers"]:
            print(kind, {name: value for name, value in args.items() if name.endswith("activation") or
                         name in ("units", "activation", "go_backwards")})
        whole = Sample(case.K, plan, weights, x, run, case.plan["outputs"])
        whole.draw(options.orders, rng)
        print(f"{whole.kept.sum()} rows of {plan['steps']} steps, {options.orders} orders")
        print(f"{'carry':>45}{'Keras float32':>48}\n"
              "       layer               out  largest    median       90%      most   lasting    median"
              "       90%      most   lasting     ratio")
        whole.lines("whole")
        for k, (kind, _) in enumerate(plan["layers"]):
            if kind != "LSTM":
                continue
            fed = x
            if k:
                fed = whole.exact[plan["outputs"].index((k - 1, 0))].astype(np.float32)
            alone = Sample(case.K, only(plan, k, fed.shape[-1]), weights_of(plan, weights, k),
                           fed[whole.kept], run, [])
            alone.draw(options.orders, rng)
            alone.lines("alone", k)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
