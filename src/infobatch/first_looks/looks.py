"""All that a run looks at once."""

from __future__ import annotations

from infobatch.first_looks.backward import Backward
from infobatch.first_looks.batch_norm import BatchNorm
from infobatch.first_looks.losses import Losses
from infobatch.noise import NormsFrom
from infobatch.policies import Policy
from infobatch.scores.table import ScoreTable
from infobatch.user_warnings import warn_user


class FirstLooks:
    """Looks at the first batch and at the first scores that tell; each fault is told once.

    Args:
        policy: What the run leaves out, by which it is decided what there is to look for.
        norms_from: What losses are, where norms are estimated from them.

    Attributes:
        losses: Whether losses are what they are taken for.
        backward: Whether the losses that the loop was given are differentiated.
        batch_norm: Whether converted batch norm has the weights of its batch.
    """

    def __init__(self, policy: Policy, norms_from: NormsFrom) -> None:
        self.losses = Losses(policy, norms_from)
        self.backward = Backward()
        self.batch_norm = BatchNorm()
        self._num_nonfinite = 0

    def begin(self, scores: ScoreTable, prunes: bool) -> None:
        """Take in the scores with which an epoch begins or is gone on with, and whether it prunes."""
        self._num_nonfinite = scores.num_nonfinite
        self.losses.begin(scores, prunes)
        self.batch_norm.begin(prunes)

    def end(self, epoch: int, num_recorded: int, num_nonfinite: int) -> None:
        """Warn of an epoch whose losses were not differentiated, or not finite.

        Args:
            epoch: The number of the epoch that ends.
            num_recorded: The samples that this rank recorded since it began or was gone on with.
            num_nonfinite: The losses and signals of the run, so far, that were NaN or infinite.
        """
        self.backward.end(epoch)
        if 0 < num_recorded <= num_nonfinite - self._num_nonfinite:
            warn_user(
                f"all losses of epoch {epoch} were NaN or infinite: training has diverged, and what is "
                "left out is still decided by the losses from before"
            )
