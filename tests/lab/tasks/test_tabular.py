"""Tables: their figures against scikit-learn's, signals, gradients, runs and what is refused."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn.functional import cross_entropy

from helpers import changed, check_goes_on, run
from helpers.tables import QUICK, TYPED, flights, write
from infobatch.lab.comparison.contest import CONTESTANTS, contestants
from infobatch.lab.config.task_options import TabularOptions
from infobatch.lab.config.train import TrainConfig, defaults_of
from infobatch.lab.data import load_data
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.tasks.tabular import Tabular, figures_of
from infobatch.lab.training.validate import check_config, check_run
from infobatch.losses import classification_gradient_norms


@pytest.fixture(scope="module")
def data():
    return load_data("breast-cancer")


@pytest.fixture(scope="module")
def small_flights(tmp_path_factory):
    return flights(tmp_path_factory.mktemp("data"))


def test_the_figures_are_scikit_learns(data):
    task = Tabular(QUICK, data)
    evaluation = task.evaluate()
    assert task.model.training
    numbers, codes, labels = task.feed.encoder(data.test)
    with torch.no_grad():
        logits = task.model(numbers, codes).double()
    chances, truth = logits.softmax(1).numpy(), labels.numpy()
    details = evaluation.details
    assert evaluation.result == evaluation.loss == pytest.approx(metrics.log_loss(truth, chances))
    assert details["error %"] == pytest.approx(100 * metrics.zero_one_loss(truth, chances.argmax(1)))
    balanced = metrics.balanced_accuracy_score(truth, chances.argmax(1))
    assert details["balanced accuracy %"] == pytest.approx(100 * balanced)
    assert details["AUC"] == pytest.approx(metrics.roc_auc_score(truth, chances[:, 1]))
    precision = metrics.average_precision_score(truth, chances[:, 1])
    assert details["average precision"] == pytest.approx(precision)
    gap = chances[:, 1].mean() - truth.mean()
    assert details["predicted − observed %"] == pytest.approx(100 * gap)
    assert evaluation.counts == np.bincount(truth).tolist()
    losses = cross_entropy(logits, labels, reduction="none")
    assert evaluation.per_class == pytest.approx([float(losses[labels == c].mean()) for c in (0, 1)])


def test_it_is_judged_on_the_host_wherever_it_is_trained(data, monkeypatch):
    """On the meta device, whose tensors do not mix with the host's: of zeros, as if all were even."""
    zeros = "infobatch.lab.tasks.tabular.total"
    monkeypatch.setattr(zeros, lambda values: torch.zeros_like(values, device="cpu"))
    evaluation = Tabular(replace(QUICK, device="meta"), data).evaluate()
    assert evaluation.result == pytest.approx(np.log(2))
    assert evaluation.details["AUC"] == 0.5


@pytest.mark.parametrize(
    ("metric", "figure", "of_class"),
    [
        ("auc", "AUC", "log loss"),
        ("average-precision", "average precision", "log loss"),
        ("calibration-error", "calibration error %", "log loss"),
        ("balanced-accuracy", "balanced accuracy %", "accuracy"),
    ],
)
def test_runs_are_judged_by_the_metric_that_is_asked_for(data, metric, figure, of_class):
    plain = Tabular(QUICK, data).evaluate()
    judged = Tabular(replace(QUICK, tabular=TabularOptions(metric=metric)), data).evaluate()
    assert judged.result == plain.details[figure]
    assert judged.details["log loss"] == plain.result
    assert figure not in judged.details
    assert judged.class_metric.name == of_class


def test_accuracy_is_what_the_error_leaves_and_the_classes_have_theirs(data):
    judged = Tabular(replace(QUICK, tabular=TabularOptions(metric="accuracy")), data).evaluate()
    assert judged.result == pytest.approx(100 - judged.details["error %"])
    counts = np.array(judged.counts)
    assert np.dot(judged.per_class, counts) / counts.sum() == pytest.approx(judged.result)


def named(tmp_path, rare, common, **options):
    """A table of one's own of which a fifth of the rows have the rare class."""
    for split in ("train", "test"):
        made = {"v": [float(i % 5) for i in range(50)], "y": [common] * 50}
        made["y"][::5] = [rare] * 10
        write(tmp_path, rare, split, made)
    return load_data("table", tmp_path / rare, target="y", **options)


def test_the_rarer_class_is_looked_for_whatever_it_is_called(tmp_path):
    first, last = named(tmp_path, "churned", "stays"), named(tmp_path, "yes", "no")
    assert (first.class_names[first.positive], last.class_names[last.positive]) == ("churned", "yes")
    files, learned, of_whom, few = first.notes
    assert files == "50 rows to train on, and 50 to test on, of 2 files (train.parquet, test.parquet)"
    assert learned == "y is learned from numbers v"
    assert of_whom == "AUC and average precision are of the class 'churned', 20.0% of the rows"
    number = int((first.test.labels == first.positive).sum())
    assert few.startswith(
        f"the test part has {number} rows of the class 'churned': each counts for much"
    )
    chances = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mirrored = [
        figures_of(chances, first.test.labels, first.positive),
        figures_of(chances.flip(1), last.test.labels, last.positive),
    ]
    assert mirrored[0] == pytest.approx(mirrored[1])
    asked = named(tmp_path, "yes", "no", positive="no")
    assert asked.class_names[asked.positive] == "no"
    with pytest.raises(ValueError, match=r"no class 'maybe'"):
        named(tmp_path, "yes", "no", positive="maybe")


def test_a_metric_of_two_classes_needs_two(tmp_path, call):
    for split in ("train", "test"):
        write(tmp_path, "mine", split, {"v": [1.0, 2.0, 3.0], "kind": ["a", "b", "c"]})
    own = ["--data", "table", "--data-dir", str(tmp_path / "mine"), "--tabular.target", "kind"]
    wanted, out = ["--tabular.metric", "auc"], tmp_path / "out"
    code, _, error = call("compare", *TYPED, *own, *wanted, "--out", str(out))
    assert code == 2
    assert "metric is auc, which is for two classes, and --data table has 3; take log-loss" in error
    code, _, error = call("compare", *TYPED, *own, "--tabular.positive", "b", "--out", str(out))
    assert code == 2
    assert "--tabular.positive is b, of two classes the one that is looked for, and kind has 3" in error
    assert not out.exists()


def test_more_classes_have_no_curve_and_a_class_without_rows_does_not_count():
    chances = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]], dtype=torch.float64)
    figures = figures_of(chances, torch.tensor([0, 1, 1]))
    assert set(figures) == {"error %", "balanced accuracy %", "calibration error %"}
    assert figures["error %"] == pytest.approx(100 / 3)
    assert figures["balanced accuracy %"] == 75


def test_a_test_part_of_one_class_has_no_curve():
    assert "AUC" not in figures_of(torch.tensor([[0.6, 0.4]], dtype=torch.float64), torch.tensor([0]))


def test_signals_are_those_of_a_classifier(data):
    task = Tabular(QUICK, data)
    indices = np.arange(8)
    numbers, codes, labels = inputs = task.inputs(task.feed.first(8), indices)
    outputs = task.train_outputs(inputs, ("gradient_norms", "confidences", "correct"))
    logits = task.model(numbers, codes).detach()
    assert outputs.losses.detach().equal(cross_entropy(logits, labels, reduction="none"))
    assert outputs.signals["gradient_norms"].equal(classification_gradient_norms(logits, labels))
    assert outputs.signals["confidences"].equal(logits.softmax(1).gather(1, labels[:, None])[:, 0])
    assert outputs.signals["correct"].equal(logits.argmax(1) == labels)


def test_gradients_are_those_of_each_row_alone(small_flights):
    task = Tabular(QUICK, load_data("flights", small_flights))
    indices = np.array([3, 120, 7])
    (chunk,) = task.gradients(indices)
    for place, index in enumerate(indices):
        loss = task.losses(torch.tensor([index]), indices[place : place + 1]).sum()
        alone = torch.autograd.grad(loss, list(task.model.parameters()))
        for ours, theirs in zip(chunk, alone, strict=True):
            assert ours[place].numpy() == pytest.approx(theirs.numpy(), abs=1e-6, rel=1e-4)


@pytest.mark.parametrize("policy", ["proportional:by=gradient_norm", "kakurenbo", "class-quotas"])
def test_policies_that_read_signals_or_labels_prune(data, tmp_path, policy):
    summary = run(replace(QUICK, policy=policy, epochs=5, delta=1), data, tmp_path)
    assert summary.num_trained < summary.num_full
    if policy.startswith("proportional"):
        assert RunFolder(tmp_path).scores()["gradient_norm"].max() > 0


@pytest.mark.parametrize(
    "values", [{}, {"tabular.batch_norm": True, "tabular.width": 16}, {"ema_decay": 0.9}], ids=str
)
def test_an_interrupted_run_goes_on_bit_for_bit(small_flights, tmp_path, values):
    config = changed(replace(QUICK, data="flights"), values)
    data = load_data("flights", small_flights)
    check_goes_on(config, data, tmp_path)


def test_training_learns_what_the_columns_tell(small_flights, tmp_path):
    """Cancelled are flights of one carrier in the wind; guessing the share gives a log loss of 0.5."""
    config = replace(QUICK, data="flights", epochs=20, lr=0.01)
    summary = run(config, load_data("flights", small_flights), tmp_path)
    assert summary.result < 0.35
    assert summary.details["AUC"] > 0.9


def test_a_task_alone_has_what_its_table_needs():
    config = replace(defaults_of("tabular"), task="tabular")
    check_config(config)
    assert (config.data, config.model, config.optimizer) == ("breast-cancer", "mlp", "adamw")
    assert config.to_arguments() == ["--task", "tabular"]
    assert replace(config, lr=0.2).to_arguments() == ["--task", "tabular", "--lr", "0.2"]
    assert defaults_of("classification") == TrainConfig()


def test_the_command_line_compares_and_evaluates(call, tmp_path):
    code, out, error = call("compare", *TYPED, "--seeds", 1, "--out", tmp_path / "made")
    assert code == 0, error
    assert "log loss (lower is better)" in out
    assert "Verdict" in out
    report = (tmp_path / "made" / "report" / "report.md").read_text()
    assert "average precision" in report
    assert "infobatch compare --task tabular --epochs 3 --batch-size 64" in report
    code, out, error = call("eval", tmp_path / "made" / "noise-budget" / "pruned" / "seed-0")
    assert code == 0, error
    assert "AUC" in out
    assert "malignant" in out


def test_the_command_line_trains_on_files(call, small_flights, tmp_path):
    options = [*TYPED, "--data", "flights", "--data-dir", small_flights, "--tabular.layers", 1]
    code, out, error = call("train", *options, "--probe", 20, "--save", 20, "--out", tmp_path / "run")
    assert code == 0, error
    assert "test log loss 0." in out
    assert "noise" in out
    folder = RunFolder(tmp_path / "run")
    assert folder.config().tabular.layers == 1
    assert folder.config().lr == 3e-3
    options = [*TYPED, "--data", "flights", "--data-dir", small_flights, "--backward-share", 0.5]
    code, out, error = call("train", *options, "--policy", "none", "--out", tmp_path / "selective")
    assert code == 0, error


def test_the_command_line_trains_on_a_table_of_ones_own(call, small_flights, tmp_path):
    options = [*TYPED, "--data", "table", "--data-dir", small_flights / "flights"]
    options += ["--tabular.target", "carrier", "--tabular.leave-out", "dep_delay", "hour"]
    code, _, error = call("train", *options, "--out", tmp_path / "run")
    assert code == 2
    assert "has no carrier, which is to be predicted; leave such rows out of the file" in error
    options[options.index("carrier")] = "origin"
    code, _, error = call("train", *options, "--out", tmp_path / "run")
    assert code == 0, error
    config = RunFolder(tmp_path / "run").config()
    assert config.tabular.leave_out == ("dep_delay", "hour")
    assert config.to_arguments()[-5:] == [*options[-5:]]


def test_every_unbiased_policy_takes_part_in_a_contest(data):
    known = (len(data.train), data.train_labels)
    variants, reasons = contestants(replace(QUICK, epochs=20), CONTESTANTS, [0.3], *known)
    found = {variant.policy for variant in variants}
    assert {"infobatch", "neyman", "spaced", "class-quotas", "kakurenbo", "random"} <= found
    assert any(reason.startswith("el2n does not take part") for reason in reasons)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "small-cnn"}, "no model 'small-cnn'; there are: mlp"),
        ({"data": "mnist5k"}, "--data is mnist5k, which is for classification or mae or diffusion, and"),
        ({"mixup": 0.2}, "--mixup is for --task classification, not for tabular"),
        ({"tabular.layers": -1}, r"--tabular\.layers is -1; it must be at least 0"),
        ({"tabular.width": 0}, r"--tabular\.width is 0; it must be at least 1"),
        ({"task": "classification", "tabular.width": 8}, "breast-cancer, which is for tabular, and"),
        (
            {"data": "table"},
            r"--data table is for files of your own; give --tabular\.target, the column",
        ),
        ({"tabular.target": "age"}, r"--tabular\.target is age, and --data breast-cancer has its own"),
        ({"tabular.leave_out": ("age", "sex")}, r"--tabular\.leave-out is age sex, and --data breast"),
        ({"policy": "el2n"}, "goes by scores of a classifier of images, and --task is tabular"),
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        check_config(changed(QUICK, values))


@pytest.mark.slow
@pytest.mark.skipif("INFOBATCH_DATA_DIR" not in os.environ, reason="needs real data")
def test_two_epochs_of_flights_beat_the_base_rate(tmp_path):
    config = replace(QUICK, data="flights", epochs=2, batch_size=1024)
    summary = run(config, load_data("flights"), tmp_path)
    assert summary.result < 0.1  # 0.115 without any column
    assert summary.details["AUC"] > 0.8


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_budget_of_noise_is_kept_by_the_norms_of_the_classifier(data, tmp_path, batch_norm):
    config = changed(QUICK, {"tabular.batch_norm": batch_norm, "policy": "noise-budget:max_noise=1.5"})
    summary = run(config, data, tmp_path)
    assert summary.saved > 0
    assert 1 < summary.mean_noise < 2
    assert summary.num_steps == run(replace(config, policy="none"), data, tmp_path / "full").num_steps


def test_a_last_batch_of_one_row_is_refused_where_batch_norm_follows(data):
    config = changed(QUICK, {"tabular.batch_norm": True, "batch_size": len(data.train) - 1})
    with pytest.raises(ValueError, match=r"of 400 rows has a single one.*; give --drop-last"):
        check_run(config, data)
    check_run(replace(config, drop_last=True), data)
    check_run(changed(config, {"tabular.batch_norm": False}), data)
