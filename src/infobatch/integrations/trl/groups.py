"""The prompts of an epoch as TRL takes them: rows that carry their index, in groups of repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from infobatch.integrations.transformers.batches import INDICES


class IndexedRows(Dataset[dict[str, Any]]):
    """A dataset of rows, each with its index as one more entry.

    Args:
        dataset: A map-style dataset of mappings.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.dataset[index], INDICES: index}


class GroupSampler(Sampler[int]):
    """The prompts of an epoch in the structure of TRL's ``RepeatSampler``.

    Prompts come in chunks, one for each generation. A chunk is given as often as it is trained, and each
    of its prompts ``num_generations`` times in a row, so that the rows of a group are side by side.

    Args:
        prompts: The epoch's prompts, anew in each epoch; a multiple of ``num_prompts``.
        num_prompts: The prompts of a generation.
        num_generations: The completions of a prompt.
        repeat_count: How often a generation is given.
    """

    def __init__(
        self,
        prompts: Sampler[int] | Sequence[int],
        num_prompts: int,
        num_generations: int,
        repeat_count: int,
    ) -> None:
        self._prompts = prompts
        self._num_prompts = num_prompts
        self._num_generations = num_generations
        self._repeat_count = repeat_count

    def __len__(self) -> int:
        num_prompts = len(self._prompts)  # type: ignore[arg-type]  # a Sampler need not have one
        return num_prompts * self._num_generations * self._repeat_count

    def __iter__(self) -> Iterator[int]:
        prompts = iter(self._prompts)
        while chunk := list(islice(prompts, self._num_prompts)):
            for _ in range(self._repeat_count):
                for index in chunk:
                    yield from [index] * self._num_generations


def without_indices(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows as the user's dataset gave them, and their indices."""
    plain = [{name: value for name, value in row.items() if name != INDICES} for row in rows]
    return plain, [row[INDICES] for row in rows]


def spreads(advantages: Tensor, num_generations: int) -> Tensor:
    """The root mean square of each group's advantages, (B,) of (B * num_generations,).

    Where a group's rewards are all equal it is 0, however they are scaled.
    """
    return advantages.float().view(-1, num_generations).square().mean(1).sqrt()


def have_spread(rewards: Tensor, num_generations: int) -> Tensor:
    """Whether the spread of each group is known, bool (B,): two of its completions have a reward.

    Args:
        rewards: Of each reward function, (B * num_generations, F); NaN where it gave none.
        num_generations: The completions of a group.
    """
    has_reward = ~torch.isnan(rewards).all(1)
    return has_reward.view(-1, num_generations).sum(1) >= 2
