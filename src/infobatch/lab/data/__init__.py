"""The lab's data sets by name: how each is found, downloaded and read.

``DATA_SETS`` holds a source for each name, and ``load_data`` calls the one that is named:

- ``builtin``: small sets that come inside installed packages;
- ``hub``: images in memory, from parquet files of the Hugging Face hub;
- ``files``: images too large for memory, decoded while they are trained on (``streamed``);
- ``segmentation``: images with a class for each pixel;
- ``instructions``: instructions and their answers;
- ``local_tables``, ``flights``: rows of numbers and categories, from local files or packages.

``feed``, ``crops`` and ``table_feed`` bring them to the device.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from infobatch.lab.data.augment import Augment, Mixing
from infobatch.lab.data.base import Data, DataSource
from infobatch.lab.data.builtin import BUILTIN_SETS
from infobatch.lab.data.feed import Feed, ImageFeed, make_feed
from infobatch.lab.data.files import FILE_SETS
from infobatch.lab.data.hub import HUB_SETS
from infobatch.lab.data.images import ImageData, Images, Normalize
from infobatch.lab.data.instructions import INSTRUCTION_SETS
from infobatch.lab.data.own import OWN, OwnSource
from infobatch.lab.data.segmentation import SEGMENTATION_SETS, SegmentationData
from infobatch.lab.data.streamed import StreamedData
from infobatch.lab.data.table_files import is_table
from infobatch.lab.data.table_sets import REGRESSION_SETS, TABLE_SETS
from infobatch.lab.data.tables import TableData
from infobatch.lab.names import choose

DATA_SETS: dict[str, DataSource] = {
    **BUILTIN_SETS,
    **HUB_SETS,
    **FILE_SETS,
    **INSTRUCTION_SETS,
    **SEGMENTATION_SETS,
    **TABLE_SETS,
    **REGRESSION_SETS,
}

DOWNLOADS = {name: source.download for name, source in DATA_SETS.items() if source.download}
"""The size of the download of each set that can be downloaded, and what else it takes, in words."""


def load_data(name: str, data_dir: Path | None = None, **options: Any) -> Data:
    """Load a data set, and download it first where no folder is given.

    Args:
        name: One of :data:`DATA_SETS`.
        data_dir: The folder that holds the sets that are not built in; by default the environment
            variable INFOBATCH_DATA_DIR, and where that is unset too, the set is downloaded.
        **options: Options that only the sets of one task have, such as ``skip_bad`` for segmentation.

    Returns:
        The set with its training and test split.

    Raises:
        ValueError: For a name that is no set's, or files that cannot be read.
        FileNotFoundError: If the folder does not hold the set, or the set has no download.
        ConnectionError: If the set cannot be downloaded.
    """
    return find_source(name)(local_folder(data_dir), **options)


def find_source(name: str) -> DataSource:
    """Where the data set of a name lies.

    Args:
        name: One of :data:`DATA_SETS`, or ``own`` for what a training function of the user's reads.

    Returns:
        The set's source.

    Raises:
        ValueError: For a name that is no set's.
    """
    if name == OWN:
        return OwnSource()
    if is_table(name):
        named = name if ":" in name else f"{name}:COLUMN"
        raise ValueError(
            f"--data is {name}, a table of your own, which is named without --data: infobatch compare "
            f"{named}"
        )
    return choose("data set", name, DATA_SETS)


def local_folder(data_dir: Path | None) -> Path | None:
    """The folder of data sets: ``data_dir``, else INFOBATCH_DATA_DIR; None where neither is given."""
    folder = data_dir or os.environ.get("INFOBATCH_DATA_DIR")
    return Path(folder) if folder else None


__all__ = [
    "DATA_SETS",
    "DOWNLOADS",
    "Augment",
    "Data",
    "DataSource",
    "Feed",
    "ImageData",
    "ImageFeed",
    "Images",
    "Mixing",
    "Normalize",
    "SegmentationData",
    "StreamedData",
    "TableData",
    "find_source",
    "load_data",
    "local_folder",
    "make_feed",
]
