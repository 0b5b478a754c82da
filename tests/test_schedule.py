"""When pruning acts, and by how much."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infobatch import Schedule
from infobatch.batching import EpochSizes, LastBatch


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


@settings(deadline=None)
@given(
    num_samples=st.integers(1, 2000),
    num_epochs=st.integers(1, 300) | st.floats(1, 50),
    delta=st.floats(0, 0.999),
    warmup_epochs=st.integers(0, 5),
    target=st.floats(0, 0.95),
)
def test_any_target_is_met_exactly_or_refused(num_samples, num_epochs, delta, warmup_epochs, target):
    total = round(target * num_samples * num_epochs)
    num_prunable = Schedule(num_samples, num_epochs, delta, warmup_epochs).num_prunable
    if total > num_prunable * (num_samples - 1):
        with pytest.raises(ValueError, match="cannot be met by any policy"):
            Schedule(num_samples, num_epochs, delta, warmup_epochs, target)
        return
    schedule = Schedule(num_samples, num_epochs, delta, warmup_epochs, target)
    counts = [schedule.num_pruned(epoch) for epoch in range(schedule.num_epochs)]
    assert sum(counts) == total
    assert schedule.most_pruned == max(counts)
    prunable = range(schedule.first_pruned, schedule.annealing_start)
    pruned = [counts[epoch] for epoch in prunable]
    assert not pruned or max(pruned) - min(pruned) <= 1
    assert all(counts[e] == 0 for e in range(schedule.num_epochs) if e not in prunable)


@settings(deadline=None)
@given(
    num_epochs=st.integers(1, 400) | st.floats(0.01, 50),
    delta=st.floats(0, 1),
    warmup_epochs=st.integers(0, 5),
)
def test_a_whole_epoch_on_full_data_is_left_wherever_delta_is_below_1(num_epochs, delta, warmup_epochs):
    epochs = pruned_epochs(num_epochs=num_epochs, delta=delta, warmup_epochs=warmup_epochs)
    schedule = Schedule(100, num_epochs, delta, warmup_epochs)
    assert epochs == list(range(schedule.first_pruned, schedule.annealing_start))
    assert all(warmup_epochs <= epoch for epoch in epochs)
    if delta < 1:
        assert all(epoch < delta * num_epochs for epoch in epochs)
        whole = [e for e in range(schedule.num_epochs) if e not in epochs and schedule.share(e) == 1]
        assert num_epochs < 1 or whole[-1] >= max([*epochs, 0])


@pytest.mark.parametrize("multiple", [8, 64])
def test_a_target_in_whole_batches(multiple):
    schedule = Schedule(997, 10, target=0.3, epoch_sizes=EpochSizes(multiple))
    kept = [997 - schedule.num_pruned(epoch) for epoch in range(1, schedule.annealing_start)]
    assert all(count % multiple == 0 for count in kept)
    left_out = 997 * len(kept) - sum(kept)
    assert abs(left_out - 0.3 * 997 * 10) <= multiple


@pytest.mark.parametrize("target", [0.3, [0, 33, 33, 0]])
def test_a_target_leaves_no_last_batch_of_a_single_sample(target):
    schedule = Schedule(98, 4, target=target, epoch_sizes=EpochSizes(last=LastBatch(8, 2)))
    kept = [98 - schedule.num_pruned(epoch) for epoch in range(4)]
    assert all(count % 8 != 1 for count in kept)
    assert 98 * 4 - sum(kept) == pytest.approx(0.3 * 98 * 4 if target == 0.3 else 66, abs=2)


@pytest.mark.parametrize("multiple", [1, 10])
@pytest.mark.parametrize("ramp", [-1, -0.3, 0, 0.5, 1])
def test_a_ramp_leaves_out_as_many_in_all(ramp, multiple):
    schedule = Schedule(1000, 20, target=0.3, epoch_sizes=EpochSizes(multiple), ramp=ramp)
    counts = [schedule.num_pruned(epoch) for epoch in schedule.prunable]
    assert sum(counts) == pytest.approx(0.3 * 1000 * 20, abs=multiple / 2)
    steps = [b - a for a, b in itertools.pairwise(counts)]
    mean = sum(counts) / len(counts)
    assert all(step == pytest.approx(2 * ramp * mean / len(counts), abs=2 * multiple) for step in steps)
    assert counts[-1] == pytest.approx(mean * (1 + ramp), abs=abs(ramp) * mean / 17 + multiple)


@pytest.mark.parametrize("ramp", [-1, -0.4, 0, 1])
@pytest.mark.parametrize("num_epochs", [4.3, 7.3, 7.9])
def test_a_ramp_leaves_out_as_much_where_the_last_epoch_is_cut_short(num_epochs, ramp):
    schedule = Schedule(1000, num_epochs, 1.0, target=0.35, ramp=ramp)
    trained = [schedule.share(epoch) * schedule.num_pruned(epoch) for epoch in schedule.prunable]
    assert sum(trained) == pytest.approx(0.35 * 1000 * num_epochs, abs=1)


@pytest.mark.parametrize(
    ("size", "multiple", "target"),
    [(5000, 1024, 0.1), (50000, 4096, 0.02), (1100, 256, 0.1), (97, 8, 0.05)],
)
def test_an_epoch_that_cannot_keep_more_than_all_is_made_up_for(size, multiple, target):
    schedule = Schedule(size, 80, 1.0, target=target, epoch_sizes=EpochSizes(multiple))
    counts = [schedule.num_pruned(epoch) for epoch in range(80)]
    assert all(count == 0 or (size - count) % multiple == 0 for count in counts)
    assert sum(counts) == pytest.approx(target * size * 80, abs=multiple)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ramp": 1.5, "target": 0.3}, "ramp is 1.5; it is how the samples left out are spread"),
        ({"ramp": 0.5}, "ramp is 0.5, but the target is None: only a share"),
        (
            {"ramp": 1, "target": 0.6},
            r"target 0\.6 with ramp 1 cannot be met: it would leave out 1\d\d",
        ),
    ],
)
def test_bad_ramps_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(100, 20, **options)


def test_counts_may_be_given_for_each_epoch():
    schedule = Schedule(10, 3, target=[0, 4, 1])
    assert [schedule.num_pruned(epoch) for epoch in range(3)] == [0, 4, 1]
    assert [schedule.prunes(epoch) for epoch in range(3)] == [False, True, True]
    assert Schedule(10, 5, delta=0.5, warmup_epochs=3, target=[0, 4, 0, 2, 0]).prunable == range(1, 4)
    assert not Schedule(10, 3, target=[0, 0, 0]).prunable


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 10, "target": 0.85}, "any policy: only 8 of 10 .* may meet 0.792 at most"),
        ({"num_epochs": 2, "target": 0.1}, "only 0 of 2 epochs are prunable"),
        ({"num_epochs": 3, "target": [0, 1]}, "of 2 epochs, but the run has 3"),
        ({"num_epochs": 2, "target": [0, 100]}, "less than the 100 there are"),
        ({"num_epochs": 2, "target": [0, -1]}, "at least 0"),
        ({"num_epochs": 10, "target": 0.1, "warmup_epochs": 9}, r"only 0 of 10 .* lower warmup_epochs"),
        ({"num_epochs": 10, "target": 0.1, "delta": 0}, "only 0 of 10 .* raise delta"),
        ({"num_epochs": 3.4, "target": 0.4}, r"only 1 of 3\.4 epochs .* may meet 0\.291 at most"),
    ],
)
def test_targets_out_of_reach_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(100, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 2.0}, r"delta is 2\.0"),
        ({"target": -0.1}, r"target is -0\.1"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1"),
    ],
)
def test_a_schedule_of_ones_own_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(100, 10, **options)
