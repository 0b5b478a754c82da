"""Several processes that train one model: equal shares of one selection, one set of scores."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from helpers import Numbers, random_losses
from infobatch import DynamicPruner, weighted_mean

LAYOUTS = [(57, 2, 8), (57, 3, 4), (33, 2, 16), (40, 4, 5), (41, 4, 2), (7, 3, 2)]


def ranks(size, num_replicas, batch_size, drop_last=False, **options):
    """The pruners of all ranks in their first pruned epoch, with equal scores, and their loaders."""
    losses, made = random_losses(size), []
    for rank in range(num_replicas):
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


@pytest.mark.parametrize(("size", "num_replicas", "batch_size"), LAYOUTS)
def test_the_ranks_mean_is_the_mean_over_the_real_global_batch(size, num_replicas, batch_size):
    losses = random_losses(size, seed=5)
    made = ranks(size, num_replicas, batch_size)
    weights = made[0][0].selection.weights
    for step in zip(*(list(loader) for _, loader in made), strict=True):
        means, real = [], []
        for (pruner, _), (samples, batch) in zip(made, step, strict=True):
            assert batch.tolist() == np.where(samples < 0, ~samples, samples).tolist()
            means.append(float(pruner.update(losses[batch.long()], samples)))
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


def test_two_of_16_select_as_one_of_32():
    one = ranks(200, 1, 32, drop_last=True)[0][0]
    two = ranks(200, 2, 16, drop_last=True)
    assert torch.equal(one.selection.weights, two[0][0].selection.weights)
    assert torch.equal(one.current.order, two[1][0].current.order)


PROGRAM = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner
    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
        def make():
            pruner = DynamicPruner(range(57), 4)
            return pruner, pruner.loader(8)
        pruner, loader = make()
        orders = []
        for epoch in pruner.epochs():
            for step, (samples, batch) in enumerate(loader):
                pruner.update(losses[batch] / (epoch + 1), samples)
                orders.append((epoch, samples.tolist()))
                if (epoch, step) == (2, 0):
                    middle = (len(orders), pruner.state_dict())
        resumed, loader = make()
        resumed.load_state_dict(middle[1])
        rest = []
        for epoch in resumed.epochs():
            for samples, batch in loader:
                resumed.update(losses[batch] / (epoch + 1), samples)
                rest.append((epoch, samples.tolist()))
        assert rest == orders[middle[0]:], (rest, orders[middle[0]:])
        state = pruner.state_dict()
        resumed_state = resumed.state_dict()
        for name, column in state["scores"]["columns"].items():
            assert torch.equal(column, resumed_state["scores"]["columns"][name]), name
        torch.save([state, orders], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_two_processes_share_scores_and_resume(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    states, orders = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    for name in ("last_loss", "visits"):
        one, other = (state["scores"]["columns"][name] for state in states)
        assert torch.equal(one, other)
    assert torch.equal(states[0]["weights"], states[1]["weights"])
    visits = states[0]["scores"]["columns"]["visits"]
    trained = [i for order in orders for _, samples in order for i in samples if i >= 0]
    assert visits.tolist() == np.bincount(trained, minlength=57).tolist()
    assert [h[1:] for h in states[0]["history"]] == [h[1:] for h in states[1]["history"]]
    assert all(selected == recorded for _, selected, recorded in states[0]["history"])
