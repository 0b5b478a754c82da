"""Ranks of a run with replicated scores, in one process."""

import numpy as np

from helpers.training import UNMERGED, Numbers, by_the_paper, random_losses
from infobatch import DynamicPruner

LAYOUTS = [(57, 2, 8), (57, 3, 4), (33, 2, 16), (40, 4, 5), (41, 4, 2), (7, 3, 2)]


def ranks(size, num_replicas, batch_size, drop_last=False, **options):
    """The pruners of all ranks in their first pruned epoch, with equal scores, and their loaders."""
    losses, made = random_losses(size), []
    for rank in range(num_replicas):
        options = {"layout": UNMERGED, **by_the_paper(options)}
        pruner = DynamicPruner(Numbers(size), 6, rank=rank, num_replicas=num_replicas, **options)
        loader = pruner.loader(batch_size, drop_last=drop_last)
        pruner.record(losses, np.arange(size))
        pruner.set_epoch(1)
        made.append((pruner, loader))
    return made
