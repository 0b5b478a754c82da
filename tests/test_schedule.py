"""When pruning acts, by how much, and how long a run is."""

import math

import pytest

from helpers import Numbers, random_losses, train_epoch
from infobatch import DynamicPruner, InfoBatch, PercentileTiers, RandomPruning, Schedule


def pruned_epochs(**options):
    schedule = Schedule(100, **options)
    return [epoch for epoch in range(schedule.num_epochs) if schedule.prunes(epoch)]


@pytest.mark.parametrize("num_epochs", [10, 12, 90, 100, 200, 300])
def test_annealing_starts_at_the_first_epoch_past_delta(num_epochs):
    epochs = pruned_epochs(num_epochs=num_epochs, delta=0.875)
    assert epochs == list(range(1, math.ceil(0.875 * num_epochs)))


def test_a_product_that_floats_round_up_is_whole():
    assert 0.55 * 100 > 55
    assert pruned_epochs(num_epochs=100, delta=0.55)[-1] == 54


@pytest.mark.parametrize("num_epochs", range(1, 8))
def test_a_short_run_still_ends_on_full_data(num_epochs):
    assert pruned_epochs(num_epochs=num_epochs) == list(range(1, num_epochs - 1))


def test_delta_1_never_anneals_and_0_never_prunes():
    assert pruned_epochs(num_epochs=5, delta=1) == [1, 2, 3, 4]
    assert pruned_epochs(num_epochs=5, delta=0) == []


def test_warm_up_is_not_pruned():
    assert pruned_epochs(num_epochs=8, warmup_epochs=3) == [3, 4, 5, 6]
    assert pruned_epochs(num_epochs=8, warmup_epochs=0)[0] == 0
    assert pruned_epochs(num_epochs=8, warmup_epochs=100) == []


@pytest.mark.parametrize("num_epochs", [3.4, 10.01, 0.5, 1.0])
def test_a_fraction_cuts_the_last_epoch(num_epochs):
    schedule = Schedule(100, num_epochs)
    shares = [schedule.share(epoch) for epoch in range(schedule.num_epochs)]
    assert sum(shares) == pytest.approx(num_epochs)
    assert all(share == 1 for share in shares[:-1])
    assert schedule.num_epochs == math.ceil(num_epochs)


def test_a_cut_epoch_does_not_count_as_the_full_one_at_the_end():
    assert pruned_epochs(num_epochs=3.1) == [1]


@pytest.mark.parametrize("num_epochs", [3, 10, 37])
@pytest.mark.parametrize("target", [0.0, 0.01, 0.123, 0.3])
def test_a_target_is_met_exactly_and_evenly(num_epochs, target):
    schedule = Schedule(997, num_epochs, target=target)
    counts = [schedule.num_pruned(epoch) for epoch in range(num_epochs)]
    assert sum(counts) == round(target * 997 * num_epochs)
    prunable = counts[1 : schedule.annealing_start]
    assert max(prunable) - min(prunable) <= 1
    assert counts[0] == counts[-1] == 0


@pytest.mark.parametrize("multiple", [8, 64])
def test_a_target_in_whole_batches(multiple):
    schedule = Schedule(997, 10, target=0.3, multiple=multiple)
    kept = [997 - schedule.num_pruned(epoch) for epoch in range(1, schedule.annealing_start)]
    assert all(count % multiple == 0 for count in kept)
    left_out = 997 * len(kept) - sum(kept)
    assert abs(left_out - 0.3 * 997 * 10) <= multiple


def test_counts_may_be_given_for_each_epoch():
    schedule = Schedule(10, 3, target=[0, 4, 1])
    assert [schedule.num_pruned(epoch) for epoch in range(3)] == [0, 4, 1]
    assert [schedule.prunes(epoch) for epoch in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 10, "target": 0.85}, "any prune ratio: only 8 of 10 .* below 0.800"),
        ({"num_epochs": 2, "target": 0.1}, "only 0 of 2 epochs are prunable"),
        ({"num_epochs": 3, "target": [0, 1]}, "of 2 epochs, but the run has 3"),
        ({"num_epochs": 2, "target": [0, 100]}, "less than the 100 there are"),
        ({"num_epochs": 2, "target": [0, -1]}, "at least 0"),
    ],
)
def test_targets_out_of_reach_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(100, **options)


@pytest.mark.parametrize("policy", [InfoBatch(0.5), PercentileTiers(), RandomPruning()])
@pytest.mark.parametrize("drop_last", [False, True])
def test_with_a_target_every_length_is_known_beforehand(policy, drop_last):
    pruner = DynamicPruner(Numbers(203), 9, policy=policy, target=0.3, seed=1)
    loader = pruner.loader(16, drop_last=drop_last)
    losses, num_steps, num_trained = random_losses(203), 0, 0
    for _ in pruner.epochs():
        batches = train_epoch(pruner, loader, losses)
        num_steps += len(batches)
        num_trained += sum(len(batch) for batch in batches)
    assert num_steps == pruner.total_steps
    assert pruner.full_steps == 9 * (12 if drop_last else 13)
    if not drop_last:
        assert num_trained == 203 * 9 - round(0.3 * 203 * 9)


def test_without_a_target_total_steps_are_not_known():
    pruner = DynamicPruner(Numbers(20), 4)
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
    pruner = DynamicPruner(Numbers(203), max_steps=100)
    loader = pruner.loader(16)
    steps = sum(len(train_epoch(pruner, loader, random_losses(203))) for _ in pruner.epochs())
    assert 60 < steps < 90
    assert pruner.progress == 1


def test_a_fraction_of_an_epoch_trains_that_many_samples():
    pruner = DynamicPruner(Numbers(200), 2.37, policy=InfoBatch(0))
    loader = pruner.loader(16)
    sizes = [sum(map(len, train_epoch(pruner, loader, random_losses(200)))) for _ in pruner.epochs()]
    assert sizes == [200, 200, 74]


def test_lengths_in_steps_need_the_batch_size():
    pruner = DynamicPruner(Numbers(20), max_steps=10)
    with pytest.raises(RuntimeError, match="batch size is not known yet; make the loader first"):
        _ = pruner.num_epochs
