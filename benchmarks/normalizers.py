"""What the choices of rescaling are worth with each optimizer: accuracy at one cost.

    python benchmarks/normalizers.py [--recipe NAME] [--epochs N] [--save PERCENT] [--policy POLICY]
                                     [--optimizers sgd,adamw,...] [--held-out SHARE] [--seeds N]
                                     [--seed N] [--data-dir DIR] [--device DEVICE] [--out FOLDER]
                                     [--json FILE]

For each optimizer, at a peak learning rate of its own, full data and the pruned run with every choice:
weights as they are (batch), divided by their mean (mean) or by the batch's (weights); with "mean" the
learning rate of pruned epochs as it was (none), or raised by N/|S| (linear) or its root (sqrt). Prints
the mean of the last epoch's accuracy over seeds and of the paired difference to full data. All runs
finish on full data, as the paper's do. Finished runs in --out are kept; several of these may be started
at once, and share the work.
"""

from __future__ import annotations

from dataclasses import replace

import arms

from infobatch.lab.commands.loading import load
from infobatch.lab.comparison.variants import FULL
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.report.paired import Difference
from infobatch.policies import DEFAULT_FOR_TARGET

PEAK = {"sgd": (0.4, 5e-4), "adamw": (0.02, 0.05), "lars": (10.4, 5e-4), "lamb": (0.02, 0.01)}
"""Peak learning rate and weight decay. The rates are the best of those tried, twice apart, for full data
on cifar10-5k-resnet8 (``--held-out 0.2 --epochs 30``; SGD's is the recipe's): where a rate is too low,
raising it is a gain that has nothing to do with pruning.
"""

CHOICES = [
    ("batch", "none"),
    ("mean", "none"),
    ("mean", "sqrt"),
    ("mean", "linear"),
    ("weights", "none"),
]


def configs_of(base: TrainConfig, optimizer: str) -> dict[str, TrainConfig]:
    """Full data, and each choice, by name."""
    rate, decay = PEAK[optimizer]
    pruned = replace(base, optimizer=optimizer, lr=rate, weight_decay=decay)
    choices = {
        f"{normalizer}, rate {scaling}": replace(pruned, normalizer=normalizer, lr_scaling=scaling)
        for normalizer, scaling in CHOICES
    }
    return {FULL: replace(pruned, policy="none", target=None), **choices}


def main() -> None:
    parser = arms.parser(__doc__, recipe="cifar10-5k-resnet8", out="runs/normalizers")
    parser.add_argument("--save", type=float, default=35, help="percent left out (default 35)")
    parser.add_argument("--policy", default=DEFAULT_FOR_TARGET)
    parser.add_argument("--optimizers", default=",".join(PEAK))
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="evaluate on this share of the training data, which is then not trained on",
    )
    options = parser.parse_args()
    optimizers = options.optimizers.split(",")
    unknown = [name for name in optimizers if name not in PEAK]
    if unknown:
        parser.error(f"--optimizers has {unknown[0]!r}; there are {', '.join(PEAK)}")
    pruned = {"policy": options.policy, "target": options.save / 100, "delta": 0.875}
    base = arms.base_of(options, held_out=options.held_out, **pruned)
    configs = {
        (optimizer, choice): config
        for optimizer in optimizers
        for choice, config in configs_of(base, optimizer).items()
    }
    arms.measure({"/".join(names): config for names, config in configs.items()}, load(base), options)
    rows = []
    for optimizer, choice in configs:
        arm, full = (arms.finished(f"{optimizer}/{name}", options) for name in (choice, FULL))
        if not arm.runs:
            continue
        to_full = "" if choice == FULL else str(Difference.of(arm.runs, full.runs) or "")
        line = f"{optimizer:6} {choice:22} {arm.result:6.2f} ± {arm.deviation:.2f}  {to_full}"
        print(line, flush=True)
        row = {"optimizer": optimizer, "choice": choice, "accuracy": arm.results}
        rows.append({**row, "against_full": to_full})
    arms.write(options, ("recipe", "policy", "save", "held_out"), base, results=rows)


if __name__ == "__main__":
    main()
