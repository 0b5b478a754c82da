"""Policies that look at what they leave out: left-out samples are observed, and their scores follow."""

import copy
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from helpers import UNMERGED, Numbers, launch, random_losses
from infobatch import DynamicPruner, IndexedCollate, IndexedDataset, RandomPruning, Replicated, Sharded
from infobatch.integrations.refusals import check_run_options
from infobatch.policies import IES, Kakurenbo
from infobatch.streams.filter import StreamFilter


class Looking(RandomPruning):
    """Leaves out at random, and wants to know the losses all the same."""

    refreshes = True


def in_pruned_epoch(size=60, **options):
    """A pruner at the end of its first pruned epoch."""
    pruner = DynamicPruner(Numbers(size), 8, **{"policy": Looking(0.4), **options})
    pruner.loader(8)
    pruner.record(random_losses(size), np.arange(size))
    pruner.set_epoch(1)
    losses = random_losses(size, seed=1)
    indices = np.fromiter(pruner.current.draws(), np.int64)
    pruner.record(losses[indices], indices)
    return pruner, losses


def test_what_is_left_out_is_what_was_not_selected():
    pruner, _ = in_pruned_epoch()
    assert len(pruner.left_out) == 24
    assert pruner.left_out.dtype == np.int64
    assert sorted([*pruner.left_out, *pruner.selection.indices.tolist()]) == list(range(60))


def test_observed_losses_are_scores_and_no_visits():
    pruner, losses = in_pruned_epoch()
    before = pruner.scores["visits"].clone()
    progress, left_out = pruner.progress, pruner.left_out
    for part in np.array_split(left_out, 3):
        pruner.observe(losses[part], part)
    assert torch.equal(pruner.scores["last_loss"], losses)
    assert torch.equal(pruner.scores["visits"], before)
    assert len(pruner.left_out) == 0
    assert pruner.progress == progress
    assert pruner.current.num_recorded == 36
    assert pruner.report().num_recorded == 60 + 36


def test_observed_losses_wait_on_the_device_as_trained_ones_do():
    pruner, losses = in_pruned_epoch(size=12)
    left_out = pruner.left_out
    pruner.observe(losses[left_out].double(), torch.from_numpy(left_out), torch.arange(5) != 2)
    kept = np.delete(left_out, 2)
    assert torch.equal(pruner.scores["last_loss"][kept], losses[kept])
    assert float(pruner.scores["last_loss"][left_out[2]]) == float(random_losses(12)[left_out[2]])


def test_an_epoch_does_not_begin_while_losses_are_missing():
    pruner, losses = in_pruned_epoch()
    first, *rest = pruner.left_out
    pruner.observe(losses[[first]], [first])
    with pytest.raises(RuntimeError, match=r"those of 23 left out of epoch 1 were not observed") as told:
        pruner.set_epoch(2)
    for line in (
        "left_out = Subset(IndexedDataset(dataset), pruner.left_out)",
        "for indices, batch in DataLoader(left_out, batch_size, collate_fn=IndexedCollate()):",
        "    pruner.observe(losses_of(batch), indices)",
    ):
        assert line in str(told.value)
    pruner.observe(losses[rest], rest)
    pruner.set_epoch(2)
    assert pruner.history[1].num_recorded == 36


def test_the_lines_that_the_error_names_do_it():
    pruner, losses = in_pruned_epoch()
    left_out = Subset(IndexedDataset(pruner.dataset), pruner.left_out)
    for indices, batch in DataLoader(left_out, 7, collate_fn=IndexedCollate()):
        assert batch.tolist() == indices.tolist()
        pruner.observe(losses[indices], indices)
    pruner.set_epoch(2)


def test_other_policies_ask_for_nothing():
    pruner, _ = in_pruned_epoch(policy=RandomPruning(0.4))
    pruner.set_epoch(2)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (None, r"sample \d+ is trained in epoch 1, .*observe only what is left out: pruner.left_out"),
        (60, "sample 60 does not exist: the dataset has 60"),
        (-1, "sample -1 does not exist"),
    ],
)
@pytest.mark.parametrize("layout", [Replicated(), Sharded(4)])
def test_only_what_is_left_out_is_observed(sample, message, layout):
    pruner, _ = in_pruned_epoch(layout=layout)
    if sample is None:
        sample = next(iter(set(range(60)) - set(pruner.left_out.tolist())))
    before = pruner.scores["last_loss"].clone()
    with pytest.raises(ValueError, match=message):
        pruner.observe(torch.ones(2), [pruner.left_out[0], sample])
    assert torch.equal(pruner.scores["last_loss"], before)


def test_a_policy_that_reads_a_signal_gets_it_of_what_it_leaves_out_too():
    pruner = DynamicPruner(Numbers(40), 8, policy=Kakurenbo(), target=0.2)
    pruner.loader(8)
    losses = random_losses(40)
    assert pruner.signals == ("confidences",)
    pruner.record(losses, np.arange(40), confidences=torch.full((40,), 0.9))
    pruner.set_epoch(1)
    left_out = pruner.left_out
    with pytest.raises(ValueError, match=r"reads confidences, and none came .* give confidences=\.\.\."):
        pruner.observe(losses[left_out], left_out)
    pruner.observe(losses[left_out], left_out, confidences=torch.full((len(left_out),), 0.2))
    confidences = pruner.scores["confidence"]
    assert set(confidences[left_out].tolist()) == {np.float32(0.2)}
    assert set(confidences[pruner.selection.indices].tolist()) == {np.float32(0.9)}


@pytest.mark.parametrize("layout", [Replicated(), Sharded(4)])
@pytest.mark.parametrize("num_observed", [0, 5, 24])
def test_a_checkpoint_knows_what_was_observed(layout, num_observed):
    pruner, losses = in_pruned_epoch(layout=layout)
    observed, rest = np.split(pruner.left_out, [num_observed])
    if num_observed:
        pruner.observe(losses[observed], observed)
    state = copy.deepcopy(pruner.state_dict())
    resumed = DynamicPruner(Numbers(60), 8, policy=Looking(0.4), layout=layout)
    resumed.loader(8)
    resumed.load_state_dict(state)
    assert resumed.current.finished
    assert resumed.left_out.tolist() == rest.tolist()
    assert resumed.current.num_recorded == pruner.current.num_recorded
    for each in (pruner, resumed):
        if len(rest):
            with pytest.raises(RuntimeError, match=f"those of {len(rest)} left out"):
                each.set_epoch(2)
            each.observe(losses[rest], rest)
        each.set_epoch(2)
        assert [counts.num_recorded for counts in each.history] == [60, 36]
    assert resumed.scores["last_loss"].tolist() == pruner.scores["last_loss"].tolist()


@pytest.mark.parametrize("observed", [0, 10, 24])
def test_a_state_from_before_observing_goes_on_with_it(observed):
    """Saved after an epoch's last batch: the epoch is given once more, without batches."""
    pruner, losses = in_pruned_epoch()
    part = pruner.left_out[:observed]
    if observed:
        pruner.observe(losses[part], part)
    resumed = DynamicPruner(Numbers(60), 8, policy=Looking(0.4))
    loader = resumed.loader(8)
    resumed.load_state_dict(pruner.state_dict())
    given = []
    for epoch in resumed.epochs():
        batches = [indices for indices, _ in loader]
        given.append((epoch, len(batches)))
        assert len(loader) == len(batches)
        for indices in batches:
            resumed.record(losses[indices], indices)
        left_out = resumed.left_out
        if len(left_out):
            resumed.observe(losses[left_out], left_out)
    assert [epoch for epoch, _ in given] == [*range(1 if observed < 24 else 2, 8)]
    assert observed == 24 or given[0] == (1, 0)
    assert resumed.progress == 1


def test_streams_and_trainers_refuse_what_they_cannot_give():
    message = r"IES\(threshold=0.001\) goes by the losses of all samples, and .* does not fetch"
    with pytest.raises(ValueError, match=message):
        StreamFilter(DynamicPruner(range(20), 4, policy=IES()), key=None, batch_size=4)
    with pytest.raises(ValueError, match=message):
        check_run_options({"policy": IES()}, "the Trainer", "pruning", "TrainingArguments")
    lightning = pytest.importorskip("infobatch.integrations.lightning", exc_type=ImportError)
    with pytest.raises(ValueError, match=message):
        lightning.PruningCallback(policy=IES())


def test_replicas_share_what_is_left_out():
    shares = []
    for rank in range(3):
        options = {"rank": rank, "num_replicas": 3, "layout": UNMERGED}
        pruner = DynamicPruner(Numbers(61), 8, policy=Looking(0.4), **options)
        pruner.loader(4)
        pruner.record(random_losses(61), np.arange(61))
        pruner.set_epoch(1)
        shares.append(pruner.left_out.tolist())
    left_out = (pruner.selection.weights == 0).nonzero().flatten().tolist()
    assert sorted(chain(*shares)) == left_out
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


PROGRAM = """
    import sys, numpy as np, torch, torch.distributed as dist
    from infobatch import DynamicPruner, RandomPruning, Sharded
    from infobatch.policies import IES
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=num_replicas)

    class Looking(RandomPruning):
        refreshes = True

    def losses_of(indices, epoch):
        return torch.as_tensor((indices + 1) * 10.0 ** -epoch)

    def run(**options):
        pruner = DynamicPruner(range(50), 5, delta=1, **options)
        loader = pruner.loader(4)
        for epoch in pruner.epochs():
            for indices, _ in loader:
                real = np.where(indices < 0, ~indices, indices)
                pruner.update(losses_of(real, epoch), indices)
            if epoch == 2:  # a checkpoint between what is trained and what is looked at
                pruner.state_dict()
            left_out = pruner.left_out
            pruner.observe(losses_of(left_out, epoch), left_out) if len(left_out) else None
        return pruner

    try:
        saved = {"replicated": run(policy=IES(), target=0.3).state_dict()}
        saved["sharded"] = run(policy=Looking(0.4), layout=Sharded(4)).state_dict()
        try:
            pruner = DynamicPruner(range(50), 5, policy=Looking(0.4), layout=Sharded(4), delta=1)
            loader = pruner.loader(4)
            for epoch in pruner.epochs():
                for indices, batch in loader:
                    pruner.update(batch.float(), indices)
                if rank == 0 and len(pruner.left_out):
                    pruner.observe(torch.ones(len(pruner.left_out)), pruner.left_out)
        except RuntimeError as error:
            saved["error"] = str(error)
        torch.save(saved, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_ranks_know_what_any_of_them_observed(tmp_path):
    ranks = launch(PROGRAM, 2, tmp_path)
    columns = [saved["replicated"]["scores"]["columns"] for saved in ranks]
    numbers = torch.arange(1, 51, dtype=torch.float32)
    for name in ("last_loss", "recent_losses", "visits"):
        assert torch.equal(columns[0][name], columns[1][name])
    for epoch in range(5):
        assert columns[0]["recent_losses"][:, epoch].numpy() == pytest.approx(numbers * 10.0**-epoch)
    assert int(columns[0]["visits"].sum()) == round(0.7 * 5 * 50)
    for rank, saved in enumerate(ranks):
        mine = torch.cat([torch.arange(shard, 50, 4) for shard in range(rank, 4, 2)])
        last = saved["sharded"]["scores"]["columns"]["last_loss"]
        assert last.numpy() == pytest.approx((mine + 1) * 1e-4)
        assert "left out of epoch 1 were not observed" in saved["error"]
    assert ranks[0]["error"] == ranks[1]["error"]
