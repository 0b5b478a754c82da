"""Rates are multiplied during a step, once; before it, after it and if it fails they are as planned."""

import gc
import weakref

import pytest
import torch
from torch.optim import lr_scheduler as lr

from helpers import random_losses
from infobatch import DynamicPruner, RandomPruning

SIZE, BATCH, EPOCHS = 64, 4, 4
RATE, SCALED = pytest.approx(0.1), pytest.approx(0.2)
ROOT = 2**0.5


def run(seed=0):
    """A run whose epochs have half of the samples, and so twice the weight, from the second on."""
    pruner = DynamicPruner(range(SIZE), EPOCHS, policy=RandomPruning(0.5), delta=1, seed=seed)
    return pruner, pruner.loader(BATCH)


def sgd(rate=0.1, kind=torch.optim.SGD):
    return kind([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], rate)


def constant(optimizer):
    return lr.LambdaLR(optimizer, lambda step: 1.0)


def rate_of_a_step(optimizer, closure=None):
    """The rate that an update is made with: how far it goes along a gradient of one."""
    (parameter,) = optimizer.param_groups[0]["params"]
    before, parameter.grad = parameter.item(), torch.ones_like(parameter)
    optimizer.step(closure)
    return before - parameter.item()


def train(pruner, loader, optimizer, schedules=(), epochs=EPOCHS):
    """For each step its epoch, the optimizer's rate before it, and the rate that it was made with."""
    points = []
    for epoch in range(epochs):
        pruner.set_epoch(epoch)
        for indices, _ in loader:
            pruner.record(random_losses(SIZE)[indices], indices)
            shown = float(optimizer.param_groups[0]["lr"])
            points.append((epoch, shown, rate_of_a_step(optimizer)))
            for schedule in schedules:
                schedule.step()
    return points


def full():
    raise MemoryError("full")


def step_that_fails(optimizer):
    with pytest.raises(MemoryError, match="full"):
        optimizer.step(full)


def half_used(pruner, loader):
    """Bring a run into its first pruned epoch."""
    train(pruner, loader, sgd(), epochs=1)
    pruner.set_epoch(1)
    assert pruner.mean_weight == 2


# -- Once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["linear", "sqrt"])
@pytest.mark.parametrize("anew", [False, True], ids=["the same scheduler", "another scheduler"])
def test_a_schedule_that_is_made_twice_scales_once(anew, scaling):
    (pruner, loader), optimizer = run(), sgd()
    scheduler = constant(optimizer)
    first = pruner.lr_scheduler(scheduler, scaling=scaling)
    again = constant(optimizer) if anew else scheduler
    schedule = pruner.lr_scheduler(again, scaling=scaling)
    factor = {"linear": 2, "sqrt": ROOT}[scaling]
    for epoch, shown, used in train(pruner, loader, optimizer, [schedule]):
        assert shown == RATE
        assert used == pytest.approx(0.1 * (factor if epoch else 1)), epoch
    assert first.get_last_lr() == [RATE]


def test_of_one_scheduler_the_last_scaling_counts():
    (pruner, loader), optimizer = run(), sgd()
    scheduler = constant(optimizer)
    first = pruner.lr_scheduler(scheduler, scaling="linear")
    schedule = pruner.lr_scheduler(scheduler, scaling="none")
    assert all(used == RATE for _, _, used in train(pruner, loader, optimizer, [schedule]))
    assert first.scaling == "linear"


def test_two_schedules_of_one_optimizer_scale_once():
    def schedulers(optimizer, steps):
        return lr.LinearLR(optimizer, 0.5, 1, 10), lr.MultiStepLR(optimizer, [steps // 2])

    points = {}
    for scaling in ("none", "sqrt"):
        (pruner, loader), optimizer = run(), sgd()
        both = schedulers(optimizer, pruner.full_steps)
        schedules = [pruner.lr_scheduler(each, scaling=scaling) for each in both]
        points[scaling] = train(pruner, loader, optimizer, schedules)
    assert len({shown for _, shown, _ in points["none"]}) > 10
    for (epoch, plain, _), (_, shown, used) in zip(points["none"], points["sqrt"], strict=True):
        assert shown == plain
        assert used == pytest.approx(plain * (ROOT if epoch else 1)), epoch


def test_a_step_within_a_step_scales_once():
    """PyTorch runs the hooks for each class whose step is called."""

    class Inherits(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    sgd()  # from now on SGD's own step runs hooks
    (pruner, loader), optimizer = run(), sgd(kind=Inherits)
    schedule = pruner.lr_scheduler(constant(optimizer), scaling="linear")
    for epoch, shown, used in train(pruner, loader, optimizer, [schedule]):
        assert shown == RATE
        assert used == (SCALED if epoch else RATE), epoch


@pytest.mark.parametrize("scalings", [("none", "linear"), ("linear", "none")], ids=str)
def test_a_schedule_that_asks_for_no_scaling_leaves_it_to_the_other(scalings):
    (pruner, loader), optimizer = run(), sgd()
    schedules = [pruner.lr_scheduler(constant(optimizer), scaling=each) for each in scalings]
    for epoch, shown, used in train(pruner, loader, optimizer, schedules, epochs=2):
        assert shown == RATE
        assert used == (SCALED if epoch else RATE), epoch
    del schedules[scalings.index("linear")]
    assert rate_of_a_step(optimizer) == RATE


@pytest.mark.parametrize(("first", "second"), [("sqrt", "linear"), ("linear", "sqrt")])
def test_two_scalings_of_one_optimizer_are_refused(first, second):
    (pruner, loader), optimizer = run(), sgd()
    schedule = pruner.lr_scheduler(constant(optimizer), scaling=first)
    warmup = lr.ConstantLR(optimizer, 1.0)
    said = f"scaling is '{second}', but LambdaLR, .* has '{first}'.* Give both the same"
    with pytest.raises(ValueError, match=said):
        pruner.lr_scheduler(warmup, scaling=second)
    factor = {"sqrt": ROOT, "linear": 2}
    for epoch, _, used in train(pruner, loader, optimizer, [schedule], epochs=2):
        assert used == pytest.approx(0.1 * (factor[first] if epoch else 1))
    del schedule
    other = pruner.lr_scheduler(warmup, scaling=second)
    assert rate_of_a_step(optimizer) == pytest.approx(0.1 * factor[other.scaling])


# -- For the run under way ---------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["none", "linear"])
def test_a_second_run_with_the_same_optimizer_has_its_own_factor(scaling):
    (first, first_loader), (second, loader), optimizer = run(), run(seed=1), sgd()
    stopped = first.lr_scheduler(constant(optimizer), scaling="linear")
    points = train(first, first_loader, optimizer, [stopped], epochs=2)
    assert points[-1][2] == SCALED
    assert first.mean_weight == 2
    schedule = second.lr_scheduler(constant(optimizer), scaling=scaling)
    for epoch, shown, used in train(second, loader, optimizer, [schedule]):
        assert shown == RATE
        assert used == (SCALED if epoch and scaling == "linear" else RATE), epoch


def test_the_first_run_goes_on_where_the_second_is_gone():
    (pruner, loader), (other, _), optimizer = run(), run(seed=1), sgd()
    schedule = pruner.lr_scheduler(constant(optimizer), scaling="linear")
    tried = other.lr_scheduler(constant(optimizer), scaling="linear")
    half_used(pruner, loader)
    assert rate_of_a_step(optimizer) == RATE
    del tried
    assert rate_of_a_step(optimizer) == SCALED
    assert schedule.get_last_lr() == [RATE]


def test_a_schedule_that_is_gone_scales_no_more():
    (pruner, loader), optimizer = run(), sgd()
    schedule = pruner.lr_scheduler(constant(optimizer), scaling="linear")
    half_used(pruner, loader)
    assert rate_of_a_step(optimizer) == SCALED
    del schedule
    assert rate_of_a_step(optimizer) == RATE


def test_nothing_outlives_its_use():
    (pruner, loader), optimizer = run(), sgd()
    schedule = pruner.lr_scheduler(constant(optimizer), scaling="linear")
    half_used(pruner, loader)
    step_that_fails(optimizer)
    gone = [weakref.ref(each) for each in (pruner, schedule)]
    del pruner, loader, schedule
    gc.collect()
    assert [each() for each in gone] == [None, None]
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None


# -- Steps that fail ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tensors", [False, True], ids=["numbers", "tensors"])
@pytest.mark.parametrize("stepped", [False, True], ids=["passed over", "schedule stepped"])
def test_steps_that_fail_leave_the_schedules_rates(stepped, tensors):
    """Also with a schedule that goes on from the rate that it finds."""
    (pruner, loader), optimizer = run(), sgd(torch.tensor(0.1, dtype=torch.float64) if tensors else 0.1)
    schedule = pruner.lr_scheduler(lr.ExponentialLR(optimizer, 0.97), scaling="linear")
    rate = optimizer.param_groups[0]["lr"]
    num_failed = 0
    for epoch in pruner.epochs():
        for number, (indices, _) in enumerate(loader):
            pruner.record(random_losses(SIZE)[indices], indices)
            expected = 0.1 * 0.97**schedule.count
            if number % 3 == 1:
                step_that_fails(optimizer)
                step_that_fails(optimizer)
                num_failed += epoch > 0
                if not stepped:
                    continue
            else:
                assert rate_of_a_step(optimizer) == pytest.approx(expected * (2 if epoch else 1))
                assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(expected)
            schedule.step()
            expected = 0.1 * 0.97**schedule.count
            assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(expected)
    assert num_failed > 5
    assert not tensors or optimizer.param_groups[0]["lr"] is rate


@pytest.mark.parametrize("tensors", [False, True], ids=["numbers", "tensors"])
def test_states_after_a_step_that_failed_have_the_schedules_rates(tensors):
    (pruner, loader), optimizer = run(), sgd(torch.tensor(0.1) if tensors else 0.1)
    schedule = pruner.lr_scheduler(constant(optimizer), scaling="linear")
    half_used(pruner, loader)
    step_that_fails(optimizer)
    saved, states = optimizer.state_dict(), schedule.state_dict()
    assert float(saved["param_groups"][0]["lr"]) == RATE
    assert float(states["rates"][0]["lr"]) == RATE
    optimizer.load_state_dict(saved)
    assert float(optimizer.param_groups[0]["lr"]) == RATE
    assert rate_of_a_step(optimizer) == SCALED


def test_a_schedule_that_is_made_after_a_step_that_failed_begins_at_the_unscaled_rate():
    (first, first_loader), (second, loader), optimizer = run(), run(seed=1), sgd()
    stopped = first.lr_scheduler(constant(optimizer), scaling="linear")
    half_used(first, first_loader)
    scheduler = lr.ExponentialLR(optimizer, 0.5)
    step_that_fails(optimizer)
    schedule = second.lr_scheduler(scheduler, EPOCHS, scaling="linear")
    assert optimizer.param_groups[0]["lr"] == RATE
    points = train(second, loader, optimizer, [schedule])
    assert all(shown == pytest.approx(0.1 * 0.5**epoch) for epoch, shown, _ in points)
    assert stopped.scaling == schedule.scaling


# -- What is read while an optimizer updates ---------------------------------------------------------


class Told:
    """A schedule as timm's, which keeps no list of its last rates."""

    t_in_epochs = False

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self, epoch, metric=None):
        """Epochs change nothing."""

    def step_update(self, num_updates, metric=None):
        self.optimizer.param_groups[0]["lr"] = 0.1

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}


def test_reading_during_a_step_gives_the_schedules_rates_and_changes_nothing():
    (pruner, loader), optimizer = run(), sgd()
    schedule = pruner.lr_scheduler(Told(optimizer), scaling="linear")
    half_used(pruner, loader)
    read = []

    def closure():
        read.append(optimizer.state_dict()["param_groups"][0]["lr"])
        read.append(schedule.state_dict()["rates"][0]["lr"])
        read.extend(schedule.get_last_lr())
        return torch.zeros(())

    assert rate_of_a_step(optimizer, closure) == SCALED
    assert read == [RATE] * 3


# -- Which optimizers --------------------------------------------------------------------------------


def test_groups_that_share_a_tensor_are_scaled_once_and_keep_it():
    rate = torch.tensor(0.1, dtype=torch.float64)
    parameters = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [each]} for each in parameters], rate)
    assert optimizer.param_groups[0]["lr"] is optimizer.param_groups[1]["lr"]
    (pruner, loader) = run()
    schedule = pruner.lr_scheduler(constant(optimizer), scaling="linear")
    rates = [group["lr"] for group in optimizer.param_groups]
    seen = []

    def closure():
        seen.extend(group["lr"] for group in optimizer.param_groups)
        return torch.zeros(())

    half_used(pruner, loader)
    parameters[1].grad = torch.ones_like(parameters[1])
    assert rate_of_a_step(optimizer, closure) == SCALED
    assert parameters[1].item() == pytest.approx(-0.2)
    for group, before, within in zip(optimizer.param_groups, rates, seen, strict=True):
        assert group["lr"] is before is within
        assert group["lr"].item() == RATE
    assert schedule.get_last_lr() == [RATE, RATE]


class Wrapper:
    """A wrapper as Accelerate's, which hands steps on and has no hooks of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def test_the_optimizer_in_a_wrapper_is_the_one_that_is_scaled():
    (pruner, loader), optimizer = run(), sgd()
    schedule = pruner.lr_scheduler(Told(Wrapper(Wrapper(optimizer))), scaling="linear")
    again = pruner.lr_scheduler(Told(optimizer), scaling="linear")
    for epoch, shown, used in train(pruner, loader, optimizer, [schedule, again]):
        assert shown == RATE
        assert used == (SCALED if epoch else RATE), epoch


class Foreign:
    """An optimizer that is none of PyTorch's."""

    def __init__(self):
        self.param_groups = [{"lr": 0.1}]


def test_an_optimizer_without_hooks_is_refused_where_it_would_be_scaled():
    (pruner, _), optimizer = run(), Foreign()
    with pytest.raises(TypeError, match=r"scaling is 'sqrt', .* Foreign .* Give scaling='none'"):
        pruner.lr_scheduler(Told(optimizer), scaling="sqrt")
    assert pruner.lr_scheduler(Told(optimizer)).get_last_lr() == [0.1]
