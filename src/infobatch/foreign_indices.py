"""Indices that are not those of the loader's batches: told of at once, and refused at an epoch's end."""

from __future__ import annotations

import numpy as np

from infobatch.epoch import Epoch
from infobatch.scores.columns import IndexArray
from infobatch.user_warnings import warn_user

_CAUSE = (
    "the indices that update() is given are not those of the batch, but its positions, the numbers of "
    "another dataset, or those of samples put in place of broken ones. Take them as they come: `for "
    "indices, batch in loader:`"
)


def warn_of_foreign(epoch: Epoch, batch: IndexArray) -> None:
    """Warn of a run's first batch if its samples are not neighbours in the order of the loader.

    Of a batch that is recorded in part, of several at once or of a later one they are. Nothing is said
    where all that the rank trains is recorded at once, with the other ranks' samples or without them.
    Of a user's own order nothing is known before it has come.

    Args:
        epoch: The epoch, of which nothing is recorded yet.
        batch: The draws of the batch, int64 (B,).
    """
    if epoch.number > 0 or epoch.is_resumed or epoch.user_draws is not None or not epoch.is_read:
        return
    if len(batch) == 0:  # all of it was dropped
        return
    share = epoch.share_of_rank()
    places = np.flatnonzero(np.isin(share, batch))
    if len(places) == np.count_nonzero(share >= 0):
        return
    if 2 * len(places) < len(batch) or places[-1] - places[0] >= 2 * len(batch):
        warn_user(
            f"the {len(batch):,} samples of the first batch that is recorded were not given by the "
            f"loader as one: {_CAUSE}"
        )


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
