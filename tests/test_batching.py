"""How many steps an epoch takes, where its batches end, and multiples of a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Numbers, new_pruner
from infobatch import DynamicPruner, RandomPruning, ShrinkBatches
from infobatch.batching import (
    BatchEnds,
    Batching,
    EpochSizes,
    even_ends,
    regular_ends,
    shrink_of,
)


@pytest.mark.parametrize(
    ("batching", "num_trained", "num_steps"),
    [
        (Batching(8), 100, 13),
        (Batching(8, drop_last=True), 96, 12),
        (Batching(8, num_replicas=3), 100, 5),
        (Batching(8, drop_last=True, num_replicas=3), 96, 4),
        (Batching(2.5), 100, 40),
        (Batching(8, drop_last=True, user_length=100), 100, 12),
    ],
    ids=str,
)
def test_the_last_batch_is_short_or_dropped(batching, num_trained, num_steps):
    assert batching.num_trained(100) == num_trained
    assert batching.num_steps(100) == num_steps


def test_the_nearest_multiple_is_one_that_can_be_kept():
    sizes = EpochSizes(multiple=8)
    assert [sizes.nearest(count, 100) for count in (3, 11, 12, 99)] == [8, 8, 16, 96]
    assert EpochSizes(8, least=17).nearest(3, 100) == 24
    assert sizes.nearest(100, 20) == 16


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(21, "the 20 samples are fewer than one batch of 21; lower"), (0, "batch_size is 0")],
)
def test_a_batch_size_that_does_not_fit(batch_size, message):
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(20), 5).loader(batch_size)


def sizes(ends):
    return np.diff(ends, prepend=0).tolist()


def test_draws_are_spread_evenly():
    assert sizes(even_ends(10, 4)) == [3, 2, 3, 2]
    assert sizes(even_ends(12, 4)) == [3] * 4
    assert sizes(even_ends(24, 5, multiple=4)) == [8, 4, 4, 4, 4]
    assert sizes(even_ends(23, 3, multiple=4)) == [8, 8, 7]
    assert sizes(even_ends(7, 5, least=2)) == [3, 2, 2]
    assert sizes(even_ends(1, 5, least=2)) == [1]
    assert sizes(even_ends(3, 5)) == [1, 1, 1]
    assert sizes(even_ends(0, 0)) == []
    assert sizes(regular_ends(10, 4)) == [4, 4, 2]
    assert sizes(regular_ends(8, 4)) == [4, 4]
    assert sizes(regular_ends(0, 4)) == []


def test_what_is_left_ends_where_the_whole_does():
    ends = BatchEnds(even_ends(10, 4), 2)  # 3, 2, 3, 2
    assert ends.left(10).tolist() == ends.whole.tolist()
    assert sizes(ends.left(7)) == [2, 3, 2]
    assert sizes(ends.left(6)) == [2, 2, 2], "a first batch below the least takes from the next"
    assert sizes(BatchEnds(even_ends(9, 3), 3).left(7)) == [4, 3], "or joins it"
    assert sizes(ends.left(1)) == [1]
    assert sizes(ends.left(0)) == []
    assert sizes(BatchEnds(even_ends(0, 0), 2).left(0)) == []


def test_what_is_left_has_no_batch_above_the_batch_size():
    full = BatchEnds(regular_ends(100, 16), 3)  # 16 six times, 4
    assert sizes(full.left(60)) == [8, 16, 16, 16, 4], "the first is short"
    assert sizes(full.left(22)) == [3, 15, 4], "it takes what the least misses from the next"
    short = BatchEnds(regular_ends(98, 16), 3)  # the last has 2, and so may others
    assert sizes(short.left(19)) == [2, 15, 2]


def test_what_shrinks():
    assert shrink_of("steps") is None
    assert shrink_of("batches") == ShrinkBatches(2, 1)
    assert shrink_of(ShrinkBatches(5, 4)).smallest == 8
    assert shrink_of(ShrinkBatches(8, 4)).smallest == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: new_pruner(20, 5, shrink="x"),
            r"shrink is 'x'; choose 'steps' .*'batches'.*ShrinkBatches\(least=",
        ),
        (lambda: ShrinkBatches(least=0), r"least is 0; it must be a whole number, at least 1"),
        (lambda: ShrinkBatches(multiple=1.5), r"multiple is 1.5; it must be a whole number"),
        (
            lambda: new_pruner(200, 5, shrink=ShrinkBatches(2, 8)).loader(20),
            r"batch_size is 20, .* a multiple of 8 samples on each rank.*give batch_size=16 or 24",
        ),
        (
            lambda: new_pruner(20, 5, shrink=ShrinkBatches(2, 8)).loader(5),
            r"batch_size is 5, .* a multiple of 8 samples on each rank.*give batch_size=8$",
        ),
        (
            lambda: new_pruner(20, 5, shrink=ShrinkBatches(4)).loader(4),
            r"batch_size is 4, and batches shrink, .* to no fewer than 4 samples.*raise batch_size, "
            r".*ShrinkBatches\(least=1\), or .*shrink='steps'",
        ),
        (
            lambda: new_pruner(20, 5, shrink="batches").loader(None),
            r"batch_size is None, with which a loader makes no batches.*give the batch size of full",
        ),
        (
            lambda: new_pruner(20, 5, shrink="batches").sampler(4),
            r"of one size, .* shrink='batches'.*batch_sampler=pruner.batch_sampler\(batch_size\)",
        ),
        (
            lambda: new_pruner(20, 5, shrink="batches").filter(range(20), 4),
            r"of one size, .* shrink='batches'.*pruner.filter_batches\(BatchSampler\(sampler",
        ),
        (
            lambda: new_pruner(20, 5, shrink="steps").batch_sampler(4),
            r"this pruner leaves out steps; make it with shrink='batches', or give.*pruner.sampler\(\)",
        ),
        (
            lambda: new_pruner(200, 5, shrink="batches", target=0.55, policy=RandomPruning()).loader(4),
            r"target 0.55 cannot be met.*100 samples, for batches not to shrink below the least.*"
            r"lower the least\. The highest target that can be reached is 0.4",
        ),
        (
            lambda: new_pruner(
                200, 3, shrink="batches", target=[0, 150, 0], policy=RandomPruning()
            ).loader(4),
            r"target leaves out 150 of 200 samples in an epoch, and 100 are needed.*leave out fewer",
        ),
        (
            lambda: new_pruner(
                10, 5, shrink=ShrinkBatches(7), target=0.1, policy=RandomPruning()
            ).loader(8),
            r"target 0.1 cannot be met.*and 10 samples, for batches not to shrink.* must be kept",
        ),
        (
            lambda: list(new_pruner(20, 5, shrink="batches").current.batches()),
            r"no batches of its own: .*or has no loader yet.*and them with pruner.batch_sampler\(batch",
        ),
        (
            lambda: new_pruner(20, 5, shrink="steps").current.batch_ends(),
            r"no batches of its own: the pruner leaves out steps, or.*Make it with shrink='batches'",
        ),
    ],
)
def test_what_does_not_go_together_is_told_of(make, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        make()


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 300), st.integers(1, 300))
def test_no_last_batch_has_a_single_sample_on_a_rank(size, num_replicas, count, num_samples):
    batching = Batching(size, False, num_replicas)
    last = batching.last_batch(num_samples)
    nearest = EpochSizes(last=last).nearest(min(count, num_samples), num_samples)
    if last is None:  # full data has one, too
        assert size * num_replicas == 1 or num_samples % (size * num_replicas) == 1
    else:
        assert 1 <= nearest <= num_samples
        assert nearest % (size * num_replicas) != 1
        assert abs(nearest - max(1, min(count, num_samples))) <= 1
    rounds, full_rounds = batching.num_rounds(nearest, num_samples), -(-num_samples // num_replicas)
    assert 0 <= rounds * num_replicas - nearest < 2 * num_replicas
    if size > 1 and full_rounds % size != 1 and last is not None:
        assert rounds % size != 1
