"""The way in: :class:`DynamicPruner`, a run with its options, its loaders and its reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence, Sized
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader

from infobatch.batching import Shrink, shrink_of
from infobatch.distributed import find_replicas
from infobatch.dynamics.recorder import EpochRecorder
from infobatch.dynamics.recording import RecordTo, recording_of
from infobatch.epoch import Epoch
from infobatch.foreign_indices import warn_of_foreign
from infobatch.inputs import check_choice
from infobatch.layouts import Layout, Replicated
from infobatch.loading.loaders import Loaders
from infobatch.loading.refill import Cost, Refill
from infobatch.loading.sampler import (
    FilteredBatchSampler,
    FilteredSampler,
    PrunedBatchSampler,
    PrunedSampler,
)
from infobatch.losses import NORMALIZERS, Normalizer
from infobatch.lr import (
    LRScaling,
    ProgressScheduler,
    check_own_length,
    own_unit,
    place_schedules,
)
from infobatch.noise import NORMS_FROM, NormsFrom, norms_of_losses
from infobatch.plan import RunPlan
from infobatch.policies import Policy, default_delta, default_policy
from infobatch.policies.base import warn_if_prior_scores_unused
from infobatch.prediction import BudgetSavings, Saving, predict_budgets, predict_saving
from infobatch.report import Report
from infobatch.resumption import check_goes_on
from infobatch.run import Run
from infobatch.samples import length_of
from infobatch.scores.columns import IndexArray
from infobatch.scores.files import export_table
from infobatch.scores.prior import PriorScores, prior_values
from infobatch.seeding import check_seed


class DynamicPruner(Run):
    """Leaves out well-learned samples, epoch by epoch, without biasing the gradient.

    Args:
        dataset: Any map-style dataset, of N samples.
        num_epochs: C, the length of the run, above 0. A fraction cuts the last epoch short.
        max_steps: The length in batches on full data, in place of ``num_epochs``. Where pruning shrinks
            steps, the run ends after fewer.
        policy: What to leave out. By default what a budget of noise allows, ``NoiseBudget()``; with a
            target ``Spaced(Neyman())``; with :class:`Sharded` scores by the paper's ``InfoBatch()``.
        delta: Share of the run, in [0, 1], after which all data is used again; 1 never anneals. By
            default 1 with a target or a budget of noise, and the paper's 0.875 where a rule decides.
        warmup_epochs: Unpruned epochs at the start, at least 0. After one, all samples have a score.
        target: Share of the run's samples to leave out, in [0, 1), met exactly with all lengths known
            beforehand; or a list of how many to leave out of each epoch, whatever ``delta`` and
            ``warmup_epochs`` say. None leaves it to the policy.
        ramp: How such a share is spread over the epochs, in [-1, 1]: -1 leaves out most in the first
            pruned epochs, 0 equally many in each, 1 most in the last.
        seed: Seed of everything random here, at least 0.
        normalizer: What a batch's weighted sum is divided by: see :func:`weighted_mean`.
        shrink: What pruning shrinks. With ``"steps"`` an epoch has fewer batches, as in the paper. With
            ``"batches"`` it has as many as on full data, but smaller ones, and weights have mean one, so
            that any schedule is stepped as it is; :class:`ShrinkBatches` has options. None leaves it to
            the policy.
        norms_from: What losses are, ``"cross-entropy"``, ``"squared-error"`` or other ``"losses"``, for
            norms of gradients to follow from them where :meth:`update` is given none: see
            :func:`infobatch.noise.norms_of_losses`.
        rank: Number of this rank among those that train one model; by default torch.distributed's.
        num_replicas: Number of those ranks; by default torch.distributed's, else 1.
        layout: Who holds the scores: :class:`Replicated`, each rank all of them, or :class:`Sharded`,
            each an equal part.
        prior_scores: Losses known before the first epoch, which prune it if ``warmup_epochs`` is 0: a
            score table, a tensor (N,) with NaN where unknown, or the path of a file that :meth:`export`
            wrote; with norms of gradients if it has them, else a budget of noise estimates these from
            the losses. The same on all ranks. A loaded state replaces them by its own, which are newer.
        check_data: Whether the dataset is asked which samples it holds: by a ``Subset``'s indices, by
            ids, by Hugging Face's fingerprint. Others than a state's, or than in the epoch before, are
            refused.
        record_to: A folder where each epoch's losses are written when it ends, and what batches bring
            beside them (``margins=``, ``confidences=``), for :func:`infobatch.read_dynamics` and readers
            of Parquet; :class:`infobatch.dynamics.Recording` has options.

    Raises:
        ValueError: For options out of range, or a target that cannot be met.
        TypeError: For options of another kind.
    """

    _schedule_class: ClassVar[type[ProgressScheduler]] = ProgressScheduler

    def __init__(
        self,
        dataset: Sized,
        num_epochs: float | None = None,
        *,
        max_steps: int | None = None,
        policy: Policy | None = None,
        delta: float | None = None,
        warmup_epochs: int = 1,
        target: float | Sequence[int] | None = None,
        ramp: float = 0.0,
        seed: int = 0,
        normalizer: Normalizer = "batch",
        shrink: Shrink | None = None,
        norms_from: NormsFrom = "cross-entropy",
        rank: int | None = None,
        num_replicas: int | None = None,
        layout: Layout = Replicated(),
        prior_scores: PriorScores | None = None,
        check_data: bool = True,
        record_to: RecordTo | None = None,
    ) -> None:
        if not isinstance(layout, Layout):
            raise TypeError(f"layout is {layout!r}; give Replicated() or Sharded(), or leave it out")
        if policy is None:
            policy = default_policy(target is not None, layout.needs_strata)
        check_seed(seed)
        check_choice("normalizer", normalizer, NORMALIZERS)
        check_choice("norms_from", norms_from, NORMS_FROM)
        length = (num_epochs, max_steps)
        shrinks = shrink_of(getattr(policy, "shrinks", "steps") if shrink is None else shrink)
        if delta is None:  # what is no policy is refused by the plan
            delta = default_delta(policy if isinstance(policy, Policy) else Policy, target is not None)
        plan = RunPlan(length_of(dataset), policy, *length, delta, warmup_epochs, target, ramp, shrinks)
        store = layout.make_store(plan, int(seed), find_replicas(rank, num_replicas), normalizer)
        if prior_scores is not None:
            losses, norms = prior_values(prior_scores, len(dataset))
            if norms is None and policy.estimates_norms:
                norms = norms_of_losses(torch.from_numpy(losses), norms_from).numpy()
            store.take_prior(losses, norms)
            warn_if_prior_scores_unused(policy, warmup_epochs, norms is not None)
        recorder = None if record_to is None else EpochRecorder(recording_of(record_to), store)
        super().__init__(dataset, store, normalizer, norms_from, check_data, recorder)
        self._loaders = Loaders(takes_user_order=not layout.needs_strata)

    # -- Batches -----------------------------------------------------------------------------------

    def loader(
        self,
        batch_size: int | None = 1,
        *,
        sampler: Iterable[int] | None = None,
        batch_sampler: Collection[Sequence[int]] | None = None,
        bucket: Callable[[int], Hashable] | None = None,
        max_cost: float | None = None,
        cost: Cost | None = None,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        loader_class: Callable[..., Any] = DataLoader,
        **options: Any,
    ) -> Any:
        """Make a DataLoader of ``(indices, batch)``: int64 indices (B,) on the host, and your batch.

        Args:
            batch_size: Samples in a batch, on each rank; on full data, where batches shrink, and then
                more than :class:`ShrinkBatches`' least. None, for single samples, is for fewer steps.
            sampler: Your own order of indices, which is then filtered: see :meth:`filter`.
            batch_sampler: Your own batches of indices: see :meth:`filter_batches`.
            bucket: See :meth:`filter_batches`; so are ``max_cost`` and ``cost``.
            max_cost: For batches under a budget.
            cost: What each sample costs.
            collate_fn: Makes your batch of a list of samples; by default PyTorch's.
            drop_last: Whether a last short batch is dropped. Pruned epochs of fewer steps then keep
                whole batches.
            loader_class: Another class than DataLoader, such as torchdata's StatefulDataLoader, which
                then skips what was trained when a run is resumed.
            **options: Further options of DataLoader. ``shuffle=False`` is refused: the order of an epoch
                is a permutation.

        Returns:
            A loader of the class asked for.
        """
        return self._loaders.loader(
            self,
            batch_size,
            sampler,
            batch_sampler,
            Refill(bucket, max_cost, cost),
            collate_fn,
            drop_last,
            loader_class,
            options,
        )

    def sampler(
        self, batch_size: int, *, drop_last: bool = False, resumes: bool = True
    ) -> PrunedSampler:
        """Make the sampler for a DataLoader of your own, over IndexedDataset and IndexedCollate.

        Where batches shrink, :meth:`batch_sampler` takes its place.

        Args:
            batch_size: The loader's batch size, on each rank.
            drop_last: The loader's.
            resumes: Whether the sampler skips what was trained when a run is resumed; False for a loader
                that does so itself.
        """
        return self._loaders.sampler(self, batch_size, drop_last, resumes)

    def batch_sampler(
        self, batch_size: int, *, drop_last: bool = False, resumes: bool = True
    ) -> PrunedBatchSampler:
        """Make the batch sampler for a DataLoader of your own, where batches shrink.

        Arguments as for :meth:`sampler`; the batch size is that of full data.
        """
        return self._loaders.batch_sampler(self, batch_size, drop_last, resumes)

    def filter(
        self,
        sampler: Iterable[int],
        batch_size: int,
        *,
        drop_last: bool = False,
        resumes: bool = True,
    ) -> FilteredSampler:
        """Make your own sampler leave out what the epoch leaves out.

        Its ``len``, else this rank's share of N, is the length of an epoch on full data. A sample that
        it gives twice is trained twice. On several ranks it must give this rank's share, as
        ``DistributedSampler`` does, and the ranks' batches may then differ in number. Where batches
        shrink, :meth:`filter_batches` takes its place. Arguments as for :meth:`sampler`.
        """
        return self._loaders.filter(self, sampler, batch_size, drop_last, resumes)

    def filter_batches(
        self,
        batch_sampler: Collection[Sequence[int]],
        bucket: Callable[[int], Hashable] | None = None,
        *,
        max_cost: float | None = None,
        cost: Cost | None = None,
        resumes: bool = True,
    ) -> FilteredBatchSampler:
        """Make your own batch sampler leave out what the epoch leaves out.

        What :meth:`filter` says of samplers holds for it. Batches are filled up again with samples of
        successive ones, to as many samples as yours; on full data they are yours.

        Args:
            batch_sampler: Your sampler of batches.
            bucket: Maps an index to what its batch mates must share (a length class, say), so that
                batches are filled up from their own bucket.
            max_cost: The most that the samples of a batch may cost in all, for batches under a budget of
                tokens or pixels; ``math.inf`` says that there is none.
            cost: What each sample costs: numbers (N,), or a function of the index. Where batches are
                padded, the padded length of the sample's bucket.
            resumes: See :meth:`sampler`.

        Raises:
            ValueError: If only one of ``max_cost`` and ``cost`` is given; when iterated, for a batch of
                yours that costs more.
        """
        refill = Refill(bucket, max_cost, cost)
        return self._loaders.filter_batches(self, batch_sampler, refill, resumes)

    # -- Schedules and reports ---------------------------------------------------------------------

    def lr_scheduler(
        self,
        scheduler: Any,
        total_steps: float | None = None,
        scaling: LRScaling = "none",
    ) -> ProgressScheduler:
        """Have progress drive a step-based schedule: see :class:`ProgressScheduler`.

        Args:
            scheduler: A scheduler made for ``total_steps`` steps on full data: any of PyTorch's, timm's
                or mmengine's that counts steps or epochs.
            total_steps: The steps that the scheduler was made for. By default :attr:`full_steps`, for
                one that counts batches; give :attr:`run_length` for one that counts epochs.
            scaling: ``"linear"`` raises the rates of pruned epochs by their :attr:`mean_weight`,
                ``"sqrt"`` by its root.

        Raises:
            TypeError: For a scheduler that counts no steps, such as ReduceLROnPlateau; for a ``scaling``
                of rates whose optimizer is none of PyTorch's.
            ValueError: For one that seems to count epochs and comes without its ``total_steps``, or that
                has fewer steps than those; for two ways of scaling one optimizer.
        """
        steps = total_steps
        if steps is None and own_unit(scheduler) == "epochs":
            steps = self.run_length
        elif steps is None:
            steps = self.full_steps
            check_own_length(scheduler, self.num_epochs, self.full_steps)
        return self._schedule_class(scheduler, self, steps, scaling)

    @property
    def full_steps_done(self) -> int:
        """Where the run is among :attr:`full_steps`: the step to tell schedules that are told one."""
        return math.floor(self.progress * self.full_steps + 1e-6)

    @property
    def mean_loss(self) -> float:
        """Mean of the latest losses of all samples that have one, NaN if none has; waits for the device.

        Left-out samples count with the loss they had when they were last trained, whatever the policy.
        With :class:`Sharded` scores it is the mean over this rank's.
        """
        losses = self.scores["last_loss"]
        return float(losses[~losses.isnan()].double().mean())

    def export(self, path: str | Path) -> Path:
        """Write scores, visits and the selection's weights to a ``.parquet`` or ``.npz`` file.

        A budget of noise goes by weights: its file has them of what the epoch has recorded alone, so
        that a prediction from it is the run's.
        """
        weights = self.selection.weights
        columns = self._store.whole_scores(self.current).flat()
        return export_table(path, {**columns, "weight": columns.get("weight", weights)})

    def predict_saving(self) -> Saving:
        """What the run would save if the scores kept the distribution they have now."""
        scores, plan = self._store.whole_scores(self.current), self.plan
        run = (self.policy, plan.schedule, self.norms_from)
        return predict_saving(scores, *run, epoch_sizes=plan.epoch_sizes)

    def predict_budgets(self) -> BudgetSavings:
        """What budgets of noise would save if gradients kept the norms that they have now.

        In the epochs that this run may prune, and with its batches; to be asked after an epoch, of any
        policy. See :func:`infobatch.prediction.predict_budgets`.
        """
        scores, plan = self._store.whole_scores(self.current), self.plan
        return predict_budgets(scores, plan.schedule, self.norms_from, epoch_sizes=plan.epoch_sizes)

    def report(self) -> Report:
        """What was trained and left out so far."""
        num_replicas = self.replicas.num_replicas
        # On several ranks it is known once the epoch has ended.
        noise = self._noise(self.current) if num_replicas == 1 else None
        is_of_run = self.epoch < self.run_length
        counts = [*self.history[: self.epoch], *([self._counts(noise)] if is_of_run else [])]
        batching, shrinks = self.plan.batching, self.plan.shrink is not None
        batch_size = None if batching is None else batching.global_batch_size
        budget, scores = self.policy.max_noise, self.scores
        of_ranks = (batch_size, shrinks, num_replicas)
        return Report(counts, scores.num_nonfinite, budget, *of_ranks, scores.made_of)

    def load_state_dict(self, state: dict[str, Any] | Iterable[dict[str, Any]]) -> None:
        """Go on where a state was taken: see :meth:`Run.load_state_dict`. Schedules follow."""
        super().load_state_dict(state)
        place_schedules(self)

    # -- Inside ------------------------------------------------------------------------------------

    def _prepare(self, number: int) -> None:
        self._loaders.begin(self, number)

    def _begin(self, epoch: Epoch) -> None:
        super()._begin(epoch)
        self._loaders.begun(epoch)

    def _record(self, batch: IndexArray, *others: Any) -> None:
        if self.current.is_untouched and self._loaders.keeps_order:
            check_goes_on(self.current, batch, self.plan.batching)
            warn_of_foreign(self.current, batch)
        super()._record(batch, *others)

    def _look_back(self, epoch: Epoch) -> None:
        self._loaders.ending()
        super()._look_back(epoch)

    def _close(self, epoch: Epoch) -> None:
        if epoch.resumed_at_end:
            self._loaders.skip()
        super()._close(epoch)
