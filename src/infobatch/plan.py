"""How long a run is, in epochs and in steps, before it is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch

from infobatch.batching import (
    ANY_SIZE,
    BatchEnds,
    Batching,
    EpochSizes,
    ShrinkBatches,
    even_ends,
    regular_ends,
)
from infobatch.policies import NoPruning, Policy, Request
from infobatch.policies.base import BiasedPolicy, check_one_says_how_much, check_policy, check_targets
from infobatch.schedule import OutOfReach, Schedule, check_length, check_schedule, highest_target
from infobatch.user_warnings import warn_user


class RunPlan:
    """The lengths of a run given in epochs or in steps; those in steps once its batch size is known.

    Args:
        num_samples: N, the samples of the dataset, at least 1.
        policy: What to leave out.
        num_epochs: Length of the run in epochs, above 0; None if ``max_steps`` is given.
        max_steps: Length of the run in batches on full data; None if ``num_epochs`` is given.
        delta: See :class:`Schedule`; so are ``warmup_epochs``, ``target`` and ``ramp``.
        warmup_epochs: Unpruned epochs at the start.
        target: What to leave out of the run.
        ramp: How a target is spread over the epochs.
        shrink: How pruned epochs shrink batches; None where they have fewer of them.

    Raises:
        ValueError: For options that make no run, or a target that no epoch can meet.
        TypeError: For options of another kind.
    """

    def __init__(
        self,
        num_samples: int,
        policy: Policy,
        num_epochs: float | None,
        max_steps: int | None,
        delta: float,
        warmup_epochs: int,
        target: float | Sequence[int] | None,
        ramp: float = 0.0,
        shrink: ShrinkBatches | None = None,
    ) -> None:
        check_length(num_samples, num_epochs, max_steps)
        check_policy(policy, num_samples)
        if shrink and policy.group_of is not None:
            raise ValueError(
                f"shrink='batches' takes samples out of each batch, and {policy!r} keeps groups whole; "
                "leave out steps: shrink='steps'"
            )
        check_schedule(delta, warmup_epochs, target, ramp)
        check_one_says_how_much(policy, target is not None)
        self.num_samples = num_samples
        self.policy = policy
        self.shrink = shrink
        self.batching: Batching | None = None
        self._length = (num_epochs, max_steps)
        self._options = (delta, warmup_epochs, target, ramp)
        self._schedule: Schedule | None = None
        if max_steps is None:
            self._schedule = self._make_schedule()
            self._warn_if_nothing_is_prunable(self._schedule)

    @property
    def length_is_known(self) -> bool:
        """Whether the run's number of epochs is known: in steps, only with the batch size."""
        return self._schedule is not None

    @property
    def schedule(self) -> Schedule:
        """Which epochs are pruned, and by how much. ``RuntimeError`` before the length is known."""
        if self._schedule is None:
            self._schedule = self._make_schedule()
        return self._schedule

    @property
    def epoch_sizes(self) -> EpochSizes:
        """How many samples a pruned epoch may keep."""
        batching = self.batching
        if batching is None:
            return ANY_SIZE
        if self.shrink is None:
            return EpochSizes(batching.multiple, last=batching.last_batch(self.num_samples))
        # Enough for the smallest batches.
        multiple = 1 if batching.has_user_order else self.shrink.multiple * batching.num_replicas
        num_draws = batching.num_steps(self.full_length) * self.shrink.smallest * batching.num_replicas
        least = math.ceil(num_draws * self.num_samples / self.full_length - 1e-9)
        if least <= self.num_samples // multiple * multiple:
            return EpochSizes(multiple, least)
        return EpochSizes(least=self.num_samples)  # then nothing can be left out

    @property
    def full_length(self) -> int:
        """Samples in an epoch on full data, or draws where the user's own sampler orders it."""
        return self.batching.full_length(self.num_samples) if self.batching else self.num_samples

    @property
    def run_length(self) -> float:
        """Epochs that are trained, a fraction where the run ends within one, if not before a batch."""
        schedule = self.schedule
        last = schedule.num_epochs - 1
        if last == 0 or schedule.share(last) == 1 or self.batching is None or self.num_batches(last):
            return schedule.run_length
        return float(last)

    @property
    def full_steps(self) -> int:
        """Batches that the run would have on full data."""
        return self._num_steps([self.full_length] * self.schedule.num_epochs)

    @property
    def total_steps(self) -> int:
        """Batches that the run has. ``RuntimeError`` where it is the policy, or groups, that decide."""
        schedule = self.schedule
        if self.shrink or not self._can_prune or not schedule.prunable:
            return self.full_steps
        if not schedule.has_target:
            raise RuntimeError(
                "how many samples the policy leaves out is known only when an epoch begins; set "
                "target= for lengths known beforehand, or drive schedules by pruner.lr_scheduler"
            )
        if not all(map(self.policy.leaves_out_exactly, schedule.numbers_pruned)):
            raise RuntimeError(
                "groups are left out whole, and how many samples are in them is known only when an "
                "epoch begins; drive schedules by pruner.lr_scheduler"
            )
        left_out = [schedule.num_pruned(epoch) or 0 for epoch in range(schedule.num_epochs)]
        kept = [(self.num_samples - count) / self.num_samples for count in left_out]
        return self._num_steps([round(share * self.full_length) for share in kept])

    def request(self, epoch: int, generator: torch.Generator) -> Request:
        """What an epoch that is pruned asks of the policy."""
        schedule = self.schedule
        num_pruned = schedule.num_pruned(epoch)
        return Request(num_pruned, generator, epoch, schedule.prunable, self.epoch_sizes)

    def num_trained(self, epoch: int, num_selected: int, num_before: int = 0) -> int:
        """How many of an epoch's selected samples are trained, with those before it was resumed."""
        num_trained = self._part(epoch, num_selected)
        batching = self.batching
        if batching is None:
            return num_trained
        if batching.has_user_order:
            whole = int(batching.global_batch_size) if batching.drop_last else 1
            return num_trained // whole * whole
        if self.shrink is None:
            return batching.num_trained(num_trained, num_before)
        if num_selected == self.num_samples:
            return batching.num_trained(num_trained)
        num_batches = self.num_batches(epoch)
        if num_batches == 0:
            return 0
        # No batch is dropped, none is larger than on full data, and none smaller than the least.
        num_trained = min(num_trained, num_batches * int(batching.global_batch_size))
        if num_trained == num_selected:  # drawn as a multiple, if perhaps for other ranks
            return num_trained
        least = num_batches * self.shrink.smallest * batching.num_replicas
        return EpochSizes(self.epoch_sizes.multiple, least).nearest(num_trained, num_selected)

    def saves_nothing(self, epoch: int, num_selected: int) -> bool:
        """Whether so many samples, in smaller batches, are as many as full data trains.

        It trains whole batches alone where a last one is dropped. What a biased policy leaves out stays
        out, and of a user's own sampler it is not known.
        """
        if self.shrink is None or self.batching is None or self.batching.has_user_order:
            return False
        if isinstance(self.policy, BiasedPolicy):
            return False
        return self.num_trained(epoch, num_selected) >= self.num_trained(epoch, self.num_samples)

    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch on full data, and of a pruned one whose batches shrink."""
        return self._num_batches(epoch, self.full_length)

    def batch_ends(
        self, epoch: int, num_selected: int, num_draws: int, full_draws: int | None = None
    ) -> BatchEnds | None:
        """Where the batches of an epoch end in the draws of each rank; None where all are alike.

        Args:
            epoch: Number of the epoch.
            num_selected: How many samples it selects.
            num_draws: How many draws each rank has, its repeats among them.
            full_draws: How many each has on full data; by default an equal share.
        """
        if self.shrink is None or self.batching is None or self.batching.has_user_order:
            return None
        if num_selected == self.num_samples:
            ends = regular_ends(num_draws, int(self.batching.batch_size))
        else:
            num_batches = self.num_batches(epoch)
            if full_draws is not None:
                num_batches = -(-full_draws // int(self.batching.batch_size))
            ends = even_ends(num_draws, num_batches, self.shrink.multiple, self.shrink.smallest)
        return BatchEnds(ends, self.shrink.smallest)

    def set_batching(self, batching: Batching, begun: bool = False) -> None:
        """Tell the plan how samples become batches; not once the run has ``begun``."""
        if begun:
            before = f" with {self.batching}" if self.batching else ", or gone on from a state"
            raise RuntimeError(
                f"{batching} comes after the run has begun{before}, and would change its lengths; make "
                "the loader before training begins, and before load_state_dict"
            )
        self._check_batching(batching)
        self.batching = batching
        was_known, self._schedule = self.length_is_known, self._make_schedule()
        if not was_known:
            self._warn_if_nothing_is_prunable(self._schedule)

    def follows(self, batching: Batching) -> bool:
        """Whether it differs from the present one in the length of the user's own sampler alone."""
        now = self.batching
        if now is None or not (now.has_user_order and batching.has_user_order):
            return False
        return (now.drop_last, now.num_replicas) == (batching.drop_last, batching.num_replicas)

    def follow(self, batching: Batching) -> None:
        """Take in how long the user's own sampler is in the epoch that begins.

        Raises:
            ValueError: If it gives no samples, or the run was given in steps of another length.
        """
        if batching == self.batching:
            return
        self._check_batching(batching)
        assert self.batching is not None
        if batching.user_length != self.batching.user_length:
            self._check_length_may_change(
                f"the sampler gives {batching.user_length:,} samples in the epoch that begins, and gave "
                f"{self.batching.user_length:,} before"
            )
        self.batching = batching

    def grow(self, num_samples: int) -> None:
        """Take in samples that the dataset has at its end since an epoch began.

        Raises:
            ValueError: If the policy was given values for each sample, or the run's length in steps.
        """
        if self.batching is None or not self.batching.has_user_order:
            self._check_length_may_change(
                f"the dataset has {num_samples:,} samples, and had {self.num_samples:,} before"
            )
        check_policy(self.policy, num_samples)
        self.num_samples = num_samples
        if self._schedule is not None:
            self._schedule = self._make_schedule()

    def _check_length_may_change(self, change: str) -> None:
        max_steps = self._length[1]
        if max_steps is not None:
            raise ValueError(
                f"{change}, so that max_steps={max_steps} is another number of epochs than the run was "
                "planned for; give num_epochs"
            )

    def _check_batching(self, batching: Batching) -> None:
        if batching.user_length == 0:
            raise ValueError("the sampler gives no samples: its length is 0; give one that does")
        if batching.batch_size < 1:
            raise ValueError(f"batch_size is {batching.batch_size:g}; it must be at least 1")
        full_length = batching.full_length(self.num_samples)
        keeps_short_batches = batching.has_user_order and not batching.drop_last
        if batching.global_batch_size > full_length and not keeps_short_batches:
            ranks = f" on each of {batching.num_replicas} ranks" * (batching.num_replicas > 1)
            raise ValueError(
                f"the {full_length} samples are fewer than one batch of {batching.batch_size:g}"
                f"{ranks}; lower the batch size"
            )
        self.policy.check_multiple(batching.multiple)
        multiple = self.shrink.multiple if self.shrink and self._can_prune else 1
        if not batching.has_user_order and (rest := batching.batch_size % multiple):
            below = batching.batch_size - rest
            sizes = [below, below + multiple] if below else [multiple]
            raise ValueError(
                f"batch_size is {batching.batch_size:g}, and batches are to have a multiple of "
                f"{multiple} samples on each rank (ShrinkBatches.multiple); give batch_size="
                + " or ".join(f"{size:g}" for size in sizes)
            )
        if self.shrink and batching.batch_size <= self.shrink.smallest and self._can_prune:
            lower = "let them shrink to one: shrink=ShrinkBatches(least=1), " * (batching.batch_size > 1)
            raise ValueError(
                f"batch_size is {batching.batch_size:g}, and batches shrink, as a budget of noise or "
                f"shrink='batches' has it, to no fewer than {self.shrink.smallest} samples on a rank, "
                f"so that nothing could be left out; raise batch_size, {lower}or leave out steps "
                "instead: shrink='steps'"
            )

    @property
    def _can_prune(self) -> bool:
        """Whether an epoch may leave something out."""
        return not isinstance(self.policy, NoPruning)

    def _warn_if_nothing_is_prunable(self, schedule: Schedule) -> None:
        """Warn of a run too short for any epoch to be pruned, unless that was asked for."""
        delta, _, target, _ = self._options
        if schedule.num_prunable or not self._can_prune or delta == 0 or target is not None:
            return
        annealing = schedule.num_epochs - schedule.annealing_start
        also = f" and annealing, in which all data is used again, {annealing}" if annealing else ""
        to_the_end = "prune to the end (delta=1), " if annealing else ""
        warn_user(
            f"nothing can be pruned: of {schedule.run_length:g} epochs warm-up takes "
            f"{schedule.first_pruned}{also}. Train longer, {to_the_end}or prune the first epoch by "
            "scores from before the run (warmup_epochs=0, prior_scores=...); NoPruning() says that "
            "nothing is to be pruned"
        )

    def _make_schedule(self) -> Schedule:
        num_epochs, max_steps = self._length
        if max_steps is not None:
            batching = self._known_batching
            whole, rest = divmod(max_steps, batching.num_steps(self.full_length))
            # Whole samples: batches of the user's own have a mean size, and a part of one makes a step.
            rest = math.floor(rest * batching.batch_size + 1e-9) * batching.num_replicas
            num_epochs = whole + rest / self.full_length
        assert num_epochs is not None
        delta, warmup_epochs, target, ramp = self._options

        def with_target(target: float | Sequence[int] | None) -> Schedule:
            schedule = Schedule(
                self.num_samples,
                num_epochs,
                delta,
                warmup_epochs,
                target,
                ramp,
                self.epoch_sizes,
            )
            check_targets(self.policy, schedule.numbers_pruned, self.num_samples)
            return schedule

        try:
            return with_target(target)
        except ValueError as error:
            highest = highest_target(with_target, float(target)) if isinstance(target, Real) else 0
            if not highest:
                raise
            reason = error.reason if isinstance(error, OutOfReach) else error
            raise ValueError(
                f"{reason}. The highest target that can be reached is {highest:g}"
            ) from None

    def _num_steps(self, num_kept: Sequence[int]) -> int:
        """Batches of epochs that keep these numbers of samples, in batches as large as on full data."""
        return sum(self._num_batches(epoch, kept) for epoch, kept in enumerate(num_kept))

    def _num_batches(self, epoch: int, num_kept: int) -> int:
        batching = self._known_batching
        num_trained = self._part(epoch, num_kept)
        return batching.num_steps(batching.num_trained(num_trained))

    def _part(self, epoch: int, num_samples: int) -> int:
        """How many of ``num_samples`` come before the run ends, where that is within the epoch.

        They are a whole batch or more where all samples would be, and a last short one is dropped.
        """
        share, batching = self.schedule.share(epoch), self.batching
        part = max(1, round(share * num_samples))
        if batching is not None and self.shrink is None:
            of_all = batching.num_trained(round(share * self.num_samples))
            part = min(max(part, min(batching.multiple, of_all)), num_samples)
        last = self.epoch_sizes.last
        return part if last is None or part == num_samples else last.nearest(part, num_samples)

    @property
    def _known_batching(self) -> Batching:
        if self.batching is None:
            raise RuntimeError(
                "the batch size is not known yet; make the loader first (pruner.loader(batch_size), or "
                "for a DataLoader of your own pruner.batch_sampler(batch_size), with shrink='steps' "
                "pruner.sampler(batch_size))"
            )
        return self.batching
