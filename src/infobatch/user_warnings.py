"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

_OURS = "infobatch", "torch._dynamo"  # the compiler stands between a step and what it leaves to Python


def warn_user(message: str) -> None:
    """Give a ``UserWarning`` of the innermost line that is not the library's own."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _is_ours(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _OURS)
