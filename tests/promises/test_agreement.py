"""Ranks that would train different samples stop with an error that names them, and do not hang."""

import pytest
import torch

from helpers import launch

PROGRAM = """
    import sys, torch, torch.distributed as dist
    from datetime import timedelta
    from infobatch import DynamicPruner, InfoBatch, RandomPruning
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    early = DynamicPruner(range(40), 3, policy=InfoBatch())
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_replicas,
        timeout=timedelta(seconds=20),
    )
    odd = rank == 1
    cases = {
        "seed": lambda: (DynamicPruner(range(40), 3, seed=5 * odd, policy=InfoBatch()), 4),
        "length": lambda: (DynamicPruner(range(40 + odd), 3, policy=InfoBatch()), 4),
        "epochs": lambda: (DynamicPruner(range(40), 3 + odd, policy=InfoBatch()), 4),
        "batch": lambda: (DynamicPruner(range(40), 3, policy=InfoBatch()), 4 + odd),
        "policy": lambda: (DynamicPruner(range(40), 3, policy=InfoBatch(0.5 + odd / 4)), 4),
        "same": lambda: (DynamicPruner(range(40), 3, policy=InfoBatch()), 4),
    }
    try:
        messages = {}
        for name, make in cases.items():
            pruner, batch_size = make()
            loader = pruner.loader(batch_size)
            try:
                for epoch in pruner.epochs():
                    for indices, batch in loader:
                        pruner.update(batch.float(), indices)
            except RuntimeError as error:
                messages[name] = f"{pruner.epoch}: {error}"
        try:
            next(early.epochs())
        except RuntimeError as error:
            messages["early"] = str(error)
        pruner, _ = cases["length"]()
        for indices, batch in pruner.loader(7):  # without set_epoch
            pruner.update(batch.float(), indices)
        try:
            pruner.set_epoch(1)
        except RuntimeError as error:
            messages["unasked"] = str(error)
        torch.save(messages, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    ranks = launch(PROGRAM, 3, tmp_path_factory.mktemp("ranks"))
    assert all(messages == ranks[0] for messages in ranks), "all ranks stop alike"
    return ranks[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("early", r"made before torch.distributed was initialized, so that each of the 3 ranks"),
        (
            "seed",
            "0: the ranks are not about to train the same epoch: seed is 0 on ranks 0, 2 and 5 on ",
        ),
        ("length", "the number of samples in the dataset is 40 on ranks 0, 2 and 41 on rank 1"),
        ("epochs", "num_epochs is 3 on ranks 0, 2 and 4 on rank 1. Give all ranks the same dataset"),
        ("batch", "batch_size is 4 on ranks 0, 2 and 5 on rank 1"),
        ("policy", "1: the ranks"),
        ("unasked", "the number of samples in the dataset is 40 on ranks 0, 2 and 41 on rank 1"),
    ],
)
def test_what_differs_is_named(messages, name, message):
    assert message in messages[name]


def test_equal_ranks_train(messages):
    assert "same" not in messages


PEERS = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner, InfoBatch
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_replicas
    )
    try:
        losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
        pruner = DynamicPruner(range(57), 4, rank=rank // 2, num_replicas=2, policy=InfoBatch())
        loader = pruner.loader(5)
        steps = []
        for epoch in pruner.epochs():
            for indices, batch in loader:
                if SPEAKS:
                    pruner.update(losses[batch] / (epoch + 1), indices)
                steps.append((epoch, indices.tolist()))
        torch.save([steps, pruner.state_dict()], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


@pytest.mark.parametrize("speaks", ["True", "rank % 2 == 1"], ids=["tensor", "pipeline"])
def test_two_ranks_of_two_peers_each(speaks, tmp_path):
    """Tensor-parallel peers record the same losses; of a pipeline only the last stage knows them."""
    saved = launch(PEERS.replace("SPEAKS", speaks), 4, tmp_path)
    steps, states = zip(*saved, strict=True)
    assert steps[0] == steps[1]
    assert steps[2] == steps[3]
    assert steps[0] != steps[2]
    losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
    visits = torch.zeros(57, dtype=torch.int32)
    last = torch.zeros(57)
    for epoch, indices in sorted(steps[0] + steps[2]):
        real = [index for index in indices if index >= 0]
        visits[real] += 1
        last[real] = losses[real] / (epoch + 1)
    for state in states:
        assert torch.equal(state["weights"], states[0]["weights"])
        assert torch.equal(state["scores"]["columns"]["visits"], visits)
        assert torch.equal(state["scores"]["columns"]["last_loss"], last)
