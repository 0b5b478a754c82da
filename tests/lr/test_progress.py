"""Schedules driven by progress end where they would have on full data."""

import math

import pytest
import torch
from torch.optim import lr_scheduler as lr

from helpers import Numbers, batched_pruner, random_losses, record_epoch
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Replicated, Sharded

EPOCHS, SIZE, BATCH = 8, 64, 4


STEPS = EPOCHS * SIZE // BATCH


SCHEDULES = {
    "OneCycle": lambda o: lr.OneCycleLR(o, 0.3, total_steps=STEPS),
    "Cosine": lambda o: lr.CosineAnnealingLR(o, STEPS),
    "Linear": lambda o: lr.LinearLR(o, 1, 0.1, STEPS),
    "MultiStep": lambda o: lr.MultiStepLR(o, [STEPS // 2, 3 * STEPS // 4]),
    "Step": lambda o: lr.StepLR(o, 30),
    "Polynomial": lambda o: lr.PolynomialLR(o, STEPS, power=2),
    "Lambda": lambda o: lr.LambdaLR(o, lambda step: 1 / (1 + step)),
    "Sequential": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1, 20), lr.CosineAnnealingLR(o, STEPS - 20)], [20]
    ),
}


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1, momentum=0.9)


def trace(make, prune_ratio, total_steps=None):
    """(progress after the step, learning rate of the step) for every step of a run."""
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch(prune_ratio))
    loader = pruner.loader(BATCH)
    driven = optimizer()
    scheduler = pruner.lr_scheduler(make(driven), total_steps)
    points = []
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(random_losses(SIZE)[indices], indices)
            rate = driven.param_groups[0]["lr"]
            driven.step()
            scheduler.step()
            points.append((pruner.progress, rate))
    return points, scheduler


def plain(make):
    stepped = optimizer()
    scheduler = make(stepped)
    rates = []
    for _ in range(STEPS):
        rates.append(stepped.param_groups[0]["lr"])
        stepped.step()
        scheduler.step()
    return rates, scheduler.get_last_lr()


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
def test_with_nothing_pruned_it_is_the_schedule_itself(make):
    points, scheduler = trace(make, prune_ratio=0)
    rates, last = plain(make)
    assert [rate for _, rate in points] == rates
    assert scheduler.get_last_lr() == last


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
def test_with_pruning_it_is_where_full_data_would_be(make):
    points, scheduler = trace(make, prune_ratio=0.8)
    rates, last = plain(make)
    assert len(points) < 0.8 * STEPS
    assert scheduler.get_last_lr() == last
    before = [0.0, *(progress for progress, _ in points)]
    for progress, (_, rate) in zip(before, points, strict=False):
        assert rate == rates[math.floor(progress * STEPS + 1e-6)]


def test_a_schedule_that_counts_epochs():
    points, _ = trace(lambda o: lr.MultiStepLR(o, [4, 6]), prune_ratio=0.5, total_steps=EPOCHS)
    for progress, rate in zip([0.0, *(p for p, _ in points)], [r for _, r in points], strict=False):
        epoch = math.floor(progress * EPOCHS + 1e-6)
        assert rate == pytest.approx(0.1 * 0.1 ** ((epoch >= 4) + (epoch >= 6)))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("length", [{"num_epochs": 5.3}, {"num_epochs": 5}, {"max_steps": 61}], ids=str)
def test_the_last_rate_is_reached_whatever_the_length(length, drop_last):
    pruner = DynamicPruner(Numbers(50), **length)
    loader = pruner.loader(8, drop_last=drop_last)
    driven = optimizer()
    steps = pruner.full_steps
    scheduler = pruner.lr_scheduler(lr.LinearLR(driven, 1, 0.1, steps))
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(random_losses(50)[indices], indices)
            driven.step()
            scheduler.step()
    assert pruner.progress == 1
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    assert scheduler.scheduler.last_epoch == steps


@pytest.mark.parametrize("layout", [Replicated(), Sharded(2)], ids=repr)
@pytest.mark.parametrize("target", [None, 0.2])
@pytest.mark.parametrize("length", [{"num_epochs": 5.2}, {"max_steps": 31}], ids=str)
def test_the_last_rate_is_reached_where_a_pruned_end_is_less_than_a_batch(length, target, layout):
    options = {"policy": RandomPruning(), "target": target, "delta": 1, "layout": layout}
    pruner = DynamicPruner(Numbers(50), **length, **options)
    loader = pruner.loader(8, drop_last=True)
    driven = optimizer()
    scheduler = pruner.lr_scheduler(lr.LinearLR(driven, 1, 0.1, pruner.full_steps))
    steps = []
    for epoch in pruner.epochs():
        for indices, _ in loader:
            pruner.update(random_losses(50)[indices], indices)
            driven.step()
            scheduler.step()
            steps.append(epoch)
    assert steps.count(5) == 1
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    if target is not None:
        assert len(steps) == pruner.total_steps


@pytest.mark.parametrize("batch_size", [3, 8, 25, 50])
@pytest.mark.parametrize("drop_last", [False, True])
def test_with_nothing_pruned_every_batch_is_one_step(batch_size, drop_last):
    pruner = DynamicPruner(Numbers(50), 7, policy=InfoBatch(0))
    loader = pruner.loader(batch_size, drop_last=drop_last)
    driven = optimizer()
    scheduler = pruner.lr_scheduler(lr.LambdaLR(driven, lambda step: step))
    counts = []
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(random_losses(50)[indices], indices)
            driven.step()
            scheduler.step()
            counts.append(scheduler.scheduler.last_epoch)
    assert counts == list(range(1, pruner.full_steps + 1))


def path(normalizer, scaling):
    """Where a few pruned epochs on a quadratic loss lead, and the rates of the updates."""
    parameter = torch.nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
    driven = torch.optim.SGD([parameter], lr=0.01)
    pruner = DynamicPruner(
        Numbers(SIZE), EPOCHS, policy=InfoBatch(0.8), target=0.3, normalizer=normalizer, seed=3
    )
    loader = pruner.loader(BATCH)
    scheduler = pruner.lr_scheduler(lr.CosineAnnealingLR(driven, STEPS), scaling=scaling)
    rates = []
    driven.register_step_post_hook(lambda *arguments: rates.append(driven.param_groups[0]["lr"]))
    for _ in pruner.epochs():
        for indices, _ in loader:
            losses = (parameter[torch.from_numpy(indices)] - 1) ** 2 * (1 + torch.from_numpy(indices))
            pruner.update(losses, indices).backward()
            driven.step()
            scheduler.step()
            driven.zero_grad()
    return parameter.detach(), rates


def test_mean_weights_and_linear_scaling_are_sgd_as_it_was():
    theirs, _ = path("batch", "none")
    ours, rates = path("mean", "linear")
    assert torch.allclose(ours, theirs, rtol=1e-5)
    unscaled, plain_rates = path("mean", "none")
    assert not torch.allclose(unscaled, theirs, rtol=1e-2)
    assert rates == plain_rates  # between updates they are the schedule's


def test_linear_scaling_decays_weights_as_much_as_full_data_would():
    """With the batch normalizer a pruned epoch's fewer steps leave a share of the decay."""
    decay = {}
    for scaling in ("none", "sqrt", "linear"):
        parameter = torch.nn.Parameter(torch.ones(1))
        driven = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.5)
        pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch(0.8), target=[16] * EPOCHS)
        loader = pruner.loader(BATCH)
        scheduler = pruner.lr_scheduler(lr.ConstantLR(driven, 1.0), scaling=scaling)
        for _ in pruner.epochs():
            for indices, _ in loader:
                pruner.record(random_losses(SIZE)[indices], indices)
                parameter.grad = torch.zeros(1)
                driven.step()
                scheduler.step()
        decay[scaling] = -math.log(float(parameter.detach()))
    on_full_data = -STEPS * math.log(1 - 0.01 * 0.5)
    assert decay["linear"] == pytest.approx(on_full_data, rel=1e-3)
    assert decay["none"] == pytest.approx(0.75 * on_full_data, rel=1e-3)
    assert decay["none"] < decay["sqrt"] < decay["linear"]


def test_scaling_follows_the_epochs_mean_weight():
    pruner = DynamicPruner(
        range(SIZE), EPOCHS, target=[0, 16, 48, 0, 0, 0, 0, 0], policy=RandomPruning()
    )
    loader = pruner.loader(BATCH)
    seen = []
    for epoch in range(4):
        pruner.set_epoch(epoch)
        seen.append(pruner.mean_weight)
        for indices, _ in loader:
            pruner.record(torch.ones(len(indices)), indices)
    assert seen == pytest.approx([1, 64 / 48, 4, 1])


def test_an_unknown_scaling_is_refused():
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
    pruner.sampler(BATCH)
    with pytest.raises(ValueError, match="scaling is 'square'; choose 'none', 'sqrt' or 'linear'"):
        pruner.lr_scheduler(SCHEDULES["Cosine"](optimizer()), scaling="square")


def test_stepping_without_new_losses_changes_nothing():
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
    pruner.sampler(BATCH)
    driven = optimizer()
    scheduler = pruner.lr_scheduler(SCHEDULES["Cosine"](driven))
    record_epoch(pruner, random_losses(SIZE))
    driven.step()
    scheduler.step()
    rates = scheduler.get_last_lr()
    for _ in range(3):
        driven.step()
        scheduler.step()
    assert scheduler.get_last_lr() == rates != [0.1]


def test_one_update_for_several_batches():
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
    loader = pruner.loader(BATCH)
    driven = optimizer()
    updates = pruner.full_steps // 4
    scheduler = pruner.lr_scheduler(lr.CosineAnnealingLR(driven, updates), updates)
    for _ in pruner.epochs():
        for step, (indices, _) in enumerate(loader):
            pruner.update(random_losses(SIZE)[indices], indices)
            if step % 4 == 3:
                driven.step()
                scheduler.step()
    driven.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(0, abs=1e-12)]


def test_state_goes_on():
    def make():
        pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=InfoBatch())
        pruner.sampler(BATCH)
        driven = optimizer()
        return pruner, driven, pruner.lr_scheduler(SCHEDULES["OneCycle"](driven))

    pruner, driven, scheduler = make()
    record_epoch(pruner, random_losses(SIZE))
    driven.step()
    scheduler.step()
    other, moved, resumed = make()
    other.load_state_dict(pruner.state_dict())
    moved.load_state_dict(driven.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    for run, optim, schedule in ((pruner, driven, scheduler), (other, moved, resumed)):
        run.set_epoch(1)
        record_epoch(run, random_losses(SIZE))
        optim.step()
        schedule.step()
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert resumed.optimizer is moved


def test_a_schedule_that_counts_no_steps():
    made = batched_pruner()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(TypeError, match="ReduceLROnPlateau does not count steps"):
        made.lr_scheduler(plateau)
