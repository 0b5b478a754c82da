"""Who holds the scores, and how an epoch is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from infobatch.batching import Batching
from infobatch.distributed import Replicas, check_agreement, check_alone
from infobatch.epoch import Epoch
from infobatch.layouts.mean_scaling import Rounds
from infobatch.losses import Normalizer
from infobatch.plan import RunPlan
from infobatch.scores.buffer import LossBuffer
from infobatch.scores.columns import FloatArray
from infobatch.scores.table import ScoreTable


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


STATE_VERSION = 1
"""Of what ``DynamicPruner.state_dict`` returns; a change that older code cannot read raises it."""


def check_state(
    state: dict[str, Any], num_samples: int, seed: int, num_epochs: int, layout: str
) -> dict[str, Any]:
    """The state, if it is one that the run can go on from."""
    version = state.get("version")
    if version != STATE_VERSION:
        raise ValueError(
            f"the checkpoint has version {version}, this infobatch reads version {STATE_VERSION}; "
            "load it with the release that wrote it"
        )
    made_with = state.get("layout", "replicated")
    if made_with != layout:
        raise ValueError(
            f"the checkpoint holds {made_with} scores, this pruner's are {layout}; make the pruner with "
            f"layout={'Sharded()' if made_with == 'sharded' else 'None'}"
        )
    if state["num_samples"] != num_samples:
        raise ValueError(
            f"the checkpoint is of a dataset of {state['num_samples']:,} samples, this one has "
            f"{num_samples:,}; scores belong to indices, so resume on the data it was made with"
        )
    if state["seed"] != seed:
        raise ValueError(
            f"the checkpoint was made with seed {state['seed']}, this pruner has seed {seed}, so "
            "its order would differ; make the pruner with the checkpoint's seed"
        )
    if state["epoch"] >= num_epochs:
        raise ValueError(
            f"the checkpoint was taken in epoch {state['epoch']}, but this run has only "
            f"{num_epochs} epochs; give the num_epochs it was made with, or more"
        )
    return state
