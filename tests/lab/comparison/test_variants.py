"""Variants of pruning, and runs at the cost of another."""

import pytest

from infobatch.lab.comparison.variants import Variant, kept_at_cost
from infobatch.lab.config.policy_spec import SELECTIVE_BACKPROP
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.data import load_data
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.training.train import train


def test_options_of_a_policy_are_part_of_its_folders_name():
    assert Variant("proportional:floor=0.2", 0.5, 0.3).name == "proportional-floor-0.2-save-30"
    assert Variant("neyman:strata=5", 0.3).name == "neyman-strata-5-0.3"


@pytest.mark.parametrize("name", ["kakurenbo", "ies", SELECTIVE_BACKPROP, "rs2"])
def test_forward_passes_are_paid_for(name, tmp_path):
    """Of 6 epochs of 1,400 samples 5 can be pruned, and 8,400 x 0.8 are to be paid for."""
    config = TrainConfig(data="digits", epochs=6, batch_size=128, device="cpu")
    variant = Variant(name, 0.5, 0.2)
    folder = RunFolder(tmp_path)
    folder.create(variant.config(config))
    summary = train(variant.config(config), load_data("digits"), folder)
    left_out = {"rs2": 1680, SELECTIVE_BACKPROP: 1680 + 5 * 1400 / 3}.get(name, 1.5 * 1680)
    looks = {"rs2": 0, SELECTIVE_BACKPROP: 5 * 1400}.get(name, 1.5 * 1680)
    assert summary.num_trained == pytest.approx(8400 - left_out, abs=2)
    assert summary.num_forward == pytest.approx(looks, abs=2)
    assert summary.cost == pytest.approx(0.8 * 8400, abs=1)
    metrics = folder.metrics()
    assert [m.num_forward > 0 for m in metrics] == [name != "rs2" and m.epoch > 0 for m in metrics]


def test_random_pruning_is_given_what_scoring_cost():
    assert kept_at_cost([50, 50, 50], 100, 240.0) == [80, 80, 80]
    assert kept_at_cost([100, 50, 60, 100], 100, 310.0) == [100, 50, 60, 100]
    assert kept_at_cost([100, 50, 60, 100], 100, 330.0) == [100, 60, 70, 100]
