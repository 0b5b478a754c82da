"""Numbers of the rows of tables: figures against scikit-learn's, runs, and what is refused."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch
from sklearn import metrics

from helpers import run
from helpers.tables import columns, write
from infobatch.lab.config.train import defaults_of
from infobatch.lab.data import load_data
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.regression import Regression

QUICK = replace(defaults_of("regression"), task="regression", epochs=8, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def data():
    return load_data("diabetes")


def test_the_figures_are_scikit_learns_in_the_targets_own_unit(data):
    task = Regression(QUICK, data)
    evaluation = task.evaluate()
    assert task.model.training
    numbers, codes, scaled = task.feed.encoder(data.test)
    with torch.no_grad():
        outputs = task.model(numbers, codes)[:, 0].double()
    std, mean = float(data.train.labels.std(correction=0)), float(data.train.labels.mean())
    truth, predicted = data.test.labels.numpy(), (outputs * std + mean).numpy()
    error = metrics.root_mean_squared_error(truth, predicted)
    details = evaluation.details
    assert details["RMSE"] == pytest.approx(error)
    assert details["MAE"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert details["R² %"] == pytest.approx(100 * metrics.r2_score(truth, predicted))
    assert evaluation.result == pytest.approx(100 * error / std)
    assert evaluation.loss == pytest.approx(float((outputs - scaled).square().mean()))


def test_it_is_judged_on_the_host_wherever_it_is_trained(data, monkeypatch):
    """On the meta device, whose tensors do not mix with the host's: of zeros, the mean target."""
    zeros = "infobatch.lab.tasks.regression.total"
    monkeypatch.setattr(zeros, lambda values: torch.zeros_like(values, device="cpu"))
    evaluation = Regression(replace(QUICK, device="meta"), data).evaluate()
    error = data.test.labels - data.train.labels.mean()
    assert evaluation.details["MAE"] == pytest.approx(float(error.abs().mean()))


def test_a_budget_prunes_by_norms_that_follow_from_squared_errors(data, tmp_path):
    before = Regression(QUICK, data).evaluate().result
    config = replace(QUICK, policy="noise-budget:max_noise=1.2", delta=1.0)
    result = run(config, data, tmp_path / "run")
    assert result.result < before
    assert 0.02 < 1 - result.num_trained / result.num_full < 0.6
    assert RunFolder(tmp_path / "run").scores()["visits"].min() >= 1


def test_the_target_is_a_number_of_each_row(tmp_path):
    wind = np.arange(8.0)
    for split in ("train", "test"):
        write(tmp_path, "mine", split, columns(8, 0, wind=wind))
    data = load_data("table", tmp_path / "mine", target="wind", of_numbers=True)
    assert data.train.labels.tolist() == wind.tolist()
    assert (data.class_names, data.train_labels, data.class_members) == ((), None, None)
    assert "wind" not in data.schema.numbers


def test_the_target_may_be_a_decimal(tmp_path):
    prices = [Decimal(f"{i}.50") for i in range(8)]
    for split in ("train", "test"):
        write(tmp_path, "mine", split, columns(8, 0, wind=prices))
    data = load_data("table", tmp_path / "mine", target="wind", of_numbers=True)
    assert data.train.labels.tolist() == [i + 0.5 for i in range(8)]


@pytest.mark.parametrize(
    ("target", "made", "message"),
    [
        ("carrier", {}, r"the target 'carrier' .* has type string, which is no number; classes are"),
        ("wind", {}, r"row 0 \(from 0\) of .*train\.parquet has no wind, which is to be predicted"),
        ("wind", {"wind": [np.inf, *range(7)]}, r"has the wind inf; numbers must be finite"),
        ("wind", {"wind": [0.1] * 8}, r"'wind' is 0\.1 in all rows of .*; there must be two numbers or"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path, target, made, message):
    for split in ("train", "test"):
        write(tmp_path, "mine", split, columns(8, 0, **made))
    with pytest.raises(ValueError, match=message):
        load_data("table", tmp_path / "mine", target=target, of_numbers=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tabular.metric", "auc"], "--tabular.metric is auc, which is for classes"),
        (["--tabular.width", "0"], "--tabular.width is 0; it must be at least 1"),
        (["--imbalance", "10"], "no single class of several"),
        (["--policy", "undersampling"], "diabetes gives --task regression no single class"),
        (["--data", "flights"], "give --task tabular, or --data of diabetes, table"),
    ],
)
def test_what_is_of_classes_alone_is_refused(call, tmp_path, options, message):
    quick = ["--task", "regression", "--epochs", "2", "--device", "cpu", "--batch-size", "64"]
    code, _, error = call("train", *quick, *options, "--out", str(tmp_path / "out"))
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()
