"""Image sets in parquet files of the Hugging Face hub's layout."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infobatch.lab.data import parquet
from infobatch.lab.data.images import ImageData, Images, unreadable


@dataclass(frozen=True)
class HubSet:
    """Where a set lies on the hub, and the names of its columns and splits.

    ``size``: of its images, in pixels. ``download``: what a download of it takes. ``in_part``: only
    the first ``num_classes`` of its classes are used.
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

    def __call__(self, data_dir: Path | None) -> ImageData:
        files = self._files(data_dir)
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
        """As the hub's files name them; numbers where a file does not."""
        from pyarrow.parquet import read_schema

        described = (read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(described).get("info", {}).get("features", {})
        names = features.get(self.label_column, {}).get("names") or map(str, range(self.num_classes))
        return tuple(names)[: self.num_classes]

    def _files(self, data_dir: Path | None) -> dict[str, list[Path]]:
        if data_dir is None:
            folders = [parquet.download(self.name, self.repository, self.folder)]
        else:
            folders = [data_dir / self.name, data_dir / self.folder, data_dir]
        remedy = (
            f"download them from huggingface.co/datasets/{self.repository}, or leave --data-dir out to "
            "have that done"
        )
        return parquet.find(self.name, folders, ("train", self.test_split), remedy)

    def _read(self, paths: list[Path]) -> Images:
        pixels, labels = [], []
        for path in paths:
            images, classes = self._columns(path)
            if self.in_part:
                rows = np.flatnonzero(classes < self.num_classes)
                images, classes = [images[row] for row in rows], classes[rows]
            pixels.append(_decode(images, path, self.size))
            labels.append(classes)
        merged = np.concatenate(labels)
        wrong = (merged < 0) | (merged >= self.num_classes)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"label {merged[row]} in row {row} (from 0) of {paths[0].name} and its siblings is out "
                f"of range; {self.name} has classes 0..{self.num_classes - 1}"
            )
        return Images(torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(merged))

    def _columns(self, path: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
        table = parquet.read(self.name, path, (self.image_column, self.label_column))
        labels = table[self.label_column].to_numpy().astype(np.int64)
        return table[self.image_column].to_pylist(), labels


def _decode(images: list[dict[str, Any]], path: Path, size: int) -> np.ndarray:
    """Decode every image once, into uint8 (N, 3, size, size)."""
    from PIL import Image

    pixels = np.empty((len(images), 3, size, size), dtype=np.uint8)

    def decode(row: int) -> None:
        try:
            image = Image.open(io.BytesIO(images[row]["bytes"])).convert("RGB")
        except Exception as error:
            raise unreadable(f"row {row} (from 0) of {path}", error) from error
        if image.size != (size, size):
            raise ValueError(
                f"row {row} (from 0) of {path} is an image of {image.size[0]}x{image.size[1]} pixels; "
                f"expected {size}x{size}"
            )
        pixels[row] = np.asarray(image).transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode, range(len(images))):
            pass
    return pixels


def _tiny_imagenet(name: str, num_classes: int, in_part: bool = False) -> HubSet:
    return HubSet(
        name,
        "zh-plus/tiny-imagenet",
        "data",
        "image",
        "label",
        "valid",
        num_classes,
        size=64,
        download="147 MB",
        in_part=in_part,
    )


HUB_SETS = {
    hub_set.name: hub_set
    for hub_set in (
        HubSet("cifar10", "uoft-cs/cifar10", "plain_text", "img", "label", "test", 10, 32, "144 MB"),
        HubSet(
            "cifar100", "uoft-cs/cifar100", "cifar100", "img", "fine_label", "test", 100, 32, "143 MB"
        ),
        _tiny_imagenet("tiny-imagenet", num_classes=200),
        _tiny_imagenet("tiny-imagenet-40", num_classes=40, in_part=True),
    )
}
