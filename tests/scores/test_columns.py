"""What a column makes of the losses that it gets."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from helpers import Numbers, random_losses
from helpers.policies import POLICIES, made
from infobatch import DynamicPruner, read_scores
from infobatch.policies import IES
from infobatch.scores import ScoreTable

NAN = float("nan")


def test_smoothed_norms_hold_what_a_sample_was_selected_by_its_norm_and_their_mean():
    table = ScoreTable(2, ["last_loss", "smoothed_norms"])
    for norm in (1.0, 2.0):
        table.record(np.array([0]), np.array([0.5], np.float32), np.array([norm], np.float32))
    assert table["smoothed_norms"][0].tolist() == pytest.approx([1, 2, 0.8 * 1 + 0.2 * 2])
    assert table.last_norms[0] == 2
    assert table["smoothed_norms"][1].isnan().all()


def test_the_smoothed_loss_is_four_fifths_old_and_a_fifth_new():
    table = ScoreTable(2, ["last_loss", "smoothed_loss"])
    for loss in (1.0, 2.0, math.inf):
        table.record(np.array([0]), np.array([loss], np.float32))
    assert float(table["smoothed_loss"][0]) == pytest.approx(0.8 * 1 + 0.2 * 2)
    assert math.isnan(table["smoothed_loss"][1])


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_a_sample_that_is_trained_again_in_an_epoch_counts_once(name, on_device, monkeypatch):
    if on_device:
        monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda self: False))

    def run(times):
        pruner = DynamicPruner(Numbers(60), 5, policy=made(POLICIES[name], 60), delta=1)
        loader = pruner.loader(10)
        for epoch in pruner.epochs():
            losses = random_losses(60, seed=epoch)
            for indices, _ in loader:
                signals = dict.fromkeys(pruner.signals, losses[indices] / 10)
                for _ in range(times):
                    pruner.update(losses[indices], indices, **signals)
            if pruner.policy.refreshes and len(left := pruner.left_out):
                signals = dict.fromkeys(pruner.signals, losses[left] / 10)
                pruner.observe(losses[left], left, **signals)
        return pruner.state_dict()

    once, twice = run(1), run(2)
    for column, values in once["scores"]["columns"].items():
        assert torch.equal(values.nan_to_num(), twice["scores"]["columns"][column].nan_to_num()), column


def test_a_sample_was_trained_at_the_number_of_its_last_batch():
    def record(table, *indices, again=None):
        table.record(np.array(indices), np.ones(len(indices), np.float32), again=again)

    table = ScoreTable(5, ["last_loss", "trained_at"])
    record(table, 0, 1)
    record(table, 2, 3)
    table.observe(np.array([4]), np.ones(1, np.float32))
    record(table, 2, 4, again=np.array([True, False]))
    record(table, 4, 2, again=np.array([True, True]))  # no new batch
    record(table, 0)
    assert table["trained_at"].tolist() == [4, 1, 3, 2, 3]
    resumed = ScoreTable(5, ["last_loss", "trained_at"])
    resumed.load_state_dict(table.state_dict())
    record(resumed, 3)
    assert resumed["trained_at"].tolist() == [4, 1, 3, 5, 3]


def test_a_sampler_that_draws_with_replacement_is_told_the_time_of_all_its_batches():
    pruner = DynamicPruner(Numbers(1000), 2)
    loader = pruner.loader(50, sampler=WeightedRandomSampler(torch.ones(1000), 1000))
    latest = {}
    for number, (indices, _) in enumerate(loader, 1):
        pruner.update(torch.ones(50), indices)
        latest.update(dict.fromkeys(indices.tolist(), number))
    assert number == 20
    assert pruner.scores["trained_at"].tolist() == [latest.get(index, 0) for index in range(1000)]


def test_a_repeated_training_takes_the_place_of_the_epochs_first():
    table = ScoreTable(3, ["last_loss", "recent_norms", "smoothed_norms", "smoothed_norm"])

    def record(norms, again=None):
        norms = np.array(norms, np.float32)
        table.record(np.arange(3), np.zeros(3, np.float32), norms, again=again)

    record([1, 1, 1])
    record([2, 2, 2])
    record([5, NAN, 4], again=np.array([True, True, False]))
    assert table["recent_norms"].tolist() == [[1, 5], [1, 2], [2, 4]]
    assert table["smoothed_norms"][0].tolist() == pytest.approx([1, 5, 0.8 * 1 + 0.2 * 5])
    assert table["smoothed_norms"][2].tolist() == pytest.approx([1.2, 4, 0.8 * 1.2 + 0.2 * 4])
    assert table["smoothed_norm"].tolist() == pytest.approx([1.2, 1.2, 0.8 * 1.2 + 0.2 * 4])


def test_a_column_may_hold_several_numbers_a_sample(tmp_path):
    table = ScoreTable(3, ["last_loss", "recent_losses", "visits"])
    for epoch in range(6):
        table.record(np.array([0]), np.array([epoch], np.float32))
    table.observe(np.array([1]), np.array([9], np.float32))
    table.observe(np.array([2]), np.array([NAN], np.float32))
    assert table["recent_losses"][0].tolist() == [1, 2, 3, 4, 5]
    assert table["recent_losses"][1].isnan().tolist() == [True] * 4 + [False]
    assert table["recent_losses"][2].isnan().all()
    assert table["visits"].tolist() == [6, 0, 0]
    again = ScoreTable(3, ["last_loss", "recent_losses", "visits"])
    again.load_state_dict(table.state_dict())
    assert torch.equal(again["recent_losses"][0], table["recent_losses"][0])
    pruner = DynamicPruner(Numbers(3), 4, policy=IES())
    pruner.record(torch.ones(3), np.arange(3))
    for name in ("scores.npz", "scores.parquet"):
        assert read_scores(pruner.export(tmp_path / name))["last_loss"].tolist() == [1, 1, 1]
    with np.load(tmp_path / "scores.npz") as file:
        assert file["recent_losses_4"].tolist() == [1, 1, 1]


def test_an_unknown_score_column():
    with pytest.raises(ValueError, match="unknown score column 'margin': the table keeps last_loss"):
        ScoreTable(3, ["margin"])
