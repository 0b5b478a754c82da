"""Image sets that fit in memory, from parquet files of the Hugging Face hub's layout."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch.lab.data.base import by_name
from infobatch.lab.data.encoded import encoded_of
from infobatch.lab.data.images import ImageData, Images, check_labels, in_rgb, unreadable
from infobatch.lab.data.labels import are_names, number_labels, read_labels
from infobatch.lab.data.locations import find_splits
from infobatch.lab.data.table_files import read_table


@dataclass(frozen=True)
class HubSet:
    """Where a set lies on the hub, and the names of its columns and splits.

    Args:
        name: The name that the set is loaded by.
        repository: Its repository on the hub.
        folder: The folder of its files there.
        image_column: The column of encoded images.
        label_column: The column of classes, numbered from 0.
        test_split: What the names of the test files begin with.
        num_classes: How many classes it has.
        size: Height and width of its images, in pixels.
        download: The size of its download, in words.
        in_part: Whether only the first ``num_classes`` of the files' classes are used.
        gray: Whether images have one channel, and not three.
        class_names: What the classes are called where the files do not say; empty for their numbers.
    """

    name: str
    repository: str
    folder: str
    image_column: str
    label_column: str
    test_split: str
    num_classes: int
    size: int
    download: str
    in_part: bool = False
    gray: bool = False
    class_names: tuple[str, ...] = ()

    def __call__(self, data_dir: Path | None) -> ImageData:
        names = ("train", self.test_split)
        files = find_splits(self.name, self.repository, self.folder, names, data_dir)
        splits = {split: self._read(files[split]) for split in files}
        return ImageData(
            name=self.name,
            train=splits["train"],
            test=splits[self.test_split],
            class_names=self._class_names(files["train"][0]),
            crop_padding=self.size // 8,
            flip=True,
        )

    def _class_names(self, path: Path) -> tuple[str, ...]:
        """The names that the file gives the classes, else those that are known, else their numbers."""
        from pyarrow.parquet import read_schema

        described = (read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(described).get("info", {}).get("features", {})
        names = features.get(self.label_column, {}).get("names") or self.class_names
        return tuple(names or map(str, range(self.num_classes)))[: self.num_classes]

    def _read(self, paths: list[Path]) -> Images:
        pixels, labels = [], []
        for path in paths:
            encoded, classes = self._columns(path)
            if self.in_part:
                rows = np.flatnonzero(classes < self.num_classes)
                encoded, classes = [encoded[row] for row in rows], classes[rows]
            pixels.append(_decode(encoded, path, self.size, self.gray))
            labels.append(classes)
        images = Images(
            torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))
        )

        def place(row: int) -> str:
            return f"row {row} (from 0) of {paths[0].name} and its siblings"

        check_labels(images.labels, self.num_classes, f"{self.name} has", place)
        return images

    def _columns(self, path: Path) -> tuple[list[bytes | None], np.ndarray]:
        def place(row: int) -> str:
            return f"row {row} (from 0) of {path}"

        table = read_table(path, (self.image_column, self.label_column))
        labels = read_labels(table[self.label_column], place)
        if are_names(labels):
            labels = number_labels(labels, self._class_names(path), True, place).numpy()
        encoded = encoded_of(table[self.image_column], f"{path} has in {self.image_column!r} values")
        return encoded.to_pylist(), labels


def _decode(images: list[bytes | None], path: Path, size: int, gray: bool) -> np.ndarray:
    """Decode every image once, into uint8 (N, 3, size, size), or (N, 1, size, size) if gray."""
    from PIL import Image

    mode = "L" if gray else "RGB"
    pixels = np.empty((len(images), len(mode), size, size), dtype=np.uint8)

    def decode(row: int) -> None:
        try:
            image = in_rgb(Image.open(io.BytesIO(images[row] or b""))).convert(mode)
        except Exception as error:
            raise unreadable(f"row {row} (from 0) of {path}", error) from error
        if image.size != (size, size):
            raise ValueError(
                f"row {row} (from 0) of {path} is an image of {image.size[0]}x{image.size[1]} pixels; "
                f"expected {size}x{size}"
            )
        pixels[row] = np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode, range(len(images))):
            pass
    return pixels


CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

CIFAR: dict[str, Any] = {"image_column": "img", "test_split": "test", "size": 32}
TINY_IMAGENET: dict[str, Any] = {
    **{"repository": "zh-plus/tiny-imagenet", "folder": "data", "test_split": "valid", "size": 64},
    **{"image_column": "image", "label_column": "label", "download": "147 MB"},
}

HUB_SETS = by_name(
    HubSet(
        name="cifar10",
        repository="uoft-cs/cifar10",
        folder="plain_text",
        label_column="label",
        num_classes=10,
        download="144 MB",
        class_names=CIFAR10_CLASSES,
        **CIFAR,
    ),
    HubSet(
        name="cifar100",
        repository="uoft-cs/cifar100",
        folder="cifar100",
        label_column="fine_label",
        num_classes=100,
        download="143 MB",
        **CIFAR,
    ),
    HubSet(
        name="fashion-mnist",
        repository="zalando-datasets/fashion_mnist",
        folder="fashion_mnist",
        image_column="image",
        label_column="label",
        test_split="test",
        num_classes=10,
        size=28,
        download="31 MB",
        gray=True,
        class_names=FASHION_CLASSES,
    ),
    HubSet(name="tiny-imagenet", num_classes=200, **TINY_IMAGENET),
    HubSet(name="tiny-imagenet-40", num_classes=40, in_part=True, **TINY_IMAGENET),
)
