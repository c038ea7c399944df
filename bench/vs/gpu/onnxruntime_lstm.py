#!/usr/bin/env python3
"""ONNX Runtime's LSTM with its CUDA provider, on the shapes of bench_gpu and by its rules, as lines of JSON.

    onnxruntime_lstm.py --shapes FILE [--budget SECONDS] [--repeats N] [--cpu]

The model is made here with the package onnx: one LSTM node a layer, its state an input and an output, which is how a
caller carries it. Arrays stay on the device (IoBinding), h and c go from one pair of buffers to the other, inputs rotate
over more memory than the last cache holds. Outputs are compared with a float64 reference before timing. ONNX Runtime gives
no event of its stream, and a run returns when its outputs are there: times are the host's clock around a call, launch and
synchronisation included. bf16 it has no LSTM for. Exits 77 without the packages or the CUDA provider.
"""
import sys
import time

from peer import NotRun, calls_for, main, percentile, spread, wrong

CACHE = 64 << 20  # at least as large as any L2 of today


def prepare(options):
    try:
        import numpy as np
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise NotRun(f"{error.name} is not installed here")
    provider = "CPUExecutionProvider" if options.cpu else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise NotRun(f"this onnxruntime {onnxruntime.__version__} has no CUDA provider (onnxruntime-gpu has)")
    place = "cpu" if options.cpu else "cuda"
    header = {"version": onnxruntime.__version__, "onnx": onnx.__version__, "provider": provider, "clock": "host"}

    def model_of(h, layers, weights, number):
        nodes, inputs, outputs, constants = [], [], [], []
        inputs.append(helper.make_tensor_value_info("x", number, ["T", "B", h]))
        of_type = np.float16 if number == TensorProto.FLOAT16 else np.float32

        def constant(name, value):
            constants.append(numpy_helper.from_array(value.astype(of_type), name))
            return name

        x = "x"
        for l, (kernel, recurrent, bias) in enumerate(weights):
            def gates(m):  # ONNX has i, o, f, g
                i, f, g, o = np.split(m, 4)
                return np.concatenate([i, o, f, g])[None]
            for name in (f"h{l}", f"c{l}"):
                inputs.append(helper.make_tensor_value_info(name, number, [1, "B", h]))
                outputs.append(helper.make_tensor_value_info("next_" + name, number, [1, "B", h]))
            zeros = np.zeros_like(bias)
            nodes.append(helper.make_node(
                "LSTM", [x, constant(f"W{l}", gates(kernel)), constant(f"R{l}", gates(recurrent)),
                         constant(f"B{l}", np.concatenate([gates(bias)[0], gates(zeros)[0]])[None]), "", f"h{l}", f"c{l}"],
                [f"y{l}", f"next_h{l}", f"next_c{l}"], hidden_size=h))
            constants.append(numpy_helper.from_array(np.array([1], dtype=np.int64), f"axis{l}"))
            nodes.append(helper.make_node("Squeeze", [f"y{l}", f"axis{l}"], [f"z{l}"]))  # of directions
            x = f"z{l}"
        outputs.append(helper.make_tensor_value_info(x, number, ["T", "B", h]))
        graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
        model.ir_version = 8
        return model.SerializeToString(), x

    def measure(shape, options):
        h, b, t, layers, precision = (shape[k] for k in ("H", "B", "T", "layers", "precision"))
        if precision == "bf16":
            raise NotRun("ONNX Runtime has no LSTM of bf16")
        if layers * 8 * h * h * 4 > 1 << 31:
            raise NotRun("the model would have more than 2 GiB")
        number = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
        of_type = np.float16 if precision == "fp16" else np.float32
        random = np.random.default_rng(1)
        scale = 1 / np.sqrt(h)

        def uniform(*extent):
            return random.uniform(-scale, scale, extent).astype(of_type).astype(np.float64)

        weights = [(uniform(4 * h, h), uniform(4 * h, h), uniform(4 * h)) for _ in range(layers)]
        model, last = model_of(h, layers, weights, number)
        settings = {} if options.cpu else {"use_tf32": "1" if precision == "tf32" else "0"}
        session = onnxruntime.InferenceSession(model, providers=[(provider, settings)])
        if provider not in session.get_providers():
            raise NotRun(f"the session fell back to {session.get_providers()}")
        one = b * t * h * np.dtype(of_type).itemsize
        count = max(2, min(64, 2 * CACHE // one + 2)) if not options.cpu else 2
        first = random.uniform(-1, 1, (t, b, h)).astype(of_type)
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        xs = [value(first, place)]
        xs += [value(random.uniform(-1, 1, (t, b, h)).astype(of_type), place) for _ in range(count - 1)]
        y = value(np.full((t, b, h), np.nan, of_type), place)
        states = [{f"{n}{l}": value(np.zeros((1, b, h), of_type), place) for l in range(layers) for n in "hc"}
                  for _ in range(2)]
        bindings = []
        for turn in range(count + count % 2):  # even, so that the buffers alternate from the last to the first
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", xs[turn % count])
            binding.bind_ortvalue_output(last, y)
            for name, array in states[turn % 2].items():
                binding.bind_ortvalue_input(name, array)
            for name, array in states[1 - turn % 2].items():
                binding.bind_ortvalue_output("next_" + name, array)
            bindings.append(binding)
        turn = 0

        def call():
            nonlocal turn
            binding = bindings[turn % len(bindings)]
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            turn += 1

        call()
        bad = wrong(weights, first, y.numpy().astype(np.float64), precision)
        if bad:
            raise NotRun(bad)

        def timed(repeats):
            us = []
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                us.append((time.perf_counter() - start) * 1e6)
            return us

        call()
        repeats = calls_for(timed(1)[0], options.repeats)
        timed(repeats // 4)
        us = timed(repeats)
        fields = {"algorithm": provider, "repeats": repeats, "inputs": count, "clock": "host",
                  "us_per_step": spread([u / t for u in us])}
        if t == 1:
            calls = timed(calls_for(percentile(us, 50), 2000))
            fields.update({"calls": len(calls), "call_us": {"p50": percentile(calls, 50), "p99": percentile(calls, 99)}})
        return fields

    return header, measure


if __name__ == "__main__":
    sys.exit(main("onnxruntime", __doc__.splitlines()[0], prepare))
