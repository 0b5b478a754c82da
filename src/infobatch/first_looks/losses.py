"""Whether losses are what they are taken for."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from torch import Tensor

from infobatch.first_looks.cross_entropies import trait_behind
from infobatch.first_looks.errors import error_behind
from infobatch.noise import HOW_TO_GIVE_NORMS, NormsFrom, are_negative
from infobatch.policies import Policy
from infobatch.scores.columns import ERRORS, NORMS, IndexArray
from infobatch.scores.table import ScoreTable
from infobatch.user_warnings import warn_user

OF_ERRORS = ', or say DynamicPruner(..., norms_from="squared-error"), or "losses" for other errors'


class Losses:
    """Looks at the losses of the first batch, and at all when a pruned epoch begins.

    Args:
        policy: It may take losses as sizes, or estimate norms of gradients from them.
        norms_from: What they are said to be.
    """

    def __init__(self, policy: Policy, norms_from: NormsFrom) -> None:
        self._policy = policy
        self._norms_from = norms_from
        self._table: ScoreTable | None = None
        self._awaits_batch = True
        self._looks_at_signs = policy.takes_sizes

    def begin(self, scores: ScoreTable, prunes: bool) -> None:
        """Warn of losses that have become negative, if the epoch that begins prunes by their sizes."""
        self._table = scores
        if not (prunes and self._looks_at_signs):
            return
        losses = scores["last_loss"].numpy()
        norms = scores.last_norms if self._policy.estimates_norms else None
        if norms is not None:
            losses = losses[norms.numpy() == 0]  # that were told from losses
        if len(losses) and are_negative(losses):
            self._looks_at_signs = False
            warn_user(
                f"losses have become negative, down to {np.nanmin(losses):.4g}, and {self._policy!r} "
                "takes them as sizes, of which a negative one counts as 0, so that samples may be left "
                f"out that matter; {self._remedy}"
            )

    def at_batch(
        self,
        losses: Tensor,
        scores: Tensor,
        indices: IndexArray,
        scored: Tensor | None,
        given: Collection[str],
    ) -> None:
        """Look at the first batch.

        What hides norms, where they are estimated as of plain cross-entropies, is noted, and warned of
        if the policy goes by such norms. Negative losses are refused if it takes losses as sizes.

        Args:
            losses: (B,).
            scores: What is remembered of the samples, their losses or what stands for them, (B,).
            indices: (B,).
            scored: Which of them have a score, bool (B,); None if all have.
            given: The names of the signals that came with them.

        Raises:
            ValueError: For a negative loss that is taken as a size.
        """
        if not self._awaits_batch or not len(indices):
            return
        if NORMS in given and self._table is not None and self._table.last_norms is not None:
            self._table.made_of = None
        elif self._norms_from == "cross-entropy":
            self._look_for_what_hides_norms(losses)
        if self._policy.estimates_norms and NORMS in given:
            self._awaits_batch = self._looks_at_signs = False
            return
        if self._policy.takes_sizes:  # others need not wait for the device
            known = scores.detach() if scored is None else scores.detach().masked_fill(~scored, 0)
            self._check_signs(known.float().cpu().numpy(), indices)
        self._awaits_batch = False

    def _look_for_what_hides_norms(self, losses: Tensor) -> None:
        """Note what losses look like that are no plain cross-entropies, and warn of it."""
        error, trait = error_behind(losses), trait_behind(losses)
        if error is None and trait is None:
            return
        made_of = f"{ERRORS} (of {error})" if trait is None else f"cross-entropies with {trait}"
        if self._table is not None:
            self._table.made_of = made_of
        if self._policy.estimates_norms:
            warn_user(
                f"the losses look like {made_of}, and {self._policy!r} estimates norms of gradients "
                "from them as if they were plain cross-entropies, so that what is left out is not what "
                f"it asks for; {HOW_TO_GIVE_NORMS}{OF_ERRORS if trait is None else ''}"
            )

    def _check_signs(self, values: np.ndarray, indices: IndexArray) -> None:
        """Raise ``ValueError`` if one of the ``values`` (B,) is negative."""
        if not are_negative(values):
            return
        at = int(np.nanargmin(values))
        sample = max(indices[at], ~indices[at])  # of which it may be a repeat
        raise ValueError(
            f"the loss of sample {sample} is {values[at]:.4g}, and {self._policy!r} takes "
            f"losses as sizes, for which they must be at least 0; {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        norms = "gradient_norms=... or " if self._policy.estimates_norms else ""
        return (
            f"give update {norms}scores=... that are at least 0, or take a policy that goes by the "
            "order of losses alone, such as InfoBatch()"
        )
