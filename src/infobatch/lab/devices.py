"""Devices by the names that the command line takes, and the precision that suits them."""

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
    if device.type == "cuda" and (device.index or 0) >= (number := torch.cuda.device_count()):
        raise ValueError(
            f"--device is {name!r}, but PyTorch finds {number} CUDA devices, from cuda:0 on"
        )
    return device


def check_device(name: str) -> None:
    """Check that a run can be trained on a device.

    Args:
        name: What ``--device`` names.

    Raises:
        ValueError: If there is none of that name here, or it is neither a CPU nor a CUDA device.
    """
    if resolve_device(name).type not in ("cpu", "cuda"):
        raise ValueError(f"--device is {name!r}; it must be auto, cpu or cuda")


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision that ``--precision`` names.

    Args:
        name: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the device computes in it, else fp32.
        device: What is trained on.

    Returns:
        ``fp32``, ``bf16`` or ``fp16``.
    """
    if name != "auto":
        return name
    return "bf16" if computes_in_bf16(device) else "fp32"


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16, and does not emulate it.

    A CPU does so with AVX-512 bf16 or AMX.

    Args:
        device: A CPU or a CUDA device.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # missing on some builds
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)
