"""Samples that are always kept: the rule by hand, targets, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Numbers, random_losses, request, table_of, train_epoch
from infobatch import DynamicPruner, InfoBatch, Neyman, NoPruning, RandomPruning, Spaced
from infobatch.batching import EpochSizes
from infobatch.policies import ClassQuotas, Kakurenbo, PercentileTiers, Proportional, Protected
from infobatch.selection import draw


def test_the_others_are_compared_among_themselves():
    # The others are 2, 4 and 9, whose mean is 5.
    losses = [1.0, 2.0, 4.0, 9.0, 9.0]
    policy = Protected(InfoBatch(0.75), np.array([True, False, False, False, True]))
    keep = policy.keep_probabilities(table_of(losses, policy), request())
    assert keep.per_sample().tolist() == [1, 0.25, 0.25, 1, 1]
    weights = draw(keep, torch.Generator().manual_seed(0)).weights
    assert weights[[0, 3, 4]].tolist() == [1, 1, 1]
    assert sorted(weights[1:3].tolist()) == [0, 2]  # one of two, by strata


def test_the_mean_is_that_of_the_others():
    # Of all five the mean is 21; of the others, 1, 3 and 5, it is 3.
    policy = Protected(InfoBatch(0.5), torch.tensor([False, False, False, True, True]))
    keep = policy.keep_probabilities(table_of([1.0, 3.0, 5.0, 46.0, 50.0], policy), request())
    assert keep.per_sample().tolist() == [0.5, 1, 1, 1, 1]


INNER = [
    InfoBatch(0.8),
    PercentileTiers((0.9,), (0.1,)),
    Proportional(),
    Proportional(0.3, ordered=True),
    Neyman(strata=3),
    RandomPruning(),
]


@pytest.mark.parametrize("inner", INNER, ids=repr)
@pytest.mark.parametrize(("num_pruned", "multiple"), [(None, 1), (40, 1), (90, 1), (40, 16)])
def test_every_draw_keeps_them_with_weight_1(inner, num_pruned, multiple):
    kept = np.random.default_rng(0).random(200) < 0.2
    policy = Protected(inner, kept)
    table = table_of(random_losses(200), policy)
    for seed in range(10):
        asked = request(num_pruned, seed, epoch_sizes=EpochSizes(multiple))
        selection = draw(policy.keep_probabilities(table, asked), asked.generator, asked.epoch_sizes)
        assert (selection.weights[kept] == 1).all()
        if num_pruned is not None:
            assert abs(selection.num_selected - (200 - num_pruned)) <= multiple // 2
        assert selection.num_selected % multiple == 0


@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_the_sum_over_all_samples_is_kept_in_expectation(inner):
    losses = random_losses(60).double()
    policy = Protected(inner, np.arange(60) % 6 == 0)
    table = table_of(losses, policy)
    sums = torch.zeros(500, dtype=torch.float64)
    for seed in range(len(sums)):
        asked = request(20, seed)
        sums[seed] = (
            draw(policy.keep_probabilities(table, asked), asked.generator).weights.double() @ losses
        )
    assert abs(sums.mean() - losses.sum()) < 5 * sums.std() / len(sums) ** 0.5 + 1e-6


@settings(deadline=None, max_examples=60)
@given(kept=st.lists(st.booleans(), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_any_samples_can_be_kept(kept, seed):
    policy = Protected(InfoBatch(0.5), np.array(kept))
    keep = policy.keep_probabilities(table_of(random_losses(len(kept), seed), policy), request())
    selection = draw(keep, torch.Generator().manual_seed(seed))
    assert (selection.weights[torch.tensor(kept)] == 1).all()
    assert selection.num_selected >= max(1, sum(kept))


def test_a_run_sees_them_in_every_epoch():
    kept = np.arange(100) < 10  # the easiest, which would be left out first
    policy = Protected(InfoBatch(0.6), kept)
    pruner = DynamicPruner(Numbers(100), 8, policy=policy, target=0.3, delta=1)
    loader = pruner.loader(16)
    for _ in pruner.epochs():
        train_epoch(pruner, loader, torch.arange(100.0))
    assert pruner.scores["visits"][:10].tolist() == [8] * 10
    assert pruner.report().saved == pytest.approx(0.3)


def test_nothing_else_is_left_to_prune():
    policy = Protected(InfoBatch(), np.ones(5, bool))
    assert (
        policy.keep_probabilities(table_of([1.0] * 5, policy), request()).per_sample().tolist()
        == [1] * 5
    )
    policy.check_target(0, 5)
    Protected(NoPruning(), np.zeros(5, bool)).check_target(0, 5)


def test_it_reads_what_its_policy_reads():
    policy = Protected(Neyman(), np.array([True, False]))
    assert policy.columns == Neyman().columns
    assert repr(policy).startswith("Protected(policy=Neyman(")
    assert repr(policy).endswith(", num_kept=1)")


@pytest.mark.parametrize(
    ("num_pruned", "message"),
    [
        (60, r"leaves out 60 of 100 .* 40 are always kept, and of the other 60 at least one; lower"),
        (31, r"of the samples that are not always kept, the target leaves out 31 of 60 .* at most 30"),
    ],
)
def test_a_target_that_the_others_cannot_meet_is_refused(num_pruned, message):
    policy = Protected(InfoBatch(0.5), np.arange(100) < 40)
    policy.check_target(30, 100)
    with pytest.raises(ValueError, match=message):
        policy.check_target(num_pruned, 100)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Protected("infobatch", np.ones(2, bool)), TypeError, "policy is 'infobatch'; give an"),
        (
            lambda: Protected(Kakurenbo(), np.ones(2, bool)),
            ValueError,
            "give an unbiased one",
        ),
        (lambda: Protected(Spaced(), np.ones(2, bool)), ValueError, "space those of the whole"),
        (lambda: Protected(ClassQuotas([0, 1]), np.ones(2, bool)), ValueError, "that needs no labels"),
        (
            lambda: ClassQuotas([0, 1], Protected(InfoBatch(), np.ones(2, bool))),
            ValueError,
            "cannot be asked for each class alone",
        ),
        (
            lambda: Protected(InfoBatch(), [3, 17]),
            TypeError,
            "have dtype int64; give bool",
        ),
        (lambda: Protected(InfoBatch(), np.ones((2, 2), bool)), ValueError, r"have shape \(2, 2\)"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_samples_of_other_data_are_refused():
    with pytest.raises(ValueError, match="of 3 samples, but the dataset has 100"):
        DynamicPruner(Numbers(100), 3, policy=Protected(InfoBatch(), np.ones(3, bool)))
