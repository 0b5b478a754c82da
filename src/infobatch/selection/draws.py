"""The draw: keep probabilities to a selection, by the kind of draw that they ask for."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from infobatch.batching import ANY_SIZE, EpochSizes
from infobatch.policies.base import KeepProbabilities
from infobatch.selection.made_whole import made_whole
from infobatch.selection.owed import draw_owed
from infobatch.selection.selection import Selection
from infobatch.selection.strata import draw_stratified, stratum_counts


def draw(
    keep: KeepProbabilities,
    generator: torch.Generator,
    epoch_sizes: EpochSizes = ANY_SIZE,
    wanted: int | None = None,
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
        epoch_sizes: How many samples may be selected, unless nothing is to be left out.
        wanted: How many samples are to be selected, as near as the sizes allow, where strata are
            rounded one by one; by default the sum of what that gives.

    Returns:
        The selected samples and their weights.

    Raises:
        ValueError: For probabilities outside (0, 1], strata without one, or fewer samples than
            ``epoch_sizes.multiple``.

    Source: systematic sampling by Madow, 1949.
    """
    if keep.groups is not None:
        of_groups = draw(replace(keep, groups=None), generator, _in_groups(keep, epoch_sizes))
        return Selection.of(of_groups.weights[keep.groups])
    keep.check()
    probabilities = keep.probabilities.to(torch.float64)
    num_samples = len(probabilities if keep.strata is None else keep.strata)
    if num_samples < epoch_sizes.multiple:
        raise ValueError(f"{num_samples} samples do not fill one batch of {epoch_sizes.multiple}")
    if keep.credit is not None:
        return draw_owed(made_whole(keep, epoch_sizes), keep.credit, generator)
    if keep.strata is None:
        whole = made_whole(keep, epoch_sizes)
        return _draw_systematic(whole.per_sample(), keep.order, generator)
    sizes = torch.bincount(keep.strata, minlength=len(probabilities)).tolist()
    chances = probabilities.tolist()
    counts = stratum_counts(sizes, chances, epoch_sizes, wanted=wanted)
    return draw_stratified(sizes, counts, keep.strata, generator)


def inclusion_probabilities(
    keep: KeepProbabilities,
    epoch_sizes: EpochSizes = ANY_SIZE,
    wanted: int | None = None,
) -> Tensor:
    """The probability with which :func:`draw` selects each sample, float64 (N,): 1 / its weight.

    Args:
        keep: The keep probabilities.
        epoch_sizes: See :func:`draw`; so is ``wanted``.
        wanted: How many samples are to be selected, where strata are rounded.
    """
    if keep.groups is not None:
        of_groups = inclusion_probabilities(replace(keep, groups=None), _in_groups(keep, epoch_sizes))
        return of_groups[keep.groups]
    probabilities = keep.probabilities.to(torch.float64)
    if keep.strata is None or keep.credit is not None:
        return made_whole(keep, epoch_sizes).per_sample()
    sizes = torch.bincount(keep.strata, minlength=len(probabilities))
    chances = probabilities.tolist()
    counts = stratum_counts(sizes.tolist(), chances, epoch_sizes, wanted=wanted)
    shares = torch.tensor(counts, dtype=torch.float64) / sizes.clamp(min=1)
    return shares[keep.strata.long()]


def _in_groups(keep: KeepProbabilities, epoch_sizes: EpochSizes) -> EpochSizes:
    """How many groups may be selected, for their samples to be as many as may be."""
    assert keep.groups is not None
    return epoch_sizes.in_groups_of(int(torch.bincount(keep.groups).max()))  # of all, where it matters


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
