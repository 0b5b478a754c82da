"""What every policy has to hold."""

import copy
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from helpers import Numbers, keep_probabilities, made, random_losses, request, selection_of, table_of
from helpers.policies import BIASED, POLICIES, UNBIASED
from infobatch import DynamicPruner, InfoBatch, Neyman, RandomPruning, Spaced
from infobatch.batching import EpochSizes
from infobatch.policies import (
    IES,
    RCAP,
    RS2,
    UCB,
    ClassQuotas,
    EpsilonGreedy,
    Kakurenbo,
    KeepProbabilities,
    NoiseBudget,
    OrderDP,
    PercentileTiers,
    Policy,
    Proportional,
    RePB,
    SeTa,
    Static,
    Undersampling,
    allocate,
)
from infobatch.scores import ScoreTable
from infobatch.selection import draw, select

NAN = float("nan")


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
    assert repr(given) == repr(Proportional(0.5, power=1.0, ordered=True))
    assert repr(given) == (
        "Proportional(prune_ratio=0.5, by='last_loss', power=1.0, floor=0.3, cap=1.0, ordered=True)"
    )
    assert repr(Spaced()) == repr(Spaced(Neyman()))
    assert repr(Spaced(prune_ratio=0.2)) == repr(Spaced(Neyman(0.2)))


LABELS = np.arange(99) % 3
BY_RATIO = [RandomPruning, Neyman, Proportional, RS2, EpsilonGreedy, UCB, OrderDP, SeTa, RePB, Kakurenbo]


@pytest.mark.parametrize(
    "make",
    [
        *BY_RATIO,
        lambda *ratio: Spaced(Neyman(*ratio)),
        lambda *ratio: ClassQuotas(LABELS, Proportional(*ratio)),
        lambda *ratio: Undersampling(LABELS, *ratio),
        lambda *ratio: RCAP(LABELS, *ratio),
        lambda *ratio: Static(LABELS, *ratio),
    ],
)
def test_a_ratio_that_a_target_overrules_is_warned_of_once(make):
    with pytest.warns(UserWarning, match=r"prune_ratio=0\.32 has no effect: with a target") as told:
        DynamicPruner(Numbers(99), 9, policy=make(0.32), target=0.2)
    assert len(told) == 1
    DynamicPruner(Numbers(99), 9, policy=make(), target=0.2)
    DynamicPruner(Numbers(99), 9, policy=make(0.32), delta=1)


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "none"])
@pytest.mark.parametrize("num_pruned", [0, 1, 2, 7, 33, 40])
@pytest.mark.parametrize("losses", [random_losses(101), torch.ones(101), torch.full((101,), NAN)])
def test_an_exact_number_is_left_out(name, num_pruned, losses):
    selection = selection_of(made(POLICIES[name], 101), losses, num_pruned)
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
    selection = selection_of(
        made(POLICIES[name], 101), random_losses(101), num_pruned, epoch_sizes=EpochSizes(8)
    )
    assert selection.num_selected % 8 == 0
    if num_pruned is not None:
        assert abs(selection.num_selected - (101 - num_pruned)) <= 4


@pytest.mark.parametrize("name", BIASED)
def test_a_biased_policy_says_so(name):
    with pytest.raises(TypeError, match="is biased by design"):
        keep_probabilities(made(POLICIES[name], 10), random_losses(10))
    with pytest.raises(ValueError, match="at least one must be kept"):
        made(POLICIES[name], 10).check_target(10, 10)


@pytest.mark.parametrize("name", UNBIASED)
def test_probabilities_lie_above_0_and_up_to_1(name):
    probabilities = keep_probabilities(made(POLICIES[name], 77), random_losses(77)).per_sample()
    assert ((probabilities > 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("name", ["infobatch", "percentile-tiers"])
def test_nothing_is_pruned_before_there_are_scores(name):
    assert (keep_probabilities(POLICIES[name](), torch.full((40,), NAN)).per_sample() == 1).all()


@pytest.mark.parametrize("name", ["infobatch", "percentile-tiers"])
def test_samples_without_a_score_come_last(name):
    losses = torch.tensor([NAN] * 10 + [1.0] * 10)
    probabilities = keep_probabilities(POLICIES[name](), losses, num_pruned=4).per_sample()
    assert (probabilities[:10] == 1).all()
    assert (probabilities[10:] < 1).any()


@pytest.mark.parametrize("kind", [Proportional, Neyman])
def test_probabilities_follow_the_column_that_is_named(kind):
    table = ScoreTable(40, ["last_loss", "smoothed_loss", "gradient_norm"])
    norms = np.linspace(0.1, 1.4, 40, dtype=np.float32)
    table.record(np.arange(40), norms[::-1].copy(), norms)
    by_loss = kind(0.5).keep_probabilities(table, request()).per_sample()
    by_norm = kind(0.5, by="gradient_norm").keep_probabilities(table, request()).per_sample()
    assert by_loss[0] > by_loss[-1]
    assert by_norm[0] < by_norm[-1]
    with pytest.raises(ValueError, match=r"by is 'norm'; choose .* last_loss"):
        kind(by="norm")


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

    kept = keep_probabilities(ByLoss(), random_losses(60))
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


@pytest.mark.parametrize("policy", [InfoBatch(0.51), PercentileTiers((0.6,), (0.1,)), RandomPruning()])
def test_a_number_within_reach_is_accepted(policy):
    policy.check_target(51, 100)
    assert draw(keep_probabilities(policy, random_losses(100), 51), torch.Generator()).num_selected == 49


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, NAN])
@pytest.mark.parametrize("policy", [InfoBatch, RandomPruning])
def test_a_ratio_outside_0_to_1_is_refused(policy, ratio):
    with pytest.raises(ValueError, match=f"prune_ratio is {ratio}; .* at least 0 and less than 1"):
        policy(ratio)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Proportional(power="1"), r"power is '1'; it must be a number, such as 1\.0"),
        (lambda: Proportional(cap=None), "cap is None; it must be a number"),
        (lambda: Neyman(floor=None), "floor is None; it must be a number"),
        (lambda: NoiseBudget(floor="0.1"), "floor is '0.1'; it must be a number"),
        (lambda: EpsilonGreedy(epsilon=None), "epsilon is None"),
        (lambda: UCB(c="1"), "c is '1'"),
        (lambda: IES("x"), "threshold is 'x'"),
        (lambda: SeTa(groups=5.7), r"groups is 5\.7; it must be a whole number, such as 5"),
        (lambda: Kakurenbo(confidence="high"), "confidence is 'high'"),
        (lambda: OrderDP(keep=[]), r"keep is \[\]"),
        (lambda: RCAP([0, 1], beta=None), "beta is None"),
        (lambda: PercentileTiers(0.5, 0.3), r"percentiles is 0\.5; give a number for each tier"),
        (lambda: PercentileTiers((0.5,), ("a",)), r"keep is \('a',\); give a number for each"),
    ],
)
def test_an_option_that_is_no_number_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_columns_that_are_a_text_are_refused():
    policy = Static(np.arange(10))
    object.__setattr__(policy, "columns", "visits")
    with pytest.raises(
        TypeError, match=r"columns of .* is 'visits'; give a tuple, such as \('visits',\)"
    ):
        DynamicPruner(Numbers(10), 4, policy=policy)


def test_probabilities_that_follow_visits_meet_a_target_in_every_epoch():
    class LeastVisited(Policy):
        columns = ("visits",)

        def keep_probabilities(self, scores, request):
            wanted = 1 / (1 + scores["visits"].double())
            chances = allocate(wanted.numpy(), request.num_kept(len(scores), 0.3), floor=0.1)
            return KeepProbabilities(torch.from_numpy(chances))

        def check_target(self, num_pruned, num_samples):
            pass

    pruner = DynamicPruner(Numbers(400), 40, policy=LeastVisited(), target=0.3)
    for epoch in pruner.epochs():
        kept = pruner.selection.indices
        assert len(kept) == 400 - pruner.plan.schedule.num_pruned(epoch)
        pruner.update(torch.ones(len(kept)), kept)
    assert pruner.scores["visits"].min() > 20


def test_a_ratio_that_is_no_number():
    with pytest.raises(TypeError, match=r"prune_ratio is '0\.5'; it must be a number"):
        RandomPruning("0.5")
