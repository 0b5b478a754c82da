"""Scores of which each rank holds a part: the same draw, without anyone seeing all of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Numbers, launch, random_losses
from helpers.sharded import POLICIES, Ranks, every_policy
from infobatch import DynamicPruner, InfoBatch, NoPruning, Sharded
from infobatch.policies import PercentileTiers
from infobatch.scores import ScoreTable


@every_policy
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 4, 6, 12])
def test_what_is_drawn_does_not_depend_on_the_number_of_ranks(options, num_replicas):
    losses = random_losses(601)
    losses[::7] = float("nan")
    one = Ranks(1, 601, **options).score(losses)
    several = Ranks(num_replicas, 601, **options).score(losses)
    assert torch.equal(one.weights, several.weights)
    assert one.pruners[0].current.num_trained == int(one.weights.count_nonzero())


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


@pytest.mark.parametrize("policy", [InfoBatch(), PercentileTiers()])
def test_a_target_is_met_where_losses_are_tied(policy):
    losses = (random_losses(2400) - random_losses(2400).quantile(0.7)).clamp(min=0)
    for seed in range(4):
        ranks = Ranks(2, 2400, num_shards=48, target=0.2, policy=policy, seed=seed).score(losses)
        assert ranks.pruners[0].current.num_selected == 1760, "20 % of four epochs, left out of three"
        assert ranks.weights.count_nonzero() == 1760


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


def test_a_table_of_a_rank_is_a_score_table():
    ranks = Ranks(3)
    assert isinstance(ranks.pruners[0].scores, ScoreTable)
    assert len(ranks.pruners[0].scores) == 200


def test_saving_before_training_changes_nothing():
    options = {"policy": PercentileTiers(), "warmup_epochs": 0, "target": 0.3}
    saved = Ranks(3, **options)
    saved.states()
    for pruner in saved.pruners:
        pruner.loader(2)  # another batch size: the epoch begins anew
    assert saved.together.num_reductions == 2
    assert torch.equal(saved.weights, Ranks(3, **options).weights)


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
            for indices, batch in loader:
                pruner.update(losses[batch] / (epoch + 1), indices)
                steps.append((epoch, indices.tolist(), pruner.progress))
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


@pytest.mark.parametrize("num_shards", [0, -3, 2.5, "12"])
def test_a_number_of_shards_that_is_none(num_shards):
    with pytest.raises(ValueError, match=rf"num_shards is {num_shards!r}; it must be a whole number"):
        Sharded(num_shards)


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
    alone = Ranks(1)
    with pytest.raises(ValueError, match="were not taken at the same time"):
        alone.load([later[0], states[1]])
    assert alone.pruners[0].scores["visits"].sum() == 0, "nothing was changed"


def test_strata_that_do_not_fit_into_a_shard():
    ranks = Ranks(2, 60, num_shards=12, policy=PercentileTiers([0.5, 1.0], [0.1, 0.2]))
    message = r"keep 0 of its 5 samples, fewer than there are strata \(2\), .* num_shards is 12, lower"
    with pytest.raises(ValueError, match=message):
        ranks.score(random_losses(60))


def test_coordinates_that_ranks_share(monkeypatch):
    monkeypatch.setattr("infobatch.distributed.has_process_group", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 4)
    message = r"num_replicas is 2, but the process group has 4 ranks, .* more than once; give Sharded a"
    with pytest.raises(ValueError, match=message):
        DynamicPruner(Numbers(600), 4, rank=0, num_replicas=2, layout=Sharded())
    DynamicPruner(Numbers(600), 4, rank=0, num_replicas=2, layout=Sharded(reduce=torch.clone))


def test_ranks_without_a_process_group():
    pruner = DynamicPruner(Numbers(600), 4, rank=0, num_replicas=2, layout=Sharded())
    with pytest.raises(
        RuntimeError, match=r"nothing can be summed over them. Call .* or give Sharded a"
    ):
        pruner.state_dict()
