"""Who holds the scores, and how an epoch is made of them: the contract of the two layouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from infobatch.batching import Batching
from infobatch.distributed import Replicas, check_agreement, check_alone, has_process_group
from infobatch.epoch import Epoch
from infobatch.layouts.mean_scaling import MeanScaling
from infobatch.losses import Normalizer
from infobatch.noise import NormsFrom, noise_of, norms_of_losses
from infobatch.plan import RunPlan
from infobatch.report import EpochCounts
from infobatch.scores.buffer import LossBuffer
from infobatch.scores.columns import BoolArray, FloatArray, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.state import Fields, Rows, check_fields

STATE_VERSION = 2
"""Version of what ``state_dict`` returns. A change that older code cannot read raises it."""

COMMON: Fields = {
    **{"version": int, "num_samples": int, "seed": int, "num_replicas": int, "layout": str},
    **{"epoch": int, "over": bool, "scores": dict, "history": Rows(len(EpochCounts._fields))},
    "samples": (str, None),
    "policy": str,
}
"""What every state holds."""

BUFFER_CAPACITY = 1 << 16
"""Most losses that wait on the device before they are copied to the host."""

E = TypeVar("E", bound=Epoch)


class Layout(ABC):
    """Option of :class:`DynamicPruner`: who holds the scores, where several ranks train one model.

    ``Replicated()`` keeps all scores on each rank, ``Sharded()`` a part on each.
    """

    name: ClassVar[str]
    """What a checkpoint says it was made with."""

    needs_strata: ClassVar[bool]
    """Whether a policy has to name its strata by score, because no rank has all scores."""

    @abstractmethod
    def make_store(
        self, plan: RunPlan, seed: int, replicas: Replicas, normalizer: Normalizer
    ) -> ScoreStore[Any]:
        """Make the scores of a run that begins.

        Args:
            plan: Lengths and policy of the run.
            seed: Seed of the run.
            replicas: The place of this rank among those that train one model.
            normalizer: What the run divides a batch's weighted sum by.

        Raises:
            ValueError: If the layout does not go together with them.
            TypeError: If the policy needs the scores of all samples, and no rank has them.
        """


class ScoreStore(ABC, Generic[E]):
    """The scores that this rank holds, and the epochs made of them.

    The rest of the library does not know which samples' scores these are.

    Args:
        plan: Lengths and policy of the run.
        seed: Seed of the run.
        replicas: The place of this rank among those that train one model.
        num_held: Number of samples whose scores this rank holds.

    Attributes:
        signals: Names of what its columns are made of beside losses.
        observed_signals: Those of columns that observing changes.
        num_loggers: How many loggers are told of the run's epochs.
    """

    layout: ClassVar[str]
    """The :attr:`Layout.name` of the layout that it was made of."""

    def __init__(self, plan: RunPlan, seed: int, replicas: Replicas, num_held: int) -> None:
        self.plan = plan
        self.num_loggers = 0
        self.seed = seed
        self.replicas = replicas
        columns = dict.fromkeys(["last_loss", "visits", *plan.policy.columns])
        self._scores = ScoreTable(num_held, list(columns))
        self._make_buffers()

    def _make_buffers(self) -> None:
        scores, capacity = self._scores, min(len(self._scores), BUFFER_CAPACITY)
        self.signals, self.observed_signals = scores.signals, scores.observed_signals
        self._trained = LossBuffer(scores.record, capacity, len(self.signals))
        self._observed = LossBuffer(scores.observe, capacity, len(self.observed_signals))

    # -- Scores ------------------------------------------------------------------------------------

    @property
    def scores(self) -> ScoreTable:
        """The score table, with everything recorded so far on this rank; waits for the device."""
        self._trained.drain()
        self._observed.drain()
        return self._scores

    def keep(self, columns: Sequence[str]) -> None:
        """Have the score table keep further columns from now on; waits for the device."""
        self.scores.add(columns)
        self._make_buffers()

    @property
    @abstractmethod
    def num_parts(self) -> int:
        """How many ranks hold a part of the scores each; 1 where every rank holds all of them."""

    @abstractmethod
    def whole_scores(self, epoch: E) -> ScoreTable:
        """The scores of all samples, with the weights of those alone that an epoch has recorded.

        A weight belongs to the norm that was recorded with it, and others have a new weight beside an
        old norm. ``RuntimeError`` where no rank has all scores.
        """

    @abstractmethod
    def take_prior(self, losses: FloatArray, norms: FloatArray | None) -> None:
        """Take in what is known of all samples before the first epoch; NaN for nothing.

        Args:
            losses: (N,).
            norms: The norms of gradients, (N,); None if they are not known.
        """

    def record(
        self,
        indices: IndexArray,
        losses: Tensor,
        scored: Tensor | None,
        signals: Sequence[Tensor],
        num_real: int,
        again: BoolArray | None = None,
    ) -> None:
        """Take in the losses of a batch that was trained.

        Args:
            indices: Indices of its samples, int64 (B,), on the host.
            losses: What to remember of each sample, (B,), of any float dtype, on any device.
            scored: False for a sample that has no score, bool (B,); None if all have one.
            signals: The :attr:`signals`, each (B,), on the device of the losses.
            num_real: Number of samples at the batch's beginning that are no repeats.
            again: Which of its samples were trained before in the epoch, (B,); None if none was.
        """
        if num_real < len(indices):
            indices, losses = indices[:num_real], losses[:num_real]
            scored = None if scored is None else scored[:num_real]
            signals = [values[:num_real] for values in signals]
            again = None if again is None else again[:num_real]
        self._trained.put(self._rows_of(indices), losses, scored, signals, again)

    def observe(
        self,
        indices: IndexArray,
        losses: Tensor,
        scored: Tensor | None,
        signals: Sequence[Tensor],
    ) -> None:
        """Take in the losses of samples that were left out: see :meth:`record`."""
        self._observed.put(self._rows_of(indices), losses, scored, signals)

    @abstractmethod
    def _rows_of(self, indices: IndexArray) -> IndexArray:
        """The rows of samples in the score table of this rank."""

    # -- Epochs ------------------------------------------------------------------------------------

    def rehearse(self) -> None:
        """Forget what was drawn, and try the first pruned epoch's selection, so that errors come now.

        It is tried where this rank can do so alone.
        """
        self.scores.forget_draw()

    @abstractmethod
    def make_epoch(self, number: int) -> E:
        """An epoch that begins; the same on all ranks."""

    @abstractmethod
    def resized(self, epoch: E) -> E:
        """The epoch under way, of which nothing was recorded, with another sampler of the user's."""

    @abstractmethod
    def grow(self, num_samples: int) -> None:
        """Take in samples that the dataset has at its end since an epoch began, without scores."""

    @abstractmethod
    def merge(self, epoch: E) -> None:
        """Take over what the other ranks recorded. A collective."""

    def end(self, epoch: E) -> None:
        """Keep what columns follow of an epoch that has ended, merged."""

    @abstractmethod
    def mean_scaling(
        self, epoch: E, batching: Batching | None, normalizer: Normalizer
    ) -> MeanScaling | None:
        """How this rank's means are scaled in an epoch; None where nothing needs it."""

    @abstractmethod
    def trained_in(self, epoch: E) -> tuple[IndexArray, IndexArray]:
        """The samples that an epoch trained and recorded, as far as this rank has their scores.

        Args:
            epoch: The epoch, merged.

        Returns:
            Their indices, in rising order, and their rows in the score table, int64 (n,).
        """

    @abstractmethod
    def noise_sums(self, epoch: E, norms_from: NormsFrom) -> np.ndarray:
        """The sums of :func:`noise_sums` over what all ranks recorded of an epoch. A collective.

        Args:
            epoch: The epoch, merged.
            norms_from: What losses are, where no norms are known.
        """

    def noise(self, epoch: E, norms_from: NormsFrom) -> float | None:
        """The noise of a step of an epoch, merged; None where nothing tells norms. A collective."""
        noise = noise_of(self.noise_sums(epoch, norms_from))
        return noise if self.scores.tells_norms else None

    def _norms(self, rows: IndexArray, norms_from: NormsFrom) -> np.ndarray:
        """The latest norms of gradients in some rows of the score table, (n,)."""
        norms = self.scores.last_norms
        if norms is not None:
            known: FloatArray = norms.numpy()[rows]
            return known
        losses = self.scores["last_loss"].numpy()[rows]
        return norms_of_losses(torch.from_numpy(losses), norms_from).numpy()

    def agree(self, epoch: E) -> None:
        """Raise ``RuntimeError`` on all ranks if they are not about to train the same epoch.

        A collective of a few numbers, once an epoch, to be called on all ranks.
        """
        check_alone(self.replicas)
        if self.replicas.num_replicas > 1 and not epoch.agreed and self._uses_process_group:
            check_agreement(self._facts(epoch))
        epoch.agreed = True

    @property
    def can_merge(self) -> bool:
        """Whether there is a way to share scores: torch.distributed's, or a function of the user's."""
        return has_process_group() or not self._uses_process_group

    @property
    @abstractmethod
    def _uses_process_group(self) -> bool:
        """Whether the ranks share scores by torch.distributed, and not by a function of the user's."""

    def _facts(self, epoch: E) -> dict[str, int]:
        """What has to be equal on all ranks."""
        batching = self.plan.batching
        is_user_order = batching is None or batching.has_user_order
        return {
            "the number of samples in the dataset": self.plan.num_samples,
            "seed": self.seed,
            "num_epochs": self.plan.schedule.num_epochs,
            "num_replicas": self.replicas.num_replicas,
            "batch_size": 0 if batching is None or is_user_order else int(batching.batch_size),
            "the epoch": epoch.number,
            "the number of score columns (by what batches bring beside losses)": len(
                self._scores.columns
            ),
            "the number of loggers (of log_to, which is called on every rank)": self.num_loggers,
            "the number of samples left to train in the epoch": epoch.num_left,
            "selection": epoch.fingerprint,
        }

    # -- State -------------------------------------------------------------------------------------

    def state_dict(self, epoch: E) -> dict[str, Any]:
        """What this rank saves of the scores and of the epoch under way."""
        # Of an epoch that the end of the run has cut, a longer run trains the rest.
        is_cut = self.plan.schedule.share(epoch.number) < 1 and epoch.done == 1
        return {
            "version": STATE_VERSION,
            "num_samples": self.plan.num_samples,
            "seed": self.seed,
            "num_replicas": self.replicas.num_replicas,
            "layout": self.layout,
            **epoch.state_dict(),
            "over": epoch.is_over and not is_cut,
            "scores": self.scores.state_dict(),
        }

    @abstractmethod
    def fields(self, state: dict[str, Any]) -> tuple[Fields, int]:
        """What a state holds of an epoch beside :data:`COMMON`, and for how many samples it has scores.

        Args:
            state: The state, whose :data:`COMMON` are those of this run.
        """

    @abstractmethod
    def load(self, states: Iterable[dict[str, Any]]) -> E:
        """Take over the scores in checked ``states``, of one rank or of several; their epoch."""

    def check_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """``state``, if the run can go on from it. ``ValueError`` otherwise."""
        self._check_facts(state)
        fields, num_held = self.fields(state)
        check_fields(state, {**COMMON, **fields})
        ScoreTable.check_state(state["scores"], num_held)
        return state

    def _check_facts(self, state: dict[str, Any]) -> None:
        """Raise ``ValueError`` for a state of another run, or of another release."""
        version = state.get("version", STATE_VERSION) if isinstance(state, Mapping) else STATE_VERSION
        if version != STATE_VERSION:
            raise ValueError(
                f"the checkpoint has version {version}, this infobatch reads version {STATE_VERSION}; "
                "load it with the release that wrote it"
            )
        check_fields(state, COMMON, alone=False)
        if state["layout"] != self.layout:
            raise ValueError(
                f"the checkpoint holds {state['layout']} scores, this pruner's are {self.layout}; make "
                f"the pruner with layout={state['layout'].capitalize()}()"
            )
        if state["num_samples"] != self.plan.num_samples:
            raise ValueError(
                f"the checkpoint is of a dataset of {state['num_samples']:,} samples, this one has "
                f"{self.plan.num_samples:,}; scores belong to indices, so resume on the data it was "
                "made with"
            )
        if state["seed"] != self.seed:
            raise ValueError(
                f"the checkpoint was made with seed {state['seed']}, this pruner has seed {self.seed}, "
                "so its order would differ; make the pruner with the checkpoint's seed"
            )
        if state["epoch"] >= self.plan.schedule.num_epochs:
            raise ValueError(
                f"the checkpoint was taken in epoch {state['epoch']}, but this run has only "
                f"{self.plan.schedule.num_epochs} epochs; give the num_epochs it was made with, or more"
            )
