"""What sets cross-entropies apart from plain ones, as far as their autograd graph tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from infobatch.autograd_graph import kind_of, nodes_behind

WEIGHTED = "class weights or weights of samples"
FOCAL = "a factor that is learned, as in the focal loss"
SEVERAL = "several labels a sample"
SOFT = "soft targets or label smoothing"

BINARY = ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits")
WHOLE = ("NllLoss", "NllLoss2D", *BINARY)
"""Autograd nodes of cross-entropies."""
SPREAD = "LogSoftmax"
"""A node that is reached by :data:`LEADING_ON`, which pick no class, if targets have several."""
LEADING_ON = (
    *("Mean", "Sum", "Div", "Mul", "Add", "Sub", "Neg", "ToCopy", "Clone", "Where", "MaskedFill"),
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Permute"),
)
"""Nodes between these and a sample's loss."""


def trait_behind(losses: Tensor) -> str | None:
    """What keeps norms of gradients from following from losses (B,) as from plain cross-entropies.

    It looks at weights and targets, for which it may wait for a device.

    Returns:
        :data:`WEIGHTED`, :data:`FOCAL`, :data:`SEVERAL` or :data:`SOFT`; None for losses that have none
        of these, or are made of something else.
    """
    nodes = list(nodes_behind(losses, _leads_on))
    terms = [node for node in nodes if kind_of(node) in WHOLE]
    if _are_weighted(nodes, terms, len(losses)):
        return WEIGHTED
    if any(_multiplies(node, WHOLE) for node in nodes):
        return FOCAL
    if any(kind_of(node) in BINARY and _num_terms(node) > len(losses) for node in terms):
        return SEVERAL
    if any(kind_of(node) == SPREAD for node in nodes) or len(set(map(_source_of, terms))) < len(terms):
        return SOFT
    return None


def _are_weighted(nodes: Sequence[Any], terms: Sequence[Any], num_losses: int) -> bool:
    """Whether the cross-entropies ``terms`` have weights, or are multiplied by some of their samples."""
    for node in terms:
        weight, of_positives = _saved(node, "weight"), _saved(node, "pos_weight")
        if (weight is not None and _differ(weight)) or (
            of_positives is not None and (of_positives != 1).any()
        ):
            return True
    if not terms or any(_num_terms(node) != num_losses for node in terms):
        return False  # a factor of a sample may be one over its number of terms
    factors = map(_constant_of, nodes)
    return any(each is not None and each.numel() == num_losses and _differ(each) for each in factors)


def _source_of(term: Any) -> Any:
    """What made the logits of a cross-entropy; two terms of one source are a mixture, as of mixup."""
    node = term.next_functions[0][0]
    while kind_of(node) in (SPREAD, "ToCopy"):
        node = node.next_functions[0][0]
    return node


def _num_terms(node: Any) -> int:
    """How many cross-entropies a node has made; 0 if the graph is gone."""
    target = _saved(node, "target")
    return 0 if target is None else target.numel()


def _differ(weights: Tensor) -> bool:
    """Whether weights differ, beside those that are 0, which mask samples."""
    some = weights[weights != 0]
    return bool(len(some) and some.min() != some.max())


def _leads_on(node: Any) -> bool:
    """Whether a sample's loss is a sum, or weighted sum, of what is behind a node."""
    return kind_of(node) in LEADING_ON and not _multiplies(node) and not _picks(node)


def _multiplies(node: Any, kinds: Sequence[str] = ()) -> bool:
    """Whether a node multiplies what has gradients with the like, one of them of some kind if given."""
    factors = [factor for factor, _ in node.next_functions]
    if kind_of(node) != "Mul" or len(factors) < 2 or None in factors:
        return False
    return not kinds or any(kind_of(factor) in kinds for factor in factors)


def _picks(node: Any) -> bool:
    """Whether a node multiplies by at most one number of each row, such as a one-hot target."""
    constant = _constant_of(node)
    if constant is None or constant.ndim < 2 or constant.shape[1] < 2:
        return False
    return bool(((constant != 0).sum(1) <= 1).all())


def _constant_of(node: Any) -> Tensor | None:
    """The factor of a product that has no gradient; None if both have, or it is a number."""
    if kind_of(node) != "Mul" or len(node.next_functions) < 2 or _multiplies(node):
        return None
    constant = _saved(node, "self" if node.next_functions[0][0] is None else "other")
    return constant if isinstance(constant, Tensor) else None


def _saved(node: Any, name: str) -> Any:
    """What an operation kept for its gradient; None also if it is freed, after ``backward``."""
    try:
        return getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None
