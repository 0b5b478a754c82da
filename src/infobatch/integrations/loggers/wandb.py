"""Weights & Biases: values, a histogram of losses and a table of suspects in one step of a run."""

from __future__ import annotations

from typing import Any

from infobatch.integrations.loggers.tables import COLUMNS, rows
from infobatch.journal import EpochLog

try:
    import wandb
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.loggers.wandb needs wandb: pip install 'infobatch[wandb]'"
    ) from error


class WandB:
    """Logs each epoch to a run of Weights & Biases.

    The run's own step counts what you log, and must not go back. So each epoch is logged without a step,
    and its charts are drawn over ``infobatch/epoch``.

    Args:
        run: What ``wandb.init`` gave; by default the run under way.

    Raises:
        RuntimeError: Without a run.
    """

    def __init__(self, run: Any = None) -> None:
        run = wandb.run if run is None else run
        if run is None:
            raise RuntimeError(
                "there is no run of Weights & Biases yet; call wandb.init(...) first, or give its run"
            )
        run.define_metric("infobatch/*", step_metric="infobatch/epoch")
        self.run = run

    def __call__(self, log: EpochLog) -> None:
        """Log an epoch."""
        shown: dict[str, Any] = dict(log.values)
        if log.losses is not None:
            histogram = (log.losses.counts, log.losses.edges)
            shown["infobatch/losses"] = wandb.Histogram(np_histogram=histogram)
        if log.suspects:
            shown["infobatch/suspects"] = wandb.Table(columns=COLUMNS, data=rows(log))
        self.run.log(shown)
