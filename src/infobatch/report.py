"""What pruning saves: predicted before a run, and counted in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

import torch

from infobatch.policies import Policy, Request
from infobatch.schedule import Schedule
from infobatch.scores.table import ScoreTable
from infobatch.selection import select

__all__ = ["EpochCounts", "Report", "Saving", "predict_saving"]


class EpochCounts(NamedTuple):
    """One epoch in numbers of samples.

    Args:
        epoch: Number of the epoch, from 0.
        num_selected: Samples that it trains, on all ranks.
        num_recorded: Samples whose losses were recorded, on all ranks.
        noise: The second moment of a step relative to one on full data in as many steps, as the norms of
            the gradients were when samples were trained: see :func:`infobatch.noise.noise_of`. None if it
            is not known: for biased policies, and on several ranks for the epoch under way.
    """

    epoch: int
    num_selected: int
    num_recorded: int
    noise: float | None = None


@dataclass(frozen=True)
class Saving:
    """A prediction of what a run saves; print it.

    Args:
        run: Share of the run's samples that is left out, in [0, 1).
        epoch: Share that is left out of a pruned epoch.
        num_prunable: Number of pruned epochs.
        num_epochs: Length of the run in epochs.
    """

    run: float
    epoch: float
    num_prunable: int
    num_epochs: float

    def __str__(self) -> str:
        return (
            f"predicted saving: {self.run:.1%} of the run's samples ({self.epoch:.1%} in each of "
            f"{self.num_prunable} pruned epochs of {self.num_epochs:g}), if the scores keep the "
            "distribution they have now"
        )


def predict_saving(scores: ScoreTable, policy: Policy, schedule: Schedule) -> Saving:
    """Predict what a run would save if every pruned epoch saw scores distributed as these are.

    It is exact where the schedule has a target. Otherwise it extrapolates: as a run goes on, most losses
    fall below the mean, so that an early prediction tends to be low.

    Args:
        scores: Scores of all samples, such as :func:`read_scores` gives.
        policy: What the run would leave out.
        schedule: Which of its epochs would be pruned.

    Returns:
        The predicted saving.

    Raises:
        ValueError: If no sample has a score, and the policy goes by scores.
    """
    epochs = [epoch for epoch in range(schedule.num_epochs) if schedule.prunes(epoch)]
    if schedule.has_target:
        num_pruned = sum(schedule.share(e) * (schedule.num_pruned(e) or 0) for e in epochs)
        left_out = num_pruned / scores.num_samples
        each = left_out / len(epochs) if epochs else 0.0
    else:
        if policy.columns and bool(scores["last_loss"].isnan().all()):
            raise ValueError(
                "no sample has a score yet, so there is nothing to predict from; ask again after an "
                "epoch, or give the scores of another run"
            )
        first = schedule.first_pruned
        request = Request(None, torch.Generator().manual_seed(0), first, schedule.prunable)
        each = 1 - select(policy, scores, request).num_selected / scores.num_samples
        left_out = each * sum(schedule.share(epoch) for epoch in epochs)
    return Saving(left_out / schedule.run_length, each, len(epochs), schedule.run_length)


@dataclass(frozen=True)
class Report:
    """What a run has trained and left out so far; print it.

    Args:
        num_samples: Samples in an epoch on full data.
        epochs: The epochs begun so far.
        num_nonfinite: Losses and signals that were NaN or infinite.
        max_noise: The budget of noise that the policy kept to; None if it has none.
        batch_size: Samples in a batch of full data, on all ranks; None if it is not known.
        shrinks_batches: Whether pruned epochs have smaller batches, and not fewer of them.
    """

    num_samples: int
    epochs: Sequence[EpochCounts]
    num_nonfinite: int
    max_noise: float | None = None
    batch_size: float | None = None
    shrinks_batches: bool = False

    @property
    def num_recorded(self) -> int:
        """Samples trained on, repeats counted each time."""
        return sum(counts.num_recorded for counts in self.epochs)

    @property
    def saved(self) -> float:
        """The share left out of the epochs listed, each of which would be N samples on full data."""
        selected = sum(counts.num_selected for counts in self.epochs)
        return 1 - selected / (len(self.epochs) * self.num_samples)

    @property
    def num_unreached(self) -> int:
        """Samples that were selected but not trained on, in epochs under way or broken off."""
        return sum(counts.num_selected - counts.num_recorded for counts in self.epochs)

    @property
    def noises(self) -> list[float]:
        """The noise of each pruned epoch, where it is known."""
        pruned = [counts for counts in self.epochs if counts.num_selected < self.num_samples]
        return [counts.noise for counts in pruned if counts.noise is not None]

    @property
    def noise(self) -> float | None:
        """Their mean; None without such an epoch."""
        return mean(self.noises) if self.noises else None

    @property
    def noise_of_a_step(self) -> float | None:
        """Mean noise of a step of pruned epochs, relative to a step on full data.

        Where batches shrink it is :attr:`noise`. Where epochs have fewer steps, with batches as large as
        on full data, each is less noisy by the share of samples that the epoch trains.
        """
        if self.shrinks_batches:
            return self.noise
        shares = [
            counts.num_selected / self.num_samples * counts.noise
            for counts in self.epochs
            if counts.num_selected < self.num_samples and counts.noise is not None
        ]
        return mean(shares) if shares else None

    def _noise_line(self) -> str:
        noise, of_a_step = self.noise, self.noise_of_a_step
        assert noise is not None
        assert of_a_step is not None
        asked = "" if self.max_noise is None else f", where at most {self.max_noise:g} was asked for"
        line = f"noise {noise:.2f} in pruned epochs, at most {max(self.noises):.2f}{asked}"
        if self.batch_size is not None:
            size, like = self.batch_size, round(self.batch_size / of_a_step)
            line += f": a step as noisy as one of batch {like:,} of {size:,.0f}"
            line += "" if self.shrinks_batches else ", and fewer steps"
        return line

    def __str__(self) -> str:
        total = len(self.epochs) * self.num_samples
        lines = [
            f"{len(self.epochs)} epochs: {self.num_recorded:,} of {total:,} samples trained, "
            f"{self.saved:.1%} left out"
        ]
        if self.num_unreached:
            lines.append(f"{self.num_unreached:,} more were selected, but not trained (yet)")
        if self.noise is not None:
            lines.append(self._noise_line())
        if self.num_nonfinite:
            lines.append(
                f"{self.num_nonfinite:,} losses or signals were NaN or infinite; those samples kept "
                "their scores"
            )
        return "\n".join(lines)
