"""A run's epochs: each is begun once, weighs and records its batches, and leads to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.batch_indices import dropped_from
from infobatch.batching import Batching
from infobatch.epoch import Epoch
from infobatch.first_looks import FirstLooks
from infobatch.inputs import Indices, check_losses, check_scores, host_indices, signals_read
from infobatch.layouts.base import ScoreStore
from infobatch.layouts.mean_scaling import MeanScaling
from infobatch.losses import Normalizer, sent_to_device, shown_as_mean, weighted_mean
from infobatch.noise import NormsFrom, noise_of
from infobatch.policies.base import BiasedPolicy, check_all_observed
from infobatch.report import EpochCounts
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import Selection


class Run:
    """One training run: the part of :class:`DynamicPruner` that trains; it makes no loaders.

    Args:
        dataset: Any map-style dataset, of N samples.
        store: The scores of the run, on this rank.
        normalizer: What a batch's weighted sum is divided by: see :func:`weighted_mean`.
        norms_from: What losses are: see :func:`norms_of_losses`.

    Attributes:
        plan: The lengths and the policy of the run.
        history: Counts of the epochs that have ended.
        worker_generator: What loaders seed their workers from; its state depends on the epoch alone.
    """

    def __init__(
        self,
        dataset: Sized,
        store: ScoreStore[Any],
        normalizer: Normalizer,
        norms_from: NormsFrom = "cross-entropy",
    ) -> None:
        self.dataset = dataset
        self.plan = store.plan
        self.num_samples = store.plan.num_samples
        self.policy = store.plan.policy
        self.seed = store.seed
        self.replicas = store.replicas
        self.normalizer = normalizer
        self.norms_from = norms_from
        self.history: list[EpochCounts] = []
        self.worker_generator = self._worker_seeds(0)
        self._store = store
        self._epoch: Epoch | None = None
        self._looks = FirstLooks(self.policy)
        self._mean_scaling: MeanScaling | None = None
        # On several ranks it is the mean scaling that divides by the sum of weights.
        self._mean_over: Normalizer = normalizer if self.replicas.num_replicas == 1 else "batch"

    # -- Its epochs --------------------------------------------------------------------------------

    @property
    def num_epochs(self) -> int:
        """Number of epochs in the whole run, the last perhaps cut short."""
        return self.plan.schedule.num_epochs

    @property
    def full_steps(self) -> int:
        """Batches the run would have on full data: the ``total_steps`` of a step-based schedule."""
        return self.plan.full_steps

    @property
    def total_steps(self) -> int:
        """Batches the run has with pruning; ``RuntimeError`` where no target makes that known."""
        return self.plan.total_steps

    @property
    def epoch(self) -> int:
        """Number of the epoch under way."""
        return self.current.number

    @property
    def current(self) -> Epoch:
        """The epoch under way. Epoch 0 begins when it is first asked for."""
        if self._epoch is None:
            self._begin(self._store.make_epoch(0))
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
        """The fraction of the training done, in [0, 1]: by samples *recorded*, not merely fetched."""
        epoch, schedule = self.current, self.plan.schedule
        return min(1.0, (epoch.number + epoch.done * schedule.share(epoch.number)) / schedule.run_length)

    def epochs(self) -> Iterator[int]:
        """Begin each epoch that is still to be trained, and give its number.

        A loaded state goes on within its epoch. Once the run has finished there is none.
        """
        epoch = self.epoch + self.current.finished
        while epoch < self.num_epochs:
            self.set_epoch(epoch)
            if self.current.num_trained == 0:
                return  # a last epoch cut so short that its only batch would be dropped
            yield epoch
            epoch = self.epoch + 1
        self.current.check_recorded()
        self.current.close()

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: decide, once, what it trains on. It never goes backwards.

        On several ranks this is a collective, which merges their scores.

        Args:
            epoch: Number of the epoch, from 0. The epoch under way, or an earlier one, changes nothing.

        Raises:
            ValueError: If the run has no such epoch.
            RuntimeError: If nothing was recorded of the epoch that ends, or the ranks are not about to
                train the same.
        """
        if not 0 <= epoch < self.num_epochs:
            raise ValueError(
                f"epoch {epoch} does not exist: the run has {self.num_epochs}, numbered from 0"
            )
        if self._epoch is None:
            self._begin(self._store.make_epoch(epoch))
        elif epoch > self._epoch.number:
            self._close(self._epoch)
            self._begin(self._store.make_epoch(epoch))
        self._store.agree(self.current)

    def set_batching(self, batching: Batching) -> None:
        """Set how samples become batches, as making a loader or a sampler does."""
        if batching != self.plan.batching:
            epoch = self._epoch
            begun = epoch is not None and epoch.number + epoch.num_recorded > 0
            self.plan.set_batching(batching, begun)
            self._epoch = None  # looked at, perhaps, but nothing trained: it begins anew

    def seed_workers(self) -> None:
        """Set :attr:`worker_generator` to the epoch's seed; samplers do so when they are iterated."""
        seeds = self._worker_seeds(self.current.number)
        self.worker_generator.manual_seed(seeds.initial_seed())

    def _worker_seeds(self, epoch: int) -> torch.Generator:
        return epoch_generator(self.seed, epoch, Stream.LOADER, self.replicas.rank)

    # -- The loop's one call, and what it is made of -----------------------------------------------

    def update(
        self,
        losses: Tensor,
        indices: Indices,
        scored: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        **signals: Tensor,
    ) -> Tensor:
        """Record a batch's losses and return their weighted mean, to call ``backward()`` on.

        It is :meth:`weigh` and :meth:`record` in one.

        Args:
            losses: Loss of each sample, shape (B,), not averaged; any float dtype and device.
            indices: Indices of the samples, shape (B,), as they came with the batch.
            scored: Whether a sample has a score, bool (B,), on the losses' device: false where it has no
                valid pixel or no supervised token. By default all have.
            scores: What to remember of the samples in place of their losses, shape (B,), on the losses'
                device; such as losses freed of a drawn timestep.
            **signals: What the policy reads beside losses, ``gradient_norms`` or ``confidences``, each
                (B,) on the losses' device. A policy that reads none ignores them.

        Returns:
            A scalar with the gradient of the weighted mean, see :func:`weighted_mean`. Its value
            estimates the mean loss on all data, without the factor N/|S| of a pruned epoch, for logs.

        Raises:
            ValueError: For losses of another shape or sign, or samples that the epoch does not train.
            TypeError: For losses or indices of another kind.
        """
        weights = self._take_batch(losses, indices, scored, scores, signals)
        loss: Tensor = self.shown(weighted_mean(losses, weights, self._mean_over))
        return loss

    def weigh(self, losses: Tensor, indices: Indices) -> Tensor:
        """The weighted mean alone, undivided, for optimizers that evaluate a step several times.

        Arguments as for :meth:`update`.
        """
        return weighted_mean(losses, self._weigh_batch(losses, indices), self._mean_over)

    @torch.compiler.disable
    def record(
        self, losses: Tensor, indices: Indices, scored: Tensor | None = None, **signals: Tensor
    ) -> None:
        """Record alone: once a step, with the losses at the step's first evaluation.

        Arguments as for :meth:`update`.
        """
        batch = self._checked(losses, indices, scored)
        weights = self.current.weights_of(batch)  # raises for a sample that the epoch does not train
        self._looks.at_weights(losses, weights)
        self._record(batch, losses, scored, signals)

    @torch.compiler.disable
    def shown(self, loss: Tensor) -> Tensor:
        """A weighted mean with the value it would have on full data, without the factor N/|S|."""
        return shown_as_mean(loss, self.mean_weight) if self.normalizer == "batch" else loss

    def weights(self, indices: Indices) -> Tensor:
        """Weights of samples, float32 (B,) on the host; 0 for a repeat that fills a batch.

        Over an epoch their mean is :attr:`mean_weight`; where batches shrink, in expectation.
        """
        weights = self.current.weights_of(host_indices(indices))
        return torch.from_numpy(self.relative(weights) if self.plan.shrink else weights)

    @torch.compiler.disable
    def observe(
        self, losses: Tensor, indices: Indices, scored: Tensor | None = None, **signals: Tensor
    ) -> None:
        """Record the losses of samples that are left out, from a forward pass alone.

        For policies that go by the losses of all samples (:attr:`Policy.refreshes`): at the end of an
        epoch, before the next begins. It changes scores, not visits or progress. Arguments as for
        :meth:`update`.
        """
        batch = self._checked(losses, indices, scored)
        read = self._signals_read(signals, losses)
        self.current.observe(batch)
        self._store.observe(batch, losses.detach(), scored, read)

    # -- What is known -----------------------------------------------------------------------------

    @property
    def left_out(self) -> IndexArray:
        """Indices that the epoch leaves out and :meth:`observe` has not been given, int64.

        On R ranks each has every R-th of them, or with :class:`Sharded` scores those that it holds, so
        that their numbers may differ.
        """
        return self.current.left_out

    @property
    def signals(self) -> tuple[str, ...]:
        """What the policy reads of a batch beside its losses: names of :meth:`update`'s signals."""
        return self._store.signals

    @property
    def scores(self) -> ScoreTable:
        """The score table, with everything recorded so far on this rank; waits for the device."""
        return self._store.scores

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, tensors and numbers only. Call it on every rank."""
        self._store.merge(self.current)
        history = [list(counts) for counts in self.history]
        return {**self._store.state_dict(self.current), "history": history}

    def load_state_dict(self, state: dict[str, Any] | Iterable[dict[str, Any]]) -> None:
        """Go on where a state was taken, within its epoch. Load it before iterating.

        Args:
            state: What :meth:`state_dict` gave. With :class:`Sharded` scores and another number of ranks
                than saved it, the states of all those ranks.

        Raises:
            ValueError: If the state is of another run.
        """
        states = iter([state] if isinstance(state, dict) else state)
        checked = map(self._store.check_state, states)
        first = next(checked)
        epoch = self._store.load(chain([first], checked))
        self.history = [EpochCounts(*counts) for counts in first["history"]]
        self._begin(epoch)

    # -- Inside ------------------------------------------------------------------------------------

    def _begin(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._looks.begin(self._store.scores if epoch.num_selected < self.num_samples else None)
        self._mean_scaling = self._store.mean_scaling(epoch, self.plan.batching, self.normalizer)
        self.seed_workers()

    def _close(self, epoch: Epoch) -> None:
        self._store.merge(epoch)
        epoch.check_recorded()
        check_all_observed(self.policy, epoch.number, epoch.num_unobserved)
        epoch.close()
        self.history.append(self._counts(self._noise(epoch)))

    def _counts(self, noise: float | None) -> EpochCounts:
        epoch = self.current
        share = epoch.num_selected / self.num_samples
        num_full = self.plan.num_trained(epoch.number, self.plan.full_length)
        return EpochCounts(epoch.number, epoch.length, epoch.num_done, num_full, noise, share)

    def _noise(self, epoch: Epoch) -> float | None:
        """The noise of a step of a pruned epoch, of what of it was recorded. A collective."""
        if isinstance(self.policy, BiasedPolicy) or epoch.num_selected == self.num_samples:
            return None
        return noise_of(self._store.noise_sums(epoch, self.norms_from))

    def _signals_read(self, given: Mapping[str, Tensor], losses: Tensor) -> list[Tensor]:
        estimated = self.norms_from if self.policy.estimates_norms else None
        return signals_read(self.signals, given, losses, estimated)

    @torch.compiler.disable
    def _take_batch(
        self,
        losses: Tensor,
        indices: Indices,
        scored: Tensor | None,
        scores: Tensor | None,
        signals: Mapping[str, Tensor],
    ) -> Tensor:
        """Record a batch; its weights, on the device of its losses."""
        batch = self._checked(losses, indices, scored)
        remembered = losses if scores is None else check_scores(scores, losses)
        weights = self.factors(batch)
        self._looks.at_weights(losses, weights)
        self._record(batch, remembered, scored, signals)
        return sent_to_device(torch.from_numpy(weights), losses.device)

    @torch.compiler.disable
    def _weigh_batch(self, losses: Tensor, indices: Indices) -> Tensor:
        weights = self.factors(self._checked(losses, indices))
        return sent_to_device(torch.from_numpy(weights), losses.device)

    @staticmethod
    def _checked(losses: Tensor, indices: Indices, scored: Tensor | None = None) -> IndexArray:
        batch = host_indices(indices)
        check_losses(losses, batch, scored)
        return batch

    def factors(self, batch: IndexArray) -> FloatArray:
        """What the losses of a batch are multiplied by, float32 (B,)."""
        weights = self.current.weights_of(batch)
        if self.normalizer == "mean" or (self.plan.shrink and self.normalizer == "batch"):
            weights = self.relative(weights)
        if self._mean_scaling is not None:
            weights *= self._mean_scaling.scale_of(int(batch[0]))
        return weights

    @property
    def weight_divisor(self) -> float:
        """What relative weights of the epoch are divided by: their mean.

        Where batches shrink it is the mean that an unbiased draw has in expectation, N over the number
        selected, so that each step stays unbiased.
        """
        if self.plan.shrink and not isinstance(self.policy, BiasedPolicy):
            return self.num_samples / self.current.num_selected
        return self.current.mean_weight

    def relative(self, weights: FloatArray) -> FloatArray:
        """Weights of the epoch divided by :attr:`weight_divisor`."""
        return weights * np.float32(1 / self.weight_divisor)

    def _record(
        self,
        batch: IndexArray,
        scores: Tensor,
        scored: Tensor | None,
        signals: Mapping[str, Tensor],
    ) -> None:
        read = self._signals_read(signals, scores)
        self._looks.at_losses(scores, batch, scored, signals)
        num_real = self.current.record(batch)
        if len(dropped := dropped_from(batch)):
            self.current.record(dropped)
        self._store.record(batch, scores.detach(), scored, read, num_real)
