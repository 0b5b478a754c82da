"""How long a run is, in epochs and in steps, before it is trained."""

from __future__ import annotations

from collections.abc import Sequence

from infobatch.batching import Batching
from infobatch.policies import Policy
from infobatch.schedule import Schedule


class RunPlan:
    """Resolves a run's length, given in epochs or in steps, once its batch size is known."""

    def __init__(
        self,
        num_samples: int,
        policy: Policy,
        num_epochs: float | None,
        max_steps: int | None,
        delta: float,
        warmup_epochs: int,
        target: float | Sequence[int] | None,
    ) -> None:
        self.num_samples = num_samples
        self.policy = policy
        self.batching: Batching | None = None
        self._length = (num_epochs, max_steps)
        self._options = (delta, warmup_epochs, target)
        self._schedule = self._make_schedule() if max_steps is None else None

    @property
    def schedule(self) -> Schedule:
        if self._schedule is None:
            self._schedule = self._make_schedule()
        return self._schedule

    @property
    def multiple(self) -> int:
        """The numbers of samples kept in pruned epochs are multiples of this."""
        return self.batching.multiple if self.batching else 1

    @property
    def full_steps(self) -> int:
        return self._num_steps([self.num_samples] * self.schedule.num_epochs)

    @property
    def total_steps(self) -> int:
        schedule = self.schedule
        if not schedule.has_target:
            raise RuntimeError(
                "how many samples the policy leaves out is known only when an epoch begins; set "
                "target= for lengths known beforehand, or drive schedules by pruner.lr_scheduler"
            )
        left_out = [schedule.num_pruned(epoch) or 0 for epoch in range(schedule.num_epochs)]
        return self._num_steps([self.num_samples - count for count in left_out])

    def num_trained(self, epoch: int, num_selected: int) -> int:
        """Of an epoch's selected samples, those that are trained."""
        num_trained = max(1, round(self.schedule.share(epoch) * num_selected))
        return self.batching.num_trained(num_trained) if self.batching else num_trained

    def set_batching(self, batching: Batching) -> None:
        if batching.batch_size < 1:
            raise ValueError(f"batch_size is {batching.batch_size:g}; it must be at least 1")
        if batching.round_size > self.num_samples:
            replicas = f" on each of {batching.num_replicas} replicas" * (batching.num_replicas > 1)
            raise ValueError(
                f"the {self.num_samples} samples are fewer than one batch of {batching.batch_size:g}"
                f"{replicas}; lower batch_size"
            )
        self.batching = batching
        self._schedule = self._make_schedule()

    def _make_schedule(self) -> Schedule:
        num_epochs, max_steps = self._length
        if max_steps is not None:
            batching = self._known_batching
            whole, rest = divmod(max_steps, batching.num_steps(self.num_samples))
            num_epochs = whole + rest * batching.round_size / self.num_samples
        assert num_epochs is not None
        schedule = Schedule(self.num_samples, num_epochs, *self._options, self.multiple)
        self.policy.check_target(schedule.most_pruned, self.num_samples)
        return schedule

    def _num_steps(self, num_kept: Sequence[int]) -> int:
        num_steps = self._known_batching.num_steps
        return sum(num_steps(self.num_trained(epoch, kept)) for epoch, kept in enumerate(num_kept))

    @property
    def _known_batching(self) -> Batching:
        if self.batching is None:
            raise RuntimeError(
                "the batch size is not known yet; make the loader first (pruner.loader(batch_size), "
                "or pruner.sampler(batch_size) for a DataLoader of your own)"
            )
        return self.batching
