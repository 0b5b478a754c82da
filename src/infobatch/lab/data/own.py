"""The data of a training function of the user's, which alone knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from infobatch.lab.data.base import Data

OWN = "own"


@dataclass(frozen=True)
class OwnData(Data):
    """The samples that a training function trains on, or none before it was called.

    Args:
        labels: The class of each sample, int64 (N,), where the function tells it.
    """

    name: str = OWN
    train: Any = range(0)
    test: Any = range(0)
    class_names: tuple[str, ...] = ()
    labels: Tensor | None = field(default=None, compare=False)

    @classmethod
    def of(cls, dataset: Any, labels: Tensor | Sequence[int] | None) -> OwnData:
        """What a function tells of its data: a map-style dataset, and the labels of its samples."""
        return cls(train=dataset, labels=None if labels is None else _whole_numbers(labels))

    @property
    def train_labels(self) -> Tensor | None:
        return self.labels


def _whole_numbers(labels: Any) -> Tensor:
    """Labels, int64 (N,); ``ValueError`` for what is none."""
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be whole numbers, one for each sample ({error})") from error
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ValueError(
            "labels must be whole numbers, one for each sample; they are of shape "
            f"{tuple(found.shape)} and dtype {found.dtype}"
        )
    return found.cpu().long()


class OwnSource:
    """Stands for data that a training function reads."""

    name = OWN
    download = ""

    def __call__(self, *args: Any, **options: Any) -> Data:
        """Data without samples."""
        return OwnData()
