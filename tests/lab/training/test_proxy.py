"""Proxy filtering: a small network, trained along, says which samples of a batch are trained."""

from dataclasses import replace

import pytest
import torch

from helpers import run
from helpers.digits import QUICK
from infobatch import DynamicPruner, NoPruning
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.runs.folder import RunFolder
from infobatch.lab.runs.records import FORWARD_COST
from infobatch.lab.training.proxy import Proxy
from infobatch.lab.training.scoring_costs import PROXY_PERIOD, choosing_cost
from infobatch.lab.training.selective_backprop import SelectiveBackprop
from infobatch.lab.training.validate import check_config

FILTERED = replace(QUICK, policy="none", backward_share=0.5, proxy="small-cnn", model="resnet8")


def test_it_learns_on_one_batch_in_four(data, monkeypatch):
    pruner = DynamicPruner(range(len(data.train)), 3, policy=NoPruning())
    pruner.sampler(128)
    proxy = Proxy(FILTERED, data, pruner)
    proxy.task.begin(0)
    inputs = proxy.task.inputs(torch.arange(128), torch.arange(128).numpy())
    moved = []
    optimization = proxy._optimization
    monkeypatch.setattr(optimization, "advance", lambda: None)  # there is no progress
    for _ in range(2 * PROXY_PERIOD):
        before = proxy.task.model[0].weight.detach().clone()
        losses = proxy.losses(inputs)
        assert losses.shape == (128,)
        assert not losses.requires_grad
        moved.append(not torch.equal(before, proxy.task.model[0].weight))
    assert moved == 2 * [True, False, False, False]


def test_the_highest_losses_of_a_batch_are_taken():
    selective = SelectiveBackprop(0.25, 100, 8, seed=0, takes_highest=True)
    selective.begin(0, torch.device("cpu"))
    losses = torch.tensor([0.1, 3.0, 0.2, 0.3, 2.0, 0.0, 1.0, 0.5])
    chosen = selective.choose(losses, torch.arange(8).numpy(), 0)
    assert sorted(chosen.tolist()) == [1, 4]


def test_a_run_trains_on_half_and_pays_for_the_proxy(data, tmp_path):
    summary = run(FILTERED, data, tmp_path / "run")
    first, second, *_, last = RunFolder(tmp_path / "run").metrics()
    assert first.num_kept == last.num_kept == len(data.train)
    assert 0 < first.num_forward < second.num_forward
    assert last.num_forward == 0
    assert second.num_kept == pytest.approx(len(data.train) / 2, abs=1)
    paid = choosing_cost(FILTERED) * len(data.train)
    assert FORWARD_COST * second.num_forward == pytest.approx(paid, abs=0.5)
    assert 0 < second.num_forward < len(data.train) / 2
    assert summary.result > 20


def test_a_smaller_network_costs_less_and_the_own_a_forward_pass():
    wide = TrainConfig(model="speed-cnn", policy="none", backward_share=0.5)
    assert choosing_cost(wide) == FORWARD_COST
    narrow = choosing_cost(replace(wide, proxy="speed-cnn-narrow"))
    assert narrow == pytest.approx(34.17 / 603.12 * (0.25 + 0.75 / 3), rel=1e-3)


def test_a_proxy_without_a_share_to_choose_is_refused():
    with pytest.raises(ValueError, match=r"--proxy is small-cnn, which chooses .* lower it"):
        check_config(replace(FILTERED, backward_share=1.0))
    with pytest.raises(ValueError, match="no model 'smal-cnn'; did you mean small-cnn"):
        check_config(replace(FILTERED, proxy="smal-cnn"))
