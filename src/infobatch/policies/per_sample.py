"""What some policies are given for each sample: its class, a score from before the run, or a mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from infobatch.policies.base import Policy
from infobatch.scores.columns import IndexArray

Numbers = Tensor | np.ndarray | Sequence[int] | Sequence[float]
"""One number for each sample, in the order of the dataset."""


def classes_of(labels: Numbers | None, policy: str) -> IndexArray:
    """The class of each sample, int64 (N,), numbered 0..C-1 in the order of the ``labels`` (N,)."""
    if labels is None or isinstance(labels, Policy):
        raise TypeError(
            f"{policy} goes by classes and has no labels; give {policy}(labels), the class of each "
            "sample, in the dataset's order"
        )
    values = as_array(labels, "labels")
    if values.dtype.kind not in "iu":
        raise TypeError(f"the labels have dtype {values.dtype}; they must be integers, one a sample")
    codes: IndexArray = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return codes


def members_of(classes: IndexArray) -> list[IndexArray]:
    """The indices of the samples of each class 0..C-1, in rising order."""
    ends = np.cumsum(np.bincount(classes))[:-1]
    return np.split(np.argsort(classes, kind="stable"), ends)


def check_every_class_is_kept(num_pruned: int, num_samples: int, num_classes: int) -> None:
    """Refuse a target that keeps fewer samples than there are classes."""
    if num_samples - num_pruned < num_classes:
        raise ValueError(
            f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch, but there "
            f"are {num_classes:,} classes, of each of which at least one is kept; lower the target"
        )


def scores_of(scores: Numbers | None, policy: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The ``scores`` (N,) as float64; they may be infinite, but not NaN."""
    if scores is None:
        raise TypeError(
            f"{policy} has no scores; give {policy}(scores), one number for each sample, in the "
            "dataset's order"
        )
    values = as_array(scores, "scores")
    if values.dtype.kind not in "iuf":
        raise TypeError(f"the scores have dtype {values.dtype}; they must be numbers")
    if np.isnan(values).any():
        raise ValueError(
            f"the score of sample {int(np.isnan(values).argmax())} is NaN; give each sample one"
        )
    return values.astype(np.float64)


def mask_of(kept: Tensor | np.ndarray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which samples are ``kept``, bool (N,), on the host."""
    mask = as_array(kept, "samples to keep")
    if mask.dtype.kind != "b":
        raise TypeError(
            f"the samples to keep have dtype {mask.dtype}; give bool, one a sample, in the "
            "dataset's order"
        )
    return mask


def as_array(numbers: Numbers, what: str) -> np.ndarray:
    """The ``numbers`` (N,) on the host; an error message calls them ``what``."""
    if isinstance(numbers, Tensor):
        numbers = numbers.detach().cpu()
        numbers = numbers.double() if numbers.is_floating_point() else numbers  # NumPy has no bfloat16
    values = np.asarray(numbers)
    if values.ndim != 1:
        raise ValueError(f"the {what} have shape {values.shape}; there must be one a sample, (N,)")
    return values
