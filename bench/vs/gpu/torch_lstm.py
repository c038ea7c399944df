#!/usr/bin/env python3
"""torch.nn.LSTM on a CUDA device, on the shapes of bench_gpu and by its rules, as lines of JSON.

    torch_lstm.py --shapes FILE [--budget SECONDS] [--repeats N] [--cpu]

fp32 is fp32: TF32 is off, and on for the precision tf32. Outputs are compared with a float64 reference before timing.
Inputs rotate over more memory than the last cache holds, h and c are carried from call to call, CUDA events around every
call, medians. A result names the kernels that one call ran, as torch's profiler saw them, and whether they are cuDNN's
persistent ones: which algorithm torch takes is seen, not assumed. Exits 77 without torch or a GPU.
"""
import sys
import time

from peer import NotRun, calls_for, main, percentile, spread, wrong


def prepare(options):
    try:
        import torch
    except ImportError:
        raise NotRun("torch is not installed here")
    if not options.cpu and not torch.cuda.is_available():
        raise NotRun("torch finds no CUDA device here")
    if options.cpu:
        device, name, cache = "cpu", "cpu", 1 << 20
    else:
        properties = torch.cuda.get_device_properties(0)
        device, name, cache = "cuda", properties.name, getattr(properties, "L2_cache_size", 64 << 20)
    header = {"version": torch.__version__, "cuda": torch.version.cuda, "device": name,
              "cudnn": None if options.cpu else torch.backends.cudnn.version()}
    types = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def kernels_of(call):
        """Names of what one call ran on the device, most time first."""
        if device == "cpu":
            return {"algorithm": "cpu"}
        try:
            from torch.profiler import ProfilerActivity, profile
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                call()
                wait()
            events = [e for e in seen.key_averages() if "Memcpy" not in e.key and "Memset" not in e.key]
            events.sort(key=lambda e: -getattr(e, "device_time_total", getattr(e, "cuda_time_total", 0)))
            names = [e.key[:80] for e in events[:4]]
        except Exception as error:
            return {"algorithm": "unknown", "kernels": [f"the profiler failed: {error}"[:120]]}
        persistent = any("persist" in name.lower() for name in names)
        return {"algorithm": ("persistent" if persistent else "not persistent") if names else "unknown", "kernels": names}

    def timed(call, repeats):
        if device == "cpu":
            us = []
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                us.append((time.perf_counter() - start) * 1e6)
            return us
        events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
        events[0].record()
        for event in events[1:]:
            call()
            event.record()
        wait()
        return [a.elapsed_time(e) * 1e3 for a, e in zip(events, events[1:])]

    def measure(shape, options):
        with torch.inference_mode():
            try:
                return measure_inside(shape, options)
            finally:
                if device == "cuda":
                    torch.cuda.empty_cache()

    def measure_inside(shape, options):
        dtype = types[shape["precision"]]
        torch.backends.cuda.matmul.allow_tf32 = shape["precision"] == "tf32"
        torch.backends.cudnn.allow_tf32 = shape["precision"] == "tf32"
        h, b, t, layers = shape["H"], shape["B"], shape["T"], shape["layers"]
        torch.manual_seed(1)
        lstm = torch.nn.LSTM(h, h, layers, device=device, dtype=dtype).eval()
        lstm.flatten_parameters()
        one = b * t * h * torch.empty(0, dtype=dtype).element_size()
        count = max(2, min(64, 2 * cache // one + 2))
        if device == "cuda":
            room = torch.cuda.mem_get_info()[0] * 8 // 10
            while count > 2 and (count + 1) * one > room:
                count -= 1
            if (count + 1) * one > room:
                raise NotRun(f"needs {(count + 1) * one} bytes of arrays, {room} are free")
        inputs = [torch.empty(t, b, h, device=device, dtype=dtype).uniform_(-1, 1) for _ in range(count)]
        state = tuple(torch.zeros(layers, b, h, device=device, dtype=dtype) for _ in range(2))
        turn = 0

        def call():
            nonlocal state, turn
            y, state = lstm(inputs[turn % count], state)
            turn += 1
            return y

        def weights(l):
            parts = [getattr(lstm, f"{name}_l{l}").double().cpu().numpy()
                     for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            return parts[0], parts[1], parts[2] + parts[3]

        y = call()
        bad = wrong([weights(l) for l in range(layers)], inputs[0].double().cpu().numpy(), y.double().cpu().numpy(),
                    shape["precision"])
        if bad:
            raise NotRun(bad)
        fields = kernels_of(call)
        wait()
        start = time.perf_counter()
        call()
        wait()
        repeats = calls_for((time.perf_counter() - start) * 1e6, options.repeats)
        for _ in range(repeats // 4):
            call()
        us = timed(call, repeats)
        fields.update({"repeats": repeats, "inputs": count, "us_per_step": spread([u / t for u in us])})
        if t == 1:
            calls = []
            for _ in range(calls_for(percentile(us, 50), 2000)):
                start = time.perf_counter()
                call()
                wait()
                calls.append((time.perf_counter() - start) * 1e6)
            fields.update({"calls": len(calls), "call_us": {"p50": percentile(calls, 50), "p99": percentile(calls, 99)}})
        return fields

    return header, measure


if __name__ == "__main__":
    sys.exit(main("torch", __doc__.splitlines()[0], prepare))
