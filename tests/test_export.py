"""Scores, selections and visits can be read; savings are predicted and reported."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers import Numbers, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Schedule, predict_saving, read_scores
from infobatch.policies import PercentileTiers
from infobatch.scores import ScoreTable


def after_one_epoch(**options):
    pruner = DynamicPruner(Numbers(100), 10, **options)
    pruner.sampler(8)
    record_epoch(pruner, random_losses(100))
    return pruner


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_scores_come_back_from_a_file(tmp_path, suffix):
    pruner = after_one_epoch()
    path = pruner.export(tmp_path / f"scores.{suffix}")
    assert torch.equal(read_scores(path)["last_loss"], pruner.scores["last_loss"])


def test_a_file_has_a_row_for_each_sample(tmp_path):
    pruner = after_one_epoch()
    pruner.set_epoch(1)
    table = pq.read_table(pruner.export(tmp_path / "scores.parquet"))
    assert table.column_names == ["last_loss", "visits", "weight"]
    assert table["visits"].to_pylist() == [1] * 100
    weights = table["weight"].to_numpy()
    assert np.array_equal(weights, pruner.selection.weights.numpy())
    with np.load(pruner.export(tmp_path / "scores.npz"), allow_pickle=False) as file:
        assert np.array_equal(file["weight"], weights)


def test_samples_without_a_score_stay_without(tmp_path):
    pruner = DynamicPruner(Numbers(5), 10)
    pruner.sampler(1)
    pruner.record(torch.tensor([2.0]), [3])
    scores = read_scores(pruner.export(tmp_path / "scores.npz"))
    assert scores["last_loss"].isnan().tolist() == [True, True, True, False, True]
    assert scores["visits"].tolist() == [0, 0, 0, 1, 0]


def test_parquet_without_pyarrow_names_the_extra(tmp_path):
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from infobatch import DynamicPruner\n"
        f"DynamicPruner(range(3), 2).export({str(tmp_path / 'scores.parquet')!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'infobatch[parquet]', or use .npz" in done.stderr


def test_the_prediction_is_what_the_same_scores_would_save():
    pruner = after_one_epoch()
    saving = pruner.predict_saving()
    below = (random_losses(100) < random_losses(100).mean()).double().mean()
    assert saving.epoch == pytest.approx(float(below) / 2, abs=0.5 / 100)
    assert saving.run == pytest.approx(saving.epoch * 8 / 10)
    assert "predicted saving" in str(saving)
    losses = random_losses(100)
    for _ in pruner.epochs():
        record_epoch(pruner, losses)
    assert pruner.report().saved == pytest.approx(saving.run, abs=0.01)


@pytest.mark.parametrize("policy", [InfoBatch(0.6), PercentileTiers(), RandomPruning(0.5)])
def test_with_a_target_the_prediction_is_exact(policy):
    pruner = DynamicPruner(Numbers(100), 10, policy=policy, target=0.3)
    loader = pruner.loader(8)
    assert pruner.predict_saving().run == pytest.approx(0.3)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, random_losses(100))
    assert pruner.report().saved == pytest.approx(0.3)


def test_a_prediction_from_a_file_needs_no_dataset(tmp_path):
    path = after_one_epoch().export(tmp_path / "scores.npz")
    scores = read_scores(path)
    saving = predict_saving(scores, RandomPruning(0.5), Schedule(len(scores), 200))
    assert saving.run == pytest.approx(0.5 * 174 / 200)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_prediction_from_a_file_is_that_of_the_run(tmp_path, suffix):
    pruner = after_one_epoch()
    scores = read_scores(pruner.export(tmp_path / f"scores.{suffix}"))
    assert predict_saving(scores, InfoBatch(), Schedule(100, 10)) == pruner.predict_saving()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_any_float_column_of_losses_is_read(tmp_path, suffix):
    losses = np.array([0.5, np.nan, 2.0])
    path = tmp_path / f"mine.{suffix}"
    if suffix == "npz":
        np.savez(path, last_loss=losses)
    else:
        pq.write_table(pa.table({"last_loss": losses, "name": ["a", "b", "c"]}), path)
    scores = read_scores(path)
    assert scores["last_loss"].dtype == torch.float32
    assert scores["last_loss"].nan_to_num(-1).tolist() == [0.5, -1, 2]


def test_an_epoch_broken_off_is_reported_as_far_as_it_went():
    pruner = DynamicPruner(Numbers(100), 6)
    loader = pruner.loader(8)
    for step, (indices, _) in enumerate(loader):
        pruner.update(random_losses(100)[indices], indices)
        if step == 3:
            break
    (counts,) = pruner.report().epochs
    assert counts == (0, 100, 32)


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_report_counts_what_was_trained(drop_last):
    pruner = DynamicPruner(Numbers(100), 6)
    loader = pruner.loader(8, drop_last=drop_last)
    trained = [sum(map(len, train_epoch(pruner, loader, random_losses(100)))) for _ in pruner.epochs()]
    report = pruner.report()
    assert [counts.num_recorded for counts in report.epochs] == trained
    assert [counts.num_selected for counts in report.epochs] == trained
    assert report.num_recorded == sum(trained) == int(pruner.scores["visits"].sum())
    assert report.saved == pytest.approx(1 - sum(trained) / 600)
    assert f"6 epochs: {sum(trained)} of 600 samples trained" in str(report)


def test_a_table_of_given_losses():
    table = ScoreTable.from_losses([1.0, float("nan"), 3.0])
    assert len(table) == 3
    assert table.columns == ("last_loss", "visits")
    assert table["visits"].tolist() == [1, 0, 1]
    assert table.num_nonfinite == 0
