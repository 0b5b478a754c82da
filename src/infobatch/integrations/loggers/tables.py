"""The table of suspects, as every logger shows it."""

from __future__ import annotations

from infobatch.journal import EpochLog

COLUMNS = ["epoch", "index", "loss", "visits", "label"]
"""The headings of its columns."""


def rows(log: EpochLog) -> list[list[int | float | None]]:
    """Its rows, the highest loss first; a label that is not known is None."""
    return [[log.epoch, each.index, each.loss, each.visits, each.label] for each in log.suspects]
