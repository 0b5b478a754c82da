"""Accelerate: a loader that is shared out once, and checkpoints that hold the pruner."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from helpers import Numbers, error_without, launch
from helpers.language import FullOrder, parameters
from helpers.points import SIZE, new_layers, points
from infobatch import DynamicPruner, NoPruning, Sharded

pytest.importorskip("accelerate")

from accelerate import Accelerator

from helpers.accelerate import BATCH, Run, new_pruner
from infobatch.integrations.accelerate import pruned_loader

pytestmark = pytest.mark.integrations


@pytest.mark.parametrize("num_accumulated", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nothing_pruned_is_accelerates_own_training(num_accumulated, smoothing):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=num_accumulated)
    model = new_layers()
    model, optimizer, loader = accelerator.prepare(
        model,
        torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        DataLoader(points(), BATCH, sampler=FullOrder(SIZE, 0)),
    )
    num_steps = 4 * len(loader)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer.optimizer, 1.0, 0.0, num_steps)
    for _ in range(4):
        for step, (inputs, labels) in enumerate(loader):
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(inputs), labels, label_smoothing=smoothing))
                optimizer.step()
                # A schedule of batches, which progress counts by samples.
                for _ in range((step % num_accumulated + 1) * accelerator.sync_gradients):
                    schedule.step()
                optimizer.zero_grad()
    ours = Run(num_accumulated, NoPruning(), smoothing).train()
    assert (parameters(model) - ours.parameters).abs().max() < 1e-6


@pytest.mark.parametrize("num_accumulated", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_pruned_training_is_a_plain_loops(num_accumulated, workers, shrink):
    options = {"shrink": shrink, "num_workers": workers, "persistent_workers": workers > 0}
    ours = Run(num_accumulated, **options).train()
    pruner, model, seen = new_pruner(shrink=shrink), new_layers(), []
    loader = pruner.loader(BATCH)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, pruner.full_steps)
    schedule = pruner.lr_scheduler(schedule)
    for _ in pruner.epochs():
        batches = list(loader)
        for step, (indices, (inputs, labels)) in enumerate(batches):
            losses = F.cross_entropy(model(inputs), labels, reduction="none")
            (pruner.update(losses, indices) / num_accumulated).backward()
            seen.append(indices.tolist())
            if (step + 1) % num_accumulated == 0 or step + 1 == len(batches):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    assert ours.seen == seen
    assert torch.equal(ours.pruner.selection.weights, pruner.selection.weights)
    assert (parameters(model) - ours.parameters).abs().max() < 1e-6
    assert ours.schedule.get_last_lr() == schedule.get_last_lr() == [0.0]
    assert 0 < ours.pruner.report().saved < 1
    assert shrink == "steps" or len(seen) == pruner.full_steps


@pytest.mark.parametrize("num_accumulated", [1, 3])
def test_a_prepared_optimizers_rates_are_multiplied_while_it_updates(num_accumulated):
    rates = []

    class Noting(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=num_accumulated)
    pruner = new_pruner()
    loader = pruned_loader(accelerator, pruner, BATCH)
    model = new_layers()
    model, optimizer = accelerator.prepare(model, Noting(model.parameters(), 0.1))
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    schedule, expected = pruner.lr_scheduler(constant, scaling="linear"), []
    for _ in pruner.epochs():
        for indices, (inputs, labels) in loader:
            with accelerator.accumulate(model):
                losses = F.cross_entropy(model(inputs), labels, reduction="none")
                accelerator.backward(pruner.update(losses, indices))
                optimizer.step()
                if accelerator.sync_gradients:
                    expected.append(0.1 * pruner.mean_weight)
                    schedule.step()
                optimizer.zero_grad()
            assert optimizer.param_groups[0]["lr"] == 0.1
    assert rates == pytest.approx(expected)
    assert min(rates) == 0.1 < 0.15 < max(rates)


@pytest.mark.parametrize("num_accumulated", [1, 3])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_resumed_run_is_the_uninterrupted_one(num_accumulated, shrink, tmp_path):
    whole = Run(num_accumulated, shrink=shrink).train()
    ends = np.cumsum([-(-13 // num_accumulated), 4])
    for num_updates in (2, ends[0], ends[0] + 1):  # within an epoch, at its end, in a pruned one
        folder = tmp_path / str(num_updates)
        first = Run(num_accumulated, shrink=shrink).train(num_updates, folder)
        resumed = Run(num_accumulated, shrink=shrink)
        resumed.accelerator.load_state(folder)
        resumed.train()
        assert first.seen + resumed.seen == whole.seen
        assert torch.equal(resumed.parameters, whole.parameters)
        for column in ("last_loss", "visits"):
            assert torch.equal(resumed.pruner.scores[column], whole.pruner.scores[column])


def test_a_raw_loader_loses_the_tail_of_what_is_accumulated():
    """Why the loader is one of Accelerate's: a raw one does not tell where an epoch ends."""
    pruner = DynamicPruner(Numbers(32), num_epochs=1)

    def count_updates(make_loader):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
        model, updates = accelerator.prepare(torch.nn.Linear(1, 1)), 0
        for _ in make_loader(accelerator):
            with accelerator.accumulate(model):
                updates += accelerator.sync_gradients
        return updates

    assert count_updates(lambda accelerator: pruner.loader(BATCH)) == 2
    assert count_updates(lambda accelerator: pruned_loader(accelerator, pruner, BATCH)) == 3


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_prepare_leaves_the_loader_alone(shrink):
    accelerator = Accelerator(cpu=True)
    loader = pruned_loader(accelerator, new_pruner(shrink=shrink), BATCH)
    assert accelerator.prepare(loader) is loader
    assert accelerator.prepare_data_loader(loader) is loader


def test_iterating_begins_no_epoch():
    pruner = DynamicPruner(Numbers(20), num_epochs=3)
    loader = pruned_loader(Accelerator(cpu=True), pruner, BATCH)
    for _ in range(3):  # Accelerate's own loader would be in its third epoch by now
        assert len(list(loader)) == 5
    assert pruner.epoch == 0
    for indices, batch in loader:
        pruner.record(batch, indices)
    with pytest.raises(RuntimeError, match=r"epoch 0 is finished.*Begin the next one"):
        list(loader)
    loader.set_epoch(1)
    assert pruner.epoch == 1


@pytest.mark.parametrize("options", [{}, {"drop_last": True}], ids=["all", "drop_last"])
@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_what_is_trained_is_gathered(shrink, options):
    """Accelerate cuts a last batch to what is left over of the whole dataset."""
    accelerator, pruner = Accelerator(cpu=True), new_pruner(shrink=shrink)
    loader = pruned_loader(accelerator, pruner, 16, **options)
    for _ in pruner.epochs():
        trained, gathered = [], []
        for indices, (inputs, _) in loader:
            pruner.record(inputs[:, 0].abs(), indices)
            trained += indices.tolist()
            gathered += accelerator.gather_for_metrics(torch.as_tensor(indices)).tolist()
        assert gathered == trained
    assert pruner.report().saved > 0


def test_the_pruner_is_registered_once():
    accelerator, pruner = Accelerator(cpu=True), new_pruner()
    before = len(accelerator._custom_objects)
    pruned_loader(accelerator, pruner, BATCH)
    pruned_loader(accelerator, pruner, BATCH)
    assert len(accelerator._custom_objects) == before + 1


def test_a_pruner_for_other_processes_is_refused():
    pruner = new_pruner(rank=0, num_replicas=2)
    with pytest.raises(ValueError, match=r"for 2 processes and the accelerator has 1.*before the Dyn"):
        pruned_loader(Accelerator(cpu=True), pruner, BATCH)


def test_sharded_scores_of_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    layout = Sharded(2, reduce=lambda values: values)
    pruner = DynamicPruner(points(), 2, layout=layout, rank=0, num_replicas=2)
    with pytest.raises(ValueError, match=r"first process alone.*make the pruner without it, or take"):
        pruned_loader(Accelerator(cpu=True), pruner, BATCH)


def test_without_accelerate_the_extra_is_named(tmp_path):
    said = error_without(["accelerate"], "infobatch.integrations.accelerate", tmp_path)
    assert "pip install 'infobatch[accelerate]'" in said


PROGRAM = """
    import gc
    import sys
    import torch
    import torch.distributed as dist
    from accelerate import Accelerator
    from helpers.accelerate import BATCH, Run, new_pruner

    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    def main():
        whole = Run(3).train()
        first = Run(3).train(6, f"{folder}/state")
        resumed = Run(3)
        resumed.accelerator.load_state(f"{folder}/state")
        resumed.train()
        assert torch.equal(whole.parameters, resumed.parameters)
        assert first.seen + resumed.seen == whole.seen

        smaller = Run(3, shrink="batches").train()
        assert len(smaller.seen) == smaller.pruner.full_steps
        last = smaller.seen[-7:], smaller.pruner.selection.indices.tolist()

        pruner, accelerator = new_pruner(), Accelerator(cpu=True)
        naive = accelerator.prepare(pruner.loader(BATCH))
        kept, said = [], ""
        try:
            for indices, (inputs, _) in naive:
                kept.append(len(indices))
                pruner.record(inputs[:, 0].abs(), indices)
        except RuntimeError as error:
            said = str(error)
        order = whole.pruner.current.order.tolist()
        made = [whole.seen, whole.num_updates, order, kept, said, last]
        torch.save(made, f"{folder}/{rank}.pt")

    try:
        main()
        gc.collect()  # models that outlive the process group can abort the process
        dist.barrier()
    finally:
        dist.destroy_process_group()
"""


def test_two_processes_train_one_selection(tmp_path):
    one, two = launch(PROGRAM, 2, tmp_path)
    seen, num_updates, order, kept, said, (smaller, selected) = one
    assert [len(batch) for batch in smaller] == [len(batch) for batch in two[5][0]]
    assert sorted(i for batch in smaller + two[5][0] for i in batch if i >= 0) == selected
    assert [len(batch) for batch in seen] == [len(batch) for batch in two[0]]
    assert num_updates == two[1]
    assert sorted(i for part in (seen, two[0]) for batch in part[:7] for i in batch) == list(range(SIZE))
    last = -(-len(order) // (2 * BATCH))
    trained = [i for part in (seen, two[0]) for batch in part[-last:] for i in batch if i >= 0]
    assert sorted(trained) == sorted(order), "no sample twice, none missing"
    # The naive way, told by the first batches that show it.
    assert (len(kept), len(two[3])) == (3, 2)
    for text in (said, two[4]):
        assert "the loader was shared out among the 2 ranks a second time" in text
