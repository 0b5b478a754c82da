"""For every sample, (probability of being kept) x (weight when kept) = 1."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Numbers, made, random_losses, record_epoch, table_of
from helpers.policies import POLICIES, UNBIASED, check_strata, generator
from infobatch import DynamicPruner, InfoBatch, RandomPruning, Spaced
from infobatch.batching import EpochSizes
from infobatch.policies import (
    ClassQuotas,
    KeepProbabilities,
    PercentileTiers,
    Policy,
    Proportional,
    Request,
)
from infobatch.selection import draw

finite = st.floats(0, 100, width=32)


scores = st.lists(finite | st.just(float("nan")), min_size=1, max_size=200) | st.builds(
    lambda value, size: [value] * size, finite, st.integers(1, 200)
)


seeds = st.integers(0, 2**31)


def check_weights(keep, selection):
    """Where the probabilities sum to a whole number, the weight is one by the probability."""
    assert selection.num_selected == pytest.approx(float(keep.per_sample().sum()), rel=1e-6)
    kept = selection.weights > 0
    assert selection.weights[kept].numpy() == pytest.approx(1 / keep.per_sample()[kept], rel=1e-5)


def check_policy(policy, losses, seed):
    table = table_of(np.array(losses, dtype=np.float32), policy)
    keep = policy.keep_probabilities(table, Request(None, generator(seed)))
    selection = draw(keep, generator(seed))
    assert selection.num_selected == int(selection.weights.count_nonzero()) >= 1
    if keep.strata is None or keep.credit is not None:
        check_weights(keep, selection)
    else:
        check_strata(keep, selection)


@pytest.mark.parametrize("name", UNBIASED)
@settings(deadline=None, max_examples=60)
@given(losses=scores, seed=seeds)
def test_every_policy_keeps_with_the_inverse_weight(name, losses, seed):
    check_policy(made(POLICIES[name], len(losses)), losses, seed)


ratios = st.floats(0, 0.999)


@settings(deadline=None, max_examples=100)
@given(policy=st.builds(InfoBatch, ratios) | st.builds(RandomPruning, ratios), losses=scores, seed=seeds)
def test_any_prune_ratio_keeps_k_of_n_with_weight_n_over_k(policy, losses, seed):
    check_policy(policy, losses, seed)


tiers = st.lists(
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 0.99)),
    min_size=1,
    max_size=4,
    unique_by=lambda t: t[0],
).map(lambda pairs: PercentileTiers(*zip(*sorted(pairs), strict=True)))


@settings(deadline=None, max_examples=100)
@given(policy=tiers, losses=scores, seed=seeds)
def test_any_tiers_keep_k_of_n_with_weight_n_over_k(policy, losses, seed):
    check_policy(policy, losses, seed)


class ByLoss(Policy):
    """A policy of one's own, without strata: the lower the loss, the more often left out."""

    def keep_probabilities(self, scores, request):
        losses = scores["last_loss"].double()
        return KeepProbabilities((losses / losses.nanmean()).nan_to_num(nan=1).clamp(0.1, 1))

    def check_target(self, num_pruned, num_samples):
        if num_pruned:
            raise ValueError("ByLoss takes no target")


PRUNING = [kind for name, kind in UNBIASED.items() if name != "none"]


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
        selection = draw(keep, generator(seed + 10**6), EpochSizes(multiple))
        sums.append(float((selection.weights * values).sum()))
    within_five_errors(sums, float(values.sum()))


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
    options = {"target": target, "delta": 1, "shrink": "steps"}
    pruner = DynamicPruner(Numbers(203), 256, policy=made(policy, 203, target), **options)
    loader = pruner.loader(batch_size, drop_last=drop_last)
    record_epoch(pruner, losses)
    sums = []
    for epoch in range(1, 251):
        pruner.set_epoch(epoch)
        sums.append(float((pruner.selection.weights * values).sum()))
        record_epoch(pruner, losses)
    within_five_errors(sums, float(values.sum()))

    for epoch in range(251, 256):  # and that sum is what the batches' gradients add up to
        pruner.set_epoch(epoch)
        total, parameter = 0.0, torch.zeros((), requires_grad=True)
        for indices, _ in loader:
            loss = pruner.update(values[indices] * parameter.exp(), indices) / accumulate
            before = float(parameter.grad or 0)
            loss.backward()  # whose gradient at exp(0) is the weighted mean of the values
            total += (float(parameter.grad) - before) * len(indices) * accumulate
        assert float(parameter.grad) > 0
        assert total == pytest.approx(float((pruner.selection.weights * values).sum()), rel=1e-5)
        assert pruner.current.finished
        assert pruner.current.num_recorded < 203
        assert not drop_last or pruner.current.num_recorded % batch_size == 0
        if policy not in (ByLoss, Proportional, Spaced, ClassQuotas):
            assert float(pruner.selection.weights.double().sum()) == pytest.approx(203, rel=1e-6)


@pytest.mark.parametrize("policy", [*PRUNING, ByLoss])
def test_an_epoch_cut_short_trains_its_share_of_the_full_sum(policy):
    losses, values = random_losses(203), random_losses(203, seed=1)
    shares = []
    for seed in range(250):
        options = {"delta": 1, "seed": seed, "shrink": "steps"}
        pruner = DynamicPruner(Numbers(203), 1.4, policy=made(policy, 203), **options)
        loader = pruner.loader(16)
        record_epoch(pruner, losses)
        pruner.set_epoch(1)
        trained = np.concatenate([indices for indices, _ in loader])
        wanted = round(0.4 * pruner.selection.num_selected)
        assert len(trained) == wanted + (wanted % 16 == 1)  # no batch of a single sample
        total = float((pruner.weights(trained) * values[trained]).sum())
        shares.append(total * pruner.selection.num_selected / len(trained))
    within_five_errors(shares, float(values.sum()))
