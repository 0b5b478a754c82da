"""Sharded scores: each rank holds 1/R of them, and only sums, counts and histograms cross ranks."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch

from infobatch.batching import Batching, regular_ends
from infobatch.distributed import Reduce, Replicas, check_world, sum_over_ranks
from infobatch.layouts.base import Layout, ScoreStore
from infobatch.layouts.mean_scaling import MeanScaling, SamplesScaling
from infobatch.layouts.score_summary import NoScores, ShardedScores
from infobatch.layouts.sharded_epoch import ShardedEpoch, ShardedSelection
from infobatch.layouts.shards import Shards, default_num_shards
from infobatch.losses import Normalizer
from infobatch.noise import NormsFrom, noise_sums
from infobatch.plan import RunPlan
from infobatch.policies import Policy
from infobatch.policies.bounds import pooled
from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection.strata import leave_out, stratum_counts
from infobatch.state import REMEDY, Array, Fields, check_fields


@dataclass(frozen=True)
class Sharded(Layout):
    """Layout in which each of R ranks holds the scores of N / R samples, and trains those samples.

    Only sums, counts and histograms cross ranks. It needs a policy that names strata by score.

    Args:
        num_shards: V, the number of shards of the whole run, at least R. Where R does not divide it some
            ranks have one shard more than others, and those train repeats at weight 0. By default
            15 * 2^k, by the number of samples alone, so that most numbers of ranks divide it.
        reduce: Sums a tensor over the ranks. By default over torch.distributed's default group; give
            another for the data-parallel group of a mesh: see :data:`infobatch.distributed.Reduce`.

    Raises:
        ValueError: For a number of shards that is not whole, or below 1.
    """

    num_shards: int | None = None
    reduce: Reduce = field(default=sum_over_ranks, repr=False)

    name = "sharded"
    needs_strata = True

    def __post_init__(self) -> None:
        number = self.num_shards
        if number is not None and (not isinstance(number, Integral) or number < 1):
            raise ValueError(
                f"num_shards is {number!r}; it must be a whole number, at least 1 and that of the ranks"
            )

    def make_store(
        self, plan: RunPlan, seed: int, replicas: Replicas, normalizer: Normalizer
    ) -> ShardedStore:
        if normalizer == "weights" and replicas.num_replicas > 1:
            raise ValueError(
                "normalizer='weights' divides by the sum of weights on all ranks, and which samples "
                "the others train is not known with layout=Sharded(); use normalizer='batch'"
            )
        if self.reduce is sum_over_ranks:
            check_world(replicas.num_replicas)
        if type(plan.policy).score_bounds is Policy.score_bounds:
            plan.policy.score_bounds(NoScores(plan.num_samples), None)  # says why not
        num_shards = self.num_shards
        if num_shards is None:
            num_shards = default_num_shards(plan.num_samples)
        return ShardedStore(plan, seed, Shards(plan.num_samples, num_shards, replicas), self.reduce)


class ShardedStore(ScoreStore[ShardedEpoch]):
    """The scores of this rank's shards.

    Args:
        plan: Lengths and policy of the run.
        seed: Seed of the run.
        shards: The shards of the run, and those of this rank.
        reduce: See :class:`Sharded`.
    """

    layout = Sharded.name

    def __init__(self, plan: RunPlan, seed: int, shards: Shards, reduce: Reduce) -> None:
        super().__init__(plan, seed, shards.replicas, num_held=shards.num_local)
        self.shards = shards
        self._parts = shards.parts()
        self._reduce = reduce if shards.replicas.num_replicas > 1 else torch.clone
        self._begun = False  # whether any sample has a score, on any rank

    def take_prior(self, losses: FloatArray, norms: FloatArray | None) -> None:
        held = self.shards.held
        self._scores.begin(losses[held], None if norms is None else norms[held])
        self._begun = True

    def _rows_of(self, indices: IndexArray) -> IndexArray:
        return self.shards.locate(indices)

    @property
    def num_parts(self) -> int:
        return self.replicas.num_replicas

    def whole_scores(self, epoch: ShardedEpoch) -> ScoreTable:
        raise RuntimeError(
            "with layout=Sharded() no rank has all scores, from which a saving is predicted; "
            "`pruner.scores` are those of this rank"
        )

    # -- Epochs ------------------------------------------------------------------------------------

    def make_epoch(self, number: int) -> ShardedEpoch:
        plan, shards = self.plan, self.shards
        selection, fingerprint = ShardedSelection.full(shards), 0
        if plan.schedule.prunes(number):
            selection, fingerprint = self._draw(number)
        num_trained = plan.num_trained(number, selection.num_selected)
        return self._epoch_of(number, selection, num_trained, fingerprint=fingerprint)

    def resized(self, epoch: ShardedEpoch) -> ShardedEpoch:
        raise AssertionError("sharded scores refuse a sampler of the user's own")

    def grow(self, num_samples: int) -> None:
        raise ValueError(
            f"the dataset has {num_samples:,} samples, and had {self.shards.num_samples:,}: with "
            "layout=Sharded() they are shared out among the ranks once; use the default layout, or make "
            "a new pruner"
        )

    def _epoch_of(
        self,
        number: int,
        selection: ShardedSelection,
        num_trained: int,
        recorded: np.ndarray | None = None,
        left: IndexArray | None = None,
        fingerprint: int = 0,
    ) -> ShardedEpoch:
        num_selected = selection.num_selected
        num_rounds = partial(self._num_rounds, num_selected < self.plan.num_samples)
        num_draws = num_rounds(self.shards.longest(num_trained))
        full = self.shards.longest(self.plan.num_trained(number, self.plan.num_samples))
        ends = self.plan.batch_ends(number, num_selected, num_draws, self._num_rounds(False, full))
        return ShardedEpoch(
            number,
            selection,
            self.shards,
            self.seed,
            num_trained,
            recorded,
            left,
            num_rounds,
            fingerprint,
            ends,
        )

    def _num_rounds(self, is_pruned: bool, longest: int) -> int:
        """How many draws each rank has in an epoch of which one rank has the ``longest`` share."""
        batching = self.plan.batching
        if batching is None or (is_pruned and self.plan.shrink):
            return longest
        if batching.drop_last:
            return -(-longest // int(batching.batch_size)) * int(batching.batch_size)
        return batching.filled_up(longest, self.shards.longest(self.plan.num_samples))

    def _draw(self, number: int) -> tuple[ShardedSelection, int]:
        """What a pruned epoch trains of this rank's samples, and a hash of it that all ranks share."""
        scores, plan, shards = self.scores, self.plan, self.shards
        losses, num_pruned = scores[plan.policy.by].numpy(), plan.schedule.num_pruned(number)
        if self._begun:
            by_score = plan.policy.score_bounds(ShardedScores(losses, shards, self._reduce), num_pruned)
        else:
            by_score = pooled(plan.policy.score_bounds(NoScores(plan.num_samples), num_pruned))
        probabilities = list(by_score.probabilities)
        # The stratum of each sample. A shard's random numbers do not depend on the rank that holds it.
        strata = np.empty(shards.num_local, np.uint8)
        sizes = np.empty((len(shards.ids), len(probabilities)), np.int64)
        generators = [
            epoch_generator(self.seed, number, Stream.DRAW, shard) for shard in shards.ids.tolist()
        ]
        for column, part in enumerate(self._parts):
            strata[part] = by_score.strata(losses[part], generators[column])
            sizes[column] = np.bincount(strata[part], minlength=len(probabilities))
        # How many samples of each stratum are kept, on all ranks together.
        totals = [plan.num_samples]
        if self._begun:
            totals = self._reduce(torch.from_numpy(sizes.sum(0))).tolist()
        wanted = None if num_pruned is None else plan.num_samples - num_pruned
        counts = stratum_counts(totals, probabilities, plan.epoch_sizes, wanted=wanted)
        fingerprint = zlib.crc32(repr((by_score, totals, counts)).encode())
        if sum(counts) == plan.num_samples or plan.saves_nothing(number, sum(counts)):
            return ShardedSelection.full(shards), fingerprint
        least, num_strata = sum(counts) // shards.num_shards, sum(total > 0 for total in totals)
        if least < num_strata:  # asked of the whole, so that all ranks raise
            raise ValueError(
                f"a shard is to keep {least} of its {plan.num_samples // shards.num_shards} samples, "
                f"fewer than there are strata ({num_strata}), of which each keeps one; num_shards is "
                f"{shards.num_shards}, lower it"
            )
        # Each shard keeps an equal share of that number, and draws it by itself.
        shares = shards.shared(sum(counts))[shards.ids].tolist()
        weights = np.zeros((len(shares), len(probabilities) + 1), np.float32)
        strata += 1  # now codes
        for column, part in enumerate(self._parts):
            kept = stratum_counts(sizes[column].tolist(), probabilities, total=shares[column])
            weights[column, 1:] = sizes[column] / np.maximum(kept, 1)
            leave_out(strata[part], kept, generators[column])
        return ShardedSelection(strata, weights, sum(counts)), fingerprint

    def merge(self, epoch: ShardedEpoch) -> None:
        self.agree(epoch)
        mine = torch.tensor([epoch.num_recorded, len(epoch.left_out)])
        num_recorded, num_unobserved = self._reduce(mine).tolist()
        epoch.merge(num_recorded, num_unobserved)
        self._begun = self._begun or num_recorded > 0

    def trained_in(self, epoch: ShardedEpoch) -> tuple[IndexArray, IndexArray]:
        rows = np.flatnonzero(epoch.recorded & (epoch.drawn.codes > 0))
        indices = self.shards.held[rows]
        order = np.argsort(indices)
        return indices[order], rows[order]

    def noise_sums(self, epoch: ShardedEpoch, norms_from: NormsFrom) -> np.ndarray:
        trained = np.flatnonzero(epoch.recorded & (epoch.drawn.codes > 0))
        weights = epoch.weights_of(self.shards.held[trained])
        sums = torch.from_numpy(noise_sums(self._norms(trained, norms_from), weights))
        total: np.ndarray = self._reduce(sums).numpy()
        return total

    def _facts(self, epoch: ShardedEpoch) -> dict[str, int]:
        return {"num_shards": self.shards.num_shards, **super()._facts(epoch)}

    @property
    def _uses_process_group(self) -> bool:
        return self._reduce is sum_over_ranks

    def mean_scaling(
        self, epoch: ShardedEpoch, batching: Batching | None, normalizer: Normalizer
    ) -> MeanScaling | None:
        if batching is None:
            return None
        lengths, draws = epoch.batches_left
        regular = not epoch.shrinks_batches
        ends = regular_ends(len(draws), int(batching.batch_size)) if regular else epoch.batch_ends()
        scales: dict[int, float] = {}
        first_short = int(np.searchsorted(ends, lengths.min(), side="right"))
        for batch in range(first_short, len(ends)):
            start = int(ends[batch - 1]) if batch else 0
            members = draws[start : ends[batch]].tolist()
            num_real = int(np.clip(lengths - start, 0, len(members)).sum())
            num_slots = len(members) * len(lengths)
            if 0 < num_real < num_slots:
                scales.update(dict.fromkeys(members, num_slots / num_real))
        return SamplesScaling(scales) if scales else None

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self, epoch: ShardedEpoch) -> dict[str, Any]:
        left = self._reduce(torch.from_numpy(epoch.num_left_now()))
        shards = {"num_shards": self.shards.num_shards, "rank": self.replicas.rank, "left": left}
        return {**super().state_dict(epoch), **shards}

    def fields(self, state: dict[str, Any]) -> tuple[Fields, int]:
        places = {"rank": int, "num_shards": int}
        check_fields(state, places, alone=False)
        shards = self._shards_of(state)
        return {
            **places,
            "num_trained": int,
            "num_selected": int,
            "codes": Array(torch.uint8, (shards.num_local,)),
            "weights": Array(torch.float32, (len(shards.ids), None)),
            "recorded": Array(torch.bool, (shards.num_local,)),
            "left": Array(torch.int64, (shards.num_shards,)),
        }, shards.num_local

    def check_state(self, state: dict[str, Any]) -> dict[str, Any]:
        super().check_state(state)
        codes, num_codes = state["codes"], state["weights"].shape[1]
        if int(codes.max()) >= num_codes:
            raise ValueError(
                f"'codes' in the checkpoint go to {int(codes.max())}, strata that its weights do not "
                f"have ({num_codes} codes), so the checkpoint is damaged; {REMEDY}"
            )
        shards, trained = self._shards_of(state), (state["recorded"] & (codes > 0)).numpy()
        counts = np.array([np.count_nonzero(trained[part]) for part in shards.parts()])
        expected = shards.shared(state["num_trained"])[shards.ids] - counts
        if not np.array_equal(state["left"].numpy()[shards.ids], expected):
            raise ValueError(
                "the checkpoint's shards have another number of samples left to train than it says, so "
                f"the checkpoint is damaged; {REMEDY}"
            )
        return state

    def _shards_of(self, state: dict[str, Any]) -> Shards:
        """The shards whose scores a state holds."""
        if state["num_shards"] != self.shards.num_shards:
            raise ValueError(
                f"the checkpoint has {state['num_shards']:,} shards, this run has "
                f"{self.shards.num_shards:,}; make the pruner with "
                f"layout=Sharded(num_shards={state['num_shards']})"
            )
        replicas = Replicas(state["rank"], state["num_replicas"])
        return Shards(self.shards.num_samples, self.shards.num_shards, replicas)

    def load(self, states: Iterable[dict[str, Any]]) -> ShardedEpoch:
        shards, scores = self.shards, self.scores
        # Of the states' shards, those that this rank holds now.
        codes = np.zeros(shards.num_local, np.uint8)
        recorded = np.zeros(shards.num_local, bool)
        weights = np.empty((len(shards.ids), 0), np.float32)
        columns = {name: scores[name].clone() for name in scores.columns}  # until all are read
        missing, first, num_nonfinite = set(shards.ids.tolist()), None, 0
        for state in states:
            first = first or state
            self._check_same_checkpoint(state, first)
            if state["rank"] % self.replicas.num_replicas == self.replicas.rank:
                num_nonfinite += state["scores"]["num_nonfinite"]
            there = self._shards_of(state)
            weights.resize((len(shards.ids), state["weights"].shape[1]), refcheck=False)
            pairs = [(columns[name], state["scores"]["columns"].get(name)) for name in columns]
            pairs += [(torch.from_numpy(codes), state["codes"])]
            pairs += [(torch.from_numpy(recorded), state["recorded"])]
            for theirs, shard in enumerate(there.ids.tolist()):
                if shard in missing:
                    missing.remove(shard)
                    mine = shard // self.replicas.num_replicas
                    weights[mine] = state["weights"][theirs].numpy()
                    here, source = self._parts[mine], there.part(theirs)
                    for column, values in pairs:
                        if values is not None:
                            column[here] = values[source]
        if first is None or missing:
            raise ValueError(
                f"the checkpoint lacks {len(missing)} of this rank's {len(shards.ids)} shards; it was "
                f"saved on {first['num_replicas'] if first else 'no'} ranks, so give load_state_dict a "
                "list of the states of all of them"
            )
        for name, values in columns.items():
            scores.write(name, values)
        scores.num_nonfinite, scores.made_of = num_nonfinite, first["scores"]["made_of"]
        # The epoch that they were in.
        left, num_trained = first["left"].numpy(), first["num_trained"]
        self._begun = first["epoch"] > 0 or int(left.sum()) < num_trained
        return self._epoch_of(
            first["epoch"],
            ShardedSelection(codes, weights, first["num_selected"]),
            num_trained,
            recorded,
            left,
            zlib.crc32(repr((num_trained, left.tolist())).encode()),
        )

    def _check_same_checkpoint(self, state: dict[str, Any], first: dict[str, Any]) -> None:
        if state["epoch"] != first["epoch"] or not torch.equal(state["left"], first["left"]):
            raise ValueError(
                f"the states of ranks {first['rank']} and {state['rank']} were not taken at the same "
                "time; give those of one checkpoint"
            )
