"""Steps: their rate, clipping, mixed precision and the average of the weights."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers.lab import loss_of
from infobatch import DynamicPruner
from infobatch.lab.config.train import TrainConfig
from infobatch.lab.training.optimization import Optimization, WeightAverage, triangle
from infobatch.lab.training.optimizers import OPTIMIZERS

CONFIG = TrainConfig(data="digits", lr=0.1, device="cpu")


def make(config, model=None):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    pruner = DynamicPruner(range(64), 2)
    pruner.loader(8)
    return Optimization(config, model, pruner), model


def test_the_rate_follows_one_cycle():
    optimization, _ = make(CONFIG)
    assert optimization.lr == pytest.approx(0.1 / 25)


def test_the_triangle_rises_early_and_falls_to_nothing():
    rates = [triangle(done) for done in (0.0, 0.075, 0.15, 0.575, 1.0)]
    assert rates == pytest.approx([0.2, 0.6, 1.0, 0.5, 0.0])
    optimization, _ = make(replace(CONFIG, schedule="triangle"))
    assert optimization.lr == pytest.approx(0.2 * 0.1)
    assert optimization.optimizer.param_groups[0]["momentum"] == 0.9


def test_biases_of_norms_have_a_rate_of_their_own_on_any_schedule():
    for schedule, first in (("triangle", 0.2), ("one-cycle", 1 / 25)):
        config = replace(CONFIG, optimizer="nesterov", schedule=schedule, weight_decay=0.64)
        optimization, model = make(config)
        others, biases = optimization.optimizer.param_groups
        assert [id(p) for p in biases["params"]] == [id(model[1].bias)]
        assert others["lr"] == pytest.approx(first * 0.1)
        assert biases["lr"] == pytest.approx(64 * first * 0.1)
        assert (others["weight_decay"], biases["weight_decay"]) == (0.64, 0.01)


def test_clipping_bounds_the_step():
    model = nn.Linear(4, 2, bias=False)
    config = replace(CONFIG, clip_norm=1e-3, weight_decay=0.0)
    optimization, model = make(config, model)
    before = model.weight.detach().clone()
    optimization.step(loss_of(model, 100.0))
    length = (model.weight.detach() - before).norm().item()
    assert length == pytest.approx(1e-3 * 0.1 / 25, rel=1e-3)


def test_the_average_is_exponential():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(2.0)
    for _ in range(3):
        average.update(model)
    assert average.model.weight.item() == pytest.approx(2 - 0.9**3)
    assert not average.model.weight.requires_grad


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_lowers_the_loss(name):
    lr = {"sgd": 0.1, "nesterov": 0.1, "adamw": 0.5, "lars": 10.0, "lamb": 0.02}[name]
    optimization, model = make(replace(CONFIG, optimizer=name, lr=lr))
    before = loss_of(model).item()
    for _ in range(10):
        optimization.step(loss_of(model))
    assert loss_of(model).item() < 0.7 * before


def test_the_average_takes_the_statistics_of_the_model():
    optimization, model = make(replace(CONFIG, ema_decay=0.99))
    optimization.step(loss_of(model))
    torch.testing.assert_close(optimization.eval_model[1].running_mean, model[1].running_mean)
    assert not torch.equal(optimization.eval_model[0].weight, model[0].weight)


def test_fp16_skips_a_step_that_overflowed():
    optimization, model = make(replace(CONFIG, precision="fp16"))
    before = model[0].weight.detach().clone()
    scale = optimization.scaler.get_scale()
    optimization.step(loss_of(model) * math.inf)
    assert torch.equal(model[0].weight, before)
    assert optimization.scaler.get_scale() < scale
    optimization.step(loss_of(model))
    assert not torch.equal(model[0].weight, before)
