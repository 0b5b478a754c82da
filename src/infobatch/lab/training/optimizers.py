"""Optimizers by name.

LARS and LAMB scale each layer's step to the norm of its weights, so a common factor in the gradient
cancels: where SGD takes larger steps in a pruned epoch (``normalizer="batch"``), theirs keep their
length and an epoch's path is shorter by |S| / N, under either normalizer. With ``"weights"`` the
gradient also keeps the size it has on full data, which matters to weight decay, to momentum across the
epochs and to clipping: use that one with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer

from infobatch.lab.names import choose

MOMENTUM = 0.9  # until the one-cycle schedule sets it
NESTEROV_MOMENTUM = 0.85
BIAS_FACTOR = 64
"""With ``nesterov`` the biases of normalization layers have a rate that is higher by this factor, and a
decay that is lower by it."""


def _sgd(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    return SGD(parameters, lr, momentum=MOMENTUM, weight_decay=weight_decay, fused=_fuses(parameters))


def _nesterov(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    """SGD with Nesterov's momentum (Jordan, 94 % on CIFAR-10 in 3.29 Seconds, 2024)."""
    groups = [{"lr": lr, **group} for group in parameters]
    fused = _fuses(p for group in groups for p in group["params"])
    return SGD(groups, lr, NESTEROV_MOMENTUM, 0, weight_decay, nesterov=True, fused=fused)


def _adamw(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    fused = _fuses(parameters)
    return AdamW(parameters, lr, weight_decay=weight_decay, fused=fused, capturable=bool(fused))


def _lars(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    """LARS (You et al., 2017), with the trust coefficient 0.001."""
    return _imported("LARS")(parameters, lr=lr, momentum=MOMENTUM, weight_decay=weight_decay)


def _lamb(parameters: Any, lr: float, weight_decay: float) -> Optimizer:
    """LAMB (You et al., 2020)."""
    return _imported("Lamb")(parameters, lr=lr, weight_decay=weight_decay)


OPTIMIZERS: dict[str, Callable[[Any, float, float], Optimizer]] = {
    "sgd": _sgd,
    "nesterov": _nesterov,
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
    if name == "nesterov":
        biases = {id(p) for p in _norm_biases(model)}
        fast = {"lr": BIAS_FACTOR * lr, "weight_decay": weight_decay / BIAS_FACTOR}
        parameters = [{"params": [p for p in trained if id(p) not in biases]}]
        if biases:
            parameters.append({"params": [p for p in trained if id(p) in biases], **fast})
    if name in LAYERWISE:
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        unscaled = {"adam": True} if name == "lamb" else {}  # the library's LARS knows vectors itself
        parameters = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0, **unscaled}]
    return choose("optimizer", name, OPTIMIZERS)(parameters, lr, weight_decay)


def _norm_biases(model: nn.Module) -> Iterator[nn.Parameter]:
    """The trained biases of a model's normalization layers."""
    for module in model.modules():
        if isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm)):
            bias = getattr(module, "bias", None)
            if bias is not None and bias.requires_grad:
                yield bias


def _fuses(parameters: Iterable[Tensor]) -> bool | None:
    """Whether an update is one kernel: on CUDA; None, PyTorch's default, elsewhere."""
    return all(p.is_cuda for p in parameters) or None


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
