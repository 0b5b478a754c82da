"""Each class keeps the same share of its samples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import random_losses, request, table_of
from helpers.policies import keep_probabilities, sizes_kept
from infobatch import InfoBatch, Neyman, NoiseBudget, RandomPruning
from infobatch.batching import EpochSizes
from infobatch.policies import ClassQuotas, PercentileTiers, Proportional, SeTa
from infobatch.selection import draw

INNER = [
    Proportional(),
    Proportional(0.3, ordered=True),
    InfoBatch(0.8),
    PercentileTiers((0.9,), (0.1,)),
    RandomPruning(),
    Neyman(strata=3),
]


@pytest.mark.parametrize("inner", INNER, ids=repr)
@pytest.mark.parametrize(("num_pruned", "multiple"), [(None, 1), (40, 1), (81, 1), (40, 16)])
def test_every_draw_takes_each_classs_quota(inner, num_pruned, multiple):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [90, 60, 40, 10]))
    losses = random_losses(200) * torch.from_numpy(1.0 + labels)  # some classes are harder
    policy = ClassQuotas(labels, inner)
    table = table_of(losses, policy)
    for seed in range(10):
        asked = request(num_pruned, seed, epoch_sizes=EpochSizes(multiple))
        keep = policy.keep_probabilities(table, asked)
        selection = draw(keep, asked.generator, asked.epoch_sizes)
        kept = sizes_kept(selection, labels)
        share = selection.num_selected / 200
        assert np.abs(np.array(kept) - share * np.array([90, 60, 40, 10])).max() < 1
        assert [float(keep.probabilities[labels == c].sum()) for c in range(4)] == pytest.approx(kept)
        if num_pruned is not None and multiple == 1:
            assert sum(kept) == 200 - num_pruned
        assert sum(kept) % multiple == 0


def test_a_sample_is_compared_with_those_of_its_class():
    # Of the losses below, InfoBatch prunes 1 and 2 below the mean 15; by class, 1, and 10 and 20.
    labels, losses = [0, 0, 1, 1, 1], [1.0, 4.0, 10.0, 20.0, 60.0]
    policy = ClassQuotas(labels, InfoBatch(0.5))
    keep = policy.keep_probabilities(table_of(losses, policy), request())
    # Kept by itself: 0.5 + 1 and 0.5 + 0.5 + 1, 3.5 of 5 and made 4: quotas 1.6 and 2.4, made 2 and 2
    assert keep.probabilities.tolist() == pytest.approx([1, 1, 0.5, 0.5, 1])
    assert keep.order.tolist()[:2] in ([0, 1], [1, 0])


def test_under_a_target_a_class_has_the_probabilities_that_its_policy_gives():
    labels, losses = np.repeat([0, 1], 50), random_losses(100)
    policy = ClassQuotas(labels, Proportional())
    keep = policy.keep_probabilities(table_of(losses, policy), request(40))
    for members in (slice(0, 50), slice(50, 100)):
        own = Proportional().keep_probabilities(table_of(losses[members], policy), request(20))
        assert torch.equal(keep.probabilities[members], own.probabilities)


def test_class_quotas_read_the_columns_of_their_policy():
    policy = ClassQuotas([0, 1], Neyman())
    assert policy.columns == Neyman().columns
    assert repr(policy).startswith("ClassQuotas(policy=Neyman(")


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    ratio=st.floats(0, 0.95),
    seed=st.integers(0, 99),
)
def test_any_classes_keep_their_share(sizes, ratio, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    policy = ClassQuotas(labels, Proportional(ratio))
    asked = request(seed=seed)
    keep = policy.keep_probabilities(table_of(random_losses(len(labels), seed), policy), asked)
    selection = draw(keep, asked.generator)
    kept = np.array(sizes_kept(selection, labels))
    assert (kept >= 1).all()
    share = selection.num_selected / len(labels)
    above = kept - share * np.array(sizes)
    assert (above[kept > 1] < 1 + 1e-9).all()  # the last one of a class stays in any case


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ClassQuotas([0], "infobatch"), TypeError, "policy is 'infobatch'; give an object"),
        (lambda: ClassQuotas([0], SeTa()), ValueError, "SeTa.* cannot be asked for each class alone"),
        (lambda: ClassQuotas([0], ClassQuotas([0])), ValueError, "one that needs no labels"),
        (
            lambda: ClassQuotas([0], NoiseBudget(1.1)),
            ValueError,
            r"is NoiseBudget\(.*whose budget of noise is not kept.*or NoiseBudget\(None\) with",
        ),
        (
            lambda: ClassQuotas([0, 0, 1, 1, 1], InfoBatch(0.5)).check_target(3, 5),
            ValueError,
            r"of class number 1, .* smallest prune_ratio that meets it is 0\.667",
        ),
        (
            lambda: keep_probabilities(ClassQuotas([0, 0, 1, 1, 1], InfoBatch()), torch.ones(5), 3),
            ValueError,
            "of class number 1, the target leaves out 2 of 3 samples",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
