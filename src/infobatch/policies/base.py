"""A policy turns what is known about each sample into its keep probability."""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import nearest_multiple
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.columns import COLUMNS, LOSSES, SIGNALS, IndexArray
from infobatch.scores.table import ScoreTable


@dataclass(frozen=True)
class KeepProbabilities:
    """The probability, in (0, 1], with which each sample is kept this epoch.

    Without ``strata``, ``probabilities`` has shape (N,): one for each sample. With ``strata``, a
    uint8 tensor of shape (N,) that names each sample's stratum 0..S-1, it has shape (S,): one for
    each stratum, and the draw takes a fixed number from every stratum.

    ``order``, int64 (N,), without strata: the draw passes over the samples in it, so that of any stretch
    of it as many are kept as its probabilities sum to, but for one; by default it is random.

    ``credit``, (N,): how many visits each sample is owed of epochs before, NaN where none was drawn yet.
    The draw then takes those that are owed most: see :class:`Spaced`.
    """

    probabilities: Tensor
    strata: Tensor | None = None
    order: Tensor | None = None
    credit: Tensor | None = None

    def per_sample(self) -> Tensor:
        """The keep probability of each sample, float64 (N,)."""
        probabilities = self.probabilities.to(torch.float64)
        return probabilities if self.strata is None else probabilities[self.strata.long()]


@dataclass(frozen=True)
class Request:
    """What a coming epoch asks of a policy.

    ``num_pruned``: how many samples to leave out, or None for the policy's own rule. ``generator``: of
    all that is random. ``epoch``: its number; ``prunable``: the epochs in which samples may be left out.
    ``multiple``: the number of samples selected is the nearest possible multiple of it.
    """

    num_pruned: int | None
    generator: torch.Generator
    epoch: int = 0
    prunable: range = range(0)
    multiple: int = 1

    def num_kept(self, num_samples: int, prune_ratio: float) -> int:
        """How many to keep, of samples all alike: a share 1 - r of them, or N - d."""
        num_pruned = self.num_pruned
        if num_pruned is None:
            num_pruned = round(prune_ratio * num_samples)
        return nearest_multiple(max(1, num_samples - num_pruned), self.multiple, num_samples)


class Policy(ABC):
    """Stateless: the score table owns all that is remembered, the draw owns all that is random.

    To add one, write its file here, list it in ``policies/__init__.py`` and write its card in
    ``docs/methods/``; the generic tests take it up from there.
    """

    columns: tuple[str, ...] = ("last_loss",)
    """The score columns it reads."""
    by: str = "last_loss"
    """The one of them that its strata are bounds on."""
    num_samples: int | None = None
    """How many samples it was given labels or scores of; None where it is given none."""
    given: ClassVar[str] = "labels"
    """What it was given of them."""

    refreshes: ClassVar[bool] = False
    """Whether it goes by the losses of all samples: those left out of an epoch must then be observed."""

    @abstractmethod
    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        """The keep probabilities of the coming epoch.

        Where ``request.num_pruned`` is given they (over strata: the counts they stand for) sum to
        exactly N - num_pruned. The request's generator is for breaking ties.
        """

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        """The same where no rank sees all scores: strata by score alone, and their probabilities.

        For ``layout=Sharded()``; a policy that gives each sample a probability of its own has none.
        """
        raise TypeError(
            f"{self!r} cannot be used with layout=Sharded(): it needs the scores of all samples on each "
            f"rank. Drop layout=, or give {type(self).__name__} a method score_bounds that names its "
            "strata by bounds on the score"
        )

    @abstractmethod
    def check_target(self, num_pruned: int, num_samples: int) -> None:
        """Raise ``ValueError`` with the remedy if no epoch can leave out ``num_pruned`` samples."""


class BiasedPolicy(Policy):
    """A rule in which some samples may have no chance, so that no weight makes up for them.

    The expected gradient is not that of full data. It gives its own weights, by default 1.
    """

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        raise TypeError(f"{self!r} is biased by design: it has weights, no keep probabilities")

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        check_some_are_kept(num_pruned, num_samples)

    @abstractmethod
    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        """The weights of the coming epoch, float32 (N,): 0 where a sample is left out."""


def ones_at(samples: IndexArray, num_samples: int) -> Tensor:
    """Weights, float32 (N,): 1 for ``samples`` (k,), 0 for all others."""
    weights = torch.zeros(num_samples)
    weights[torch.from_numpy(samples)] = 1
    return weights


def highest(values: np.ndarray, num: int, generator: torch.Generator) -> IndexArray:
    """The samples with the ``num`` highest ``values`` (n,), highest first, equal ones in random order.

    NaN counts as the highest of all: a sample without a score has to get one.
    """
    order = torch.randperm(len(values), generator=generator).numpy()
    ranked = np.argsort(-np.nan_to_num(values[order], nan=np.inf), kind="stable")
    return order[ranked[:num]]


def check_some_are_kept(num_pruned: int, num_samples: int) -> None:
    if num_pruned >= num_samples:
        raise ValueError(
            f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch; "
            "at least one must be kept, so lower the target"
        )


def mean_score(losses: Tensor) -> float:
    """The mean over the scored samples of ``losses`` (N,), in float32 after a float64 sum.

    The last rounding matters: the mean of equal scores is then that score, and none lies below it.
    NaN when no sample has a score.
    """
    scored = int(losses.numel() - losses.isnan().sum())
    total = torch.nansum(losses, dtype=torch.float64)
    return float((total / scored).to(torch.float32))


def prune_below_mean(losses: Tensor, prune_ratio: float, request: Request) -> KeepProbabilities:
    """Keep probability 1 - r below the mean of ``losses`` (N,), 1 elsewhere (InfoBatch, eq. 4).

    With an exact number d to leave out, for the ceil(d / r) lowest.
    """
    if request.num_pruned is not None:
        return prune_lowest(losses, [request.num_pruned], [prune_ratio], request.generator)
    below = losses < mean_score(losses)  # false where there is no score
    probabilities = torch.tensor([1.0, 1 - prune_ratio], dtype=torch.float64)
    return KeepProbabilities(probabilities, below.to(torch.uint8))


def prune_lowest(
    losses: Tensor,
    num_pruned: Sequence[int],
    prune_ratios: Sequence[float],
    generator: torch.Generator,
) -> KeepProbabilities:
    """Strata by rank, lowest scores first, that leave out exactly ``num_pruned[s]`` samples each.

    Stratum s holds the next ceil(num_pruned[s] / prune_ratios[s]) samples; all others are kept.
    """
    sizes = [stratum_size(d, r) for d, r in zip(num_pruned, prune_ratios, strict=True)]
    probabilities = [1 - d / n if n else 1.0 for d, n in zip(num_pruned, sizes, strict=True)]
    return rank_strata(losses, sizes, probabilities, generator)


def rank_strata(
    losses: Tensor,
    sizes: Sequence[int],
    probabilities: Sequence[float],
    generator: torch.Generator,
) -> KeepProbabilities:
    """Strata of the given sizes by rank, lowest scores first, and a last one that is kept whole.

    Samples without a score rank last; equal scores are ordered at random.
    """
    values = torch.nan_to_num(losses, nan=torch.inf).numpy()
    ends = np.cumsum(sizes, dtype=np.int64)
    last = np.maximum(ends - 1, 0)  # the rank of each stratum's highest score
    bounds = np.partition(values, last)[last]
    strata = np.zeros(len(values), dtype=np.uint8)
    for bound in bounds:
        strata += values > bound
    for stratum, (end, bound) in enumerate(zip(ends, bounds, strict=True)):
        tied = np.flatnonzero((values == bound) & (strata == stratum))
        excess = np.count_nonzero(strata <= stratum) - end
        moved = torch.randperm(len(tied), generator=generator)[:excess].numpy()
        strata[tied[moved]] += 1
    return KeepProbabilities(
        torch.tensor([*probabilities, 1.0], dtype=torch.float64), torch.from_numpy(strata)
    )


def bounds_of_sizes(
    summary: ScoreSummary, sizes: Sequence[int], probabilities: Sequence[float]
) -> ScoreBounds:
    """Strata of the given sizes, lowest scores first, and a last one that is kept whole."""
    ends = list(itertools.accumulate(sizes))
    return ScoreBounds(summary.bounds_at(ends), [*probabilities, 1.0])


def bounds_of_lowest(
    summary: ScoreSummary, num_pruned: Sequence[int], prune_ratios: Sequence[float]
) -> ScoreBounds:
    """As :func:`prune_lowest`: strata that leave out exactly ``num_pruned[s]`` samples each."""
    sizes = [stratum_size(d, r) for d, r in zip(num_pruned, prune_ratios, strict=True)]
    probabilities = [1 - d / n if n else 1.0 for d, n in zip(num_pruned, sizes, strict=True)]
    return bounds_of_sizes(summary, sizes, probabilities)


def stratum_size(num_pruned: int, prune_ratio: float) -> int:
    """The fewest samples of which ``num_pruned`` are a share of at most ``prune_ratio``."""
    return math.ceil(num_pruned / prune_ratio - 1e-9) if num_pruned else 0


def check_prune_ratio(prune_ratio: float) -> None:
    if not isinstance(prune_ratio, Real):
        raise TypeError(f"prune_ratio is {prune_ratio!r}; it must be a number, such as 0.5")
    if not 0 <= prune_ratio < 1:
        raise ValueError(
            f"prune_ratio is {prune_ratio}; it is the share of the well-learned samples to leave "
            "out, at least 0 and less than 1 (at 1 they would never be seen again)"
        )


def check_looks_at_nothing(policy: Policy | None, where: str) -> None:
    """Refuse policies that want the losses of what is left out, where that is never fetched."""
    if policy is not None and policy.refreshes:
        raise ValueError(
            f"{policy!r} goes by the losses of all samples, and {where} does not fetch what is left "
            "out; take a policy that needs no more than what is trained, or a loop of your own"
        )


def check_observed(num_unobserved: int, policy: Policy, epoch: int) -> None:
    """Refuse to go on from losses that a policy wants known and nobody observed."""
    if policy.refreshes and num_unobserved:
        names = dict.fromkeys(COLUMNS[column].signal for column in policy.columns)
        signals = "".join(f", {name}=..." for name in names if name in SIGNALS)
        raise RuntimeError(
            f"{policy!r} goes by the losses of all samples, and those of {num_unobserved:,} left out of "
            f"epoch {epoch} were not observed. At the end of each epoch, with the model in evaluation "
            "mode and under torch.no_grad(), give it them:\n"
            "    left_out = Subset(IndexedDataset(dataset), pruner.left_out)\n"
            "    for samples, batch in DataLoader(left_out, batch_size, collate_fn=IndexedCollate()):\n"
            f"        pruner.observe(losses_of(batch), samples{signals})"
        )


def warn_of_no_effect(policy: Policy, warmup_epochs: int) -> None:
    """Warn of scores that are given to a run that will not read them."""
    if not reads_losses(policy):
        warnings.warn(f"scores have no effect: {policy!r} does not go by losses", stacklevel=4)
    elif warmup_epochs:
        warnings.warn(
            f"scores have no effect: warmup_epochs is {warmup_epochs}, and an epoch on all data gives "
            "newer ones; set warmup_epochs=0 to prune the first epoch",
            stacklevel=4,
        )


def reads_losses(policy: Policy) -> bool:
    """Whether a policy goes by what scores given before a run can tell."""
    kept = (COLUMNS[name] for name in policy.columns)
    return any(column.signal == LOSSES and not column.training for column in kept)
