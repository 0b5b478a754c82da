"""Devices by the names that the command line takes."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """The device that ``--device`` names.

    Args:
        name: A device of PyTorch such as ``cpu`` or ``cuda:1``, or ``auto``: the current CUDA device
            if there is one, else the CPU.

    Returns:
        The device.

    Raises:
        ValueError: If there is no device of that name here.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device is {name!r}; it must be auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device is {name!r}, but PyTorch finds no CUDA device here")
    return device
