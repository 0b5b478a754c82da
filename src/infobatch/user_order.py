"""What a sampler of the user's own gives in an epoch. A sample may come twice, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch

from infobatch.scores.columns import IndexArray

T = TypeVar("T")


class OwnDraws:
    """One epoch's draws from the user's own sampler on this rank: how many came, how many are due.

    ``expected``: how many the epoch should have, by which its progress is measured; ``part``: the
    share of the sampler's draws that is used, below 1 where the run ends within the epoch. ``counts``
    int32 (N,): how often each sample has been recorded. ``num_recorded``: draws recorded. ``length``:
    the draws the epoch has, known once the sampler has come to its end, else None.
    """

    def __init__(self, num_samples: int, expected: float, part: float = 1.0) -> None:
        self.expected = expected
        self.part = part
        self.counts = np.zeros(num_samples, np.int32)
        self.num_recorded = 0
        self.length: int | None = None

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
        """The epoch is over, even if something that the sampler gave was never recorded."""
        self.length = self.num_recorded

    def first_part(self, items: Iterable[T], num_items: int) -> Iterator[T]:
        """Of a whole epoch's ``items``, those before the run ends."""
        yield from islice(items, None if self.part == 1 else math.ceil(self.part * num_items - 1e-9))

    def wanted(self, selected: np.ndarray, resumes: bool = True) -> Callable[[int], bool]:
        """Whether a draw is to be trained: selected and, if it ``resumes``, not recorded before."""
        if not resumes or self.num_recorded == 0:
            return selected.__getitem__
        counts = self.counts.copy()

        def is_wanted(index: int) -> bool:
            if counts[index] > 0:
                counts[index] -= 1
                return False
            return bool(selected[index])

        return is_wanted

    def note_end(
        self, groups: Iterable[list[int]], resumes: bool = True, least: int = 1
    ) -> Iterator[list[int]]:
        """Give the groups, and with the last one note how many draws the epoch has.

        One group is drawn ahead, so that the length is known before the last step is over. ``least``:
        a smaller last group is left out, for the loader would drop it.
        """
        num_given = self.num_recorded if resumes else 0
        held: list[int] = []
        for group in groups:
            if len(group) < least:
                break
            if held:
                yield held
            held = group
            num_given += len(group)
        self.length = num_given
        if held:
            yield held

    def state_dict(self) -> dict[str, Any]:
        counts = torch.from_numpy(self.counts.copy())
        return {"counts": counts, "num_recorded": self.num_recorded, "length": self.length}

    def load_state_dict(self, state: dict[str, Any], scale: float = 1.0) -> None:
        """``scale``: ranks then over ranks now; if it is not 1 a rank's share is another than it was."""
        self.counts[:] = state["counts"].numpy()
        self.num_recorded = round(scale * state["num_recorded"])
        finished = state["length"] is not None and state["num_recorded"] >= state["length"]
        if scale == 1:
            self.length = state["length"]
        else:
            self.length = self.num_recorded if finished else None


def num_draws(sampler: object, otherwise: int) -> int:
    """How many indices a sampler gives in an epoch; ``otherwise`` where it does not tell."""
    try:
        return len(sampler)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return otherwise


def num_batch_draws(batch_sampler: Collection[Sequence[int]], otherwise: int) -> int:
    """How many indices a batch sampler's batches have in an epoch, as far as it tells."""
    if isinstance(batch_sampler, Sequence):
        return sum(map(len, batch_sampler))
    size = getattr(batch_sampler, "batch_size", None)
    if isinstance(size, int):
        otherwise = len(batch_sampler) * size
    # With drop_last the batches hold less than the sampler gives, otherwise the last may be short.
    drawn = num_draws(getattr(batch_sampler, "sampler", None), otherwise)
    return min(drawn, otherwise) if isinstance(size, int) else drawn
