"""A sampler of the user's own that draws some samples more often: its steps, its loss, its progress."""

import pytest
import torch
from torch.utils.data import DistributedSampler, WeightedRandomSampler

from helpers import UNMERGED, new_pruner
from infobatch import NoiseBudget, RandomPruning

SIZE, RARE, BATCH, EPOCHS = 4000, 200, 100, 6
GRADIENTS = torch.where(torch.arange(SIZE) < RARE, 1.0, 0.05)  # of a loss that is linear


def weighted_sampler():
    """Half of its draws are of the rare samples."""
    weights = torch.where(torch.arange(SIZE) < RARE, 0.5 / RARE, 0.5 / (SIZE - RARE))
    return WeightedRandomSampler(weights, SIZE, generator=torch.Generator().manual_seed(3))


def trained(pruner, loader):
    """Of each epoch its steps: their gradients, losses and progress, (3, steps)."""
    for epoch in pruner.epochs():
        steps = []
        for indices, _ in loader:
            parameter = torch.ones((), requires_grad=True)
            loss = pruner.update(GRADIENTS[torch.from_numpy(indices.copy())] * parameter, indices)
            loss.backward()
            steps.append((parameter.grad.item(), loss.item(), EPOCHS * pruner.progress - epoch))
        yield torch.tensor(steps).T


SET_UPS = {
    "a target, smaller batches": {"target": 0.5, "shrink": "batches"},
    "a budget": {"policy": NoiseBudget(max_noise=2), "norms_from": "losses"},
    "random, smaller batches": {"policy": RandomPruning(0.5), "shrink": "batches"},
    "a target, fewer steps": {"target": 0.5},
    "random, fewer steps": {"policy": RandomPruning(0.5)},
}


@pytest.mark.parametrize("name", SET_UPS)
def test_steps_are_of_the_size_that_the_samplers_draws_have(name):
    options = {"size": SIZE, "num_epochs": EPOCHS, "delta": 1.0, **SET_UPS[name]}
    pruner = new_pruner(**options)
    epochs = list(trained(pruner, pruner.loader(BATCH, sampler=weighted_sampler())))[1:]
    full = 0.5 * 1 + 0.5 * 0.05  # on full data a step's gradient, and its loss
    # The sum over an epoch is that of its draws on full data, in fewer steps or in as many.
    sums = torch.stack([gradients.sum() for gradients, _, _ in epochs])
    assert float(sums.mean()) == pytest.approx(full * SIZE / BATCH, rel=0.1)
    assert float(torch.cat([losses for _, losses, _ in epochs]).mean()) == pytest.approx(full, rel=0.1)
    halves = torch.stack([progress[len(progress) // 2 - 1] for _, _, progress in epochs])
    assert float((halves - 0.5).abs().max()) < 0.08
    assert pruner.report().saved > 0.08


@pytest.mark.parametrize("shrink", ["steps", "batches"])
def test_a_run_resumed_within_an_epoch_is_where_it_was(shrink):
    def begun():
        pruner = new_pruner(size=SIZE, num_epochs=EPOCHS, target=0.5, shrink=shrink)
        return pruner, pruner.loader(BATCH, sampler=weighted_sampler())

    pruner, loader = begun()
    for epoch in range(2):
        pruner.set_epoch(epoch)
        for number, (indices, _) in enumerate(loader):
            pruner.update(GRADIENTS[torch.from_numpy(indices.copy())], indices)
            if epoch and number == 9:
                break
    again, _ = begun()
    again.load_state_dict(pruner.state_dict())
    assert again.progress == pruner.progress
    assert again.mean_weight == pruner.mean_weight


def test_ranks_with_batches_of_other_sizes_have_one_progress():
    options = {"layout": UNMERGED, "num_replicas": 2, "size": SIZE, "num_epochs": 3, "shrink": "batches"}
    loaders, pruners = [], []
    for rank in range(2):
        pruner = new_pruner(**options, rank=rank, policy=RandomPruning(0.5))
        loaders.append(pruner.loader(BATCH, sampler=DistributedSampler(range(SIZE), 2, rank)))
        pruners.append(pruner)
    sizes = set()
    for _ in zip(*(pruner.epochs() for pruner in pruners), strict=True):
        for step in zip(*loaders, strict=True):
            for pruner, (indices, _) in zip(pruners, step, strict=True):
                pruner.update(GRADIENTS[torch.from_numpy(indices.copy())], indices)
            sizes.add(tuple(len(indices) for indices, _ in step))
            first, second = (pruner.progress for pruner in pruners)
            assert first == second
    assert any(first != second for first, second in sizes), "the ranks keep other numbers of samples"
