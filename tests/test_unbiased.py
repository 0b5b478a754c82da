"""For every sample, (probability of being kept) x (weight when kept) = 1."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from helpers import Numbers, made, random_losses, record_epoch, table_of
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Spaced
from infobatch.policies import POLICIES as NAMED
from infobatch.policies import (
    WRAPPERS,
    BiasedPolicy,
    ClassQuotas,
    KeepProbabilities,
    PercentileTiers,
    Policy,
    Proportional,
    Request,
)
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import Selection, draw, inclusion_probabilities

finite = st.floats(0, 100, width=32)
scores = st.lists(finite | st.just(float("nan")), min_size=1, max_size=200) | st.builds(
    lambda value, size: [value] * size, finite, st.integers(1, 200)
)
seeds = st.integers(0, 2**31)
ratios = st.floats(0, 0.999)
tiers = st.lists(
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 0.99)),
    min_size=1,
    max_size=4,
    unique_by=lambda t: t[0],
).map(lambda pairs: PercentileTiers(*zip(*sorted(pairs), strict=True)))


class ByLoss(Policy):
    """A policy of one's own, without strata: the lower the loss, the more often left out."""

    def keep_probabilities(self, scores, request):
        losses = scores["last_loss"].double()
        return KeepProbabilities((losses / losses.nanmean()).nan_to_num(nan=1).clamp(0.1, 1))

    def check_target(self, num_pruned, num_samples):
        if num_pruned:
            raise ValueError("ByLoss takes no target")


POLICIES = NAMED | WRAPPERS
UNBIASED = {name: kind for name, kind in POLICIES.items() if not issubclass(kind, BiasedPolicy)}
PRUNING = [kind for name, kind in UNBIASED.items() if name != "none"]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def stratum_counts(keep):
    sizes = torch.bincount(keep.strata.long(), minlength=len(keep.probabilities)).tolist()
    return [
        (n, min(max(round(n * p), 1), n) if n else 0)
        for n, p in zip(sizes, keep.probabilities.tolist(), strict=True)
    ]


def check_strata(keep, selection):
    for stratum, (n, k) in enumerate(stratum_counts(keep)):
        weights = selection.weights[keep.strata == stratum]
        kept = weights[weights > 0]
        assert len(kept) == k
        assert (kept == np.float32(n / k if k else 0)).all()
        assert float(kept.double().sum()) == pytest.approx(n, rel=1e-6)


def check_policy(policy, losses, seed):
    table = table_of(np.array(losses, dtype=np.float32), policy)
    keep = policy.keep_probabilities(table, Request(None, generator(seed)))
    selection = draw(keep, generator(seed))
    assert selection.num_selected == int(selection.weights.count_nonzero()) >= 1
    if keep.strata is None:
        check_weights(keep, selection)
    else:
        check_strata(keep, selection)


def check_weights(keep, selection):
    """Where the probabilities sum to a whole number, the weight is one by the probability."""
    assert selection.num_selected == pytest.approx(float(keep.probabilities.sum()), rel=1e-6)
    kept = selection.weights > 0
    assert selection.weights[kept].numpy() == pytest.approx(1 / keep.probabilities[kept], rel=1e-5)


@pytest.mark.parametrize("name", UNBIASED)
@settings(deadline=None, max_examples=60)
@given(losses=scores, seed=seeds)
def test_every_policy_keeps_with_the_inverse_weight(name, losses, seed):
    check_policy(made(POLICIES[name], len(losses)), losses, seed)


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("name", UNBIASED)
def test_the_chances_that_are_told_are_the_inverse_weights(name, multiple):
    policy = made(POLICIES[name], 200)
    for seed in range(5):
        table = table_of(random_losses(200, seed), policy)
        keep = policy.keep_probabilities(table, Request(None, generator(seed), multiple=multiple))
        chances = inclusion_probabilities(keep, multiple)
        selection = draw(keep, generator(seed), multiple)
        assert float(chances.sum()) == pytest.approx(selection.num_selected)
        kept = selection.indices
        assert selection.weights[kept].numpy() == pytest.approx(1 / chances[kept].numpy(), rel=1e-6)
        assert bool((chances[selection.weights == 0] < 1).all())


def test_the_effective_share_is_that_of_a_worked_example():
    # Kish (1965): of 1, 1 and 2, (1 + 1 + 2)^2 / (3 (1 + 1 + 4)) = 16 / 18.
    assert Selection.of(torch.tensor([1.0, 0, 1, 2, 0])).effective_share == pytest.approx(8 / 9)
    assert Selection.full(7).effective_share == 1
    assert Selection.of(torch.tensor([0.0, 3, 3])).effective_share == 1


@settings(deadline=None, max_examples=100)
@given(policy=st.builds(InfoBatch, ratios) | st.builds(RandomPruning, ratios), losses=scores, seed=seeds)
def test_any_prune_ratio_keeps_k_of_n_with_weight_n_over_k(policy, losses, seed):
    check_policy(policy, losses, seed)


@settings(deadline=None, max_examples=100)
@given(policy=tiers, losses=scores, seed=seeds)
def test_any_tiers_keep_k_of_n_with_weight_n_over_k(policy, losses, seed):
    check_policy(policy, losses, seed)


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
    selection = draw(keep, generator(seed), multiple)
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
    selection = draw(keep, generator(seed), multiple)
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
        selection = draw(KeepProbabilities(probabilities), generator(seed), multiple=6)
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


def within_five_errors(sums, expected):
    sums = np.array(sums)
    error = sums.std(ddof=1) / np.sqrt(len(sums))
    assert error > 0, "the draw is not random"
    assert abs(sums.mean() - expected) <= 5 * error


@pytest.mark.parametrize("policy", [*PRUNING, ByLoss])
@pytest.mark.parametrize("multiple", [1, 64])
def test_the_weighted_sum_of_many_draws_is_the_full_sum(policy, multiple):
    losses = random_losses(203)
    values = random_losses(203, seed=1)  # anything that is summed: here not the scores themselves
    policy = made(policy, 203)
    table = table_of(losses, policy)
    sums = []
    for seed in range(2000):
        keep = policy.keep_probabilities(table, Request(None, generator(seed)))
        selection = draw(keep, generator(seed + 10**6), multiple)
        sums.append(float((selection.weights * values).sum()))
    within_five_errors(sums, float(values.sum()))


def test_the_draws_of_successive_epochs_are_independent():
    keep = KeepProbabilities(torch.tensor([0.5], dtype=torch.float64), torch.zeros(8, dtype=torch.uint8))
    both, num_seeds = torch.zeros(8), 3000
    for seed in range(num_seeds):
        one, next_one = (draw(keep, epoch_generator(seed, e, Stream.DRAW)).weights > 0 for e in (1, 2))
        both += one & next_one
    assert ((both / num_seeds - 0.25).abs() <= 5 * (0.25 * 0.75 / num_seeds) ** 0.5).all()


@pytest.mark.parametrize(
    ("policy", "target"), [*((p, t) for p in PRUNING for t in (None, 0.15)), (ByLoss, None)]
)
@pytest.mark.parametrize(
    ("batch_size", "drop_last", "accumulate"),
    [(32, True, 1), (32, False, 1), (16, False, 3)],
    ids=["drop_last", "short_last_batch", "accumulation"],
)
def test_the_sum_over_samples_trained_is_the_full_sum(policy, target, batch_size, drop_last, accumulate):
    losses, values = random_losses(203), random_losses(203, seed=1)
    sums = []
    for seed in range(250):
        pruner = DynamicPruner(Numbers(203), 4, policy=made(policy, 203), target=target, seed=seed)
        loader = pruner.loader(batch_size, drop_last=drop_last)
        record_epoch(pruner, losses)
        pruner.set_epoch(1)
        total, total_weight, parameter = 0.0, 0.0, torch.zeros((), requires_grad=True)
        for samples, _ in loader:
            loss = pruner.update(values[samples] * parameter.exp(), samples) / accumulate
            loss.backward()
            total += float(loss.detach()) * len(samples) * accumulate
            total_weight += float(pruner.weights(samples).double().sum())
        assert float(parameter.grad) > 0
        assert pruner.current.finished
        assert pruner.current.num_recorded < 203
        assert not drop_last or pruner.current.num_recorded % batch_size == 0
        if policy not in (ByLoss, Proportional, Spaced, ClassQuotas):
            assert total_weight == pytest.approx(203, rel=1e-6)
        sums.append(total)
    within_five_errors(sums, float(values.sum()))


@pytest.mark.parametrize("policy", [*PRUNING, ByLoss])
def test_an_epoch_cut_short_trains_its_share_of_the_full_sum(policy):
    losses, values = random_losses(203), random_losses(203, seed=1)
    shares = []
    for seed in range(250):
        pruner = DynamicPruner(Numbers(203), 1.4, policy=made(policy, 203), delta=1, seed=seed)
        loader = pruner.loader(16)
        record_epoch(pruner, losses)
        pruner.set_epoch(1)
        trained = np.concatenate([samples for samples, _ in loader])
        assert len(trained) == round(0.4 * pruner.selection.num_selected)
        total = float((pruner.weights(trained) * values[trained]).sum())
        shares.append(total * pruner.selection.num_selected / len(trained))
    within_five_errors(shares, float(values.sum()))
