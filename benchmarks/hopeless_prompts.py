"""What share of its prompts an epoch of GRPO asks, by the last spread of their rewards or by means.

    python benchmarks/hopeless_prompts.py [--prompts N] [--hopeless SHARE] [--noise R] [--epochs E]

There is no model. A prompt is answered rightly with a probability of its own, uniform on (0, 1), or 0 if
it is hopeless, which stays as it is, and an epoch asks it for eight completions.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.utils.data import TensorDataset

from infobatch import DynamicPruner, NoiseBudget

NUM_COMPLETIONS = 8


def shares(by: str, seed: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Of each epoch the share of all prompts that it asks, and of the hopeless ones."""
    generator = np.random.default_rng(seed)
    success = generator.uniform(size=options.prompts)
    is_hopeless = np.arange(options.prompts) < options.hopeless * options.prompts
    success[is_hopeless] = 0
    policy = NoiseBudget(max_noise=options.noise, by=by)
    prompts = TensorDataset(torch.zeros(options.prompts))
    pruner = DynamicPruner(prompts, options.epochs, policy=policy, norms_from="losses", seed=seed)
    found = []
    for _ in pruner.epochs():
        asked = pruner.selection.indices.numpy()
        rate = generator.binomial(NUM_COMPLETIONS, success[asked]) / NUM_COMPLETIONS
        spreads = torch.from_numpy(np.sqrt(rate * (1 - rate))).float()
        pruner.record(spreads, asked, gradient_norms=spreads)
        num_hopeless = np.count_nonzero(is_hopeless[asked])
        found.append((len(asked) / options.prompts, num_hopeless / max(1, is_hopeless.sum())))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--hopeless", type=float, default=0.6)
    parser.add_argument("--noise", type=float, default=1.2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print("epoch".ljust(30) + "".join(f"{epoch:6}" for epoch in range(options.epochs)))
    for by in ("gradient_norm", "smoothed_norm"):
        runs = np.mean([shares(by, seed, options) for seed in range(options.seeds)], axis=0)
        for what, values in zip(("of all", "of hopeless"), runs.T, strict=True):
            print(f"{by}, {what}".ljust(30) + "".join(f"{value:6.2f}" for value in values))


if __name__ == "__main__":
    main()
