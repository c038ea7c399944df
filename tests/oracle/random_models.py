"""Random Keras models: a plan drawn from (seed, index), and the models built from it."""

import logging
import os
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


class Draw:
    """Random choices, and the plan of a model: plain data, from which models are built twice."""

    def __init__(self, seed, index, narrow=False):
        self.rng = np.random.default_rng([seed, index])
        self.how = np.random.default_rng([seed, index, 1])  # the plan is the same on every device
        self.narrow = narrow  # carry computes products with fewer bits than float32
        self.initial = int(np.random.default_rng([seed, index, 2]).integers(2**31))  # Keras' own draws

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def int(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def activation(self, default, p):
        names = COMMON + (ONLY_3 if self.plan["keras"] == 3 else [])
        if self.plan["low"] or self.narrow:  # without a bound rounding alone exceeds any tolerance
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
    args.update(policy(K, plan["dtype"] or args.get("dtype")))
    if plan.get("as_functions"):
        args.update({name: K.activations.get(value) for name, value in args.items()
                     if name in ("activation", "recurrent_activation") and value})
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
    return plan.get("input_dtype") or ("int32" if plan["ids"] and plan["int_input"] else None)


def structure(plan, outputs):
    """The outputs in a list, a dict or a list with a list in it, such that model.outputs is in their order."""
    if plan.get("outputs_as") == "dict":
        return {f"output_{i:02}": y for i, y in reversed(list(enumerate(outputs)))}
    if plan.get("outputs_as") == "nested":
        return [outputs[0], outputs[1:]] if outputs[1:] else [outputs]
    return outputs[0] if len(outputs) == 1 and not plan.get("outputs_as") else outputs


def build(K, plan):
    shape = input_shape(plan)
    named = {"name": plan["name"]} if plan.get("name") else {}
    if not plan["functional"]:
        layers, first = [], None
        # Keras 3 takes no batch in a layer's arguments
        on_layer = plan["input_on_layer"] and (K is keras2 or not plan["fixed_batch"])
        if on_layer and plan["layers"][0][0] != "TimeDistributed":
            first = shape
        elif not plan.get("built_later"):
            layers.append(K.Input(batch_shape=shape, dtype=input_dtype(plan), name=plan.get("input_name")))
        for k, (kind, args) in enumerate(plan["layers"]):
            layers.append(make_layer(K, plan, kind, args, first if k == 0 else None))
        model = K.Sequential(layers, **named)
        if not model.built:
            model.build(shape)
        return model
    x = K.Input(batch_shape=shape, dtype=input_dtype(plan), name=plan.get("input_name"))
    if plan.get("inner_input"):
        x = K.layers.Dense(shape[-1])(x)
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
    if plan.get("longer") and not plan.get("inner_input"):
        K.Model(x, K.layers.Dense(2)(value))
    return K.Model(x, structure(plan, outputs), **named)


def build_explicit(K, plan, weights):
    """The same network, free in time and batch, with h and c of every LSTM as inputs and outputs."""
    # Keras 2 casts neither the input nor a state of an LSTM that is given one
    def computed(args):
        name = plan["dtype"] or args.get("dtype") or "float32"
        return name.replace("mixed_", "") if K is keras2 else None

    dtype = computed({})
    if plan["ids"]:
        x = K.Input(batch_shape=(None, None), dtype=input_dtype(plan))
    else:
        x = K.Input(batch_shape=(None, None, plan["features"]), dtype=dtype)
    inputs, finals, tensors, value = [x], [], {}, x
    for k, (kind, args) in enumerate(plan["layers"]):
        args = {name: value for name, value in args.items() if name != "name"}
        if kind != "LSTM":
            value = tensors[k, 0] = make_layer(K, plan, kind, args)(value)
            continue
        args.update(stateful=False, unroll=False, return_state=True)
        state = [K.Input(shape=(args["units"],), dtype=computed(args)) for _ in range(2)]
        if K is keras2 and value.dtype != computed(args):
            value = K.layers.Activation("linear", dtype=computed(args))(value)
        y, h, c = make_layer(K, plan, kind, args)(value, initial_state=state)
        tensors[k, 0], tensors[k, 1], tensors[k, 2] = y, h, c
        value = (y, h, c)[plan["port"] if k == last_lstm(plan) else 0]
        inputs += state
        finals += [h, c]
    model = K.Model(inputs, [tensors[o] for o in plan["outputs"]] + finals)
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
    """The weights Keras begins with, and no bias all zeros."""
    model.set_weights([w if w.ndim > 1 else rng.uniform(-0.1, 0.2, w.shape).astype(w.dtype) + w
                       for w in model.get_weights()])


def reset(model):
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            (layer.reset_state if hasattr(layer, "reset_state") else layer.reset_states)()


def as_list(value):
    return tf.nest.flatten(value)
