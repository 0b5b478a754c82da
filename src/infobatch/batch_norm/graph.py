"""Finding converted batch norm that had no weights in the autograd graph of a batch's losses."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from infobatch.autograd_graph import nodes_behind
from infobatch.batch_norm.layers import converted_weights
from infobatch.user_warnings import warn_user

WITHOUT_WEIGHTS = (
    "the model's batch norm is to count each sample with its weight (weigh_batch_norm), and was given "
    "none for this batch, so that it counted all alike: run the forward pass in "
    "`with batch_weights(model, pruner.weights(indices)):`, or convert the model back by "
    "unweigh_batch_norm(model)"
)


def unweighted_batch_norms(losses: Tensor) -> int:
    """Count the converted batch norms of the forward pass that took statistics without weights.

    It follows the whole autograd graph, some microseconds a node: to be called once, and with a batch of
    unequal weights, since with equal ones a converted layer runs PyTorch's own. What a compiled or
    checkpointed part of the model hides is not found, nor are layers without parameters. Nothing of the
    graph is kept.

    Args:
        losses: (B,), before :meth:`DynamicPruner.update` or ``backward``.

    Returns:
        The number of calls of such layers; 0 where no gradient is recorded, and where no model of the
        process is converted.
    """
    converted = {id(weight) for weight in converted_weights()}
    if not converted:
        return 0
    return sum(_is_unweighted(node) and _is_of(node, converted) for node in nodes_behind(losses))


def warn_if_unweighted(losses: Tensor) -> None:
    """Warn of converted batch norm that had no weights: see :func:`unweighted_batch_norms`.

    Args:
        losses: (B,), of a batch of unequal weights.
    """
    if unweighted_batch_norms(losses):
        warn_user(WITHOUT_WEIGHTS)


def _is_unweighted(node: Any) -> bool:
    """Whether a node is PyTorch's batch norm in training mode, on any backend or several processes."""
    return "BatchNorm" in type(node).__name__ and getattr(node, "_saved_training", True)


def _is_of(node: Any, parameters: set[int]) -> bool:
    """Whether a node's operation took one of these parameters, by their ids."""
    return any(id(getattr(before, "variable", None)) in parameters for before, _ in node.next_functions)
