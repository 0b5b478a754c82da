"""What tasks are judged by, and how such figures are written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure over the test set, after the last epoch.

    Args:
        name: What it is called.
        unit: ``"%"``, or empty.
        higher_is_better: Whether more of it is better.
        digits: Digits after the point.
        margin: What may be lost of it for the verdict "lossless", unless a comparison says otherwise.
    """

    name: str
    unit: str = "%"
    higher_is_better: bool = True
    digits: int = 2
    margin: float = 0.5

    @property
    def heading(self) -> str:
        """The heading of a column of its values."""
        return f"{self.name} {self.unit}".strip() + (
            "" if self.higher_is_better else " (lower is better)"
        )

    @property
    def best(self) -> float | None:
        """The best that can be reached; None where no value is."""
        if self.unit != "%":
            return None
        return 100.0 if self.higher_is_better else 0.0

    def text(self, value: float) -> str:
        """Write a value.

        Args:
            value: In the metric's unit.

        Returns:
            The number alone.
        """
        return f"{value:.{self.digits}f}"

    def signed(self, value: float) -> str:
        """Write a difference.

        Args:
            value: In the metric's unit.

        Returns:
            The number with its sign; +0 for what rounds to none.
        """
        return f"{round(value, self.digits) + 0.0:+.{self.digits}f}"

    def named(self, value: float) -> str:
        """Write a value with its name and unit, for a line of text.

        Args:
            value: In the metric's unit.

        Returns:
            Name, number and unit.
        """
        return f"{self.name} {self.text(value)} {self.unit}".rstrip()

    def gain(self, difference: float) -> float:
        """Say how much better a result is.

        Args:
            difference: The result less another.

        Returns:
            Positive where the result is the better one.
        """
        return difference if self.higher_is_better else -difference


def digits_of(name: str, value: float) -> int:
    """Choose the digits of a figure that is measured beside the metric.

    Args:
        name: The figure's name, which ends with its unit.
        value: The figure.

    Returns:
        Digits after the point.
    """
    if name.endswith("%"):
        return 3 if 0 < abs(value) < 0.1 else 2
    return 2 if abs(value) >= 1 else 4


ACCURACY = Metric("accuracy")
TOKEN_LOSS = Metric("loss per token", unit="", higher_is_better=False, digits=4, margin=0.02)
"""The loss of the answers' tokens, in nats."""
MIOU = Metric("mIoU")
DENOISING = Metric("denoising loss", "", higher_is_better=False, digits=4, margin=0.0005)
LOG_LOSS = Metric("log loss", "", higher_is_better=False, digits=4, margin=0.001)
"""The mean negative logarithm of the probability that a row's class was given, in nats."""
TABLE_METRICS = {
    "log-loss": LOG_LOSS,
    "accuracy": ACCURACY,
    "balanced-accuracy": Metric("balanced accuracy"),
    "auc": Metric("AUC", "", digits=4, margin=0.002),
    "average-precision": Metric("average precision", "", digits=4, margin=0.005),
    "calibration-error": Metric("calibration error", higher_is_better=False, margin=0.2),
}
"""What runs on tables can be judged by, by the name that an option gives."""
OF_TWO_CLASSES = ("auc", "average-precision")
"""Those of them that only two classes have."""
RELATIVE_RMSE = Metric("relative RMSE", higher_is_better=False)
"""The root mean squared error, in percent of the standard deviation of the numbers trained on."""
KNN = Metric("k-NN accuracy")
LINEAR_PROBE = Metric("linear-probe accuracy")
RECONSTRUCTION = Metric("reconstruction loss", "", higher_is_better=False, digits=4, margin=0.002)
