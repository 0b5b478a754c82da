"""A run's batches: each is weighed and recorded in the epoch under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.compiling import outside_graphs
from infobatch.course import Course
from infobatch.dynamics.recorder import Recorder
from infobatch.epoch import Epoch
from infobatch.first_looks import FirstLooks
from infobatch.inputs import Indices, host_indices, read_batch, remembered_of, signals_read
from infobatch.journal import Logger
from infobatch.layouts.base import ScoreStore
from infobatch.losses import Normalizer, sent_to_device, shown_as_mean, weighted_mean
from infobatch.noise import NormsFrom
from infobatch.policies.base import BiasedPolicy
from infobatch.policies.per_sample import Numbers
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.scores.table import ScoreTable


class Run(Course):
    """One training run: the part of :class:`DynamicPruner` that trains; it makes no loaders.

    Args:
        dataset: Any map-style dataset, of N samples.
        store: The scores of the run, on this rank.
        normalizer: What a batch's weighted sum is divided by: see :func:`weighted_mean`.
        norms_from: What losses are: see :func:`norms_of_losses`.
        check_data: See :class:`Course`.
        recorder: See :class:`Course`.
    """

    def __init__(
        self,
        dataset: Sized,
        store: ScoreStore[Any],
        normalizer: Normalizer,
        norms_from: NormsFrom = "cross-entropy",
        check_data: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(dataset, store, normalizer, norms_from, check_data, recorder)
        self._looks = FirstLooks(self.policy, norms_from)
        # On several ranks it is the mean scaling that divides by the sum of weights.
        self._mean_over: Normalizer = normalizer if self.replicas.num_replicas == 1 else "batch"

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
            **signals: What the policy reads beside losses, ``gradient_norms`` or ``confidences``, and
                what is recorded with them, ``margins`` or ``confidences``, each (B,) on the losses'
                device. A policy that reads none ignores them. A budget of noise needs the first where
                losses are no plain cross-entropies: see :func:`infobatch.output_gradient_norms`.

        Returns:
            A scalar with the gradient of the weighted mean, see :func:`weighted_mean`. Its value
            estimates the mean loss on all data, without the factor N/|S| of a pruned epoch, for logs.

        Raises:
            ValueError: For losses of another shape or sign, or samples that the epoch does not train.
            TypeError: For losses or indices of another kind.
        """
        weights = self._take_batch(losses, indices, scored, scores, signals)
        loss: Tensor = self.returned(weighted_mean(losses, weights, self._mean_over))
        return loss

    def weigh(self, losses: Tensor, indices: Indices) -> Tensor:
        """The weighted mean alone, undivided, for optimizers that evaluate a step several times.

        Arguments as for :meth:`update`.
        """
        return weighted_mean(losses, self._weigh_batch(losses, indices), self._mean_over)

    @outside_graphs
    def record(
        self,
        losses: Tensor,
        indices: Indices,
        scored: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        **signals: Tensor,
    ) -> None:
        """Record alone: once a step, with the losses at the step's first evaluation.

        Arguments as for :meth:`update`.
        """
        batch, remembered = read_batch(losses, indices, scored), remembered_of(losses, scores)
        weights = self.current.weights_of(batch)  # raises for a sample that the epoch does not train
        self._looks.batch_norm.at_weights(losses, weights)
        self._record(batch, losses, remembered, scored, signals)

    @outside_graphs
    def shown(self, loss: Tensor) -> Tensor:
        """A weighted mean with the value it would have on full data, without the factor N/|S|."""
        return shown_as_mean(loss, self.mean_weight) if self.normalizer == "batch" else loss

    @outside_graphs
    def returned(self, loss: Tensor) -> Tensor:
        """A loss for the loop to call ``backward()`` on, as :meth:`shown`; an epoch in which it never
        does has a warning.
        """
        loss = self.shown(loss)
        self._looks.backward.at_returned(loss)
        return loss

    def weights(self, indices: Indices) -> Tensor:
        """Weights of samples, float32 (B,) on the host; 0 for a repeat that fills a batch.

        Over an epoch their mean is :attr:`mean_weight`; where batches shrink, in expectation.
        """
        weights = self._weights_of(host_indices(indices), self.plan.shrink is not None)
        return torch.from_numpy(weights)

    def relative_weights(self, indices: Indices) -> Tensor:
        """Weights as :meth:`weights` gives them, divided by :attr:`weight_divisor` whatever shrinks."""
        return torch.from_numpy(self._weights_of(host_indices(indices), True))

    @outside_graphs
    def observe(
        self,
        losses: Tensor,
        indices: Indices,
        scored: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        **signals: Tensor,
    ) -> None:
        """Record the losses of samples that are left out, from a forward pass alone.

        For policies that go by the losses of all samples (:attr:`Policy.refreshes`): at the end of an
        epoch, before the next begins. It changes scores, not visits or progress. Arguments as for
        :meth:`update`.
        """
        batch, remembered = read_batch(losses, indices, scored), remembered_of(losses, scores)
        read = self._signals_read(self._store.observed_signals, signals, remembered)
        self.current.observe(batch)
        self._store.observe(batch, remembered.detach(), scored, read)

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
        """What is read of a batch beside its losses, by the policy and, from the first batch on, to be
        recorded: names of :meth:`update`'s signals.
        """
        return self._store.signals

    @property
    def layout(self) -> str:
        """Who holds the scores: ``"replicated"``, each rank those of all samples, or ``"sharded"``."""
        return self._store.layout

    @property
    def scores(self) -> ScoreTable:
        """The score table, with everything recorded so far on this rank; waits for the device."""
        return self._store.scores

    def log_to(
        self, *loggers: Logger, labels: Numbers | None = None, num_suspects: int | None = None
    ) -> None:
        """Have loggers told of each epoch when it has ended; a step costs nothing more.

        Call it before training, on several ranks on each: the first one's loggers are called. The last
        epoch is told of when :meth:`epochs` ends, or by :meth:`finish`.

        Args:
            *loggers: Each is called with an :class:`infobatch.journal.EpochLog`: those of
                ``infobatch.integrations.loggers``, ``print``, or a function of your own. None to give
                the others options.
            labels: The class of each sample, (N,), for the keep rate of each class. They hold for all
                loggers, and so does the next option.
            num_suspects: How many samples of the highest losses are told of, at least 0; at first 20.

        Raises:
            TypeError: For a logger that cannot be called.
            ValueError: For labels of another number of samples than the dataset has.
        """
        self._journal.add(loggers, labels, num_suspects, self.num_samples)
        self._store.num_loggers = len(self._journal.loggers)

    # -- Inside ------------------------------------------------------------------------------------

    def _begin(self, epoch: Epoch) -> None:
        self._looks.begin(self._store.scores, epoch.num_selected < self.num_samples)
        super()._begin(epoch)

    def _look_back(self, epoch: Epoch) -> None:
        super()._look_back(epoch)
        self._looks.end(epoch.number, epoch.num_own, self._store.scores.num_nonfinite)

    def _signals_read(
        self, names: Sequence[str], given: Mapping[str, Tensor], losses: Tensor
    ) -> list[Tensor]:
        estimated = self.norms_from if self.policy.estimates_norms else None
        return signals_read(names, given, losses, estimated)

    @outside_graphs
    def _take_batch(
        self,
        losses: Tensor,
        indices: Indices,
        scored: Tensor | None,
        scores: Tensor | None,
        signals: Mapping[str, Tensor],
    ) -> Tensor:
        """Record a batch; its weights, on the device of its losses."""
        batch, remembered = read_batch(losses, indices, scored), remembered_of(losses, scores)
        weights = self.factors(batch)
        self._looks.batch_norm.at_weights(losses, weights)
        self._record(batch, losses, remembered, scored, signals)
        return sent_to_device(torch.from_numpy(weights), losses.device)

    @outside_graphs
    def _weigh_batch(self, losses: Tensor, indices: Indices) -> Tensor:
        weights = self.factors(read_batch(losses, indices))
        return sent_to_device(torch.from_numpy(weights), losses.device)

    def factors(self, batch: IndexArray) -> FloatArray:
        """What the losses of a batch are multiplied by, float32 (B,)."""
        shrinks = self.plan.shrink is not None and self.normalizer == "batch"
        weights = self._weights_of(batch, shrinks or self.normalizer == "mean")
        if self._mean_scaling is not None and len(batch):
            first = batch[(batch >= 0).argmax()]  # no repeat, which may be of another batch's sample
            weights *= self._mean_scaling.scale_of(int(first))
        return weights

    def _weights_of(self, batch: IndexArray, relative: bool) -> FloatArray:
        """Weights of the epoch, for batches whose sizes follow their samples, float32 (B,)."""
        weights, draws = self.current.weights_of(batch), self.current.user_draws
        if relative:
            weights = self.relative(weights)
        if draws is None or draws.scales is None:
            return weights
        scaled: FloatArray = weights * draws.scales[batch]
        return scaled

    @property
    def weight_divisor(self) -> float:
        """What relative weights of the epoch are divided by: their mean.

        Where batches shrink it is the mean that an unbiased draw has in expectation, N over the number
        selected, so that each step stays unbiased; of a sampler of the user's, which may draw some
        samples more often, its draws on full data over those of the epoch.
        """
        epoch = self.current
        if not self.plan.shrink or isinstance(self.policy, BiasedPolicy):
            return epoch.mean_weight
        of_draws = None if epoch.user_draws is None else epoch.user_draws.full_per_draw
        return self.num_samples / epoch.num_selected if of_draws is None else of_draws

    def relative(self, weights: FloatArray) -> FloatArray:
        """Weights of the epoch divided by :attr:`weight_divisor`."""
        return weights * np.float32(1 / self.weight_divisor)

    def _record(
        self,
        batch: IndexArray,
        losses: Tensor,
        scores: Tensor,
        scored: Tensor | None,
        signals: Mapping[str, Tensor],
    ) -> None:
        self._recorder.take(self.current, signals)
        read = self._signals_read(self._store.signals, signals, scores)
        self._looks.losses.at_batch(losses, scores, batch, scored, signals)
        before = self.current.is_recorded(batch)
        again = np.asarray(before) if np.count_nonzero(before) else None
        num_real = self.current.record(batch)
        has_repeats = num_real < len(batch)
        if has_repeats and (batch[:num_real] < 0).any():  # whoever put it in another order moved them
            places = torch.from_numpy(np.argsort(batch < 0, kind="stable"))
            batch, there = batch[places.numpy()], sent_to_device(places, scores.device)
            scores, read = scores[there], [signal[there] for signal in read]
            scored = None if scored is None else scored[there]
            again = None if again is None else again[places.numpy()]
        self._store.record(batch, scores.detach(), scored, read, num_real, again)
