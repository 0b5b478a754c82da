"""The contract of a policy: it turns what is known about each sample into its keep probability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infobatch.batching import ANY_SIZE, EpochSizes
from infobatch.policies.bounds import ScoreBounds, ScoreSummary
from infobatch.scores.columns import CLOCK, COLUMNS, DRAW, LOSSES, NORMS, SIGNALS, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.user_warnings import warn_user


@dataclass(frozen=True)
class KeepProbabilities:
    """The probability with which each sample is kept in the coming epoch.

    Args:
        probabilities: In (0, 1]. Without ``strata`` one for each sample, shape (N,); with ``strata`` one
            for each of the S strata, shape (S,).
        strata: The stratum of each sample, uint8 (N,), numbered 0..S-1. The draw keeps a fixed number of
            samples from every stratum.
        order: All samples in the order in which a draw without strata passes over them, int64 (N,). Of
            any stretch of that order the draw keeps as many samples as their probabilities sum to, give
            or take one. By default the order is random.
        credit: How many visits each sample is owed from earlier epochs, (N,); NaN before the first draw.
            The draw then keeps the samples that are owed most, of whatever stratum, as :class:`Spaced`
            asks for.
        groups: The group of each sample, int64 (N,), numbered 0..G-1, where the samples of a group are
            kept or left out together. All that is said above of samples is then said of groups.
    """

    probabilities: Tensor
    strata: Tensor | None = None
    order: Tensor | None = None
    credit: Tensor | None = None
    groups: Tensor | None = None

    @classmethod
    def equal(cls, probability: float, num_samples: int) -> KeepProbabilities:
        """Keep probabilities that are the same for all samples, which form a single stratum.

        Args:
            probability: That of each sample, in (0, 1].
            num_samples: N.
        """
        one = torch.tensor([probability], dtype=torch.float64)
        return cls(one, torch.zeros(num_samples, dtype=torch.uint8))

    def check(self) -> None:
        """Raise ``ValueError`` for a probability outside (0, 1], or a stratum without one."""
        fits = (self.probabilities > 0) & (self.probabilities <= 1)  # false for NaN
        if not bool(fits.all()):
            raise ValueError(
                f"a keep probability is {float(self.probabilities[~fits][0])}; keep probabilities must "
                "lie in (0, 1]: a sample never kept is lost"
            )
        if self.strata is not None and int(self.strata.max()) >= len(self.probabilities):
            raise ValueError(
                f"there is a stratum {int(self.strata.max())}, but only {len(self.probabilities)} keep "
                "probabilities; give one for each stratum, numbered from 0"
            )

    def per_sample(self) -> Tensor:
        """The keep probability of each sample, float64 (N,)."""
        probabilities = self.each(self.probabilities.to(torch.float64))
        return probabilities if self.groups is None else probabilities[self.groups]

    def total(self, values: Tensor) -> float:
        """The sum of ``values``, as :meth:`each` takes them, over all samples, or groups."""
        if self.strata is None:
            return float(values.sum())
        return float((values * torch.bincount(self.strata, minlength=len(values))).sum())

    def each(self, values: Tensor, samples: Tensor | slice = slice(None)) -> Tensor:
        """What samples, or groups where there are some, have of ``values`` that strata may share.

        Args:
            values: (S,) with ``strata``, else (N,).
            samples: Which samples: a slice, or indices (n,). By default all.
        """
        if self.strata is None:
            return values[samples]
        return values.index_select(0, self.strata[samples].int())


@dataclass(frozen=True)
class Request:
    """What a policy is asked for before an epoch.

    Args:
        num_pruned: How many samples the epoch leaves out; None leaves their number to the policy.
        generator: The source of all randomness.
        epoch: The number of the coming epoch, from 0.
        prunable: The epochs in which samples may be left out.
        epoch_sizes: How many samples the epoch may select.
    """

    num_pruned: int | None
    generator: torch.Generator
    epoch: int = 0
    prunable: range = range(0)
    epoch_sizes: EpochSizes = ANY_SIZE

    def nearest(self, count: int, num_samples: int, least: int = 1) -> int:
        """The number of samples nearest to ``count`` that the epoch may select.

        Args:
            count: At least 0.
            num_samples: N.
            least: The fewest samples that the policy can keep.
        """
        return self.epoch_sizes.at_least(least).nearest(count, num_samples)

    def num_kept(self, num_samples: int, prune_ratio: float, least: int = 1) -> int:
        """How many samples a policy keeps that prunes a share of all samples.

        Args:
            num_samples: N.
            prune_ratio: The share to leave out where the request names no number.
            least: The fewest samples that the policy can keep.

        Returns:
            N - ``num_pruned``, or else (1 - ``prune_ratio``) N, as :meth:`nearest` makes it possible.
        """
        num_pruned = self.num_pruned
        if num_pruned is None:
            num_pruned = round(prune_ratio * num_samples)
        return self.nearest(num_samples - num_pruned, num_samples, least)


class Policy(ABC):
    """A rule for what an epoch leaves out, without a state of its own.

    The score table holds all that is remembered, and the draw makes all random choices but the breaking
    of ties. The policies of this library are frozen dataclasses whose fields are their options; one of
    your own may be any class. docs/own-policy.md shows how to write one, and CONTRIBUTING.md how to add
    it to the library.
    """

    columns: tuple[str, ...] = ("last_loss",)
    """The score columns that the policy reads."""
    by: str = "last_loss"
    """The column on which :meth:`score_bounds` puts its bounds; one of ``columns``."""
    num_samples: int | None = None
    """The number of samples that the policy was given labels or scores for; None without any."""
    given: str = "labels"
    """What the policy was given for each sample, in the words of an error message."""
    refreshes: bool = False
    """Whether the policy needs new losses of all samples, so that those left out must be observed."""
    estimates_norms: bool = False
    """Whether norms of gradients that ``update`` is not given are to be estimated from the losses."""
    takes_sizes: bool = False
    """Whether losses are taken as sizes, for which they must be at least 0, and not by their order."""
    max_noise: float | None = None
    """The noise of a step that the policy keeps to: see :class:`NoiseBudget`; None if it does not."""
    needs_target: bool = False
    """Whether the policy leaves it to a target how much is left out."""
    shrinks: str = "steps"
    """What the policy is made to shrink: ``"steps"`` or ``"batches"``; a run may say otherwise."""
    group_of: IndexArray | None = None
    """The group of each sample, (N,), whose samples are kept or left out together; None without any."""
    overruled: str | None = None
    """What the policy was given that has no effect with a target, such as prune_ratio=0.6; None for
    nothing."""
    default_delta: float = 0.875
    """The share of a run without a target after which all data is used again, in [0, 1]; a run may say
    otherwise."""

    @abstractmethod
    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        """The keep probabilities of the coming epoch.

        Args:
            scores: What is known about each of the N samples.
            request: What the epoch asks for. Its generator is for breaking ties.

        Returns:
            Probabilities for all N samples. If ``request.num_pruned`` is given, the probabilities of all
            samples sum to N - num_pruned exactly.
        """

    def score_bounds(self, summary: ScoreSummary, num_pruned: int | None) -> ScoreBounds:
        """The keep probabilities of the coming epoch for ``layout=Sharded()``: no rank has all scores.

        Args:
            summary: What is known about the scores of all ranks together.
            num_pruned: How many samples the epoch leaves out; None leaves their number to the policy.

        Returns:
            Strata as bounds on the score ``by``, and the keep probability of each.

        Raises:
            TypeError: If the policy gives each sample a probability of its own, as it does by default.
        """
        raise TypeError(
            f"{self!r} cannot be used with layout=Sharded(): it needs the scores of all samples on each "
            f"rank. Drop layout=, or give {type(self).__name__} a method score_bounds that names its "
            "strata by bounds on the score"
        )

    def check_multiple(self, multiple: int) -> None:  # noqa: B027
        """Check that the policy can keep multiples of a number of samples; any can, by default.

        Args:
            multiple: The samples of a step, where the loader drops a last short batch; else 1.

        Raises:
            ValueError: If it cannot; the message names the remedy.
        """

    def leaves_out_exactly(self, num_pruned: int) -> bool:
        """Whether an epoch of which a target leaves out so many samples leaves out no other number."""
        return True

    @abstractmethod
    def check_target(self, num_pruned: int, num_samples: int) -> None:
        """Check that an epoch can leave out as many samples as a target asks for.

        Args:
            num_pruned: How many samples the epoch leaves out.
            num_samples: N.

        Raises:
            ValueError: If it cannot; the message names the remedy.
        """


class BiasedPolicy(Policy):
    """A policy that gives some samples no chance, so that no weight can make up for leaving them out.

    The expected gradient is not that of full data. The policy selects the samples and sets their weights
    itself.
    """

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        """Raises ``TypeError``: a biased policy gives :meth:`weights` in place of probabilities."""
        raise TypeError(f"{self!r} is biased by design: it has weights, no keep probabilities")

    def check_target(self, num_pruned: int, num_samples: int) -> None:
        """See :meth:`Policy.check_target`: at least one sample must be kept."""
        check_some_are_kept(num_pruned, num_samples)

    @abstractmethod
    def weights(self, scores: ScoreTable, request: Request) -> Tensor:
        """The weights of the coming epoch.

        Args:
            scores: What is known about each of the N samples.
            request: What the epoch asks for. Its generator is the source of all randomness.

        Returns:
            float32 (N,), 0 for samples that are left out. If ``request.num_pruned`` is given, exactly
            that many are 0, but for rounding to ``request.epoch_sizes``.
        """


def check_one_says_how_much(policy: Policy, has_target: bool) -> None:
    """Refuse a budget of noise beside a target, which both say how much is left out, or neither."""
    if has_target and policy.max_noise is not None:
        raise ValueError(
            f"policy is {policy!r} and there is a target, and each says how much is left out; leave out "
            "the target to keep to the budget, or give NoiseBudget(max_noise=None) to meet the target "
            "in the same proportions"
        )
    if policy.needs_target and not has_target:
        raise ValueError(
            f"policy is {policy!r}, and neither a budget nor a target says how much is left out; give "
            "max_noise, such as 1.1, or a target"
        )


def check_policy(policy: Policy, num_samples: int) -> None:
    """Refuse what is no policy, or one that was given values of another number of samples."""
    if not isinstance(policy, Policy):
        given = "its class" if isinstance(policy, type) else f"a {type(policy).__name__}"
        raise TypeError(
            f"policy is {policy!r}; give an object such as NoiseBudget(max_noise=1.1), not {given}"
        )
    if isinstance(policy.columns, str):
        raise TypeError(
            f"columns of {policy!r} is {policy.columns!r}; give a tuple, such as ({policy.columns!r},)"
        )
    if policy.num_samples not in (None, num_samples):
        raise ValueError(
            f"{policy!r} was given the {policy.given} of {policy.num_samples:,} samples, but the "
            f"dataset has {num_samples:,}; give one for each, in the dataset's order"
        )


def check_some_are_kept(num_pruned: int, num_samples: int) -> None:
    """Refuse a target that leaves out all samples."""
    if num_pruned >= num_samples:
        raise ValueError(
            f"the target leaves out {num_pruned:,} of {num_samples:,} samples in an epoch; "
            "at least one must be kept, so lower the target"
        )


def check_targets(policy: Policy, numbers_pruned: Sequence[int], num_samples: int) -> None:
    """Check a target in each of the numbers that it leaves out of epochs."""
    if policy.overruled and any(numbers_pruned):
        warn_user(
            f"{policy.overruled} has no effect: with a target, that decides how many samples are left "
            "out; drop one of them"
        )
    for num_pruned in numbers_pruned:
        policy.check_target(num_pruned, num_samples)


def goes_by_scores(policy: Policy) -> bool:
    """Whether what is left out follows from losses or signals, and not from visits and draws alone."""
    return any(COLUMNS[name].signal not in (CLOCK, DRAW) for name in policy.columns)


def reads_losses(policy: Policy, have_norms: bool = False) -> bool:
    """Whether a policy reads a column that prior scores fill, which may have norms of gradients."""
    filled = {LOSSES, NORMS} if have_norms or policy.estimates_norms else {LOSSES}
    read = (COLUMNS[name] for name in policy.columns)
    return any(column.signal in filled and not column.training for column in read)


def warn_if_prior_scores_unused(policy: Policy, warmup_epochs: int, have_norms: bool) -> None:
    """Warn if a run with prior scores, which may have norms of gradients, is not going to read them."""
    if not reads_losses(policy, have_norms):
        why = "does not go by losses"
        if reads_losses(policy, have_norms=True):
            why = (
                "goes by norms of gradients, and these are losses alone; give the exported scores of a "
                "run that was given gradient_norms, or a policy that goes by losses"
            )
        warn_user(f"prior_scores have no effect: {policy!r} {why}")
    elif warmup_epochs:
        warn_user(
            f"prior_scores have no effect: warmup_epochs is {warmup_epochs}, and an epoch on all data "
            "gives newer ones; set warmup_epochs=0 to prune the first epoch"
        )


def refuse_refreshing(policy: Policy | None, where: str, otherwise: str = "a loop of your own") -> None:
    """Refuse a policy that needs the losses of left-out samples where nothing fetches those samples.

    Args:
        policy: The policy; None is refused nowhere.
        where: What would have to fetch them.
        otherwise: What does, for the error.

    Raises:
        ValueError: If it needs them.
    """
    if policy is not None and policy.refreshes:
        raise ValueError(
            f"{policy!r} goes by the losses of all samples, and {where} does not fetch what is left "
            f"out; take a policy that needs no more than what is trained, or {otherwise}"
        )


def check_all_observed(policy: Policy, epoch: int, num_unobserved: int) -> None:
    """Refuse to begin an epoch while losses that the policy needs have not been observed."""
    if policy.refreshes and num_unobserved:
        names = dict.fromkeys(COLUMNS[column].signal for column in policy.columns)
        signals = "".join(f", {name}=..." for name in names if name in SIGNALS)
        raise RuntimeError(
            f"{policy!r} goes by the losses of all samples, and those of {num_unobserved:,} left out of "
            f"epoch {epoch} were not observed. At the end of each epoch, with the model in evaluation "
            "mode and under torch.no_grad(), give it them:\n"
            "    left_out = Subset(IndexedDataset(dataset), pruner.left_out)\n"
            "    for indices, batch in DataLoader(left_out, batch_size, collate_fn=IndexedCollate()):\n"
            f"        pruner.observe(losses_of(batch), indices{signals})"
        )
