"""Every random number of the library comes from a generator made here, from (seed, epoch, stream).

The global generators of PyTorch, NumPy and Python are neither read nor set.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What the random numbers are for; streams of one (seed, epoch) are independent."""

    ORDER = 0  # the permutation of the data set
    DRAW = 1  # which samples are kept
    LOADER = 2  # the seeds that a DataLoader hands to its workers


def epoch_generator(seed: int, epoch: int, stream: int = Stream.ORDER, rank: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose in one epoch, on one rank where ranks are to differ.

    With nothing pruned, an epoch's order is that of
    ``RandomSampler(dataset, generator=epoch_generator(seed, epoch))``.
    """
    entropy = np.random.SeedSequence([seed, epoch, int(stream), *[rank] * (rank > 0)])
    (state,) = entropy.generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state))
