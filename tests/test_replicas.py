"""Several processes that train one model: equal shares of one selection, one set of scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import BatchSampler, DistributedSampler

from helpers import UNMERGED, Numbers, launch, random_losses
from infobatch import DynamicPruner, InfoBatch, Replicated, weighted_mean
from infobatch.policies import PercentileTiers

LAYOUTS = [(57, 2, 8), (57, 3, 4), (33, 2, 16), (40, 4, 5), (41, 4, 2), (7, 3, 2)]


def ranks(size, num_replicas, batch_size, drop_last=False, **options):
    """The pruners of all ranks in their first pruned epoch, with equal scores, and their loaders."""
    losses, made = random_losses(size), []
    for rank in range(num_replicas):
        options = {"layout": UNMERGED, **options}
        pruner = DynamicPruner(Numbers(size), 6, rank=rank, num_replicas=num_replicas, **options)
        loader = pruner.loader(batch_size, drop_last=drop_last)
        pruner.record(losses, np.arange(size))
        pruner.set_epoch(1)
        made.append((pruner, loader))
    return made


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_union_of_the_ranks_is_the_selection(size, num_replicas, batch_size, drop_last):
    made = ranks(size, num_replicas, batch_size, drop_last)
    seen, batches = [], []
    for _, loader in made:
        own = [samples for samples, _ in loader]
        assert len(own) == len(loader)
        batches.append([len(samples) for samples in own])
        seen += np.concatenate(own).tolist()
    assert all(sizes == batches[0] for sizes in batches), "batch counts and sizes are equal"
    real = [index for index in seen if index >= 0]
    assert sorted(real) == made[0][0].selection.indices.tolist()
    repeats = [index for index in seen if index < 0]
    assert len(repeats) < num_replicas
    assert not drop_last or not repeats
    assert all(~index in real for index in repeats)


@settings(deadline=None, max_examples=150)
@given(
    num_replicas=st.integers(1, 7),
    batch_size=st.integers(1, 9),
    rest=st.integers(0, 60),
    drop_last=st.booleans(),
    epoch=st.sampled_from([0, 1, 5]),
)
def test_any_number_of_ranks_share_any_number_of_samples(
    num_replicas, batch_size, rest, drop_last, epoch
):
    size = num_replicas * batch_size + rest
    losses, shares = random_losses(size), []
    for rank in range(num_replicas):
        pruner = DynamicPruner(range(size), 6, rank=rank, num_replicas=num_replicas, layout=UNMERGED)
        sampler = pruner.sampler(batch_size, drop_last=drop_last)
        if epoch > 0:
            pruner.record(losses, np.arange(size))
        pruner.set_epoch(epoch)
        batches = list(BatchSampler(sampler, batch_size, drop_last))
        assert sum(map(len, batches)) == len(sampler)
        shares.append(batches)
    assert len({tuple(map(len, batches)) for batches in shares}) == 1, "unequal ranks"
    rounds = [[batches[step] for batches in shares] for step in range(len(shares[0]))]
    trained = [i for parts in rounds for part in zip(*parts, strict=True) for i in part]
    order = pruner.current.order.tolist()
    assert [i for i in trained if i >= 0] == order
    assert sum(i < 0 for i in trained) == -len(order) % num_replicas
    if pruner.selection.num_selected < size or not drop_last:
        assert sorted(order) == pruner.selection.indices.tolist()


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
def test_the_ranks_mean_is_the_mean_over_the_real_global_batch(size, num_replicas, batch_size):
    losses = random_losses(size, seed=5)
    made = ranks(size, num_replicas, batch_size)
    weights = made[0][0].selection.weights
    for step in zip(*(list(loader) for _, loader in made), strict=True):
        means, real = [], []
        for (pruner, _), (samples, batch) in zip(made, step, strict=True):
            assert batch.tolist() == np.where(samples < 0, ~samples, samples).tolist()
            means.append(float(pruner.weigh(losses[batch.long()], samples)))
            assert float(pruner.update(losses[batch.long()], samples)) == means[-1]
            real += [index for index in samples if index >= 0]
        expected = float(weighted_mean(losses[real], weights[real]))
        assert np.mean(means) == pytest.approx(expected, rel=1e-5)


def test_repeats_are_not_recorded():
    losses = random_losses(57, seed=5)
    made = ranks(57, 2, 8)
    for pruner, loader in made:
        for samples, batch in loader:
            pruner.update(losses[batch.long()], samples)
        expected = -(-pruner.selection.num_selected // 2)
        assert pruner.current.num_recorded in (expected, expected - 1)
        assert int(pruner.scores["visits"].sum()) == 57 + pruner.current.num_recorded


@pytest.mark.parametrize("num_replicas", [2, 4])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("options", [{}, {"target": 0.25}], ids=str)
def test_several_of_a_part_select_as_one_of_32(num_replicas, drop_last, options):
    ((one, whole),) = ranks(200, 1, 32, drop_last, **options)
    several = ranks(200, num_replicas, 32 // num_replicas, drop_last, **options)
    assert len(set(one.selection.weights.tolist())) > 1
    for pruner, loader in several:
        assert torch.equal(one.selection.weights, pruner.selection.weights)
        assert torch.equal(one.current.order, pruner.current.order)
        assert pruner.full_steps == one.full_steps
        assert len(loader) == len(whole)
    for (samples, _), *parts in zip(whole, *(loader for _, loader in several), strict=True):
        together = {i for part, _ in parts for i in part.tolist() if i >= 0}
        assert together == set(samples.tolist())


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [64, 57])
def test_a_ranks_progress_is_the_runs(size, drop_last):
    def trace(rank, num_replicas):
        options = {"rank": rank, "num_replicas": num_replicas, "layout": UNMERGED}
        pruner = DynamicPruner(Numbers(size), 3, policy=InfoBatch(0), **options)
        loader = pruner.loader(16 // num_replicas, drop_last=drop_last)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        scheduler = pruner.lr_scheduler(LinearLR(optimizer, 1, 0.1, pruner.full_steps))
        for _ in pruner.epochs():
            for samples, batch in loader:
                pruner.update(batch, samples)
                optimizer.step()
                scheduler.step()
                yield pruner.progress, scheduler.get_last_lr()[0]

    single = list(trace(0, 1))
    assert single[-1] == (1, pytest.approx(0.01))
    assert list(trace(0, 2)) == list(trace(1, 2)) == single


@pytest.mark.parametrize("size", [64, 57])
def test_a_rank_that_is_through_its_share_does_not_iterate_it_again(size):
    for pruner, loader in ranks(size, 2, 8):
        for samples, batch in loader:
            pruner.update(batch, samples)
        with pytest.raises(RuntimeError, match="epoch 1 is finished"):
            next(iter(loader))


PROGRAM = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=num_replicas)

    def make():
        pruner = DynamicPruner(range(57), 4)
        return pruner, pruner.loader(5)

    def train(pruner, loader):
        for epoch in pruner.epochs():
            for samples, batch in loader:
                pruner.update(losses[batch] / (epoch + 1), samples)
                yield epoch, samples.tolist(), pruner.progress

    def columns(pruner):
        return {name: value.clone() for name, value in pruner.scores.state_dict()["columns"].items()}

    try:
        losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
        first, loader = make()
        unsaved = list(train(first, loader))
        reports = [str(first.report())]
        pruner, loader = make()
        steps, states = [], []
        for step in train(pruner, loader):
            steps.append(step)
            states.append(pruner.state_dict())
        assert steps == unsaved, "saving changes the run"
        for done in range(0, len(steps), 3):
            resumed, loader = make()
            resumed.load_state_dict(states[done])
            rest = list(train(resumed, loader))
            assert rest == steps[done + 1 :], (done, rest, steps[done + 1 :])
            resumed.state_dict()
            for name, column in columns(pruner).items():
                assert torch.equal(column, columns(resumed)[name]), (done, name)
        reports.append(str(pruner.report()))
        torch.save([states, steps, reports], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_processes_share_scores_and_resume(num_replicas, tmp_path):
    saved = launch(PROGRAM, num_replicas, tmp_path)
    losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
    states, steps, reports = zip(*saved, strict=True)
    for step in zip(*states, strict=True):
        for name in ("last_loss", "visits"):
            one, *others = (state["scores"]["columns"][name] for state in step)
            assert all(torch.equal(one.nan_to_num(-1), other.nan_to_num(-1)) for other in others)
        assert all(torch.equal(step[0]["weights"], state["weights"]) for state in step)
        assert all(torch.equal(step[0]["recorded"], state["recorded"]) for state in step)
        assert all(step[0]["history"] == state["history"] for state in step)
    trained = np.zeros((4, 57), bool)
    for epoch, samples, _ in (step for rank in steps for step in rank):
        real = [i for i in samples if i >= 0]
        assert not trained[epoch, real].any(), "trained twice"
        trained[epoch, real] = True
    last = states[0][-1]
    assert last["scores"]["columns"]["visits"].tolist() == trained.sum(0).tolist()
    last_epoch = 3 - trained[::-1].argmax(0)
    expected = torch.stack([losses / (epoch + 1) for epoch in range(4)])[last_epoch, range(57)]
    assert torch.equal(last["scores"]["columns"]["last_loss"], expected)
    assert trained.sum(1).tolist()[:1] + trained.sum(1).tolist()[3:] == [57, 57]
    assert [step[-1] for step in steps[0]] == sorted(step[-1] for step in steps[0])
    assert steps[0][-1][-1] == 1
    for report in (report for rank in reports for report in rank):
        assert f"{trained.sum()} of 228 samples trained" in report


def test_ranks_without_a_process_group_do_not_drift_apart():
    pruner = DynamicPruner(Numbers(40), 3, rank=1, num_replicas=2)
    loader = pruner.loader(4)
    for samples, batch in loader:
        pruner.update(batch, samples)
    for merging in (pruner.state_dict, lambda: pruner.set_epoch(1)):
        with pytest.raises(RuntimeError, match=r"not initialised, .*init_process_group .*merge="):
            merging()
    assert pruner.epoch == 0


def test_ranks_may_merge_their_scores_themselves():
    tables = []

    def merge(scores, recorded):
        for other, recorded_there in tables:
            scores["last_loss"][recorded_there] = other["last_loss"][recorded_there]
        return np.logical_or.reduce([mine for _, mine in tables])

    made = []
    for rank in range(2):
        pruner = DynamicPruner(Numbers(40), 3, rank=rank, num_replicas=2, layout=Replicated(merge=merge))
        for samples, batch in pruner.loader(4):
            pruner.update(batch, samples)
        made.append(pruner)
        tables.append((pruner.scores, pruner.current.recorded.copy()))
    for pruner in made:
        pruner.set_epoch(1)
        assert pruner.scores["last_loss"].tolist() == list(range(40))
        assert torch.equal(pruner.selection.weights, made[0].selection.weights)


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("normalizer", ["mean", "weights"])
def test_the_ranks_means_over_weights_are_those_of_the_global_batch(
    size, num_replicas, batch_size, drop_last, num_parts, normalizer
):
    losses = random_losses(size, seed=5)
    options = {"normalizer": normalizer, "policy": PercentileTiers()}
    ((one, whole),) = ranks(size, 1, batch_size * num_replicas, drop_last, **options)
    made = ranks(size, num_replicas, batch_size, drop_last, **options)
    assert len(set(one.selection.weights.tolist())) > 1
    for (samples, _), *step in zip(whole, *(loader for _, loader in made), strict=True):
        means = []
        for (pruner, _), (part, batch) in zip(made, step, strict=True):
            if num_parts > len(part):
                num_parts = 1
            mine = losses[batch.long()]
            split = zip(np.array_split(part, num_parts), mine.tensor_split(num_parts), strict=True)
            accumulated = [len(x) / len(part) * float(pruner.update(y, x)) for x, y in split]
            means.append(sum(accumulated))
        assert np.mean(means) == pytest.approx(float(one.update(losses[samples], samples)), rel=1e-5)


def test_a_mean_over_weights_is_the_same_after_resuming():
    losses = random_losses(57, seed=5)
    made = ranks(57, 2, 8, normalizer="weights")
    for pruner, loader in made:
        values = []
        for step, (samples, batch) in enumerate(loader):
            values.append(float(pruner.update(losses[batch.long()], samples)))
            if step == 0:
                recorded = pruner.current.recorded.copy()
                state = pruner.state_dict()
        # What both ranks together have recorded, as merging would have it.
        recorded[pruner.current.order[:16]] = True
        state["recorded"] = torch.from_numpy(recorded)
        resumed = DynamicPruner(
            Numbers(57),
            6,
            rank=pruner.replicas.rank,
            num_replicas=2,
            normalizer="weights",
            layout=UNMERGED,
        )
        loader = resumed.loader(8)
        resumed.load_state_dict(state)
        rest = [float(resumed.update(losses[batch.long()], samples)) for samples, batch in loader]
        assert rest == values[1:]


def test_a_mean_over_weights_needs_the_global_batch():
    options = {"rank": 0, "num_replicas": 2, "normalizer": "weights"}
    with pytest.raises(RuntimeError, match="make the loader first, or use normalizer='batch'"):
        DynamicPruner(Numbers(40), 3, **options).weigh(torch.ones(2), [1, 2])
    for own in ({"sampler": range(40)}, {"batch_sampler": [[1, 2], [3]]}):
        with pytest.raises(ValueError, match=r"not known with a sampler of your own; use"):
            DynamicPruner(Numbers(40), 3, **options).loader(**own)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_replaced_sampler_is_refused_at_its_first_batch(epoch):
    """As Ray's prepare_data_loader does; a rank may record all samples at once."""
    for pruner, loader in ranks(64, 2, 16):
        if epoch == 0:
            pruner = DynamicPruner(Numbers(64), 3, rank=pruner.replicas.rank, num_replicas=2)
            loader = pruner.loader(16)
        replaced = DistributedSampler(loader.dataset, 2, pruner.replicas.rank, shuffle=epoch == 0)
        kept = [i for i in replaced if pruner.selection.weights[i] > 0][:16]
        before = pruner.scores["visits"].sum()
        with pytest.raises(
            ValueError, match=rf"is not of this rank's share of epoch {epoch}: .*replaced"
        ):
            pruner.update(torch.ones(len(kept)), kept)
        assert pruner.scores["visits"].sum() == before
        assert pruner.current.num_recorded == 0


class Seeds(Numbers):
    """Sample i is the seed that its worker has for random transforms."""

    def __getitem__(self, index):
        return torch.initial_seed()


def test_the_workers_of_ranks_have_seeds_of_their_own():
    seeds = []
    for options in ({}, *({"rank": rank, "num_replicas": 3} for rank in range(3))):
        loader = DynamicPruner(Seeds(12), 2, **options).loader(4, num_workers=1)
        ((_, batch), *_) = loader
        seeds.append(int(batch[0]))
    single, first, *others = seeds
    assert single == first
    assert len({first, *others}) == 3


@pytest.mark.parametrize(("every", "warns"), [(2, True), (3, True), (1, False)])
def test_a_loader_shared_out_twice_is_noticed(every, warns, recwarn):
    """As accelerator.prepare does; a broken-off epoch skips nothing."""
    pruner = DynamicPruner(Numbers(64), 3, rank=0, num_replicas=2, layout=UNMERGED)
    for step, (samples, batch) in enumerate(pruner.loader(4)):
        if every == 1 and step == 5:
            break
        if step % every == every - 1:
            pruner.record(batch, samples)
    pruner.set_epoch(1)
    said = [str(warning.message) for warning in recwarn]
    assert [("shared out among the ranks a second time" in text) for text in said] == [True] * warns
