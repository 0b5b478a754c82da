"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from infobatch.lab.data.builtin import load_digits, load_mnist5k
from infobatch.lab.data.hub import HUB_SETS
from infobatch.lab.data.images import Augment, ImageData, Images, Normalize
from infobatch.lab.names import choose

DATA_SETS: dict[str, Callable[[Path | None], ImageData]] = {
    "mnist5k": load_mnist5k,
    "digits": load_digits,
    **HUB_SETS,
}


def load_data(name: str, data_dir: Path | None = None) -> ImageData:
    """The data set of that name; ``data_dir``, or INFOBATCH_DATA_DIR, holds those not built in."""
    load = choose("data set", name, DATA_SETS)
    folder = data_dir or os.environ.get("INFOBATCH_DATA_DIR")
    return load(Path(folder) if folder else None)


__all__ = ["DATA_SETS", "Augment", "ImageData", "Images", "Normalize", "load_data"]
