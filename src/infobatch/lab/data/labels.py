"""The classes of images in parquet files, which have numbers or names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.lab.data.images import check_labels
from infobatch.lab.data.locations import some
from infobatch.lab.data.schema import is_text

LARGEST = 2**53
"""Up to here floats have all whole numbers."""

Place = Callable[[int], str]
"""Names a row's number and file, for errors."""


def read_labels(labels: Any, place: Place) -> np.ndarray:
    """The labels of a column of pyarrow.

    Args:
        labels: The column, of whole numbers, which may be floats, or of text.
        place: Names the place of a row.

    Returns:
        Numbers int64 (N,), or texts (N,), an array of objects.

    Raises:
        ValueError: If a label is missing or a fraction, or if labels have another type.
    """
    import pyarrow.types as types

    if labels.null_count:
        row = int(np.flatnonzero(np.asarray(labels.is_null()))[0])
        raise ValueError(f"{place(row)} has no label; give it one, or leave the row out of the file")
    values = np.asarray(labels)
    if is_text(labels.type):
        return values.astype(object)
    if types.is_floating(labels.type):
        is_whole = values == np.clip(np.floor(values), -LARGEST, LARGEST)
        if not is_whole.all():
            row = int(np.flatnonzero(~is_whole)[0])
            raise ValueError(
                f"{place(row)} has the label {values[row]:g}, which is no class; labels must be whole "
                "numbers from 0 on, or names"
            )
    elif not types.is_integer(labels.type) and not types.is_boolean(labels.type):
        raise ValueError(
            f"{place(0)} has a label of type {labels.type}; labels must be whole numbers from 0 on, or "
            "names"
        )
    return values.astype(np.int64)


def are_names(labels: np.ndarray) -> bool:
    """Whether labels that were read are texts."""
    return labels.dtype == object


def number_labels(labels: np.ndarray, class_names: Sequence[str], by_name: bool, place: Place) -> Tensor:
    """The numbers of the classes that labels name.

    Args:
        labels: What :func:`read_labels` gives.
        class_names: The names of the classes, in the order of their numbers.
        by_name: Whether labels are names, though they look like numbers.
        place: Names the place of a row.

    Returns:
        int64 (N,), from 0 to the number of classes - 1.

    Raises:
        ValueError: If a label is none of the classes.
    """
    if not by_name:
        numbers = torch.from_numpy(labels)
        check_labels(numbers, len(class_names), "the training images have", place)
        return numbers
    known = {name: number for number, name in enumerate(class_names)}
    for row, label in enumerate(map(str, labels)):
        if label not in known:
            raise ValueError(
                f"{place(row)} has the label {label!r}, which is no class of the training images "
                f"({some(class_names, 'class')}); correct it, or leave the row out of the file"
            )
    return torch.tensor([known[str(label)] for label in labels])
