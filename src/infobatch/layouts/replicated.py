"""Replicated scores: every rank holds those of all samples, and they are merged once an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import Batching
from infobatch.chunks import chunks
from infobatch.distributed import Merge, Replicas, merge_scores
from infobatch.layouts.base import Layout, ScoreStore
from infobatch.layouts.mean_scaling import MeanScaling, scaling_of_shuffled
from infobatch.layouts.replicated_epoch import ReplicatedEpoch
from infobatch.layouts.shuffled_epoch import ShuffledEpoch
from infobatch.layouts.user_ordered_epoch import UserOrderedEpoch
from infobatch.losses import Normalizer
from infobatch.noise import NormsFrom, noise_sums
from infobatch.plan import RunPlan
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import Selection, select
from infobatch.state import Array, Fields
from infobatch.user_draws import UserDraws


@dataclass(frozen=True)
class Replicated(Layout):
    """Layout in which each rank holds the scores of all N samples; the default.

    Args:
        merge: Gives this rank the scores that the others recorded, when an epoch ends and for a
            checkpoint. By default an all-reduce over torch.distributed's default group; give another
            where the ranks speak by other means: see :data:`infobatch.distributed.Merge`.
    """

    merge: Merge = field(default=merge_scores, repr=False)

    name = "replicated"
    needs_strata = False

    def make_store(
        self, plan: RunPlan, seed: int, replicas: Replicas, normalizer: Normalizer
    ) -> ReplicatedStore:
        store = ReplicatedStore(plan, seed, replicas, self.merge)
        store.rehearse()
        return store


class ReplicatedStore(ScoreStore[ReplicatedEpoch]):
    """The scores of all samples.

    Args:
        plan: Lengths and policy of the run.
        seed: Seed of the run.
        replicas: The place of this rank among those that train one model.
        merge: See :class:`Replicated`.
    """

    layout = Replicated.name

    def __init__(self, plan: RunPlan, seed: int, replicas: Replicas, merge: Merge) -> None:
        super().__init__(plan, seed, replicas, num_held=plan.num_samples)
        self._merge = merge

    @property
    def num_parts(self) -> int:
        return 1

    def whole_scores(self, epoch: ReplicatedEpoch) -> ScoreTable:
        if "weight" not in self.scores.columns:
            return self.scores
        return self.scores.replacing("weight", epoch.recorded_weights)

    def take_prior(self, losses: FloatArray, norms: FloatArray | None) -> None:
        self._scores.begin(losses, norms)

    def _rows_of(self, indices: IndexArray) -> IndexArray:
        return indices

    # -- Epochs ------------------------------------------------------------------------------------

    def rehearse(self) -> None:
        super().rehearse()
        if self.plan.length_is_known and self.plan.schedule.prunable:
            self._select(self.plan.schedule.first_pruned)

    def make_epoch(self, number: int) -> ReplicatedEpoch:
        selection = self._select(number)
        self._note_draw(selection)
        draws = self._user_draws(number, selection)
        return self._epoch_of(number, selection, draws)

    def resized(self, epoch: ReplicatedEpoch) -> ReplicatedEpoch:
        draws = self._user_draws(epoch.number, epoch.selection)
        recorded = torch.from_numpy(epoch.recorded)
        return self._epoch_of(epoch.number, epoch.selection, draws, recorded)

    def grow(self, num_samples: int) -> None:
        self.scores.grow(num_samples)

    def _note_draw(self, selection: Selection) -> None:
        """Keep what columns follow of the draw of an epoch that begins."""
        if selection.credit is not None:
            self.scores.adopt("credit", selection.credit)
        if "weight" in self.scores.columns:
            self.scores.adopt("weight", selection.weights)

    def _epoch_of(
        self, number: int, selection: Selection, draws: UserDraws | None, recorded: Tensor | None = None
    ) -> ReplicatedEpoch:
        if draws is not None:
            return UserOrderedEpoch(number, selection, draws, self.replicas, recorded)
        before = 0 if recorded is None else int((recorded & (selection.weights > 0)).sum())
        num_trained = self.plan.num_trained(number, selection.num_selected, before)
        num_draws = self.replicas.share_of(num_trained)
        ends = self.plan.batch_ends(number, selection.num_selected, num_draws)
        order = (self.seed, num_trained)
        return ShuffledEpoch(number, selection, *order, self.replicas, recorded, ends, self._num_rounds)

    def _num_rounds(self, num_samples: int) -> int:
        """How many draws each rank has of ``num_samples``."""
        batching = self.plan.batching
        if batching is None or self.plan.shrink is not None:
            return self.replicas.share_of(num_samples)
        return batching.num_rounds(num_samples, self.plan.num_samples)

    def _select(self, epoch: int) -> Selection:
        """What an epoch trains on: all samples, or what the policy makes of the scores."""
        if not self.plan.schedule.prunes(epoch):
            return Selection.full(self.plan.num_samples)
        request = self.plan.request(epoch, epoch_generator(self.seed, epoch, Stream.DRAW))
        selection = select(self.plan.policy, self.scores, request)
        if self.plan.saves_nothing(epoch, selection.num_selected):
            return Selection.full(self.plan.num_samples)
        return selection

    def _user_draws(self, epoch: int, selection: Selection) -> UserDraws | None:
        """The draws of the user's own sampler on this rank, if that orders the epoch."""
        batching = self.plan.batching
        if batching is None or batching.user_length is None:
            return None
        num_drawn = max(1, round(self.plan.schedule.share(epoch) * batching.user_length))
        part = num_drawn / batching.user_length
        expected = num_drawn * selection.num_selected / self.plan.num_samples
        if batching.drop_last and self.plan.shrink is None:
            expected = expected // batching.batch_size * batching.batch_size
        return UserDraws((selection.weights > 0).numpy(), expected, part)

    def trained_in(self, epoch: ReplicatedEpoch) -> tuple[IndexArray, IndexArray]:
        indices = np.flatnonzero(epoch.recorded & (epoch.weights > 0))
        return indices, indices

    def noise_sums(self, epoch: ReplicatedEpoch, norms_from: NormsFrom) -> np.ndarray:
        sums = np.zeros(2)
        for part in chunks(self.plan.num_samples):
            trained = np.flatnonzero(epoch.recorded[part] & (epoch.weights[part] > 0)) + part.start
            sums += noise_sums(self._norms(trained, norms_from), epoch.weights[trained])
        return sums

    def merge(self, epoch: ReplicatedEpoch) -> None:
        scores = self.scores
        if self.replicas.num_replicas > 1:
            self.agree(epoch)  # before tensors of N samples meet
            epoch.merge(self._merge(scores, epoch.recorded))

    def end(self, epoch: ReplicatedEpoch) -> None:
        if "weight" in self.scores.columns:
            self.scores.adopt("weight", epoch.recorded_weights)

    def mean_scaling(
        self, epoch: ReplicatedEpoch, batching: Batching | None, normalizer: Normalizer
    ) -> MeanScaling | None:
        if isinstance(epoch, ShuffledEpoch):
            return scaling_of_shuffled(epoch, batching, normalizer)
        return None  # what the other ranks train is not known in the order of the user's own sampler

    @property
    def _uses_process_group(self) -> bool:
        return self._merge is merge_scores

    # -- State -------------------------------------------------------------------------------------

    def fields(self, state: dict[str, Any]) -> tuple[Fields, int]:
        num_samples = self.plan.num_samples
        return {
            "weights": Array(torch.float32, (num_samples,)),
            "recorded": Array(torch.bool, (num_samples,)),
            "draws": (UserDraws.fields(num_samples), None),
        }, num_samples

    def load(self, states: Iterable[dict[str, Any]]) -> ReplicatedEpoch:
        state = next(iter(states))  # each rank's holds all
        self.scores.load_state_dict(state["scores"])
        number, recorded = state["epoch"], state["recorded"]
        selection = Selection.of(state["weights"].clone())
        draws = self._user_draws(number, selection)
        if draws is not None and state["draws"] is not None:
            num_ranks_then = state["num_replicas"]
            draws.load_state_dict(state["draws"], num_ranks_then / self.replicas.num_replicas)
        elif draws is not None:  # until then the order was the library's
            trained = recorded & (selection.weights > 0)
            draws.take_over(trained.nonzero().flatten().numpy()[:: self.replicas.num_replicas])
            draws.merge(trained.numpy())
        return self._epoch_of(number, selection, draws, recorded)
