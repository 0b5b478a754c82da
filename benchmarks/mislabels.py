"""How well one run's signals find flipped labels, beside cleanlab's by the same run and by folds.

    python benchmarks/mislabels.py --out FOLDER [--data fashion-mnist,cifar10] [--data-dir DIR]
                                   [--rates 0.1,0.2] [--kinds uniform,neighbour] [--seeds 0,1,2]
                                   [--samples N] [--epochs N] [--folds K] [--device DEVICE] [--json FILE]

A share of the labels is flipped: to any other class (uniform), or to the class that follows (neighbour).
A small network is trained on them as usual, and each signal ranks the samples by how suspicious they
are; so it is in a run that prunes, by a budget of noise and by InfoBatch. Beside them stand cleanlab's
label quality scores and find_label_issues, by the probabilities of the same ordinary run on the samples
that it trained (held in), and by those of K runs on K - 1 of K folds (held out), which cost K - 1 runs
more. AUROC: of a flipped and a right label, how often the flipped one is the more suspicious. Precision:
the share of flipped ones among as many of the most suspicious as were flipped.

A cell is one data set, kind, rate and seed. Its results are written when it is done, into a file of its
own in --out, and cells that are there are not done again: the same command goes on where it stopped, and
when all are there prints the table (--report prints what there is, and trains nothing).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from infobatch import (
    DynamicPruner,
    InfoBatch,
    NoiseBudget,
    NoPruning,
    batch_weights,
    classification_gradient_norms,
    classification_margins,
    read_dynamics,
    weigh_batch_norm,
)
from infobatch.lab.data import load_data
from infobatch.lab.devices import resolve_device
from infobatch.lab.models.small_cnn import small_cnn
from infobatch.lab.runs.environment import describe_environment
from infobatch.policies import Policy

POLICIES = {"none": NoPruning(), "noise budget 1.1": NoiseBudget(1.1), "infobatch": InfoBatch()}
AGAIN = "none, another seed"
"""An ordinary run with another order and other weights: what differs from it anyway."""

LOW_IS_SUSPICIOUS = ("confidence", "correctness", "aum", "times_left_out")
ASKED = ("samples", "epochs", "folds")
"""The options that all cells in a folder share."""
BATCH, RATE, DECAY = 128, 0.2, 5e-4


@dataclass(frozen=True)
class Cell:
    """What one file holds the results of."""

    data: str
    kind: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.kind}-{self.rate:g}-seed{self.seed}"


class Batches:
    """Images and labels, which are given as whole batches."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


def images_of(name: str, data_dir: Path | None, num_samples: int) -> tuple[Tensor, Tensor, int]:
    """The first training samples of a set, normalized, their labels and the number of classes."""
    data = load_data(name, data_dir)
    part = slice(num_samples or None)
    pixels = data.train.pixels[part].float() / 255
    mean = pixels.mean((0, 2, 3), keepdim=True)
    deviation = pixels.std((0, 2, 3), keepdim=True)
    return (pixels - mean) / deviation, data.train.labels[part], data.num_classes


def flipped(labels: Tensor, cell: Cell, num_classes: int) -> Tensor:
    """The labels of a cell: exactly its rate of them is wrong."""
    generator = torch.Generator().manual_seed(cell.seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(cell.rate * len(labels))]
    shift = torch.ones(len(chosen), dtype=torch.int64)
    if cell.kind == "uniform":
        shift = torch.randint(1, num_classes, (len(chosen),), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy


def trained(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    options: argparse.Namespace,
    seed: int,
    policy: Policy,
    folder: Path | None = None,
) -> tuple[nn.Module, float]:
    """A network trained on these samples, and the share of them that the run trained."""
    device = resolve_device(options.device)
    torch.manual_seed(seed)
    model = weigh_batch_norm(small_cnn(images.shape[1], num_classes)).to(device)
    dataset = Batches(images, labels)
    pruner = DynamicPruner(dataset, options.epochs, policy=policy, seed=seed, record_to=folder)
    loader = pruner.loader(BATCH, collate_fn=lambda batch: batch)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=DECAY)
    schedule = pruner.lr_scheduler(
        torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=pruner.full_steps)
    )
    for _ in pruner.epochs():
        for indices, batch in loader:
            inputs, targets = (values.to(device) for values in batch)
            with batch_weights(model, pruner.weights(indices)):
                logits = model(inputs)
            losses = F.cross_entropy(logits, targets, reduction="none")
            norms = classification_gradient_norms(logits, targets)
            margins = classification_margins(logits, targets)
            pruner.update(losses, indices, gradient_norms=norms, margins=margins).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    report = pruner.report()
    return model, 1 - report.saved


@torch.no_grad()
def probabilities(model: nn.Module, images: Tensor, options: argparse.Namespace) -> np.ndarray:
    """What a network says of samples, float64 (n, C)."""
    model.eval()
    device = resolve_device(options.device)
    logits = torch.cat([model(part.to(device)).cpu() for part in images.split(1000)])
    return logits.double().softmax(1).numpy()


def suspicion(name: str, values: np.ndarray) -> np.ndarray:
    """A signal as a number that is higher for a more suspicious sample."""
    values = np.asarray(values, np.float64)
    if name in LOW_IS_SUSPICIOUS:
        values = -values
    if name == "learned_epoch":
        values = np.where(values < 0, np.inf, values)
    lowest = values[np.isfinite(values)].min()
    return np.nan_to_num(values, nan=lowest - 1, posinf=np.finfo(np.float64).max / 2)


def judged(scores: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """AUROC and precision at the flip rate of scores that are higher for a more suspicious sample."""
    number = int(wrong.sum())
    # Of equal scores each is as likely as another to be among the highest.
    order = np.lexsort((np.random.default_rng(0).random(len(scores)), -scores))
    return {
        "auroc": float(roc_auc_score(wrong, stats.rankdata(scores))),
        "precision": float(wrong[order[:number]].mean()),
    }


def by_cleanlab(labels: np.ndarray, probs: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """What cleanlab finds by a table of probabilities."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    found = {
        f"quality, {method}": judged(-get_label_quality_scores(labels, probs, method=method), wrong)
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
    }
    issues = find_label_issues(labels, probs, n_jobs=1)
    hits, number = int((issues & wrong).sum()), int(issues.sum())
    found["find_label_issues"] = {
        "precision": hits / max(1, number),
        "recall": hits / int(wrong.sum()),
        "found": number,
    }
    return found


def held_out(
    images: Tensor, labels: Tensor, num_classes: int, options: argparse.Namespace, seed: int
) -> np.ndarray:
    """The probabilities of each sample by a network that was trained on the other folds."""
    probs = np.zeros((len(labels), num_classes))
    folds = StratifiedKFold(options.folds, shuffle=True, random_state=seed)
    for rest, fold in folds.split(np.zeros(len(labels)), labels.numpy()):
        chosen = images[rest], labels[rest]
        model, _ = trained(*chosen, num_classes, options, seed, NoPruning())
        probs[fold] = probabilities(model, images[fold], options)
    return probs


def measure(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """All results of a cell."""
    images, clean, num_classes = images_of(cell.data, options.data_dir, options.samples)
    labels = flipped(clean, cell, num_classes)
    wrong = (labels != clean).numpy()
    result: dict[str, Any] = {**cell.__dict__, "samples": len(labels), "epochs": options.epochs}
    result["runs"], ordinary = {}, {}
    for name, policy in [*POLICIES.items(), (AGAIN, NoPruning())]:
        with tempfile.TemporaryDirectory() as folder:
            began, seed = time.perf_counter(), cell.seed + 1000 * (name == AGAIN)
            model, share = trained(images, labels, num_classes, options, seed, policy, Path(folder))
            seconds = time.perf_counter() - began
            signals = read_dynamics(folder).signals()
        del signals["index"]
        ordinary = ordinary or signals
        agreement = {
            signal: float(stats.spearmanr(values, ordinary[signal], nan_policy="omit").statistic)
            for signal, values in signals.items()
            if np.ptp(values) > 0 and np.ptp(ordinary[signal]) > 0
        }
        judgements = {n: judged(suspicion(n, v), wrong) for n, v in signals.items() if np.ptp(v) > 0}
        run = {"share": share, "seconds": seconds, "signals": judgements, "agreement": agreement}
        if name == "none":
            probs = probabilities(model, images, options)
            run["accuracy on right labels"] = float((probs.argmax(1) == clean.numpy()).mean())
            result["held in"] = by_cleanlab(labels.numpy(), probs, wrong)
        result["runs"][name] = run
    began = time.perf_counter()
    result["held out"] = by_cleanlab(
        labels.numpy(), held_out(images, labels, num_classes, options, cell.seed), wrong
    )
    result["held out seconds"] = time.perf_counter() - began
    result["environment"] = describe_environment(resolve_device(options.device))
    return result


def rows_of(results: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """AUROC, precision and cost in runs of each way to rank, by its name, over some cells."""
    rows: dict[str, dict[str, list[float]]] = {}

    def add(name: str, figures: dict[str, float], cost: float) -> None:
        row = rows.setdefault(name, {"auroc": [], "precision": [], "cost": []})
        for figure in ("auroc", "precision"):
            if figure in figures:
                row[figure].append(figures[figure])
        row["cost"].append(cost)

    for result in results:
        for run, what in result["runs"].items():
            if run != AGAIN:
                for signal, figures in what["signals"].items():
                    add(f"{run}: {signal}", figures, what["share"])
        for held, cost in (("held in", 1.0), ("held out", float(result["asked"]["folds"]))):
            for score, figures in result[held].items():
                add(f"cleanlab, {held}: {score}", figures, cost)
    return rows


def agreements(results: list[dict[str, Any]], run: str) -> dict[str, float]:
    """The mean rank correlation of a run's signals with those of the ordinary one."""
    found: dict[str, list[float]] = {}
    for result in results:
        for signal, value in result["runs"][run]["agreement"].items():
            found.setdefault(signal, []).append(value)
    return {signal: fmean(values) for signal, values in found.items()}


def show(results: list[dict[str, Any]]) -> None:
    """Print a table for each data set, kind and rate, and what pruning does to each signal."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["data"], result["kind"], result["rate"]), []).append(result)
    for (data, kind, rate), members in sorted(groups.items()):
        samples, epochs = members[0]["samples"], members[0]["epochs"]
        print(f"\n{data}, {samples:,} samples, {epochs} epochs, {rate:.0%} {kind}, {len(members)} seeds")
        print(f"{'':55} {'AUROC':>16} {'precision':>16} {'runs':>5}")
        for name, row in rows_of(members).items():
            figures = [_with_spread(row[figure]) for figure in ("auroc", "precision")]
            print(f"{name:55} {figures[0]:>16} {figures[1]:>16} {fmean(row['cost']):5.2f}")
    print("\nRank correlation of each signal with the ordinary run's, mean of all cells")
    runs = [AGAIN, *(name for name in POLICIES if name != "none")]
    found = {run: agreements(results, run) for run in runs}
    print(f"{'':20}" + "".join(f"{run:>22}" for run in runs))
    for signal in found[AGAIN]:
        print(f"{signal:20}" + "".join(f"{found[run].get(signal, np.nan):22.3f}" for run in runs))


def _with_spread(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{fmean(values):.4f}{spread}"


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--data", type=listed, default=["fashion-mnist", "cifar10"])
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--rates", type=listed, default=["0.1", "0.2"])
    parser.add_argument("--kinds", type=listed, default=["uniform", "neighbour"])
    parser.add_argument("--seeds", type=listed, default=["0", "1", "2"])
    parser.add_argument("--samples", type=int, default=10_000, help="the first of each set; 0 for all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--report", action="store_true", help="of the cells that are done")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all cells there too")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells = [
        Cell(data, kind, float(rate), int(seed))  # seed by seed, so that early cells tell of all
        for seed, data, rate, kind in itertools.product(
            options.seeds, options.data, options.rates, options.kinds
        )
    ]
    results = []
    for cell in cells:
        path = options.out / f"{cell.name}.json"
        if not path.exists() and not options.report:
            result = {**measure(cell, options), "asked": {n: getattr(options, n) for n in ASKED}}
            aside = path.with_suffix(".part")
            aside.write_text(json.dumps(result, indent=1) + "\n")
            os.replace(aside, path)
            print(f"{path} is written", flush=True)
        if path.exists():
            results.append(json.loads(path.read_text()))
            for name in () if options.report else ASKED:
                then, now = results[-1]["asked"][name], getattr(options, name)
                if then != now:
                    parser.error(f"{path} has {name} {then}, not {now}; give another --out")
    if not results:
        parser.error(f"{options.out} has no results of these cells yet; leave --report out")
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
