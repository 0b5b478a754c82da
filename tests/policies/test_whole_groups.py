"""Groups are kept or left out whole."""

import re
from collections import Counter

import numpy as np
import pytest
import torch

from helpers import random_losses, record_epoch, request, table_of
from infobatch import DynamicPruner, InfoBatch, Neyman, RandomPruning
from infobatch.policies import (
    ClassQuotas,
    NoiseBudget,
    PercentileTiers,
    Proportional,
    Protected,
    Spaced,
    WholeGroups,
)
from infobatch.selection import inclusion_probabilities, select

GROUPS = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 4))
UNEQUAL = np.repeat(np.arange(20), np.arange(1, 21))
INNER = [InfoBatch(), RandomPruning(0.5), Proportional(), Neyman(strata=4), PercentileTiers()]


@pytest.mark.parametrize("inner", INNER, ids=repr)
@pytest.mark.parametrize("groups", [GROUPS, UNEQUAL + 7], ids=["equal", "unequal"])
@pytest.mark.parametrize("num_pruned", [None, 60])
def test_no_group_is_cut_and_weights_are_unbiased(inner, groups, num_pruned):
    policy = WholeGroups(groups, inner)
    table = table_of(random_losses(len(groups)), policy)
    total = torch.zeros(len(groups))
    chances = inclusion_probabilities(policy.keep_probabilities(table, request(num_pruned)))
    for seed in range(300):
        weights = select(policy, table, request(num_pruned, seed)).weights
        total += weights
        for group in np.unique(groups):
            assert len(set(weights[groups == group].tolist())) == 1
        kept = weights > 0
        torch.testing.assert_close(weights[kept] * chances[kept].float(), torch.ones(int(kept.sum())))
    deviation = (1 / chances - 1).sqrt() / 300**0.5
    assert bool(((total / 300 - 1).abs() <= 5 * deviation + 1e-6).all())


def test_a_target_of_equal_groups_is_met():
    policy = WholeGroups(GROUPS)
    table = table_of(random_losses(120), policy)
    assert select(policy, table, request(40)).num_selected == 80
    assert select(policy, table, request(41)).num_selected == 80


@pytest.mark.parametrize(
    ("groups", "drop_last", "target", "is_known"),
    [
        (UNEQUAL, False, 0.2, False),
        (GROUPS, False, [0, 40, 20, 8], True),
        (GROUPS, False, [0, 41, 20, 8], False),
        (GROUPS, True, [0, 40, 24, 8], True),
        (np.arange(120) // 3, True, [0, 40, 24, 8], False),
        (np.arange(120) // 3, True, [0, 48, 24, 0], True),
    ],
)
def test_the_steps_of_a_target_are_told_where_they_are_known(groups, drop_last, target, is_known):
    pruner = DynamicPruner(torch.zeros(len(groups)), 4, policy=WholeGroups(groups), target=target)
    loader, num_steps = pruner.loader(8, drop_last=drop_last), 0
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.record(torch.rand(len(indices)), indices)
            num_steps += 1
    if is_known:
        assert pruner.total_steps == num_steps
    else:
        with pytest.raises(RuntimeError, match=r"groups are left out whole.*pruner\.lr_scheduler"):
            _ = pruner.total_steps


def test_whole_groups_fill_whole_batches_where_the_last_is_dropped():
    pruner = DynamicPruner(torch.zeros(120), 3, policy=WholeGroups(GROUPS), delta=1)
    loader = pruner.loader(8, drop_last=True)
    record_epoch(pruner, random_losses(120))
    pruner.set_epoch(1)
    assert pruner.selection.num_selected % 8 == 0
    assert sum(len(indices) for indices, _ in loader) == pruner.selection.num_selected < 120
    few = DynamicPruner(torch.zeros(48), 3, policy=WholeGroups(np.arange(48) // 3), delta=1)
    with pytest.raises(ValueError, match="fill whole batches of 25 only by 75 samples"):
        few.loader(25, drop_last=True)
    uneven = DynamicPruner(torch.zeros(210), 3, policy=WholeGroups(UNEQUAL), delta=1)
    with pytest.raises(ValueError, match=r"groups have 1 to 20 samples, .* leave out drop_last"):
        uneven.loader(8, drop_last=True)


def test_a_group_has_the_mean_of_its_known_scores():
    policy = WholeGroups([5, 5, 9, 9, 2], InfoBatch(0.5))
    losses = torch.tensor([1.0, 3.0, float("nan"), 8.0, float("nan")])
    means = table_of(losses, policy).means_of(policy.group_of, policy.num_groups)["last_loss"]
    torch.testing.assert_close(means, torch.tensor([float("nan"), 2.0, 8.0]), equal_nan=True)


class IdentityBatches:
    """Batches of ``p`` identities with ``k`` samples each, mixed."""

    def __init__(self, groups, p=6, k=4):
        self.groups, self.p, self.k = groups, p, k

    def __len__(self):
        return len(np.unique(self.groups)) // self.p

    def __iter__(self):
        identities = torch.randperm(len(np.unique(self.groups))).tolist()
        for start in range(0, len(self) * self.p, self.p):
            batch = np.concatenate(
                [np.flatnonzero(self.groups == i)[: self.k] for i in identities[start : start + self.p]]
            )
            yield batch[torch.randperm(len(batch)).numpy()].tolist()


def test_batches_of_identities_keep_their_make_up():
    policy = WholeGroups(GROUPS, RandomPruning(0.4))
    pruner = DynamicPruner(torch.zeros(120), 4, policy=policy, delta=1)
    loader = pruner.loader(batch_sampler=IdentityBatches(GROUPS))
    for epoch in pruner.epochs():
        batches = [indices for indices, _ in loader]
        for indices in batches:
            assert set(Counter(GROUPS[indices].tolist()).values()) == {4}
            pruner.record(torch.rand(len(indices)), indices)
        assert [len(indices) for indices in batches] == ([24] * 5 if epoch == 0 else [24] * 3)
    assert pruner.report().saved == pytest.approx(0.3)


def test_without_a_sampler_of_ones_own():
    pruner = DynamicPruner(torch.zeros(120), 3, policy=WholeGroups(GROUPS), target=0.1)
    pruner.loader(10)
    for _ in pruner.epochs():
        kept = pruner.selection.weights.numpy() > 0
        assert all(len(set(kept[group == GROUPS])) == 1 for group in range(30))
        record_epoch(pruner, random_losses(120))
    assert pruner.report().noise is None


@pytest.mark.parametrize(
    "inner", [NoiseBudget(), Spaced(), ClassQuotas([0, 1]), Protected(InfoBatch(), np.ones(2, bool))]
)
def test_policies_that_cannot_be_asked_about_groups(inner):
    with pytest.raises(ValueError, match=r"give an unbiased one|give a policy that"):
        WholeGroups([0, 1], inner)


def test_misuse_is_named():
    with pytest.raises(TypeError, match="WholeGroups goes by classes and has no labels"):
        WholeGroups()
    with pytest.raises(ValueError, match=re.escape("leave out steps: shrink='steps'")):
        DynamicPruner(torch.zeros(120), 3, policy=WholeGroups(GROUPS), shrink="batches")
    with pytest.raises(ValueError, match="of the groups"):
        DynamicPruner(
            torch.zeros(120), 3, policy=WholeGroups(GROUPS, PercentileTiers()), target=0.6, delta=1
        )
    for wrap in (ClassQuotas, Spaced):
        with pytest.raises(ValueError, match="WholeGroups"):
            wrap(*([GROUPS] if wrap is ClassQuotas else []), policy=WholeGroups(GROUPS))
