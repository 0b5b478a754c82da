"""Resumed runs go on as they were: refusals of what skips a second time, and of another policy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from infobatch.batching import Batching
from infobatch.epoch import Epoch
from infobatch.policies.base import Policy
from infobatch.scores.columns import IndexArray
from infobatch.user_draws import UserDraws
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
    if not epoch.is_resumed or epoch.finished or epoch.done == 1:
        return
    lost = _lost(epoch.user_draws)
    if lost is not None and lost.num_missing <= lost.most_dropped:
        return
    if epoch.is_untouched:
        raise RuntimeError(
            f"{_resumed(epoch)}, and ends without any of the rest. If a loader was iterated, both skip, "
            f"the pruner and {_SKIPPERS}: take the other out. If the loop had left the epoch when it "
            "was saved, call pruner.end_epoch() before saving. Else let `for epoch in pruner.epochs()` "
            "begin epochs, which goes on within this one"
        )
    if lost is not None:
        told = (
            f"{_resumed(epoch)}; since then its stream gave {lost.num_missing:,} that were not recorded"
        )
        if abs(lost.num_missing - lost.num_before) <= lost.most_dropped:  # as many as one skips
            raise RuntimeError(f"{told}. Both skip, the filter and {_SKIPPERS}: take the other out")
        warn_user(
            f"{told}: what comes after the filter drops samples (broken ones, or the last short batch "
            f"of each worker), or both skip, the filter and {_SKIPPERS}"
        )


class _Lost(NamedTuple):
    """Draws of a stream that has come to its end: not recorded, recorded before, and free to drop."""

    num_missing: int
    num_before: int
    most_dropped: int


def _lost(draws: UserDraws | None) -> _Lost | None:
    """What a stream lost; None for another sampler, and where it has not come to its end."""
    if draws is None or draws.length is None or draws.most_dropped is None:
        return None
    return _Lost(draws.length - draws.num_recorded, draws.num_before, draws.most_dropped)


def warn_of_another_policy(name: str, policy: Policy) -> None:
    """Warn where a run goes on with a policy of another kind than the one of this name."""
    if name != type(policy).__name__:
        warn_user(
            f"the checkpoint was saved with the policy {name}, and the run goes on with {policy!r}; "
            "give DynamicPruner the policy of then, unless another is meant"
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
