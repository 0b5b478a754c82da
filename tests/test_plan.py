"""How long a run is in steps, known beforehand where it can be."""

import math
import warnings

import numpy as np
import pytest

from helpers import UNMERGED, Numbers, batched_pruner, random_losses, record_epoch, train_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning, RandomPruning
from infobatch.policies import ClassQuotas, PercentileTiers, Proportional


@pytest.mark.parametrize("policy", [InfoBatch(0.5), PercentileTiers(), RandomPruning()])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_with_a_target_every_length_is_known_beforehand(policy, drop_last, shrink):
    pruner = DynamicPruner(Numbers(203), 9, policy=policy, target=0.3, seed=1, shrink=shrink)
    loader = pruner.loader(16, drop_last=drop_last)
    losses, num_steps, num_trained = random_losses(203), 0, 0
    for _ in pruner.epochs():
        batches = train_epoch(pruner, loader, losses)
        num_steps += len(batches)
        num_trained += sum(len(batch) for batch in batches)
    assert num_steps == pruner.total_steps
    assert pruner.full_steps == 9 * (12 if drop_last else 13)
    assert (num_steps == pruner.full_steps) == (shrink == "batches")
    if not drop_last:
        assert num_trained == 203 * 9 - round(0.3 * 203 * 9)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("target", [[0, 40, 11, 0], [0, 100, 1, 60]])
def test_with_a_number_for_each_epoch_every_length_is_known_beforehand(target, drop_last):
    pruner = DynamicPruner(Numbers(203), 4, policy=RandomPruning(), target=target)
    loader = pruner.loader(16, drop_last=drop_last)
    promised = pruner.total_steps
    steps = [len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs()]
    assert sum(steps) == promised
    if not drop_last:
        assert steps == [math.ceil((203 - count) / 16) for count in target]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_epochs", [6, 6.3])
def test_replicas_take_the_steps_that_were_promised(num_epochs, drop_last):
    steps = []
    for rank in range(3):
        options = {"rank": rank, "num_replicas": 3, "layout": UNMERGED}
        pruner = DynamicPruner(Numbers(203), num_epochs, policy=RandomPruning(), target=0.2, **options)
        loader = pruner.loader(8, drop_last=drop_last)
        num_steps = 0
        for epoch in range(pruner.num_epochs):
            pruner.set_epoch(epoch)
            num_steps += len(train_epoch(pruner, loader, random_losses(203)))
        assert num_steps == pruner.total_steps
        steps.append(num_steps)
    assert len(set(steps)) == 1


@pytest.mark.parametrize("drop_last", [False, True])
def test_replicas_that_count_in_steps_take_that_many(drop_last):
    for rank in range(3):
        options = {"rank": rank, "num_replicas": 3, "layout": UNMERGED}
        pruner = DynamicPruner(Numbers(203), max_steps=31, policy=NoPruning(), **options)
        loader = pruner.loader(8, drop_last=drop_last)
        num_steps = 0
        for epoch in range(pruner.num_epochs):
            pruner.set_epoch(epoch)
            num_steps += len(train_epoch(pruner, loader, random_losses(203)))
        assert num_steps == pruner.full_steps == 31


@pytest.mark.parametrize("target", [[50], [50, 0], [0, 50, 0, 30], [0, 0]])
def test_a_list_says_which_epochs_are_pruned(target):
    """Also the first and the last, which by the other options are trained on all data."""
    options = {"policy": RandomPruning(), "target": target, "delta": 0.5}
    pruner = DynamicPruner(Numbers(100), len(target), **options)
    loader, promised = pruner.loader(10), pruner.total_steps
    num_steps = 0
    for epoch in pruner.epochs():
        assert pruner.selection.num_selected == 100 - target[epoch]
        num_steps += len(train_epoch(pruner, loader, random_losses(100)))
    assert num_steps == promised == sum(10 - count // 10 for count in target)


def test_a_list_that_prunes_the_first_epoch_is_tried_at_once():
    class Broken(RandomPruning):
        def keep_probabilities(self, scores, request):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        DynamicPruner(Numbers(100), 1, policy=Broken(), target=[50])


def test_without_a_target_total_steps_are_not_known():
    pruner = DynamicPruner(Numbers(20), 4, policy=InfoBatch())
    pruner.loader(4)
    with pytest.raises(RuntimeError, match="set target= for lengths known beforehand"):
        _ = pruner.total_steps


@pytest.mark.parametrize("max_steps", [1, 12, 13, 40, 57])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_run_counted_in_steps_has_that_many_on_full_data(max_steps, drop_last):
    pruner = DynamicPruner(Numbers(203), max_steps=max_steps, policy=InfoBatch(0))
    loader = pruner.loader(16, drop_last=drop_last)
    steps = sum(len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs())
    assert steps == max_steps == pruner.full_steps
    assert pruner.progress == 1


def test_pruning_makes_a_run_counted_in_steps_end_sooner():
    pruner = DynamicPruner(Numbers(203), max_steps=100, policy=InfoBatch())
    loader = pruner.loader(16)
    steps = sum(len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs())
    assert 60 < steps < 90
    assert pruner.progress == 1


@pytest.mark.parametrize("delta", [0.5, 1])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("max_steps", [61, 66, 72, 100])
def test_a_pruned_run_counted_in_steps_comes_to_its_end(max_steps, delta, drop_last):
    pruner = DynamicPruner(Numbers(203), max_steps=max_steps, policy=RandomPruning(0.7), delta=delta)
    loader = pruner.loader(16, drop_last=drop_last)
    assert pruner.full_steps == max_steps
    steps = sum(len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs())
    assert steps < max_steps
    assert pruner.progress == 1


def test_a_cut_epoch_shorter_than_a_batch_is_not_trained_where_it_is_dropped():
    pruner = DynamicPruner(Numbers(203), 2.01, policy=InfoBatch(0))
    loader = pruner.loader(32, drop_last=True)
    steps = [len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs()]
    assert sum(steps) == pruner.full_steps == 12
    assert pruner.progress == 1


def test_steps_are_whole():
    with pytest.raises(ValueError, match=r"max_steps is 10\.5"):
        DynamicPruner(Numbers(203), max_steps=10.5, policy=InfoBatch())


def test_a_fraction_of_an_epoch_trains_that_many_samples():
    pruner = DynamicPruner(Numbers(200), 2.37, policy=InfoBatch(0))
    loader = pruner.loader(16)
    sizes = [sum(map(len, train_epoch(pruner, loader, random_losses(200)))) for _ in pruner.epochs()]
    assert sizes == [200, 200, 74]


def test_a_target_counts_a_cut_epoch_for_what_it_trains():
    pruner = DynamicPruner(Numbers(200), 3.4, policy=RandomPruning(), delta=1, target=0.3)
    loader = pruner.loader(16)
    trained = sum(
        sum(map(len, train_epoch(pruner, loader, random_losses(200)))) for _ in pruner.epochs()
    )
    assert trained == pytest.approx((1 - 0.3) * 200 * 3.4, abs=1)


def test_lengths_in_steps_need_the_batch_size():
    pruner = DynamicPruner(Numbers(20), max_steps=10, policy=InfoBatch())
    with pytest.raises(RuntimeError, match="batch size is not known yet; make the loader first"):
        _ = pruner.num_epochs


def test_of_a_single_epoch_of_a_budget_it_is_warm_up_alone_that_is_told():
    with pytest.warns(UserWarning, match=r"of 1 epochs warm-up takes 1\. Train longer, or prune the"):
        DynamicPruner(range(100), 1)


@pytest.mark.parametrize("length", [{"num_epochs": 2}, {"num_epochs": 1}, {"max_steps": 25}])
def test_a_run_too_short_to_prune_says_so(length):
    with pytest.warns(UserWarning, match="nothing can be pruned: of .* epochs warm-up takes .*delta=1"):
        DynamicPruner(range(100), **length, policy=InfoBatch()).loader(8)


@pytest.mark.parametrize(
    "options", [{"policy": NoPruning()}, {"delta": 0}, {"delta": 1}, {"warmup_epochs": 0}, {"target": 0}]
)
def test_a_run_in_which_nothing_is_to_be_pruned_is_not_warned_of(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DynamicPruner(range(100), 2, **options)


def test_a_run_that_prunes_nothing_knows_its_length():
    for options in ({"policy": NoPruning()}, {"warmup_epochs": 4}):
        pruner = DynamicPruner(range(100), 4, **options)
        pruner.loader(batch_size=10)
        assert pruner.total_steps == pruner.full_steps == 40


@pytest.mark.parametrize(
    "policy", [InfoBatch(), InfoBatch(0.3), PercentileTiers(), RandomPruning()], ids=repr
)
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_target_that_is_too_high_is_told_the_highest(policy, drop_last):
    def make(target):
        made = DynamicPruner(Numbers(99), 9, policy=policy, target=target)
        made.sampler(8, drop_last=drop_last)
        return made.plan.schedule.most_pruned

    highest = 0.95
    for _ in range(1 + drop_last):  # lower once it is known that pruned epochs keep whole batches
        with pytest.raises(ValueError, match="highest target that can be reached is") as caught:
            make(highest)
        highest = float(str(caught.value).split()[-1])
    assert make(highest) > 0
    with pytest.raises(ValueError, match="highest target"):
        make(highest + 0.02)


@pytest.mark.parametrize("policy", [NoPruning(), InfoBatch(0)], ids=repr)
def test_where_no_target_can_be_met_none_is_named(policy):
    with pytest.raises(ValueError, match="the target leaves out") as caught:
        DynamicPruner(Numbers(99), 9, policy=policy, target=0.3)
    assert "highest" not in str(caught.value)


OF_CLASSES = np.repeat(np.arange(11), [9, 5, 5, 1, 5, 10, 1, 3, 9, 2, 10])


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        (Proportional(cap=0.8), {"target": 0.3, "ramp": -1}, "cap is 0.8, but 0.8167 of the samples"),
        (Proportional(cap=0.8), {"target": [0] + 8 * [20] + [6]}, "cap is 0.8, but 0.9 of the samples"),
        (
            ClassQuotas(OF_CLASSES, InfoBatch()),  # 26 of 60 it can leave out
            {"target": [0] + 8 * [26] + [25]},
            "of class number 7, the target leaves out 2 of 3 samples",
        ),
    ],
    ids=str,
)
def test_a_target_that_only_a_later_epoch_cannot_meet_is_refused_at_once(policy, options, message):
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(60), 10, policy=policy, **options)


def test_an_option_without_effect_is_warned_of_once_for_all_epochs(recwarn):
    DynamicPruner(Numbers(60), 10, policy=RandomPruning(0.2), target=0.3, ramp=1)
    assert ["prune_ratio=0.2 has no effect" in str(each.message) for each in recwarn] == [True]


def test_numbers_for_each_epoch_may_come_as_an_array():
    made = DynamicPruner(Numbers(9), 3, target=np.array([0, 2, 0]))
    assert [made.plan.schedule.num_pruned(epoch) for epoch in range(3)] == [0, 2, 0]


def test_another_batch_size_once_the_run_has_begun():
    made = batched_pruner()
    record_epoch(made, random_losses(20))
    made.sampler(4)
    with pytest.raises(RuntimeError, match="make the loader before training begins"):
        made.sampler(5)
