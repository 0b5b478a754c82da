"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infobatch.lab.data.augment import Augment, Mixing
from infobatch.lab.data.base import Data
from infobatch.lab.data.builtin import load_digits, load_mnist5k
from infobatch.lab.data.feed import Feed, ImageFeed, make_feed
from infobatch.lab.data.files import FILE_SETS
from infobatch.lab.data.hub import HUB_SETS
from infobatch.lab.data.images import ImageData, Images, Normalize
from infobatch.lab.data.instructions import INSTRUCTION_SETS
from infobatch.lab.data.segmentation import SEGMENTATION_SETS, SegmentationData
from infobatch.lab.data.streamed import StreamedData
from infobatch.lab.names import choose

DATA_SETS: dict[str, Callable[..., Data]] = {
    "mnist5k": load_mnist5k,
    "digits": load_digits,
    **HUB_SETS,
    **FILE_SETS,
    **INSTRUCTION_SETS,
    **SEGMENTATION_SETS,
}

DOWNLOADS = {
    **{name: hub_set.download for name, hub_set in HUB_SETS.items()},
    **{name: file_set.download for name, file_set in FILE_SETS.items() if file_set.download},
    **{name: each.download for name, each in INSTRUCTION_SETS.items() if each.download},
    "ade20k": SEGMENTATION_SETS["ade20k"].download,
}
"""What a download of each set takes that is not built in."""


def load_data(name: str, data_dir: Path | None = None, **options: Any) -> Data:
    """The data set of that name; ``data_dir``, or INFOBATCH_DATA_DIR, holds those not built in.

    ``options``: those that the sets of its task have.
    """
    return choose("data set", name, DATA_SETS)(local_folder(data_dir), **options)


def local_folder(data_dir: Path | None) -> Path | None:
    """Where data sets that are not built in lie; None where they have to be downloaded."""
    folder = data_dir or os.environ.get("INFOBATCH_DATA_DIR")
    return Path(folder) if folder else None


__all__ = [
    "DATA_SETS",
    "DOWNLOADS",
    "Augment",
    "Data",
    "Feed",
    "ImageData",
    "ImageFeed",
    "Images",
    "Mixing",
    "Normalize",
    "SegmentationData",
    "StreamedData",
    "load_data",
    "local_folder",
    "make_feed",
]
