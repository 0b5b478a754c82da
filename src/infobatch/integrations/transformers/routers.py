"""The loss that the routers of a mixture of experts have, and what it counts in the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from torch import Tensor

NAMES = ("router_aux_loss_coef", "aux_loss_coef")
"""What models call the number that this loss is multiplied by."""


def routers_loss_of(outputs: Any) -> Tensor | None:
    """The loss of the routers of a mixture of experts, None for other models."""
    return outputs.get("aux_loss") if isinstance(outputs, Mapping) else None


def router_coefficient(model: Any) -> float:
    """What the loss of a model's routers is multiplied by in its own loss.

    A model may have it itself, or its config, or that of its language model where it sees images, too.

    Raises:
        ValueError: If it has none of the usual names.
    """
    config = getattr(model, "config", None)
    text_config = getattr(config, "get_text_config", lambda: None)()
    for holder, name in product((model, config, text_config), NAMES):
        if getattr(holder, name, None) is not None:
            return float(getattr(holder, name))
    raise ValueError(
        f"{type(model).__name__} gives a loss of its routers (aux_loss), and neither it nor its config "
        f"says as {' or '.join(NAMES)} what that is multiplied by in its own loss; set "
        f"model.config.{NAMES[0]} to that number"
    )
