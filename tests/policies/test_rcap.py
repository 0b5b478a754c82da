"""RCAP draws from each class by its size and its mean loss."""

import math

import numpy as np
import pytest
import torch

from helpers import request, table_of
from helpers.policies import generator, sizes_kept
from infobatch.batching import EpochSizes
from infobatch.policies import RCAP, Request
from infobatch.policies.rcap import class_sizes, clipped_losses, drawn_by
from infobatch.scores import ScoreTable
from infobatch.selection import select

NAN = float("nan")


def test_rcap_clips_losses_at_that_of_a_guess():
    clipped = clipped_losses(np.array([0.5, 9.0, -1.0, NAN], np.float32), 4)
    assert clipped.tolist() == pytest.approx([0.5, math.log(4), 0, math.log(4)])


def test_rcap_gives_a_class_the_root_of_its_size_times_its_loss():
    # n = 100, 36, 4 with mean losses 0.16, 0.25, 0.36: roots 4, 3, 1.2 of 8.2
    classes = np.repeat([0, 1, 2], [100, 36, 4])
    losses = np.repeat([0.16, 0.25, 0.36], [100, 36, 4])
    assert class_sizes(losses, classes, 16).tolist() == [8, 6, 2]  # 7.80, 5.85, 2.34
    # The third would have 4.4 of its 4; the others share 26 as 4 to 3.
    assert class_sizes(losses, classes, 30).tolist() == [15, 11, 4]  # 14.86, 11.14, 4
    assert class_sizes(np.zeros(140), classes, 35).tolist() == [25, 9, 1]  # nothing to tell them by


def test_rcap_keeps_whole_steps_that_have_each_class():
    classes = np.arange(400) % 100
    request = Request(None, generator(0), epoch_sizes=EpochSizes(64))
    assert RCAP(classes, 0.9).weights(ScoreTable(400), request).count_nonzero() == 128


def test_rcap_draws_by_softmax_without_replacement():
    logits = np.log([1.0, 2.0, 3.0])  # probabilities 1/6, 2/6, 3/6
    pairs, num_draws = {}, 2000
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_draws):
        pair = tuple(sorted(drawn_by(logits, 2, generator).tolist()))
        pairs[pair] = pairs.get(pair, 0) + 1
    # {i, j}: first i and then j of what is left, or the other way round
    expected = {
        (0, 1): 1 / 6 * 2 / 5 + 2 / 6 * 1 / 4,
        (0, 2): 1 / 6 * 3 / 5 + 3 / 6 * 1 / 3,
        (1, 2): 2 / 6 * 3 / 4 + 3 / 6 * 2 / 3,
    }
    for pair, chance in expected.items():
        error = (chance * (1 - chance) / num_draws) ** 0.5
        assert abs(pairs[pair] / num_draws - chance) < 5 * error


def test_rcap_keeps_each_class_at_its_size_and_the_harder_more_often():
    labels = np.repeat([7, 3], [30, 10])
    losses = np.tile([0.1, 0.5], 20).astype(np.float32)  # means 0.3 in both: roots of 30 to 10
    policy = RCAP(labels, 0.5, beta=0.2)
    kept = np.zeros(40)
    for seed in range(100):
        selection = select(policy, table_of(losses, policy), request(seed=seed))
        assert sizes_kept(selection, labels)[3::4] == [7, 13]  # 7.32, 12.68 of 20
        assert set(selection.weights.tolist()) == {0, 1}
        kept += selection.weights.numpy()
    for members in (slice(0, 30), slice(30, 40)):
        assert kept[members][1::2].min() > 1.5 * kept[members][::2].max()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RCAP([0], beta=0), ValueError, "beta is 0; it is a temperature"),
        (lambda: RCAP([0], 1.0), ValueError, "prune_ratio is 1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
