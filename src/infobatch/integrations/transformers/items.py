"""How many items, such as tokens, samples have in the mean of all data: what their sum is divided by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def sums_of(items: Tensor, weights: Tensor) -> Tensor:
    """The sums over some samples of their items, of these times weights, of the weights, and of ones.

    Args:
        items: The items of each sample, (B,), on any device.
        weights: The weights, (B,), there or on the host, 1 in the mean; 0 for a repeat.

    Returns:
        (4,), on the device of the items.
    """
    exact = torch.float32 if items.device.type == "mps" else torch.float64  # which has no other
    items, weights = items.to(exact), weights.to(items.device, exact, non_blocking=True)
    return torch.stack([items.sum(), items @ weights, weights.sum(), (weights > 0).sum()])


class MeanItems:
    """The mean number of items of a sample, of all data, as the epoch before tells it.

    A weighted sum over samples that is divided by the items of these very samples depends on which were
    drawn, and is biased wherever their weights go with their losses or their lengths. No number here is
    read on the host, so that no step waits for a device.
    """

    def __init__(self) -> None:
        self._epoch = -1
        self._before: Tensor | None = None
        self._sums: Tensor | None = None

    def add(self, epoch: int, sums: Tensor) -> None:
        """Count samples of an epoch, of which :func:`sums_of` gives the sums, (4,)."""
        if epoch != self._epoch:
            self._epoch, self._before, self._sums = epoch, self._sums, None
        self._sums = sums if self._sums is None else self._sums.to(sums) + sums

    def expected(self, sums: Tensor) -> Tensor:
        """The items that as many samples have in the mean of all data, ().

        Where no epoch was before they are estimated by the samples' own, with their weights.
        """
        _, weighted, _, number = sums
        if self._before is None:
            return weighted
        _, weighted_before, weights_before, _ = self._before.to(sums)
        return weighted_before / weights_before * number

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"epoch": self._epoch, "before": _on_host(self._before), "sums": _on_host(self._sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken."""
        self._epoch, self._before, self._sums = state["epoch"], state["before"], state["sums"]


def _on_host(sums: Tensor | None) -> Tensor | None:
    return None if sums is None else sums.cpu()
