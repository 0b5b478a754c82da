"""Small data sets, and epochs of training without a model."""

import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from infobatch import DynamicPruner, InfoBatch, Replicated

UNMERGED = Replicated(merge=lambda scores, recorded: recorded)
"""The layout of ranks that a test runs in one process: their scores are not merged."""

COMPILE_BACKENDS = [
    "eager",
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler"),
        ],
    ),
]


class Numbers(Dataset):
    """Sample i is the number i, so that an index that came with it can be checked."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        return torch.tensor(float(index))


class Seeds(Numbers):
    """Sample i is the seed that its worker has for random transforms."""

    def __getitem__(self, index):
        return torch.initial_seed()


def record_epoch(pruner, losses):
    """Record given losses, shape (N,), for all that the epoch still trains."""
    epoch = pruner.current
    in_user_order = epoch.user_draws is not None
    # Of all ranks, which one may record only all at once.
    order = epoch.indices if in_user_order else epoch.resume_order
    for batch in order.split(50 if pruner.replicas.num_replicas == 1 else max(1, len(order))):
        pruner.record(losses[batch], batch.numpy())


def train_epoch(pruner, loader, losses):
    """Feed the losses of an epoch's batches through ``update``; the batches' indices."""
    batches = []
    for indices, _ in loader:
        pruner.update(losses[indices], indices)
        batches.append(indices)
    return batches


def random_losses(size, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(1.0, 1.0, size).astype("float32"))


def by_the_paper(options):
    """A pruner's options with the paper's policy, of fewer steps, unless they say what is left out."""
    return options if "target" in options else {"policy": InfoBatch(), **options}


def new_pruner(size=60, num_epochs=6, **options):
    return DynamicPruner(Numbers(size), num_epochs, **by_the_paper(options))


def batched_pruner(size=20, num_epochs=5, **options):
    """A pruner that knows its batch size, 4."""
    pruner = new_pruner(size, num_epochs, **options)
    pruner.sampler(4)
    return pruner


def after_one_epoch(**options):
    """A pruner of 100 samples that has recorded its first epoch."""
    pruner = DynamicPruner(Numbers(100), 10, **by_the_paper(options))
    pruner.sampler(8)
    record_epoch(pruner, random_losses(100))
    return pruner


def in_pruned_epoch(**options):
    """A pruner in its first pruned epoch, and the indices of that epoch's first batch."""
    pruner = after_one_epoch(**options)
    pruner.set_epoch(1)
    return pruner, pruner.current.order[:8].numpy()


def check_same_history(ours, expected):
    """Histories are equal, the noise of epochs up to the rounding of other batch shapes."""
    for one, other in zip(ours, expected, strict=True):
        (*counts, noise, share), (*others, other_noise, other_share) = one, other
        assert (counts, share) == (others, other_share)
        assert noise is other_noise is None or abs(noise - other_noise) < 1e-5 * other_noise
