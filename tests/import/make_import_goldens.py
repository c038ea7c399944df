"""Writes the small model files that the import tests read, and golden/manifest.json, which says what a
reader must find in them: the weights as Keras itself gives them (get_weights), by a hash over their float32
bytes.

    python3 make_import_goldens.py [OUT]        OUT: the folder golden beside this script

Needs keras 3 on TensorFlow, tf-keras and h5py. Every layout that one of the two writes is written by it;
layouts of older writers (see `rewrite_*`) are made of those by moving the same numbers to where those
writers put them."""

import io
import json
import os
import sys
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import h5py
import keras
import numpy as np
import tf_keras

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
NAMES = {"LSTM": ["kernel", "recurrent_kernel", "bias"], "Dense": ["kernel", "bias"],
         "TimeDistributed": ["kernel", "bias"], "Embedding": ["embeddings"]}
manifest = {}


def fnv(array):
    h = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(array, "<f4").tobytes():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def randomize(model, seed):
    """Numbers without any symmetry, so that a transposed or swapped block cannot pass."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([(rng.standard_normal(w.shape) * 0.5).astype(w.dtype) for w in layer.get_weights()])


def activation(value):
    return value if isinstance(value, str) else value.__name__


def describe(model, outputs, source):
    layers = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            continue
        weights = layer.get_weights()
        entry = {"name": layer.name, "class": kind,
                 "weights": [{"name": n, "shape": list(w.shape), "hash": fnv(w)}
                             for n, w in zip(NAMES.get(kind, []), weights)]}
        if kind == "LSTM":
            for key in ("units", "return_sequences", "return_state", "go_backwards", "stateful", "use_bias"):
                entry[key] = getattr(layer, key)
        layers.append(entry)
    return {"source": source, "layers": layers, "outputs": outputs}


def save(model, name, outputs=None, activations=None, seed=1):
    """outputs: [[layer, port]], by default the last layer's; activations: {layer: [activation,
    recurrent_activation]} as carry names them."""
    randomize(model, seed)
    path = os.path.join(OUT, name)
    model.save(path)
    source = "keras" if name.endswith(".keras") else "keras-h5"
    manifest[name] = describe(model, outputs or [[model.layers[-1].name, 0]], source)
    shape = model.input_shape
    manifest[name]["input"] = {"ids": len(shape) == 2, "batch": shape[0] or 0, "steps": shape[1] or 0,
                               "width": 1 if len(shape) == 2 else shape[2]}
    for entry in manifest[name]["layers"]:
        given = (activations or {}).get(entry["name"])
        if given:
            entry["activation"], entry["recurrent_activation"] = given
    return path


# ---- what Keras 3 and tf-keras write ---------------------------------------------------------------

def sequential(k, name, first):
    """Two LSTM layers, the second named so that names and places disagree, and a head."""
    model = k.Sequential(first(k) + [
        k.layers.LSTM(5, name="dense", recurrent_activation="hard_sigmoid", use_bias=False),
        k.layers.Dense(2, activation="relu", name="lstm")])
    formula = "hard_sigmoid_1/6" if k is keras else "hard_sigmoid_0.2"
    return save(model, name, activations={"dense": ["tanh", formula], "lstm": ["relu", None]})


def first_of_3(k):
    return [k.Input(batch_shape=(2, 5, 3)), k.layers.LSTM(4, return_sequences=True, stateful=True, name="a")]


def first_of_2(k):
    return [k.layers.LSTM(4, return_sequences=True, stateful=True, name="a", batch_input_shape=(2, 5, 3))]


def functional(k, name, layer_name="a/b"):
    """Three outputs of one layer, one of them through a head per step."""
    i = k.Input((None, 3), name="x")
    y, h, c = k.layers.LSTM(3, return_sequences=True, return_state=True, name=layer_name)(i)
    y = k.layers.TimeDistributed(k.layers.Dense(2), name="head")(y)
    save(k.Model(i, [y, h, c]), name, [["head", 0], [layer_name, 1], [layer_name, 2]], seed=2)


def ids(k, name):
    i = k.Input((None,), name="x", dtype="int32")
    y = k.layers.Embedding(7, 3, name="e")(i)
    y = k.layers.Dropout(0.25, name="d")(y)
    y = k.layers.LSTM(2, return_sequences=True, go_backwards=True, activation="softsign", name="r")(y)
    y = k.layers.Activation("softmax", name="s")(k.layers.Dense(7, name="w")(y))
    save(k.Model(i, y), name, activations={"r": ["softsign", "sigmoid"], "s": ["softmax", None]}, seed=3)


def tree(name):
    """Outputs by name, a layer that goes on from h, an LSTM that is called by keyword."""
    i = keras.Input((4, 3), name="x")
    y, h, c = keras.layers.LSTM(2, return_sequences=True, return_state=True, name="r")(sequences=i)
    head = keras.layers.Dense(1, name="of_h")(inputs=h)
    last = keras.layers.LSTM(3, name="of_y")(y)
    model = keras.Model(i, {"z": head, "a": [c, last], "m": y})
    save(model, name, [["r", 2], ["of_y", 0], ["r", 0], ["of_h", 0]], seed=4)


def dtyped(name, dtype):
    model = keras.Sequential([
        keras.Input((None, 3)),
        keras.layers.LSTM(3, dtype=dtype, recurrent_initializer="glorot_uniform", name="r", return_state=True)])
    save(model, name, [["r", 0], ["r", 1], ["r", 2]], seed=5)


# ---- what older writers make of the same numbers -----------------------------------------------------

def same(name, of):
    manifest[name] = manifest[of]
    return os.path.join(OUT, of), os.path.join(OUT, name)


def copy_members(source, target, compression, change=lambda name, data: data):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.namelist():
            new.writestr(member, change(member, old.read(member)))


class Pipe(io.RawIOBase):
    """A file that cannot go back, for which a zip writer puts lengths behind the data."""

    def __init__(self, path):
        self.file = open(path, "wb")

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)

    def close(self):
        self.file.close()


def rewrite_deflated(name, of):
    source, target = same(name, of)
    pipe = Pipe(target)
    copy_members(source, pipe, zipfile.ZIP_DEFLATED)
    pipe.close()


def rewrite_dependencies(name, of, step):
    """Keras 2.12 to 2.15: another root group, and up to 2.13 (step 2) every second number left out."""
    source, target = same(name, of)

    def change(member, data):
        if member != "model.weights.h5":
            return data
        image = io.BytesIO()
        with h5py.File(io.BytesIO(data)) as old, h5py.File(image, "w") as new:
            root = new.create_group("_layer_checkpoint_dependencies")
            for group in old["layers"]:
                base, _, number = group.rpartition("_")
                moved = f"{base}_{int(number) * step}" if number.isdigit() else group
                old.copy(f"layers/{group}", root, moved)
        return image.getvalue()

    copy_members(source, target, zipfile.ZIP_STORED, change)


def rewrite_old_h5(name, of):
    """Keras 2.0's bare list of layers, fixed-length text, weights split over two attributes, one more
    wrapped shape, numbers big-endian, in packed chunks, after a block of the user's."""
    source, target = same(name, of)
    with h5py.File(source) as old, h5py.File(target, "w", userblock_size=1024, libver="latest") as new:
        config = json.loads(old.attrs["model_config"])
        layers = [l for l in config["config"]["layers"] if l["class_name"] != "InputLayer"]
        shape = layers[0]["config"]["batch_input_shape"]
        layers[0]["config"]["batch_input_shape"] = {"class_name": "__tuple__", "items": shape}
        layers[0]["config"]["kernel_initializer"] = {"class_name": "Constant", "config": {"value": float("nan")}}
        new.attrs["model_config"] = np.bytes_(json.dumps({"class_name": "Sequential", "config": layers}).encode())
        new.attrs["keras_version"] = np.bytes_(b"2.1.3")
        for group in old["model_weights"]:
            names = list(old["model_weights"][group].attrs["weight_names"])
            made = new.create_group(f"model_weights/{group}")
            if not names:
                made.attrs["weight_names"] = np.array([])
                continue
            made.attrs["weight_names0"] = np.array([n.encode() for n in names[:1]])
            made.attrs["weight_names1"] = np.array([n.encode() for n in names[1:]])
            for n in names:
                value = old["model_weights"][group][n][()]
                made.create_dataset(n, data=value.astype(">f4"), chunks=tuple(max(1, s // 2) for s in value.shape),
                                    compression="gzip", shuffle=True, fletcher32=True)
    manifest[name] = json.loads(json.dumps(manifest[of]))


def main():
    os.makedirs(OUT, exist_ok=True)
    sequential(keras, "k3_sequential.keras", first_of_3)
    sequential(keras, "k3_sequential.h5", first_of_3)
    sequential(tf_keras, "k2_sequential.keras", first_of_2)
    sequential(tf_keras, "k2_sequential.h5", first_of_2)
    functional(keras, "k3_functional.keras", "é ü")
    functional(keras, "k3_functional.h5", "é ü")
    functional(tf_keras, "k2_functional.keras")
    functional(tf_keras, "k2_functional.h5")
    ids(keras, "k3_ids.keras")
    ids(tf_keras, "k2_ids.h5")
    tree("k3_tree.keras")
    dtyped("k3_float16.keras", "float16")
    dtyped("k3_bfloat16.keras", "bfloat16")
    dtyped("k3_float64.h5", "float64")
    rewrite_deflated("k3_deflated.keras", "k3_sequential.keras")
    rewrite_dependencies("k2_14.keras", "k2_sequential.keras", 1)
    rewrite_dependencies("k2_13.keras", "k2_sequential.keras", 2)
    rewrite_old_h5("k2_0.h5", "k2_sequential.h5")
    with open(os.path.join(OUT, "manifest.json"), "w") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        file.write("\n")


main()
