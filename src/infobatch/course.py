"""A run's epochs: each is begun once, and leads to the next; and the state that a run goes on from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import chain
from typing import Any

import torch

from infobatch.batching import Batching
from infobatch.dynamics.recorder import Recorder
from infobatch.epoch import Epoch
from infobatch.foreign_indices import check_own
from infobatch.journal import Journal
from infobatch.layouts.base import ScoreStore
from infobatch.layouts.mean_scaling import MeanScaling
from infobatch.losses import Normalizer
from infobatch.noise import NormsFrom
from infobatch.policies.base import BiasedPolicy, check_all_observed
from infobatch.report import EpochCounts, Report
from infobatch.resumption import check_went_on, warn_of_another_policy
from infobatch.samples import Samples
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import Selection
from infobatch.user_warnings import warn_user


class Course:
    """The epochs of a run, one after another.

    Args:
        dataset: Any map-style dataset, of N samples.
        store: The scores of the run, on this rank.
        normalizer: What a batch's weighted sum is divided by: see :func:`weighted_mean`.
        norms_from: What losses are: see :func:`norms_of_losses`.
        check_data: Whether other samples than a state's, or than the epoch before had, are refused.
        recorder: Records its epochs; None if nothing does.

    Attributes:
        plan: The lengths and the policy of the run.
        history: Counts of the epochs that have ended: the one under way, too, once it was closed, if an
            error or an interrupt kept the next from being made.
        worker_generator: What loaders seed their workers from; its state depends on the epoch alone.
    """

    def __init__(
        self,
        dataset: Sized,
        store: ScoreStore[Any],
        normalizer: Normalizer,
        norms_from: NormsFrom,
        check_data: bool,
        recorder: Recorder | None = None,
    ) -> None:
        self.dataset = dataset
        self.plan = store.plan
        self.policy = store.plan.policy
        self.seed = store.seed
        self.replicas = store.replicas
        self.normalizer = normalizer
        self.norms_from = norms_from
        self.history: list[EpochCounts] = []
        self.worker_generator = self._worker_seeds(0)
        self._store = store
        self._recorder = recorder or Recorder()
        self._journal = Journal()
        self._samples = Samples(dataset, check_data)
        self._epoch: Epoch | None = None
        self._is_told = False  # of epochs, by set_epoch: samplers are not heard then
        self._has_ended = False
        self._mean_scaling: MeanScaling | None = None

    def __repr__(self) -> str:
        length = f" {self.num_epochs} epochs," if self.plan.length_is_known else ""
        at = "not begun" if self.begun is None else f"in epoch {self.begun}"
        return f"{type(self).__name__}({self.num_samples:,} samples,{length} {self.policy!r}, {at})"

    # -- Its epochs --------------------------------------------------------------------------------

    @property
    def num_samples(self) -> int:
        """N, the samples of the dataset when the epoch under way began."""
        return self.plan.num_samples

    @property
    def num_epochs(self) -> int:
        """Number of epochs in the whole run, the last perhaps cut short."""
        return self.plan.schedule.num_epochs

    @property
    def run_length(self) -> float:
        """Epochs of the run, a fraction where it ends within one.

        An end that is cut so short that the loader drops its only batch is not counted.
        """
        return self.plan.run_length

    @property
    def full_steps(self) -> int:
        """Batches the run would have on full data: the ``total_steps`` of a step-based schedule.

        With a sampler whose length changes, as if each epoch were as long as the one under way.
        """
        return self.plan.full_steps

    @property
    def total_steps(self) -> int:
        """Batches the run has with pruning; ``RuntimeError`` where no target makes that known, or groups
        are left out whole that do not add up to it.
        """
        return self.plan.total_steps

    @property
    def epoch(self) -> int:
        """Number of the epoch under way."""
        return self.current.number

    @property
    def begun(self) -> int | None:
        """Number of the epoch under way; None before the first, which is not begun by asking."""
        return None if self._epoch is None else self._epoch.number

    @property
    def current(self) -> Epoch:
        """The epoch under way. Epoch 0 begins when it is first asked for."""
        if self._epoch is None:
            self._make(0)
        assert self._epoch is not None
        return self._epoch

    @property
    def selection(self) -> Selection:
        """The samples of the epoch under way, and their weights."""
        return self.current.selection

    @property
    def mean_weight(self) -> float:
        """Mean weight of the epoch's samples, at least 1: N over their number, for unbiased policies.

        It is 1 where batches shrink, whose weights are relative ones.
        """
        return 1.0 if self.plan.shrink else self.current.mean_weight

    @property
    def progress(self) -> float:
        """The fraction of the training done, in [0, 1]: by samples *recorded*, not merely fetched.

        A sample counts once in an epoch, however often its losses are recorded; with a sampler of your
        own once for each time that it was drawn.
        """
        epoch, schedule = self._epoch, self.plan.schedule
        if epoch is None:
            return 0.0
        return min(1.0, (epoch.number + epoch.done * schedule.share(epoch.number)) / self.run_length)

    @property
    def is_to_observe(self) -> bool:
        """Whether a run was resumed where an epoch had been trained, and not yet observed."""
        epoch = self.current
        return self.policy.refreshes and epoch.resumed_at_end and epoch.num_unobserved > 0

    def epochs(self) -> Iterator[int]:
        """Begin each epoch that is still to be trained, and give its number.

        A loaded state goes on within its epoch. Once the run has finished there is none.
        """
        if self._has_ended:
            warn_user(
                f"the run has trained its {self.num_epochs} epochs, so that there are none to train; "
                "make a new pruner for a new run"
            )
        epoch = self.epoch + (self.current.finished and not self.is_to_observe)
        while epoch < self.num_epochs:
            self.set_epoch(epoch)
            if self.current.num_trained == 0:
                return  # a last epoch cut so short that its only batch would be dropped
            yield epoch
            epoch = self.epoch + 1
        self._end(self.current, is_last=True)
        self._has_ended = True

    def finish(self) -> None:
        """Give each rank all scores; write and log the epoch under way, where it is recorded or logged.

        :meth:`epochs` does it when the last epoch has ended, and so do frameworks' plug-ins. Call it, on
        all ranks, after a loop that calls :meth:`set_epoch` itself, or stops early. An epoch that goes
        on after it is written and logged once more.
        """
        if self._epoch is not None:
            self._end(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: decide, once, what it trains on. Epochs come one after another, from 0.

        What the dataset and your own sampler have changed since the last one is taken in: new samples
        at the dataset's end enter without a score, and the epoch is as long as the sampler is now. On
        several ranks it is a collective, which merges their scores. From then on the samplers'
        ``set_epoch``, which frameworks call by counts of their own, has no effect.

        Args:
            epoch: Number of the epoch: the next, or that of the one under way, which is gone on with.

        Raises:
            ValueError: If the run has no such epoch, or it is not the next: the run has not begun, or
                is loaded from a state, or would go back. If the dataset lost or changed its samples.
            RuntimeError: If nothing was recorded of the epoch that ends, or the ranks are not about to
                train the same.
        """
        self._is_told = True
        self._advance(epoch)

    def end_epoch(self) -> None:
        """End the epoch under way, whatever of it is missing: a state saved then goes on with the next.

        The begin of the next does so, too. Call it, on all ranks, before a state is saved between two
        epochs where the loop may have left one early: by a ``break``, of a stream without an end, or
        because other ranks had no more batches.
        """
        self._merge(self.current)
        self._look_back(self.current)
        self.current.close()

    def follow(self, epoch: int) -> None:
        """Begin an epoch as :meth:`set_epoch` does, unless that one tells the run of its epochs."""
        if not self._is_told:
            self._advance(epoch)

    def add_pass(self) -> None:
        """Begin one pass over all samples after the last epoch, to measure, not to train.

        As for batch norm in averaged weights. It is in no report, and changes no progress.
        """
        if self.epoch < self.num_epochs:
            self._close(self.current)
            self._make(self.num_epochs)

    def set_batching(self, batching: Batching) -> None:
        """Set how samples become batches, as making a loader or a sampler does."""
        if batching == self.plan.batching:
            return
        epoch = self._epoch
        if epoch is not None and self.plan.follows(batching) and epoch.num_recorded == 0:
            self.plan.follow(batching)  # another sampler of the user's, for the epoch that begins
            self._begin(self._store.resized(epoch))
            return
        self.plan.set_batching(batching, epoch is not None and epoch.number + epoch.num_recorded > 0)
        self._store.rehearse()  # an epoch that was looked at, perhaps, is drawn anew
        self._epoch = None

    def seed_workers(self) -> None:
        """Set :attr:`worker_generator` to the epoch's seed; samplers do so when they are iterated."""
        seeds = self._worker_seeds(self.current.number)
        self.worker_generator.manual_seed(seeds.initial_seed())

    def _worker_seeds(self, epoch: int) -> torch.Generator:
        return epoch_generator(self.seed, epoch, Stream.LOADER, self.replicas.rank)

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, tensors, numbers and names only. Call it on every rank."""
        self._merge(self.current)
        history = [list(counts) for counts in self.history[: self.epoch]]
        of_run = {"samples": self._samples.fingerprint, "policy": type(self.policy).__name__}
        return {**self._store.state_dict(self.current), "history": history, **of_run}

    def load_state_dict(self, state: dict[str, Any] | Iterable[dict[str, Any]]) -> None:
        """Go on where a state was taken, within its epoch. Load it before iterating.

        Args:
            state: What :meth:`state_dict` gave. With :class:`Sharded` scores and another number of ranks
                than saved it, the states of all those ranks.

        Raises:
            ValueError: If the state is of another run, or of other samples.
            FileExistsError: If ``record_to`` has epochs of a run with another seed.

        Warns:
            UserWarning: If the run was saved with a policy of another kind.
        """
        states = iter([state] if isinstance(state, dict) else state)
        checked = map(self._checked_state, states)
        first = next(checked, None)
        if first is None:
            raise ValueError("there is no state to go on from: the list is empty; give what was saved")
        warn_of_another_policy(first["policy"], self.policy)
        self._prepare(first["epoch"])
        self._recorder.resume(first)
        self._journal.resume()
        epoch = self._store.load(chain([first], checked))
        self.history = [EpochCounts(*counts) for counts in first["history"]]
        self._has_ended = False
        epoch.resume(is_over=first["over"])
        self._begin(epoch)

    def _checked_state(self, state: dict[str, Any]) -> dict[str, Any]:
        checked = self._store.check_state(state)
        self._samples.check_saved(state["samples"])
        return checked

    # -- Inside ------------------------------------------------------------------------------------

    def _advance(self, epoch: int) -> None:
        self.plan.schedule.check_next(self.begun, epoch)
        if self._epoch is None:
            self._make(epoch)
        elif epoch > self._epoch.number:
            self._samples.check_unchanged()
            self._close(self._epoch)
            self._make(epoch)
        else:
            self._epoch.begin_anew()
        self._store.agree(self.current)

    def _make(self, number: int) -> None:
        """Begin an epoch with the samples that there are now."""
        num_samples = self._samples.num_samples
        if num_samples > self.num_samples:
            self._samples.check_unchanged()
            self.plan.grow(num_samples)
            self._store.grow(num_samples)
        self._prepare(number)
        epoch, before = self._store.make_epoch(number), self._epoch
        self._recorder.begin()  # once nothing keeps the epoch from being made
        if before is not None and before.user_draws is not None and epoch.user_draws is not None:
            epoch.user_draws.start = before.user_draws.following
        self._begin(epoch)

    def _prepare(self, number: int) -> None:
        """What comes before an epoch is made: a pruner asks the user's own sampler for its length."""

    def _begin(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._mean_scaling = self._store.mean_scaling(epoch, self.plan.batching, self.normalizer)
        self.seed_workers()

    def _merge(self, epoch: Epoch) -> None:
        epoch.agreed &= not self._recorder.is_on  # on the columns, which the first batch adds to
        self._store.merge(epoch)

    def _end(self, epoch: Epoch, is_last: bool = False) -> None:
        """What :meth:`finish` does; the last epoch of a run is looked back on, too."""
        is_told = self._recorder.is_on or bool(self._journal.loggers)
        if is_told or self._store.can_merge:
            self._merge(epoch)
        if is_last:
            self._look_back(epoch)
            epoch.close()
        if is_told:
            self._recorder.write(epoch)
            if epoch.number < self.num_epochs and epoch.done > 0:
                self._log(epoch, self._counts(self._noise(epoch)))

    def _close(self, epoch: Epoch) -> None:
        if len(self.history) > epoch.number:
            return  # it was closed before an error or an interrupt kept the next from being made
        self._merge(epoch)
        self._store.end(epoch)
        self._look_back(epoch)
        check_all_observed(self.policy, epoch.number, epoch.num_unobserved)
        epoch.close()
        self._recorder.write(epoch)
        counts = self._counts(self._noise(epoch))
        self._log(epoch, counts)
        self.history.append(counts)
        epoch.release()

    def _look_back(self, epoch: Epoch) -> None:
        """Raise for an epoch that ends without having been trained as it was given out."""
        epoch.check_recorded()
        check_own(epoch)
        check_went_on(epoch)

    def _log(self, epoch: Epoch, counts: EpochCounts) -> None:
        """Tell the first rank's loggers of an epoch, which is merged."""
        if not self._journal.loggers or self.replicas.rank > 0 or epoch.number >= self.num_epochs:
            return
        report = Report([*self.history[: epoch.number], counts], 0)
        if self._store.layout == "sharded":  # no rank has all scores
            self._journal.tell(report, None, None, None)
            return
        share = epoch.selection.effective_share if epoch.num_selected < self.num_samples else None
        self._journal.tell(report, self._store.scores, self._store.trained_in(epoch)[0], share)

    def _counts(self, noise: float | None) -> EpochCounts:
        epoch = self.current
        share = epoch.num_selected / self.num_samples
        num_full = epoch.num_full
        if num_full is None:
            num_full = self.plan.num_trained(epoch.number, self.plan.full_length)
        return EpochCounts(epoch.number, epoch.length, epoch.num_done, num_full, noise, share)

    def _noise(self, epoch: Epoch) -> float | None:
        """The noise of a step of a pruned epoch, of what of it was recorded. A collective."""
        if isinstance(self.policy, BiasedPolicy) or self.policy.group_of is not None:
            return None  # nor is the noise of groups told by the norms of their samples
        if epoch.num_selected == self.num_samples:
            return None
        return self._store.noise(epoch, self.norms_from)
