"""Loggers of a plug-in, which makes a new pruner for each run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from infobatch.journal import Logger
from infobatch.pruner import DynamicPruner


class TakesLoggers:
    """What remembers the loggers of a run until its pruner is made."""

    _loggers: tuple[Logger, ...] = ()
    _log_options: Mapping[str, Any] = MappingProxyType({})

    def log_to(self, *loggers: Logger, **options: Any) -> None:
        """Have loggers told of each epoch of the runs to come: see :meth:`DynamicPruner.log_to`.

        The framework's own loggers are given the epochs' values in any case.

        Args:
            *loggers: What is called with each epoch.
            **options: ``labels`` and ``num_suspects``.
        """
        self._loggers = (*self._loggers, *loggers)
        self._log_options = {**self._log_options, **options}

    def _attach_loggers(self, pruner: DynamicPruner, own: Logger) -> None:
        """Give a new pruner the loggers, and the framework's ``own``."""
        pruner.log_to(own, *self._loggers, **self._log_options)
