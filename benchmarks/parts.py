"""What each part of the noise budget is for: a run without it, beside one with all and full data.

    python benchmarks/parts.py [--recipe NAME] [--epochs N] [--noise BUDGET] [--held-out SHARE]
                               [--imbalance FACTOR] [--seeds N] [--seed N] [--data-dir DIR]
                               [--device DEVICE] [--out FOLDER] [--json FILE]

Trains full data; the budget with all its parts; and without one of them:

- fewer steps: a pruned epoch has fewer steps of full batches, as by the paper;
- losses for norms: the losses are taken for norms of gradients;
- stale norms: probabilities follow the norms of an epoch ago, which are taken at their word: no
  calibration by fresh norms, and no floor that rises where few samples carry the gradient;
- plain batch norm: what was selected counts equally in the statistics (of a model that has batch norm).

Prints the mean over seeds of the task's metric after the last epoch, of the share saved and of the noise
that was, and the paired differences to full data and to the budget with all its parts. Finished runs in
--out are kept; several of these may be started at once, and share the work.
"""

from __future__ import annotations

from dataclasses import replace

import arms
import numpy as np
from torch import Tensor

from infobatch import NoiseBudget
from infobatch.lab.commands.loading import load
from infobatch.lab.comparison.variants import FULL
from infobatch.lab.config.train import TrainConfig
from infobatch.policies import POLICIES, KeepProbabilities, Request
from infobatch.policies.calibration import Moments, Trained, guessed_moments
from infobatch.policies.options import set_fields
from infobatch.scores import ScoreTable

ALL = "all parts"


class ByLosses(NoiseBudget):
    """The budget with the last two losses in the place of norms."""

    estimates_norms = False  # it goes by losses as they are

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, columns=("recent_losses", "weight", "trained_at"))

    def keep_probabilities(self, scores: ScoreTable, request: Request) -> KeepProbabilities:
        return super().keep_probabilities(_LossesForNorms(scores), request)  # type: ignore[arg-type]


class _LossesForNorms:
    """Scores whose norms are the last two losses."""

    def __init__(self, scores: ScoreTable) -> None:
        self._scores = scores

    def __len__(self) -> int:
        return len(self._scores)

    def __getitem__(self, column: str) -> Tensor:
        if column == "recent_norms":
            return self._scores["recent_losses"][:, -2:].clamp(min=0)
        return self._scores[column]


class ByStaleNorms(NoiseBudget):
    """The budget as the norms of an epoch ago have it."""

    def _moments(
        self, in_bins: np.ndarray, stratum_of: np.ndarray, num_strata: int, trained: Trained | None
    ) -> Moments:
        return guessed_moments(in_bins, stratum_of, num_strata, regress=0.0)

    def _least(self, trained: Trained) -> float:
        return 0.0


OWN_POLICIES: dict[str, type[NoiseBudget]] = {"by-losses": ByLosses, "by-stale-norms": ByStaleNorms}


def configs_of(base: TrainConfig, noise: float) -> dict[str, TrainConfig]:
    """Each way to train, by name."""
    whole = replace(base, policy=f"noise-budget:max_noise={noise:g}", target=None)
    has_batch_norm = base.norm == "batch" and (base.task != "tabular" or base.tabular.batch_norm)
    if has_batch_norm:
        whole = replace(whole, batch_norm="weighted")
    configs = {
        FULL: replace(base, policy="none", target=None),
        ALL: whole,
        "fewer steps": replace(whole, shrink="steps"),
        "losses for norms": replace(whole, policy=f"by-losses:max_noise={noise:g}"),
        "stale norms": replace(whole, policy=f"by-stale-norms:max_noise={noise:g}"),
    }
    if has_batch_norm:
        configs["plain batch norm"] = replace(whole, batch_norm="plain")
    return configs


def main() -> None:
    parser = arms.parser(__doc__, recipe="mnist5k-small-cnn", out="runs/parts")
    parser.add_argument("--noise", type=float, default=1.1, metavar="BUDGET", help="default 1.1")
    parser.add_argument("--held-out", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--imbalance", type=float, default=1.0, metavar="FACTOR")
    options = parser.parse_args()
    POLICIES.update(OWN_POLICIES)
    base = arms.base_of(options, held_out=options.held_out, imbalance=options.imbalance)
    data, configs = load(base), configs_of(base, options.noise)
    arms.measure(configs, data, options)
    asked = ("recipe", "noise", "held_out", "imbalance")
    arms.report(dict.fromkeys(configs, ALL), ALL, options, asked, base)


if __name__ == "__main__":
    main()
