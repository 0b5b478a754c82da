"""Whether a selection stays unbiased while losses move with the visits that it makes.

    python benchmarks/moving_losses.py [--policies infobatch,neyman,...] [--save PERCENT] [--samples N]
                                       [--epochs N] [--runs N] [--json FILE]

No network: a sample's loss falls by a tenth each time that it is trained, and grows by a share of
itself for each epoch that it is left out, in one half of the runs 0 %, in the other 20 %. What a policy
is told has noise on it. For each pruned epoch the weighted sum of the true losses over what is kept is
divided by the sum over all samples: 1 where the selection is unbiased given everything before. The
weights of samples that were trained in the epoch before are told apart from those of the others: both
are 1 on average where a visit says nothing of the next one. Prints means over epochs and runs, and 95 %
intervals over runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from infobatch import DynamicPruner
from infobatch.lab.config.policy_spec import parse_policy
from infobatch.lab.report.arms import half_interval
from infobatch.lab.runs.environment import describe_environment

FALL = 0.1
NOISE = 0.3


@dataclass(frozen=True)
class Row:
    """``half_width``: of the interval of ``ratio``. ``just_trained``, ``others``: mean weights."""

    policy: str
    growth: float
    ratio: float
    half_width: float
    just_trained: float
    others: float


def course(
    policy: str, save: float, growth: float, num_samples: int, num_epochs: int, seed: int
) -> Tensor:
    """Ratio, weights of those just trained and of the others: means over one run's epochs, (3,)."""
    first = torch.randn(num_samples, generator=torch.Generator().manual_seed(0)).exp()
    drawn = torch.Generator().manual_seed(seed)
    pruner = DynamicPruner(
        range(num_samples), num_epochs, policy=parse_policy(policy), target=save, delta=1.0, seed=seed
    )
    loader = pruner.loader(batch_size=num_samples, collate_fn=torch.tensor)
    visits, waited = torch.zeros(num_samples), torch.zeros(num_samples)
    rows = []
    for epoch in pruner.epochs():
        weights = pruner.selection.weights.float()
        losses = first * (1 - FALL) ** visits * (1 + growth * waited)
        if 1 < epoch < num_epochs - 1:  # pruned, after a pruned one
            recent = waited == 0
            ratio = (weights * losses).sum() / losses.sum()
            rows.append(torch.stack([ratio, weights[recent].mean(), weights[~recent].mean()]))
        for indices, batch in loader:
            told = losses[batch] * (NOISE * torch.randn(len(batch), generator=drawn)).exp()
            pruner.update(told, indices)
        waited = torch.where(weights > 0, 0.0, waited + 1)
        visits += weights > 0
    return torch.stack(rows).mean(0)


def rows_of(
    policies: Sequence[str], save: float, num_samples: int, num_epochs: int, num_runs: int
) -> list[Row]:
    found = []
    for policy in policies:
        for growth in (0.0, 0.2):
            runs = torch.stack(
                [course(policy, save, growth, num_samples, num_epochs, s) for s in range(num_runs)]
            ).double()
            half_width = half_interval(runs[:, 0].tolist())
            ratio, recent, others = runs.mean(0).tolist()
            found.append(Row(policy, growth, ratio, half_width, recent, others))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", default="random,infobatch,neyman,spaced,spaced:policy=random,rs2")
    parser.add_argument("--save", type=float, default=35, help="percent left out (default 35)")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--runs", type=int, default=50, help="of each, with other seeds (default 50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    if options.runs < 2:
        parser.error(f"--runs is {options.runs}; it must be at least 2, for the interval")
    policies = options.policies.split(",")
    sizes = (options.samples, options.epochs, options.runs)
    rows = rows_of(policies, options.save / 100, *sizes)
    print(
        f"{'policy':24} {'growth':>6} {'sum ÷ true sum':>20} {'weight, just trained':>22} {'others':>8}"
    )
    for row in rows:
        ratio = f"{row.ratio:.4f} ± {row.half_width:.4f}"
        print(
            f"{row.policy:24} {row.growth:6.0%} {ratio:>20} {row.just_trained:22.3f} {row.others:8.3f}"
        )
    if options.json:
        found = {"save": options.save, "samples": options.samples, "epochs": options.epochs}
        found |= {"runs": options.runs, "environment": describe_environment(torch.device("cpu"))}
        found |= {"results": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
