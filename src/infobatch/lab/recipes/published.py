"""What others report for the experiments of the recipes.

Each figure comes from a single seed and, in the reproductions, from the epoch with the best test
accuracy; ours come from the last epoch. The paper's figures are those that later papers print.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One reported run.

    Args:
        source: Who reports it.
        label: What was trained.
        arm: The name of our arm that corresponds to it; empty if none does.
        accuracy: Test accuracy in percent.
        saved: Share of the samples or of the time that was saved, in percent; None if not reported.
        minutes: Minutes of training; None if not reported.
    """

    source: str
    label: str
    arm: str
    accuracy: float
    saved: float | None = None
    minutes: float | None = None


FULL, HALF = "full", "infobatch-0.5"


def _paper(full: float, at_30: float, at_50: float, at_70: float) -> tuple[Published, ...]:
    """The paper's figures; its shares are of all samples, so no prune ratio of ours corresponds."""
    shares = ((30.0, at_30), (50.0, at_50), (70.0, at_70))
    return (
        Published("paper", "full", FULL, full),
        *(Published("paper", f"InfoBatch, {s:g} % pruned", "", a, s) for s, a in shares),
    )


def _reproduction_1(
    full: float, minutes: float, pruned: float, pruned_minutes: float, saved: float
) -> tuple[Published, ...]:
    """Accuracy and minutes of full data and of InfoBatch, and the share that InfoBatch saved."""
    return (
        Published("reproduction 1", "full", FULL, full, None, minutes),
        Published("reproduction 1", "InfoBatch", HALF, pruned, saved, pruned_minutes),
    )


def _by_ratio(
    source: str, full: tuple[float, float], pruned: dict[float, tuple[float, float, float]]
) -> tuple[Published, ...]:
    """Accuracy and minutes of full data; by prune ratio, those of InfoBatch and the share it saved."""
    return (
        Published(source, "full", FULL, full[0], None, full[1]),
        *(
            Published(source, f"InfoBatch r={r:g}", f"infobatch-{r:g}", accuracy, saved, minutes)
            for r, (accuracy, minutes, saved) in pruned.items()
        ),
    )


CIFAR10_RESNET18 = (
    *_paper(95.6, 95.6, 95.1, 94.7),
    *_reproduction_1(95.58, 128.27, 95.37, 81.54, 36.4),
)
CIFAR10_RESNET50 = _reproduction_1(95.69, 279.51, 95.39, 179.88, 35.6)
CIFAR100_RESNET18 = (
    *_paper(78.2, 78.2, 78.1, 76.5),
    *_reproduction_1(78.62, 128.43, 78.49, 88.03, 31.5),
)
CIFAR100_RESNET50 = _reproduction_1(80.40, 274.78, 80.02, 191.17, 30.4)
CIFAR10_RESNET18_BATCH256 = _by_ratio(
    "reproduction 2",
    (94.98, 166.75),
    {0.3: (94.94, 130.26, 21.9), 0.5: (94.79, 111.83, 32.9), 0.7: (94.34, 86.49, 48.1)},
)
CIFAR10_RESNET50_LARS = _by_ratio(
    "reproduction 3",
    (95.52, 231.10),
    {0.3: (95.50, 184.66, 20.1), 0.5: (95.53, 148.44, 35.8), 0.7: (95.17, 113.83, 50.7)},
)
IMAGENET_RESNET50 = (
    Published("later papers", "full", FULL, 76.4),
    Published("later papers", "InfoBatch, 40 %, lowest reported", "percentile-tiers", 75.6, 40.0),
    Published("later papers", "InfoBatch, 40 %, highest reported", "percentile-tiers", 76.6, 40.0),
)
