"""The state of PyTorch's random numbers, to be gone back to."""

from __future__ import annotations

import torch


class RandomState:
    """The state of the random numbers of the host and of one device, as it is now.

    Args:
        device: The device of a model.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Go on from it, as if nothing had been drawn since."""
        torch.set_rng_state(self._host)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)
