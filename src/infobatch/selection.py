"""The draw: keep probabilities to a selection. The only place with sampling theory.

For every sample, (probability of being selected) x (weight when selected) = 1. Hence at fixed
parameters the expected weighted sum of per-sample losses over the selection is the sum over the
whole dataset (Horvitz & Thompson, 1952; InfoBatch, ICLR 2024, eq. 7), whatever the scores were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import LastBatch, nearest_multiple
from infobatch.chunks import chunks
from infobatch.made_whole import made_whole
from infobatch.policies.base import BiasedPolicy, KeepProbabilities, Policy, Request
from infobatch.scores.table import ScoreTable
from infobatch.seeding import permutation

__all__ = ["Selection", "draw", "inclusion_probabilities", "select"]


@dataclass(frozen=True)
class Selection:
    """The samples of one epoch, with their weights.

    The number of samples of each class in it is ``labels[selection.indices].bincount()``.

    Args:
        weights: Weight of each sample, float32 (N,): at least 1 where selected, 0 where left out.
        num_selected: Number of samples selected.
        credit: Visits that each sample is owed after this epoch, (N,), where the draw counts them; else
            None.
    """

    weights: Tensor
    num_selected: int
    credit: Tensor | None = None

    @property
    def indices(self) -> Tensor:
        """The selected samples in rising order, int64 (num_selected,)."""
        return self.weights.nonzero().flatten()

    @property
    def effective_share(self) -> float:
        """Number of equally weighted samples that it is worth, as a share of those selected, in (0, 1].

        It is (sum w)^2 / (n sum w^2), and 1 where all weights are equal.

        Source: Kish, *Survey Sampling*, 1965, section 11.7.
        """
        weights = self.weights.to(torch.float64)
        return float(weights.sum() ** 2 / (self.num_selected * weights.square().sum()))

    @classmethod
    def of(cls, weights: Tensor) -> Selection:
        """The selection with these weights, float32 (N,)."""
        return cls(weights, int(weights.count_nonzero()))

    @classmethod
    def full(cls, num_samples: int) -> Selection:
        """All samples, with weight 1."""
        return cls(torch.ones(num_samples), num_samples)


def select(policy: Policy, scores: ScoreTable, request: Request) -> Selection:
    """Select what a coming epoch trains on: by a draw, or as a biased policy says.

    Args:
        policy: What to leave out.
        scores: What is known of each sample.
        request: What the epoch asks of the policy.

    Returns:
        The selected samples and their weights.

    Raises:
        ValueError: If the policy's answer is not of all samples, or leaves out another number than the
            request asks for.
        TypeError: If the policy's answer is of another kind.
    """
    if isinstance(policy, BiasedPolicy):
        weights = policy.weights(scores, request)
        _check_weights(weights, policy, len(scores), request)
        return Selection.of(weights)
    keep = policy.keep_probabilities(scores, request)
    _check_probabilities(keep, policy, len(scores), request)
    return draw(keep, request.generator, request.multiple, request.least, request.last)


def draw(
    keep: KeepProbabilities,
    generator: torch.Generator,
    multiple: int = 1,
    least: int = 1,
    last: LastBatch | None = None,
) -> Selection:
    """Select samples with given probabilities; their number is known before the draw.

    With strata, k = clamp(round(n * probability), 1, n) of each stratum's n samples are drawn without
    replacement, with weight n / k. Without, a systematic draw from a random start gives exactly the
    inclusion probabilities, once their sum has been made whole, with weight 1 / p; it goes over a random
    order, or over the one that is given. With credit, the samples that are owed most are selected. With
    groups it is they that are drawn, and how many samples they have is left to them.

    Args:
        keep: The keep probabilities.
        generator: Source of all randomness.
        multiple: The number selected is the nearest multiple of this that is possible, unless nothing is
            to be left out: the global batch size, where the loader drops the last short batch.
        least: The fewest samples to select.
        last: What the last batch of the selected samples may be; None if anything.

    Returns:
        The selected samples and their weights.

    Raises:
        ValueError: For probabilities outside (0, 1], strata without one, or fewer samples than
            ``multiple``.

    Source: systematic sampling by Madow, 1949.
    """
    if keep.groups is not None:
        of_groups = draw(replace(keep, groups=None), generator, *_in_groups(keep, multiple, least, last))
        return Selection.of(of_groups.weights[keep.groups])
    probabilities = keep.probabilities.to(torch.float64)
    num_samples = len(probabilities if keep.strata is None else keep.strata)
    if num_samples < multiple:
        raise ValueError(f"{num_samples} samples do not fill one batch of {multiple}")
    fits = (probabilities > 0) & (probabilities <= 1)  # false for NaN
    if not bool(fits.all()):
        raise ValueError(
            f"a keep probability is {float(probabilities[~fits][0])}; keep probabilities must lie in "
            "(0, 1]: a sample never kept is lost"
        )
    if keep.strata is not None and int(keep.strata.max()) >= len(probabilities):
        raise ValueError(
            f"there is a stratum {int(keep.strata.max())}, but only {len(probabilities)} keep "
            "probabilities; give one for each stratum, numbered from 0"
        )
    if keep.credit is not None:
        return _draw_owed(made_whole(keep, multiple, least, last), keep.credit, generator)
    if keep.strata is None:
        whole = made_whole(keep, multiple, least, last)
        return _draw_systematic(whole.per_sample(), keep.order, generator)
    sizes = torch.bincount(keep.strata, minlength=len(probabilities)).tolist()
    counts = stratum_counts(sizes, probabilities.tolist(), multiple, least=least, last=last)
    return _draw_stratified(sizes, counts, keep.strata, generator)


def inclusion_probabilities(
    keep: KeepProbabilities, multiple: int = 1, least: int = 1, last: LastBatch | None = None
) -> Tensor:
    """The probability with which :func:`draw` selects each sample, float64 (N,): 1 / its weight.

    Args:
        keep: The keep probabilities.
        multiple: See :func:`draw`; so are ``least`` and ``last``.
        least: The fewest samples to select.
        last: What the last batch may be.
    """
    if keep.groups is not None:
        asked = _in_groups(keep, multiple, least, last)
        return inclusion_probabilities(replace(keep, groups=None), *asked)[keep.groups]
    probabilities = keep.probabilities.to(torch.float64)
    if keep.strata is None or keep.credit is not None:
        return made_whole(keep, multiple, least, last).per_sample()
    sizes = torch.bincount(keep.strata, minlength=len(probabilities))
    counts = stratum_counts(sizes.tolist(), probabilities.tolist(), multiple, least=least, last=last)
    shares = torch.tensor(counts, dtype=torch.float64) / sizes.clamp(min=1)
    return shares[keep.strata.long()]


def _in_groups(
    keep: KeepProbabilities, multiple: int, least: int, last: LastBatch | None
) -> tuple[int, int, LastBatch | None]:
    """What is asked of the number of samples, asked of the number of groups that make them up."""
    assert keep.groups is not None
    size = int(torch.bincount(keep.groups).max())  # of all, where it matters
    return multiple // math.gcd(multiple, size), -(-least // size), last if size == 1 else None


def _draw_stratified(
    sizes: Sequence[int], counts: Sequence[int], strata: Tensor, generator: torch.Generator
) -> Selection:
    """Draw ``counts[s]`` of the ``sizes[s]`` samples of each stratum."""
    # The samples of one stratum after another, each in rising order.
    members = np.argsort(strata.numpy(), kind="stable")
    drawn = np.ones(len(strata), np.float32)
    end = 0
    for size, count in zip(sizes, counts, strict=True):
        end += size
        if count < size:
            of_stratum = drawn[end - size : end]
            of_stratum[:] = size / count
            of_stratum[permutation(size, generator)[count:].numpy()] = 0
    weights = np.empty_like(drawn)
    weights[members] = drawn
    return Selection(torch.from_numpy(weights), sum(counts))


def stratum_counts(
    sizes: Sequence[int],
    probabilities: Sequence[float],
    multiple: int = 1,
    total: int | None = None,
    least: int = 1,
    last: LastBatch | None = None,
) -> list[int]:
    """Numbers to draw from each stratum: at least one from any that is not empty.

    They sum to ``total``, by default to the multiple nearest to the sum of the probabilities, not below
    ``least`` and with a ``last`` batch that is not too small.
    """
    counts = [
        min(max(round(n * p), 1), n) if n else 0 for n, p in zip(sizes, probabilities, strict=True)
    ]
    if total is None:
        if counts == list(sizes):
            return counts
        least = max(least, sum(size > 0 for size in sizes))
        total = nearest_multiple(sum(counts), multiple, sum(sizes), least, last)
    missing = total - sum(counts)
    # Pruned strata first, large before small; those kept whole only where the others do not suffice.
    # Whatever the count, the weight n / k keeps the draw unbiased.
    for s in sorted(range(len(sizes)), key=lambda s: (probabilities[s] == 1, -sizes[s])):
        if sizes[s]:
            changed = min(max(counts[s] + missing, 1), sizes[s])
            missing -= changed - counts[s]
            counts[s] = changed
    return counts


def _draw_systematic(
    probabilities: Tensor, order: Tensor | None, generator: torch.Generator
) -> Selection:
    if bool((probabilities == 1).all()):
        return Selection.full(len(probabilities))
    certain = probabilities >= 1
    weights = certain.to(torch.float64)
    num_uncertain = round(float(probabilities[~certain].sum()))
    if num_uncertain > 0:
        if order is None:
            uncertain = (~certain).nonzero().flatten()
            order = uncertain[torch.randperm(len(uncertain), generator=generator)]
        else:
            order = order[~certain[order]]
        ends = probabilities[order].cumsum(0)
        ends *= num_uncertain / ends[-1]  # whole up to rounding; now exactly
        start = torch.rand(1, generator=generator, dtype=torch.float64)
        points = start + torch.arange(num_uncertain)
        chosen = order[torch.searchsorted(ends, points, right=True).clamp_(max=len(order) - 1)]
        weights[chosen] = 1 / probabilities[chosen]
    return Selection.of(weights.to(torch.float32))


def _draw_owed(keep: KeepProbabilities, credit: Tensor, generator: torch.Generator) -> Selection:
    """Select the samples that are owed most: each epoch adds a keep probability, a visit takes off 1.

    The first draw is a systematic one over a random order. A sample's phase in it becomes its credit, so
    that exactly the samples owed 1 or more are selected. Later draws do the same, as far as their number
    is the one asked for: the next epochs make up for the error of one (error diffusion).
    """
    probabilities = keep.per_sample()
    if bool((probabilities == 1).all()):
        return Selection(torch.ones(len(credit)), len(credit), credit)
    num_selected = round(float(probabilities.sum()))
    del probabilities  # 8 bytes a sample
    owed = _owed_before(keep, credit, generator)
    weights = np.zeros(len(credit), np.float32)
    certain = np.empty(len(credit), bool)
    for part in chunks(len(credit)):
        chances = keep.each(keep.probabilities, part).numpy()
        owed[part] += chances
        certain[part] = chances >= 1
    chosen = _highest(owed, certain, num_selected, generator)
    owed -= chosen
    for part in chunks(len(credit)):
        chances = keep.each(keep.probabilities, part).numpy()
        np.divide(1, chances, out=weights[part], where=chosen[part])
    credit = torch.from_numpy(owed.astype(np.float32))
    return Selection(torch.from_numpy(weights), num_selected, credit)


def _owed_before(keep: KeepProbabilities, credit: Tensor, generator: torch.Generator) -> np.ndarray:
    """What samples are owed before the epoch, float64 (N,): their phase if they have no credit."""
    known = ~credit.isnan().numpy()
    owed = np.empty(len(credit)) if known.all() else _phases(keep, len(credit), generator)
    np.copyto(owed, credit.numpy(), where=known)
    return owed


def _highest(owed: np.ndarray, certain: np.ndarray, num: int, generator: torch.Generator) -> np.ndarray:
    """Which ``num`` samples are ``owed`` (N,) most, bool (N,); of equal ones a random part.

    Those that are ``certain`` (N,) are owed a visit in each epoch, and come first. They are the same on
    every processor, whichever way it partitions.
    """
    values = np.where(certain, np.inf, owed)
    values.partition(-num)
    bound = values[-num]
    np.copyto(values, owed, where=~certain)
    values[certain] = np.inf
    chosen: np.ndarray = values > bound
    equal = np.flatnonzero(values == bound)
    order = permutation(len(equal), generator).numpy()
    chosen[equal[order[: num - np.count_nonzero(chosen)]]] = True
    return chosen


def _phases(keep: KeepProbabilities, num_samples: int, generator: torch.Generator) -> np.ndarray:
    """Distance of each sample from the next point of a systematic draw, uniform in (0, 1], (N,)."""
    order = permutation(num_samples, generator)
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    phases, begin = torch.empty(num_samples, dtype=torch.float64), torch.zeros_like(start)
    for part in chunks(num_samples):
        lengths = keep.each(keep.probabilities, order[part])
        ends = torch.cat([begin, lengths]).cumsum(0)[1:]
        phases[order[part].long()] = 1 - (start - (ends - lengths)) % 1
        begin = ends[-1:]
    return phases.numpy()


def leave_out(codes: np.ndarray, kept: Sequence[int], generator: torch.Generator) -> None:
    """Keep a random ``kept[s]`` of a shard's samples with code s + 1; give the others code 0, in place.

    The draw is complete within the shard, whose ``codes`` are uint8 (n,): the weight is n / k.
    """
    for stratum, count in enumerate(kept):
        members = np.flatnonzero(codes == stratum + 1)
        if count < len(members):
            drawn = torch.randperm(len(members), generator=generator).numpy()
            codes[members[drawn[count:]]] = 0


def _check_probabilities(
    keep: KeepProbabilities, policy: Policy, num_samples: int, request: Request
) -> None:
    """Raise an error for keep probabilities of other samples, or of another number to keep."""
    if not isinstance(keep, KeepProbabilities):
        raise TypeError(
            f"{policy!r} answered with a {type(keep).__name__}; keep_probabilities must return "
            "KeepProbabilities(probabilities), of shape (N,)"
        )
    of_each = keep.probabilities if keep.strata is None else keep.strata
    if keep.groups is not None:
        return  # the number of samples is left to the groups that are drawn
    if of_each.shape != (num_samples,):
        what = "keep probabilities" if keep.strata is None else "strata"
        raise ValueError(
            f"{policy!r} gave {what} of shape {tuple(of_each.shape)}; there are {num_samples:,} "
            "samples, and each must have one: shape (N,)"
        )
    if request.num_pruned is not None:
        kept = float(keep.per_sample().sum())
        _check_number(kept, policy, num_samples, request.num_pruned, request.multiple)


def _check_weights(weights: Tensor, policy: BiasedPolicy, num_samples: int, request: Request) -> None:
    """Raise an error for weights of other samples, of no sense, or of another number to keep."""
    if not isinstance(weights, Tensor) or weights.shape != (num_samples,):
        shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(
            f"{policy!r} gave weights of shape {shape}; there are {num_samples:,} samples, and each "
            "must have one: a tensor of shape (N,), 0 where it is left out"
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool(weights.any()):
        raise ValueError(f"{policy!r} gave weights that are negative, not finite, or all 0")
    if (kept := int(torch.count_nonzero(weights))) < request.least:
        raise ValueError(
            f"{policy!r} keeps {kept:,} samples in an epoch, and {request.least:,} are needed for "
            "batches that do not shrink below the least; have it keep more, lower the least, or leave "
            "out steps instead: shrink='steps'"
        )
    if request.num_pruned is not None:
        _check_number(kept, policy, num_samples, request.num_pruned, request.multiple)


def _check_number(kept: float, policy: Policy, num_samples: int, num_pruned: int, multiple: int) -> None:
    """Raise ``ValueError`` if a policy keeps, or expects to keep, another number than is asked for."""
    wanted = num_samples - num_pruned
    if abs(kept - wanted) > multiple - 0.5:  # false for NaN, which the draw refuses
        raise ValueError(
            f"{policy!r} would keep {kept:,.6g} samples, where {num_pruned:,} of "
            f"{num_samples:,} are to be left out; keep probabilities must sum to "
            f"N - request.num_pruned = {wanted:,}, and as many weights must differ from 0"
        )
