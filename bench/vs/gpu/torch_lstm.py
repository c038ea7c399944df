#!/usr/bin/env python3
"""torch.nn.LSTM on a CUDA device, on the shapes of bench_gpu and by its rules, as lines of JSON.

    torch_lstm.py --shapes FILE [--budget SECONDS] [--repeats N]      lines "H B T LAYERS PRECISION"

fp32 is fp32: TF32 is off, and on for the precision tf32. Inputs rotate over more memory than the last cache holds,
h and c are carried from call to call, CUDA events around every call, medians. Exits 77 without torch or a GPU.
"""
import argparse
import json
import sys
import time

NOT_RUN = 77


def percentile(values, percent):
    values = sorted(values)
    return values[int(percent / 100 * (len(values) - 1) + 0.5)]


def read_shapes(path):
    for line in open(path):
        if line.strip() and not line.startswith("#"):
            h, b, t, layers, precision = line.split()
            yield dict(H=int(h), B=int(b), T=int(t), layers=int(layers), precision=precision)


def emit(kind, shape, **more):
    print(json.dumps({"kind": kind, "program": "torch", **shape, **more}), flush=True)


def calls_for(us, most):
    """As in bench_gpu: what fits half a second, 5 at least, but never more than most."""
    return min(most, max(5, int(5e5 / max(us, 1))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", required=True)
    parser.add_argument("--budget", type=float, default=0)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("torch is not installed here", file=sys.stderr)
        return NOT_RUN
    if not torch.cuda.is_available():
        print("torch finds no CUDA device here", file=sys.stderr)
        return NOT_RUN

    types = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    properties = torch.cuda.get_device_properties(0)
    cache = getattr(properties, "L2_cache_size", 64 << 20)
    print(json.dumps({"kind": "header", "program": "torch", "version": torch.__version__,
                      "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
                      "device": properties.name, "command": " ".join(sys.argv)}), flush=True)

    def measure(shape):
        dtype = types[shape["precision"]]
        torch.backends.cuda.matmul.allow_tf32 = shape["precision"] == "tf32"
        torch.backends.cudnn.allow_tf32 = shape["precision"] == "tf32"
        h, b, t, layers = shape["H"], shape["B"], shape["T"], shape["layers"]
        torch.manual_seed(1)
        lstm = torch.nn.LSTM(h, h, layers, device="cuda", dtype=dtype).eval()
        lstm.flatten_parameters()
        one = b * t * h * dtype.itemsize
        count = max(2, min(64, 2 * cache // one + 2))
        room = torch.cuda.mem_get_info()[0] * 8 // 10
        while count > 2 and (count + 1) * one > room:
            count -= 1
        if (count + 1) * one > room:
            emit("not_run", shape, reason=f"needs {(count + 1) * one} bytes of arrays, {room} are free")
            return 0
        inputs = [torch.empty(t, b, h, device="cuda", dtype=dtype).uniform_(-1, 1) for _ in range(count)]
        state = tuple(torch.zeros(layers, b, h, device="cuda", dtype=dtype) for _ in range(2))
        turn = 0

        def call():
            nonlocal state, turn
            y, state = lstm(inputs[turn % count], state)
            turn += 1
            return y

        start = time.perf_counter()
        y = call()
        y = call()
        torch.cuda.synchronize()
        if not torch.isfinite(y).all():
            emit("not_run", shape, reason="WRONG: outputs are not finite")
            return 0
        repeats = calls_for((time.perf_counter() - start) / 2 * 1e6, options.repeats)
        for _ in range(repeats // 4):
            call()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
        events[0].record()
        for event in events[1:]:
            call()
            event.record()
        torch.cuda.synchronize()
        us = [a.elapsed_time(e) * 1e3 / t for a, e in zip(events, events[1:])]
        more = {"repeats": repeats, "inputs": count,
                "us_per_step": {"median": percentile(us, 50), "p10": percentile(us, 10), "p90": percentile(us, 90)}}
        if t == 1:
            calls = []
            for _ in range(calls_for(percentile(us, 50), 2000)):
                start = time.perf_counter()
                call()
                torch.cuda.synchronize()
                calls.append((time.perf_counter() - start) * 1e6)
            more["calls"] = len(calls)
            more["call_us"] = {"p50": percentile(calls, 50), "p99": percentile(calls, 99)}
        emit("result", shape, **more)
        return 1

    begin, measured = time.perf_counter(), 0
    with torch.inference_mode():
        for shape in read_shapes(options.shapes):
            if options.budget and time.perf_counter() - begin > options.budget:
                emit("not_run", shape, reason="the time was up")
                continue
            try:
                measured += measure(shape)
            except RuntimeError as error:
                emit("not_run", shape, reason=str(error).splitlines()[0])
            torch.cuda.empty_cache()
    return 0 if measured else 1


if __name__ == "__main__":
    sys.exit(main())
