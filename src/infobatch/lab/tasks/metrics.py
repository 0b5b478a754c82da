"""What a task is judged by, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure over the test set, after the last epoch.

    ``unit``: ``"%"``, or empty. ``margin``: what may be lost of it for the verdict "lossless", unless a
    comparison says otherwise.
    """

    name: str
    unit: str = "%"
    higher_is_better: bool = True
    digits: int = 2
    margin: float = 0.5

    @property
    def heading(self) -> str:
        """Of a column of its values."""
        return f"{self.name} {self.unit}".strip() + (
            "" if self.higher_is_better else " (lower is better)"
        )

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f}"

    def signed(self, value: float) -> str:
        """Of a difference."""
        return f"{value:+.{self.digits}f}"

    def named(self, value: float) -> str:
        """With its name and unit, in a line of text."""
        return f"{self.name} {self.text(value)} {self.unit}".rstrip()

    def gain(self, difference: float) -> float:
        """Positive where ``difference`` is for the better."""
        return difference if self.higher_is_better else -difference


def digits_of(name: str, value: float) -> int:
    """After the point, of a figure that is measured beside the metric."""
    return 2 if name.endswith("%") or abs(value) >= 1 else 4


ACCURACY = Metric("accuracy")
TOKEN_LOSS = Metric("loss per token", unit="", higher_is_better=False, digits=4, margin=0.02)
"""Of the answers' tokens, in nats."""
MIOU = Metric("mIoU")
DENOISING = Metric("denoising loss", "", higher_is_better=False, digits=4, margin=0.0005)
KNN = Metric("k-NN accuracy")
LINEAR_PROBE = Metric("linear-probe accuracy")
RECONSTRUCTION = Metric("reconstruction loss", "", higher_is_better=False, digits=4, margin=0.002)
