"""Which schedules are driven, and which are refused before the first step."""

import math

import pytest
import torch
from torch.optim import lr_scheduler as lr

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, InfoBatch, NoPruning

SIZE, BATCH, EPOCHS = 1000, 10, 20
STEPS = EPOCHS * SIZE // BATCH


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)


def batched(epochs=EPOCHS):
    pruner = DynamicPruner(Numbers(SIZE), epochs, policy=InfoBatch(0.5))
    return pruner, pruner.loader(BATCH)


class Stateful:
    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.base = [group["lr"] for group in optimizer.param_groups]

    def state_dict(self):
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state):
        vars(self).update(state)

    def set(self, part):
        for group, rate in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = rate * part


class Told(Stateful):
    """As timm's: told the number of an epoch, and of an update, of which it goes by one."""

    def __init__(self, optimizer, length, t_in_epochs):
        super().__init__(optimizer)
        self.length, self.t_in_epochs = length, t_in_epochs

    def step(self, epoch, metric=None):
        if self.t_in_epochs:
            self.set(1 - epoch / self.length)

    def step_update(self, num_updates, metric=None):
        if not self.t_in_epochs:
            self.set(1 - num_updates / self.length)


class Counting(Stateful):
    """As mmengine's: counts its steps, each of which is an epoch or an iteration."""

    def __init__(self, optimizer, length, by_epoch=True):
        super().__init__(optimizer)
        self.length, self.by_epoch, self.last_step = length, by_epoch, -1
        self.step()

    def step(self):
        self.last_step += 1
        self.set(1 - self.last_step / self.length)


@pytest.mark.parametrize("kind", [Told, Counting])
@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "steps"])
def test_schedules_of_other_libraries(kind, by_epoch):
    def begin(epochs):
        pruner, loader = batched(epochs)
        driven = optimizer()
        length = epochs if by_epoch else pruner.full_steps
        return pruner, loader, driven, pruner.lr_scheduler(kind(driven, length, by_epoch))

    def train(pruner, loader, driven, scheduler, num_steps):
        for _ in pruner.epochs():
            for indices, _ in loader:
                pruner.update(random_losses(SIZE)[indices], indices)
                driven.step()
                scheduler.step()
                unit = epochs if by_epoch else pruner.full_steps
                done = int(pruner.progress * unit + 1e-6)
                assert scheduler.get_last_lr() == [pytest.approx(0.1 * (1 - done / unit))]
                num_steps -= 1
                if num_steps == 0:
                    return

    epochs = EPOCHS
    first = begin(epochs)
    train(*first, num_steps=700)
    states = [part.state_dict() for part in first if hasattr(part, "state_dict")]
    epochs = 2 * EPOCHS
    longer = begin(epochs)
    for part, state in zip((longer[0], *longer[2:]), states, strict=True):
        part.load_state_dict(state)
    train(*longer, num_steps=-1)
    assert longer[2].param_groups[0]["lr"] == pytest.approx(0)


def test_the_step_that_other_schedules_are_told():
    pruner, loader = batched()
    assert pruner.full_steps_done == 0
    for epoch in pruner.epochs():
        for number, (indices, _) in enumerate(loader, 1):
            pruner.update(random_losses(SIZE)[indices], indices)
            if epoch == 0:
                assert pruner.full_steps_done == number
        assert pruner.full_steps_done == (epoch + 1) * SIZE // BATCH
    assert pruner.full_steps_done == pruner.full_steps == STEPS


class OnPlateaus(Told):
    def __init__(self, optimizer):
        super().__init__(optimizer, 1, True)
        self.lr_scheduler = lr.ReduceLROnPlateau(optimizer)


@pytest.mark.parametrize(
    "make",
    [lr.ReduceLROnPlateau, OnPlateaus, lambda optimizer: lambda step: 0.1],
    ids=["plateau", "own", "function"],
)
def test_what_counts_no_steps_is_refused(make):
    pruner, _ = batched()
    schedule = make(optimizer())
    with pytest.raises(TypeError, match=r"does not count steps.*own step\(\).*pruner.full_steps_done"):
        pruner.lr_scheduler(schedule)


@pytest.mark.parametrize("steps", [0, -3, float("nan"), float("inf"), "8", True])
def test_a_number_of_steps_that_no_schedule_has(steps):
    pruner, _ = batched()
    with pytest.raises(ValueError, match=r"total_steps is .*above 0"):
        pruner.lr_scheduler(lr.StepLR(optimizer(), 3), total_steps=steps)


BY_EPOCHS = {
    "Cosine": lambda o: lr.CosineAnnealingLR(o, EPOCHS),
    "OneCycle": lambda o: lr.OneCycleLR(o, 0.1, total_steps=EPOCHS),
    "Polynomial": lambda o: lr.PolynomialLR(o, EPOCHS),
    "Linear": lambda o: lr.LinearLR(o, 1, 0, EPOCHS),
    "MultiStep": lambda o: lr.MultiStepLR(o, [10, 15]),
    "Step": lambda o: lr.StepLR(o, 6),
    "Exponential": lambda o: lr.ExponentialLR(o, 0.9),
    "Sequential": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1, 5), lr.CosineAnnealingLR(o, EPOCHS - 5)], [5]
    ),
    "Chained": lambda o: lr.ChainedScheduler(
        [lr.LinearLR(o, 0.1, 1, 5), lr.CosineAnnealingLR(o, EPOCHS)]
    ),
    "Step, often": lambda o: lr.StepLR(o, 1, 0.99),
    "Exponential, slow": lambda o: lr.ExponentialLR(o, 0.99),
    "Sequential, Step": lambda o: lr.SequentialLR(o, [lr.LinearLR(o, 0.1, 1, 5), lr.StepLR(o, 5)], [5]),
    "Lambda": lambda o: lr.LambdaLR(o, lambda epoch: 0.95**epoch),
    "Lambda to 0": lambda o: lr.LambdaLR(o, lambda epoch: max(0, 1 - epoch / EPOCHS)),
    "Lambda below 0": lambda o: lr.LambdaLR(o, lambda epoch: 1 - epoch / EPOCHS),
}


@pytest.mark.parametrize("make", BY_EPOCHS.values(), ids=BY_EPOCHS)
def test_a_schedule_of_epochs_needs_their_number(make):
    pruner, _ = batched()
    with pytest.raises(ValueError, match=r"seems to count epochs: .*total_steps=pruner.run_length"):
        pruner.lr_scheduler(make(optimizer()))
    pruner.lr_scheduler(make(optimizer()), total_steps=pruner.run_length)
    DynamicPruner(Numbers(SIZE), EPOCHS).loader(SIZE)  # as many steps as epochs are no mistake


def test_milestones_of_epochs_are_told_where_epochs_have_few_batches():
    pruner = DynamicPruner(Numbers(SIZE), 200, policy=InfoBatch(0.5))
    pruner.loader(SIZE // 20)
    with pytest.raises(ValueError, match="seems to count epochs: its last change comes at 150"):
        pruner.lr_scheduler(lr.MultiStepLR(optimizer(), [100, 150]))


PERHAPS_BY_EPOCHS = {
    "a warm-up before": lambda o: lr.CosineAnnealingLR(o, EPOCHS - 5),
    "a warm-up counted twice": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1, 5), lr.CosineAnnealingLR(o, EPOCHS)], [5]
    ),
    "one too few": lambda o: lr.PolynomialLR(o, EPOCHS - 1),
    "restarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 5),
}


@pytest.mark.parametrize("make", PERHAPS_BY_EPOCHS.values(), ids=PERHAPS_BY_EPOCHS)
def test_a_schedule_that_may_count_epochs_is_warned_of(make):
    pruner, _ = batched()
    with pytest.warns(UserWarning, match=r"seems to count epochs: .*total_steps=pruner.run_length"):
        pruner.lr_scheduler(make(optimizer()))
    pruner.lr_scheduler(make(optimizer()), total_steps=pruner.full_steps)


def rates_of(pruner, loader, trained, schedule):
    """The rates after each step of a run."""
    rates = []
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.ones(len(indices)), indices)
            trained.step()
            schedule.step()
            rates.append(schedule.get_last_lr()[0])
    return rates


@pytest.mark.parametrize("length", [{"max_steps": 21}, {"num_epochs": 2.1}])
def test_a_schedule_of_epochs_is_stepped_when_they_end_also_in_a_run_that_ends_within_one(length):
    pruner = DynamicPruner(Numbers(100), policy=NoPruning(), **length)
    loader = pruner.loader(10)
    assert pruner.run_length == pytest.approx(2.1)
    trained = optimizer()
    schedule = pruner.lr_scheduler(lr.MultiStepLR(trained, [2], 0.1), total_steps=pruner.run_length)
    rates = rates_of(pruner, loader, trained, schedule)
    assert rates == pytest.approx([rates[0]] * 19 + [rates[0] / 10] * 2)


@pytest.mark.parametrize(("num_epochs", "size", "by_epochs"), [(2.2, 100, False), (2.1, 200, True)])
def test_a_last_epoch_without_a_whole_batch_is_not_waited_for(num_epochs, size, by_epochs):
    pruner = DynamicPruner(Numbers(size), num_epochs, policy=NoPruning())
    loader = pruner.loader(32, drop_last=True)
    trained = optimizer()
    assert pruner.run_length == 2
    total = 2 if by_epochs else pruner.full_steps
    made = lr.LinearLR(trained, 1, 0.01, total)
    schedule = pruner.lr_scheduler(made, total_steps=pruner.run_length if by_epochs else None)
    rates = rates_of(pruner, loader, trained, schedule)
    assert len(rates) == pruner.full_steps
    assert rates[-1] == pytest.approx(trained.defaults["lr"] / 100)
    assert pruner.progress == 1


BY_STEPS = {
    "a warm-up": lambda o: lr.LinearLR(o, 0.1, 1, EPOCHS),
    "a constant one": lambda o: lr.ConstantLR(o, 0.5, EPOCHS),
    "an early drop": lambda o: lr.MultiStepLR(o, [15, STEPS // 2]),
    "a slow decay": lambda o: lr.ExponentialLR(o, 0.999),
    "small steps": lambda o: lr.StepLR(o, 5, 0.99),
    "a cycle": lambda o: lr.CyclicLR(o, 0.01, 0.1, 10),
    "a wave an epoch": lambda o: lr.CosineAnnealingLR(o, STEPS // EPOCHS),
    "restarts with epochs": lambda o: lr.CosineAnnealingWarmRestarts(o, STEPS // EPOCHS, 2),
    "to the end": lambda o: lr.CosineAnnealingLR(o, STEPS),
    "hundreds of steps": lambda o: lr.StepLR(o, 100, 0.4),
    "a decay after a warm-up": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1, 100), lr.StepLR(o, 10, 0.9)], [100]
    ),
    "a function to 0": lambda o: lr.LambdaLR(o, lambda step: max(0, 1 - step / STEPS)),
    "a function of waves": lambda o: lr.LambdaLR(
        o, lambda step: 1 + math.cos(2 * math.pi * step / STEPS)
    ),
    "a table": lambda o: lr.LambdaLR(o, lambda step: [1.0, 0.5][step]),
    "one frozen": lambda o: lr.LambdaLR(o, lambda step: 0.0),
}


@pytest.mark.parametrize("make", BY_STEPS.values(), ids=BY_STEPS)
def test_a_schedule_of_steps_may_begin_in_the_first_epoch(make):
    pruner, _ = batched()
    assert pruner.lr_scheduler(make(optimizer())).total_steps == STEPS


def test_a_schedule_that_ends_too_soon_is_refused_at_once():
    pruner, _ = batched()
    with pytest.raises(ValueError, match="made for 1,999 steps and would be driven for 2,000"):
        pruner.lr_scheduler(lr.OneCycleLR(optimizer(), 0.1, total_steps=STEPS - 1))
