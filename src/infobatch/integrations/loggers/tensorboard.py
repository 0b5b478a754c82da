"""TensorBoard: scalars, a histogram of losses, and the suspects as a table in text."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from infobatch.integrations.loggers.tables import COLUMNS, rows
from infobatch.journal import EpochLog


class TensorBoard:
    """Writes each epoch for TensorBoard.

    Args:
        writer: A ``SummaryWriter`` of ``torch.utils.tensorboard`` or tensorboardX, or a folder to make
            one for.

    Raises:
        ImportError: For a folder, if tensorboard is not installed.
    """

    def __init__(self, writer: Any) -> None:
        if isinstance(writer, (str, PathLike)):
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    "infobatch.integrations.loggers.tensorboard needs tensorboard: "
                    "pip install 'infobatch[tensorboard]'"
                ) from error
            writer = SummaryWriter(writer)
        self.writer = writer

    def __call__(self, log: EpochLog) -> None:
        """Write an epoch; the step of its values is its number."""
        for name, value in log.values.items():
            self.writer.add_scalar(name, value, log.epoch)
        if log.losses is not None:
            counts, edges, total, squares = log.losses
            self.writer.add_histogram_raw(
                "infobatch/losses",
                min=float(edges[0]),
                max=float(edges[-1]),
                num=int(counts.sum()),
                sum=total,
                sum_squares=squares,
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=log.epoch,
            )
        if log.suspects:
            lines: list[Sequence[object]] = [COLUMNS, ["---"] * len(COLUMNS), *rows(log)]
            cells = [" | ".join(str(cell) for cell in line) for line in lines]
            text = "\n".join(f"| {line} |" for line in cells)
            self.writer.add_text("infobatch/suspects", text, log.epoch)
        self.writer.flush()
