"""Whether the losses that a loop was given are differentiated."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from infobatch.user_warnings import warn_user

_NO_GRADIENTS = (
    ", and none can be, for update() was given losses without a gradient (detach(), torch.no_grad()), "
    "while an optimizer made updates"
)


class Backward:
    """Looks at the losses that a loop was given, until one has been differentiated."""

    def __init__(self) -> None:
        self._num_returned = 0
        self._waits = True
        self._have_gradients = False  # the losses that were returned, some of them
        self._updates_before: int | None = None  # when the first came that has none

    def at_returned(self, loss: Tensor) -> None:
        """Note a loss that the loop is given.

        Where none can be differentiated, updates of optimizers tell that something is trained.
        """
        if not self._waits:
            return
        self._num_returned += 1
        if loss.requires_grad:
            self._have_gradients = True
            loss.register_hook(self._see_backward)  # type: ignore[no-untyped-call]
        elif self._updates_before is None:
            self._updates_before = _updates()[0]

    def end(self, epoch: int) -> None:
        """Warn if something was trained by the end of an epoch, and no loss was differentiated."""
        if self._waits and (self._have_gradients or self._has_updates):
            self._waits = False
            why = "" if self._have_gradients else _NO_GRADIENTS
            warn_user(
                f"none of the {self._num_returned:,} losses that update() returned by the end of epoch "
                f"{epoch} was differentiated{why}: call backward() on what it returns, for a mean of "
                "losses lacks their weights, which makes pruned epochs biased; a loop that weighs them "
                "itself takes record() in place of update()"
            )

    def _see_backward(self, gradient: Tensor) -> None:
        self._waits = False

    @property
    def _has_updates(self) -> bool:
        """Whether something was trained since a loss was returned that has no gradient."""
        return self._updates_before is not None and _updates()[0] > self._updates_before


@cache
def _updates() -> list[int]:
    """How many updates by gradients this process made since this was called first, in a list."""
    number = [0]

    def count(optimizer: Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        number[0] += any(each.grad is not None for group in groups for each in group["params"])

    register_optimizer_step_post_hook(count)
    return number
