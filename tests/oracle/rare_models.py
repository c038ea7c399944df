"""Rarer forms of the random models: a plan of random_models, changed by draws of a stream of its own, so that
what (seed, index) draws without them stays what it was."""

import numpy as np

from random_models import BOUNDED, COMMON, ONLY_3, Draw

NAMES = ["kernel", "lstm_cell", "model_weights", "LSTM", "1st", "x.y", "a-b", "lstm_1_"]
# with TensorFlow a layer's name must be a scope's; Keras 3 refuses a '/'
NAMES_2 = ["a/b/c", "part/part", "a/b_c", "a_b/c"]
NAMES_3 = ["..", "a>b", "model.layers.", "lstm_cell.kernel"]


class Rare(Draw):
    def __init__(self, seed, index, narrow=False):
        super().__init__(seed, index, narrow)
        self.index = index
        self.drawn = np.random.default_rng([seed, index, 3])

    def maybe(self, p):
        return self.drawn.random() < p

    def one(self, items):
        return items[int(self.drawn.integers(len(items)))]

    def number(self, low, high):
        return int(self.drawn.integers(low, high + 1))

    def model(self):
        plan = super().model()
        plan["rare"] = True
        self.lstms = [args for kind, args in plan["layers"] if kind == "LSTM"]
        if self.maybe(0.12) and not plan["low"]:
            self.sizes()
        if self.maybe(0.6):
            self.activations_in_turn()
        if self.maybe(0.25):
            for args in self.lstms:
                args["go_backwards"] = self.maybe(0.6)
            plan["backwards"] = any(args["go_backwards"] for args in self.lstms)
        if plan["stateful"] and self.maybe(0.6):
            self.memory()
        if self.maybe(0.5):
            self.names()
        if plan["functional"]:
            self.outputs()
        self.inert()
        if plan["dtype"] is None and not self.narrow and self.maybe(0.25):
            self.types()
        self.input_forms()
        plan["as_functions"] = self.maybe(0.2)  # keras.activations.tanh for "tanh"
        # on one batch, so that the optimizer's variables are in the file; noise_shape is of another batch
        plan["trained"] = self.maybe(0.08) and not plan.get("outputs_as") and \
            not any("noise_shape" in args for _, args in plan["layers"])
        plan["saved_again"] = self.one(["keras", "h5"]) if self.maybe(0.15) else None
        plan["file_name"] = self.one(["m.keras", "m.h5", "m.hdf5", "m"]) if self.maybe(0.2) else None
        plan["isa"] = self.one(["avx2", "reference"]) if self.maybe(0.4) else None
        return plan

    def sizes(self):
        """Beyond one panel and one cache line."""
        plan = self.plan
        plan["steps"] = min(plan["steps"], 12)
        plan["rows"] = min(plan["rows"], 4)
        if not plan["ids"]:
            plan["features"] = self.one([16, 17, 33, 100])
        for kind, args in plan["layers"]:
            if kind == "Embedding":
                args["output_dim"] = self.one([16, 17, 65])
            elif kind == "LSTM" and self.maybe(0.6):
                args["units"] = self.one([48, 63, 64, 65, 96, 100, 127, 129, 200, 257])
            elif kind in ("Dense", "TimeDistributed") and self.maybe(0.6):
                args["units"] = self.one([16, 31, 64, 65, 129])

    def activations_in_turn(self):
        """Model by model each name in each place."""
        plan, at = self.plan, self.index
        names = COMMON + (ONLY_3 if plan["keras"] == 3 else [])
        names = [n for n in names if n in BOUNDED or not (plan["low"] or self.narrow)]
        for kind, args in plan["layers"]:
            for place in ("activation", "recurrent_activation"):
                if kind not in ("LSTM", "Dense", "TimeDistributed", "Activation") or \
                        (place == "recurrent_activation" and kind != "LSTM") or \
                        (kind != "Activation" and self.maybe(0.5)):
                    continue
                args[place] = names[at % len(names)]
                at += 1
                plan["unbounded"] |= args[place] not in BOUNDED

    def memory(self):
        """More groups; some LSTMs go on and some do not."""
        plan = self.plan
        if plan["steps"] <= 12 and plan["rows"] <= 4 and not plan["low"]:
            plan["groups"] = self.number(2, 7)
        for args in self.lstms:
            args["stateful"] = self.maybe(0.5)
        self.one(self.lstms)["stateful"] = True

    def names(self):
        names = NAMES + (NAMES_2 if self.plan["keras"] == 2 else NAMES_3)
        for k, (_, args) in enumerate(self.plan["layers"]):
            if self.maybe(0.7):
                args["name"] = self.one(names) + str(k)
        self.plan["name"] = self.one(["net", "model_weights", "a.b"])
        if self.maybe(0.3):
            self.plan["input_name"] = self.one(["x", "input.1", "lstm.in"])

    def outputs(self):
        plan = self.plan
        # its input is a tensor of a larger model
        plan["inner_input"] = not plan["ids"] and plan["dtype"] is None and self.maybe(0.15)
        # the same one again; Keras 3 loses such outputs of a model with an inner input
        if not plan["inner_input"] and self.maybe(0.35):
            for _ in range(self.number(1, 3)):
                plan["outputs"].insert(self.number(0, len(plan["outputs"])), self.one(plan["outputs"]))
        plan["outputs_as"] = self.one(["list", "dict", "nested"]) if self.maybe(0.4) else None
        plan["longer"] = self.maybe(0.2)  # cut out of a model that goes on

    def inert(self):
        for kind, args in self.plan["layers"]:
            if self.maybe(0.1):
                args["trainable"] = False
            if kind == "LSTM":
                if self.maybe(0.2):
                    args["zero_output_for_mask"] = self.maybe(0.5)
                if self.maybe(0.1):
                    args["seed" if self.plan["keras"] == 3 else "enable_caching_device"] = 1
                if self.plan["keras"] == 3 and self.maybe(0.2):
                    args["use_cudnn"] = self.one([False, "auto"])
                if self.maybe(0.1):
                    args["activity_regularizer"] = "l2"
            elif kind == "Embedding" and self.plan["keras"] == 2 and self.plan["fixed_time"]:
                args["input_length"] = self.plan["steps"]
            elif kind == "Dropout" and self.plan["fixed_batch"] and self.maybe(0.3):
                args["noise_shape"] = (self.plan["rows"], *[1] * self.number(1, 2))

    def types(self):
        """A dtype of its own for each layer."""
        plan = self.plan
        bounded = all(args.get(a, "tanh") in BOUNDED | {None, "linear"} for _, args in plan["layers"]
                      for a in ("activation", "recurrent_activation")) and \
            all(args.get("activation") in BOUNDED | {"tanh"} for args in self.lstms if "activation" in args)
        low = bounded and len(self.lstms) < 2 and self.maybe(0.6)
        names = ["float64"] + (["mixed_float16", "mixed_bfloat16", "float16"] if low else [])
        for _, args in plan["layers"]:
            if self.maybe(0.6):
                args["dtype"] = self.one(names)
        if any(args.get("dtype") not in (None, "float64") for _, args in plan["layers"]):
            plan["low"] = True
            plan["steps"], plan["groups"] = min(plan["steps"], 3), min(plan["groups"], 2)

    def input_forms(self):
        plan = self.plan
        if plan["ids"]:
            plan["input_dtype"] = self.one(["int32", "int64", "uint8", "float32", None])
        elif plan["dtype"] is None and self.maybe(0.2):
            plan["input_dtype"] = "float64"
        if self.maybe(0.2) and plan["groups"] == 1:
            plan["rows"] = 1  # the forms without a batch axis
        plan["whole_numbers"] = not plan["ids"] and self.maybe(0.15)
        plan["built_later"] = not plan["functional"] and not plan["ids"] and self.maybe(0.2)
