#!/usr/bin/env python3
"""Train the tutorial everyone starts from: monthly airline passengers, one stateful LSTM(4), Dense(1).

    KERAS_BACKEND=tensorflow python train.py

Look-back 3 given as time steps, so an input row is [3, 1]: three months, one feature. Batch 1, the
state kept from row to row and zeroed before every pass over the series. The first two thirds of the
rows are trained on; the predictions are of all of them.

Reads airline.csv (Box and Jenkins, 1949-01 to 1960-12, in thousands of passengers). Writes airline.keras,
airline-input.npy [N, 3, 1], scale.json, keras-predictions.csv.
"""

import csv
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # other backends carry no state between calls
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")     # one device, one order of sums
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

HERE = Path(__file__).resolve().parent
SEED = 7
LOOK_BACK = 3
UNITS = 4
PASSES = 100


def build():
    return keras.Sequential([
        keras.Input(batch_shape=(1, LOOK_BACK, 1), name="months"),
        keras.layers.LSTM(UNITS, stateful=True, name="lstm"),
        keras.layers.Dense(1, name="dense"),
    ], name="airline")


def main():
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()

    with open(HERE / "airline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    series = np.array([float(row["passengers"]) for row in rows])
    assert len(series) == 144 and series.sum() == 40363
    low, high = series.min(), series.max()
    scaled = ((series - low) / (high - low)).astype(np.float32)
    x = np.lib.stride_tricks.sliding_window_view(scaled, LOOK_BACK)[:-1, :, None].copy()
    y = scaled[LOOK_BACK:, None]
    trained = len(x) * 2 // 3

    model = build()
    model.compile(optimizer="adam", loss="mean_squared_error")
    for n in range(1, PASSES + 1):
        model.layers[0].reset_state()
        fit = model.fit(x[:trained], y[:trained], batch_size=1, epochs=1, shuffle=False, verbose=0)
        if n % 10 == 0:
            print(f"pass {n:3}  loss {fit.history['loss'][0]:.5f}", flush=True)

    final = build()  # never compiled, so no optimizer is saved
    final.set_weights(model.get_weights())
    final.save(HERE / "airline.keras")
    np.save(HERE / "airline-input.npy", x)
    (HERE / "scale.json").write_text(json.dumps({"min": int(low), "max": int(high)}) + "\n")

    final.layers[0].reset_state()
    p = final.predict(x, batch_size=1, verbose=0)[:, 0].astype(np.float64) * (high - low) + low
    with open(HERE / "keras-predictions.csv", "w") as file:
        file.write("index,month,passengers,keras\n")
        for i in range(len(x)):
            file.write(f"{i},{rows[i + LOOK_BACK]['month']},{series[i + LOOK_BACK]:.0f},{p[i]:.6f}\n")
    error = p - series[LOOK_BACK:]
    print(f"root mean square error: {np.sqrt((error[:trained] ** 2).mean()):.1f} thousand where "
          f"trained, {np.sqrt((error[trained:] ** 2).mean()):.1f} after")


if __name__ == "__main__":
    main()
