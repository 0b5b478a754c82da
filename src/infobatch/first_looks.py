"""What a run looks at once, for to look waits for the device, or follows a whole graph."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from infobatch.autograd_graph import nodes_behind
from infobatch.batch_norm import warn_if_unweighted
from infobatch.noise import NormsFrom, are_negative
from infobatch.policies import Policy
from infobatch.scores.columns import NORMS, FloatArray, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.user_warnings import warn_user

ERRORS = ("MseLoss", "SmoothL1Loss", "HuberLoss", "Pow", "Abs", "LinalgVectorNorm", "Norm", "Cdist")
"""How the names of autograd nodes begin that losses of errors are made of, beside products of a
difference with itself."""
PASSING_ON = (
    *("Mean", "Sum", "Div", "Mul", "Add", "Sqrt", "ToCopy", "Clone", "Where", "MaskedFill", "View"),
    *("UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Permute", "Select"),
    *("Slice", "Index", "Cat", "Stack"),
)
"""And those of nodes between them and what a sample's loss is: means, factors, other shapes."""


_NO_GRADIENTS = (
    ", and none can be, for update() was given losses without a gradient (detach(), torch.no_grad()), "
    "while an optimizer made updates"
)


class FirstLooks:
    """Looks at the first batch and at the first scores that tell; each fault is told once.

    Args:
        policy: What the run leaves out, by which it is decided what there is to look for.
        norms_from: What losses are, where norms are estimated from them.
    """

    def __init__(self, policy: Policy, norms_from: NormsFrom) -> None:
        self._policy = policy
        self._norms_from = norms_from
        self._table: ScoreTable | None = None
        self._first_losses = True
        self._scores = policy.takes_sizes
        self._batch_norm = True
        self._prunes = False
        self._num_nonfinite = 0
        self._num_returned = 0
        self._awaits_backward = True
        self._have_gradients = False  # the losses that were returned, some of them
        self._updates_before: int | None = None  # when the first came that has none

    def begin(self, scores: ScoreTable, prunes: bool) -> None:
        """Look at the scores with which an epoch begins or is gone on with."""
        self._table, self._prunes = scores, prunes
        self._num_nonfinite = scores.num_nonfinite
        if prunes and self._scores:
            self._look_at_scores(scores)

    def at_losses(
        self,
        losses: Tensor,
        scores: Tensor,
        indices: IndexArray,
        scored: Tensor | None,
        given: Collection[str],
    ) -> None:
        """Look at the first batch.

        Losses of errors, where norms are estimated as of cross-entropies, are noted, and warned of if
        the policy goes by such norms. Negative ones are refused if it takes losses as sizes.

        Args:
            losses: (B,).
            scores: What is remembered of the samples, their losses or what stands for them, (B,).
            indices: (B,).
            scored: Which of them have a score, bool (B,); None if all have.
            given: The names of the signals that came with them.
        """
        if not self._first_losses or not len(indices):
            return
        if self._policy.estimates_norms and NORMS in given:
            self._first_losses = self._scores = False
            return
        if self._norms_from == "cross-entropy":
            self._look_for_errors(losses)
        if not self._policy.takes_sizes:  # so that nothing waits for the device
            self._first_losses = False
            return
        known = scores.detach() if scored is None else scores.detach().masked_fill(~scored, 0)
        values = known.float().cpu().numpy()
        if are_negative(values):
            at = int(np.nanargmin(values))
            sample = max(indices[at], ~indices[at])  # of which it may be a repeat
            raise ValueError(
                f"the loss of sample {sample} is {values[at]:.4g}, and {self._policy!r} takes "
                f"losses as sizes, for which they must be at least 0; {self._remedy}"
            )
        self._first_losses = False

    def _look_for_errors(self, losses: Tensor) -> None:
        """Note, and warn of, losses that are made of errors, as far as their graph tells."""
        made_of = [node for node in nodes_behind(losses, _passes_on) if not _passes_on(node)]
        if not made_of or not all(_is_error(node) for node in made_of):
            return
        kind = _kind(made_of[0])
        if self._table is not None:
            self._table.made_of = kind
        if self._policy.estimates_norms:
            warn_user(
                f"the losses look like errors ({kind} made them), and {self._policy!r} "
                "estimates norms of gradients from them as if they were cross-entropies, so that the "
                'wrong samples are left out; DynamicPruner(..., norms_from="squared-error") is for '
                'squared errors, "losses" for others, and update(..., gradient_norms=...) for norms of '
                "your own"
            )

    def at_returned(self, loss: Tensor) -> None:
        """Note whether a loss that the loop was given is differentiated, until one has been.

        Where none can be, it is updates of optimizers that tell that something is trained.
        """
        if not self._awaits_backward:
            return
        self._num_returned += 1
        if loss.requires_grad:
            self._have_gradients = True
            loss.register_hook(self._see_backward)  # type: ignore[no-untyped-call]
        elif self._updates_before is None:
            self._updates_before = _updates()[0]

    def _see_backward(self, gradient: Tensor) -> None:
        self._awaits_backward = False

    def end(self, epoch: int, num_recorded: int, num_nonfinite: int) -> None:
        """Warn of an epoch whose losses were not differentiated, or not finite.

        Args:
            epoch: The number of the epoch that ends.
            num_recorded: The samples that this rank recorded since it began or was gone on with.
            num_nonfinite: The losses and signals of the run, so far, that were NaN or infinite.
        """
        if self._awaits_backward and (self._have_gradients or self._has_updates):
            self._awaits_backward = False
            why = "" if self._have_gradients else _NO_GRADIENTS
            warn_user(
                f"none of the {self._num_returned:,} losses that update() returned by the end of epoch "
                f"{epoch} was differentiated{why}: call backward() on what it returns, for a mean of "
                "losses lacks their weights, which makes pruned epochs biased; a loop that weighs them "
                "itself takes record() in place of update()"
            )
        if 0 < num_recorded <= num_nonfinite - self._num_nonfinite:
            warn_user(
                f"all losses of epoch {epoch} were NaN or infinite: training has diverged, and what is "
                "left out is still decided by the losses from before"
            )

    @property
    def _has_updates(self) -> bool:
        """Whether something was trained since a loss was returned that has no gradient."""
        return self._updates_before is not None and _updates()[0] > self._updates_before

    def _look_at_scores(self, scores: ScoreTable) -> None:
        """Warn of losses that have become negative."""
        losses = scores["last_loss"].numpy()
        norms = scores.last_norms if self._policy.estimates_norms else None
        if norms is not None:
            losses = losses[norms.numpy() == 0]  # that were told from losses
        if len(losses) and are_negative(losses):
            self._scores = False
            warn_user(
                f"losses have become negative, down to {np.nanmin(losses):.4g}, and {self._policy!r} "
                "takes them as sizes, of which a negative one counts as 0, so that samples may be left "
                f"out that matter; {self._remedy}"
            )

    def at_weights(self, losses: Tensor, weights: FloatArray) -> None:
        """Look at the first batch of unequal weights: converted batch norm should have had them."""
        if not (self._batch_norm and self._prunes):
            return
        real = weights[weights > 0]
        if len(real) and real.min() < real.max():
            self._batch_norm = False
            warn_if_unweighted(losses)

    @property
    def _remedy(self) -> str:
        norms = "gradient_norms=... or " if self._policy.estimates_norms else ""
        return (
            f"give update {norms}scores=... that are at least 0, or take a policy that goes by the "
            "order of losses alone, such as InfoBatch()"
        )


@cache
def _updates() -> list[int]:
    """How many updates by gradients this process made since this was called first, in a list."""
    number = [0]

    def count(optimizer: Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        number[0] += any(each.grad is not None for group in groups for each in group["params"])

    register_optimizer_step_post_hook(count)
    return number


def _kind(node: Any) -> str:
    """What an autograd node does."""
    return type(node).__name__.partition("Backward")[0]


def _is_error(node: Any) -> bool:
    """Whether a node makes errors, or sizes of them."""
    return _kind(node).startswith(ERRORS) or _is_square(node)


def _is_square(node: Any) -> bool:
    """Whether a node multiplies a difference with itself, or with one of the same."""
    factors = [factor for factor, _ in node.next_functions if factor is not None]
    if _kind(node) != "Mul" or [_kind(factor) for factor in factors] != ["Sub", "Sub"]:
        return False
    one, other = factors
    return bool(one.next_functions == other.next_functions)


def _passes_on(node: Any) -> bool:
    """Whether a node makes a sample's loss of what is behind it without telling what that is."""
    return _kind(node) in PASSING_ON and not _is_square(node)
