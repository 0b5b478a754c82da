"""Who holds the scores, and how an epoch is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from infobatch.batching import Batching, Replicas
from infobatch.checks import STATE_VERSION
from infobatch.distributed import Merge, check_agreement, check_alone, merge_scores
from infobatch.epoch import Epoch
from infobatch.loss import Normalizer
from infobatch.plan import RunPlan
from infobatch.rounds import Rounds
from infobatch.scores import FloatArray, LossBuffer, ScoreTable


class Layout(ABC):
    """Owns the scores that this rank holds; the rest of the library does not know whose they are.

    ``buffer`` takes the losses of samples trained, ``observed`` those of samples only looked at.
    """

    name: ClassVar[str]
    """What a checkpoint says it was made with."""

    def __init__(
        self,
        plan: RunPlan,
        seed: int,
        replicas: Replicas,
        scores: ScoreTable,
        record: Callable[..., None],
        observe: Callable[..., None],
    ) -> None:
        self.plan = plan
        self.seed = seed
        self.replicas = replicas
        self._scores = scores
        self.signals = scores.signals
        capacity = min(len(scores), 1 << 16)
        self.buffer = LossBuffer(record, capacity, len(self.signals))
        self.observed = LossBuffer(observe, capacity, len(self.signals))

    @property
    def scores(self) -> ScoreTable:
        """The score table, with everything recorded so far on this rank; waits for the device."""
        self.buffer.drain()
        self.observed.drain()
        return self._scores

    @abstractmethod
    def begin(self, losses: FloatArray) -> None:
        """Take in the losses of all samples, (N,), known before the first epoch; NaN for none."""

    @property
    @abstractmethod
    def whole_scores(self) -> ScoreTable:
        """The scores of all samples."""

    @abstractmethod
    def make_epoch(self, number: int) -> Epoch:
        """An epoch that begins; the same on all ranks."""

    @abstractmethod
    def merge(self, epoch: Epoch) -> None:
        """Take over what the other ranks recorded. A collective."""

    @abstractmethod
    def rounds(self, epoch: Epoch, batching: Batching | None, normalizer: Normalizer) -> Rounds | None:
        """How this rank's means are to be scaled in an epoch."""

    def agree(self, epoch: Epoch) -> None:
        """Raise ``RuntimeError`` on all ranks if they are not about to train the same epoch.

        Once an epoch, by a collective of a few numbers, to be called on all ranks.
        """
        check_alone(self.replicas)
        if self.replicas.num_replicas > 1 and not epoch.agreed:
            self._compare(self._facts(epoch))
        epoch.agreed = True

    def _facts(self, epoch: Epoch) -> dict[str, int]:
        batching = self.plan.batching
        own_order = batching is None or batching.own_order
        return {
            "the number of samples in the dataset": self.plan.num_samples,
            "seed": self.seed,
            "num_epochs": self.plan.schedule.num_epochs,
            "num_replicas": self.replicas.num_replicas,
            "batch_size": 0 if batching is None or own_order else int(batching.batch_size),
            "the epoch": epoch.number,
            "the number of samples left to train in the epoch": epoch.num_left,
            "selection": epoch.fingerprint,
        }

    def _compare(self, facts: dict[str, int]) -> None:
        check_agreement(facts)

    def state_dict(self, epoch: Epoch) -> dict[str, Any]:
        """What this rank saves of the scores and of the epoch under way."""
        return {
            "version": STATE_VERSION,
            "num_samples": self.plan.num_samples,
            "seed": self.seed,
            "num_replicas": self.replicas.num_replicas,
            "layout": self.name,
            **epoch.state_dict(),
            "scores": self.scores.state_dict(),
        }

    @abstractmethod
    def load(self, states: Iterable[dict[str, Any]]) -> Epoch:
        """The epoch that ``states`` were taken in, after its scores have been taken over.

        Of one rank or of several, those of any number of ranks together.
        """


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
