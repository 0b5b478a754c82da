"""One run by class: how well each was learned, and how often it was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infobatch.lab.data import Data
from infobatch.lab.tasks.base import Evaluation
from infobatch.lab.tasks.metrics import Metric


def class_headings(metric: Metric, tells_left_out: bool = True) -> tuple[str, ...]:
    """Headings of the cells of :class:`ClassRow`.

    Args:
        metric: What its classes are judged by.
        tells_left_out: Whether it is known how often each class was left out.

    Returns:
        One heading for each column.
    """
    return (
        "class, the most pruned first" if tells_left_out else "class",
        *(metric.heading, "test samples"),
        *(["left out %"] if tells_left_out else []),
        *("train samples", "mean score"),
    )


@dataclass(frozen=True)
class ClassRow:
    """One class of a run.

    Args:
        name: The name of the class.
        result: The metric over the test samples that have the class.
        num_test: The number of those.
        left_out: The share of its training samples that an epoch left out, on average over epochs; NaN
            without any, and None where it is not known.
        num_train: The number of training samples that have it.
        mean_score: The mean score of those, at the end of the run.
    """

    name: str
    result: float
    num_test: int
    left_out: float | None
    num_train: int
    mean_score: float

    def cells(self, metric: Metric) -> list[str]:
        return [
            self.name,
            metric.text(self.result),
            f"{self.num_test:,}",
            *([] if self.left_out is None else [f"{100 * self.left_out:.1f}"]),
            f"{self.num_train:,}",
            f"{self.mean_score:.3f}",
        ]


def class_rows(
    data: Data, scores: Mapping[str, Tensor], evaluation: Evaluation, num_full: int | None
) -> list[ClassRow]:
    """Tell how a run treated each class.

    Args:
        data: The data that it was trained on.
        scores: The columns that it exported, (N,) each.
        evaluation: Its evaluation on the test set.
        num_full: The samples that the run has on full data, over all epochs; None where visits do not
            tell what was left out, as within batches.

    Returns:
        A row for each class, the most pruned first and those without samples last; none where the data
        has no classes.
    """
    if data.class_members is None or not evaluation.per_class:
        return []
    indices, classes = data.class_members
    visits, losses = scores["visits"].double(), scores["last_loss"].double()
    num_samples, num_classes = len(visits), data.num_classes
    sizes = torch.bincount(classes, minlength=num_classes).double()
    trained = torch.bincount(classes, visits[indices], num_classes)
    scored = ~losses[indices].isnan()
    num_scored = torch.bincount(classes[scored], minlength=num_classes)
    means = torch.bincount(classes[scored], losses[indices][scored], num_classes) / num_scored
    left_out = None if num_full is None else 1 - trained / (sizes * (num_full / num_samples))
    rows = [
        ClassRow(
            name,
            evaluation.per_class[c],
            evaluation.counts[c],
            None if left_out is None else float(left_out[c]),
            int(sizes[c]),
            float(means[c]),
        )
        for c, name in enumerate(data.class_names)
    ]
    if left_out is None:
        return rows
    order = left_out.nan_to_num(-torch.inf).argsort(descending=True, stable=True)
    return [rows[c] for c in order.tolist()]
