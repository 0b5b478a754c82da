"""What losses are made of, as far as their autograd graph tells."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from infobatch.autograd_graph import kind_of, nodes_behind

ERRORS = ("MseLoss", "SmoothL1Loss", "HuberLoss", "Pow", "Abs", "LinalgVectorNorm", "Norm", "Cdist")
"""How the names of autograd nodes begin that losses of errors are made of, beside products of a
difference with itself."""
PASSING_ON = (
    *("Mean", "Sum", "Div", "Mul", "Add", "Sqrt", "ToCopy", "Clone", "Where", "MaskedFill", "View"),
    *("UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Permute", "Select"),
    *("Slice", "Index", "Cat", "Stack"),
)
"""And those of nodes between them and what a sample's loss is: means, factors, other shapes."""


def error_behind(losses: Tensor) -> str | None:
    """The name of the operation that made errors of which the losses (B,) are; None for others."""
    made_of = [node for node in nodes_behind(losses, _passes_on) if not _passes_on(node)]
    if not made_of or not all(_is_error(node) for node in made_of):
        return None
    return kind_of(made_of[0])


def _is_error(node: Any) -> bool:
    """Whether a node makes errors, or sizes of them."""
    return kind_of(node).startswith(ERRORS) or _is_square(node)


def _is_square(node: Any) -> bool:
    """Whether a node multiplies a difference with itself, or with one of the same."""
    factors = [factor for factor, _ in node.next_functions if factor is not None]
    if kind_of(node) != "Mul" or [kind_of(factor) for factor in factors] != ["Sub", "Sub"]:
        return False
    one, other = factors
    return bool(one.next_functions == other.next_functions)


def _passes_on(node: Any) -> bool:
    """Whether a node makes a sample's loss of what is behind it without telling what that is."""
    return kind_of(node) in PASSING_ON and not _is_square(node)
