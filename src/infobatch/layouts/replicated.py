"""Replicated scores: every rank holds those of all samples; they are merged once an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from infobatch.batching import Batching
from infobatch.distributed import Merge, Replicas, merge_scores
from infobatch.epoch import Epoch
from infobatch.layouts.base import Layout
from infobatch.layouts.mean_scaling import Rounds
from infobatch.losses import Normalizer
from infobatch.plan import RunPlan
from infobatch.scores.columns import FloatArray
from infobatch.scores.table import ScoreTable


class Replicated(Layout):
    """Every rank holds the scores of all N samples; they are merged once an epoch.

    ``merge``: see :data:`Merge`.
    """

    name = "replicated"

    def __init__(self, plan: RunPlan, seed: int, replicas: Replicas, merge: Merge) -> None:
        columns = dict.fromkeys(["last_loss", "visits", *plan.policy.columns])
        table = ScoreTable(plan.num_samples, list(columns))
        super().__init__(plan, seed, replicas, table, table.record, table.observe)
        self._merge = merge

    def begin(self, losses: FloatArray) -> None:
        self._scores.begin(losses)

    @property
    def whole_scores(self) -> ScoreTable:
        return self.scores

    def make_epoch(self, number: int) -> Epoch:
        return self.plan.make_epoch(number, self.scores, self.seed, self.replicas)

    def load(self, states: Iterable[dict[str, Any]]) -> Epoch:
        state = next(iter(states))  # each rank's holds all
        self.scores.load_state_dict(state["scores"])
        return self.plan.make_epoch(state["epoch"], self.scores, self.seed, self.replicas, state)

    def merge(self, epoch: Epoch) -> None:
        scores = self.scores
        if self.replicas.num_replicas > 1:
            self.agree(epoch)  # before tensors of N samples meet
            epoch.merge(self._merge(scores, epoch.recorded))

    def rounds(self, epoch: Epoch, batching: Batching | None, normalizer: Normalizer) -> Rounds | None:
        return Rounds.of(epoch, batching, normalizer)

    def _compare(self, facts: dict[str, int]) -> None:
        # Who merges by other means than torch.distributed may have no process group to ask.
        if self._merge is merge_scores:
            super()._compare(facts)
