"""Which classes a run learned, and which it left out most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infobatch.lab.data import Data
from infobatch.lab.tasks.base import Evaluation
from infobatch.lab.tasks.metrics import Metric


def class_headings(metric: Metric) -> tuple[str, ...]:
    """Of the columns of :meth:`ClassRow.cells`."""
    return (
        *("class, the most pruned first", metric.heading, "test samples"),
        *("left out %", "train samples", "mean score"),
    )


@dataclass(frozen=True)
class ClassRow:
    """One class: its ``result`` over the ``num_test`` test samples that have it; ``left_out``: share of
    its training samples times epochs; ``mean_score``: of its training samples.
    """

    name: str
    result: float
    num_test: int
    left_out: float
    num_train: int
    mean_score: float

    def cells(self, metric: Metric) -> list[str]:
        return [
            self.name,
            metric.text(self.result),
            f"{self.num_test:,}",
            f"{100 * self.left_out:.1f}",
            f"{self.num_train:,}",
            f"{self.mean_score:.3f}",
        ]


def class_rows(
    data: Data, scores: Mapping[str, Tensor], evaluation: Evaluation, num_full: int
) -> list[ClassRow]:
    """A row for each class, the most pruned first; none where the data has no classes.

    ``scores``: what the run exported. ``num_full``: samples of the run on full data.
    """
    if data.class_members is None or not evaluation.per_class:
        return []
    samples, classes = data.class_members
    visits, losses = scores["visits"].double(), scores["last_loss"].double()
    num_samples, num_classes = len(visits), data.num_classes
    sizes = torch.bincount(classes, minlength=num_classes).double()
    trained = torch.bincount(classes, visits[samples], num_classes)
    scored = ~losses[samples].isnan()
    num_scored = torch.bincount(classes[scored], minlength=num_classes)
    means = torch.bincount(classes[scored], losses[samples][scored], num_classes) / num_scored
    left_out = 1 - trained / (sizes * (num_full / num_samples))
    rows = [
        ClassRow(
            name,
            evaluation.per_class[c],
            evaluation.counts[c],
            float(left_out[c]),
            int(sizes[c]),
            float(means[c]),
        )
        for c, name in enumerate(data.class_names)
    ]
    return sorted(rows, key=lambda row: -row.left_out)
