"""What the peers in Python share: shapes, lines of JSON, how often to call, and a float64 reference in numpy that their
outputs are compared with before anything is timed (as lstm_reference.c does for the peers in C)."""
import argparse
import json
import sys
import time

NOT_RUN = 77
TOLERANCE = {"fp32": 1e-5, "tf32": 4e-3, "fp16": 4e-3, "bf16": 2e-2}  # ||difference|| / ||reference||, as in bench_gpu


def percentile(values, percent):
    values = sorted(values)
    return values[int(percent / 100 * (len(values) - 1) + 0.5)]


def read_shapes(path):
    for line in open(path):
        if line.strip() and not line.startswith("#"):
            h, b, t, layers, precision = line.split()
            yield dict(H=int(h), B=int(b), T=int(t), layers=int(layers), precision=precision)


def calls_for(us, most):
    """As in bench_gpu: what fits half a second, 5 at least, but never more than most."""
    return min(most, max(5, int(5e5 / max(us, 1))))


def reference(layers, x):
    """x [T][B][H] float64 through layers of (kernel [4H][H], recurrent [4H][H], bias [4H]), gates i, f, g, o, from zeros."""
    import numpy as np

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for kernel, recurrent, bias in layers:
        h = np.zeros(x.shape[1:])
        c = np.zeros(x.shape[1:])
        y = []
        for step in x:
            i, f, g, o = np.split(step @ kernel.T + h @ recurrent.T + bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            y.append(h)
        x = np.stack(y)
    return x


def wrong(layers, x, y, precision):
    """Of a first call's outputs [T][B][H]: all are numbers, and two steps of the first and last row agree: None, or how not."""
    import numpy as np

    if not np.isfinite(y).all():
        return "WRONG: outputs are not finite"
    rows = sorted({0, x.shape[1] - 1})
    expected = reference(layers, x[:2, rows].astype(np.float64))
    off = np.linalg.norm(y[:2, rows] - expected) / np.linalg.norm(expected)
    if off <= TOLERANCE[precision]:  # NaN is not
        return None
    return f"WRONG: outputs are off by {off:.3g} of the float64 reference, {TOLERANCE[precision]:.3g} is allowed"


class NotRun(Exception):
    """A shape that cannot be run, and why."""


def main(program, description, prepare):
    """prepare(options) -> header fields, measure(shape, options) -> fields of a result or NotRun; raises NotRun where
    nothing can be run at all."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shapes", required=True, help='lines "H B T LAYERS PRECISION"')
    parser.add_argument("--budget", type=float, default=0, help="seconds")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--cpu", action="store_true", help="a dry run: no figure of it means anything")
    options = parser.parse_args()
    try:
        header, measure = prepare(options)
    except NotRun as error:
        print(f"{program}: {error}", file=sys.stderr)
        return NOT_RUN
    print(json.dumps({"kind": "header", "program": program, **header, "dry_run": options.cpu,
                      "command": " ".join(sys.argv)}), flush=True)
    begin, measured = time.perf_counter(), 0
    for shape in read_shapes(options.shapes):
        fields, reason = None, None
        if options.budget and time.perf_counter() - begin > options.budget:
            reason = "the time was up"
        else:
            try:
                fields = measure(shape, options)
            except NotRun as error:
                reason = str(error)
            except Exception as error:  # a peer's own failure is a result of this shape, and the rest goes on
                reason = (str(error) or repr(error)).splitlines()[0]
        if fields:
            measured += 1
            print(json.dumps({"kind": "result", "program": program, **shape, **fields}), flush=True)
        else:
            print(json.dumps({"kind": "not_run", "program": program, **shape, "reason": reason}), flush=True)
    return 0 if measured else 1


def spread(us):
    return {"median": percentile(us, 50), "p10": percentile(us, 10), "p90": percentile(us, 90)}
