"""A pruner: what it is made of, and that looking at it changes nothing."""

import numpy as np
import pytest

from helpers import Numbers, batched_pruner, new_pruner, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, InfoBatch, NoiseBudget, NoPruning, Sharded, Spaced


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Numbers(0), 5), {}, ValueError, "dataset is empty"),
        ((Numbers(9),), {}, ValueError, "num_epochs is None and max_steps is None; give"),
        ((Numbers(9), 5), {"max_steps": 5}, ValueError, "num_epochs is 5 and max_steps is 5"),
        ((Numbers(9), 0), {}, ValueError, "num_epochs is 0; it must be a number above 0"),
        ((Numbers(9), -1.5), {}, ValueError, r"num_epochs is -1\.5"),
        ((Numbers(9), "ten"), {}, ValueError, "num_epochs is 'ten'"),
        ((Numbers(9), True), {}, ValueError, "num_epochs is True"),
        ((Numbers(9), float("nan")), {}, ValueError, "num_epochs is nan; it must be a number above 0"),
        ((Numbers(9), float("inf")), {}, ValueError, "num_epochs is inf"),
        ((Numbers(9),), {"max_steps": 0}, ValueError, "max_steps is 0"),
        ((Numbers(9), 5), {"delta": float("nan")}, ValueError, "delta is nan"),
        ((Numbers(9), 5), {"target": -0.1}, ValueError, r"target is -0\.1; .* at least 0"),
        ((Numbers(9), 5), {"target": float("nan")}, ValueError, "target is nan"),
        ((Numbers(9), 1e-10), {}, ValueError, "num_epochs is 1e-10; it must be a number above 1e-09"),
        ((Numbers(9), 5), {"delta": "x"}, TypeError, "delta is 'x'; it must be a number, between 0"),
        ((Numbers(9), 5), {"delta": 1.2}, ValueError, r"delta is 1\.2; .* between 0"),
        ((Numbers(9), 5), {"delta": -0.1}, ValueError, r"delta is -0\.1"),
        ((Numbers(9), 5), {"warmup_epochs": -1}, ValueError, "warmup_epochs is -1"),
        ((Numbers(9), 5), {"target": 1.0}, ValueError, r"target is 1\.0; .* less than 1"),
        ((Numbers(9), 5), {"target": 0.9}, ValueError, "cannot be met by any policy"),
        (
            (Numbers(99), 9),
            {"target": 0.45, "policy": InfoBatch()},
            ValueError,
            r"smallest prune_ratio that meets it is 0\.516",
        ),
        ((Numbers(9), 5), {"target": 0.1, "policy": NoPruning()}, ValueError, "leaves out none"),
        ((Numbers(9), 5), {"policy": InfoBatch}, TypeError, r"such as NoiseBudget\(max_noise=1\.1\)"),
        ((Numbers(9), 5), {"policy": "infobatch"}, TypeError, "policy is 'infobatch'; give an object"),
        ((Numbers(9), 5), {"policy": InfoBatch}, TypeError, "such as NoiseBudget.*, not its class"),
        ((Numbers(9), 5), {"normalizer": "sum"}, ValueError, "normalizer is 'sum'; choose"),
        ((Numbers(9), 5), {"seed": -1}, ValueError, "seed is -1"),
        ((Numbers(9), 5), {"rank": 1}, ValueError, "rank is 1 and num_replicas is None; give both"),
        ((Numbers(9), 5), {"rank": 2, "num_replicas": 2}, ValueError, r"rank is 2; .* 0\.\.1"),
        ((Numbers(9), 5), {"rank": 0.5, "num_replicas": 2}, ValueError, r"rank is 0\.5; .* whole"),
        ((Numbers(9), 5), {"rank": 0, "num_replicas": 0}, ValueError, "num_replicas is 0; .*at least 1"),
        ((Numbers(9), 5), {"rank": 0, "num_replicas": 1.5}, ValueError, r"num_replicas is 1\.5; .* 1"),
    ],
)
def test_a_pruner_that_cannot_be(arguments, options, error, message):
    with pytest.raises(error, match=message):
        DynamicPruner(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"policy": InfoBatch()}, 14),
        ({"policy": InfoBatch(), "target": 0.3}, 16),
        ({"policy": InfoBatch(), "target": 0.3, "delta": 0.875}, 14),
        ({"target": [0] * 15 + [50]}, 16),
        ({}, 16),
        ({"layout": Sharded()}, 14),
    ],
    ids=str,
)
def test_a_rule_anneals_as_the_paper_does_a_target_or_a_budget_does_not(options, start):
    assert DynamicPruner(Numbers(100), 16, **options).plan.schedule.annealing_start == start


@pytest.mark.parametrize("options", [{"warmup_epochs": 1.5}, {"warmup_epochs": 1.5, "target": 0.1}])
def test_a_warm_up_of_a_broken_number_of_epochs(options):
    with pytest.raises((TypeError, ValueError), match=r"warmup_epochs is 1\.5"):
        DynamicPruner(Numbers(9), 5, **options)


@pytest.mark.parametrize("target", ["0.3", {"run": 0.3}])
def test_a_target_that_is_neither_a_share_nor_numbers(target):
    with pytest.raises((TypeError, ValueError), match="target is"):
        DynamicPruner(Numbers(9), 3, target=target)


@pytest.mark.parametrize("length", [{"num_epochs": np.int64(3)}, {"max_steps": np.int64(9)}])
def test_a_length_that_numpy_made_is_a_number(length):
    made = DynamicPruner(Numbers(9), **length, seed=np.int64(1))
    made.loader(3)
    assert made.num_epochs == 3


def test_what_leaves_samples_out_where_nothing_is_said():
    made = DynamicPruner(range(100), 10)
    assert repr(made.policy) == repr(NoiseBudget(max_noise=1.1))
    assert made.plan.shrink is not None
    assert made.plan.schedule.prunes(9)
    assert isinstance(DynamicPruner(range(100), 10, target=0.6).policy, Spaced)
    for target in (None, 0.3):
        sharded = DynamicPruner(range(100), 10, target=target, layout=Sharded(), rank=0, num_replicas=1)
        assert repr(sharded.policy) == repr(InfoBatch(prune_ratio=0.5))


def test_looking_changes_nothing():
    def run(look):
        pruner = new_pruner(seed=2)
        loader = pruner.loader(8)
        seen = []
        for _ in pruner.epochs():
            if look:
                next(iter(loader))
                _ = len(loader), list(loader.sampler), pruner.progress, pruner.scores, pruner.selection
                pruner.state_dict(), pruner.report()
                _ = pruner.predict_saving() if pruner.epoch else None
                pruner.set_epoch(pruner.epoch)
            seen.append([batch.tolist() for batch in train_epoch(pruner, loader, random_losses(60))])
        return seen

    assert run(look=True) == run(look=False)


@pytest.mark.parametrize("look", ["epoch", "current", "selection", "progress", "scores", "report"])
def test_looking_before_the_loader_is_made_changes_nothing(look):
    pruner = new_pruner()
    value = getattr(pruner, look)
    if callable(value):
        value()
    assert len(pruner.loader(8)) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 21}, "is of a dataset of 20 samples, this one has 21"),
        ({"seed": 1}, "made with seed 0, this pruner has seed 1"),
        ({"num_epochs": 1}, "taken in epoch 1, but this run has only 1 epochs"),
    ],
)
def test_a_checkpoint_of_another_run(options, message):
    made = batched_pruner()
    record_epoch(made, random_losses(20))
    made.set_epoch(1)
    with pytest.raises(ValueError, match=message):
        batched_pruner(**options).load_state_dict(made.state_dict())


def test_a_checkpoint_of_another_version():
    state = {**batched_pruner().state_dict(), "version": 99}
    with pytest.raises(ValueError, match="version 99, this infobatch reads version 2"):
        batched_pruner().load_state_dict(state)


def test_it_says_what_it_prunes_and_where_it_is():
    pruner = DynamicPruner(Numbers(1200), 3, policy=NoiseBudget(1.2))
    policy = repr(NoiseBudget(1.2))
    assert repr(pruner) == f"DynamicPruner(1,200 samples, 3 epochs, {policy}, not begun)"
    pruner.set_epoch(0)
    assert repr(pruner).endswith("in epoch 0)")
    unknown = DynamicPruner(Numbers(1200), max_steps=80, policy=NoiseBudget(1.2))
    assert repr(unknown) == f"DynamicPruner(1,200 samples, {policy}, not begun)"
