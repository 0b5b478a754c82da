"""Which classes a run learned, and which it left out most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infobatch.lab.data import Data
from infobatch.lab.tasks.classification import Evaluation

CLASS_HEADINGS = (
    *("class, the most pruned first", "accuracy %", "test images"),
    *("left out %", "train images", "mean loss"),
)


@dataclass(frozen=True)
class ClassRow:
    """One class: ``accuracy`` in percent over ``num_test`` images; ``left_out``: share of its training
    images times epochs; ``mean_loss``: of its images' scores.
    """

    name: str
    accuracy: float
    num_test: int
    left_out: float
    num_train: int
    mean_loss: float

    def cells(self) -> list[str]:
        return [
            self.name,
            f"{self.accuracy:.2f}",
            f"{self.num_test:,}",
            f"{100 * self.left_out:.1f}",
            f"{self.num_train:,}",
            f"{self.mean_loss:.3f}",
        ]


def class_rows(
    data: Data, scores: Mapping[str, Tensor], evaluation: Evaluation, num_full: int
) -> list[ClassRow]:
    """A row for each class, the most pruned first.

    ``scores``: what the run exported. ``num_full``: samples of the run on full data.
    """
    labels = data.train_labels.cpu()
    num_classes = data.num_classes
    sizes = torch.bincount(labels, minlength=num_classes).double()
    visits = torch.zeros(num_classes, dtype=torch.float64)
    visits.index_add_(0, labels, scores["visits"].double())
    losses = torch.zeros(num_classes, dtype=torch.float64)
    scored = ~scores["last_loss"].isnan()
    losses.index_add_(0, labels[scored], scores["last_loss"][scored].double())
    num_scored = torch.bincount(labels[scored], minlength=num_classes)
    left_out = 1 - visits / (sizes * (num_full / len(labels)))
    means = losses / num_scored
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
