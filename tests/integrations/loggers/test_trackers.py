"""Each tracker is given an epoch, offline, and asked for it again."""

import json

import pytest
import torch

from helpers import Numbers
from infobatch import DynamicPruner, InfoBatch

EPOCHS = 4
NAMES = {"saved", "kept", "noise", "effective_share", "mean_loss", "keep_rate/0", "keep_rate/1", "epoch"}


@pytest.fixture
def train():
    """Trains a run that is told to a logger; the losses of its last epoch."""

    def run(logger):
        pruner = DynamicPruner(Numbers(40), EPOCHS, policy=InfoBatch(0.5), delta=1)
        pruner.log_to(logger, labels=torch.arange(40) % 2, num_suspects=3)
        loader = pruner.loader(8)
        for _ in pruner.epochs():
            for indices, _ in loader:
                pruner.update((torch.as_tensor(indices) + 1.0) / 10, indices)
        return pruner

    return run


def test_tensorboard_shows_scalars_a_histogram_and_a_table(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from infobatch.integrations.loggers.tensorboard import TensorBoard

    logger = TensorBoard(tmp_path)
    pruner = train(logger)
    logger.writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {f"infobatch/{name}" for name in NAMES} == set(events.Tags()["scalars"])
    saved = events.Scalars("infobatch/saved")
    assert [event.step for event in saved] == list(range(EPOCHS))
    assert saved[-1].value == pytest.approx(pruner.report().saved)
    histogram = events.Histograms("infobatch/losses")[-1].histogram_value
    assert (histogram.num, histogram.max) == (40, pytest.approx(4.0))
    (table,) = events.Tensors("infobatch/suspects/text_summary")[-1:]
    text = table.tensor_proto.string_val[0].decode()
    assert text.startswith("| epoch | index | loss | visits | label |\n")
    assert "| 3 | 39 | 4.0 |" in text


def test_weights_and_biases_draws_over_epochs_beside_the_users_steps(train, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from infobatch.integrations.loggers.wandb import WandB

    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(RuntimeError, match=r"call wandb\.init"):
        WandB()
    run = wandb.init(project="infobatch", mode="offline", dir=str(tmp_path))
    run.log({"loss": 1.0}, step=100)
    pruner = train(WandB())
    shown = dict(run.summary)
    run.finish()
    assert {f"infobatch/{name}" for name in NAMES} <= shown.keys()
    assert shown["infobatch/saved"] == pytest.approx(pruner.report().saved)
    assert shown["infobatch/losses"]["_type"] == "histogram"
    assert shown["infobatch/suspects"]["nrows"] == 3
    assert shown["infobatch/suspects"]["ncols"] == 5
    assert list(tmp_path.rglob("*.wandb")), "the run is kept for `wandb sync`"


def test_mlflow_keeps_metrics_by_epoch_and_an_artifact_for_each(train, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from infobatch.integrations.loggers.mlflow import MLflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with pytest.raises(RuntimeError, match="no run of MLflow yet"):
        MLflow()
    with mlflow.start_run() as run:
        pruner = train(MLflow())
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "infobatch/saved")
    assert [metric.step for metric in history] == list(range(EPOCHS))
    assert history[-1].value == pytest.approx(pruner.report().saved)
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="infobatch/epoch-00003.json", dst_path=str(tmp_path)
    )
    with open(path) as file:
        shown = json.load(file)
    assert sum(shown["losses"]["counts"]) == 40
    suspects = shown["suspects"]
    assert dict(zip(suspects["columns"], suspects["data"][0], strict=True))["index"] == 39


def test_trackio_keeps_values_histograms_and_tables(train, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when it is imported
    trackio = pytest.importorskip("trackio")
    from infobatch.integrations.loggers.trackio import Trackio

    run = trackio.init(project="infobatch-test", embed=False, auto_log_cpu=False)
    pruner = train(Trackio(run))
    run.finish()
    rows = trackio.SQLiteStorage.get_logs("infobatch-test", run.name)
    assert [row["infobatch/epoch"] for row in rows] == list(range(EPOCHS))
    assert rows[-1]["infobatch/saved"] == pytest.approx(pruner.report().saved)
    assert {f"infobatch/{name}" for name in NAMES} <= rows[-1].keys()
    assert rows[-1]["infobatch/losses"]["_type"] == "trackio.histogram"
    assert rows[-1]["infobatch/suspects"]["_type"] == "trackio.table"
