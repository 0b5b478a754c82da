"""Visits spaced over the epochs: chances, and the state that they hang on."""

import pytest
import torch

from infobatch import DynamicPruner, InfoBatch, Neyman, NoPruning, RandomPruning, Sharded, Spaced
from infobatch.policies import (
    POLICIES,
    BiasedPolicy,
    ClassQuotas,
    KeepProbabilities,
    Policy,
    Proportional,
    Request,
    Undersampling,
)
from infobatch.scores import ScoreTable
from infobatch.seeding import Stream, epoch_generator
from infobatch.selection import select


def selections(policy, num_samples, num_epochs, seed=0, **options):
    """The weights of each epoch, (num_epochs, N), of a run that records everything it is given."""
    options = {"warmup_epochs": 0, "delta": 1.0, **options}
    pruner = DynamicPruner(range(num_samples), num_epochs, policy=policy, seed=seed, **options)
    rows = []
    loader = pruner.loader(batch_size=num_samples, collate_fn=list)
    for _ in pruner.epochs():
        rows.append(pruner.selection.weights.clone())
        for indices, _ in loader:
            pruner.update(torch.ones(len(indices)), indices)
    return torch.stack(rows)


def draws(policy, num_samples, num_epochs, seed):
    """The same weights, drawn without training between the epochs."""
    table, rows = ScoreTable(num_samples, ["last_loss", "visits", *policy.columns]), []
    for epoch in range(num_epochs):
        generator = epoch_generator(seed, epoch, Stream.DRAW)
        selection = select(policy, table, Request(None, generator, epoch, range(num_epochs)))
        table["credit"].copy_(selection.credit)
        rows.append(selection.weights)
    return torch.stack(rows)


def test_at_one_rate_visits_are_as_far_apart_as_can_be():
    """Of 100 epochs with two fifths kept, gaps are of two or three."""
    kept = selections(RandomPruning(0.6), 50, 100) > 0
    gaps = {int(gap) for row in kept.T for gap in row.nonzero().flatten().diff()}
    assert max(gaps) > 5
    kept = selections(Spaced(RandomPruning(0.6)), 50, 100) > 0
    assert (kept.sum(1) == 20).all()
    assert (kept.sum(0) == 40).all()
    assert {int(gap) for row in kept.T for gap in row.nonzero().flatten().diff()} == {2, 3}


class Given(Policy):
    """Keeps with probabilities that change from epoch to epoch."""

    columns = ()

    def __init__(self, rows):
        self.rows = torch.as_tensor(rows, dtype=torch.float64)

    def keep_probabilities(self, scores, request):
        return KeepProbabilities(self.rows[request.epoch % len(self.rows)])

    def check_target(self, num_pruned, num_samples):
        pass


def test_samples_are_visited_as_often_as_their_probabilities_sum_to():
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(40, 60, generator=generator, dtype=torch.float64) * 0.6 + 0.1
    rows *= 24 / rows.sum(1, keepdim=True)
    kept = selections(Spaced(Given(rows)), 60, 40) > 0
    assert ((kept.cumsum(0) - rows.cumsum(0)).abs() < 1.5).all()
    independent = selections(Given(rows), 60, 40) > 0
    assert (independent.cumsum(0) - rows.cumsum(0)).abs().max() > 4


def test_in_each_epoch_a_samples_expected_weight_is_one():
    """Over seeds, for probabilities that change: to four standard errors, and 2 % for the changes."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(6, 30, generator=generator, dtype=torch.float64) * 0.5 + 0.2
    rows *= 12 / rows.sum(1, keepdim=True)
    policy, num_seeds = Spaced(Given(rows)), 3000
    runs = torch.stack([draws(policy, 30, 6, seed) for seed in range(num_seeds)])
    assert torch.equal(runs[7], selections(policy, 30, 6, seed=7))
    means = runs.double().mean(0)
    errors = runs.double().std(0) / num_seeds**0.5
    assert ((means - 1).abs() < 4 * errors + 0.02).all()
    assert (means[0] - 1).abs().max() < 4 * errors[0].max()


def test_looking_at_a_selection_changes_no_credit():
    pruner = DynamicPruner(range(40), 8, policy=Spaced(RandomPruning(0.5)), warmup_epochs=0)
    pruner.set_epoch(0)
    pruner.record(torch.ones(20), pruner.selection.indices)
    before = pruner.scores["credit"].clone()
    assert pruner.predict_saving().epoch == 0.5
    assert pruner.selection.num_selected == 20
    assert torch.equal(pruner.scores["credit"], before)


@pytest.mark.parametrize("inner", [InfoBatch(), Proportional(), Neyman()], ids=repr)
def test_any_unbiased_policy_can_be_spaced(inner):
    weights = selections(Spaced(inner), 60, 6, warmup_epochs=1, target=0.2)
    assert (weights[0] == 1).all()
    assert int((weights == 0).sum()) == round(0.2 * 6 * 60)
    assert bool(((weights == 0) | (weights >= 1)).all())


def test_what_leaves_out_nothing_spaces_nothing():
    assert (selections(Spaced(NoPruning()), 60, 4) == 1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spaced(POLICIES["rs2"]()), "has no keep probabilities of single samples"),
        (lambda: Spaced(Spaced()), "has no keep probabilities of single samples"),
        (lambda: Spaced(0.5), "policy is 0.5; give an object such as"),
        (lambda: Spaced(InfoBatch), "give an object such as .*, not its class"),
        (lambda: ClassQuotas([0, 1], Spaced()), "cannot be asked for each class alone"),
        (lambda: DynamicPruner(range(9), 3, policy=Spaced(), layout=Sharded()), "layout=Sharded"),
    ],
)
def test_what_cannot_be_spaced_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_class_quotas_can_be_spaced():
    labels = torch.arange(60) % 3
    weights = selections(Spaced(ClassQuotas(labels, RandomPruning(0.5))), 60, 5)
    assert not issubclass(Spaced, BiasedPolicy)
    assert (weights > 0).sum(1).tolist() == [30] * 5


def test_what_is_kept_for_sure_is_kept_in_each_epoch():
    labels = torch.tensor([0, 1]).repeat_interleave(torch.tensor([80, 20]))
    weights = selections(Spaced(Undersampling(labels, 0.5)), 100, 60)
    assert (weights[:, labels == 1] == 1).all()
