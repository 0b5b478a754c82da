"""Optimizers by name.

LARS and LAMB scale each layer's step to the norm of its weights, so a common factor in the gradient
cancels: where SGD takes larger steps in a pruned epoch (``normalizer="batch"``), theirs keep their
length and an epoch's path is shorter by |S| / N, under either normalizer. With ``"weights"`` the
gradient also keeps the size it has on full data, which matters to weight decay, to momentum across the
epochs and to clipping: use that one with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from infobatch.lab.names import choose

MOMENTUM = 0.9  # until the one-cycle schedule sets it


def _sgd(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    return SGD(parameters, lr, momentum=MOMENTUM, weight_decay=weight_decay)


def _adamw(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    return AdamW(parameters, lr, weight_decay=weight_decay)


def _lars(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    """LARS (You et al., 2017), with the trust coefficient 0.001."""
    return _imported("LARS")(parameters, lr=lr, momentum=MOMENTUM, weight_decay=weight_decay)


def _lamb(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    """LAMB (You et al., 2020)."""
    return _imported("Lamb")(parameters, lr=lr, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[[Any, float, float], Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lars": _lars,
    "lamb": _lamb,
}

LAYERWISE = ("lars", "lamb")
"""The optimizers that scale each layer's step to the norm of its weights."""


def make_optimizer(name: str, model: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """Make an optimizer; LARS and LAMB leave biases and norms without decay and scaling.

    Args:
        name: One of ``OPTIMIZERS``.
        model: The model whose trainable parameters it updates.
        lr: The learning rate.
        weight_decay: The weight decay.

    Returns:
        The optimizer.

    Raises:
        ValueError: If there is no optimizer of that name.
        ImportError: If it needs a package that is not installed.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    parameters: Iterable[Any] = trained
    if name in LAYERWISE:
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        unscaled = {"adam": True} if name == "lamb" else {}  # the library's LARS knows vectors itself
        parameters = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0, **unscaled}]
    return choose("optimizer", name, OPTIMIZERS)(parameters, lr, weight_decay)


def _imported(name: str) -> Callable[..., Optimizer]:
    """A class of the package pytorch_optimizer."""
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise ImportError(
            f"the optimizer {name} needs {error.name}: pip install 'infobatch[lab]'"
        ) from error
    made: Callable[..., Optimizer] = getattr(pytorch_optimizer, name)
    return made
