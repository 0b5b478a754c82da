"""Scores of which each rank holds a part: the same method, without anyone seeing all of them."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Numbers, launch, random_losses
from infobatch import DynamicPruner, InfoBatch, NoPruning, RandomPruning, Sharded, weighted_mean
from infobatch.distributed import Replicas
from infobatch.layouts.score_summary import NoScores, ShardedScores, score_of_key, sort_keys
from infobatch.layouts.shards import Shards, default_num_shards
from infobatch.policies import PercentileTiers
from infobatch.policies.ranking import mean_score
from infobatch.scores import ScoreTable


class Together:
    """Ranks as threads of one process, whose ``reduce`` waits for all of them."""

    def __init__(self, num_replicas):
        self.num_replicas = num_replicas
        self._barrier = threading.Barrier(num_replicas, timeout=20)
        self._tensors = [None] * num_replicas
        self._rank = threading.local()
        self.num_reductions = 0

    def reduce(self, values):
        self._tensors[self._rank.number] = values
        self._barrier.wait()
        total = torch.stack(self._tensors).sum(0)
        self.num_reductions += self._rank.number == 0
        self._barrier.wait()
        return total

    def run(self, work, *arguments):
        """``work(rank, ...)`` on each rank; what they return, by rank."""

        def on_rank(rank):
            self._rank.number = rank
            try:
                return work(rank, *(values[rank] for values in arguments))
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(self.num_replicas) as pool:
            made = [pool.submit(on_rank, rank) for rank in range(self.num_replicas)]
        errors = [error for error in (one.exception() for one in made) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [one.result() for one in made]


class Ranks:
    """All ranks of a sharded run."""

    def __init__(self, num_replicas, size=600, batch_size=12, num_shards=12, drop_last=False, **options):
        self.together = Together(num_replicas)
        self.num_replicas = num_replicas
        self.size = size
        self.pruners, self.loaders = [], []
        for rank in range(num_replicas):
            pruner = DynamicPruner(
                Numbers(size),
                options.get("num_epochs", 4),
                rank=rank,
                num_replicas=num_replicas,
                layout=Sharded(num_shards, self.together.reduce),
                **{"delta": 1.0, **{k: v for k, v in options.items() if k != "num_epochs"}},
            )
            self.pruners.append(pruner)
            self.loaders.append(pruner.loader(batch_size // num_replicas, drop_last=drop_last))

    def each(self, work, *arguments):
        return self.together.run(lambda rank, *more: work(self.pruners[rank], *more), *arguments)

    def score(self, losses):
        """Record these losses of all samples, as if in epoch 0, and begin epoch 1."""

        def work(pruner):
            own = pruner.current.indices.numpy()
            pruner.record(losses[own], own)
            pruner.set_epoch(1)

        self.each(work)
        return self

    @property
    def weights(self):
        """Of all samples, gathered from the ranks; 0 where left out."""
        weights = torch.zeros(self.size)
        for pruner in self.pruners:
            own = pruner.current.indices
            weights[own] = pruner.weights(own)
        return weights

    def train(self, losses, num_steps=None):
        """Each step's epoch, and of each rank its draws and progress."""
        steps = []
        while True:
            pruners = self.pruners
            epochs = set(self.each(lambda pruner: next(pruner.epochs(), None)))
            (epoch,) = epochs
            if epoch is None:
                return steps
            for step in zip(*self.loaders, strict=True):
                made = []
                for pruner, (samples, batch) in zip(pruners, step, strict=True):
                    pruner.update(losses[batch.long()] / (epoch + 1), samples)
                    made.append((samples.tolist(), pruner.progress))
                steps.append((epoch, made))
                if len(steps) == num_steps:
                    return steps

    def states(self):
        return copy.deepcopy(self.each(lambda pruner: pruner.state_dict()))

    def load(self, states):
        self.each(lambda pruner: pruner.load_state_dict(states))
        return self


POLICIES = {
    "threshold": {},
    "target": {"target": 0.2},
    "tiers": {"policy": PercentileTiers()},
    "tiers to a target": {"policy": PercentileTiers(), "target": 0.3},
    "random": {"policy": RandomPruning(0.4)},
    "random to a target": {"policy": RandomPruning(), "target": 0.3},
    "none": {"policy": NoPruning()},
}
every_policy = pytest.mark.parametrize("options", POLICIES.values(), ids=POLICIES)


# -- What is known ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "num_shards", "num_replicas"), [(57, 6, 3), (64, 8, 3), (30, 30, 7)])
def test_every_sample_has_one_place_on_one_rank(size, num_shards, num_replicas):
    owners = np.zeros(size, int)
    for rank in range(num_replicas):
        shards = Shards(size, num_shards, Replicas(rank, num_replicas))
        own = np.concatenate([shards.indices(column) for column in range(len(shards.ids))])
        assert shards.locate(own).tolist() == list(range(shards.num_local))
        assert (shards.locate(np.setdiff1d(np.arange(size + 40), own)) == -1).all()
        assert shards.ids[shards.columns(own)].tolist() == (own % num_shards).tolist()
        owners[own] += 1
        assert shards.by_rank(shards.shared(size))[rank] == shards.num_local
    assert (owners == 1).all()


@pytest.mark.parametrize(
    ("num_samples", "num_shards"),
    [(1, 1), (320, 10), (10**5, 60), (1_281_167, 960), (10**9, 7680), (10**12, 7680)],
)
def test_the_number_of_shards_follows_the_data_alone(num_samples, num_shards):
    assert default_num_shards(num_samples) == num_shards


floats = st.floats(width=32, allow_nan=False)
scores = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(floats, min_size=2, max_size=50))
def test_keys_sort_as_losses_do(values):
    losses = np.array(values, np.float32)
    keys = sort_keys(losses)
    assert losses[np.argsort(keys, kind="stable")].tolist() == sorted(losses.tolist())
    assert [score_of_key(int(key)) for key in keys] == losses.tolist()
    assert sort_keys(np.array([np.nan], np.float32)) == sort_keys(np.array([np.inf], np.float32))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(scores | st.sampled_from([0.0, 1.0]) | st.just(float("nan")), min_size=6, max_size=60),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_bounds_lie_where_the_ranks_of_all_scores_are(values, shares):
    losses = np.array(values, np.float32)
    ranks = sorted(round(share * len(losses)) for share in shares)
    shards = [Shards(len(losses), 6, Replicas(rank, 3)) for rank in range(3)]
    own = [
        losses[np.concatenate([part.indices(column) for column in range(len(part.ids))])]
        for part in shards
    ]
    together = Together(3)
    summaries = [
        ShardedScores(mine, part, together.reduce) for mine, part in zip(own, shards, strict=True)
    ]
    found = together.run(lambda rank: summaries[rank].bounds_at(ranks))
    assert found[0] == found[1] == found[2]
    ordered = np.where(np.isnan(losses), np.inf, losses)
    for bound, rank in zip(found[0], ranks, strict=True):
        below = (ordered < bound.value).sum()
        assert below + bound.share * (ordered == bound.value).sum() == pytest.approx(rank)
    means = together.run(lambda rank: (summaries[rank].mean, summaries[rank].num_scored))
    assert means[0][1] == (~np.isnan(losses)).sum()
    if np.abs(np.nan_to_num(losses)).max() < 1e30:
        expected = mean_score(torch.from_numpy(losses))
        assert means[0][0] == pytest.approx(expected, rel=1e-6, abs=1e-30, nan_ok=True)


def test_before_there_are_scores_no_rank_is_asked():
    for policy in (PercentileTiers(), InfoBatch(), RandomPruning()):
        ranks = Ranks(3, policy=policy, warmup_epochs=0, target=0.2)
        assert {pruner.current.num_trained for pruner in ranks.pruners} == {480}
        assert ranks.together.num_reductions == 0
    for policy in (PercentileTiers(), InfoBatch()):
        ranks = Ranks(3, policy=policy, warmup_epochs=0)
        assert {pruner.current.num_trained for pruner in ranks.pruners} == {600}
    assert NoScores(10).bounds_at([0, 5])[1].share == 0.5


# -- The draw --------------------------------------------------------------------------------------


@every_policy
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 4, 6, 12])
def test_what_is_drawn_does_not_depend_on_the_number_of_ranks(options, num_replicas):
    losses = random_losses(601)
    losses[::7] = float("nan")
    one = Ranks(1, 601, **options).score(losses)
    several = Ranks(num_replicas, 601, **options).score(losses)
    assert torch.equal(one.weights, several.weights)
    assert one.pruners[0].current.num_trained == int(one.weights.count_nonzero())


@every_policy
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("size", "num_replicas"), [(600, 1), (601, 2), (607, 3), (600, 4), (610, 6), (613, 5), (699, 7)]
)
def test_the_union_of_the_ranks_is_the_selection(options, drop_last, size, num_replicas):
    losses = random_losses(size)
    batch_size = 4 * num_replicas
    ranks = Ranks(num_replicas, size, batch_size, drop_last=drop_last, **options).score(losses)
    weights, batches, seen = ranks.weights, [], []
    for pruner, loader in zip(ranks.pruners, ranks.loaders, strict=True):
        own = [samples for samples, _ in loader]
        assert len(own) == len(loader)
        batches.append([len(samples) for samples in own])
        seen += np.concatenate(own).tolist()
        repeats = [int(samples[0]) for samples in own if samples[0] < 0]
        assert (pruner.weights(repeats) == 0).all()
    assert all(sizes == batches[0] for sizes in batches), "batch counts and sizes are equal"
    real = sorted(sample for sample in seen if sample >= 0)
    pruned = int(weights.count_nonzero()) < size
    if pruned or not drop_last:
        assert real == weights.nonzero().flatten().tolist()
    assert len(set(real)) == len(real)
    if 12 % num_replicas == 0:
        assert len(seen) - len(real) < (1 if drop_last else num_replicas)
    else:  # some ranks have a shard more
        assert len(seen) - len(real) <= (num_replicas - 1) * (-(-size // 12) + 4)


def test_a_policy_leaves_out_what_it_does_with_all_scores_on_each_rank():
    losses = random_losses(6000)
    for name, options in POLICIES.items():
        sharded = Ranks(2, 6000, **options).score(losses)
        replicated = DynamicPruner(Numbers(6000), 4, delta=1.0, **{"policy": InfoBatch(), **options})
        replicated.sampler(12)
        replicated.record(losses, np.arange(6000))
        replicated.set_epoch(1)
        ours, theirs = sharded.weights, replicated.selection.weights
        assert ours.count_nonzero() == theirs.count_nonzero(), name
        always = (ours == 1) & (theirs == 1)
        assert int(always.sum()) == int((theirs == 1).sum()) == int((ours == 1).sum()), name


def test_infobatch_goes_by_a_running_mean():
    first = torch.arange(600.0)
    ranks = Ranks(2, policy=InfoBatch(by="smoothed_loss")).score(first)
    trained = ranks.weights > 0
    second = torch.where(trained, first.flip(0), first)

    def work(pruner):
        own = pruner.current.indices.numpy()
        pruner.record(second[own], own)
        pruner.set_epoch(2)

    ranks.each(work)
    means = torch.where(trained, 0.8 * first + 0.2 * second, first)
    assert (means[ranks.weights == 0] < means.mean()).all()
    assert (ranks.weights[means < means.mean()] == 0).float().mean() == pytest.approx(0.5, abs=0.01)


@every_policy
@pytest.mark.parametrize("kind", ["distinct", "tied", "half scored", "sorted"])
def test_the_expected_weighted_sum_is_the_full_sum(options, kind):
    losses = random_losses(240)
    if kind == "tied":
        losses = losses.round()
    if kind == "half scored":
        losses[::2] = float("nan")
    if kind == "sorted":  # so that the shards differ
        losses = losses.reshape(20, 12).sort(1).values.flatten()
    values = random_losses(240, seed=9).double()
    sums, weights = [], []
    for seed in range(250):
        ranks = Ranks(1, 240, num_shards=6, seed=seed, **options).score(losses)
        weights.append(ranks.weights.double())
        sums.append(float(weights[-1] @ values))
        assert float(weights[-1].sum()) == pytest.approx(240, rel=1e-5)
    error = np.std(sums) / len(sums) ** 0.5
    assert np.mean(sums) == pytest.approx(float(values.sum()), abs=max(5 * error, 1e-3))
    each = torch.stack(weights)
    errors = each.std(0) / len(weights) ** 0.5
    assert ((each.mean(0) - 1).abs() <= 5.5 * errors + 1e-6).all()


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(60, 400),
    num_shards=st.integers(1, 8),
    distinct=st.integers(1, 5),
    options=st.sampled_from(list(POLICIES.values())),
)
def test_in_every_shard_the_weights_sum_to_its_size(seed, size, num_shards, distinct, options):
    losses = torch.from_numpy(np.random.default_rng(seed).integers(0, distinct, size).astype("f4"))
    ranks = Ranks(1, size, num_shards=num_shards, seed=seed, **options).score(losses)
    weights = ranks.weights.double()
    kept = []
    for shard in range(num_shards):
        own = weights[shard::num_shards]
        assert float(own.sum()) == pytest.approx(len(own), rel=1e-5)
        kept.append(int(own.count_nonzero()))
    assert max(kept) - min(kept) <= 1
    assert (weights[weights > 0] >= 1).all()


def test_the_mean_of_the_ranks_means_is_that_of_the_real_global_batch():
    for num_replicas, size in [(2, 601), (3, 607), (5, 613), (7, 607)]:
        losses = random_losses(size, seed=5)
        ranks = Ranks(num_replicas, size, 8 * num_replicas).score(losses)
        weights = ranks.weights
        for step in zip(*ranks.loaders, strict=True):
            means, real = [], []
            for pruner, (samples, batch) in zip(ranks.pruners, step, strict=True):
                means.append(float(pruner.update(losses[batch.long()], samples)))
                real += [sample for sample in samples.tolist() if sample >= 0]
            expected = float(weighted_mean(losses[real], weights[real]))
            assert np.mean(means) == pytest.approx(expected, rel=1e-5)


def test_weights_divided_by_their_mean_are_1_in_the_mean():
    run = Ranks(3, normalizer="mean").score(random_losses(600))
    weights = run.weights
    assert all(
        pruner.mean_weight == pytest.approx(600 / int((weights > 0).sum())) for pruner in run.pruners
    )
    for pruner in run.pruners:
        own = pruner.current.indices
        trained = own[weights[own] > 0]
        expected = weights[trained].mean() / pruner.mean_weight
        assert float(pruner.weigh(torch.ones(len(trained)), trained)) == pytest.approx(float(expected))


def test_an_epoch_has_an_order_of_its_own():
    ranks = Ranks(2, 6000, num_shards=60)
    orders = []
    for _ in range(2):
        orders.append(np.concatenate([samples for samples, _ in ranks.loaders[0]]))
        ranks.score(random_losses(6000))
    ranks_of = [np.argsort(order) / len(order) for order in orders if len(order) == 3000]
    assert len(ranks_of) >= 1
    places = np.empty(6000)
    places[orders[0]] = np.arange(len(orders[0]))
    assert abs(np.corrcoef(orders[0], np.arange(len(orders[0])))[0, 1]) < 0.1
    steps = np.abs(np.diff(orders[0] % 60))
    assert steps.mean() > 10, "neighbours are of any shards"


# -- A run -----------------------------------------------------------------------------------------


@every_policy
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5])
def test_a_run(options, num_replicas):
    losses = random_losses(123)
    ranks = Ranks(num_replicas, 123, 6 * num_replicas, 6, **options)
    visits = np.zeros(123, int)
    last_progress = 0
    for _, made in ranks.train(losses):
        assert len({progress for _, progress in made}) == 1, "ranks agree about progress"
        assert made[0][1] >= last_progress
        last_progress = made[0][1]
        real = [sample for samples, _ in made for sample in samples if sample >= 0]
        np.add.at(visits, real, 1)
    assert last_progress == 1
    reports = ranks.each(lambda pruner: str(pruner.report()))
    assert set(reports) == {reports[0]}
    assert f"{visits.sum()} of 492 samples trained" in reports[0]
    table = np.zeros(123, int)
    for pruner in ranks.pruners:
        shards = pruner._store.shards
        for column, part in enumerate(shards.parts()):
            table[shards.indices(column)] = pruner.scores["visits"][part]
    assert table.tolist() == visits.tolist()


@every_policy
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 2), (2, 3), (3, 1), (4, 6), (5, 3)])
def test_a_run_goes_on_with_another_number_of_ranks(options, drop_last, before, after):
    losses = random_losses(303)
    size = {"size": 303, "drop_last": drop_last, "num_epochs": 3}
    run = Ranks(before, batch_size=12 * before, **size, **options)
    whole = Ranks(before, batch_size=12 * before, **size, **options).train(losses)
    for stop in [3, len(whole) // 2, len(whole) - 1]:
        run = Ranks(before, batch_size=12 * before, **size, **options)
        steps = run.train(losses, stop)
        assert steps == whole[:stop]
        states = run.states()
        resumed = Ranks(after, batch_size=12 * after, **size, **options)
        resumed.load(iter(states) if after == 1 else states)
        epoch = resumed.pruners[0].epoch
        assert resumed.pruners[0].progress == pytest.approx(steps[-1][1][0][1])
        assert torch.equal(resumed.weights, run.weights)
        rest = resumed.train(losses)
        if before == after:
            assert steps + rest == whole
        done = [(e, made) for e, made in steps + rest if e == epoch]
        real = [s for _, made in done for samples, _ in made for s in samples if s >= 0]
        assert len(set(real)) == len(real), "trained twice"
        if not drop_last or int(run.weights.count_nonzero()) < 303:
            assert sorted(real) == run.weights.nonzero().flatten().tolist()
        progress = [made[0][1] for _, made in rest]
        assert progress == sorted(progress)
        assert progress[-1] == 1


@pytest.mark.parametrize("stop", [3, 12])
def test_one_ranks_state_is_enough_for_it(stop):
    losses = random_losses(303)
    run = Ranks(3, 303)
    before = run.train(losses, stop)
    states = run.states()
    resumed = Ranks(3, 303)
    resumed.each(lambda pruner, state: pruner.load_state_dict(state), states)
    assert before + resumed.train(losses) == Ranks(3, 303).train(losses)


def test_memory_of_a_rank_is_its_share():
    sizes = {}
    for num_replicas in (1, 4):
        ranks = Ranks(num_replicas, 12_000).score(random_losses(12_000))
        pruner = ranks.pruners[-1]
        epoch = pruner.current
        arrays = [epoch.recorded, epoch.drawn.codes, epoch._order]
        arrays += [pruner.scores[name].numpy() for name in pruner.scores.columns]
        sizes[num_replicas] = sum(array.nbytes for array in arrays)
    assert sizes[1] <= 14 * 12_000
    assert sizes[4] <= sizes[1] / 4 * 1.01


# -- What is refused -------------------------------------------------------------------------------


class ByLoss(InfoBatch):
    """Changes the keep probabilities, but not the bounds."""


class Own(NoPruning):
    score_bounds = NoPruning.__mro__[1].score_bounds


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"policy": Own()},
            TypeError,
            r"cannot be used with layout=Sharded\(\): it needs the scores of all",
        ),
        (
            {"normalizer": "weights"},
            ValueError,
            r"not known with layout=Sharded\(\); use normalizer='batch'",
        ),
        ({"num_shards": 2}, ValueError, "num_shards is 2, fewer than the 3 ranks"),
        ({"num_shards": 700}, ValueError, "num_shards is 700, but there are only 600 samples"),
    ],
)
def test_what_cannot_be_sharded(options, error, message):
    with pytest.raises(error, match=message):
        Ranks(3, **options)


def test_what_no_rank_knows():
    ranks = Ranks(3)
    pruner = ranks.pruners[1]
    with pytest.raises(RuntimeError, match=r"no rank has the whole selection; `pruner.current.indices`"):
        _ = pruner.selection
    with pytest.raises(RuntimeError, match="no rank has all scores, from which a saving is predicted"):
        pruner.predict_saving()
    with pytest.raises(ValueError, match="sampler of your own may give it others; leave the order to"):
        pruner.loader(4, sampler=range(600))
    with pytest.raises(
        ValueError, match=r"sample 3 belongs to rank 0, this is rank 1; .* this rank's batch"
    ):
        pruner.update(torch.ones(2), [1, 3])
    with pytest.raises(ValueError, match="sample 700 does not exist: the dataset has 600"):
        pruner.update(torch.ones(2), [1, 700])
    ranks.score(random_losses(600))
    left_out = next(i for i in range(1, 600, 3) if i not in pruner.current.indices)
    with pytest.raises(ValueError, match=f"sample {left_out} was not selected in epoch 1"):
        pruner.update(torch.ones(1), [left_out])


def test_checkpoints_that_do_not_fit():
    ranks = Ranks(2)
    states = ranks.states()
    with pytest.raises(
        ValueError, match=r"lacks 6 of this rank's 12 shards; .* a list of the states of all"
    ):
        Ranks(1).load(states[0])
    with pytest.raises(ValueError, match=r"has 12 shards, this run has 6; .*Sharded\(num_shards=12\)"):
        Ranks(1, num_shards=6).load(states)
    with pytest.raises(ValueError, match=r"sharded scores, this pruner's are replicated; .*Sharded\(\)"):
        DynamicPruner(Numbers(600), 4).load_state_dict(states[0])
    replicated = DynamicPruner(Numbers(600), 4).state_dict()
    with pytest.raises(
        ValueError, match=r"replicated scores, this pruner's are sharded; .*layout=Replicated"
    ):
        Ranks(1).load(replicated)
    ranks.train(random_losses(600), 2)
    later = ranks.states()
    with pytest.raises(ValueError, match="of ranks 0 and 1 were not taken at the same time"):
        Ranks(1).load([states[0], later[1]])


def test_strata_that_do_not_fit_into_a_shard():
    ranks = Ranks(2, 60, num_shards=12, policy=PercentileTiers([0.5, 1.0], [0.1, 0.2]))
    message = r"keep 0 of its 5 samples, fewer than there are strata \(2\), .* num_shards is 12, lower"
    with pytest.raises(ValueError, match=message):
        ranks.score(random_losses(60))


def test_an_epoch_of_which_nothing_was_recorded_is_refused_by_all():
    ranks = Ranks(2)
    with pytest.raises(RuntimeError, match="ends without a single recorded loss"):
        ranks.each(lambda pruner: pruner.set_epoch(pruner.epoch + 1))


def test_coordinates_that_ranks_share(monkeypatch):
    monkeypatch.setattr("infobatch.distributed.has_process_group", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 4)
    message = r"num_replicas is 2, but the process group has 4 ranks, .* more than once; give Sharded a"
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(600), 4, rank=0, num_replicas=2, layout=Sharded())
    DynamicPruner(Numbers(600), 4, rank=0, num_replicas=2, layout=Sharded(reduce=torch.clone))


def test_saving_before_training_changes_nothing():
    options = {"policy": PercentileTiers(), "warmup_epochs": 0, "target": 0.3}
    saved = Ranks(3, **options)
    saved.states()
    for pruner in saved.pruners:
        pruner.loader(2)  # another batch size: the epoch begins anew
    assert saved.together.num_reductions == 2
    assert torch.equal(saved.weights, Ranks(3, **options).weights)


def test_ranks_without_a_process_group():
    pruner = DynamicPruner(Numbers(600), 4, rank=0, num_replicas=2, layout=Sharded())
    with pytest.raises(
        RuntimeError, match=r"nothing can be summed over them. Call .* or give Sharded a"
    ):
        pruner.state_dict()


PROGRAM = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner, Sharded
    from infobatch.policies import PercentileTiers
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_replicas
    )
    try:
        losses = torch.rand(601, generator=torch.Generator().manual_seed(0))
        options = {"delta": 1.0, "policy": PercentileTiers()}
        pruner = DynamicPruner(range(601), 3, layout=Sharded(12), **options)
        loader = pruner.loader(6)
        steps = []
        for epoch in pruner.epochs():
            for samples, batch in loader:
                pruner.update(losses[batch] / (epoch + 1), samples)
                steps.append((epoch, samples.tolist(), pruner.progress))
        state = pruner.state_dict()
        message = ""
        other = DynamicPruner(range(601), 3, layout=Sharded(12 + 2 * rank), **options)
        try:
            other.set_epoch(0)
        except RuntimeError as error:
            message = str(error)
        torch.save([steps, state, message], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_processes(tmp_path):
    saved = launch(PROGRAM, 2, tmp_path)
    losses = torch.rand(601, generator=torch.Generator().manual_seed(0))
    expected = Ranks(2, 601, policy=PercentileTiers(), num_epochs=3).train(losses)
    for rank, (steps, state, message) in enumerate(saved):
        ours = [(epoch, *made[rank]) for epoch, made in expected]
        assert steps == ours
        assert state["history"] == saved[0][1]["history"]
        assert "num_shards is 12 on rank 0 and 14 on rank 1" in message


def test_a_table_of_a_rank_is_a_score_table():
    ranks = Ranks(3)
    assert isinstance(ranks.pruners[0].scores, ScoreTable)
    assert len(ranks.pruners[0].scores) == 200
