"""What is recorded of a run: a line an epoch, and a summary once it has finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch: counts of samples, losses, test results at its end, quantiles of all scores.

    ``num_kept``: those trained; ``num_forward``: those that had a forward pass alone. ``train_loss`` is
    weighted: an unbiased estimate of the mean over all samples, kept or not. ``result``: the task's
    metric on the test set; there are test results for the epochs that were evaluated.
    ``effective_share``: of a pruned epoch, see :class:`Selection`. ``noise_ratio`` and ``bias``: of the
    epoch that comes next, where measured, see :mod:`infobatch.lab.training.gradient_noise`.
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

    @property
    def cost(self) -> float:
        """All that was computed, in samples trained."""
        return self.num_kept + FORWARD_COST * self.num_forward


FORWARD_COST = 1 / 3
"""Of a forward pass alone, as a share of training on the sample: a backward pass takes twice as long."""

SCORE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
VISIT_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Summary:
    """A finished run. ``result``, in the task's metric, and ``details``, further figures by name: after
    the last epoch; ``seconds``: of training, and of scoring beforehand. ``num_forward``: samples that
    had a forward pass alone; ``num_scoring``: samples trained beforehand, to score them. ``visits``:
    quantiles of how often a sample was trained; ``class_balance``: the share of a class among what was
    trained over its share of the data, the lowest and the highest.
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

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Summary:
        return cls(**renamed(values, {"accuracy": "result"}, dropped="top5"))

    @property
    def saved(self) -> float:
        """The share of the samples of this run's epochs that was left out."""
        return 1 - self.num_trained / self.num_full

    @property
    def cost(self) -> float:
        """All that was computed, in samples trained."""
        return self.num_trained + FORWARD_COST * self.num_forward + self.num_scoring


def renamed(values: dict[str, Any], names: Mapping[str, str], dropped: str = "") -> dict[str, Any]:
    """What older releases wrote, under the names of this one."""
    return {names.get(name, name): value for name, value in values.items() if name != dropped}
