"""The machine and the versions that a result came from."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import torch

import infobatch


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Describe where a result comes from.

    Args:
        device: The device that computed it.

    Returns:
        Versions, device, CPU threads and date, by name.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "infobatch": infobatch.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_name() -> str:
    """The CPU's cores and name, where Linux gives it, else its architecture."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"
