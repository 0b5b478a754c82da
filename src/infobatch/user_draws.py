"""An epoch in the order of the user's own sampler, which may draw a sample twice or not at all."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from infobatch.scores.columns import FloatArray, IndexArray
from infobatch.state import Array, Fields

_NUM_RECENT = 64
"""Batches that are known when their losses are recorded once more, as in turns over several batches."""


class UserDraws:
    """The draws of one epoch from the user's own sampler on this rank.

    A draw counts once, however often its losses are recorded.

    Args:
        selected: Which samples the epoch trains on, bool (N,).
        expected: Number of draws that the epoch should have, as far as is known before it begins.
        part: Share of the sampler's draws that is used, in (0, 1]; below 1 where the run ends within the
            epoch.

    Attributes:
        expected: The same, until more is known: see :meth:`expect` and :meth:`spread`.
        mean_weight: The mean weight of what is drawn; None where it is that of the selected samples.
        full_per_draw: Draws on full data for each of the epoch's; None where they are as samples are.
        scales: What weights are multiplied by beside, float32 (N,); None where that is 1.
        counts: How many draws of each sample have been recorded, int32 (N,).
        num_recorded: Number of draws recorded.
        num_before: Number of them when the epoch began or was resumed.
        length: Number of draws that the epoch has, None until the sampler has come to its end.
        first: The draws that a pass gave first, as many as are in a batch or more.
        most_dropped: How many draws a loader may drop or not come to at an epoch's end; None if any.
        num_full: Number of draws with those of samples left out; None until then.
        start: Number of the sampler's items that earlier epochs have used, where it is endless.
        following: What the next epoch's start is; None until the sampler has shown to be endless.
    """

    def __init__(self, selected: np.ndarray, expected: float, part: float = 1.0) -> None:
        self.selected = selected
        self.expected = expected
        self.part = part
        self.mean_weight: float | None = None
        self.full_per_draw: float | None = None
        self.scales: FloatArray | None = None
        self.counts = np.zeros(len(selected), np.int32)
        self.num_recorded = self.num_before = 0
        self.length: int | None = None
        self.first: list[int] = []
        self.most_dropped: int | None = None
        self.num_full: int | None = None
        self.start: int | None = None
        self.following: int | None = None
        self._drawn = _tally_of(self.counts)  # how often the sampler has given each sample
        self._is_given_freely = False
        self._elsewhere: np.ndarray | None = None  # what any rank has recorded
        self._passes: list[_Pass] = []  # the latest, and those before it that have not ended
        self._recent: dict[bytes, None] = {}  # the latest batches that were new
        self._ends: IndexArray | None = None  # of the batches, in draws, where each has its own size
        self._loaded: tuple[int, float] | None = None  # draws recorded, and the part of the epoch

    @property
    def finished(self) -> bool:
        """Whether the sampler has come to its end and all that it gave has been recorded."""
        return self.length is not None and self.num_recorded >= self.length

    @property
    def done(self) -> float:
        """The part of the epoch that has been recorded, in [0, 1]."""
        if self.finished:
            return 1.0
        if self._ends is not None:  # by batches, for ranks have as many, if not of one size
            number = int(np.searchsorted(self._ends, self.num_recorded, side="right"))
            if number == len(self._ends):
                return 1.0
            begin = self._ends[number - 1] if number else 0
            part = (self.num_recorded - begin) / (self._ends[number] - begin)
            return float((number + part) / len(self._ends))
        if self._loaded is not None and self._loaded[0] == self.num_recorded:
            return self._loaded[1]
        # By what was expected until the end: how early the length is known depends on the workers.
        return min(1.0, self.num_recorded / max(1.0, self.expected))

    def expect(self, chances: np.ndarray, weights: np.ndarray) -> None:
        """Expect draws of samples with these chances, and no longer of each as often as of others.

        Args:
            chances: Of the samples, float64 (N,), with the sum 1.
            weights: Weights of the samples, 0 where they are left out, float32 (N,).
        """
        kept = float(chances[self.selected].sum())
        if kept > 0:
            self.expected *= kept / np.mean(self.selected)
            self.mean_weight = float(chances @ weights) / kept

    def spread(
        self, batches: Sequence[list[int]], weights_of: Callable[[IndexArray], np.ndarray]
    ) -> None:
        """Take note of all batches of the epoch, each of its own size, before the first is given.

        Args:
            batches: What this rank trains in the whole epoch, recorded or not.
            weights_of: Gives the weights of samples of the epoch.
        """
        drawn = np.fromiter(chain.from_iterable(batches), np.int64)
        if len(drawn):
            self._ends = np.cumsum([len(batch) for batch in batches])
            self.expected = float(len(drawn))
            self.mean_weight = float(weights_of(drawn).mean(dtype=np.float64))
            self.full_per_draw = (self.num_full or len(drawn)) / len(drawn)

    def scale(self, scales: FloatArray | None) -> None:
        """Take what weights are multiplied by for the sizes of batches, after :meth:`spread`."""
        if scales is not None and self.full_per_draw is not None:
            scales = scales * np.float32(self.full_per_draw)  # of which relative weights are free
        self.scales = scales

    def record(self, indices: IndexArray) -> int:
        """Note that the losses of ``indices`` have been recorded; returns how many draws are new.

        Those of the batch that the sampler gave next are, in whichever order and parts they come. Of
        others a batch that has come before is not, and else a sample counts no more often than the
        sampler has given it.
        """
        if len(indices) == 0:
            return 0
        given = indices.tolist()
        taken = [each.take(given) for each in self._passes]  # all of them: one may have been a look
        if not any(taken) and not self._is_given_freely:
            if indices.tobytes() in self._recent:
                return 0
            taken = [each.skip_to(given) for each in self._passes]
        if any(taken) or self._is_given_freely:
            np.add.at(self.counts, indices, 1)
            self._note_recorded(indices, len(indices))
            return len(indices)
        samples, times = np.unique(indices, return_counts=True)
        drawn = np.frombuffer(self._drawn, np.int32)[samples]
        new = np.clip(times, 0, np.maximum(drawn - self.counts[samples], 0))
        self.counts[samples] += new.astype(np.int32)
        num_new = int(new.sum())
        self._note_recorded(indices, num_new)
        return num_new

    def _note_recorded(self, indices: IndexArray, num_new: int) -> None:
        self.num_recorded += num_new
        if num_new:
            self._recent[indices.tobytes()] = None
            if len(self._recent) > _NUM_RECENT:
                del self._recent[next(iter(self._recent))]

    def take_over(self, samples: IndexArray) -> None:
        """Take samples, each once, to be drawn and recorded before the sampler orders the epoch."""
        self.counts[samples] = 1
        self.num_recorded = self.num_before = len(samples)
        self._drawn = _tally_of(self.counts)

    def give_freely(self) -> None:
        """Take each sample to be given as often as it is recorded, by something else than a sampler."""
        self._is_given_freely = True

    def merge(self, recorded: np.ndarray) -> None:
        """Take over which samples any rank has recorded, bool (N,), for a state."""
        self._elsewhere = recorded

    def close(self) -> None:
        """End the epoch, even if something that the sampler gave was never recorded."""
        self.length = self.num_recorded

    def _counts_of_all(self) -> np.ndarray:
        """A copy of the counts, in which a sample recorded on another rank has one, int32 (N,)."""
        counts = self.counts.copy()
        return counts if self._elsewhere is None else np.maximum(counts, self._elsewhere, out=counts)

    def unrecorded(self, resumes: bool = True) -> Callable[[int], bool]:
        """A function that tells, draw after draw, whether a draw has not been recorded before.

        Without ``resumes`` none has: a loader that skips by itself is given all of them.
        """
        counts = self._counts_of_all()
        if not resumes or not counts.any():
            return lambda index: True

        def is_unrecorded(index: int) -> bool:
            if counts[index] > 0:
                counts[index] -= 1
                return False
            return True

        return is_unrecorded

    def counted(self, items: Iterable[int], multiple: int = 1) -> Iterator[int]:
        """Pass on an epoch's indices, and count them; a multiple where a last batch is dropped."""
        number = 0
        for index in items:
            number += 1
            yield index
        self.num_full = number // multiple * multiple

    def counted_batches(self, batches: Iterable[list[int]]) -> Iterator[list[int]]:
        """Pass on an epoch's batches, and count their indices."""
        number = 0
        for batch in batches:
            number += len(batch)
            yield batch
        self.num_full = number

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
        # Of this pass alone: a look at the loader gives what another pass gives, too.
        given = _tally_of(self.counts if resumes else np.zeros_like(self.counts))
        this = _Pass()
        self._passes = [each for each in self._passes if each.is_under_way] + [this]
        num_before = 0 if resumes else self.num_recorded  # which the loader skips
        held: list[int] = []
        first: list[int] = []
        try:
            for group in groups:
                if len(group) < least:
                    break
                if len(first) < batch_size:
                    first += group
                    self.first = first if resumes else []
                if held:
                    self._note_given(held, given)
                    if num_before <= 0:
                        this.waiting.append(held)
                    num_before -= len(held)
                    yield held
                held = group
                num_given += len(group)
            self.length = num_given
            if held:
                self._note_given(held, given)
                this.waiting.append(held)
                yield held
        finally:
            this.is_under_way = False

    def _note_given(self, group: Sequence[int], given: array[int]) -> None:
        drawn = self._drawn
        for index in group:
            times = given[index] + 1
            given[index] = times
            if times > drawn[index]:
                drawn[index] = times

    def state_dict(self) -> dict[str, Any]:
        """What the epoch needs to go on, tensors and numbers only."""
        return {
            "counts": torch.from_numpy(self._counts_of_all()),
            "num_recorded": self.num_recorded,
            "done": self.done,
            "length": self.length,
            "num_full": self.num_full,
            "start": self.start,
            "following": self.following,
        }

    @staticmethod
    def fields(num_samples: int) -> Fields:
        """What :meth:`state_dict` holds."""
        counts = Array(torch.int32, (num_samples,))
        numbers = dict.fromkeys(("length", "num_full", "start", "following"), (int, None))
        return {"counts": counts, "num_recorded": int, "done": float, **numbers}

    def load_state_dict(self, state: dict[str, Any], scale: float = 1.0) -> None:
        """Go on where ``state`` was taken, on ``scale`` times as many ranks as there are now."""
        self.counts[:] = state["counts"].numpy()
        self._drawn = _tally_of(self.counts)
        self.start, self.following = state["start"], state["following"]
        self.num_recorded = self.num_before = round(scale * state["num_recorded"])
        finished = state["length"] is not None and state["num_recorded"] >= state["length"]
        if scale == 1:
            self.length, self.num_full = state["length"], state["num_full"]
            self._loaded = self.num_recorded, state["done"]
        else:  # this rank's share is another than it was
            self.length = self.num_recorded if finished else None


class _Pass:
    """What one pass over the sampler has given, and of that what is not recorded yet.

    Attributes:
        waiting: Batches in the order in which they were given; of the first, what is left.
        is_under_way: Whether the pass gives more.
    """

    def __init__(self) -> None:
        self.waiting: deque[list[int]] = deque()
        self.is_under_way = True

    def take(self, indices: list[int]) -> bool:
        """Take these from the first batch that waits; returns whether all of them were there."""
        if not self.waiting:
            return False
        if self.waiting[0] == indices:
            self.waiting.popleft()
            return True
        left = Counter(self.waiting[0])
        left.subtract(indices)
        if min(left.values()) < 0:
            return False
        self.waiting.popleft()
        if rest := list(left.elements()):
            self.waiting.appendleft(rest)
        return True

    def skip_to(self, indices: list[int]) -> bool:
        """Take these from a later batch, if one has them: what was given before it was passed over."""
        while self.waiting:
            self.waiting.popleft()
            if self.take(indices):
                return True
        return False


def _tally_of(counts: np.ndarray) -> array[int]:
    """A copy of ``counts``, int32 (N,), whose single numbers are quick to read and write."""
    return array("i", counts.astype(np.int32).tobytes())
