"""A classifier that a function of the user's makes, and the check of what it gives."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from infobatch.lab.functions import call_with, load_function, reason_of
from infobatch.lab.models.libraries import Logits
from infobatch.lab.models.masked import Shape

TRIED = 3
"""The images of the batch that a model is tried on."""


def make_own(name: str, shape: Shape, num_classes: int) -> nn.Module:
    """Call the function that makes a model.

    Args:
        name: The function, as ``FILE.py:NAME`` or ``MODULE:NAME``. Of ``num_classes``, ``num_channels``
            and ``image_size`` it is given what it names, and ``num_classes`` also if it takes any.
        shape: Channels, height and width of the images.
        num_classes: The number of logits.

    Returns:
        The model; one of transformers gives its logits alone.

    Raises:
        ValueError: If there is no such function, it fails, or returns no module.
    """
    offered = {
        "num_classes": num_classes,
        "num_channels": shape[0],
        "image_size": shape[1] if shape[1] == shape[2] else shape[1:],
    }
    model = call_with(load_function(name), name, offered, always="num_classes")
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} returns {_described(model)}; return a torch.nn.Module")
    transformers = sys.modules.get("transformers")
    if transformers is not None and isinstance(model, transformers.PreTrainedModel):
        return Logits(model)
    return model


def check_gives_logits(
    model: nn.Module, name: str, shape: Shape, num_classes: int, device: torch.device
) -> None:
    """Try a model on a batch, as it is in training and in evaluation.

    Args:
        model: The model.
        name: Its name, for the errors.
        shape: Channels, height and width of the images.
        num_classes: The number of logits wanted.
        device: Where it is going to be trained.

    Raises:
        ValueError: If it fails, does not give logits (B, num_classes), or has nothing to train.
    """
    if not any(each.requires_grad for each in model.parameters()):
        raise ValueError(f"--model is {name}, and it has no parameters to train; give one that has")
    model = model.to(device)
    for training in (True, False):
        images = torch.randn(TRIED, *shape, device=device)
        try:
            with torch.no_grad():
                logits = model.train(training)(images)
        except Exception as error:
            raise ValueError(
                f"--model is {name}, which fails on a batch of images of {tuple(images.shape)}: "
                f"{reason_of(error)}"
            ) from error
        wanted = (TRIED, num_classes)
        if not isinstance(logits, Tensor) or logits.shape != wanted or not logits.is_floating_point():
            mode = "training" if training else "evaluation"
            raise ValueError(
                f"--model is {name}, which gives in {mode} {_described(logits)} for {TRIED} images of "
                f"{num_classes} classes; return logits, a float tensor of {wanted}"
            )


def _described(value: object) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return "None" if value is None else f"a value of type {type(value).__name__}"
