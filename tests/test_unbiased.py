"""For every sample, (probability of being kept) x (weight when kept) = 1."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Numbers, random_losses, record_epoch
from infobatch import DynamicPruner, KeepProbabilities, ScoreTable, draw
from infobatch.policies import POLICIES

finite = st.floats(0, 100, width=32)
scores = st.lists(finite | st.just(float("nan")), min_size=1, max_size=120) | st.builds(
    lambda value, size: [value] * size, finite, st.integers(1, 120)
)
seeds = st.integers(0, 2**31)


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


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=60)
@given(losses=scores, seed=seeds)
def test_every_policy_keeps_k_of_n_with_weight_n_over_k(name, losses, seed):
    table = ScoreTable.from_losses(np.array(losses, dtype=np.float32))
    keep = POLICIES[name]().keep_probabilities(table, None, generator(seed))
    selection = draw(keep, generator(seed))
    assert selection.num_selected == int(selection.weights.count_nonzero()) >= 1
    check_strata(keep, selection)


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
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    probabilities=st.lists(st.floats(0.05, 1), min_size=4, max_size=4),
    multiple=st.integers(1, 16),
    seed=seeds,
)
def test_a_multiple_is_kept_without_losing_the_sum(sizes, probabilities, multiple, seed):
    strata = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(torch.uint8)
    keep = KeepProbabilities(torch.tensor(probabilities[: len(sizes)]).double(), strata)
    if len(strata) < multiple or multiple < len(sizes):
        return
    selection = draw(keep, generator(seed), multiple)
    nothing_to_leave_out = [k for _, k in stratum_counts(keep)] == sizes
    assert nothing_to_leave_out or selection.num_selected % multiple == 0
    for stratum, size in enumerate(sizes):
        weights = selection.weights[strata == stratum]
        assert float(weights.double().sum()) == pytest.approx(size, rel=1e-5)
        assert len(set(weights[weights > 0].tolist())) == 1


@settings(deadline=None, max_examples=200)
@given(
    probabilities=st.lists(st.floats(0.02, 1), min_size=1, max_size=80),
    multiple=st.integers(1, 8),
    seed=seeds,
)
def test_without_strata_the_size_is_whole_and_weights_are_inverse(probabilities, multiple, seed):
    if len(probabilities) < multiple:
        return
    keep = KeepProbabilities(torch.tensor(probabilities).double())
    selection = draw(keep, generator(seed), multiple)
    if min(probabilities) == 1:
        assert selection.num_selected == len(probabilities)
        return
    assert selection.num_selected % multiple == 0
    total = max(1, (round(sum(probabilities)) + multiple // 2) // multiple) * multiple
    assert selection.num_selected == min(total, len(probabilities) // multiple * multiple)
    kept = selection.weights[selection.weights > 0]
    assert (kept >= 1).all()


def test_without_strata_inclusion_follows_the_probabilities():
    probabilities = torch.tensor([0.1, 0.9, 1.0, 0.5, 0.25, 0.25, 0.7, 0.3])  # they sum to 4
    stream, num_draws = generator(0), 20_000
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


def within_five_errors(sums, expected):
    sums = np.array(sums)
    error = sums.std(ddof=1) / np.sqrt(len(sums))
    assert error > 0, "the draw is not random"
    assert abs(sums.mean() - expected) <= 5 * error


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "none"])
def test_the_weighted_sum_of_many_draws_is_the_full_sum(name):
    losses = random_losses(203)
    values = random_losses(203, seed=1)  # anything that is summed: here not the scores themselves
    table = ScoreTable.from_losses(losses)
    sums = []
    for seed in range(2000):
        keep = POLICIES[name]().keep_probabilities(table, None, generator(seed))
        selection = draw(keep, generator(seed + 10**6))
        sums.append(float((selection.weights * values).sum()))
    within_five_errors(sums, float(values.sum()))


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "none"])
@pytest.mark.parametrize("target", [None, 0.15])
@pytest.mark.parametrize(
    ("batch_size", "drop_last", "accumulate"),
    [(32, True, 1), (32, False, 1), (16, False, 3)],
    ids=["drop_last", "short_last_batch", "accumulation"],
)
def test_the_sum_over_samples_trained_is_the_full_sum(name, target, batch_size, drop_last, accumulate):
    losses, values = random_losses(203), random_losses(203, seed=1)
    sums = []
    for seed in range(250):
        policy = POLICIES[name]()
        pruner = DynamicPruner(Numbers(203), 4, policy=policy, target=target, seed=seed)
        loader = pruner.loader(batch_size, drop_last=drop_last)
        record_epoch(pruner, losses)
        pruner.set_epoch(1)
        total, gradient = 0.0, torch.zeros((), requires_grad=True)
        for step, (samples, _) in enumerate(loader):
            loss = pruner.update(values[samples] * gradient.exp(), samples) / accumulate
            loss.backward()
            total += float(loss.detach()) * len(samples) * accumulate
            assert step < len(loader)
        assert gradient.grad is not None
        assert pruner.current.finished
        assert not drop_last or pruner.current.num_recorded % batch_size == 0
        sums.append(total)
    within_five_errors(sums, float(values.sum()))
