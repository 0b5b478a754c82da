"""A device mesh of data and tensor parallelism: peers draw the same samples, scores are merged once."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

from helpers import check_same_history, launch, made_once, random_losses
from infobatch import DynamicPruner, InfoBatch, Sharded, output_gradient_norms

fsdp = pytest.importorskip("torch.distributed.fsdp")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="FSDP2 came with torch 2.6"),
]

SIZE, EPOCHS, GLOBAL_BATCH = 57, 4, 8
MESH = (2, 2)  # data-parallel replicas, ranks that share the model of each
SHARDS = 6


def points():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SIZE, 6, generator=generator)
    return TensorDataset(inputs, torch.randint(3, (SIZE,), generator=generator))


def new_model():
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


def new_pruner(**options):
    return DynamicPruner(points(), EPOCHS, policy=InfoBatch(0.9), delta=1, **options)


def train(pruner, model, batch_size):
    """Each step's samples and their weights."""
    optimizer, steps = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), []
    loader = pruner.loader(batch_size)
    for _ in pruner.epochs():
        for indices, (inputs, labels) in loader:
            logits = model(inputs)
            losses = F.cross_entropy(logits, labels, reduction="none")
            output_gradient_norms(losses, logits)  # which changes nothing
            pruner.update(losses, indices).backward()
            optimizer.step()
            optimizer.zero_grad()
            weights = pruner.weights(indices).tolist()
            steps.append(dict(zip(indices.tolist(), weights, strict=True)))
    return steps


def train_on(losses, pruner, batch_size):
    """Each epoch's samples on this rank and their weights, with losses of their own."""
    loader, epochs = pruner.loader(batch_size), []
    for epoch in pruner.epochs():
        epochs.append({})
        for indices, _ in loader:
            real = np.where(indices < 0, ~indices, indices)
            pruner.update(losses[real] / (epoch + 1), indices)
            weights = pruner.weights(indices).tolist()
            epochs[-1].update((i, w) for i, w in zip(indices.tolist(), weights, strict=True) if i >= 0)
    return epochs


PROGRAM = """
    import sys, torch, torch.distributed as dist
    from helpers import random_losses
    from infobatch import Sharded
    from infobatch.distributed import sum_over_group
    from test_mesh import GLOBAL_BATCH, MESH, SHARDS, SIZE, new_model, new_pruner, train, train_on
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    rank, folder = int(sys.argv[1]), sys.argv[3]

    def spread(model, mesh):
        parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh["dp"])
        return fully_shard(model, mesh=mesh["dp"])

    def main():
        mesh, made = init_device_mesh("cpu", MESH, mesh_dim_names=("dp", "tp")), {}
        data = mesh["dp"]
        place = {"rank": data.get_local_rank(), "num_replicas": data.size()}
        batch_size = GLOBAL_BATCH // data.size()

        pruner, model = new_pruner(**place), spread(new_model(), mesh)
        made["steps"] = train(pruner, model, batch_size)
        made["state"] = pruner.state_dict()
        values = [p.full_tensor().detach().flatten() for p in model.parameters()]
        made["parameters"] = torch.cat(values)

        losses = random_losses(SIZE)
        reduce = lambda values: sum_over_group(values, data.get_group())
        sharded = new_pruner(layout=Sharded(SHARDS, reduce), **place)
        made["sharded"] = train_on(losses, sharded, batch_size)
        made["sharded state"] = sharded.state_dict()
        made["sums"] = [int(sum_over_group(torch.ones(()), g)) for g in (data.get_group(), None)]

        # Without coordinates of the mesh.
        made["naive"] = next(iter(new_pruner().loader(batch_size)))[0].tolist()
        try:
            new_pruner(layout=Sharded(SHARDS), **place)
        except ValueError as error:
            made["said"] = str(error)
        over_all = Sharded(SHARDS, lambda values: sum_over_group(values, None))
        made["naive sharded"] = train_on(losses, new_pruner(layout=over_all, **place), batch_size)
        torch.save(made, f"{folder}/{rank}.pt")

    dist.init_process_group("gloo")
    try:
        main()
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of four processes made of it."""
    path = [str(Path(__file__).parent)]
    folder = made_once("mesh", lambda folder: launch(PROGRAM, 4, folder, path), tmp_path_factory)
    return [torch.load(folder / f"{rank}.pt") for rank in range(4)]


def merged(parts):
    """One mapping of them all, no sample in two; without repeats."""
    together = {i: value for part in parts for i, value in part.items() if i >= 0}
    assert len(together) == sum(i >= 0 for part in parts for i in part), "a sample twice"
    return together


def test_a_mesh_trains_what_one_process_does(ranks):
    pruner, model = new_pruner(), new_model()
    steps = train(pruner, model, GLOBAL_BATCH)
    assert 0 < pruner.report().saved < 1
    one, its_peer, other, others_peer = ranks
    assert one["steps"] == its_peer["steps"]
    assert other["steps"] == others_peer["steps"]
    assert [merged(parts) for parts in zip(one["steps"], other["steps"], strict=True)] == steps
    expected = pruner.state_dict()
    for rank in ranks:
        values = torch.cat([p.detach().flatten() for p in model.parameters()])
        assert (rank["parameters"] - values).abs().max() < 1e-6
        check_same_history(rank["state"]["history"], expected["history"])
        assert torch.equal(rank["state"]["weights"], expected["weights"])
        columns = rank["state"]["scores"]["columns"]
        assert torch.equal(columns["visits"], pruner.scores["visits"])
        torch.testing.assert_close(columns["last_loss"], pruner.scores["last_loss"], rtol=0, atol=1e-6)
        assert torch.equal(columns["last_loss"], one["state"]["scores"]["columns"]["last_loss"])


def test_sharded_scores_are_summed_over_the_data_parallel_group(ranks):
    alone = new_pruner(layout=Sharded(SHARDS))
    epochs = train_on(random_losses(SIZE), alone, GLOBAL_BATCH)
    assert len(epochs[1]) < SIZE
    one, its_peer, other, others_peer = (rank["sharded"] for rank in ranks)
    assert one == its_peer
    assert other == others_peer
    assert [merged(parts) for parts in zip(one, other, strict=True)] == epochs
    expected = alone.state_dict()
    for rank in ranks:
        check_same_history(rank["sharded state"]["history"], expected["history"])
        assert torch.equal(rank["sharded state"]["left"], expected["left"])
        assert rank["sums"] == [2, 4]


def test_without_the_meshs_coordinates_peers_draw_other_samples(ranks):
    one, its_peer, *_ = (set(rank["naive"]) for rank in ranks)
    assert not one & its_peer


def test_a_sum_over_the_world_counts_samples_twice(ranks):
    epochs = train_on(random_losses(SIZE), new_pruner(layout=Sharded(SHARDS)), GLOBAL_BATCH)
    one, _, other, _ = (rank["naive sharded"] for rank in ranks)
    assert [merged(parts) for parts in zip(one, other, strict=True)] != epochs
    for rank in ranks:
        assert "num_replicas is 2, but the process group has 4 ranks" in rank["said"]
        assert "sums over the data-parallel group (sum_over_group)" in rank["said"]
