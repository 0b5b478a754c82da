"""Draws from keep probabilities: sizes, weights, chances, and answers that are refused."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from helpers import made, random_losses, table_of
from helpers.policies import POLICIES, UNBIASED, check_strata, generator, stratum_counts
from infobatch import DynamicPruner
from infobatch.batching import EpochSizes
from infobatch.chunks import CHUNK
from infobatch.policies import BiasedPolicy, KeepProbabilities, Policy, Proportional, Request
from infobatch.scores import ScoreTable
from infobatch.selection import Selection, draw, inclusion_probabilities, select
from infobatch.selection.strata import stratum_counts as counts_of

seeds = st.integers(0, 2**31)


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("name", UNBIASED)
def test_the_chances_that_are_told_are_the_inverse_weights(name, multiple):
    policy = made(POLICIES[name], 200)
    for seed in range(5):
        table = table_of(random_losses(200, seed), policy)
        keep = policy.keep_probabilities(
            table, Request(None, generator(seed), epoch_sizes=EpochSizes(multiple))
        )
        chances = inclusion_probabilities(keep, EpochSizes(multiple))
        selection = draw(keep, generator(seed), EpochSizes(multiple))
        assert float(chances.sum()) == pytest.approx(selection.num_selected)
        kept = selection.indices
        assert selection.weights[kept].numpy() == pytest.approx(1 / chances[kept].numpy(), rel=1e-6)
        assert bool((chances[selection.weights == 0] < 1).all())


@pytest.mark.parametrize("wanted", [None, 2, 3, 5])
def test_the_chances_that_are_told_are_those_of_the_number_that_is_wanted(wanted):
    keep = KeepProbabilities(torch.tensor([0.5, 0.5]), torch.tensor([0, 0, 0, 1, 1, 1]).byte())
    chances = inclusion_probabilities(keep, wanted=wanted)
    selection = draw(keep, generator(0), wanted=wanted)
    assert selection.num_selected == (wanted or 4)
    kept = selection.indices
    torch.testing.assert_close(1 / chances[kept].float(), selection.weights[kept])


def test_the_effective_share_is_that_of_a_worked_example():
    # Kish (1965): of 1, 1 and 2, (1 + 1 + 2)^2 / (3 (1 + 1 + 4)) = 16 / 18.
    assert Selection.of(torch.tensor([1.0, 0, 1, 2, 0])).effective_share == pytest.approx(8 / 9)
    assert Selection.full(7).effective_share == 1
    assert Selection.of(torch.tensor([0.0, 3, 3])).effective_share == 1


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    probabilities=st.lists(st.floats(0.01, 1), min_size=5, max_size=5),
    seed=seeds,
)
def test_any_strata_keep_their_sum(sizes, probabilities, seed):
    strata = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(torch.uint8)
    strata = strata[torch.randperm(len(strata), generator=generator(seed))]
    keep = KeepProbabilities(torch.tensor(probabilities[: len(sizes)]).double(), strata)
    check_strata(keep, draw(keep, generator(seed)))


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    probabilities=st.lists(st.floats(0.05, 1), min_size=5, max_size=5),
    multiple=st.integers(1, 16),
    seed=seeds,
)
@example(sizes=[3] * 4, probabilities=[0.1] * 5, multiple=3, seed=0)  # 3 cannot hold one of each
def test_the_nearest_possible_multiple_is_kept_without_losing_the_sum(
    sizes, probabilities, multiple, seed
):
    strata = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(torch.uint8)
    keep = KeepProbabilities(torch.tensor(probabilities[: len(sizes)]).double(), strata)
    possible = [k for k in range(multiple, len(strata) + 1, multiple) if k >= len(sizes)]
    assume(possible)
    selection = draw(keep, generator(seed), EpochSizes(multiple))
    counts = [k for _, k in stratum_counts(keep)]
    if counts == sizes:
        assert selection.num_selected == len(strata)
    else:
        assert selection.num_selected in possible
        distance = min(abs(k - sum(counts)) for k in possible)
        assert abs(selection.num_selected - sum(counts)) == distance
    for stratum, size in enumerate(sizes):
        weights = selection.weights[strata == stratum]
        kept = weights[weights > 0]
        assert (kept == np.float32(size / len(kept))).all()
        assert float(weights.double().sum()) == pytest.approx(size, rel=1e-6)


def whole_sum(probabilities, total):
    """The factor by which the probabilities, capped at 1, sum to ``total``: found by bisection."""
    low, high = 0.0, total / probabilities.min()
    for _ in range(200):
        factor = (low + high) / 2
        if np.minimum(1, factor * probabilities).sum() < total:
            low = factor
        else:
            high = factor
    return np.minimum(1, high * probabilities)


@settings(deadline=None, max_examples=200)
@given(
    probabilities=st.lists(st.floats(0.02, 0.99), min_size=1, max_size=200),
    multiple=st.integers(1, 8),
    seed=seeds,
)
def test_without_strata_the_size_is_whole_and_weights_are_inverse(probabilities, multiple, seed):
    assume(len(probabilities) >= multiple)
    keep = KeepProbabilities(torch.tensor(probabilities, dtype=torch.float64))
    selection = draw(keep, generator(seed), EpochSizes(multiple))
    total = float(keep.probabilities.sum())
    possible = range(multiple, len(probabilities) + 1, multiple)
    distance = min(abs(k - round(total)) for k in possible)
    assert selection.num_selected in possible
    assert abs(selection.num_selected - round(total)) == distance
    kept = selection.indices.numpy()
    assert len(kept) == selection.num_selected
    adjusted = whole_sum(np.array(probabilities), selection.num_selected)
    assert selection.weights[kept].numpy() == pytest.approx(1 / adjusted[kept], rel=1e-5)
    certain = np.flatnonzero(adjusted == 1)
    assert (selection.weights.numpy()[certain] > 0).all()


@settings(deadline=None, max_examples=100)
@given(
    num_certain=st.integers(1, 50),
    others=st.lists(st.floats(0.02, 0.99), min_size=1, max_size=50),
    seed=seeds,
)
def test_without_strata_certain_samples_stay_certain(num_certain, others, seed):
    probabilities = torch.tensor([1.0] * num_certain + others, dtype=torch.float64)
    selection = draw(KeepProbabilities(probabilities), generator(seed))
    if sum(others) > 0.6:
        assert (selection.weights[:num_certain] == 1).all()
    assert selection.num_selected == round(float(probabilities.sum()))


def test_certain_samples_that_exceed_a_multiple_share_the_cut():
    probabilities = torch.tensor([1.0] * 7 + [0.5] * 4)
    frequencies, weights = torch.zeros(11), set()
    for seed in range(2000):
        selection = draw(KeepProbabilities(probabilities), generator(seed), EpochSizes(6))
        assert selection.num_selected == 6
        frequencies += selection.weights > 0
        weights.update(selection.weights[:7].tolist())
    adjusted = probabilities * 6 / 9
    error = (adjusted * (1 - adjusted) / 2000).sqrt()
    assert ((frequencies / 2000 - adjusted).abs() <= 5 * error).all()
    assert weights == {0, 1.5}


def test_without_strata_inclusion_follows_the_probabilities():
    probabilities = torch.tensor([0.1, 0.9, 1.0, 0.5, 0.25, 0.25, 0.7, 0.3])  # they sum to 4
    stream, num_draws = generator(0), 10_000
    sums = torch.zeros(8)
    included = torch.zeros(8)
    for _ in range(num_draws):
        selection = draw(KeepProbabilities(probabilities), stream)
        assert selection.num_selected == 4
        sums += selection.weights
        included += selection.weights > 0
    error = (probabilities * (1 - probabilities) / num_draws).sqrt()
    assert ((included / num_draws - probabilities).abs() <= 5 * error).all()
    assert ((sums / num_draws - 1).abs() <= 5 * error / probabilities).all()


def test_in_a_given_order_inclusion_follows_the_probabilities_and_no_stretch_is_missed():
    probabilities = torch.tensor([0.2, 0.9, 0.3, 0.6, 0.5, 0.5, 1.0, 1.0], dtype=torch.float64)
    order = torch.tensor([7, 0, 2, 4, 6, 5, 1, 3])  # of the uncertain: 0 2 4 | 5 1 3, of sums 1 and 2
    counts = np.zeros(8)
    num_draws = 4000
    for seed in range(num_draws):
        selection = draw(KeepProbabilities(probabilities, order=order), generator(seed))
        kept = selection.weights.numpy() > 0
        assert kept[[0, 2, 4]].sum() == 1
        assert kept[[5, 1, 3]].sum() == 2
        counts += kept
    errors = np.sqrt(probabilities.numpy() * (1 - probabilities.numpy()) / num_draws)
    assert (np.abs(counts / num_draws - probabilities.numpy()) <= 5 * errors).all()


def test_without_strata_any_two_samples_can_be_kept_together():
    pairs, num_draws = {}, 3000
    for seed in range(num_draws):
        selection = draw(KeepProbabilities(torch.full((4,), 0.5)), generator(seed))
        pair = tuple(selection.indices.tolist())
        pairs[pair] = pairs.get(pair, 0) + 1
    assert len(pairs) == 6
    error = (1 / 6 * 5 / 6 / num_draws) ** 0.5
    assert all(abs(count / num_draws - 1 / 6) <= 5 * error for count in pairs.values())


def test_those_owed_most_are_taken_and_pay_for_it():
    """Owed .9, 1.1, .5 and 1.0 after another half: the second and the last go, and keep the rest."""
    credit = torch.tensor([0.4, 0.6, 0.0, 0.5], dtype=torch.float64)
    keep = KeepProbabilities(torch.full((4,), 0.5), credit=credit)
    selection = draw(keep, torch.Generator().manual_seed(0))
    assert selection.weights.tolist() == [0, 2, 0, 2]
    assert selection.credit.tolist() == pytest.approx([0.9, 0.1, 0.5, 0.0])


def test_a_first_draw_takes_just_those_owed_a_visit():
    probabilities = torch.tensor([0.2, 0.9, 1.0, 0.4, 0.5], dtype=torch.float64)
    unknown = torch.full((5,), torch.nan, dtype=torch.float64)
    for seed in range(50):
        keep = KeepProbabilities(probabilities, credit=unknown)
        selection = draw(keep, torch.Generator().manual_seed(seed))
        owed = selection.credit + (selection.weights > 0)
        assert ((selection.weights > 0) == (owed >= 1 - 1e-6)).all()
        assert selection.num_selected == 3


def test_strata_give_what_their_probabilities_give_sample_by_sample():
    """Over several pieces of the set, in the first draw and in the next, some samples certain."""
    size = 5 * CHUNK // 2
    strata = torch.randint(3, (size,), generator=generator(0), dtype=torch.uint8)
    shared = torch.tensor([0.2, 0.6, 1.0], dtype=torch.float64)
    credit = torch.full((size,), torch.nan)
    for seed in range(2):
        one = draw(KeepProbabilities(shared, strata, credit=credit), generator(seed))
        other = draw(KeepProbabilities(shared[strata.long()], credit=credit), generator(seed))
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.credit, other.credit)
        assert one.num_selected == int(one.weights.count_nonzero()) < size
        assert bool((one.weights[strata == 2] == 1).all())
        credit = one.credit


class Answers(Policy):
    """Keeps what it was told to."""

    def __init__(self, answer):
        self.answer = answer

    def __repr__(self):
        return "Answers()"

    def keep_probabilities(self, scores, request):
        return self.answer

    def check_target(self, num_pruned, num_samples):
        pass


class Weighs(BiasedPolicy):
    def __init__(self, answer):
        self.answer = answer

    def __repr__(self):
        return "Weighs()"

    def weights(self, scores, request):
        return self.answer


def strata(size):
    return torch.zeros(size, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("policy", "target", "message"),
    [
        (Answers(torch.ones(100)), None, r"Answers\(\) answered with a Tensor; .* must return KeepProb"),
        (Answers(KeepProbabilities(torch.ones(10))), None, r"of shape \(10,\); there are 100 samples"),
        (Answers(KeepProbabilities(torch.ones(1), strata(9))), None, r"strata of shape \(9,\)"),
        (Answers(KeepProbabilities(torch.full((100,), 0.9))), 0.4, "would keep 90 samples, where 53 of"),
        (Answers(KeepProbabilities(torch.full((1,), 0.9), strata(100))), 0.4, "would keep 90 samples"),
        (Answers(KeepProbabilities(torch.ones(1), strata(100) + 2)), None, "there is a stratum 2, but"),
        (Answers(KeepProbabilities(torch.ones(1), strata(100) + 2)), 0.4, "there is a stratum 2, but"),
        (Answers(KeepProbabilities(torch.zeros(100))), None, r"must lie in \(0, 1\]"),
        (Answers(KeepProbabilities(torch.full((100,), torch.nan))), 0.4, r"is nan; .* must lie in"),
        (
            Answers(KeepProbabilities(np.ones(100))),
            None,
            "probabilities that are a ndarray; give a tensor",
        ),
        (Answers(KeepProbabilities([0.5] * 100)), None, "probabilities that are a list; give a tensor"),
        (Answers(KeepProbabilities(torch.ones(1), np.zeros(100))), None, "strata that are a ndarray"),
        (
            Answers(KeepProbabilities(torch.ones(1), torch.zeros(100))),
            None,
            "strata of dtype torch.float32",
        ),
        (
            Answers(KeepProbabilities(torch.ones(1, 1), strata(100))),
            None,
            r"shape \(1, 1\); give one of",
        ),
        (
            Answers(KeepProbabilities(torch.ones(100).requires_grad_())),
            None,
            "with a gradient; give one",
        ),
        (Weighs(torch.full((100,), 1e-60).double()), None, "negative, not finite, or all 0"),
        (Weighs(torch.ones(10)), None, r"weights of shape \(10,\); there are 100 samples"),
        (Weighs([1.0] * 100), None, "weights of shape list"),
        (Weighs(torch.zeros(100)), None, "negative, not finite, or all 0"),
        (Weighs(torch.full((100,), -1.0)), None, "negative, not finite, or all 0"),
        (Weighs(torch.full((100,), torch.inf)), None, "negative, not finite, or all 0"),
        (Weighs(torch.ones(100)), 0.4, r"would keep 100 samples, where 53 of 100 .* = 47"),
    ],
)
def test_a_wrong_answer_is_refused_at_once(policy, target, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DynamicPruner(range(100), 4, policy=policy, target=target)


def test_an_answer_that_is_wrong_with_the_loader_alone_is_refused_when_that_is_made():
    pruner = DynamicPruner(range(1000), 4, policy=Proportional(0.35, cap=0.68))
    with pytest.raises(ValueError, match=r"cap is 0\.68, but 0\.7 of the samples are to be kept"):
        pruner.loader(100, drop_last=True)
    pruner = DynamicPruner(range(100), max_steps=80, policy=Answers(KeepProbabilities(torch.zeros(100))))
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        pruner.loader(10)


def test_a_right_answer_is_drawn_from():
    keep = torch.full((100,), 0.5, dtype=torch.float64)
    pruner = DynamicPruner(range(100), 4, policy=Answers(KeepProbabilities(keep)))
    pruner.set_epoch(0)
    assert pruner.selection.num_selected == 100
    weights = (torch.arange(100) < 20).float()
    pruner = DynamicPruner(range(100), 4, policy=Weighs(weights), target=0.4, warmup_epochs=0, delta=0.5)
    assert pruner.selection.indices.tolist() == list(range(20))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool])
def test_weights_of_any_dtype_are_kept_as_a_state_has_them(dtype):
    policy = Weighs((torch.arange(100) < 20).to(dtype))
    state = DynamicPruner(range(100), 4, policy=policy, warmup_epochs=0).state_dict()
    resumed = DynamicPruner(range(100), 4, policy=policy, warmup_epochs=0)
    resumed.load_state_dict(state)
    assert resumed.selection.indices.tolist() == list(range(20))


@pytest.mark.parametrize(("kept", "is_right"), [(448, True), (488, False), (384, True), (512, False)])
def test_a_number_that_is_off_is_refused_but_for_whole_steps(kept, is_right):
    """Of 640 samples 410 are asked for, in steps of 64: 384 and 448 are the whole steps beside it."""
    keep = KeepProbabilities(torch.full((640,), kept / 640, dtype=torch.float64))
    request = Request(230, torch.Generator(), epoch_sizes=EpochSizes(64))
    with nullcontext() if is_right else pytest.raises(ValueError, match=f"would keep {kept} samples"):
        assert select(Answers(keep), ScoreTable(640), request).num_selected % 64 == 0


@pytest.mark.parametrize("off", [0.4, 0.8])
def test_a_sum_that_is_off_by_more_than_half_a_sample_is_refused(off):
    keep = KeepProbabilities(torch.full((640,), (410 + off) / 640, dtype=torch.float64))
    with nullcontext() if off < 0.5 else pytest.raises(ValueError, match=r"would keep 410\.8 samples"):
        select(Answers(keep), ScoreTable(640), Request(230, torch.Generator()))


def test_keep_probabilities_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        draw(KeepProbabilities(torch.tensor([0.0, 1.0])), torch.Generator())


@pytest.mark.parametrize(
    ("probabilities", "strata", "message"),
    [
        ([0.5], [0, 1, 1], "there is a stratum 1, but only 1 keep probabilities; give one for each"),
        ([0.5, float("nan"), 1], None, r"a keep probability is nan; .* in \(0, 1\]"),
        ([0.5, 1.5, 1], None, r"a keep probability is 1\.5"),
        ([0.5, 0.0], [0, 1, 1], r"a keep probability is 0\.0"),
    ],
)
def test_keep_probabilities_that_cannot_be(probabilities, strata, message):
    strata = None if strata is None else torch.tensor(strata, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        draw(KeepProbabilities(torch.tensor(probabilities), strata), torch.Generator())


def test_what_a_multiple_takes_away_is_spread_over_the_pruned_strata():
    sizes, probabilities = [1000, 400, 100, 50, 0], [0.1, 0.4, 0.9, 1.0, 0.5]  # 100, 160, 90 and 50
    assert counts_of(sizes, probabilities) == [100, 160, 90, 50, 0]
    assert counts_of(sizes, probabilities, EpochSizes(320)) == [77, 124, 69, 50, 0]  # by 270 of 350
    # None exceeds its size, and the others grow by one factor: 300 of 260.
    assert counts_of(sizes, probabilities, EpochSizes(450)) == [115, 185, 100, 50, 0]
    assert counts_of(sizes, probabilities, total=50) == [1, 1, 1, 47, 0]


def test_strata_grow_in_proportion_until_they_are_whole_however_large_they_are():
    sizes, probabilities = [300_000] * 33, np.geomspace(0.01, 1, 33).tolist()
    counts = np.array(counts_of(sizes, probabilities, EpochSizes(least=8_000_000)))
    assert counts.sum() == 8_000_000
    growing = counts[counts < 300_000]
    assert len(growing) < 20
    np.testing.assert_allclose(growing[1:] / growing[:-1], 100 ** (1 / 32), rtol=1e-3)


class Thirds(Policy):
    """Three strata, of which each keeps what the target lets it."""

    def keep_probabilities(self, scores, request):
        share = (len(scores) - request.num_pruned) / len(scores)
        return KeepProbabilities(
            torch.full((3,), share).double(), (torch.arange(30) % 3).to(torch.uint8)
        )

    def check_target(self, num_pruned, num_samples):
        pass


@pytest.mark.parametrize("num_pruned", [1, 8, 10, 17, 27])
def test_strata_of_a_policy_of_ones_own_meet_a_target(num_pruned):
    scores, asked = ScoreTable(30), Request(num_pruned, generator(0))
    selection = select(Thirds(), scores, asked)
    assert selection.num_selected == 30 - num_pruned
    assert float(selection.weights.sum()) == pytest.approx(30)
