"""When pruning acts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real

import numpy as np

from infobatch.batching import ANY_SIZE, EpochSizes
from infobatch.policies.allocation import whole

__all__ = ["Schedule"]

# Products such as 0.55 * 100 come out a little above the whole number they stand for.
_ROUNDING = 1e-9


class OutOfReach(ValueError):
    """A target that no policy meets.

    Args:
        reason: Why, and what to do.
        most: The highest target that a policy may meet.

    Attributes:
        reason: The message without that number, for whoever knows which the policy at hand meets.
    """

    def __init__(self, reason: str, most: float) -> None:
        super().__init__(f"{reason}. A policy may meet {most:g} at most")
        self.reason = reason


class Schedule:
    """Which epochs are pruned, and where a target is set, by how much.

    Epochs before ``warmup_epochs`` and from the annealing on are trained on full data. Annealing starts
    at epoch ceil(delta * C) of C, and with delta < 1 leaves at least one whole epoch.

    Args:
        num_samples: N, the samples of the dataset.
        num_epochs: C, above 0. A fraction cuts the last epoch short.
        delta: Share of the run, in [0, 1], after which all data is used again. 0.875 is the paper's.
        warmup_epochs: Unpruned epochs at the start, at least 0.
        target: Share of the run's samples to leave out, in [0, 1), spread over the prunable epochs; or
            a list with the number to leave out of each epoch, which says itself what ``delta`` and
            ``warmup_epochs`` say of other targets. None leaves it to the policy.
        ramp: How a share is spread over the epochs, in [-1, 1]: 0 evenly, 1 from nothing in the first to
            twice the mean in the last, -1 the other way round.
        epoch_sizes: How many samples a pruned epoch may keep.

    Attributes:
        run_length: C, as a float.
        num_epochs: Number of epochs, the last perhaps cut short.
        first_pruned: The first epoch that may be pruned.
        annealing_start: The first epoch of the annealing.

    Raises:
        ValueError: For options out of range, or a target that no policy can meet.
        TypeError: For options of another kind.

    Source: InfoBatch, ICLR 2024, section 2.4.
    """

    def __init__(
        self,
        num_samples: int,
        num_epochs: float,
        delta: float = 0.875,
        warmup_epochs: int = 1,
        target: float | Sequence[int] | None = None,
        ramp: float = 0.0,
        epoch_sizes: EpochSizes = ANY_SIZE,
    ) -> None:
        check_length(num_samples, num_epochs, None)
        check_schedule(delta, warmup_epochs, target, ramp)
        self.num_samples = num_samples
        whole = round(num_epochs)
        self.run_length = float(whole if abs(num_epochs - whole) < _ROUNDING else num_epochs)
        self.num_epochs = math.ceil(num_epochs - _ROUNDING)
        if self.num_epochs < 1:
            raise ValueError(f"num_epochs is {num_epochs}; it must be a number above {_ROUNDING:g}")
        self.annealing_start = self.num_epochs
        if delta < 1:
            latest = max(0, math.floor(num_epochs + _ROUNDING) - 1)
            self.annealing_start = min(math.ceil(delta * num_epochs - _ROUNDING), latest)
        self.first_pruned = min(warmup_epochs, self.annealing_start)
        self._epoch_sizes = epoch_sizes
        self._num_pruned: list[int] | None = None
        if isinstance(target, Real):
            self._num_pruned = self._spread(float(target), float(ramp))
        elif isinstance(target, Iterable):
            self._num_pruned = self._check_counts([int(count) for count in target])
            pruned = [epoch for epoch, count in enumerate(self._num_pruned) if count]
            self.first_pruned = min(pruned, default=self.num_epochs)
            self.annealing_start = max(pruned, default=self.num_epochs - 1) + 1

    @property
    def prunable(self) -> range:
        """The epochs in which samples may be left out."""
        return range(self.first_pruned, self.annealing_start)

    @property
    def num_prunable(self) -> int:
        """Number of epochs in which samples may be left out."""
        return len(self.prunable)

    @property
    def has_target(self) -> bool:
        """Whether the number to leave out of each epoch is known beforehand."""
        return self._num_pruned is not None

    @property
    def most_pruned(self) -> int:
        """The largest number that a target leaves out of one epoch."""
        return max(self._num_pruned or [0])

    @property
    def numbers_pruned(self) -> list[int]:
        """The numbers above 0 that a target leaves out of epochs, each once, the largest first."""
        return sorted({*(self._num_pruned or [])} - {0}, reverse=True)

    def prunes(self, epoch: int) -> bool:
        """Whether samples are left out of an epoch; of none after the last."""
        if self._num_pruned is not None and epoch < self.num_epochs:
            return self._num_pruned[epoch] > 0
        return self.first_pruned <= epoch < self.annealing_start

    def num_pruned(self, epoch: int) -> int | None:
        """Number of samples to leave out of an epoch; None where the policy decides."""
        return None if self._num_pruned is None else self._num_pruned[epoch]

    def share(self, epoch: int) -> float:
        """The part of an epoch that is trained: below 1 for a last epoch that is cut short."""
        return min(1.0, self.run_length - epoch) if epoch < self.num_epochs else 1.0

    def check_next(self, begun: int | None, epoch: int) -> None:
        """Raise ``ValueError`` for an epoch that is neither the one under way nor the next.

        Args:
            begun: Number of the epoch under way; None before the first.
            epoch: Number of the one to begin.
        """
        if not 0 <= epoch < self.num_epochs:
            raise ValueError(
                f"epoch {epoch} does not exist: the run has {self.num_epochs}, numbered from 0"
            )
        if begun is None and epoch > 0:
            raise ValueError(
                f"epoch {epoch} cannot be the first: epochs are numbered from 0, and the run would end "
                f"before its epoch {self.num_epochs} of {self.num_epochs}, untrained. In a loop that "
                "counts from 1 call set_epoch(epoch - 1); to go on with a run, give load_state_dict its "
                "state"
            )
        number = begun or 0
        if epoch < number:
            raise ValueError(
                f"epoch {epoch} is over: the run is in epoch {number}, and never goes back, so that "
                f"what is left of that one would be trained in its place. Go on from pruner.epoch, as "
                "`for epoch in pruner.epochs():` does, or make a new pruner for a new run"
            )
        if epoch > number + 1:
            raise ValueError(
                f"epoch {epoch} is not the next: the run is in epoch {number}, and what is between them "
                f"would count as trained; call set_epoch({number + 1})"
            )

    def _check_counts(self, counts: Sequence[int]) -> list[int]:
        """The numbers to leave out of each epoch, once they are found to be possible."""
        if len(counts) != self.num_epochs:
            raise ValueError(
                f"target gives the number to leave out of {len(counts)} epochs, but the run has "
                f"{self.num_epochs}"
            )
        if any(not 0 <= count < self.num_samples for count in counts):
            raise ValueError(
                f"target leaves out between {min(counts)} and {max(counts)} samples in an epoch; "
                f"each number must be at least 0 and less than the {self.num_samples} there are"
            )
        sizes, smallest = self._epoch_sizes, self._epoch_sizes.smallest
        if self.num_samples - max(counts) < smallest > sizes.multiple:
            raise ValueError(
                f"target leaves out {max(counts):,} of {self.num_samples:,} samples in an epoch, and "
                f"{smallest:,} are needed for batches that do not shrink below the least; leave out "
                "fewer, or lower the least"
            )
        whole = self.num_samples
        return [whole - sizes.nearest(whole - count, whole) if count else 0 for count in counts]

    def _spread(self, target: float, ramp: float) -> list[int]:
        """The numbers to leave out of each epoch, so that a share of the run's samples is left out."""
        counts = [0] * self.num_epochs
        epochs = self.num_prunable
        steepness = [1 + ramp * ((2 * i + 1) / epochs - 1) for i in range(epochs)]
        # An epoch that is cut short trains, and leaves out, only its share.
        shares = map(self.share, self.prunable)
        reached = sum(s * share for s, share in zip(steepness, shares, strict=True))
        inflated = epochs / reached if epochs else 1.0
        sizes, multiple = self._epoch_sizes, self._epoch_sizes.multiple
        total = round(target * self.num_samples * self.run_length * inflated)
        if total == 0:
            return counts
        if total > epochs * (self.num_samples - sizes.smallest):
            annealing = self.num_epochs - self.annealing_start
            remedies = ["lower target"]
            remedies += ["raise delta"] if annealing > 1 else []
            remedies += ["lower warmup_epochs"] if self.first_pruned else []
            needed = "something"
            if sizes.smallest > multiple:
                needed = f"{sizes.smallest:,} samples, for batches not to shrink below the least,"
                remedies += ["lower the least"]
            most = epochs * (1 - sizes.smallest / self.num_samples) / (self.run_length * inflated)
            raise OutOfReach(
                f"target {target:g} cannot be met by any policy: only {epochs} of {self.run_length:g} "
                f"epochs are prunable (warm-up takes {self.first_pruned}, annealing {annealing}), and "
                f"{needed} must be kept in each; {' or '.join(remedies)}",
                math.floor(most * 1000) / 1000,
            )
        largest = max(steepness) * total / epochs
        if largest > self.num_samples - sizes.smallest:
            raise ValueError(
                f"target {target:g} with ramp {ramp:g} cannot be met: it would leave out "
                f"{largest:,.0f} of {self.num_samples:,} samples in an epoch. Lower target, bring ramp "
                "closer to 0, raise delta, or lower warmup_epochs"
            )
        # In whole units of `multiple` kept samples, so that every length is known beforehand.
        kept = [(self.num_samples - s * total / epochs) / multiple for s in steepness]
        units = round((epochs * self.num_samples - total) / multiple)
        missed = 0  # by a last batch that would be too small, or dropped; the next epochs make up for it
        full = np.full(epochs, -(-self.num_samples // multiple))
        for i, number in enumerate(whole(np.array(kept), units, full).tolist()):
            wanted = number * multiple + missed
            possible = min(math.floor(wanted / multiple + 0.5) * multiple, self.num_samples)
            possible = max(possible, multiple)
            if sizes.last is not None:
                possible = sizes.last.nearest(possible, self.num_samples)
            missed = wanted - possible
            counts[self.first_pruned + i] = self.num_samples - possible
        return counts


def highest_target(attempt: Callable[[float], Schedule], target: float) -> float:
    """The highest target that can be met, to a thousandth, below one that cannot; 0 if none can."""
    reached, failed, most_pruned = 0, math.ceil(target * 1000), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has no effect
        while failed - reached > 1:
            middle = (reached + failed) // 2
            try:
                most_pruned = attempt(middle / 1000).most_pruned
                reached = middle
            except ValueError:
                failed = middle
    return reached / 1000 if most_pruned else 0.0


def check_length(num_samples: int, num_epochs: float | None, max_steps: int | None) -> None:
    """Raise ``ValueError`` unless there are samples, and one length of the run is given, above 0."""
    if num_samples == 0:
        raise ValueError("the dataset is empty; there is nothing to select from")
    if (num_epochs is None) == (max_steps is None):
        raise ValueError(
            f"num_epochs is {num_epochs} and max_steps is {max_steps}; give the run's length as one "
            "of them"
        )
    length = num_epochs if max_steps is None else max_steps
    if isinstance(length, bool) or not isinstance(length, Real) or not 0 < length < math.inf:
        name = "num_epochs" if max_steps is None else "max_steps"
        raise ValueError(f"{name} is {length!r}; it must be a number above 0")
    if max_steps is not None and not isinstance(max_steps, Integral):
        raise ValueError(f"max_steps is {max_steps}; it must be a whole number of batches")


def check_schedule(
    delta: float, warmup_epochs: int, target: float | Sequence[int] | None, ramp: float
) -> None:
    """Raise ``ValueError`` or ``TypeError`` for options of a :class:`Schedule` that make none."""
    if not isinstance(delta, Real):
        raise TypeError(f"delta is {delta!r}; it must be a number, between 0 and 1")
    if not 0 <= delta <= 1:
        raise ValueError(
            f"delta is {delta}; it is the share of the run after which all data is used again, "
            "between 0 (never prune) and 1 (never stop)"
        )
    if not isinstance(warmup_epochs, Integral) or warmup_epochs < 0:
        raise ValueError(f"warmup_epochs is {warmup_epochs}; it must be a whole number, at least 0")
    if isinstance(target, Real):
        if not 0 <= target < 1:
            raise ValueError(
                f"target is {target}; it is the share of the run's samples to leave out, at least 0 "
                "and less than 1"
            )
    elif target is not None and np.asarray(target).dtype.kind not in "iu":
        raise TypeError(
            f"target is {target!r}; give the share of the run's samples to leave out, or the number "
            "to leave out of each epoch"
        )
    if not isinstance(ramp, Real) or not -1 <= ramp <= 1:
        raise ValueError(
            f"ramp is {ramp!r}; it is how the samples left out are spread over the epochs, from -1 "
            "(most in the first) by 0 (evenly) to 1 (most in the last)"
        )
    if ramp and not isinstance(target, Real):
        raise ValueError(
            f"ramp is {ramp:g}, but the target is {target!r}: only a share of the run's samples can be "
            "spread over the epochs; give target= such a share, or leave ramp out"
        )
