"""After a resume every sample of an epoch is trained once: refusals of what skips a second time."""

from __future__ import annotations

import math

import numpy as np

from infobatch.batching import Batching
from infobatch.epoch import Epoch
from infobatch.scores.columns import IndexArray
from infobatch.user_warnings import warn_user

_SKIPPERS = (
    "accelerate's skip_first_batches, a `continue` in the loop, or a StatefulDataLoader over a sampler "
    "that resumes too"
)


def check_goes_on(epoch: Epoch, batch: IndexArray, batching: Batching | None) -> None:
    """Refuse a first batch after a resume that is not the first one left of the epoch.

    Args:
        epoch: The epoch, of which nothing was recorded since it was begun or resumed.
        batch: The draws of the batch, int64 (B,); some may have been left out of it.
        batching: How samples become batches, if that is known.

    Raises:
        RuntimeError: If something else than the pruner skipped, or nothing did.
    """
    if not epoch.is_resumed or batching is None:
        return
    expected = _first_left(epoch, batching)
    if len(expected) == 0 or np.isin(batch, expected).any():
        return
    if epoch.user_draws is None and epoch.is_recorded(batch.copy()).all():
        raise RuntimeError(
            f"{_resumed(epoch)}, and its first batch since then has samples of those: its loader begins "
            "the epoch anew. Load the state of a loader that skips by itself (StatefulDataLoader) too, "
            "after the pruner's, or let the pruner skip: leave resumes= at True"
        )
    raise RuntimeError(
        f"{_resumed(epoch)}, and its loader goes on after those; but the first batch since then is not "
        f"the first one left, so both skip, the pruner and {_SKIPPERS}. Samples between would never be "
        "trained: take the other out (or set in_order, if workers hand in batches out of order)"
    )


def check_went_on(epoch: Epoch) -> None:
    """Refuse with ``RuntimeError`` to end a resumed epoch of which the rest was skipped.

    A stream may lose samples behind its filter, too: it is refused if as many are missing as were
    trained before, and else warned of.
    """
    if not epoch.is_resumed or epoch.finished:
        return
    if epoch.is_untouched:
        raise RuntimeError(
            f"{_resumed(epoch)}, and ends without any of the rest. If a loader was iterated, both skip, "
            f"the pruner and {_SKIPPERS}: take the other out. Else let `for epoch in pruner.epochs()` "
            "begin epochs, which goes on within this one"
        )
    draws = epoch.user_draws
    if draws is not None and draws.length is not None and draws.most_dropped is not None:
        num_missing = draws.length - draws.num_recorded
        if num_missing <= draws.most_dropped:
            return
        told = f"{_resumed(epoch)}; since then its stream gave {num_missing:,} that were not recorded"
        if abs(num_missing - draws.num_before) <= draws.most_dropped:  # as many as one skips
            raise RuntimeError(f"{told}. Both skip, the filter and {_SKIPPERS}: take the other out")
        warn_user(
            f"{told}: what comes after the filter drops samples (broken ones, or the last short batch "
            f"of each worker), or both skip, the filter and {_SKIPPERS}"
        )


def _first_left(epoch: Epoch, batching: Batching) -> np.ndarray:
    """The draws that the first batch after a resume is made of; none if that is not known."""
    if epoch.user_draws is not None:
        return np.array(epoch.user_draws.first, np.int64)
    end = int(epoch.batch_ends()[0]) if epoch.shrinks_batches else math.ceil(batching.batch_size)
    return epoch.share_of_rank()[:end]


def _resumed(epoch: Epoch) -> str:
    num_before = epoch.num_trained - epoch.num_left
    return f"epoch {epoch.number} was resumed after {num_before:,} of its samples were trained"
