"""MLflow: metrics, and for each epoch an artifact with the histogram of losses and the suspects."""

from __future__ import annotations

from infobatch.integrations.loggers.tables import COLUMNS, rows
from infobatch.journal import EpochLog

try:
    import mlflow
except ImportError as error:
    raise ImportError(
        "infobatch.integrations.loggers.mlflow needs MLflow: pip install 'infobatch[mlflow]'"
    ) from error


class MLflow:
    """Logs each epoch to a run of MLflow; the step of its metrics is the epoch's number.

    The histogram and the suspects are in the artifact ``infobatch/epoch-00003.json``, with the keys
    ``losses`` (``counts`` and ``edges``) and ``suspects`` (``columns`` and ``data``).

    Args:
        run_id: The run's id; by default that of the run under way.

    Raises:
        RuntimeError: Without a run.
    """

    def __init__(self, run_id: str | None = None) -> None:
        active = mlflow.active_run()
        if run_id is None and active is None:
            raise RuntimeError(
                "there is no run of MLflow yet; train within `with mlflow.start_run():`, or give run_id"
            )
        self.run_id = active.info.run_id if run_id is None else run_id

    def __call__(self, log: EpochLog) -> None:
        """Log an epoch."""
        mlflow.log_metrics(dict(log.values), step=log.epoch, run_id=self.run_id)
        if log.losses is None:
            return
        counts, edges = log.losses.counts.tolist(), log.losses.edges.tolist()
        shown = {
            "losses": {"counts": counts, "edges": edges},
            "suspects": {"columns": COLUMNS, "data": rows(log)},
        }
        client = mlflow.MlflowClient()
        client.log_dict(self.run_id, shown, f"infobatch/epoch-{log.epoch:05d}.json")
