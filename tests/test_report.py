"""Savings are predicted and reported."""

import pytest

from helpers import Numbers, after_one_epoch, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Schedule, predict_saving, read_scores
from infobatch.policies import PercentileTiers


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


def test_an_epoch_broken_off_is_reported_as_far_as_it_went():
    pruner = DynamicPruner(Numbers(100), 6)
    loader = pruner.loader(8)
    for step, (indices, _) in enumerate(loader):
        pruner.update(random_losses(100)[indices], indices)
        if step == 3:
            break
    (counts,) = pruner.report().epochs
    assert counts == (0, 100, 32, 1.0)


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
