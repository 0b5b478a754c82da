"""Trackio: values, a histogram of losses and a table of suspects in one step of a run."""

from __future__ import annotations

from typing import Any

from infobatch.integrations.loggers.tables import COLUMNS, rows
from infobatch.journal import EpochLog

try:
    import trackio
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.loggers.trackio needs trackio: pip install 'infobatch[trackio]'"
    ) from error


class Trackio:
    """Logs each epoch to a run of Trackio, without a step of its own.

    Args:
        run: What ``trackio.init`` gave.
    """

    def __init__(self, run: Any) -> None:
        self.run = run

    def __call__(self, log: EpochLog) -> None:
        """Log an epoch."""
        shown: dict[str, Any] = dict(log.values)
        if log.losses is not None:
            histogram = (log.losses.counts, log.losses.edges)
            shown["infobatch/losses"] = trackio.Histogram(np_histogram=histogram)
        if log.suspects:
            shown["infobatch/suspects"] = trackio.Table(columns=COLUMNS, data=rows(log))
        self.run.log(shown)
