"""What there is to see of each sample: its label, and an image, a text or the values of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from infobatch.lab.data import Data, ImageData, SegmentationData, StreamedData, TableData
from infobatch.lab.data.instructions import Row
from infobatch.lab.data.streamed import EncodedImages
from infobatch.lab.data.tables import Table
from infobatch.lab.tasks.tokens import TokenData


class ByIndex(Protocol):
    """Samples by their index: a sequence, an array, a tensor or a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Contents:
    """What is known of the samples besides their training; all parts have N entries or are None.

    Args:
        labels: The class of each sample, int64 (N,), in [0, number of classes).
        class_names: The names of the classes, in the order of their numbers.
        images: The image of each sample; see :func:`infobatch.lab.explorer.thumbnails.picture_of`.
        texts: The text of each sample.
        table: The values of each column of a table, by the column's name.
        origin: The index of each sample in the whole set, where a part of it was trained, int64 (N,).
    """

    labels: np.ndarray | None = None
    class_names: Sequence[str] = ()
    images: ByIndex | None = None
    texts: Sequence[str] | None = None
    table: Mapping[str, ByIndex] | None = None
    origin: np.ndarray | None = None

    def check(self, num_samples: int, run: str) -> None:
        """Refuse what is not of the samples that were recorded.

        Args:
            num_samples: N, the samples of the run.
            run: What the run is called, for errors.

        Raises:
            ValueError: If a part has another length, or a label has no class.
        """
        columns = {f"table[{name!r}]": values for name, values in (self.table or {}).items()}
        own = {name: getattr(self, name) for name in ("labels", "images", "texts", "origin")}
        parts = {**own, **columns}
        for name, part in parts.items():
            if part is not None and len(part) != num_samples:
                raise ValueError(
                    f"{name} has {len(part):,} entries, but {run} was recorded of {num_samples:,} "
                    "samples; give those of the data that it was trained on, in the same order"
                )
        if self.labels is None or not len(self.labels):
            return
        for label in (int(self.labels.min()), int(self.labels.max())):
            if not 0 <= label < len(self.class_names):
                raise ValueError(
                    f"labels has {label}, but there are {len(self.class_names):,} classes; give the "
                    f"names of all of them, for labels 0..{len(self.class_names) - 1}"
                )


def contents_of(data: Data) -> Contents:
    """What the training samples of one of the lab's data sets show.

    Args:
        data: The data, as it is trained on.

    Returns:
        The contents; of data that only a training function knows, none.
    """
    labels = data.train_labels
    labelled = Contents(
        None if labels is None else labels.cpu().numpy(),
        data.class_names,
        origin=None if data.origin is None else data.origin.numpy(),
    )
    if isinstance(data, ImageData):
        return replace(labelled, images=data.train.pixels)
    if isinstance(data, StreamedData):
        return replace(labelled, images=_Encoded(data.train))
    if isinstance(data, SegmentationData):
        return Contents(images=data.train, origin=labelled.origin)
    if isinstance(data, TokenData):
        return replace(labelled, texts=[_text(example.row) for example in data.train])
    if isinstance(data, TableData):
        return replace(labelled, table=_columns(data, data.train))
    return labelled


def _text(row: Row) -> str:
    return "\n\n".join(filter(None, (row.instruction, row.input, row.output)))


def _columns(data: TableData, rows: Table) -> dict[str, ByIndex]:
    numbers = zip(data.schema.numbers, rows.numbers.numpy().T, strict=True)
    columns: dict[str, ByIndex] = dict(numbers)
    names = zip(data.schema.categories, data.categories, rows.codes.numpy().T, strict=True)
    for name, values, codes in names:
        columns[name] = np.array(["", *values], dtype=object)[codes]
    if not data.class_names:  # classes are shown as labels
        columns[data.schema.target] = rows.labels.numpy()
    return columns


class _Encoded:
    """Images on disk, as what Pillow opens."""

    def __init__(self, images: EncodedImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        return self._images.source.read(index)
