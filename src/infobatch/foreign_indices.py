"""Indices that are not those of the loader's batches: told of at once, and refused at an epoch's end."""

from __future__ import annotations

import warnings

import numpy as np

from infobatch.batching import Batching
from infobatch.epoch import Epoch
from infobatch.resumption import first_left
from infobatch.scores.columns import IndexArray

_CAUSE = (
    "the indices that update() is given are not those of the batch, but its positions, the numbers of "
    "another dataset, or those of samples put in place of broken ones. Take them as they come: `for "
    "indices, batch in loader:`"
)


def warn_of_foreign(epoch: Epoch, batch: IndexArray, batching: Batching | None) -> None:
    """Warn of a run's first batch if it is none of the loader's.

    A loop may pass over batches, or record a part of one, or several at once.

    Args:
        epoch: The epoch, of which nothing is recorded yet.
        batch: The draws of the batch, int64 (B,).
        batching: How samples become batches, if that is known.
    """
    if epoch.number > 0 or epoch.is_resumed or not epoch.is_read or batching is None:
        return
    given = first_left(epoch, batching)
    num_own = int(np.isin(batch, given).sum())
    if 2 * num_own >= min(len(batch), len(given)) or _is_of_one_place(batch, epoch):
        return
    warnings.warn(
        f"the first batch that is recorded is not the first that the loader gave: of its {len(batch):,} "
        f"samples {num_own:,} are of that one. Unless the loop passed over it, {_CAUSE}",
        stacklevel=7,
    )


def _is_of_one_place(batch: IndexArray, epoch: Epoch) -> bool:
    """Whether the samples of a batch are neighbours in the order of the library's own loaders."""
    if epoch.user_draws is not None:
        return False
    places = np.flatnonzero(np.isin(epoch.share_of_rank(), batch))
    return 2 * len(places) >= len(batch) and int(places[-1] - places[0]) < 2 * len(batch)


def check_own(epoch: Epoch) -> None:
    """Refuse with ``RuntimeError`` an epoch that was recorded with other indices than the loader's.

    It is one whose loader gave all samples, and of which just as many were recorded, but some several
    times, and as many never.
    """
    if not (epoch.num_twice and epoch.given_out and epoch.user_draws is None):
        return
    share = epoch.share_of_rank()
    share = share[share >= 0]
    num_missing = int((~epoch.is_recorded(share)).sum())
    if num_missing == epoch.num_twice:
        raise RuntimeError(
            f"in epoch {epoch.number} the loader gave {len(share):,} samples, and as many losses were "
            f"recorded, but of {len(share) - num_missing:,} samples only: {_CAUSE}"
        )
