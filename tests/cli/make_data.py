"""Makes tests/cli/data: tiny character models for `carry generate` and what Keras itself continues, and
an LSTM(1) with two features, and a Keras 2 model whose layer has a '/' in its name.

    python tests/cli/make_data.py        needs Keras 3 on TensorFlow, and tf-keras

The weights are random (seeded), large enough that the likeliest character is clear of the next. `logits`
and `softmax` are one network with two last layers; `onehot` is another, fed one-hot and stateful.
"""
import json
import os
import zipfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import tf_keras
from keras import layers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
VOCABULARY = ["a", "b", "é", "th", "t", "h", " ", "\n", "日本"]
PROMPT = [4, 0, 3, 6, 2]  # "tath é": "t" "a" "th" " " "é", the longest match at each place
LENGTH = 40


def randomise(model, seed):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(0, 1.2, weight.shape))


def likeliest(model, feed):
    """Continues PROMPT by the likeliest character; the smallest gap between the first two, too."""
    ids, gap = list(PROMPT), np.inf
    for _ in range(LENGTH):
        scores = np.asarray(model(feed(ids), training=False))[0, -1]
        first, second = np.sort(scores)[::-1][:2]
        gap = min(gap, first - second)
        ids.append(int(scores.argmax()))
    return "".join(VOCABULARY[i] for i in ids[len(PROMPT):]), float(gap)


def save(model, name, vocabulary=None):
    """Without the date and the build-dependent order that a .keras archive carries otherwise."""
    path = os.path.join(FOLDER, name + ".keras")
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members["metadata.json"] = json.dumps({"keras_version": keras.__version__}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for member in sorted(members):
            archive.writestr(zipfile.ZipInfo(member), members[member])
    if vocabulary is None:
        return
    with open(os.path.join(FOLDER, name + ".vocab.json"), "w", encoding="utf-8") as file:
        json.dump(vocabulary, file, ensure_ascii=False)
        file.write("\n")


def main():
    os.makedirs(FOLDER, exist_ok=True)
    count = len(VOCABULARY)

    def by_ids(activation):
        model = keras.Sequential(
            [keras.Input((None,), dtype="int32"), layers.Embedding(count, 4, name="embedding"),
             layers.LSTM(6, return_sequences=True, name="lstm"),
             layers.TimeDistributed(layers.Dense(count, activation=activation), name="head")],
            name="chars")
        randomise(model, 8)
        return model

    logits, softmax = by_ids(None), by_ids("softmax")
    onehot = keras.Sequential(
        [keras.Input(batch_shape=(1, None, count)),
         layers.LSTM(7, return_sequences=True, name="lstm"),
         layers.Dense(count, name="dense"), layers.Activation("softmax", name="softmax")],
        name="onehot")
    randomise(onehot, 11)
    texts = {}
    for name, model, feed in (("logits", logits, lambda ids: np.array([ids])),
                              ("softmax", softmax, lambda ids: np.array([ids])),
                              ("onehot", onehot, lambda ids: np.eye(count, dtype="f4")[[ids]])):
        texts[name], gap = likeliest(model, feed)
        assert gap > 1e-3, (name, gap)
        assert len(set(texts[name])) > 3, texts[name]
    assert texts["logits"] == texts["softmax"]
    save(logits, "logits", VOCABULARY)
    save(softmax, "softmax", VOCABULARY)
    save(onehot, "onehot", VOCABULARY)
    save(keras.Sequential([keras.Input((5, 2)), layers.LSTM(1)], name="two"), "two_features")
    tf_keras.Sequential(
        [tf_keras.Input((None, 2)), tf_keras.layers.LSTM(2, return_sequences=True, name="deep/er/lstm")],
        name="slash").save(os.path.join(FOLDER, "slash.h5"), include_optimizer=False)
    for name, text in texts.items():
        with open(os.path.join(FOLDER, name + ".likeliest.txt"), "w", encoding="utf-8") as file:
            file.write(text + "\n")


main()
