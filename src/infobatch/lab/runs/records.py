"""What is recorded of a run: a line for each epoch, and a summary once it has finished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FORWARD_COST = 1 / 3
"""The cost of a forward pass alone, as a share of training on the sample: a backward pass takes twice as
long."""

SCORE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
VISIT_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class EpochMetrics:
    """What is recorded of one epoch.

    Args:
        epoch: Its number.
        num_kept: The samples trained.
        num_samples: N, the samples of the data set.
        train_loss: The weighted training loss, an unbiased estimate of the mean over all samples; NaN
            where it is not finite.
        test_loss: The mean loss on the test set; None for an epoch that was not evaluated, or where it
            is not finite.
        result: The task's metric on the test set; None as for ``test_loss``.
        seconds: The time its training took.
        lr: The learning rate of its last step; of a training function of the user's the run's highest.
        samples_so_far: The samples trained in the run up to its end.
        score_quantiles: Quantiles of all samples' scores, at ``SCORE_QUANTILES``; None without scores.
        effective_share: Of a pruned epoch, see :class:`Selection`; None for others.
        noise_ratio: The gradient noise of the coming epoch, see
            :mod:`infobatch.lab.training.gradient_noise`; None where it was not measured.
        bias: The gradient's bias in the coming epoch; None where it was not measured.
        num_forward: The samples that had a forward pass alone.
        noise: Of a pruned epoch, the noise of a step relative to one on full data in as many steps, by
            the norms of gradients when samples were trained: see :class:`infobatch.report.EpochCounts`;
            None for others, for biased policies, and on several processes for a last epoch.
    """

    epoch: int
    num_kept: int
    num_samples: int
    train_loss: float
    test_loss: float | None
    result: float | None
    seconds: float
    lr: float
    samples_so_far: int
    score_quantiles: Sequence[float | None]
    effective_share: float | None = None
    noise_ratio: float | None = None
    bias: float | None = None
    num_forward: int = 0
    noise: float | None = None

    @property
    def cost(self) -> float:
        """All that was computed, in samples trained."""
        return self.num_kept + FORWARD_COST * self.num_forward

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> EpochMetrics:
        """The epoch that a line of a file holds; what has no number there was none that is finite.

        Args:
            values: The fields by their names.
        """
        return cls(**{**values, "train_loss": _known(values["train_loss"])})


@dataclass(frozen=True)
class Summary:
    """What is recorded of a finished run.

    Args:
        result: The task's metric on the test set, after the last epoch.
        test_loss: The mean loss on the test set, after the last epoch.
        per_class: The metric, or its like, for each class; empty without classes.
        num_trained: The samples trained.
        num_full: The samples that the run would train on full data.
        num_steps: The steps taken.
        seconds: The time of training, and of scoring beforehand.
        evaluation_seconds: The time of evaluation.
        num_nonfinite: The losses and signals that were NaN or infinite.
        environment: The machine and the versions.
        details: Further figures by name, after the last epoch.
        num_forward: The samples that had a forward pass alone.
        num_scoring: The samples trained beforehand, to score them.
        visits: Quantiles of how often a sample was trained, at ``VISIT_QUANTILES``.
        class_balance: The lowest and the highest share of a class among what was trained, over its share
            of the data; empty without classes.
        mean_noise: The mean noise of the pruned epochs, see :class:`EpochMetrics`; None where it is not
            known of any.
        most_noise: The noise of the noisiest of them.
    """

    result: float
    test_loss: float
    per_class: Sequence[float]
    num_trained: int
    num_full: int
    num_steps: int
    seconds: float
    evaluation_seconds: float
    num_nonfinite: int
    environment: dict[str, Any]
    details: Mapping[str, float] = field(default_factory=dict)
    num_forward: int = 0
    num_scoring: float = 0
    visits: Sequence[float] = ()
    class_balance: Sequence[float] = ()
    mean_noise: float | None = None
    most_noise: float | None = None

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Summary:
        """The summary that a file holds; what has no number there was none that is finite.

        Args:
            values: The fields by their names.
        """
        numbers = {name: _known(values[name]) for name in ("result", "test_loss")}
        per_class = [_known(each) for each in values["per_class"]]
        details = {name: _known(each) for name, each in values.get("details", {}).items()}
        return cls(**{**values, **numbers, "per_class": per_class, "details": details})

    @property
    def saved(self) -> float:
        """The share of the samples of this run's epochs that was left out."""
        return 1 - self.num_trained / self.num_full

    @property
    def cost(self) -> float:
        """All that was computed, in samples trained."""
        return self.num_trained + FORWARD_COST * self.num_forward + self.num_scoring


def _known(value: float | None) -> float:
    return math.nan if value is None else value
