"""Which samples of a stream an epoch still wants, in memory that the loader's processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from infobatch.scores.columns import IndexArray

T = TypeVar("T")

LEFT_OUT, WANTED, RECORDED = 0, 1, 2
"""What a table holds for each sample."""

MOST_WORKERS = 1023
"""With more workers an epoch's length is not known before its end."""

PREFETCHED = 2
"""Batches that a worker has ready, by default."""


class Gate:
    """The samples that an epoch still wants, in memory that processes share: 2 bytes a sample.

    Two tables take turns, so that a worker which still reads samples of the last epoch never sees a
    mixture of two.

    Args:
        num_samples: N, the samples of the stream.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self._tables = _shared(2, num_samples, dtype=torch.uint8)
        self._batch_sizes = _shared(2, dtype=torch.float64)
        self._turn = _shared(1, dtype=torch.int64)  # 2 * epoch + the table in use
        # For each table: the number of workers, -1 for a pass without any; then 1 + what each found in a
        # pass, 0 before its end.
        self._found = _shared(2, 1 + MOST_WORKERS, dtype=torch.int64)

    def open(self, epoch: int, wanted: np.ndarray, batch_size: float) -> None:
        """Begin an epoch, which wants the samples in ``wanted``, bool (N,), in batches of a size."""
        table = 1 - int(self._turn) % 2
        self._tables[table] = torch.from_numpy(wanted)
        self._batch_sizes[table] = batch_size
        self._found[table] = 0
        self._turn.fill_(2 * epoch + table)  # last, because workers wait for it to change

    def note_recorded(self, indices: IndexArray) -> None:
        """Have passes that begin from now on leave out ``indices``."""
        self._tables[int(self._turn) % 2].numpy()[indices] = RECORDED

    def batch_size(self, epoch: int) -> float:
        """The mean size of the batches of an epoch: the one under way, or the one before."""
        turn = int(self._turn)
        table = turn % 2 if turn // 2 == epoch else 1 - turn % 2
        return float(self._batch_sizes[table])

    @property
    def num_found(self) -> int | None:
        """Number of samples in the epoch, None until each worker has come to the end of a pass."""
        found = self._found[int(self._turn) % 2].numpy()
        of_workers = found[1 : 1 + abs(found[0])]
        return int((of_workers - 1).sum()) if len(of_workers) and of_workers.all() else None

    def most_dropped(self, batch_size: int) -> int:
        """How many samples of an epoch that were passed on may be in no batch that was trained.

        A loader may drop the last batch of each worker, and a loop may end before what was prefetched.
        """
        num_workers = int(self._found[int(self._turn) % 2, 0])
        if num_workers < 0:
            return batch_size - 1
        return num_workers * (1 + PREFETCHED) * batch_size

    def passing(self, samples: Iterable[T], index_of: Callable[[T], int]) -> Iterator[tuple[int, T]]:
        """The samples that are wanted, with their tickets.

        One sample is held back, so that their number is known before the last is given.
        """
        now, tables = self._turn.numpy(), self._tables.numpy()
        turn = first = int(now[0])
        table = tables[turn % 2].copy()
        num_found, held = 0, None
        for sample in samples:
            if now[0] != turn:
                turn = int(now[0])
                table = tables[turn % 2].copy()
            index = index_of(sample)
            if table[index] == LEFT_OUT:
                continue
            num_found += 1
            if table[index] == WANTED:
                if held is not None:
                    yield held
                held = (turn // 2 + 1) * self.num_samples + index, sample
        if now[0] == first:
            self._note_end(first, num_found)
        if held is not None:
            yield held

    def _note_end(self, turn: int, num_found: int) -> None:
        worker = get_worker_info()
        place, num_workers = (0, -1) if worker is None else (worker.id, worker.num_workers)
        if num_workers <= MOST_WORKERS:
            self._found[turn % 2, 1 + place] = 1 + num_found
            self._found[turn % 2, 0] = num_workers


def _shared(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros(shape, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]
