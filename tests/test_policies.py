"""What every policy has to hold, and each one's rule."""

import copy
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers import made, random_losses, table_of
from infobatch import DynamicPruner, InfoBatch, Neyman, RandomPruning, Sharded, Spaced
from infobatch.policies import POLICIES as NAMED
from infobatch.policies import (
    RECOMMENDED,
    WRAPPERS,
    BiasedPolicy,
    KeepProbabilities,
    PercentileTiers,
    Policy,
    Proportional,
    Request,
)
from infobatch.scores import ScoreTable
from infobatch.selection import draw, select

NAN = float("nan")
POLICIES = NAMED | WRAPPERS

UNBIASED = [name for name, kind in POLICIES.items() if not issubclass(kind, BiasedPolicy)]
BIASED = [name for name in POLICIES if name not in UNBIASED]


def request(num_pruned=None, seed=0, epoch=1, **options):
    return Request(num_pruned, torch.Generator().manual_seed(seed), epoch, range(1, 9), **options)


def keep(policy, losses, num_pruned=None, seed=0):
    return policy.keep_probabilities(table_of(losses, policy), request(num_pruned, seed))


def selected(policy, losses, num_pruned=None, seed=0, epoch=1, **options):
    asked = request(num_pruned, seed, epoch, **options)
    return select(policy, table_of(losses, policy), asked)


def per_sample(kept):
    return kept.per_sample()


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_keeps_no_state(name):
    policy = made(POLICIES[name], 50)
    before = dict(vars(policy))
    table = table_of(random_losses(50).round(), policy)
    columns = {column: table[column].clone() for column in table.columns}
    for num_pruned in (None, 0 if name == "none" else 11):
        results = [select(policy, table, request(num_pruned, seed=3)).weights for _ in range(2)]
        assert torch.equal(*results)
    assert vars(policy) == before
    for column, values in columns.items():
        assert torch.equal(table[column].nan_to_num(-1), values.nan_to_num(-1))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_frozen_and_shows_its_options_but_no_arrays(name):
    policy = made(POLICIES[name], 500)
    with pytest.raises(FrozenInstanceError):
        policy.columns = ()
    assert repr(policy).startswith(f"{type(policy).__name__}(")
    assert not re.search("tensor|array|\\[", repr(policy))
    assert repr(copy.deepcopy(policy)) == repr(policy)


def test_equal_options_read_alike():
    given = Proportional(np.float64(0.5), power=1, ordered=np.True_)
    assert given == Proportional(0.5, power=1.0, ordered=True)
    assert repr(given) == (
        "Proportional(prune_ratio=0.5, by='last_loss', power=1.0, floor=0.3, cap=1.0, ordered=True)"
    )
    assert repr(Spaced()) == repr(Spaced(Neyman()))
    assert repr(Spaced(prune_ratio=0.2)) == repr(Spaced(Neyman(0.2)))


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "none"])
@pytest.mark.parametrize("num_pruned", [0, 1, 2, 7, 33, 40])
@pytest.mark.parametrize("losses", [random_losses(101), torch.ones(101), torch.full((101,), NAN)])
def test_an_exact_number_is_left_out(name, num_pruned, losses):
    selection = selected(made(POLICIES[name], 101), losses, num_pruned)
    assert selection.num_selected == int(selection.weights.count_nonzero()) == 101 - num_pruned
    total = 101 - num_pruned if name in BIASED and name != "kakurenbo" else 101
    if name not in (
        "proportional",
        "spaced",
        "class-quotas",
        "repb",
    ):  # their weights differ from draw to draw
        assert float(selection.weights.double().sum()) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "none"])
@pytest.mark.parametrize("num_pruned", [None, 7, 33, 40])
def test_a_multiple_is_kept(name, num_pruned):
    selection = selected(made(POLICIES[name], 101), random_losses(101), num_pruned, multiple=8)
    assert selection.num_selected % 8 == 0
    if num_pruned is not None:
        assert abs(selection.num_selected - (101 - num_pruned)) <= 4


@pytest.mark.parametrize("name", BIASED)
def test_a_biased_policy_says_so(name):
    with pytest.raises(TypeError, match="is biased by design"):
        keep(made(POLICIES[name], 10), random_losses(10))
    with pytest.raises(ValueError, match="at least one must be kept"):
        made(POLICIES[name], 10).check_target(10, 10)


@pytest.mark.parametrize("name", UNBIASED)
def test_probabilities_lie_above_0_and_up_to_1(name):
    probabilities = per_sample(keep(made(POLICIES[name], 77), random_losses(77)))
    assert ((probabilities > 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("name", ["infobatch", "percentile-tiers"])
def test_nothing_is_pruned_before_there_are_scores(name):
    assert (per_sample(keep(POLICIES[name](), torch.full((40,), NAN))) == 1).all()


@pytest.mark.parametrize("name", ["infobatch", "percentile-tiers"])
def test_samples_without_a_score_come_last(name):
    losses = torch.tensor([NAN] * 10 + [1.0] * 10)
    probabilities = per_sample(keep(POLICIES[name](), losses, num_pruned=4))
    assert (probabilities[:10] == 1).all()
    assert (probabilities[10:] < 1).any()


def test_samples_without_a_score_fill_up_what_the_scored_cannot_give():
    losses = torch.tensor([NAN] * 10 + [1.0] * 10)
    probabilities = per_sample(keep(InfoBatch(0.5), losses, num_pruned=8))  # 16 lowest of 20
    assert (probabilities[10:] == 0.5).all()
    assert int((probabilities[:10] == 0.5).sum()) == 6


@settings(deadline=None)
@given(
    num_scored=st.integers(0, 40),
    num_unscored=st.integers(1, 10),
    bound=st.floats(0.05, 1),
    kept=st.floats(0.05, 0.95),
)
def test_tiers_of_their_own_prune_no_sample_without_a_score(num_scored, num_unscored, bound, kept):
    losses = torch.cat([random_losses(num_scored), torch.full((num_unscored,), NAN)])
    for policy in (PercentileTiers(), PercentileTiers((bound,), (kept,))):
        assert (per_sample(keep(policy, losses))[num_scored:] == 1).all()


@pytest.mark.parametrize("policy", [InfoBatch(0.5), PercentileTiers((0.6,), (0.5,))])
def test_equal_scores_are_pruned_evenly(policy):
    times = torch.zeros(10)
    for seed in range(3000):
        times += per_sample(keep(policy, torch.ones(10), num_pruned=2, seed=seed)) < 1
    assert ((times / 3000 - 0.4).abs() < 5 * (0.4 * 0.6 / 3000) ** 0.5).all()


def test_ties_at_the_bound_do_not_reach_below_it():
    losses = [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0]
    picked = torch.zeros(7)
    for seed in range(3000):
        picked += per_sample(keep(InfoBatch(0.5), losses, num_pruned=2, seed=seed)) < 1
    assert picked[[0, 1, 6]].tolist() == [3000, 3000, 0]
    assert ((picked[2:6] / 3000 - 0.5).abs() < 5 * (0.25 / 3000) ** 0.5).all()


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
    probabilities = per_sample(keep(InfoBatch(0.75), [1.0, 2.0, 3.0, 6.0, NAN]))  # mean 3
    assert probabilities.tolist() == [0.25, 0.25, 1, 1, 1]


def test_infobatch_to_a_number_prunes_the_lowest():
    losses = [5.0, 1.0, 4.0, 2.0, 3.0, 6.0]
    kept = keep(InfoBatch(0.5), losses, num_pruned=2)  # 2 of the ceil(2 / 0.5) = 4 lowest
    assert per_sample(kept).tolist() == [1, 0.5, 0.5, 0.5, 0.5, 1]
    assert draw(kept, torch.Generator()).weights[[0, 5]].tolist() == [1, 1]


def test_infobatch_to_a_number_leaves_out_each_of_the_lowest_equally_often():
    losses, left_out = random_losses(20), torch.zeros(20)
    kept = keep(InfoBatch(0.5), losses, num_pruned=5)
    for seed in range(2000):
        left_out += draw(kept, torch.Generator().manual_seed(seed)).weights == 0
    lowest = losses.argsort()[:10]
    assert ((left_out[lowest] / 2000 - 0.5).abs() < 5 * (0.25 / 2000) ** 0.5).all()
    assert left_out.sum() == left_out[lowest].sum() == 2000 * 5


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_infobatch_prunes_no_sample_at_or_above_the_mean(losses, ratio):
    probabilities = per_sample(keep(InfoBatch(ratio), np.array(losses, np.float32)))
    mean = np.float32(np.mean(losses, dtype=np.float64))
    assert (probabilities < 1).tolist() == [loss < mean for loss in losses]
    assert set(probabilities.tolist()) <= {1.0, 1 - ratio}


@pytest.mark.parametrize(("num_pruned", "ratio", "size"), [(1, 0.3, 4), (3, 0.3, 10), (7, 0.7, 10)])
def test_infobatch_rounds_the_stratum_up(num_pruned, ratio, size):
    kept = keep(InfoBatch(ratio), random_losses(100), num_pruned)
    assert int((per_sample(kept) < 1).sum()) == size


def test_percentile_tiers_follow_the_authors_rule():
    losses = torch.arange(1000.0)
    kept = keep(PercentileTiers(), losses)
    probabilities = per_sample(kept)
    assert probabilities[:200].tolist() == [0.25] * 200
    assert probabilities[200:850].tolist() == [0.5] * 650
    assert (probabilities[850:] == 1).all()
    selection = draw(kept, torch.Generator().manual_seed(0))
    assert selection.num_selected == 525
    assert set(selection.weights.tolist()) == {0, 1, 2, 4}


def test_percentile_tiers_reach_a_number_by_moving_their_bounds():
    losses = torch.arange(1000.0)
    half = per_sample(keep(PercentileTiers(), losses, num_pruned=238))
    assert int((half == half[0]).sum()) == pytest.approx(100, abs=1)
    assert int((half < 1).sum()) == pytest.approx(426, abs=2)


@settings(deadline=None)
@given(
    losses=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]), min_size=10, max_size=60),
    share=st.floats(0, 0.45),
    seed=st.integers(0, 1000),
)
def test_tiers_hold_the_next_lowest_each(losses, share, seed):
    num_pruned = int(share * len(losses))
    kept = keep(PercentileTiers(), losses, num_pruned, seed)
    sizes = torch.bincount(kept.strata, minlength=3).tolist()
    left_out = [n * (1 - p) for n, p in zip(sizes, kept.probabilities.tolist(), strict=True)]
    assert sum(left_out) == pytest.approx(num_pruned)
    assert left_out[0] == pytest.approx(num_pruned * 0.15 / 0.475, abs=0.51)
    assert kept.probabilities[2] == 1
    ranks = np.nan_to_num(np.array(losses), nan=np.inf)
    by_stratum = [ranks[kept.strata.numpy() == stratum] for stratum in range(3)]
    for lower, higher in ((0, 1), (1, 2), (0, 2)):
        assert by_stratum[lower].max(initial=-1) <= by_stratum[higher].min(initial=np.inf)


def test_random_pruning_looks_at_no_score():
    kept = keep(RandomPruning(0.3), random_losses(100))
    assert per_sample(kept).tolist() == [0.7] * 100


def test_a_policy_of_ones_own_may_set_its_attributes_when_made():
    class ByNorm(Policy):
        def __init__(self, inner):
            self.inner, self.columns, self.num_samples = inner, inner.columns, 60

        def keep_probabilities(self, scores, request):
            return self.inner.keep_probabilities(scores, request)

        def check_target(self, num_pruned, num_samples):
            self.inner.check_target(num_pruned, num_samples)

    policy = ByNorm(Proportional(by="smoothed_norm"))
    assert DynamicPruner(range(60), 3, policy=policy).signals == ("gradient_norms",)
    with pytest.raises(ValueError, match="was given the labels of 60 samples, but the dataset has 50"):
        DynamicPruner(range(50), 3, policy=policy)


def test_a_policy_of_ones_own_without_strata():
    class ByLoss(Policy):
        def keep_probabilities(self, scores, request):
            losses = scores["last_loss"]
            return KeepProbabilities((losses / losses.max()).clamp(min=0.2))

        def check_target(self, num_pruned, num_samples):
            pass

    kept = keep(ByLoss(), random_losses(60))
    assert draw(kept, torch.Generator().manual_seed(0)).num_selected == round(
        float(kept.probabilities.double().sum())
    )


@pytest.mark.parametrize(
    ("policy", "num_pruned", "message"),
    [
        (InfoBatch(0.5), 51, r"at most 50\. The smallest prune_ratio that meets it is 0\.51"),
        (InfoBatch(0.0), 1, r"smallest prune_ratio that meets it is 0\.01"),
        (PercentileTiers(), 60, r"at most 56\. Give smaller keep probabilities, or lower the target"),
        (RandomPruning(), 100, "at least one must be kept"),
        (POLICIES["none"](), 1, "NoPruning leaves out none; choose another policy"),
    ],
)
def test_a_number_out_of_reach_is_refused_with_the_remedy(policy, num_pruned, message):
    with pytest.raises(ValueError, match=message):
        policy.check_target(num_pruned, 100)


def refusal(policy, num_pruned, num_samples):
    with pytest.raises(ValueError, match="the target leaves out") as caught:
        policy.check_target(num_pruned, num_samples)
    return str(caught.value)


@settings(deadline=None)
@given(num_samples=st.integers(2, 20_000), share=st.floats(0.01, 1, exclude_max=True))
def test_the_smallest_ratio_that_is_named_meets_the_target(num_samples, share):
    num_pruned = max(1, int(share * num_samples))
    assume(num_pruned < num_samples)
    message = refusal(InfoBatch(0), num_pruned, num_samples)
    named = float(re.search(r"meets it is ([\d.]+);", message)[1])
    InfoBatch(named).check_target(num_pruned, num_samples)


@pytest.mark.parametrize(
    "policy",
    [
        *(InfoBatch(ratio) for ratio in (0.29, 0.5, 0.57, 0.7)),
        *(PercentileTiers(*t) for t in ([], ((0.5,), (0.3,)), ((1.0,), (0.5,)))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("num_samples", [10, 100, 203, 1000])
def test_the_most_that_is_named_is_the_most_that_is_accepted(policy, num_samples):
    named = re.search(r"at most ([\d,]+)\.", refusal(policy, num_samples - 1, num_samples))[1]
    most = int(named.replace(",", ""))
    policy.check_target(most, num_samples)
    refusal(policy, most + 1, num_samples)
    kept = keep(policy, random_losses(num_samples), most)
    assert draw(kept, torch.Generator()).num_selected == num_samples - most


@pytest.mark.parametrize("policy", [InfoBatch(0.51), PercentileTiers((0.6,), (0.1,)), RandomPruning()])
def test_a_number_within_reach_is_accepted(policy):
    policy.check_target(51, 100)
    assert draw(keep(policy, random_losses(100), 51), torch.Generator()).num_selected == 49


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, NAN])
@pytest.mark.parametrize("policy", [InfoBatch, RandomPruning])
def test_a_ratio_outside_0_to_1_is_refused(policy, ratio):
    with pytest.raises(ValueError, match=f"prune_ratio is {ratio}; .* at least 0 and less than 1"):
        policy(ratio)


@pytest.mark.parametrize(
    ("percentiles", "kept", "message"),
    [
        ((0.5,), (0.5, 0.5), "differ in length"),
        ((), (), "empty; give one keep probability for each tier"),
        ((0.0, 0.5), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((0.5, 0.5), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((0.5, 0.2), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((0.5, 1.2), (0.5, 0.5), r"must rise within \(0, 1\]"),
        ((0.5,), (0.0,), "never be seen"),
        ((0.5,), (1.0,), "always kept need no tier"),
    ],
)
def test_tiers_that_make_no_sense_are_refused(percentiles, kept, message):
    with pytest.raises(ValueError, match=message):
        PercentileTiers(percentiles, kept)


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


def test_keep_probabilities_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        draw(KeepProbabilities(torch.tensor([0.0, 1.0])), torch.Generator())


def test_proportional_takes_of_easy_and_hard_ones_alike_where_it_is_ordered():
    losses = np.repeat([0.1, 0.2, 0.4, 0.8], 50)
    furthest = {}
    for ordered in (False, True):
        policy = Proportional(0.5, ordered=ordered)
        expected = keep(policy, losses).probabilities.reshape(4, 50).sum(1)
        draws = [selected(policy, losses, seed=seed).weights for seed in range(30)]
        taken = torch.stack([(weights > 0).reshape(4, 50).sum(1) for weights in draws])
        furthest[ordered] = float((taken - expected).abs().max())
    assert furthest[True] <= 1 < furthest[False]


def test_proportional_keeps_none_with_more_than_the_cap():
    probabilities = keep(Proportional(0.5, cap=0.6), random_losses(200)).probabilities
    assert float(probabilities.max()) == pytest.approx(0.6)
    assert float(probabilities.sum()) == pytest.approx(100)
    with pytest.raises(
        ValueError, match=r"cap is 0\.6, but 0\.75 of the samples are to be kept.*raise cap"
    ):
        DynamicPruner(range(100), 10, policy=Proportional(cap=0.6), delta=1, target=0.225)


@pytest.mark.parametrize("kind", [Proportional, Neyman])
def test_probabilities_follow_the_column_that_is_named(kind):
    table = ScoreTable(40, ["last_loss", "smoothed_loss", "gradient_norm"])
    norms = np.linspace(0.1, 1.4, 40, dtype=np.float32)
    table.record(np.arange(40), norms[::-1].copy(), norms)
    by_loss = per_sample(kind(0.5).keep_probabilities(table, request()))
    by_norm = per_sample(kind(0.5, by="gradient_norm").keep_probabilities(table, request()))
    assert by_loss[0] > by_loss[-1]
    assert by_norm[0] < by_norm[-1]
    with pytest.raises(ValueError, match=r"by is 'norm'; choose .* last_loss"):
        kind(by="norm")


def test_a_target_alone_is_met_by_the_recommended_policy():
    assert isinstance(DynamicPruner(range(100), 10).policy, InfoBatch)
    assert isinstance(DynamicPruner(range(100), 10, target=0.6).policy, POLICIES[RECOMMENDED])
    sharded = DynamicPruner(range(100), 10, target=0.3, layout=Sharded(), rank=0, num_replicas=1)
    assert isinstance(sharded.policy, InfoBatch)
