"""Policies that are given the class of each sample, or a score made beforehand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Numbers, random_losses, table_of
from infobatch import DynamicPruner, InfoBatch, Neyman, RandomPruning
from infobatch.policies import RCAP, ClassQuotas, PercentileTiers, Proportional, Request, SeTa, Static
from infobatch.policies.rcap import class_sizes, clipped_losses, drawn_by
from infobatch.scores import ScoreTable
from infobatch.selection import draw, select

NAN = float("nan")


def request(num_pruned=None, seed=0, **options):
    return Request(num_pruned, torch.Generator().manual_seed(seed), 1, range(1, 9), **options)


def sizes_kept(selection, labels):
    return np.bincount(np.asarray(labels)[selection.indices.numpy()]).tolist()


# -- RCAP ----------------------------------------------------------------------------------------


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


# -- Class quotas --------------------------------------------------------------------------------

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
        asked = request(num_pruned, seed, multiple=multiple)
        keep = policy.keep_probabilities(table, asked)
        selection = draw(keep, asked.generator, multiple)
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


def test_class_quotas_read_the_columns_of_their_policy():
    policy = ClassQuotas([0, 1], Neyman())
    assert policy.columns == Neyman().columns
    assert repr(policy).startswith("ClassQuotas(policy=Neyman(")


def test_a_part_of_a_table_has_the_rows_that_were_named():
    table = ScoreTable(5, ["last_loss", "visits", "smoothed_loss"])
    table.record(np.array([1, 3]), np.array([2.0, 4.0], np.float32))
    part = table.part(np.array([3, 0, 1]))
    assert len(part) == 3
    assert part.columns == table.columns
    assert part["last_loss"].nan_to_num(-1).tolist() == [4, -1, 2]
    assert part["visits"].tolist() == [1, 0, 1]
    part.record(np.array([1]), np.array([9.0], np.float32))
    assert table["last_loss"][0].isnan()


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


# -- Static scores -------------------------------------------------------------------------------


def test_static_scores_keep_the_highest_in_every_epoch():
    policy = Static([3.0, math.inf, 1.0, 2.0, -5.0], 0.4)
    parts = [select(policy, ScoreTable(5), request(seed=seed)) for seed in range(5)]
    assert all(part.indices.tolist() == [0, 1, 3] for part in parts)
    assert parts[0].weights.tolist() == [1, 1, 0, 1, 0]
    assert select(policy, ScoreTable(5), request(4)).indices.tolist() == [1]


def test_equal_static_scores_are_ordered_at_random_once():
    policy = Static(np.zeros(1000, np.int64), 0.5)
    parts = [select(policy, ScoreTable(1000), request(seed=seed)).indices for seed in range(3)]
    assert torch.equal(parts[0], parts[1])
    assert 200 < int((parts[0] < 500).sum()) < 300


def test_a_run_of_static_scores_trains_its_subset_alone():
    policy = Static(torch.arange(10))
    pruner = DynamicPruner(Numbers(10), 3, policy=policy, warmup_epochs=0, delta=1, target=0.6)
    epochs = []
    loader = pruner.loader(2)
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.zeros(len(indices)), indices)
        epochs.append(pruner.selection.indices.tolist())
    assert epochs == [[6, 7, 8, 9]] * 3


# -- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RCAP, ClassQuotas])
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, TypeError, r"has no labels; give {name}\(labels\), the class of each sample"),
        ([0.0, 1.0], TypeError, "the labels have dtype float64; they must be integers"),
        (torch.tensor([True, False]), TypeError, "the labels have dtype bool"),
        ([], TypeError, "the labels have dtype float64"),
        ([[0, 1]], ValueError, r"the labels have shape \(1, 2\); there must be one a sample"),
    ],
)
def test_labels_that_make_no_sense_are_refused(kind, labels, error, message):
    with pytest.raises(error, match=message.format(name=kind.__name__)):
        kind(labels)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (None, TypeError, r"Static has no scores; give Static\(scores\)"),
        (["a"], TypeError, "they must be numbers"),
        ([0.0, NAN], ValueError, "the score of sample 1 is NaN"),
        (torch.zeros(2, 2), ValueError, r"the scores have shape \(2, 2\)"),
    ],
)
def test_static_scores_that_make_no_sense_are_refused(scores, error, message):
    with pytest.raises(error, match=message):
        Static(scores)


@pytest.mark.parametrize("policy", [RCAP([0, 1]), ClassQuotas([0, 1]), Static([0, 1])], ids=repr)
def test_labels_of_other_data_are_refused(policy):
    with pytest.raises(ValueError, match=r"(labels|scores) of 2 samples, but the dataset has 1,000; "):
        DynamicPruner(Numbers(1000), 3, policy=policy)


@pytest.mark.parametrize("kind", [RCAP, ClassQuotas])
def test_a_target_that_loses_a_class_is_refused(kind):
    policy = kind([0, 1, 2] * 4)
    policy.check_target(9, 12)
    with pytest.raises(ValueError, match=r"leaves out 10 of 12 samples .* there are 3 classes"):
        policy.check_target(10, 12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RCAP([0], beta=0), ValueError, "beta is 0; it is a temperature"),
        (lambda: RCAP([0], 1.0), ValueError, "prune_ratio is 1.0"),
        (lambda: Static([0], 1.0), ValueError, "prune_ratio is 1.0"),
        (lambda: ClassQuotas([0], "infobatch"), TypeError, "policy is 'infobatch'; give an object"),
        (lambda: ClassQuotas([0], SeTa()), ValueError, "SeTa.* cannot be asked for each class alone"),
        (lambda: ClassQuotas([0], ClassQuotas([0])), ValueError, "one that needs no labels"),
        (
            lambda: ClassQuotas([0, 0, 1, 1, 1], InfoBatch(0.5)).check_target(3, 5),
            ValueError,
            r"of class number 1, .* smallest prune_ratio that meets it is 0\.667",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
