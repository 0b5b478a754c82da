"""Savings are predicted from scores."""

from itertools import islice

import numpy as np
import pytest
import torch

from helpers import Numbers, after_one_epoch, new_pruner, random_losses, record_epoch, train_epoch
from infobatch import (
    DynamicPruner,
    InfoBatch,
    NoiseBudget,
    RandomPruning,
    Schedule,
    Spaced,
    predict_budgets,
    predict_saving,
    read_scores,
)
from infobatch.policies import RS2, Kakurenbo, PercentileTiers, Proportional, SeTa, Undersampling
from infobatch.scores import ScoreTable


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


@pytest.mark.parametrize("policy", [Kakurenbo(0.3, 0.5), SeTa(), NoiseBudget(1.2, by="smoothed_norm")])
def test_what_a_run_of_the_same_scores_leaves_out_in_the_mean_is_predicted(policy):
    size, epochs = 200, 20
    pruner = DynamicPruner(Numbers(size), epochs, policy=policy, delta=1, shrink="steps")
    loader, losses = pruner.loader(8), random_losses(size)
    signals = {"confidences": torch.exp(-losses), "gradient_norms": losses}
    left_out = predicted = 0
    for epoch in pruner.epochs():
        if epoch == 1:
            predicted = pruner.predict_saving().run
        left_out += size - pruner.current.num_selected
        for indices, _ in loader:
            read = {name: signals[name][indices] for name in pruner.signals}
            pruner.update(losses[indices], indices, **read)
        if policy.refreshes and len(rest := pruner.left_out):
            pruner.observe(losses[rest], rest, **{n: signals[n][rest] for n in pruner.signals})
    assert left_out / (size * epochs) == pytest.approx(predicted, abs=0.03)


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


def easy_losses(share_easy, size=5000):
    losses = np.random.default_rng(0).exponential(size=size).astype(np.float32)
    losses[: round(share_easy * size)] *= 1e-3
    return losses


def test_budgets_save_more_the_higher_they_are_and_the_more_is_easy():
    schedule = Schedule(5000, 20)
    easy = predict_budgets(ScoreTable.from_losses(easy_losses(0.9)), schedule)
    alike = predict_budgets(ScoreTable.from_losses(np.ones(5000, np.float32)), schedule)
    savings = [each.saving.epoch for each in easy]
    assert savings == sorted(savings)
    assert savings[1] > 0.4
    assert alike[1].saving.epoch == pytest.approx(1 - 1 / 1.1, abs=0.01)  # as random pruning
    for each in easy:
        assert each.random_noise == pytest.approx(1 / (1 - each.saving.epoch))
        assert each.random_noise > each.max_noise
        assert each.saving.run == pytest.approx(each.saving.epoch * 17 / 20)
    assert "  1.1 " in str(easy)


def test_budgets_are_predicted_by_any_pruner_and_from_its_file(tmp_path):
    losses = easy_losses(0.8)
    pruner = DynamicPruner(Numbers(5000), 10, policy=RandomPruning(0.5), target=0.2)
    pruner.loader(100)
    record_epoch(pruner, torch.from_numpy(losses))
    predicted = pruner.predict_budgets()
    scores = read_scores(pruner.export(tmp_path / "scores.npz"))
    assert predict_budgets(scores, Schedule(5000, 10, delta=1)) == predicted


def test_a_prediction_is_what_the_first_pruned_epoch_leaves_out():
    losses = torch.from_numpy(easy_losses(0.8))
    pruner = DynamicPruner(Numbers(5000), 10, policy=NoiseBudget(1.25))
    pruner.loader(100)
    record_epoch(pruner, losses)
    predicted = pruner.predict_saving()
    pruner.set_epoch(1)
    assert pruner.selection.num_selected / 5000 == pytest.approx(1 - predicted.epoch, abs=0.01)


@pytest.mark.parametrize("policy", [NoiseBudget(), Proportional(by="smoothed_norm")], ids=repr)
def test_norms_that_a_file_holds_are_used(policy, tmp_path):
    pruner = DynamicPruner(Numbers(2000), 10, policy=policy)
    loader = pruner.loader(100)
    norms = torch.from_numpy(easy_losses(0.9, 2000))
    for indices, _ in loader:
        pruner.update(torch.ones(len(indices)), indices, gradient_norms=norms[indices])
    predicted = pruner.predict_budgets()
    assert predicted[1].saving.epoch > 0.4
    scores = read_scores(pruner.export(tmp_path / "scores.npz"))
    assert predict_budgets(scores, pruner.plan.schedule) == predicted


def test_a_file_written_within_an_epoch_has_the_weights_of_what_was_recorded(tmp_path):
    pruner = DynamicPruner(Numbers(2000), 10, policy=NoiseBudget())
    loader, losses = pruner.loader(100), torch.from_numpy(easy_losses(0.9, 2000))
    for epoch in pruner.epochs():
        for indices, _ in islice(loader, 10):
            pruner.update(losses[indices], indices)
        if epoch == 2:
            scores = read_scores(pruner.export(tmp_path / "scores.npz"))
            recorded = torch.from_numpy(pruner.current.recorded)
            assert torch.equal(scores["weight"], pruner.selection.weights * recorded)
            schedule = Schedule(2000, 10, delta=1)
            assert predict_budgets(scores, schedule) == pruner.predict_budgets()


def test_any_policy_is_predicted_from_the_file_of_its_run(tmp_path):
    pruner = DynamicPruner(Numbers(100), 10, policy=Spaced())
    pruner.loader(10)
    record_epoch(pruner, random_losses(100))
    scores = read_scores(pruner.export(tmp_path / "scores.npz"))
    assert predict_saving(scores, Spaced(), Schedule(100, 10)) == pruner.predict_saving()


def test_without_scores_budgets_are_not_predicted():
    scores = ScoreTable(10)
    with pytest.raises(ValueError, match=r"no sample has a score yet.*ask again after an epoch"):
        predict_budgets(scores, Schedule(10, 5))
    with pytest.raises(ValueError, match="max_noise is 1"):
        predict_budgets(ScoreTable.from_losses(np.ones(10, np.float32)), Schedule(10, 5), budgets=[1])


@pytest.mark.parametrize(
    "policy",
    [RandomPruning(), Spaced(RandomPruning()), RS2(), Undersampling(np.arange(100) % 2)],
    ids=lambda policy: type(policy).__name__,
)
def test_what_goes_by_no_scores_is_predicted_without_them(policy):
    pruner = DynamicPruner(Numbers(100), 10, policy=policy, delta=1)
    assert pruner.predict_saving().epoch == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("policy", "num_samples", "error", "message"),
    [
        (
            InfoBatch(),
            20,
            ValueError,
            "the schedule is of 20 samples, and there are scores of 50; make it",
        ),
        (Undersampling(np.arange(30) % 2), 50, ValueError, "was given the labels of 30 samples"),
        (InfoBatch, 50, TypeError, "give an object such as"),
    ],
)
def test_what_is_of_other_samples_predicts_nothing(policy, num_samples, error, message):
    scores = ScoreTable.from_losses(np.ones(50, np.float32))
    with pytest.raises(error, match=message):
        predict_saving(scores, policy, Schedule(num_samples, 10))


def test_a_target_that_the_policy_cannot_meet_is_not_promised():
    scores = ScoreTable.from_losses(easy_losses(0.5))
    assert predict_saving(scores, InfoBatch(0.9), Schedule(5000, 20, target=0.3)).run == pytest.approx(
        0.3
    )
    with pytest.raises(ValueError, match="the target leaves out"):
        predict_saving(scores, InfoBatch(0.5), Schedule(5000, 20, target=0.8))
    with pytest.raises(ValueError, match="each says how much is left out"):
        predict_saving(scores, NoiseBudget(), Schedule(5000, 20, target=0.3))


@pytest.mark.parametrize(("batch_size", "most"), [(64, 1.0), (4, 0.5)])
def test_a_run_predicts_what_its_batches_let_be_left_out_whenever_it_is_asked(batch_size, most):
    """At an epoch's end that is what the next one leaves out; before, the norms alone tell."""
    losses = torch.where(torch.arange(4000) < 400, 2.0, 1e-6)
    pruner = new_pruner(size=len(losses), num_epochs=5, policy=NoiseBudget(max_noise=1.1))
    loader, predicted = pruner.loader(batch_size), 0.0
    for epoch in pruner.epochs():
        left_out = 1 - pruner.selection.num_selected / len(losses)
        assert left_out == pytest.approx(predicted, abs=0.01)
        if epoch:
            assert pruner.predict_saving().epoch > 0.4, "with nothing of the epoch recorded"
        for indices, _ in loader:
            pruner.record(losses[torch.from_numpy(indices.copy())], indices)
        predicted = pruner.predict_saving().epoch
        assert predicted == pruner.predict_budgets()[1].saving.epoch <= most
    assert predicted > 0.4
