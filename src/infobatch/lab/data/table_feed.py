"""How a table reaches the device: encoded once, and held there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from infobatch.distributed import Replicas
from infobatch.lab.data.feed import Feed
from infobatch.lab.data.tables import UNKNOWN, Table, TableData

Rows = tuple[Tensor, Tensor, Tensor]
"""Numbers float32 (B, F), codes int64 (B, K) and labels: int64 (B,), or float32 if they are numbers."""


class Encoder:
    """Makes of a table's rows what a network takes, by what the rows that are trained on hold.

    Numbers get mean 0 and deviation 1. A missing one becomes 0, and each column that lacks some gets a
    second one, which is 1 where the number is missing and 0 elsewhere. A column that is constant or
    empty in such rows is 0 in all rows, for no scale of it is known. A category that no such row has
    becomes ``UNKNOWN``. Targets that are numbers get mean 0 and deviation 1, too.

    Args:
        table: The rows that are trained on.
        num_codes: How many codes each column of categories has.
    """

    def __init__(self, table: Table, num_codes: Sequence[int]) -> None:
        self._mean, std = table.moments
        self._scale = torch.where(std > 0, 1 / std, 0.0)
        self._incomplete = table.incomplete
        self.target_mean, self.target_std = 0.0, 1.0
        if table.labels.is_floating_point():
            self.target_mean = float(table.labels.mean())
            self.target_std = float(table.labels.std(correction=0)) or 1.0
        self._codes = []
        for column, num in zip(table.codes.T, num_codes, strict=True):
            present = torch.bincount(column, minlength=num) > 0
            present[UNKNOWN] = False
            self._codes.append(torch.where(present, present.cumsum(0), UNKNOWN))

    @property
    def num_numbers(self) -> int:
        """F, the columns of numbers that a network takes."""
        return len(self._mean) + int(self._incomplete.sum())

    @property
    def num_codes(self) -> tuple[int, ...]:
        """How many codes each column of categories has that a network takes, ``UNKNOWN`` among them."""
        return tuple(int(codes.max()) + 1 for codes in self._codes)

    def __call__(self, table: Table) -> Rows:
        """Encode rows.

        Args:
            table: Any rows of the set.

        Returns:
            What the network takes, and the labels.
        """
        missing = table.numbers.isnan()[:, self._incomplete]
        standard = ((table.numbers - self._mean) * self._scale).nan_to_num(0.0)
        codes = [known[column] for known, column in zip(self._codes, table.codes.T, strict=True)]
        labels = table.labels
        if labels.is_floating_point():
            labels = ((labels - self.target_mean) / self.target_std).float()
        return (
            torch.cat([standard, missing], dim=1).float(),
            torch.stack(codes, dim=1) if codes else table.codes,
            labels,
        )


class TableFeed(Feed):
    """Holds all rows on the device, encoded; the loader gives only indices.

    Args:
        data: The table.
        device: Where it is held.
    """

    TEST_BATCH = 1 << 14
    holds_all = True

    def __init__(self, data: TableData, device: torch.device) -> None:
        self.dataset: Sequence[int] = range(len(data.train))
        self.collate = torch.tensor
        self.encoder = Encoder(data.train, data.num_codes)
        self._train = _on(device, self.encoder(data.train))
        self._test = _on(device, self.encoder(data.test))

    def __call__(self, batch: Tensor) -> Rows:
        indices = batch.to(self._train[2].device, non_blocking=True)
        numbers, codes, labels = self._train
        return numbers[indices], codes[indices], labels[indices]

    def test_batches(self, replicas: Replicas) -> Iterator[tuple[Tensor, Rows]]:
        """Iterate over the test rows, each once over all ranks together.

        Args:
            replicas: This process's place among the ranks.

        Returns:
            This rank's batches, each with the indices int64 (B,) of its rows.
        """
        numbers, codes, labels = self._test
        share = torch.arange(replicas.rank, len(labels), replicas.num_replicas, device=labels.device)
        for part in torch.split(share, self.TEST_BATCH):
            yield part, (numbers[part], codes[part], labels[part])


def _on(device: torch.device, rows: Rows) -> Rows:
    numbers, codes, labels = rows
    return numbers.to(device), codes.to(device), labels.to(device)
