"""The facade: owns the parts and closes the loop from losses to the next epoch's selection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from infobatch.distributed import Merge, find_replicas, merge_scores
from infobatch.epoch import Epoch
from infobatch.inputs import Samples, check_losses, check_scores, host_indices, listed, signals_read
from infobatch.layouts.base import Layout, check_state
from infobatch.layouts.mean_scaling import Rounds
from infobatch.layouts.replicated import Replicated
from infobatch.layouts.sharded import Sharded
from infobatch.loading.loaders import Loaders
from infobatch.losses import NORMALIZERS, Normalizer, sent_to_device, weighted_mean
from infobatch.lr import LRScaling, ProgressScheduler
from infobatch.plan import RunPlan, check_run
from infobatch.policies import Policy, default_policy
from infobatch.policies.base import check_all_observed, warn_if_prior_scores_unused
from infobatch.report import EpochCounts, Report, Saving, predict_saving
from infobatch.scores.columns import IndexArray
from infobatch.scores.files import export_table
from infobatch.scores.prior import PriorScores, prior_losses
from infobatch.scores.table import ScoreTable
from infobatch.selection import Selection


class DynamicPruner(Loaders):
    """Leaves out well-learned samples, epoch by epoch, without biasing the gradient.

    ``dataset``: any map-style dataset of N samples. ``num_epochs``: C, the run's length; a fraction
    cuts the last epoch short. ``max_steps``: the length in batches of full data instead; pruning
    makes the run end after fewer. ``policy``: what to leave out, by default as the paper does
    (:class:`InfoBatch`), or with a target ``Spaced(Neyman())``. ``delta``: the share of the run after
    which all data is used again, in [0, 1]; 1 never anneals. ``warmup_epochs``: unpruned epochs
    at the start. ``target``: the share of the run's samples to leave out, met exactly with every
    epoch's length known beforehand; or the number for each epoch; None leaves it to the policy.
    ``ramp``: how such a share is spread over the epochs, from -1 (most in the first) by 0 (evenly) to 1.
    ``seed``: of all randomness here. ``normalizer``: see :func:`weighted_mean`. ``rank`` and
    ``num_replicas``: data-parallel coordinates, by default torch.distributed's. ``merge``: shares the
    scores among the replicas when an epoch ends and for a checkpoint: see :data:`Merge`. ``layout``:
    None keeps all scores on each replica, :class:`Sharded` an equal part. ``scores``: losses known
    before the first epoch, which with ``warmup_epochs=0`` is pruned by them: a :class:`ScoreTable`, a
    tensor (N,) with NaN for the unknown, or the path of a file that :meth:`export` wrote; the same on
    all replicas. A loaded state has newer ones.
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
        ramp: float = 0.0,
        seed: int = 0,
        normalizer: Normalizer = "batch",
        rank: int | None = None,
        num_replicas: int | None = None,
        merge: Merge = merge_scores,
        layout: Sharded | None = None,
        scores: PriorScores | None = None,
    ) -> None:
        if policy is None:  # sharded scores need strata, which not every policy has
            policy = default_policy(meets_target=target is not None and layout is None)
        check_run(len(dataset), num_epochs, max_steps, policy, delta, warmup_epochs, target, ramp)
        checklisted(seed, normalizer)
        self.dataset = dataset
        self.num_samples = len(dataset)
        self.policy = policy
        self.seed = int(seed)
        self.normalizer: Normalizer = normalizer
        self.replicas = find_replicas(rank, num_replicas)
        self.history: list[EpochCounts] = []
        self.plan = RunPlan(
            self.num_samples, policy, num_epochs, max_steps, delta, warmup_epochs, target, ramp
        )
        parts = (self.plan, self.seed, self.replicas)
        if layout is None:
            self._layout: Layout = Replicated(*parts, merge)
            self.plan.rehearse(self._layout.scores, self.seed)
        else:
            self._layout = layout.make(*parts, normalizer)
        if scores is not None:
            self._layout.begin(prior_losses(scores, self.num_samples))
            warn_if_prior_scores_unused(policy, warmup_epochs)
        self._buffer = self._layout.buffer
        self._epoch: Epoch | None = None
        self._rounds: Rounds | None = None
        # On several replicas it is the rounds that divide by the sum of weights.
        self._mean_over: Normalizer = normalizer if self.replicas.num_replicas == 1 else "batch"
        self._prepare_loaders()

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
            self._start(0)
        assert self._epoch is not None
        return self._epoch

    @property
    def selection(self) -> Selection:
        """The samples of the epoch under way, and their weights."""
        return self.current.selection

    @property
    def mean_weight(self) -> float:
        """Of the samples of the epoch under way: as many times fewer are they than all, at least 1."""
        return self.current.mean_weight

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
            if self.current.num_trained == 0:
                return  # a last epoch cut so short that its only batch would be dropped
            yield epoch
            epoch = self.epoch + 1
        self.current.close()

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: decide, once, what it trains on. Never goes backwards.

        With several replicas, call it on all of them: it merges their scores, and raises if they are not
        about to train the same.
        """
        if not 0 <= epoch < self.num_epochs:
            raise ValueError(
                f"epoch {epoch} does not exist: the run has {self.num_epochs}, numbered from 0"
            )
        if self._epoch is None:
            self._start(epoch)
        elif epoch > self._epoch.number:
            self._close()
            self._start(epoch)
        self._layout.agree(self.current)

    # -- The loop's one call, and what it is made of ------------------------------------------------

    def update(
        self,
        losses: Tensor,
        samples: Samples,
        scored: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        **signals: Tensor,
    ) -> Tensor:
        """Record a batch's losses and return their weighted mean, to call ``backward()`` on.

        ``losses``: (B,), any float dtype and device, not averaged. ``samples``: (B,), the indices
        that came with the batch. ``scored``: bool (B,), false for a sample that has no score (no
        valid pixel, no supervised token). ``scores``: (B,), where the losses are, what to remember of
        the samples in place of their losses, such as losses freed of a noise that is not the samples'.
        ``signals``: for policies that read them, ``gradient_norms=`` or ``confidences=``, each (B,)
        where the losses are; others pass them over. The same as :meth:`weigh` and :meth:`record`.
        """
        remembered = losses if scores is None else scores
        weights = self._look_up(losses, samples, remembered, scored, signals)
        return weighted_mean(losses, weights, self._mean_over)

    def weigh(self, losses: Tensor, samples: Samples) -> Tensor:
        """The weighted mean alone, for optimisers that evaluate a step's loss several times."""
        return weighted_mean(losses, self._look_up(losses, samples), self._mean_over)

    def record(
        self, losses: Tensor, samples: Samples, scored: Tensor | None = None, **signals: Tensor
    ) -> None:
        """Record alone: once a step, with the losses at the step's first evaluation."""
        self._look_up(losses, samples, losses, scored, signals)

    def weights(self, samples: Samples) -> Tensor:
        """The weights of ``samples``, float32 (B,) on the host; 0 for a repeat that fills a batch."""
        return torch.from_numpy(self.current.weights_of(host_indices(samples)))

    def lr_scheduler(
        self,
        scheduler: LRScheduler,
        total_steps: int | None = None,
        scaling: LRScaling = "none",
    ) -> ProgressScheduler:
        """A step-based scheduler made for ``total_steps`` steps of full data, driven by progress.

        ``total_steps``: by default :attr:`full_steps`, one step a batch; give the number of epochs
        for a scheduler that counts epochs. ``scaling``: raises the rates of pruned epochs by their
        :attr:`mean_weight`: ``"linear"``, or by its root, ``"sqrt"``.
        """
        steps = self.full_steps if total_steps is None else total_steps
        return ProgressScheduler(scheduler, self, steps, scaling)

    # -- What is left out --------------------------------------------------------------------------

    @property
    def left_out(self) -> IndexArray:
        """What the epoch under way leaves out and :meth:`observe` has not been told of, int64.

        On R replicas each has every R-th of them (with :class:`Sharded` scores, those it holds), so that
        the numbers may differ by one.
        """
        return self.current.left_out

    @torch.compiler.disable
    def observe(
        self, losses: Tensor, samples: Samples, scored: Tensor | None = None, **signals: Tensor
    ) -> None:
        """Record the losses of samples left out, from a forward pass alone.

        For policies that go by the losses of all samples (:attr:`Policy.refreshes`), at the end of an
        epoch, before the next begins. Scores follow, visits and progress do not. Arguments as in
        :meth:`update`.
        """
        indices = host_indices(samples)
        check_losses(losses, len(indices), scored)
        read = signals_read(self.signals, signals, losses)
        self.current.observe(indices)
        self._layout.observed.put(indices, losses.detach(), scored, signals=read)

    # -- What is known -----------------------------------------------------------------------------

    @property
    def signals(self) -> tuple[str, ...]:
        """What the policy reads of a batch beside its losses: names of :meth:`update`'s signals."""
        return self._layout.signals

    @property
    def scores(self) -> ScoreTable:
        """The score table, with everything recorded so far on this replica; waits for the device."""
        return self._layout.scores

    def export(self, path: str | Path) -> Path:
        """Write scores, visits and the selection's weights to a ``.parquet`` or ``.npz`` file."""
        return export_table(path, {**self.scores.flat(), "weight": self.selection.weights})

    def predict_saving(self) -> Saving:
        """What the run would save if the scores kept the distribution they have now."""
        return predict_saving(self._layout.whole_scores, self.policy, self.plan.schedule)

    def report(self) -> Report:
        """What was trained and left out so far."""
        counts = [*self.history, self._counts()]
        return Report(self.plan.full_length, counts, self.scores.num_nonfinite)

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, tensors and numbers only. Call it on every replica."""
        self._layout.merge(self.current)
        history = [list(counts) for counts in self.history]
        return {**self._layout.state_dict(self.current), "history": history}

    def load_state_dict(self, state: dict[str, Any] | Iterable[dict[str, Any]]) -> None:
        """Go on where ``state`` was taken, within its epoch. Load it before iterating.

        With :class:`Sharded` scores and another number of ranks than saved it, the states of all those.
        """
        states = iter([state] if isinstance(state, dict) else state)
        run = (self.num_samples, self.seed, self.num_epochs, self._layout.name)
        checked = (check_state(each, *run) for each in states)
        first = next(checked)
        epoch = self._layout.load(chain([first], checked))
        self.history = [EpochCounts(*counts) for counts in first["history"]]
        self._begin(epoch)

    # -- Inside ------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        self._begin(self._layout.make_epoch(number))

    def _begin(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._rounds = self._layout.rounds(epoch, self.plan.batching, self.normalizer)
        self.seed_workers()
        self._announce(epoch.number)

    def _close(self) -> None:
        epoch = self.current
        if epoch.resumed_at_end:
            self._skipping_loaders.skip()
        self._layout.merge(epoch)
        epoch.check_recorded()
        check_all_observed(self.policy, epoch.number, epoch.num_unobserved)
        epoch.close()
        self.history.append(self._counts())

    def _counts(self) -> EpochCounts:
        epoch = self.current
        return EpochCounts(epoch.number, epoch.length, epoch.num_done)

    @torch.compiler.disable
    def _look_up(
        self,
        losses: Tensor,
        samples: Samples,
        remembered: Tensor | None = None,
        scored: Tensor | None = None,
        signals: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """The batch's weights, on the device of its losses; all that a step does on the host."""
        indices = host_indices(samples)
        check_losses(losses, len(indices), scored)
        if remembered is not None:
            check_scores(remembered, losses)
        host_weights = self.current.weights_of(indices)
        if self.normalizer == "mean":
            host_weights *= np.float32(1 / self.current.mean_weight)
        if self._rounds is not None:
            host_weights *= self._rounds.scale_of(int(indices[0]))
        if remembered is not None:
            read = signals_read(self.signals, signals, losses)
            num_real = self.current.record(indices)
            self._buffer.put(indices, remembered.detach(), scored, num_real, read)
        weights = torch.from_numpy(host_weights)
        return weights if losses.is_cpu else sent_to_device(weights, losses.device)


def checklisted(seed: int, normalizer: str) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    if normalizer not in NORMALIZERS:
        raise ValueError(f"normalizer is {normalizer!r}; choose {listed(NORMALIZERS)}")
