"""An epoch in the order of the user's own sampler, which may draw a sample twice or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch

from infobatch.scores.columns import IndexArray

T = TypeVar("T")


class UserDraws:
    """The draws of one epoch from the user's own sampler on this rank.

    Args:
        selected: Which samples the epoch trains on, bool (N,).
        expected: Number of draws that the epoch should have, by which its progress is measured.
        part: Share of the sampler's draws that is used, in (0, 1]; below 1 where the run ends within the
            epoch.

    Attributes:
        counts: How often each sample has been recorded, int32 (N,).
        num_recorded: Number of draws recorded.
        length: Number of draws that the epoch has, None until the sampler has come to its end.
        first: The draws that a pass gave first, as many as are in a batch or more.
        most_dropped: How many draws a loader may drop or not come to at an epoch's end; None if any.
    """

    def __init__(self, selected: np.ndarray, expected: float, part: float = 1.0) -> None:
        self.selected = selected
        self.expected = expected
        self.part = part
        self.counts = np.zeros(len(selected), np.int32)
        self.num_recorded = 0
        self.length: int | None = None
        self.first: list[int] = []
        self.most_dropped: int | None = None

    @property
    def finished(self) -> bool:
        """Whether the sampler has come to its end and all that it gave has been recorded."""
        return self.length is not None and self.num_recorded >= self.length

    @property
    def done(self) -> float:
        """The part of the epoch that has been recorded, in [0, 1]."""
        # By what was expected until the end: how early the length is known depends on the workers.
        return 1.0 if self.finished else min(1.0, self.num_recorded / max(1.0, self.expected))

    def record(self, indices: IndexArray) -> None:
        """Note that the losses of ``indices`` have been recorded, each as often as it is there."""
        np.add.at(self.counts, indices, 1)
        self.num_recorded += len(indices)

    def merge(self, recorded: np.ndarray) -> None:
        """Take over which samples any rank has recorded, bool (N,)."""
        np.maximum(self.counts, recorded, out=self.counts)

    def close(self) -> None:
        """End the epoch, even if something that the sampler gave was never recorded."""
        self.length = self.num_recorded

    def first_part(self, items: Iterable[T], num_items: int) -> Iterator[T]:
        """The ``items`` of a whole epoch that come before the run ends."""
        yield from islice(items, None if self.part == 1 else math.ceil(self.part * num_items - 1e-9))

    def unrecorded(self, resumes: bool = True) -> Callable[[int], bool]:
        """A function that tells, draw after draw, whether a draw has not been recorded before.

        Without ``resumes`` none has: a loader that skips by itself is given all of them.
        """
        if not resumes or self.num_recorded == 0:
            return lambda index: True
        counts = self.counts.copy()

        def is_unrecorded(index: int) -> bool:
            if counts[index] > 0:
                counts[index] -= 1
                return False
            return True

        return is_unrecorded

    def note_ends(
        self,
        groups: Iterable[list[int]],
        resumes: bool = True,
        least: int = 1,
        batch_size: float = 1,
    ) -> Iterator[list[int]]:
        """Pass on groups of draws; note the first, and the epoch's length together with the last group.

        One group is drawn ahead, so that the length is known before the last step is over. A last group
        of fewer than ``least`` draws is left out, for the loader would drop it.
        """
        num_given = self.num_recorded if resumes else 0
        held: list[int] = []
        first: list[int] = []
        for group in groups:
            if len(group) < least:
                break
            if len(first) < batch_size:
                first += group
                self.first = first if resumes else []
            if held:
                yield held
            held = group
            num_given += len(group)
        self.length = num_given
        if held:
            yield held

    def state_dict(self) -> dict[str, Any]:
        """What the epoch needs to go on, tensors and numbers only."""
        counts = torch.from_numpy(self.counts.copy())
        return {"counts": counts, "num_recorded": self.num_recorded, "length": self.length}

    def load_state_dict(self, state: dict[str, Any], scale: float = 1.0) -> None:
        """Go on where ``state`` was taken, on ``scale`` times as many ranks as there are now."""
        self.counts[:] = state["counts"].numpy()
        self.num_recorded = round(scale * state["num_recorded"])
        finished = state["length"] is not None and state["num_recorded"] >= state["length"]
        if scale == 1:
            self.length = state["length"]
        else:  # this rank's share is another than it was
            self.length = self.num_recorded if finished else None


def num_draws(sampler: object, otherwise: int) -> int:
    """Number of indices that a sampler gives in an epoch; ``otherwise`` where it does not tell."""
    try:
        return len(sampler)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return otherwise


def num_batch_draws(batch_sampler: Collection[Sequence[int]], otherwise: int) -> int:
    """Number of indices in the batches of an epoch, as far as a batch sampler tells."""
    if isinstance(batch_sampler, Sequence):
        return sum(map(len, batch_sampler))
    size = getattr(batch_sampler, "batch_size", None)
    if isinstance(size, int):
        otherwise = len(batch_sampler) * size
    # With drop_last the batches hold less than the sampler gives, otherwise the last may be short.
    drawn = num_draws(getattr(batch_sampler, "sampler", None), otherwise)
    return min(drawn, otherwise) if isinstance(size, int) else drawn
