"""Every random number of the library comes from a generator made here, from (seed, epoch, stream).

The global generators of PyTorch, NumPy and Python are neither read nor set.
"""

from __future__ import annotations

from enum import IntEnum
from numbers import Integral

import numpy as np
import torch

__all__ = ["Stream", "epoch_generator"]


class Stream(IntEnum):
    """What random numbers are for. The streams of one (seed, epoch) are independent of each other."""

    ORDER = 0  # the permutation of the dataset
    DRAW = 1  # which samples are kept
    LOADER = 2  # the seeds that a DataLoader hands to its workers


def epoch_generator(seed: int, epoch: int, stream: int = Stream.ORDER, rank: int = 0) -> torch.Generator:
    """Make a fresh CPU generator for one purpose in one epoch.

    With nothing pruned, an epoch's order is that of
    ``RandomSampler(dataset, generator=epoch_generator(seed, epoch))``.

    Args:
        seed: Seed of the run, at least 0.
        epoch: Number of the epoch, from 0.
        stream: What the numbers are for: a :class:`Stream`, or a number of one's own above those.
        rank: Number of the rank, or of a shard, where they are to draw different numbers; 0 where all
            are to draw the same.

    Returns:
        A generator whose state depends on the arguments alone.
    """
    entropy = np.random.SeedSequence([seed, epoch, int(stream), *[rank] * (rank > 0)])
    (state,) = entropy.generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state))


def permutation(length: int, generator: torch.Generator) -> torch.Tensor:
    """The random order of 0..length-1 that ``torch.randperm`` gives, int32, or int64 if it must be."""
    dtype = torch.int32 if length < 2**31 else torch.int64
    return torch.randperm(length, generator=generator, dtype=dtype)


def check_seed(seed: int) -> None:
    """Raise ``ValueError`` or ``TypeError`` for a seed that no generator takes."""
    if not isinstance(seed, Integral):
        raise TypeError(f"seed is {seed!r}; it must be a whole number, at least 0")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
