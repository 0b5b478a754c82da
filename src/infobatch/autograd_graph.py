"""The autograd graph behind a tensor, walked from the tensor back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def nodes_behind(tensor: Tensor, through: Callable[[Any], bool] = lambda node: True) -> Iterator[Any]:
    """Each node of the graph behind ``tensor`` once, the nearest first; none without a gradient.

    Some microseconds a node. Nothing of the graph is kept.

    Args:
        tensor: The end of the graph.
        through: Whether to walk on behind a node; by default behind all.
    """
    if tensor.grad_fn is None:
        return
    waiting, seen = deque([tensor.grad_fn]), {tensor.grad_fn}
    while waiting:
        node = waiting.popleft()
        yield node
        if not through(node):
            continue
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)


def kind_of(node: Any) -> str:
    """What a node of the graph does, such as "MseLoss" or "Mul"."""
    return type(node).__name__.partition("Backward")[0]
