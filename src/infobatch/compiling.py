"""What a compiled step leaves to Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def outside_graphs(function: Callable[P, T]) -> Callable[P, T]:
    """Have ``torch.compile`` call a function as it is, as ``torch.compiler.disable`` does.

    That one imports the compiler at once, which takes as long as importing torch; this one at the first
    call, when the first step of an optimizer imports it anyway.
    """
    disabled: Any = None

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        result: T = disabled(*args, **kwargs)
        return result

    return call
