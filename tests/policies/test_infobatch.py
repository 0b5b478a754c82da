"""InfoBatch prunes below the mean, or the lowest to a number."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import keep_probabilities, random_losses, request
from infobatch import InfoBatch
from infobatch.scores import ScoreTable
from infobatch.selection import draw

NAN = float("nan")


def test_infobatch_goes_by_a_running_mean():
    """Losses 1, 5, 5 and then 6, 0, 5: running means 2, 4, 5, of mean 11/3."""
    policy = InfoBatch(0.5, by="smoothed_loss")
    assert repr(policy) == "InfoBatch(prune_ratio=0.5, by='smoothed_loss')"
    table = ScoreTable(3, policy.columns)
    for losses in ([1, 5, 5], [6, 0, 5]):
        table.record(np.arange(3), np.array(losses, np.float32))
    kept = policy.keep_probabilities(table, request()).per_sample()
    assert kept.tolist() == [0.5, 1, 1]
    with pytest.raises(
        ValueError, match="by is 'visits'; choose what the probabilities follow: last_loss"
    ):
        InfoBatch(by="visits")


def test_infobatch_prunes_strictly_below_the_mean():
    probabilities = keep_probabilities(InfoBatch(0.75), [1.0, 2.0, 3.0, 6.0, NAN]).per_sample()  # mean 3
    assert probabilities.tolist() == [0.25, 0.25, 1, 1, 1]


def test_infobatch_to_a_number_prunes_the_lowest():
    losses = [5.0, 1.0, 4.0, 2.0, 3.0, 6.0]
    kept = keep_probabilities(InfoBatch(0.5), losses, num_pruned=2)  # 2 of the ceil(2 / 0.5) = 4 lowest
    assert kept.per_sample().tolist() == [1, 0.5, 0.5, 0.5, 0.5, 1]
    assert draw(kept, torch.Generator()).weights[[0, 5]].tolist() == [1, 1]


def test_infobatch_to_a_number_leaves_out_each_of_the_lowest_equally_often():
    losses, left_out = random_losses(20), torch.zeros(20)
    kept = keep_probabilities(InfoBatch(0.5), losses, num_pruned=5)
    for seed in range(2000):
        left_out += draw(kept, torch.Generator().manual_seed(seed)).weights == 0
    lowest = losses.argsort()[:10]
    assert ((left_out[lowest] / 2000 - 0.5).abs() < 5 * (0.25 / 2000) ** 0.5).all()
    assert left_out.sum() == left_out[lowest].sum() == 2000 * 5


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_infobatch_prunes_no_sample_at_or_above_the_mean(losses, ratio):
    probabilities = keep_probabilities(InfoBatch(ratio), np.array(losses, np.float32)).per_sample()
    mean = np.float32(np.mean(losses, dtype=np.float64))
    assert (probabilities < 1).tolist() == [loss < mean for loss in losses]
    assert set(probabilities.tolist()) <= {1.0, 1 - ratio}


@pytest.mark.parametrize(("num_pruned", "ratio", "size"), [(1, 0.3, 4), (3, 0.3, 10), (7, 0.7, 10)])
def test_infobatch_rounds_the_stratum_up(num_pruned, ratio, size):
    kept = keep_probabilities(InfoBatch(ratio), random_losses(100), num_pruned)
    assert int((kept.per_sample() < 1).sum()) == size


@pytest.mark.parametrize(("size", "left_out"), [(99, 51), (10**7, 10**7 - 1), (14_197_122, 14_197_121)])
def test_the_smallest_ratio_that_is_named_meets_the_target(size, left_out):
    with pytest.raises(ValueError, match="smallest prune_ratio") as caught:
        InfoBatch(0.5).check_target(left_out, size)
    named = float(str(caught.value).split("meets it is ")[1].split(";")[0])
    InfoBatch(named).check_target(left_out, size)


THREE_LINES = r"DynamicPruner\(dataset[^Z]*yields \(indices, batch\)[^Z]*update\(losses, indices\)"


@pytest.mark.parametrize(
    "arguments", [([1, 2], 200, 0.5, 0.875), ([1, 2], 200), (np.zeros(3),)], ids=["all", "two", "one"]
)
def test_the_authors_constructor_is_answered_with_three_lines(arguments):
    with pytest.raises(TypeError, match=THREE_LINES):
        InfoBatch(*arguments)


def test_the_authors_keywords_are_answered_with_three_lines():
    with pytest.raises(TypeError, match=THREE_LINES):
        InfoBatch(dataset=[1, 2], num_epochs=200, prune_ratio=0.5, delta=0.875)
