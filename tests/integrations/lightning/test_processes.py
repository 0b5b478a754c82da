"""Lightning with pruning in two processes."""

import textwrap

import pytest
import torch

from helpers import launch
from helpers.processes import TESTS

pytest.importorskip("lightning")

from helpers.language import parameters
from helpers.lightning import BATCH, MARKS, VARYING, Module, new_trainer
from helpers.points import SIZE, points
from infobatch.integrations.lightning import PruningCallback

pytestmark = MARKS

PROGRAM = """
    import gc
    import sys

    import torch
    import torch.distributed as dist
    from lightning.pytorch.callbacks import ModelCheckpoint
    from helpers.lightning import BATCH, SMALLER, VARYING, Module, Stock, fit, new_trainer
    from helpers.points import SIZE, points
    from helpers.language import FullOrder, parameters
    from torch.utils.data import DataLoader

    from infobatch import DynamicPruner, IndexedCollate, IndexedDataset, NoPruning

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    ddp = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": 2}

    class Share(FullOrder):
        def __len__(self):
            return self.size // 2

        def __iter__(self):
            return iter(list(super().__iter__())[rank::2])

    def without_schedule(kind):
        class Plain(kind):
            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        return Plain()

    def in_a_plain_loader():
        pruner = DynamicPruner(points(), 1, policy=NoPruning(), rank=rank, num_replicas=2)
        loader = DataLoader(
            IndexedDataset(points()), BATCH, sampler=pruner.sampler(BATCH), collate_fn=IndexedCollate()
        )
        module = without_schedule(Module)
        module.pruner = pruner
        new_trainer(max_epochs=1, **ddp).fit(module, loader)
        return module.batches

    def main():
        data = torch.utils.data.TensorDataset(*points(48)[:])
        stock, trainer = without_schedule(Stock), new_trainer(use_distributed_sampler=False, **ddp)
        trainer.fit(stock, DataLoader(data, BATCH, sampler=Share(48, 0)))
        unpruned, _, _ = fit({"policy": NoPruning()}, without_schedule(Module), data=data, **ddp)

        saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
        whole, callback, trainer = fit(callbacks=[saving], workers=2, **ddp)
        assert whole.optimizers().param_groups[0]["lr"] == 0
        first = whole.updates[whole.batch_counts[0] - 1]
        for step in (2, first, first + 1):
            path = f"{folder}/step={step}.ckpt"
            resumed, resumed_callback, _ = fit(
                resume=path, use_distributed_sampler=step == 2, **ddp
            )
            assert resumed.seen == whole.seen[whole.updates.index(step) + 1 :], step
            assert torch.equal(parameters(resumed), parameters(whole)), step
            scores = callback.pruner.state_dict()["scores"]["columns"]
            for name, column in resumed_callback.pruner.state_dict()["scores"]["columns"].items():
                assert torch.equal(column.nan_to_num(-1), scores[name].nan_to_num(-1))
        smaller, of_smaller, _ = fit(SMALLER, **ddp)
        assert smaller.batch_counts == [7] * 4
        smaller = smaller.batches[-7:], of_smaller.pruner.selection.indices.tolist()
        ends = [parameters(module) for module in (stock, unpruned, whole)]
        order = callback.pruner.current.order
        found = [ends, whole.seen, trainer.global_step, order, smaller, in_a_plain_loader()]
        torch.save(found, f"{folder}/{rank}.pt")

    try:
        main()
        gc.collect()  # models that outlive the process group can abort the process
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


def test_two_processes_train_one_selection(tmp_path):
    one, two = launch(PROGRAM, 2, tmp_path)
    ends, seen, num_updates, order, (smaller, selected), plain = one
    others, other_seen, *_, (other_smaller, _), other_plain = two
    assert [len(batch) for batch in smaller] == [len(batch) for batch in other_smaller]
    assert sorted(i for batch in smaller + other_smaller for i in batch if i >= 0) == selected
    stock, unpruned, whole = ends
    assert (stock - unpruned).abs().max() < 1e-6
    assert all(torch.equal(*pair) for pair in zip(ends, others, strict=True))

    # One process with batches twice as large trains the same samples, step by step, to the same end.
    alone, callback = Module(), PruningCallback(**VARYING)
    trainer = new_trainer(callbacks=[callback], accumulate_grad_batches=2)
    trainer.fit(alone, callback.loader(points(), 2 * BATCH))
    assert trainer.global_step == num_updates
    assert [epoch for epoch, _ in seen] == [epoch for epoch, _ in other_seen]
    steps = [mine + theirs for (_, mine), (_, theirs) in zip(seen, other_seen, strict=True)]
    real = [sorted(index for index in step if index >= 0) for step in steps]
    assert real == [sorted(batch) for batch in alone.batches]
    last = [index for (epoch, _), step in zip(seen, real, strict=True) for index in step if epoch == 3]
    assert sorted(last) == sorted(order.tolist()), "no sample twice, none missing"
    assert (parameters(alone) - whole).abs().max() < 1e-6

    # Lightning leaves a plain loader with the pruner's sampler alone.
    assert sorted(index for batch in plain + other_plain for index in batch) == list(range(SIZE))


SCRIPT = """
    import torch
    from helpers.lightning import VARYING, Module, fit
    from helpers.points import points
    from infobatch import DynamicPruner

    if __name__ == "__main__":
        before = DynamicPruner(points(), 1)
        module, callback, trainer = fit(devices=2, strategy="ddp")
        found = [before.replicas.num_replicas, callback.pruner.replicas.num_replicas, module.batches]
        torch.save(found, f"{trainer.global_rank}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
"""

AS_IF_TYPED = """
    import os
    import runpy
    import sys

    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        del os.environ[name]
    os.chdir(sys.argv[3])
    sys.argv = ["script.py"]
    runpy.run_path("script.py", run_name="__main__")
"""


def test_lightning_starts_the_other_process(tmp_path):
    """Why the callback makes the pruner: until the fit, the first process is the only one."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    ((before, inside, one),) = launch(AS_IF_TYPED, 1, tmp_path, [str(TESTS)])
    _, other_inside, two = torch.load(tmp_path / "1.pt")
    assert before == 1
    assert inside == other_inside == 2
    assert len(one) == len(two)
    first = [index for batch in one[:7] + two[:7] for index in batch if index >= 0]
    assert sorted(first) == list(range(SIZE))


FABRIC = """
    import sys

    import torch
    from lightning.fabric import Fabric
    from helpers import Numbers
    from infobatch import DynamicPruner, NoPruning

    fabric = Fabric(accelerator="cpu", devices=2)
    fabric.launch()
    seen = []
    for shrink in ("steps", "batches"):
        pruner = DynamicPruner(Numbers(50), 2, policy=NoPruning(), shrink=shrink)
        loader = fabric.setup_dataloaders(pruner.loader(4))
        next(iter(loader))  # which Fabric counts as an epoch
        for _ in pruner.epochs():
            seen.append([])
            for indices, batch in loader:
                pruner.record(batch, indices)
                seen[-1] += indices.tolist()
    torch.save(seen, f"{sys.argv[3]}/{fabric.global_rank}.pt")
    fabric.barrier()
    torch.distributed.destroy_process_group()
"""


def test_fabric_does_not_share_out_a_share(tmp_path):
    one, two = launch(FABRIC, 2, tmp_path)
    assert len(one) == 4
    for first, second in zip(one, two, strict=True):
        assert sorted(first + second) == list(range(50))
