"""What pruning would save: predicted from scores, before a run or in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch

from infobatch.batching import ANY_SIZE, EpochSizes
from infobatch.noise import HOW_TO_GIVE_NORMS, NormsFrom, norms_of_losses
from infobatch.policies import NoiseBudget, Policy, Request
from infobatch.policies.base import (
    BiasedPolicy,
    check_one_says_how_much,
    check_policy,
    check_targets,
    goes_by_scores,
)
from infobatch.schedule import Schedule
from infobatch.scores.table import ScoreTable
from infobatch.selection import select
from infobatch.user_warnings import warn_user

__all__ = ["BudgetSaving", "BudgetSavings", "Saving", "predict_budgets", "predict_saving"]

BUDGETS = (1.05, 1.1, 1.25, 1.5, 2.0)
"""Budgets of noise that savings are predicted for."""
_MOST_EPOCHS = 12
"""Epochs that are looked at, over the run, where a policy goes by their numbers."""


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


def predict_saving(
    scores: ScoreTable,
    policy: Policy,
    schedule: Schedule,
    norms_from: NormsFrom = "cross-entropy",
    *,
    epoch_sizes: EpochSizes = ANY_SIZE,
) -> Saving:
    """Predict what a run would save if every pruned epoch saw scores distributed as these are.

    It is exact where the schedule has a target, but for whole groups, which come near it. Otherwise it
    extrapolates: as a run goes on, most losses fall below the mean, so that an early prediction tends to
    be low. Shares are of all samples: where a loader drops a last short batch, full data trains fewer,
    and the saving is less by as much.

    Args:
        scores: Scores of all samples, such as :func:`read_scores` gives.
        policy: What the run would leave out.
        schedule: Which of its epochs would be pruned.
        norms_from: What losses are, for a policy that goes by norms of gradients: see
            :func:`infobatch.noise.norms_of_losses`.
        epoch_sizes: How many samples a pruned epoch may keep; any number by default.

    Returns:
        The predicted saving.

    Raises:
        ValueError: If no sample has a score, and the policy goes by scores; if the policy cannot leave
            out as many samples as the schedule's target asks for; or if scores, schedule and what the
            policy was given are of other numbers of samples.
        TypeError: If ``policy`` is none.
    """
    check_policy(policy, scores.num_samples)
    if schedule.num_samples != scores.num_samples:
        raise ValueError(
            f"the schedule is of {schedule.num_samples:,} samples, and there are scores of "
            f"{scores.num_samples:,}; make it with Schedule(len(scores), ...)"
        )
    check_one_says_how_much(policy, schedule.has_target)
    if not schedule.has_target:
        return _predicted(scores, policy, schedule, norms_from, epoch_sizes)
    check_targets(policy, schedule.numbers_pruned, scores.num_samples)
    epochs = [epoch for epoch in range(schedule.num_epochs) if schedule.prunes(epoch)]
    num_pruned = sum(schedule.share(e) * (schedule.num_pruned(e) or 0) for e in epochs)
    left_out = num_pruned / scores.num_samples
    each = left_out / len(epochs) if epochs else 0.0
    return Saving(left_out / schedule.run_length, each, len(epochs), schedule.run_length)


def _predicted(
    scores: ScoreTable,
    policy: Policy,
    schedule: Schedule,
    norms_from: NormsFrom,
    epoch_sizes: EpochSizes,
) -> Saving:
    """What a policy would leave out of every epoch that may be pruned."""
    if goes_by_scores(policy) and bool(scores["last_loss"].isnan().all()):
        raise ValueError(
            "no sample has a score yet, so there is nothing to predict from; ask again after an "
            "epoch, or give the scores of another run"
        )
    if policy.estimates_norms:
        scores = with_norms(scores, policy.columns, norms_from)
    epochs = schedule.prunable
    generator, first = torch.Generator().manual_seed(0), schedule.first_pruned
    request = Request(None, generator, first, epochs, epoch_sizes)
    numbers = [first]
    if isinstance(policy, BiasedPolicy) and epochs:
        places = np.linspace(epochs[0], epochs[-1], min(len(epochs), _MOST_EPOCHS))
        numbers = [round(place) for place in places.tolist()]
    kept = [select(policy, scores, replace(request, epoch=number)).num_selected for number in numbers]
    each = 1 - fmean(kept) / scores.num_samples
    left_out = each * sum(map(schedule.share, epochs))
    return Saving(left_out / schedule.run_length, each, len(epochs), schedule.run_length)


class BudgetSaving(NamedTuple):
    """What a budget of noise would save.

    Args:
        max_noise: The budget: see :class:`NoiseBudget`.
        saving: The predicted saving.
    """

    max_noise: float
    saving: Saving

    @property
    def random_noise(self) -> float:
        """The noise of a step if as much were left out of an epoch at random."""
        return 1 / (1 - self.saving.epoch)


class BudgetSavings(tuple[BudgetSaving, ...]):
    """What several budgets of noise would save; print it."""

    def __str__(self) -> str:
        lines = ["  noise   left out of a pruned epoch   of the run   noise of random pruning"]
        lines += [
            f"  {each.max_noise:<7g} {each.saving.epoch:>23.1%} {each.saving.run:>15.1%} "
            f"{each.random_noise:>20.2f}"
            for each in self
        ]
        return "\n".join(lines)


def predict_budgets(
    scores: ScoreTable,
    schedule: Schedule,
    norms_from: NormsFrom = "cross-entropy",
    budgets: Sequence[float] = BUDGETS,
    *,
    epoch_sizes: EpochSizes = ANY_SIZE,
) -> BudgetSavings:
    """Predict what budgets of noise would save, if gradients kept the norms that they have now.

    That is what pruning can pay on these data: next to nothing where norms are alike. As a run goes on
    more samples are learned, so that an early prediction tends to be low.

    Args:
        scores: Scores of all samples, such as :func:`read_scores` gives; norms of gradients if it has
            them, else losses.
        schedule: Which epochs would be pruned.
        norms_from: What losses are: see :func:`infobatch.noise.norms_of_losses`.
        budgets: Budgets, each above 1.
        epoch_sizes: How many samples a pruned epoch may keep; any number by default.

    Returns:
        The predicted saving of each budget.

    Raises:
        ValueError: If no sample has a score, or for a budget that is not above 1.

    Warns:
        UserWarning: If norms would follow from losses that do not tell them: negative ones, and those
            that are no plain cross-entropies and are taken for such.
    """
    _warn_of_norms(scores, norms_from)
    return BudgetSavings(
        BudgetSaving(budget, _predicted(scores, NoiseBudget(budget), schedule, norms_from, epoch_sizes))
        for budget in budgets
    )


def _warn_of_norms(scores: ScoreTable, norms_from: NormsFrom) -> None:
    """Warn of budgets that are predicted by norms which do not follow from the losses."""
    if scores.made_of is not None and norms_from == "cross-entropy":
        warn_user(
            f"the losses look like {scores.made_of}, and what budgets save is predicted as if "
            f"they were plain cross-entropies; {HOW_TO_GIVE_NORMS} under a policy that reads them, such "
            'as NoiseBudget(), or if they are errors say norms_from="squared-error" or "losses"'
        )
    elif not scores.tells_norms and scores.made_of is None:
        lowest = float(np.nanmin(scores["last_loss"].numpy()))
        warn_user(
            f"losses go down to {lowest:.4g}, and negative ones say nothing of the norms of "
            "gradients that budgets are predicted by; give update gradient_norms=... under a policy "
            "that reads them, such as NoiseBudget(), or scores=... that are at least 0"
        )


def with_norms(scores: ScoreTable, columns: Sequence[str], norms_from: NormsFrom) -> ScoreTable:
    """The scores with the columns that a policy reads, from losses where no norms are known."""
    if set(columns) <= set(scores.columns):
        return scores
    table = ScoreTable(len(scores), ("last_loss", "visits", *columns))
    losses = scores["last_loss"]
    norms = scores.last_norms
    if norms is None:
        norms = norms_of_losses(losses, norms_from)
    table.begin(losses.numpy(), norms.numpy())
    table.write("visits", scores["visits"])
    return table
