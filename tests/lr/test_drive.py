"""Wherever a run is resumed, rates are those of its position, as if it had been so from the start."""

import io
import itertools
from functools import partial

import pytest
import torch
from torch.optim import lr_scheduler as lr
from torch.optim.swa_utils import SWALR

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, InfoBatch, NoPruning

SIZE, BATCH, EPOCHS = 64, 4, 6


class Line:
    """A callable object, whose length a state holds."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, step):
        return max(0.0, 1 - step / self.steps)


def decay(steps, step):
    return 1 / (1 + step / steps)


SCHEDULES = {
    "Lambda": lambda o, n: lr.LambdaLR(o, lambda step: 1 - step / n),
    "Lambda, partial": lambda o, n: lr.LambdaLR(o, partial(decay, n)),
    "Lambda, object": lambda o, n: lr.LambdaLR(o, Line(n)),
    "Lambda, method": lambda o, n: lr.LambdaLR(o, Line(n).__call__),
    "Multiplicative": lambda o, n: lr.MultiplicativeLR(o, lambda step: 0.1 ** (1 / n)),
    "Step": lambda o, n: lr.StepLR(o, n // 3, 0.5),
    "MultiStep": lambda o, n: lr.MultiStepLR(o, [n // 2, 3 * n // 4]),
    "Constant": lambda o, n: lr.ConstantLR(o, 0.25, n // 2),
    "Linear": lambda o, n: lr.LinearLR(o, 0.1, 1, n // 2),
    "Exponential": lambda o, n: lr.ExponentialLR(o, 0.01 ** (1 / n)),
    "Polynomial": lambda o, n: lr.PolynomialLR(o, n, 2),
    "Cosine": lambda o, n: lr.CosineAnnealingLR(o, n, 0.001),
    "Restarts": lambda o, n: lr.CosineAnnealingWarmRestarts(o, n // 7, 2),
    "Cyclic": lambda o, n: lr.CyclicLR(o, 0.01, 0.1, n // 5, mode="triangular2"),
    "OneCycle": lambda o, n: lr.OneCycleLR(o, 0.3, total_steps=n),
    "SWA": lambda o, n: SWALR(o, 0.01, n // 2),
    "Sequential": lambda o, n: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1, n // 8), lr.CosineAnnealingLR(o, n - n // 8)], [n // 8]
    ),
    "Sequential, functions": lambda o, n: lr.SequentialLR(
        o, [lr.LambdaLR(o, lambda s: (s + 1) / n), lr.LambdaLR(o, Line(n))], [n // 4]
    ),
    "Sequential with cycles": lambda o, n: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, 1, n // 8), lr.CyclicLR(o, 0.01, 0.1, n // 5)], [n // 8]
    ),
    "Chained": lambda o, n: lr.ChainedScheduler(
        [lr.LinearLR(o, 0.1, 1, n // 8), lr.ExponentialLR(o, 0.01 ** (1 / n))]
    ),
    "Chained of sequential": lambda o, n: lr.ChainedScheduler(
        [
            lr.SequentialLR(o, [lr.ConstantLR(o, 0.5, n), lr.CosineAnnealingLR(o, n)], [n // 6]),
            lr.StepLR(o, n // 4, 0.5),
        ]
    ),
}

RESUMED = {
    "as it was": (BATCH, EPOCHS),
    "longer": (BATCH, 2 * EPOCHS),
    "shorter": (BATCH, EPOCHS - 1),
    "larger batches": (16, EPOCHS),
    "smaller batches": (2, EPOCHS),
    "as many steps": (8, 2 * EPOCHS),
}
UNCHANGED_AND_CHANGED = [(BATCH, EPOCHS), (8, 9)]


def optimizer():
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.02)]
    return torch.optim.SGD(groups, momentum=0.9)


class Run:
    def __init__(self, make, batch_size=BATCH, epochs=EPOCHS, policy=None):
        self.pruner = DynamicPruner(Numbers(SIZE), epochs, policy=policy or InfoBatch(0.5))
        self.loader = self.pruner.loader(batch_size)
        self.optimizer = optimizer()
        self.make = partial(make, n=self.pruner.full_steps)
        self.wrap()

    def wrap(self):
        self.scheduler = self.pruner.lr_scheduler(self.make(self.optimizer))

    def train(self, num_steps=-1):
        for _ in self.pruner.epochs():
            for indices, _ in self.loader:
                self.pruner.update(random_losses(SIZE)[indices], indices)
                self.optimizer.step()
                self.scheduler.step()
                num_steps -= 1
                if num_steps == 0:
                    return

    def state(self):
        file = io.BytesIO()
        parts = ("pruner", "scheduler", "optimizer")
        torch.save({name: getattr(self, name).state_dict() for name in parts}, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    def load(self, state, order=("pruner", "scheduler", "optimizer")):
        for name in order:
            getattr(self, name).load_state_dict(state[name])

    @property
    def rates(self):
        return settings(self.optimizer)

    @property
    def expected(self):
        """The settings of a plain optimizer whose plain schedule has come so far."""
        other = optimizer()
        schedule = self.make(other)
        for _ in range(self.pruner.full_steps_done):
            other.step()
            schedule.step()
        return settings(other)


def settings(optimizer):
    names = ("lr", "momentum")
    return [
        [pytest.approx(group[name], abs=1e-12) for name in names] for group in optimizer.param_groups
    ]


pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_a_resumed_rate_is_that_of_its_position(make):
    run = Run(make)
    states = [run.state()]
    for num_steps in (37, -1):
        run.train(num_steps)
        states.append(run.state())
    for state, (name, changed) in itertools.product(states, RESUMED.items()):
        if name == "shorter" and state is states[-1]:
            continue  # refused: it has no such epoch
        resumed = Run(make, *changed)
        resumed.load(state)
        assert resumed.rates == resumed.expected, name
        assert resumed.scheduler.get_last_lr() == [group[0] for group in resumed.rates]
        resumed.train(3)
        assert resumed.rates == resumed.expected, name
        if resumed.pruner.progress < 1:
            resumed.train()
        assert resumed.pruner.progress == 1
        assert resumed.rates == resumed.expected, name


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_parts_are_loaded_in_any_order(make):
    first = Run(make)
    first.train(37)
    state = first.state()
    for order, changed in itertools.product(itertools.permutations(state), UNCHANGED_AND_CHANGED):
        resumed = Run(make, *changed)
        resumed.load(state, order)
        assert resumed.rates == resumed.expected, order


@pytest.mark.parametrize("made_after", ["pruner", "optimizer", "both"])
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_that_is_made_after_the_others_were_loaded(make, made_after):
    if made_after != "pruner" and make is SCHEDULES["SWA"]:
        pytest.skip("nothing tells its first rate")
    first = Run(make)
    first.train(37)
    state = first.state()
    for changed in UNCHANGED_AND_CHANGED:
        resumed = Run(make, *changed)
        names = ["pruner", "optimizer"] if made_after == "both" else [made_after]
        resumed.optimizer = optimizer()
        resumed.load(state, names)
        resumed.wrap()
        resumed.load(state, [name for name in state if name not in names])
        assert resumed.rates == resumed.expected, changed


def test_what_was_done_to_a_rate_by_hand_is_kept_where_nothing_changed():
    first = Run(SCHEDULES["Cosine"])
    first.train(20)
    for group in first.optimizer.param_groups:
        group["lr"] *= 0.5
    first.train(5)
    resumed, longer = Run(SCHEDULES["Cosine"]), Run(SCHEDULES["Cosine"], epochs=12)
    resumed.load(first.state())
    assert resumed.rates == first.rates != resumed.expected
    longer.load(first.state())
    assert longer.rates == longer.expected


@pytest.mark.parametrize("name", ["OneCycle", "Cosine"])
def test_another_schedule_of_the_same_length_is_the_new_one(name):
    def with_another_peak(o, n):
        for group in o.param_groups:
            group["lr"] = group["initial_lr"] = 0.05
        return SCHEDULES[name](o, n)

    first = Run(SCHEDULES["Linear"])
    first.train(30)
    resumed = Run(with_another_peak)
    resumed.load(first.state())
    assert resumed.rates == resumed.expected


def test_a_schedule_that_is_stepped_seldom_goes_on_bit_for_bit():
    class Seldom(Run):
        def train(self, num_steps=-1):
            rates = []
            for _ in self.pruner.epochs():
                for indices, _ in self.loader:
                    self.pruner.update(random_losses(SIZE)[indices], indices)
                    self.optimizer.step()
                    if indices[0] % 4 == 0:
                        self.scheduler.step()
                    rates.append(self.optimizer.param_groups[0]["lr"])
                    if len(rates) == num_steps:
                        return rates
            return rates

    whole = Seldom(SCHEDULES["Cosine"], policy=NoPruning()).train()
    for stop, order in itertools.product(
        range(20, 27), itertools.permutations(("pruner", "scheduler", "optimizer"))
    ):
        first, resumed = (Seldom(SCHEDULES["Cosine"], policy=NoPruning()) for _ in range(2))
        first.train(stop)
        resumed.load(first.state(), order)
        assert resumed.train() == whole[stop:], (stop, order)


def test_going_back_in_the_same_process():
    run = Run(SCHEDULES["Sequential"])
    run.train(10)
    state, rates = run.state(), run.rates
    run.train(20)
    run.load(state)
    assert run.rates == rates
    run.train(3)
    assert run.rates == run.expected


def test_loading_an_optimizer_alone_keeps_the_rate_of_the_position():
    run = Run(SCHEDULES["Cosine"], policy=NoPruning())
    run.train(10)
    state = run.optimizer.state_dict()
    run.train(20)
    run.optimizer.load_state_dict(state)
    assert run.rates == run.expected


@pytest.mark.parametrize("changed", UNCHANGED_AND_CHANGED, ids=["as it was", "changed"])
def test_two_schedules_of_one_optimizer(changed):
    def chained(o, n):
        warmup = lr.LinearLR(o, 0.1, 1, n // 8)
        return lr.ChainedScheduler([warmup, lr.MultiStepLR(o, [n // 3, n // 2])])

    class Two(Run):
        def wrap(self):
            n = self.pruner.full_steps
            self.parts = [self.pruner.lr_scheduler(lr.LinearLR(self.optimizer, 0.1, 1, n // 8))]
            steps = lr.MultiStepLR(self.optimizer, [n // 3, n // 2])
            self.parts.append(self.pruner.lr_scheduler(steps))
            self.scheduler = self

        def step(self):
            for part in self.parts:
                part.step()

        def state_dict(self):
            return [part.state_dict() for part in self.parts]

        def load_state_dict(self, states):
            for part, state in zip(self.parts, states, strict=True):
                part.load_state_dict(state)

    first = Two(chained)
    first.train(37)
    state = first.state()
    for order in itertools.permutations(state):
        resumed = Two(chained, *changed)
        resumed.load(state, order)
        assert resumed.rates == resumed.expected, order
        resumed.train(2)
        assert resumed.rates == resumed.expected, order


def test_rates_that_are_tensors_stay_the_same_tensors():
    def tensors():
        return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], torch.tensor(0.1))

    driven = tensors()
    pruner = DynamicPruner(Numbers(SIZE), EPOCHS, policy=NoPruning())
    loader = pruner.loader(BATCH)
    scheduler = pruner.lr_scheduler(lr.CosineAnnealingLR(driven, pruner.full_steps))
    for indices, _ in loader:
        pruner.update(random_losses(SIZE)[indices], indices)
        driven.step()
        scheduler.step()
    longer, moved = DynamicPruner(Numbers(SIZE), 2 * EPOCHS, policy=NoPruning()), tensors()
    longer.sampler(BATCH)
    resumed = longer.lr_scheduler(lr.CosineAnnealingLR(moved, longer.full_steps))
    moved.load_state_dict(driven.state_dict())
    rate = moved.param_groups[0]["lr"]
    longer.load_state_dict(pruner.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert moved.param_groups[0]["lr"] is rate
    expected = tensors()
    schedule = lr.CosineAnnealingLR(expected, longer.full_steps)
    for _ in range(SIZE // BATCH):
        expected.step()
        schedule.step()
    assert rate == expected.param_groups[0]["lr"]


def test_the_state_of_an_unwrapped_schedule_is_refused():
    run = Run(SCHEDULES["Cosine"])
    with pytest.raises(ValueError, match=r"no 'due', so it is not of a schedule that"):
        run.scheduler.load_state_dict(run.scheduler.scheduler.state_dict())
