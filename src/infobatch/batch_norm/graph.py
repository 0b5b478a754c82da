"""Finding batch norm without weights in the autograd graph of a batch's losses."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from infobatch.autograd_graph import nodes_behind
from infobatch.batch_norm.layers import converted_weights
from infobatch.user_warnings import warn_user

UNWEIGHTED = (
    "the model has batch norm, whose mean and variance are now those of the samples that pruning chose "
    "and not those of the data, which can cost a point of accuracy and more. "
)
"""How the warning to a run begins that meets batch norm without weights; it goes on with the remedy."""

_FORWARD = "`with batch_weights(model, pruner.weights(indices)):`"
NOT_CONVERTED = (
    f"Convert it once, `model = weigh_batch_norm(model)`, and run the forward pass in {_FORWARD}"
)
NOT_GIVEN = f"It is converted, but has no weights: run the forward pass in {_FORWARD}"


def unweighted_batch_norms(losses: Tensor) -> int:
    """Count the batch norms of the forward pass that took statistics of the batch without weights.

    It follows the whole autograd graph, some microseconds a node: to be called once, and with a batch of
    unequal weights, since with equal ones a weighted layer runs PyTorch's own. What a compiled or
    checkpointed part of the model hides is not found. Nothing of the graph is kept.

    Args:
        losses: (B,), before :meth:`DynamicPruner.update` or ``backward``.

    Returns:
        The number of calls of such layers; 0 where no gradient is recorded.
    """
    return len(_unweighted_nodes(losses))


def _unweighted_nodes(losses: Tensor) -> list[Any]:
    """The nodes of such layers in the graph of ``losses``."""
    return [node for node in nodes_behind(losses) if _is_unweighted(node)]


def _are_converted(nodes: list[Any]) -> bool:
    """Whether all of some batch norms are layers that have been converted, as far as can be told."""
    converted = {id(weight) for weight in converted_weights()}
    weights = [
        {id(getattr(before, "variable", None)) for before, _ in node.next_functions} for node in nodes
    ]
    return all(own & converted for own in weights)


def _is_unweighted(node: object) -> bool:
    """Whether a node is a batch norm in training mode, on any backend or over several processes.

    Instance norm is PyTorch's batch norm of a batch of one, and not meant.
    """
    if "BatchNorm" not in type(node).__name__ or not getattr(node, "_saved_training", True):
        return False
    outputs = getattr(node, "_input_metadata", ())
    return not outputs or outputs[0].shape[0] != 1


def warn_if_unweighted(losses: Tensor) -> None:
    """Warn of batch norm in the graph of a batch's losses: see :func:`unweighted_batch_norms`.

    Args:
        losses: (B,), of a batch of unequal weights.
    """
    if nodes := _unweighted_nodes(losses):
        remedy = NOT_GIVEN if _are_converted(nodes) else NOT_CONVERTED
        warn_user(UNWEIGHTED + remedy)
