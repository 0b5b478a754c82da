"""The facade: owns the parts and closes the loop from losses to the next epoch's selection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, default_convert

from infobatch.batching import Batching
from infobatch.checks import (
    STATE_VERSION,
    Samples,
    check_choices,
    check_losses,
    check_run,
    check_state,
    host_indices,
)
from infobatch.dataset import IndexedCollate, IndexedDataset
from infobatch.distributed import find_replicas, merge_scores
from infobatch.export import export_table
from infobatch.loss import Normalizer, weighted_mean
from infobatch.lr import ProgressScheduler
from infobatch.plan import RunPlan
from infobatch.policies import InfoBatch, Policy
from infobatch.sampler import (
    Epoch,
    FilteredBatchSampler,
    FilteredSampler,
    LastRound,
    PrunedSampler,
)
from infobatch.saving import EpochCounts, Report, Saving, predict_saving
from infobatch.scores import NO_SCORE, IndexArray, LossBuffer, ScoreTable
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import Selection, draw


class DynamicPruner:
    """Leaves out well-learned samples, epoch by epoch, without biasing the gradient.

    ``dataset``: any map-style dataset of N samples. ``num_epochs``: C, the run's length; a fraction
    cuts the last epoch short. ``max_steps``: the length in batches of full data instead; pruning
    makes the run end after fewer. ``policy``: what to leave out. ``delta``: the share of the run
    after which all data is used again, in [0, 1]; 1 never anneals. ``warmup_epochs``: unpruned epochs
    at the start. ``target``: the share of the run's samples to leave out, met exactly with every
    epoch's length known beforehand; or the number for each epoch; None leaves it to the policy.
    ``seed``: of all randomness here. ``normalizer``: see :func:`weighted_mean`. ``rank`` and
    ``num_replicas``: data-parallel coordinates, by default torch.distributed's.
    """

    def __init__(
        self,
        dataset: Sized,
        num_epochs: float | None = None,
        *,
        max_steps: int | None = None,
        policy: Policy | None = None,
        delta: float = 0.875,
        warmup_epochs: int = 1,
        target: float | Sequence[int] | None = None,
        seed: int = 0,
        normalizer: Normalizer = "batch",
        rank: int | None = None,
        num_replicas: int | None = None,
    ) -> None:
        policy = InfoBatch() if policy is None else policy
        check_run(len(dataset), num_epochs, max_steps, policy, delta, warmup_epochs, target)
        check_choices(seed, normalizer)
        self.dataset = dataset
        self.num_samples = len(dataset)
        self.policy = policy
        self.seed = int(seed)
        self.normalizer: Normalizer = normalizer
        self.replicas = find_replicas(rank, num_replicas)
        self.history: list[EpochCounts] = []
        self.plan = RunPlan(
            self.num_samples, policy, num_epochs, max_steps, delta, warmup_epochs, target
        )
        columns = dict.fromkeys(["last_loss", "visits", *policy.columns])
        self._scores = ScoreTable(self.num_samples, list(columns))
        self._buffer = LossBuffer(self._scores.record, capacity=min(self.num_samples, 1 << 16))
        self._epoch: Epoch | None = None
        self._last_round = LastRound()
        self._loader_generator = epoch_generator(self.seed, 0, Stream.LOADER)
        self._own_samplers: list[Any] = []
        self._skipping_loaders: list[Any] = []

    # -- The run -----------------------------------------------------------------------------------

    @property
    def num_epochs(self) -> int:
        """Epochs begun in the whole run, the last perhaps cut short."""
        return self.plan.schedule.num_epochs

    @property
    def full_steps(self) -> int:
        """Batches the run would have on full data: the ``total_steps`` of a step-based schedule."""
        return self.plan.full_steps

    @property
    def total_steps(self) -> int:
        """Batches the run has with pruning; known beforehand only where a target is set."""
        return self.plan.total_steps

    @property
    def epoch(self) -> int:
        return self.current.number

    @property
    def current(self) -> Epoch:
        """The epoch under way. Epoch 0 begins when it is first asked for."""
        if self._epoch is None:
            self._start(0, self._select(0))
        assert self._epoch is not None
        return self._epoch

    @property
    def selection(self) -> Selection:
        """The samples of the epoch under way, and their weights."""
        return self.current.selection

    @property
    def progress(self) -> float:
        """The fraction of the training done, in [0, 1]: by samples *recorded*, not merely fetched."""
        epoch, schedule = self.current, self.plan.schedule
        return min(1.0, (epoch.number + epoch.done * schedule.share(epoch.number)) / schedule.run_length)

    def epochs(self) -> Iterator[int]:
        """Begin each epoch still to be trained and give its number; none once the run has finished.

        Resumes within the epoch that a loaded state was in.
        """
        epoch = self.epoch + self.current.finished
        while epoch < self.num_epochs:
            self.set_epoch(epoch)
            if len(self.current.order) == 0:
                return  # a last epoch cut so short that its only batch would be dropped
            yield epoch
            epoch = self.epoch + 1

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: decide, once, what it trains on. Never goes backwards.

        With several replicas, call it on all of them: it merges their scores.
        """
        if not 0 <= epoch < self.num_epochs:
            raise ValueError(
                f"epoch {epoch} does not exist: the run has {self.num_epochs}, numbered from 0"
            )
        if self._epoch is None:
            self._start(epoch, self._select(epoch))
        elif epoch > self._epoch.number:
            self._close()
            self._start(epoch, self._select(epoch))

    def seed_workers(self) -> None:
        """Set what our loaders seed their workers from, so that it depends on the epoch alone."""
        generator = epoch_generator(self.seed, self.current.number, Stream.LOADER)
        self._loader_generator.manual_seed(generator.initial_seed())

    # -- Batches -----------------------------------------------------------------------------------

    def loader(
        self,
        batch_size: int | None = 1,
        *,
        sampler: Iterable[int] | None = None,
        batch_sampler: Collection[Sequence[int]] | None = None,
        bucket: Callable[[int], Hashable] | None = None,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        loader_class: Callable[..., Any] = DataLoader,
        **options: Any,
    ) -> Any:
        """A DataLoader of ``(samples, batch)``: int64 indices (B,) on the host, and what yours gives.

        Takes DataLoader's options; the order is always shuffled. ``sampler`` or ``batch_sampler``: your
        own, filtered; ``bucket``: see :class:`FilteredBatchSampler`. ``loader_class``: torchdata's
        StatefulDataLoader, say, which then does the skipping when a run is resumed.
        """
        if options.pop("shuffle", True) is False:
            raise ValueError(
                "shuffle=False has no meaning here: the epoch's order is a permutation of its own. "
                "Give sampler= to have your own order filtered"
            )
        options.setdefault("generator", self._loader_generator)
        size = 1 if batch_size is None else batch_size
        sizes: dict[str, Any]
        if batch_sampler is not None:
            sizes = {"batch_sampler": self.filter_batches(batch_sampler, bucket)}
        elif sampler is not None:
            own = self.filter(sampler, size, drop_last=drop_last)
            sizes = {"sampler": own, "batch_size": batch_size, "drop_last": drop_last}
        else:
            resumes = not hasattr(loader_class, "load_state_dict")
            ours = self.sampler(size, drop_last=drop_last, resumes=resumes)
            sizes = {"sampler": ours, "batch_size": batch_size, "drop_last": drop_last}
        if collate_fn is None and batch_size is None and batch_sampler is None:
            collate_fn = default_convert
        dataset, collate = IndexedDataset(self.dataset), IndexedCollate(collate_fn)
        loader = loader_class(dataset, collate_fn=collate, **sizes, **options)
        if hasattr(loader, "load_state_dict"):
            self._skipping_loaders.append(loader)
        return loader

    def sampler(
        self, batch_size: int, *, drop_last: bool = False, resumes: bool = True
    ) -> PrunedSampler:
        """The sampler, for a DataLoader of your own over ``IndexedDataset`` and ``IndexedCollate``.

        ``batch_size`` (on each replica) and ``drop_last`` must be the loader's. ``resumes``: false
        for a loader that skips what was trained itself.
        """
        self._set_batching(batch_size, drop_last, own_order=False)
        return PrunedSampler(self, resumes)

    def filter(
        self, sampler: Iterable[int], batch_size: int, *, drop_last: bool = False
    ) -> FilteredSampler:
        """Your own sampler of indices, without the samples left out."""
        self._set_batching(batch_size, drop_last, own_order=True)
        self._own_samplers.append(sampler)
        return FilteredSampler(self, sampler)

    def filter_batches(
        self,
        batch_sampler: Collection[Sequence[int]],
        bucket: Callable[[int], Hashable] | None = None,
    ) -> FilteredBatchSampler:
        """Your own batch sampler, without the samples left out: :class:`FilteredBatchSampler`."""
        num_batches = len(batch_sampler) * self.replicas.num_replicas
        self._set_batching(self.num_samples / num_batches, drop_last=False, own_order=True)
        self._own_samplers.append(batch_sampler)
        return FilteredBatchSampler(self, batch_sampler, bucket)

    # -- The loop's one call -----------------------------------------------------------------------

    def update(self, losses: Tensor, samples: Samples, scored: Tensor | None = None) -> Tensor:
        """Record a batch's losses and return their weighted mean, to call ``backward()`` on.

        ``losses``: (B,), any float dtype and device, not averaged. ``samples``: (B,), the indices
        that came with the batch. ``scored``: bool (B,), false for a sample that has no score (no
        valid pixel, no supervised token). The same as :meth:`weigh` and :meth:`record`.
        """
        weights = self._look_up(losses, samples, record=True, scored=scored)
        return weighted_mean(losses, weights, self.normalizer)

    def weigh(self, losses: Tensor, samples: Samples) -> Tensor:
        """The weighted mean alone, for optimisers that evaluate a step's loss several times."""
        return weighted_mean(losses, self._look_up(losses, samples), self.normalizer)

    def record(self, losses: Tensor, samples: Samples, scored: Tensor | None = None) -> None:
        """Record alone: once a step, with the losses at the step's first evaluation."""
        self._look_up(losses, samples, record=True, scored=scored)

    def weights(self, samples: Samples) -> Tensor:
        """The weights of ``samples``, float32 (B,) on the host; 0 for a repeat that fills a batch."""
        return torch.from_numpy(self.current.weights_of(host_indices(samples)))

    def lr_scheduler(self, scheduler: LRScheduler, total_steps: int | None = None) -> ProgressScheduler:
        """A step-based scheduler made for ``total_steps`` steps of full data, driven by progress.

        ``total_steps``: by default :attr:`full_steps`, one step a batch; give the number of epochs
        for a scheduler that counts epochs.
        """
        return ProgressScheduler(
            scheduler, self, self.full_steps if total_steps is None else total_steps
        )

    # -- What is known -----------------------------------------------------------------------------

    @property
    def scores(self) -> ScoreTable:
        """The score table, with everything recorded so far on this replica; waits for the device."""
        self._buffer.drain()
        return self._scores

    def export(self, path: str | Path) -> Path:
        """Write scores, visits and the selection's weights to a ``.parquet`` or ``.npz`` file."""
        scores = self.scores
        columns = {name: scores[name] for name in scores.columns}
        return export_table(path, {**columns, "weight": self.selection.weights})

    def predict_saving(self) -> Saving:
        """What the run would save if the scores kept the distribution they have now."""
        return predict_saving(self.scores, self.policy, self.plan.schedule)

    def report(self) -> Report:
        """What was trained and left out so far."""
        counts = [*self.history, self._counts()]
        return Report(self.num_samples, counts, self.scores.num_nonfinite)

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, tensors and numbers only. Call it on every replica."""
        self._merge()
        epoch = self.current
        return {
            "version": STATE_VERSION,
            "num_samples": self.num_samples,
            "seed": self.seed,
            "epoch": epoch.number,
            "weights": epoch.selection.weights.clone(),
            "recorded": torch.from_numpy(epoch.recorded.copy()),
            "scores": self.scores.state_dict(),
            "history": [list(counts) for counts in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, within its epoch. Load it before iterating."""
        check_state(state, self.num_samples, self.seed)
        if state["epoch"] >= self.num_epochs:
            raise ValueError(
                f"the checkpoint was taken in epoch {state['epoch']}, but this run has only "
                f"{self.num_epochs} epochs; give the num_epochs it was made with, or more"
            )
        self._buffer.drain()
        self._scores.load_state_dict(state["scores"])
        self.history = [EpochCounts(*counts) for counts in state["history"]]
        self._start(state["epoch"], Selection.of(state["weights"].clone()), state["recorded"])

    # -- Inside ------------------------------------------------------------------------------------

    def _set_batching(self, batch_size: float, drop_last: bool, own_order: bool) -> None:
        batching = Batching(batch_size, drop_last, self.replicas.num_replicas, own_order)
        if batching == self.plan.batching:
            return
        if self._epoch is not None and self._epoch.number + self._epoch.num_recorded > 0:
            raise RuntimeError(
                f"{batching} comes after the run has begun with {self.plan.batching}, and would "
                "change its lengths; make the loader before training begins"
            )
        self.plan.set_batching(batching)
        self._epoch = None  # looked at, perhaps, but nothing trained: it begins anew

    def _select(self, epoch: int) -> Selection:
        schedule = self.plan.schedule
        if not schedule.prunes(epoch):
            return Selection.full(self.num_samples)
        generator = epoch_generator(self.seed, epoch, Stream.DRAW)
        num_pruned = schedule.num_pruned(epoch)
        keep = self.policy.keep_probabilities(self.scores, num_pruned, generator)
        return draw(keep, generator, self.plan.multiple)

    def _start(self, number: int, selection: Selection, recorded: Tensor | None = None) -> None:
        num_trained = self.plan.num_trained(number, selection.num_selected)
        self._epoch = Epoch(number, selection, self.seed, num_trained, self.replicas, recorded)
        self._last_round = LastRound.of(self._epoch.resume_order, self.replicas, self.plan.batching)
        self.seed_workers()
        for sampler in self._own_samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(number)

    def _close(self) -> None:
        epoch = self.current
        if epoch.resumed_at_end:
            for loader in self._skipping_loaders:
                next(iter(loader), None)  # it skips within this epoch, before the next one begins
        if epoch.num_recorded == 0:
            raise RuntimeError(
                f"epoch {epoch.number} ends without a single recorded loss, so nothing could ever "
                "be pruned; call pruner.update(losses, samples) for every batch"
            )
        self._merge()
        self.history.append(self._counts())

    def _merge(self) -> None:
        self._buffer.drain()
        if self.replicas.num_replicas > 1 and dist.is_available() and dist.is_initialized():
            self.current.merge(merge_scores(self._scores, self.current.recorded))

    def _counts(self) -> EpochCounts:
        epoch = self.current
        return EpochCounts(epoch.number, len(epoch.order), round(epoch.done * len(epoch.order)))

    @torch.compiler.disable
    def _look_up(
        self, losses: Tensor, samples: Samples, record: bool = False, scored: Tensor | None = None
    ) -> Tensor:
        """The batch's weights, on the device of its losses; all that a step does on the host."""
        indices = host_indices(samples)
        check_losses(losses, len(indices), scored)
        host_weights = self.current.weights_of(indices)
        last_round = self._last_round
        if last_round.members and int(indices[0]) in last_round.members:
            host_weights *= last_round.scale
        if record:
            self._record(indices, losses.detach(), scored)
        weights = torch.from_numpy(host_weights)
        if losses.is_cpu:
            return weights
        if losses.is_cuda:
            weights = weights.pin_memory()
        return weights.to(losses.device, non_blocking=True)

    def _record(self, indices: IndexArray, losses: Tensor, scored: Tensor | None) -> None:
        if scored is not None:
            losses = losses.float().masked_fill(~scored, NO_SCORE)
        num_repeats = 0
        if self.replicas.num_replicas > 1:
            num_repeats = int(np.count_nonzero(indices < 0))
            num_real = len(indices) - num_repeats
            indices, losses = indices[:num_real], losses[:num_real]  # repeats come last
        self.current.record(indices, num_repeats)
        self._buffer.put(indices, losses)
