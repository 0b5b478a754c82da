"""Ray Train: a loader that it leaves alone, workers that die, and another number of workers."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from helpers import check_same_history, error_without, made_once, ray_cluster
from infobatch import DynamicPruner, InfoBatch

pytest.importorskip("ray.train")

from ray import train
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model

from infobatch.integrations.ray import pruned_loader
from infobatch.loading import IndexedCollate, IndexedDataset, PrunedSampler

pytestmark = [pytest.mark.integrations, pytest.mark.slow]

SIZE, GLOBAL_BATCH = 50, 8
DIES, STOPS, SAVED = 9, 10, (8, 10)  # steps, within the first epoch that is pruned


def points():
    generator = torch.Generator().manual_seed(5)
    return TensorDataset(
        torch.randn(SIZE, 6, generator=generator), torch.randint(3, (SIZE,), generator=generator)
    )


def new_pruner():
    return DynamicPruner(points(), num_epochs=4, policy=InfoBatch(0.9), delta=1)


class Run:
    """A training in one process, or in each of Ray's workers; its state fits one file."""

    def __init__(self, make_loader, wrap=lambda model: model):
        torch.manual_seed(2)
        network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        self.model = wrap(network)
        self.pruner = new_pruner()
        self.loader = make_loader(self.pruner)
        self.optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.LinearLR(
            self.optimizer, 1.0, 0.0, total_iters=self.pruner.full_steps
        )
        self.schedule = self.pruner.lr_scheduler(schedule)
        self.parts = [network, self.optimizer, self.schedule, self.pruner]
        self.num_steps, self.seen = 0, {}

    def state_dict(self):
        return {"num_steps": self.num_steps, "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state):
        self.num_steps = state["num_steps"]
        for part, its_state in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(its_state)

    def train(self):
        """Give each step's number; ``seen`` has its samples and their weights."""
        for _ in self.pruner.epochs():
            for indices, (inputs, labels) in self.loader:
                losses = F.cross_entropy(self.model(inputs), labels, reduction="none")
                self.pruner.update(losses, indices).backward()
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
                self.num_steps += 1
                weights = self.pruner.weights(indices).tolist()
                self.seen[self.num_steps] = dict(zip(indices.tolist(), weights, strict=True))
                yield self.num_steps


def on_a_worker(config):
    """What each worker runs: the training, from the last checkpoint if there is one."""
    folder, context = Path(config["folder"]), train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    run = Run(lambda pruner: pruned_loader(pruner, GLOBAL_BATCH // num_workers), prepare_model)
    if checkpoint := train.get_checkpoint():
        with checkpoint.as_directory() as saved:
            run.load_state_dict(torch.load(f"{saved}/state.pt", weights_only=True))
    first = run.num_steps
    if first == 0:
        torch.save(loaders_compared(config["pruner"]), folder / f"loaders-{rank}.pt")
    for step in run.train():
        torch.save(run.seen, folder / f"after-{first}-{rank}.pt")
        if step in SAVED:
            report(run.state_dict(), rank)
        if first == 0 and step == DIES and rank == 1:
            train.get_all_reported_checkpoints()  # once Ray has taken the last one
            os.kill(os.getpid(), signal.SIGKILL)
        if step == STOPS and num_workers > 1:
            return
    torch.save(run.state_dict(), folder / "end.pt")


def report(state, rank):
    with tempfile.TemporaryDirectory() as place:
        torch.save(state, f"{place}/state.pt")
        train.report({}, checkpoint=Checkpoint.from_directory(place) if rank == 0 else None)


def loaders_compared(drivers_pruner):
    """What Ray makes of a plain loader, of ours, and what is said of misuse."""
    pruner = new_pruner()
    kept = pruned_loader(pruner, 4, num_workers=1, persistent_workers=True, prefetch_factor=3)
    again = prepare_data_loader(kept)
    facts = {"kept": type(again.sampler), "options": (again.persistent_workers, again.prefetch_factor)}
    plain = DataLoader(IndexedDataset(pruner.dataset), 4, collate_fn=IndexedCollate())
    replaced = prepare_data_loader(plain)
    facts["replaced"], facts["said"] = type(replaced.sampler), []
    (indices, (inputs, _)), *_ = replaced
    for misuse in (
        lambda: pruner.update(inputs[:, 0].abs(), indices),
        lambda: pruned_loader(drivers_pruner, 4),
    ):
        try:
            misuse()
        except ValueError as error:
            facts["said"].append(str(error))
    for indices, (inputs, _) in again:
        pruner.update(inputs[:, 0].abs(), indices)
    again.sampler.set_epoch(1)
    facts["lengths"] = (len(again), len(replaced))
    facts["smaller"] = smaller_batches()
    facts["selected"] = pruner.selection.indices.tolist()
    facts["of ours"] = [i for indices, _ in again for i in indices.tolist() if i >= 0]
    facts["of a plain one"] = [i for indices, _ in replaced for i in indices.tolist()]
    return facts


def smaller_batches():
    """The batches of a pruned epoch where they shrink, of a loader that Ray was given once more."""
    pruner = DynamicPruner(points(), 4, policy=InfoBatch(0.9), delta=1, shrink="batches")
    loader = prepare_data_loader(pruned_loader(pruner, 4))
    for indices, (inputs, _) in loader:
        pruner.update(inputs[:, 0].abs(), indices)
    loader.sampler.set_epoch(1)
    return [indices.tolist() for indices, _ in loader], pruner.selection.indices.tolist()


def train_with_ray(folder):
    """On two workers, of which one is killed; stopped early and continued on one."""
    with ray_cluster():
        for num_workers, failures in [(2, FailureConfig(max_failures=1)), (1, FailureConfig())]:
            TorchTrainer(
                on_a_worker,
                train_loop_config={"folder": str(folder), "pruner": new_pruner()},
                scaling_config=ScalingConfig(num_workers=num_workers),
                run_config=RunConfig("run", storage_path=str(folder), failure_config=failures),
            ).fit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_once("ray", train_with_ray, tmp_path_factory)


@pytest.fixture(scope="module")
def alone():
    """The same training in one process with the whole batch."""
    run = Run(lambda pruner: pruner.loader(GLOBAL_BATCH))
    assert [*run.train()] == sorted(run.seen)
    assert 0 < run.pruner.report().saved < 1
    return run


def test_workers_that_die_and_another_number_of_them_train_what_one_process_does(folder, alone):
    steps = {}
    for first, num_workers in [(0, 2), (SAVED[0], 2), (SAVED[1], 1)]:
        ranks = [torch.load(folder / f"after-{first}-{rank}.pt") for rank in range(num_workers)]
        for step in ranks[0]:
            parts = [rank.get(step, {}) for rank in ranks]
            trained = {i: weight for part in parts for i, weight in part.items() if i >= 0}
            if step <= SAVED[0] or first > 0:  # what was trained after a checkpoint is trained again
                assert sum(i >= 0 for part in parts for i in part) == len(trained), "a sample twice"
                steps[step] = trained
    assert steps == alone.seen


def test_the_end_is_that_of_one_process(folder, alone):
    end = torch.load(folder / "end.pt")
    network, optimizer, _, pruner = end["parts"]
    for name, values in alone.parts[0].state_dict().items():
        torch.testing.assert_close(network[name], values, rtol=0, atol=1e-6)
    assert optimizer["param_groups"][0]["lr"] == alone.optimizer.param_groups[0]["lr"] == 0
    history = alone.pruner.state_dict()["history"]
    check_same_history(pruner["history"], history)
    assert torch.equal(pruner["weights"], alone.pruner.selection.weights)
    columns = pruner["scores"]["columns"]
    assert torch.equal(columns["visits"], alone.pruner.scores["visits"])
    torch.testing.assert_close(columns["last_loss"], alone.pruner.scores["last_loss"], rtol=0, atol=1e-6)


def test_ray_replaces_a_plain_sampler_and_not_ours(folder):
    ranks = [torch.load(folder / f"loaders-{rank}.pt", weights_only=False) for rank in range(2)]
    for facts in ranks:
        assert facts["kept"] is PrunedSampler
        assert facts["options"] == (True, 3)
        assert facts["replaced"] is DistributedSampler
        selected = facts["selected"]
    assert len(selected) < SIZE
    assert sorted(i for facts in ranks for i in facts["of ours"]) == selected
    # The naive way: nothing is left out.
    assert sorted(i for facts in ranks for i in facts["of a plain one"]) == list(range(SIZE))
    assert ranks[0]["lengths"] == (-(-len(selected) // 8), -(-SIZE // 8))


def test_ray_leaves_batches_that_shrink_alone(folder):
    (first, selected), (second, _) = (
        torch.load(folder / f"loaders-{rank}.pt", weights_only=False)["smaller"] for rank in range(2)
    )
    assert len(first) == len(second) == -(-SIZE // 8)
    assert sorted(i for batch in first + second for i in batch if i >= 0) == selected
    assert {len(batch) for batch in first + second} <= {2, 3}


def test_what_would_lose_the_pruning_is_refused(folder):
    for rank in range(2):
        replaced, of_driver = torch.load(folder / f"loaders-{rank}.pt", weights_only=False)["said"]
        assert "is not of this rank's share of epoch 0" in replaced
        assert "prepare_data_loader replaced it use infobatch.integrations.ray.pruned_loader" in replaced
        assert "made for 1 processes and Ray has 2" in of_driver
        assert "make the DynamicPruner in the function that Ray runs on each worker" in of_driver


def test_without_ray_the_extra_is_named(tmp_path):
    said = error_without(["ray"], "infobatch.integrations.ray", tmp_path)
    assert "pip install 'infobatch[ray]'" in said
