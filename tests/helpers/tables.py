"""A small table of numbers, categories and classes, as parquet files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infobatch.lab.config.train import TrainConfig

QUICK = TrainConfig(
    task="tabular",
    data="breast-cancer",
    model="mlp",
    epochs=4,
    batch_size=64,
    optimizer="adamw",
    lr=3e-3,
    label_smoothing=0.0,
    device="cpu",
)

TYPED = ["--task", "tabular", "--epochs", "3", "--batch-size", "64", "--device", "cpu"]
"""A short run on the table that is built in, as it is typed."""


def columns(num, seed, **others):
    """Rows of which every fifth is cancelled: those of carrier C, and some in the wind."""
    rng = np.random.default_rng(seed)
    carriers = [("A", "B", "C", None)[i % 4] for i in range(num)]
    wind = rng.normal(10, 3, num)
    cancelled = [
        int(carrier == "C" and blows > 8) for carrier, blows in zip(carriers, wind, strict=True)
    ]
    made = {
        "hour": pa.array(rng.integers(0, 24, num)),
        "wind": pa.array([None if i % 3 == 0 else value for i, value in enumerate(wind)]),
        "holiday": pa.array([i % 2 == 0 for i in range(num)]),
        "carrier": pa.array(carriers),
        "origin": pa.array(["EWR" if i % 2 else "JFK" for i in range(num)]).dictionary_encode(),
        "dep_delay": pa.array([None if gone else 3.0 for gone in cancelled]),
        "cancelled": pa.array(cancelled),
    }
    return {**made, **others}


def write(folder, name, split, made):
    path = folder / name / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(made), path)
    return path


def flights(folder):
    """A folder with 200 rows to train on, in two files, and 60 to test on."""
    write(folder, "flights", "train-0", columns(120, 0))
    write(folder, "flights", "train-1", columns(80, 1))
    write(folder, "flights", "test", columns(60, 2))
    return folder
