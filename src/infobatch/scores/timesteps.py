"""Scores of samples whose losses depend on a drawn timestep, as in diffusion and flow matching.

Noise is easier to predict at some timesteps than at others, so that a loss says more about the timestep
that was drawn than about the sample. The loss divided by the mean loss at its timestep is a better
score.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class TimestepScores:
    """Divides losses by the mean loss at their timesteps, of which it keeps running means.

    ``loss = pruner.update(losses, indices, scores=normalize(losses, timesteps))``. The means are kept on
    the device of the losses, and nothing waits for it. Each rank keeps its own means, which all estimate
    the same numbers.

    Args:
        num_timesteps: Timesteps are drawn from [0, num_timesteps): whole numbers, or with 1, as in flow
            matching, fractions.
        num_bins: The number of equal parts of that range with a mean each. The default, 50, tells
            timesteps apart, and a bin still gets losses from most batches.
        memory: The number of batches, about, that a mean is taken over. The default, 50, follows the
            model as it learns.

    Raises:
        ValueError: For a number out of range.
    """

    def __init__(self, num_timesteps: float, num_bins: int = 50, memory: int = 50) -> None:
        if not 0 < num_timesteps < math.inf:
            raise ValueError(f"num_timesteps is {num_timesteps}; it must be above 0 and finite")
        if num_bins < 1:
            raise ValueError(f"num_bins is {num_bins}; it must be at least 1")
        if memory < 1:
            raise ValueError(f"memory is {memory}; it must be at least 1 batch")
        self.num_timesteps = num_timesteps
        self.num_bins = num_bins
        self._decay = 1 - 1 / memory
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    @torch.no_grad()
    def __call__(self, losses: Tensor, timesteps: Tensor) -> Tensor:
        """Add a batch's losses to the means, and score its samples.

        Args:
            losses: (B,). A loss that is not finite enters no mean.
            timesteps: (B,), on the device of the losses.

        Returns:
            The scores, float32 (B,): each loss divided by the mean loss at its timestep.

        Raises:
            ValueError: If the shapes or the devices differ.
        """
        _check(losses, timesteps)
        losses = losses.detach().float()
        device = losses.device
        bins = (timesteps * (self.num_bins / self.num_timesteps)).long().clamp(0, self.num_bins - 1)
        sums, counts = self._means_on(device)
        # Not index_add_, which on CUDA adds in no fixed order.
        entering = (bins[:, None] == torch.arange(self.num_bins, device=device)) & losses.isfinite()[
            :, None
        ]
        sums.mul_(self._decay).add_(torch.where(entering, losses[:, None], 0).sum(0))
        counts.mul_(self._decay).add_(entering.sum(0))
        usual = sums[bins] / counts[bins]
        return losses / usual.clamp(min=torch.finfo(usual.dtype).tiny)

    @property
    def usual(self) -> Tensor:
        """The mean loss of each bin, (num_bins,); NaN for a bin without losses."""
        if self._sums is None or self._counts is None:
            return torch.full((self.num_bins,), torch.nan, dtype=torch.float32)
        return self._sums / self._counts

    def state_dict(self) -> dict[str, Tensor]:
        """The sums and the counts of this rank's means, (num_bins,) each, on the host."""
        sums, counts = self._means_on(torch.device("cpu") if self._sums is None else self._sums.device)
        return {"sums": sums.cpu().clone(), "counts": counts.cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` gave.

        Raises:
            ValueError: If the state has another number of bins.
        """
        num_bins = len(state["sums"])
        if num_bins != self.num_bins:
            raise ValueError(
                f"the state has {num_bins} bins of timesteps, and num_bins is {self.num_bins}; give the "
                "number it was made with"
            )
        self._sums, self._counts = state["sums"].clone(), state["counts"].clone()

    def _means_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The decayed sums and counts of the losses in each bin, on ``device``."""
        if self._sums is None or self._counts is None:
            zeros = torch.zeros(2, self.num_bins, dtype=torch.float32, device=device)
            self._sums, self._counts = zeros.unbind()
        elif self._sums.device != device:  # once, after a state was loaded
            self._sums, self._counts = self._sums.to(device), self._counts.to(device)
        return self._sums, self._counts


def _check(losses: Tensor, timesteps: Tensor) -> None:
    """Refuse losses and timesteps that differ in shape or device."""
    if losses.ndim != 1 or timesteps.shape != losses.shape:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)} and timesteps {tuple(timesteps.shape)}; give one "
            "of each for each sample, shape (B,)"
        )
    if timesteps.device != losses.device:
        raise ValueError(
            f"the timesteps are on {timesteps.device} and the losses on {losses.device}; draw the "
            "timesteps where the losses are"
        )
