"""The noise budget: it leaves out as much as it may, and the noise is the one asked for."""

import re
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from helpers import Numbers, record_epoch
from helpers.policies import made, request, table_of
from infobatch import DynamicPruner, InfoBatch, NoiseBudget, Spaced
from infobatch.batching import EpochSizes
from infobatch.noise import noise_of, noise_sums
from infobatch.policies import ClassQuotas, Protected
from infobatch.scores import ScoreTable
from infobatch.selection import inclusion_probabilities, select

SIZE = 20_000


def norms_of(epoch, share_easy, seed=0):
    """Norms that change from one epoch to the next, most of them small."""
    generator = np.random.default_rng((seed, epoch))
    scale = np.where(np.arange(SIZE) < share_easy * SIZE, 0.02, 0.5)
    return (scale * generator.lognormal(0, 0.7, SIZE)).clip(0, 1.4).astype(np.float32)


def run(policy, share_easy=0.9, epochs=8):
    """Train on norms alone; the share kept and the realised noise of each pruned epoch."""
    table = ScoreTable(SIZE, ["last_loss", "visits", *policy.columns])
    weights, results = torch.ones(SIZE), []
    for epoch in range(epochs):
        if epoch:
            selection = select(policy, table, request(epoch=epoch, seed=epoch))
            weights = selection.weights
        table["weight"].copy_(weights)
        chosen = np.flatnonzero(weights.numpy())
        norms = norms_of(epoch, share_easy)[chosen]
        table.record(chosen, -np.log1p(-norms.clip(0, 0.99)), norms)
        results.append((len(chosen) / SIZE, noise_of(noise_sums(norms, weights.numpy()[chosen]))))
    return results[1:]


@pytest.mark.parametrize("budget", [1.05, 1.1, 1.5, 2.0])
@pytest.mark.parametrize("by", ["gradient_norm", "smoothed_norm"])
def test_the_noise_that_is_got_is_the_one_asked_for(budget, by):
    first = 1 if by == "gradient_norm" else 2  # before, it is a guess; means are of one norm or of two
    noises = [noise for _, noise in run(NoiseBudget(budget, by=by))[first:]]
    assert np.mean(noises) == pytest.approx(budget, rel=0.05)
    assert max(noises) < 1 + 1.5 * (budget - 1)


@pytest.mark.parametrize("share_easy", [0.0, 0.9])
def test_what_was_learned_in_the_first_epoch_does_not_spend_the_budget_of_the_second(share_easy):
    policy, norms = NoiseBudget(), norms_of(0, share_easy)
    table = ScoreTable(SIZE, ["last_loss", "visits", *policy.columns])
    order = np.random.default_rng(1).permutation(SIZE)
    for number, batch in enumerate(np.array_split(order, 200)):
        level = 1 if number < 80 else 0.05  # learned all of a sudden
        table.record(batch, np.ones(len(batch), np.float32), level * norms[batch])
    table["weight"].fill_(1)
    weights = select(policy, table, request(epoch=1)).weights.numpy()
    again = norms * np.random.default_rng(2).lognormal(0, 0.2, SIZE)
    assert noise_of(noise_sums(again, weights)) < 1.13
    assert (weights == 0).mean() > (0.4 if share_easy else 0.09)


class Watched(NoiseBudget):
    """Keeps what weights it was shown."""

    def keep_probabilities(self, scores, request):
        object.__setattr__(self, "shown", scores["weight"].clone())
        return super().keep_probabilities(scores, request)


@pytest.mark.parametrize("num_batches", [3, 100])
@pytest.mark.parametrize("with_replacement", [False, True])
def test_it_calibrates_by_what_the_last_epoch_trained(num_batches, with_replacement):
    """A sampler passes some samples over, and a loop may leave an epoch early."""
    pruner = DynamicPruner(Numbers(400), 5, policy=Watched(2.0), seed=1)
    draws = WeightedRandomSampler(torch.ones(400), 400) if with_replacement else None
    loader = pruner.loader(20, sampler=draws)
    losses = torch.from_numpy(np.random.default_rng(0).exponential(size=400) ** 3).float()
    for epoch in range(4):
        pruner.set_epoch(epoch)
        trained = torch.zeros(400, dtype=torch.bool)
        for indices, _ in islice(loader, num_batches):
            pruner.update(losses[indices], indices)
            trained[indices] = True
        weights = pruner.selection.weights
        pruner.set_epoch(epoch + 1)
        assert torch.equal(pruner.policy.shown, weights * trained)


def test_what_is_left_out_is_what_the_data_allow():
    easy = np.mean([kept for kept, _ in run(NoiseBudget(), share_easy=0.95)[1:]])
    alike = np.mean([kept for kept, _ in run(NoiseBudget(), share_easy=0.0)[1:]])
    assert easy < 0.4
    assert alike > 0.6
    more = np.mean([kept for kept, _ in run(NoiseBudget(1.5), share_easy=0.95)[1:]])
    assert more < easy


def test_prompts_that_never_had_a_spread_are_told_from_those_that_had_none_by_chance():
    success = np.random.default_rng(0).uniform(size=4000)
    hopeless = np.arange(4000) < 2400
    success[hopeless] = 0
    kept = {}
    for by in ("gradient_norm", "smoothed_norm"):
        pruner = DynamicPruner(Numbers(4000), 8, policy=NoiseBudget(1.2, by=by), norms_from="losses")
        generator = np.random.default_rng(1)
        for _ in pruner.epochs():
            asked = pruner.selection.indices.numpy()
            right = generator.binomial(8, success[asked]) / 8
            spreads = torch.from_numpy(np.sqrt(right * (1 - right))).float()
            pruner.record(spreads, asked, gradient_norms=spreads)
        kept[by] = hopeless[asked].sum() / 2400
    assert kept["smoothed_norm"] < 0.25 < 0.4 < kept["gradient_norm"]


def test_samples_without_a_norm_are_kept_with_weight_1():
    policy = NoiseBudget()
    table = table_of(np.random.default_rng(0).exponential(size=1000), policy)
    unknown = torch.arange(1000) % 10 == 0
    table["recent_norms"][unknown] = torch.nan
    selection = select(policy, table, request())
    assert (selection.weights[unknown] == 1).all()
    assert selection.num_selected < 1000


@pytest.mark.parametrize("losses", [np.full(50, np.nan), np.zeros(50)])
def test_without_norms_or_without_gradients_nothing_is_left_out(losses):
    assert select(NoiseBudget(), table_of(losses, NoiseBudget()), request()).num_selected == 50


def test_a_target_says_how_much_and_the_norms_say_what():
    policy = NoiseBudget()
    losses = np.r_[np.full(500, 0.01), np.full(500, 1.0)]
    selection = select(policy, table_of(losses, policy), request(num_pruned=400))
    assert selection.num_selected == 600
    kept = selection.weights.numpy() > 0
    assert kept[500:].sum() > 4 * kept[:500].sum()


@pytest.mark.parametrize("num_kept", [1, 2, 3, 10, 40])
def test_a_target_may_leave_fewer_samples_than_there_are_strata(num_kept):
    policy = NoiseBudget()
    table = table_of(np.random.default_rng(0).exponential(size=100), policy)
    table["recent_norms"][::7] = torch.nan
    selection = select(policy, table, request(num_pruned=100 - num_kept))
    assert selection.num_selected == num_kept


@pytest.mark.parametrize("unit", [1e-15, 1e9, 1e25])
def test_the_unit_of_the_norms_does_not_matter(unit):
    kept = []
    for scale in (1, unit):
        policy = NoiseBudget()
        table = table_of(np.full(4000, 0.5), policy)
        norms = np.random.default_rng(0).lognormal(0, 2, (4000, 2)) * scale
        table["recent_norms"].copy_(torch.from_numpy(norms))
        table["weight"].fill_(1)
        kept.append(select(policy, table, request()).num_selected)
    assert kept[0] < 3900
    assert kept[1] == pytest.approx(kept[0], rel=0.03)


def test_it_prunes_to_the_end_unless_the_run_says_otherwise():
    def pruned_last(**options):
        return DynamicPruner(Numbers(100), 8, **options).plan.schedule.prunes(7)

    assert pruned_last(policy=NoiseBudget())
    assert not pruned_last(policy=NoiseBudget(), delta=0.875)
    assert not pruned_last(policy=InfoBatch())


def test_a_loss_of_minus_zero_is_no_loss():
    losses = torch.full((1000,), 0.5)
    losses[:500] = -0.0  # as F.cross_entropy gives it
    pruner = DynamicPruner(Numbers(1000), 4, policy=NoiseBudget())
    pruner.loader(50)
    record_epoch(pruner, losses)
    pruner.set_epoch(1)
    assert (pruner.selection.weights[500:] >= 1).sum() > 450
    assert pruner.predict_budgets()[1].saving.epoch > 0.3


AROUND = {
    "spaced": Spaced,
    "protected": lambda policy: Protected(policy, torch.arange(400) % 4 == 0),
    "class-quotas": lambda policy: ClassQuotas(torch.arange(400) % 10, policy),  # without a budget
}


@pytest.mark.parametrize(
    ("wrap", "target"),
    [("spaced", None), ("protected", None), ("spaced", 0.3), ("protected", 0.3), ("class-quotas", 0.3)],
)
def test_policies_around_it_are_taken_as_it_is(wrap, target):
    policy = AROUND[wrap](NoiseBudget(None if target else 1.3))
    pruner = DynamicPruner(Numbers(400), 5, policy=policy, target=target)
    loader = pruner.loader(20)
    losses = torch.from_numpy(np.random.default_rng(0).exponential(size=400) ** 3).float()
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(losses[indices], indices)  # norms follow from the losses
    assert pruner.plan.shrink is not None
    assert pruner.plan.schedule.prunes(4), "no epoch anneals"
    report = pruner.report()
    assert report.saved == pytest.approx(0.3) if target else report.saved > 0.02
    assert report.max_noise == (None if target else 1.3)


def test_weights_stay_below_one_over_the_floor():
    policy = NoiseBudget(2.0, floor=0.2)
    table = table_of(np.r_[np.full(5000, 1e-6), np.full(5000, 1.0)], policy)
    assert select(policy, table, request()).weights.max() <= 5.01


def test_norms_are_the_signal_or_else_follow_from_the_losses():
    given = DynamicPruner(Numbers(8), 4, policy=NoiseBudget())
    loader = given.loader(4)
    for indices, _ in loader:
        given.update(torch.ones(4), indices, gradient_norms=torch.full((4,), 0.25))
    assert (given.scores["recent_norms"][:, 1] == 0.25).all()
    squared = DynamicPruner(Numbers(8), 4, policy=NoiseBudget(), norms_from="squared-error")
    for indices, _ in squared.loader(4):
        squared.update(torch.full((4,), 2.0), indices)
    assert (squared.scores["recent_norms"][:, 1] == 2).all()


def test_prior_scores_prune_the_first_epoch():
    losses = torch.cat([torch.full((900,), 0.001), torch.full((100,), 3.0)])
    pruner = DynamicPruner(Numbers(1000), 4, policy=NoiseBudget(), warmup_epochs=0, prior_scores=losses)
    pruner.loader(50)
    assert pruner.selection.num_selected < 700


def test_shrinking_batches_is_its_way_unless_told_otherwise():
    pruner = DynamicPruner(Numbers(100), 4, policy=NoiseBudget())
    pruner.loader(10)
    assert pruner.total_steps == pruner.full_steps == 40
    steps = DynamicPruner(Numbers(100), 4, policy=NoiseBudget(), shrink="steps")
    assert steps.plan.shrink is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NoiseBudget(1), ValueError, "max_noise is 1; .* above 1"),
        (lambda: NoiseBudget(0.9), ValueError, "max_noise is 0.9; .* such as 1.1"),
        (lambda: NoiseBudget(float("nan")), ValueError, "max_noise is nan"),
        (lambda: NoiseBudget(float("inf")), ValueError, "max_noise is inf"),
        (lambda: NoiseBudget("1.1"), TypeError, "max_noise is '1.1'; it must be a number"),
        (lambda: NoiseBudget(by="last_loss"), ValueError, "by is 'last_loss'; .* smoothed_norm"),
        (lambda: NoiseBudget(floor=0), ValueError, "floor is 0; it is the least keep probability"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_report_tells_the_noise_asked_for_and_the_noise_that_was():
    pruner = DynamicPruner(Numbers(2000), 6, policy=made(NoiseBudget, 2000), delta=1)
    loader = pruner.loader(100)
    generator = torch.Generator().manual_seed(0)
    for _ in pruner.epochs():
        for indices, _ in loader:
            losses = torch.rand(len(indices), generator=generator) ** 4 * 3
            pruner.update(losses, indices)
    report = pruner.report()
    assert 1 < report.noise < 1.6  # what was observed says nothing of these losses
    assert len(report.noises) == 5
    text = str(report)
    assert "where a mean of 1.1 was asked for" in text
    assert f"a step as noisy as one of batch {round(100 / report.noise)} of 100" in text


def test_where_steps_are_fewer_the_report_tells_how_noisy_each_is():
    pruner = DynamicPruner(Numbers(2000), 6, target=0.3)
    loader = pruner.loader(100)
    generator = torch.Generator().manual_seed(0)
    for _ in pruner.epochs():
        for indices, _ in loader:
            pruner.update(torch.rand(len(indices), generator=generator) ** 4 * 3, indices)
    told = r"for as many steps; there are fewer, each (no noisier than|as noisy as) one "
    assert re.search(told, str(pruner.report()))


@pytest.mark.parametrize("wrap", [lambda policy: policy, Spaced])
def test_a_budget_and_a_target_are_not_both_taken(wrap):
    with pytest.raises(
        ValueError, match=r"max_noise=1.3.*each says how much is left out; .*max_noise=None"
    ):
        DynamicPruner(Numbers(400), 5, policy=wrap(NoiseBudget(1.3)), target=0.3)
    with pytest.raises(ValueError, match=r"neither a budget nor a target.*give max_noise, such as 1.1"):
        DynamicPruner(Numbers(400), 5, policy=wrap(NoiseBudget(None)))


@pytest.mark.parametrize("multiple", [1, 64, 512])
@pytest.mark.parametrize("seed", range(6))
def test_the_budget_is_kept_where_the_number_kept_is_a_multiple(multiple, seed):
    """What a multiple takes away or adds is spread over all strata, so that none is left with few."""
    rng = np.random.default_rng(seed)
    size = int(512 * (8 + rng.random()))
    before = np.minimum(rng.lognormal(-2, rng.uniform(0.3, 2.5), size), 1.4).astype(np.float32)
    norms = (before * rng.lognormal(0, 0.3, size)).astype(np.float32)
    policy = NoiseBudget(1.1)
    table = ScoreTable(size, ["last_loss", "visits", *policy.columns])
    for values in (before, norms):
        table.record(np.arange(size), values, values)
    table.adopt("weight", torch.ones(size))
    keep = policy.keep_probabilities(table, request(epoch=2))
    chances = inclusion_probabilities(keep, EpochSizes(multiple)).numpy()
    squares = norms.astype(np.float64) ** 2
    assert (squares / chances).sum() / squares.sum() < 1.2
    assert chances.min() > 0.8 * policy.floor
    assert multiple == 1 or round(chances.sum()) % multiple == 0
