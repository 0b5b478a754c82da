"""The prompts of an epoch as TRL takes them: rows that carry their index, in groups of repeats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


class GroupBatches(Sampler[list[int]]):
    """The generations of an epoch, each as the batches that TRL makes of it on this process.

    A generation is given as often as it is trained. In it each prompt stands ``num_generations`` times
    in a row, and the processes have equal parts of these rows, as TRL takes them to have: a group may
    be split.

    Args:
        generations: The prompts of each generation, anew in each epoch.
        num_generations: The completions of a prompt.
        repeat_count: How often a generation is given.
        rank: The number of this process.
        num_replicas: The number of processes.
    """

    def __init__(
        self,
        generations: Sampler[list[int]],
        num_generations: int,
        repeat_count: int,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        self._generations = generations
        self._num_generations = num_generations
        self._repeat_count = repeat_count
        self._rank = rank
        self._num_replicas = num_replicas

    def __len__(self) -> int:
        return len(self._generations) * self._repeat_count  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        for prompts in self._generations:
            rows = [index for index in prompts for _ in range(self._num_generations)]
            size = len(rows) // self._num_replicas
            own = rows[self._rank * size : (self._rank + 1) * size]
            for _ in range(self._repeat_count):
                yield own


def smallest_part(num_generations: int, num_parts: int) -> int:
    """Of what number the prompts of a generation are multiples.

    Args:
        num_generations: The completions of a prompt.
        num_parts: The equal parts that the completions are cut into: micro-batches of all processes.
    """
    return num_parts // math.gcd(num_parts, num_generations)


def without_indices(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows as the user's dataset gave them, and their indices."""
    plain = [{name: value for name, value in row.items() if name != INDICES} for row in rows]
    return plain, [row[INDICES] for row in rows]


def rewards_of(by_function: Tensor, function_weights: Tensor) -> Tensor:
    """The reward of each completion, as TRL adds them up: (B * num_generations,), NaN where it has none.

    Args:
        by_function: Of each reward function, (B * num_generations, F); NaN where it gave none.
        function_weights: Of the reward functions, (F,).
    """
    rewards = (by_function * function_weights.to(by_function.device)).nansum(1)
    return rewards.masked_fill(torch.isnan(by_function).all(1), math.nan)


def spreads(advantages: Tensor, num_generations: int) -> Tensor:
    """The root mean square of each group's advantages, (B,).

    Args:
        advantages: (B * num_generations,), or with one more dimension, of tokens.
        num_generations: The completions of a group.
    """
    return advantages.float().square().reshape(len(advantages) // num_generations, -1).mean(1).sqrt()


def have_unequal(rewards: Tensor, num_generations: int) -> Tensor:
    """Whether a group has rewards that differ, bool (B,); rounding gives advantages to large equal ones.

    Args:
        rewards: See :func:`rewards_of`.
        num_generations: The completions of a group.
    """
    groups = rewards.view(-1, num_generations)
    unknown = groups.isnan()
    lowest = groups.masked_fill(unknown, math.inf).amin(1)
    highest = groups.masked_fill(unknown, -math.inf).amax(1)
    return lowest < highest


def have_spread(rewards: Tensor, num_generations: int) -> Tensor:
    """Whether the spread of each group is known, bool (B,).

    Two of its completions must have a reward, and none an infinite one, of which no advantages are made.

    Args:
        rewards: See :func:`rewards_of`.
        num_generations: The completions of a group.
    """
    groups = rewards.view(-1, num_generations)
    return ((~groups.isnan()).sum(1) >= 2) & ~groups.isinf().any(1)
