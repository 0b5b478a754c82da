"""Four forms of policies at one cost: steps or batches shrink, batch norm counts weights or not.

    python benchmarks/forms.py [--recipe NAME] [--epochs N] [--save PERCENT] [--policies A,B,...]
                               [--delta D] [--only TEXT] [--no-controls] [--seeds N] [--seed N]
                               [--data-dir DIR] [--device DEVICE] [--out FOLDER] [--json FILE]

Does counting each sample with its weight in batch norm undo what choosing by loss costs? Is the same
selection better where the steps are kept and the batches shrink? Trains full data and each policy in its
four forms; prints the mean over seeds of the last epoch's metric, and the paired differences to full
data and to the policy's first form, which is the paper's. Random pruning, fewer epochs, at the same rate
and at one that is higher by as much as steps are fewer, and fewer epochs in the same steps are what all
have to beat. --delta sets how much of a run is pruned, 1 for all of it, and is in the names then; --only
limits the forms to those that have TEXT in their names. --no-controls trains neither full data nor fewer
epochs, where another file has them: paired_table.py takes both files. Finished runs in --out are kept;
several of these may be started at once, and share the work.
"""

from __future__ import annotations

from dataclasses import replace

import arms

from infobatch.lab.commands.loading import load
from infobatch.lab.comparison.contest import contestants
from infobatch.lab.comparison.variants import FULL
from infobatch.lab.config.shrinking import smaller_batch
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import Data

FEWER, FEWER_SCALED = "fewer epochs", "fewer epochs, higher rate"
SAME_STEPS = "fewer epochs, same steps"
CONTROLS = (FULL, FEWER, FEWER_SCALED, SAME_STEPS)
FORMS = [("steps", "plain"), ("steps", "weighted"), ("batches", "plain"), ("batches", "weighted")]


def configs_of(
    base: TrainConfig, policies: list[str], share: float, data: Data, ending: str = "", only: str = ""
) -> dict[str, tuple[TrainConfig, str]]:
    """Each way to train, by name, with the name of the one that it is compared with beside full data."""
    plain = replace(base, policy="none", target=None)
    epochs = round((1 - share) * base.epochs, 9)
    size, _ = smaller_batch(base, epochs, 1, len(data.train))
    configs = {
        FULL: (plain, FULL),
        FEWER: (replace(plain, epochs=epochs), FULL),
        FEWER_SCALED: (replace(plain, epochs=epochs, lr=base.lr * base.epochs / epochs), FULL),
        SAME_STEPS: (replace(plain, epochs=epochs, batch_size=size), FULL),
    }
    variants, reasons = contestants(base, policies, [share], len(data.train), data.train_labels, None)
    for reason in reasons:
        print(reason)
    for variant in variants:
        first = ""
        for shrink, batch_norm in FORMS:
            if variant.policy == "random" and batch_norm == "weighted":
                continue  # all of its weights are equal
            config = replace(variant.config(base), shrink=shrink, batch_norm=batch_norm)
            name = f"{variant.policy}, {shrink}, {batch_norm}{ending}"
            if only in name:
                first = first or name
                configs[name] = config, first
    return configs


def main() -> None:
    parser = arms.parser(__doc__, recipe="mnist5k-small-cnn", out="runs/forms")
    parser.add_argument("--save", type=float, default=50, help="percent left out (default 50)")
    parser.add_argument("--policies", default="infobatch,neyman,random")
    parser.add_argument("--delta", type=float, help="by default that of a target, 1")
    parser.add_argument("--only", default="", metavar="TEXT", help="forms that have it in their names")
    parser.add_argument("--no-controls", action="store_true", help="train forms of policies alone")
    options = parser.parse_args()
    base = arms.base_of(options, delta=options.delta)
    ending = "" if options.delta is None else f", delta {options.delta:g}"
    data, policies = load(base), options.policies.split(",")
    configs = configs_of(base, policies, options.save / 100, data, ending, options.only)
    left_out = CONTROLS if options.no_controls else ()
    trained = {name: config for name, (config, _) in configs.items() if name not in left_out}
    arms.measure(trained, data, options)
    others = {name: other for name, (_, other) in configs.items()}
    asked = ("recipe", "save", "policies", "delta", "only")
    arms.report(others, "the policy's first form", options, asked, base)


if __name__ == "__main__":
    main()
