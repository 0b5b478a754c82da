"""Keep probabilities in proportion to the score."""

import numpy as np
import pytest
import torch

from helpers import keep_probabilities, random_losses, request, selection_of, table_from
from infobatch import DynamicPruner
from infobatch.policies import Proportional

NAN = float("nan")


def test_proportional_follows_the_loss_above_its_floor():
    losses = [1.0, 2.0, 3.0, 4.0, 0.0]
    policy = Proportional(floor=0.4)  # of the mean, 3 / 5
    kept = policy.keep_probabilities(table_from(losses, policy), request(2)).probabilities
    c = (3 - 1 - 0.24) / (1 + 2 + 3)  # 4 c > 1
    assert kept.tolist() == pytest.approx([c, 2 * c, 3 * c, 1, 0.24])


def test_proportional_to_the_root():
    policy = Proportional(0.5, power=0.5, floor=0.01)
    kept = policy.keep_probabilities(table_from([1.0, 4.0, 9.0, 16.0], policy), request(2)).probabilities
    assert kept.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_proportional_tells_nothing_apart_without_losses():
    policy = Proportional(0.5, floor=0.1)
    for losses in (torch.zeros(8), torch.full((8,), NAN), torch.full((8,), -1.0), torch.ones(8)):
        kept = policy.keep_probabilities(table_from(losses, policy), request(2)).probabilities
        assert kept.tolist() == pytest.approx([0.75] * 8)


def test_proportional_takes_what_has_no_score_for_the_hardest():
    policy = Proportional(0.5, floor=0.1)
    kept = policy.keep_probabilities(table_from([1.0, 2.0, NAN, 1.0], policy), request(2)).probabilities
    assert kept[2] == kept[1] == kept.max()


def test_proportional_takes_of_easy_and_hard_ones_alike_where_it_is_ordered():
    losses = np.repeat([0.1, 0.2, 0.4, 0.8], 50)
    furthest = {}
    for ordered in (False, True):
        policy = Proportional(0.5, ordered=ordered)
        expected = keep_probabilities(policy, losses).probabilities.reshape(4, 50).sum(1)
        draws = [selection_of(policy, losses, seed=seed).weights for seed in range(30)]
        taken = torch.stack([(weights > 0).reshape(4, 50).sum(1) for weights in draws])
        furthest[ordered] = float((taken - expected).abs().max())
    assert furthest[True] <= 1 < furthest[False]


def test_proportional_keeps_none_with_more_than_the_cap():
    probabilities = keep_probabilities(Proportional(0.5, cap=0.6), random_losses(200)).probabilities
    assert float(probabilities.max()) == pytest.approx(0.6)
    assert float(probabilities.sum()) == pytest.approx(100)
    with pytest.raises(
        ValueError, match=r"cap is 0\.6, but 0\.75 of the samples are to be kept.*raise cap"
    ):
        DynamicPruner(range(100), 10, policy=Proportional(cap=0.6), delta=1, target=0.225)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Proportional(0.5, floor=0), "floor is 0; it is a share of the mean"),
        (lambda: Proportional(0.5, power=-1), "power is -1; it must be a number of at least 0"),
        (lambda: Proportional().check_target(100, 100), "at least one must be kept"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
