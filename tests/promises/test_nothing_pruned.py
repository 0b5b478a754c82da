"""Where nothing is pruned, training is plain training bit for bit."""

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from helpers import Numbers, random_losses, train_epoch
from infobatch import DynamicPruner, InfoBatch, NoPruning
from infobatch.seeding import epoch_generator


def test_with_weights_1_it_is_the_mean_bit_for_bit():
    pruner = DynamicPruner(Numbers(100), 10, policy=InfoBatch())
    pruner.sampler(8)
    for size in (1, 7, 100):
        losses = torch.rand(size, requires_grad=True)
        other = losses.detach().clone().requires_grad_()
        ours, plain = pruner.update(losses, range(size)), other.mean()
        assert torch.equal(ours, plain)
        ours.backward()
        plain.backward()
        assert torch.equal(losses.grad, other.grad)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("policy", [NoPruning(), InfoBatch(0)], ids=["none", "ratio 0"])
def test_nothing_pruned_is_a_plain_shuffled_loader(policy, drop_last):
    dataset = Numbers(50)
    pruner = DynamicPruner(dataset, 4, policy=policy, seed=3)
    loader = pruner.loader(8, drop_last=drop_last)
    for epoch in pruner.epochs():
        sampler = RandomSampler(dataset, generator=epoch_generator(3, epoch))
        plain = DataLoader(dataset, 8, sampler=sampler, drop_last=drop_last)
        ours = [batch.tolist() for _, batch in loader]
        assert ours == [batch.tolist() for batch in plain]
        train_epoch(pruner, loader, random_losses(50))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("policy", [NoPruning(), InfoBatch(0)], ids=["none", "ratio 0"])
def test_training_with_nothing_pruned_is_plain_training_bit_for_bit(policy, num_workers):
    dataset = TensorDataset(torch.randn(50, 4), torch.randn(50))

    def fit(batches, mean):
        torch.manual_seed(0)
        layers = torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2)
        model = torch.nn.Sequential(*layers, torch.nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        values = []
        for indices, (x, y) in batches:
            loss = mean((model(x).squeeze(1) - y) ** 2, indices)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            values.append(loss.item())
        return values, {name: value.tolist() for name, value in model.state_dict().items()}

    pruner = DynamicPruner(dataset, 3, policy=policy, seed=5)
    loader = pruner.loader(8, num_workers=num_workers)
    ours = fit((batch for _ in pruner.epochs() for batch in loader), pruner.update)
    plain = []
    for epoch in range(3):
        sampler = RandomSampler(dataset, generator=epoch_generator(5, epoch))
        plain += [(None, batch) for batch in DataLoader(dataset, 8, sampler=sampler)]
    assert len(plain) == pruner.full_steps
    assert ours == fit(plain, lambda losses, _: losses.mean())
