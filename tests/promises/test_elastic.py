"""A run saved on some number of ranks goes on with another."""

import copy

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DistributedSampler

from helpers import Numbers, launch, random_losses
from infobatch import DynamicPruner, InfoBatch, Replicated
from infobatch.policies import PercentileTiers

SIZE, EPOCHS, GLOBAL_BATCH = 57, 4, 12


class Ranks:
    """All ranks of a run in one process, trained in step; ``merge`` takes what the others have."""

    def __init__(self, num_replicas, state=None, global_batch=GLOBAL_BATCH, own=False, **options):
        self.losses = random_losses(SIZE, seed=5)
        self.pruners, self.loaders, self.schedulers = [], [], []
        for rank in range(num_replicas):
            coordinates = {"rank": rank, "num_replicas": num_replicas}
            pruner = DynamicPruner(
                Numbers(SIZE),
                EPOCHS,
                layout=Replicated(merge=self.merge),
                delta=1.0,
                **coordinates,
                **options,
            )
            sampler = DistributedSampler(range(SIZE), num_replicas, rank) if own else None
            loader = pruner.loader(global_batch // num_replicas, sampler=sampler)
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
            scheduler = pruner.lr_scheduler(LinearLR(optimizer, 1, 0.1, pruner.full_steps))
            self.pruners.append(pruner)
            self.loaders.append(loader)
            self.schedulers.append(scheduler)
        if state is not None:
            for pruner, scheduler in zip(self.pruners, self.schedulers, strict=True):
                pruner.load_state_dict(state[0])
                scheduler.load_state_dict(state[1])
                scheduler.optimizer.load_state_dict(state[2])

    def merge(self, scores, recorded):
        union = recorded.copy()
        for pruner in self.pruners:
            there = pruner.current.recorded & ~recorded
            for name in scores.columns:
                scores[name][there] = pruner.scores[name][there]
            union |= there
        return union

    def state(self):
        """What the first rank saves; the other ranks take part."""
        states = [pruner.state_dict() for pruner in self.pruners]
        scheduler = self.schedulers[0]
        return copy.deepcopy((states[0], scheduler.state_dict(), scheduler.optimizer.state_dict()))

    def train(self):
        """Each step's epoch, real samples of all ranks, weights, progress and learning rate."""
        for epochs in zip(*(pruner.epochs() for pruner in self.pruners), strict=True):
            (epoch,) = set(epochs)
            for step in zip(*self.loaders, strict=True):
                trained, marks = {}, set()
                for pruner, scheduler, (indices, batch) in zip(
                    self.pruners, self.schedulers, step, strict=True
                ):
                    weights = pruner.weights(indices).tolist()
                    for sample, weight in zip(indices.tolist(), weights, strict=True):
                        assert sample not in trained
                        assert (weight == 0) == (sample < 0)
                        if sample >= 0:
                            trained[sample] = weight
                    pruner.update(self.losses[batch.long()] / (epoch + 1), indices)
                    scheduler.optimizer.step()
                    scheduler.step()
                    marks.add((pruner.progress, scheduler.get_last_lr()[0]))
                assert len(marks) == 1, "ranks disagree about progress or learning rate"
                yield epoch, trained, *marks.pop()
            self.state()  # merges while all are still in this epoch


OPTIONS = {
    "threshold": {"policy": InfoBatch()},
    "target": {"target": 0.2},
    "tiers": {"policy": PercentileTiers()},
    "over weights": {"policy": PercentileTiers(), "normalizer": "weights"},
}
SMALLER = {"shrink": "batches", "policy": PercentileTiers()}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1), (4, 6)])
def test_a_run_goes_on_with_another_number_of_ranks(before, after, options):
    expected = list(Ranks(1, **options).train())
    assert expected[-1][2:] == (1, pytest.approx(0.01))
    run = Ranks(before, **options)
    steps, states = [], []
    for step in run.train():
        steps.append(step)
        states.append(run.state())
    assert steps == expected, "the number of ranks changes the global batches"
    for done, state in enumerate(states):
        resumed = Ranks(after, state, **options)
        assert list(resumed.train()) == expected[done + 1 :], f"resumed after step {done}"
        visits = resumed.pruners[0].state_dict()["scores"]["columns"]["visits"]
        assert torch.equal(visits, run.pruners[0].scores["visits"])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1), (1, 4), (2, 2), (3, 3)])
def test_batches_that_shrink_go_on_with_another_number_of_ranks(before, after):
    """The number of ranks changes where global batches end, by less than a sample of each rank.

    There are fewer where those of a rank would have less than two samples.
    """
    run = Ranks(before, **SMALLER)
    steps, states = [], []
    for step in run.train():
        steps.append(step)
        states.append(run.state())
    assert len(steps) == run.pruners[0].full_steps == 4 * 5
    for done, state in enumerate(states):
        resumed = Ranks(after, state, **SMALLER)
        epoch = resumed.pruners[0].epoch
        rest = list(resumed.train())
        left = [trained for number, trained, *_ in steps[done + 1 :] if number == epoch]
        then = [i for trained in left for i in trained]
        too_many = max(0, len(left) - -(-len(then) // after) // 2)
        possible = 20 - done - too_many
        assert len(rest) in (possible - 1, possible), f"resumed after step {done}"
        assert before != after or rest == steps[done + 1 :]
        now = [i for number, trained, *_ in rest if number == epoch for i in trained]
        assert sorted(then) == sorted(now)
        assert not rest or rest[-1][2] == 1


def test_a_run_goes_on_with_one_number_of_ranks_after_another():
    paper = {"policy": InfoBatch()}
    expected, steps, state, step = list(Ranks(1, **paper).train()), [], None, 0
    for num_replicas in [1, 2, 3, 4, 6, 12, 1, 3]:
        run = Ranks(num_replicas, state, **paper)
        for _, step in zip(range(2), run.train(), strict=False):
            steps.append(step)
        state = run.state()
    assert len(steps) == 16
    assert steps == expected[:16]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("options", [{}, SMALLER], ids=["steps", "batches"])
def test_with_another_global_batch_each_remaining_sample_is_trained_once(before, after, options):
    run = Ranks(before, **options)
    states = [run.state() for _ in run.train()]
    for state in states:
        resumed = Ranks(after, state, global_batch=6 * after, **options)
        epoch = resumed.pruners[0].current
        due = set(epoch.selection.indices.tolist()) - set(np.flatnonzero(epoch.recorded).tolist())
        steps = list(resumed.train())
        trained = [index for number, step, *_ in steps if number == epoch.number for index in step]
        assert len(trained) == len(due)
        assert set(trained) == due
        progress = [step[2] for step in steps]
        assert progress == sorted(progress)
        assert resumed.pruners[0].progress == 1


@pytest.mark.parametrize("shrink", ["steps", "batches"])
@pytest.mark.parametrize(("before", "after"), [(8, 16), (8, 24), (16, 8), (12, 16)])
def test_another_batch_size_neither_ends_the_run_nor_exceeds_itself(before, after, shrink):
    """Where last batches are dropped, what is left may be no whole number of the new ones."""

    def begun(batch_size, state=None):
        pruner = DynamicPruner(range(80), 3, policy=InfoBatch(), shrink=shrink)
        loader = pruner.loader(batch_size, drop_last=True)
        if state is not None:
            pruner.load_state_dict(state)
        return pruner, loader

    def train(pruner, loader):
        for epoch in pruner.epochs():
            for indices, _ in loader:
                pruner.update(random_losses(80, seed=epoch)[indices], indices)
                yield epoch, indices.tolist(), pruner.state_dict()

    for epoch, _, state in list(train(*begun(before))):
        pruner, loader = begun(after, state)
        due = int(((state["weights"] > 0) & ~state["recorded"]).sum())
        rest = [(number, len(batch)) for number, batch, _ in train(pruner, loader)]
        assert all(size == after if shrink == "steps" else size <= after for _, size in rest)
        missing = due - sum(size for number, size in rest if number == epoch)
        assert missing == due % after if shrink == "steps" else 0 <= missing < after
        assert pruner.progress == 1


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1)])
def test_a_sampler_of_ones_own_goes_on_with_another_number_of_ranks(before, after):
    options = {"own": True, "policy": InfoBatch(0)}
    run = Ranks(before, **options)
    states = [(step[2], run.state()) for step in run.train()]
    for saved, state in states:
        resumed = Ranks(after, state, **options)
        assert resumed.pruners[0].progress == pytest.approx(saved, abs=1 / (SIZE * EPOCHS))
        epoch = resumed.pruners[0].current
        number, done, finished = epoch.number, epoch.recorded.copy(), epoch.finished
        before_it = resumed.pruners[0].progress
        rest = [step for step in resumed.train() if step[0] == number]
        assert finished == (not rest)
        # DistributedSampler fills its shares with samples that others have.
        trained = {index for step in rest for index in step[1]}
        assert trained >= set(np.flatnonzero(~done).tolist())
        progress = [before_it, *(step[2] for step in rest), (number + 1) / EPOCHS]
        assert progress == sorted(progress)
        # DistributedSampler's shares are not a prefix of one order, so that a rank may have more left.
        assert not rest or rest[-1][2] == (number + 1) / EPOCHS


PROGRAM = """
    import sys, torch, torch.distributed as dist
    from infobatch import DynamicPruner
    rank, num_replicas, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_replicas
    )
    try:
        losses = torch.rand(57, generator=torch.Generator().manual_seed(0))
        pruner = DynamicPruner(range(57), 4, delta=1.0)
        loader = pruner.loader(12 // num_replicas)
        try:
            pruner.load_state_dict(torch.load(f"{folder}/../state.pt", weights_only=True))
        except FileNotFoundError:
            pass
        steps = []
        for epoch in pruner.epochs():
            for indices, batch in loader:
                pruner.update(losses[batch] / (epoch + 1), indices)
                steps.append((epoch, indices.tolist(), pruner.progress))
                if len(steps) == 6 and num_replicas > 1:
                    break
            if len(steps) == 6 and num_replicas > 1:
                break
        torch.save([steps, pruner.state_dict()], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
"""


def test_processes_go_on_with_other_processes(tmp_path):
    trained, done = np.zeros((4, 57), int), []
    for num_replicas in [2, 3, 1]:
        folder = tmp_path / str(num_replicas)
        folder.mkdir()
        saved = launch(PROGRAM, num_replicas, folder)
        for steps, _ in saved:
            for epoch, indices, _ in steps:
                real = [index for index in indices if index >= 0]
                np.add.at(trained[epoch], real, 1)
        done += [progress for *_, progress in saved[0][0]]
        torch.save(saved[-1][1], tmp_path / "state.pt")
    assert done == sorted(done)
    assert done[-1] == 1
    assert trained.max() == 1
    state = saved[0][1]
    assert trained.sum(1).tolist() == [counts[1] for counts in state["history"]] + [
        int(state["recorded"].sum())
    ]
    assert state["scores"]["columns"]["visits"].tolist() == trained.sum(0).tolist()
