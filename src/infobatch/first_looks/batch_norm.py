"""Whether batch norm that counts weights is given those of its batch."""

from __future__ import annotations

from torch import Tensor

from infobatch.batch_norm import warn_if_unweighted
from infobatch.scores.columns import FloatArray


class BatchNorm:
    """Looks at the first batch of unequal weights that a pruned epoch has."""

    def __init__(self) -> None:
        self._awaits_batch = True
        self._prunes = False

    def begin(self, prunes: bool) -> None:
        """Take in whether the epoch that begins, or is gone on with, prunes."""
        self._prunes = prunes

    def at_weights(self, losses: Tensor, weights: FloatArray) -> None:
        """Warn if converted batch norm is behind the ``losses`` (B,), and had no ``weights`` (B,)."""
        if not (self._awaits_batch and self._prunes):
            return
        real = weights[weights > 0]
        if len(real) and real.min() < real.max():
            self._awaits_batch = False
            warn_if_unweighted(losses)
